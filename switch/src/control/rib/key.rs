//! What routes lead to, and who made them.

use std::net::IpAddr;

use shunt_api::{Encap, MacAddr};
use shunt_encap::IpFamily;

use crate::tables::PortId;

/// What a slot stands for: routes with equal keys share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HopKey {
    /// A pod of this node.
    Pod { port: PortId, address: IpAddr },
    /// A pod that routes for others.
    Port { port: PortId, family: IpFamily },
    /// A remote node.
    Node {
        via: IpAddr,
        encap: Encap,
        vtep_mac: MacAddr,
        /// The family of the packets that travel there.
        inner: IpFamily,
    },
    /// This node's own addresses.
    Host(IpFamily),
    /// Neither a pod nor a node: the node's stack routes on.
    Outside(IpFamily),
    /// Hosts of a local subnet that are asked for when needed.
    Connected,
    /// The gateway's own address.
    Gateway,
    /// Nowhere.
    Blackhole,
}

/// Who made a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Config,
    Api,
    /// Bound to a pod at its attachment.
    Pod,
    /// From a pod's ARP or NDP.
    Learned,
    Connected,
    Gateway,
    /// This or another node's own address, and what leaves the cluster.
    Node,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Api => "api",
            Self::Pod => "pod",
            Self::Learned => "learned",
            Self::Connected => "connected",
            Self::Gateway => "gateway",
            Self::Node => "node",
        }
    }
}
