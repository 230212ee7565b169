//! What makes one route valid.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::{Encap, RouteSpec, RouteTarget};

use super::super::Config;
use super::super::forms::{canonical, list, node_address, port_name, station};
use super::Fault;

impl Config {
    /// Judges a route by itself: its form, and how it fits this configuration. Whether the port
    /// it names exists is for the caller.
    pub fn check_route(&self, route: &RouteSpec) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field, message| faults.push(Fault { field, message });
        let RouteSpec { prefix, to } = route;
        if let Some(message) = canonical(*prefix) {
            fault("prefix", message);
        }
        match to {
            RouteTarget::Node {
                via,
                encap,
                vtep_mac,
            } => {
                if let Some(message) = self.remote_prefix(*prefix) {
                    fault("prefix", message);
                }
                if let Some(message) = self.remote_node(*via) {
                    fault("via", message);
                }
                if self.uplink.is_none() {
                    let message = "there is no uplink to reach another node by: add the table \
                                   [uplink] with its device";
                    fault("via", message.to_owned());
                }
                if let Some(message) = mixed_families(*prefix, *via, *encap) {
                    fault("encap", message);
                }
                if let Some(message) = vtep_mac.and_then(station) {
                    fault("vtep_mac", message);
                }
                if vtep_mac.is_some() && !matches!(encap, Encap::Vxlan | Encap::CrossSubnetVxlan) {
                    let message = "only VXLAN has VTEPs: remove it, or use vxlan as encap";
                    fault("vtep_mac", message.to_owned());
                }
            }
            RouteTarget::Port(name) => {
                if let Some(message) = port_name(name) {
                    fault("port", message);
                }
            }
            RouteTarget::Blackhole => {}
        }
        faults
    }

    /// What a remote node cannot have.
    fn remote_prefix(&self, prefix: IpNet) -> Option<String> {
        let node = &self.node;
        let single = prefix.prefix_len() == prefix.max_prefix_len();
        if let Some(own) = node.pod_cidrs.iter().find(|own| own.contains(&prefix)) {
            return Some(format!(
                "{prefix} lies in this node's own pod CIDR {own}: a remote node cannot have it; \
                 correct prefix or node.pod_cidrs"
            ));
        }
        if single && let Some(key) = self.own_address(prefix.addr()) {
            return Some(format!(
                "{prefix} is this node itself ({key}): a remote node cannot have it; correct prefix"
            ));
        }
        let cluster = &node.cluster_cidrs;
        let inside = cluster.is_empty() || cluster.iter().any(|cidr| cidr.contains(&prefix));
        // A node's own address, or another one that it has beside, is no pod's.
        (!inside && !single).then(|| {
            format!(
                "{prefix} lies outside {}: correct it, or extend node.cluster_cidrs",
                list(cluster)
            )
        })
    }

    /// What is not the address of another node that this one can reach.
    fn remote_node(&self, via: IpAddr) -> Option<String> {
        if let Some(message) = node_address(via) {
            return Some(message);
        }
        if let Some(key) = self.own_address(via) {
            return Some(format!(
                "{via} is this node itself ({key}): name the remote node's address"
            ));
        }
        if let Some(cidr) = self.node.pod_cidrs.iter().find(|own| own.contains(&via)) {
            return Some(format!(
                "{via} lies in the pod CIDR {cidr}: name the remote node's underlay address"
            ));
        }
        let node = &self.node;
        match via {
            IpAddr::V4(_) if node.address.is_ipv6() => Some(format!(
                "{via} cannot be reached, for this node has no IPv4 address: name the remote \
                 node's IPv6 address, or write this node's IPv4 address as node.address and {} as \
                 node.address6",
                node.address
            )),
            IpAddr::V6(_) if node.address.is_ipv4() && node.address6.is_none() => Some(format!(
                "{via} cannot be reached, for this node has no IPv6 address: name the remote \
                 node's IPv4 address, or add this node's IPv6 address as node.address6"
            )),
            _ => None,
        }
    }

    /// The key that gives this node the address.
    fn own_address(&self, address: IpAddr) -> Option<&'static str> {
        if address == self.node.address {
            Some("node.address")
        } else if self.node.address6.map(IpAddr::V6) == Some(address) {
            Some("node.address6")
        } else {
            None
        }
    }
}

/// A plain packet's next hop has an address of the packet's own family; a tunnel mixes them.
fn mixed_families(prefix: IpNet, via: IpAddr, encap: Encap) -> Option<String> {
    let (name, tunnels) = match encap {
        Encap::Vxlan | Encap::Ipip => return None,
        Encap::Direct => ("direct", "vxlan or ipip"),
        Encap::CrossSubnetVxlan => ("cross-subnet-vxlan", "vxlan"),
        Encap::CrossSubnetIpip => ("cross-subnet-ipip", "ipip"),
    };
    let family = match prefix {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    };
    (prefix.addr().is_ipv4() != via.is_ipv4()).then(|| {
        format!(
            "{name} sends plain packets, which the {family} prefix {prefix} and the node's address \
             {via} of the other family do not allow: name the node's {family} address, or use \
             {tunnels}"
        )
    })
}
