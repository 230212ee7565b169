//! Next hops: everything egress needs, made ready when the route is.

use std::net::IpAddr;

use shunt_encap::tunnel::OuterHeader;

use super::PortId;

/// Where a route leads, ready to be pasted. Indexed by the FIB's values.
#[derive(Debug, Clone, PartialEq)]
pub struct NextHop {
    /// What egress does.
    pub action: Action,
    /// The outgoing port.
    pub port: PortId,
    /// The largest IP packet in bytes, before encapsulation, that this path takes.
    pub mtu: u16,
    /// Whether it leads out of this node.
    pub remote: bool,
    /// The remote node, if packets from it may come through a tunnel: the strict reverse-path
    /// check of decapsulation compares with it.
    pub peer: Option<IpAddr>,
    /// The headers in front of the IP packet.
    pub header: OuterHeader,
}

/// What is done with a frame whose route leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Paste the header and send to a pod of this node.
    Deliver,
    /// Paste the header and send into the underlay.
    Underlay,
    /// One of this node's own addresses: paste the header and send to the node's stack.
    Node,
    /// Neither a pod nor a node: paste the header and send to the node's stack, which routes on.
    Outside,
    /// The link-layer address is not known yet: frames wait, bounded.
    Wait,
    /// The destination is on a connected subnet: ask for it, frames wait meanwhile.
    Glean,
    /// The gateway's own address.
    Gateway,
    /// Drop.
    Blackhole,
    /// An unused slot.
    Gone,
}

impl NextHop {
    /// A next hop that sends nothing.
    pub fn inert(action: Action) -> Self {
        Self {
            action,
            port: PortId::NONE,
            mtu: u16::MAX,
            remote: false,
            peer: None,
            header: OuterHeader::ethernet([0; 6], [0; 6], 0),
        }
    }
}
