//! Who is where: the addresses of every node, pod and gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_api::MacAddr;
use shunt_encap::IpFamily;

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);
/// The node's end of the host port.
pub(crate) const HOST_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0xff, 1]);
pub(crate) const VNI: u32 = 7;
pub(crate) const VXLAN_PORT: u16 = 8472;

pub(crate) const V4: IpFamily = IpFamily::V4;
pub(crate) const V6: IpFamily = IpFamily::V6;

/// The MAC of pod `n` of any node.
pub(crate) fn pod_mac(n: u8) -> MacAddr {
    MacAddr([0x02, 0, 0, 0, 0x0a, n])
}

/// The address of pod `n` of node `node`.
pub(crate) fn pod(node: u8, n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, n)
}

/// Its IPv6 address.
pub(crate) fn pod6(node: u8, n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x244, 0, node.into(), 0, 0, 0, n.into())
}

/// Its address of a family.
pub(crate) fn pod_ip(family: IpFamily, node: u8, n: u8) -> IpAddr {
    match family {
        V4 => pod(node, n).into(),
        V6 => pod6(node, n).into(),
    }
}

pub(crate) fn node_address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 50, node)
}

/// The address of a node on the underlay.
pub(crate) fn node_ip(family: IpFamily, node: u8) -> IpAddr {
    match family {
        V4 => node_address(node).into(),
        V6 => Ipv6Addr::new(0xfd50, 0, 0, 0, 0, 0, 0, node.into()).into(),
    }
}

/// The gateway's address of a family.
pub(crate) fn gateway(family: IpFamily) -> IpAddr {
    match family {
        V4 => GATEWAY.into(),
        V6 => GATEWAY6.into(),
    }
}

pub(crate) fn nic_mac(node: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 0x50, node]
}

pub(crate) fn vtep_mac(node: u8) -> [u8; 6] {
    [0x02, 0x53, 192, 168, 50, node]
}
