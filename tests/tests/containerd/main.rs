//! Pods under a real container runtime: containerd and runc, driven over the CRI as the kubelet
//! drives them.

mod host_ports;
mod node;
mod restarts;
mod stock;
mod traffic;
mod vanished;
