//! Nodes: a namespace with an `eth0` on the underlay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::family::Family;
use crate::netns::Netns;
use crate::pod::{L3_GATEWAY, Mode, Pod};
use crate::wire::Wire;

/// A node: number N has the underlay address 192.168.77.N and the pod CIDR 10.244.N.0/24. A
/// dual-stack one has fd77::N and fd00:10:244:N::/64 besides.
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

    /// Makes node `index` with both families on the underlay.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn dual(netns: Netns, wire: &Wire, index: u8) -> Result<Self> {
        netns.enable_ipv6()?;
        let node = Self::new(netns, wire, index)?;
        let address = underlay_address6(index);
        node.netns
            .ip(&format!("address add {address}/64 dev eth0 nodad"))?;
        Ok(node)
    }

    /// Its underlay address of a family; it has the IPv6 one if it was made by [`Node::dual`].
    pub fn underlay(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.address.into(),
            Family::V6 => underlay_address6(self.index).into(),
        }
    }

    /// The IPv6 address of its pod number `pod`, from 1: fd00:10:244:N::(10 + pod), in decimal
    /// digits as its IPv4 twin.
    pub fn pod_address6(&self, pod: u8) -> Ipv6Addr {
        let number = 10u8.saturating_add(pod);
        // Written in hexadecimal, the digits are those of the decimal number.
        let digits = u16::from(number / 10) * 16 + u16::from(number % 10);
        let network = pod_network6(self.index).segments();
        Ipv6Addr::new(
            network[0], network[1], network[2], network[3], 0, 0, 0, digits,
        )
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

    /// [`Node::pod`] with an IPv6 address besides.
    ///
    /// # Errors
    /// As [`Node::pod`].
    pub fn dual_pod(&self, netns: Netns, number: u8, mode: Mode, mtu: u32) -> Result<Pod> {
        netns.enable_ipv6()?;
        let mut pod = self.pod(netns, number, mode, mtu)?;
        pod.add_ipv6(mode, self.pod_address6(number))?;
        Ok(pod)
    }
}

/// The IPv6 underlay address of node `index`.
pub fn underlay_address6(index: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(index))
}

/// The network of node `index`'s IPv6 pod addresses, a /64.
pub fn pod_network6(index: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(index), 0, 0, 0, 0)
}

/// The IPv6 pod CIDR of node `index`.
///
/// # Errors
/// Never in fact: the length is valid.
pub fn pod_cidr6(index: u8) -> Result<Ipv6Net> {
    Ipv6Net::new(pod_network6(index), 64).context("prefix length")
}

/// The CIDR of all pods of a family.
///
/// # Errors
/// Never in fact: both are valid.
pub fn cluster_cidr(family: Family) -> Result<IpNet> {
    Ok(match family {
        Family::V4 => Ipv4Net::new(Ipv4Addr::new(10, 244, 0, 0), 16)?.into(),
        Family::V6 => Ipv6Net::new(pod_network6(0), 48)?.into(),
    })
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
