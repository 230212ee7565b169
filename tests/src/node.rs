//! Nodes: a namespace with an `eth0` on the underlay.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use crate::netns::Netns;
use crate::pod::{L3_GATEWAY, Mode, Pod};
use crate::wire::Wire;

/// A node: number N has the underlay address 192.168.77.N and the pod CIDR 10.244.N.0/24.
#[derive(Debug)]
pub struct Node {
    /// Its namespace.
    pub netns: Netns,
    /// Its number, from 1.
    pub index: u8,
    /// Its underlay address.
    pub address: Ipv4Addr,
    /// Where its pods' addresses come from.
    pub pod_cidr: Ipv4Net,
}

impl Node {
    /// Makes node `index` on the underlay. Forwarding stays off: if packets get through, it is
    /// not the kernel's doing.
    ///
    /// # Errors
    /// When the number is taken on this wire or the kernel refuses.
    pub fn new(netns: Netns, wire: &Wire, index: u8) -> Result<Self> {
        wire.cable(&netns, index)?;
        let address = underlay_address(index);
        netns.ip(&format!("address add {address}/24 dev eth0"))?;
        Ok(Self {
            netns,
            index,
            address,
            pod_cidr: pod_cidr(index)?,
        })
    }

    /// The address of its pod number `pod`, from 1.
    pub fn pod_address(&self, pod: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.index, 10u8.saturating_add(pod))
    }

    /// The name of its pod number `pod`: `a1`, `a2` on node 1, `b1` on node 2.
    pub fn pod_name(&self, pod: u8) -> String {
        format!(
            "{}{pod}",
            char::from(b'a' + self.index.saturating_sub(1) % 26)
        )
    }

    /// Its pods' gateway.
    pub fn gateway(&self, mode: Mode) -> Ipv4Addr {
        match mode {
            Mode::L3 => L3_GATEWAY,
            Mode::L2 => Ipv4Addr::new(10, 244, self.index, 1),
        }
    }

    /// Makes its pod number `pod`, joined by a veth and configured.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pod(&self, netns: Netns, pod: u8, mode: Mode, mtu: u32) -> Result<Pod> {
        let pod = Pod::bare(netns, &self.pod_name(pod), self.pod_address(pod), mtu);
        pod.plug(&self.netns)?;
        pod.configure(mode, self.pod_cidr, self.gateway(mode))?;
        Ok(pod)
    }
}

/// The underlay address of node `index`.
pub fn underlay_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, index)
}

/// The pod CIDR of node `index`.
///
/// # Errors
/// Never in fact: the length is valid.
pub fn pod_cidr(index: u8) -> Result<Ipv4Net> {
    Ipv4Net::new(Ipv4Addr::new(10, 244, index, 0), 24).context("prefix length")
}
