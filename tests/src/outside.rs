//! The world outside of the cluster: a host behind the underlay, to which nodes have a default
//! route and which knows of no pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::family::Family;
use crate::netns::Netns;
use crate::wire::Wire;

/// Its IPv4 address, of TEST-NET-1 (RFC 5737).
pub const ADDRESS4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Its IPv6 address, of the documentation prefix (RFC 3849).
pub const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1);
/// The wire's port that leads to it: what it sends is inbound there.
pub const PORT: &str = "p254";
/// Its number on the wire.
const INDEX: u8 = 254;
const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 168, 77, INDEX);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0xfe);

/// A host outside of the cluster. It is its own router: 192.168.77.254 and fd77::fe on the
/// underlay. It has no route to pods, so a pod that is seen by its own address gets no answer.
#[derive(Debug)]
pub struct Outside {
    /// Its namespace.
    pub netns: Netns,
}

impl Outside {
    /// Makes it, on the wire.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(netns: Netns, wire: &Wire) -> Result<Self> {
        netns.enable_ipv6()?;
        wire.cable(&netns, INDEX)?;
        // ARP names the router's address, whatever address the packet has that waits for it.
        netns.sysctl("net.ipv4.conf.eth0.arp_announce", "2")?;
        for words in [
            format!("address add {ADDRESS4}/32 dev lo"),
            format!("address add {ADDRESS6}/128 dev lo nodad"),
            format!("address add {ROUTER4}/24 dev eth0 noprefixroute"),
            format!("address add {ROUTER6}/64 dev eth0 nodad noprefixroute"),
            format!("route add 192.168.77.0/24 dev eth0 src {ADDRESS4}"),
            format!("-6 route add fd77::/64 dev eth0 src {ADDRESS6}"),
        ] {
            netns.ip(&words)?;
        }
        Ok(Self { netns })
    }

    /// Its address, which its connections have as their source.
    pub fn address(family: Family) -> IpAddr {
        match family {
            Family::V4 => ADDRESS4.into(),
            Family::V6 => ADDRESS6.into(),
        }
    }

    /// Gives a dual-stack node its default routes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn route_from(node: &Netns) -> Result<()> {
        node.ip(&format!("route add default via {ROUTER4} dev eth0"))?;
        node.ip(&format!("-6 route add default via {ROUTER6} dev eth0"))?;
        Ok(())
    }
}
