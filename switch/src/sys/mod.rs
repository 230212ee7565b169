//! What only system calls without a safe wrapper can do: TAP devices, raw ICMP sockets, interface
//! ioctls and offloads. With `shunt-afxdp` the only place of `unsafe`; threads in other network
//! namespaces live here too.

#![allow(unsafe_code)]

pub mod icmp;
pub mod interface;
pub mod netns;
pub mod offload;
pub mod tap;
#[cfg(test)]
pub(crate) mod testing;

pub use netns::{Netns, in_netns};
pub use tap::{Tap, TapError};
