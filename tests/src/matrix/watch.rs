//! Captures at every place that a packet may pass, and what they say in the end.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use shunt_api::{Encap, MacAddr};

use super::is_cluster_ip;
use super::path::{Leg, Spot};
use crate::capture::Capture;
use crate::cluster::{Cluster, Spec};
use crate::config::HOST_DEVICE;
use crate::family::Family;
use crate::node::cluster_cidr;
use crate::outside;
use crate::trace::{Carried, Packet, packets};

/// How an encapsulation shows in a capture.
pub(super) fn carried(encap: Encap) -> Carried {
    match encap {
        Encap::Vxlan => Carried::Vxlan,
        Encap::Ipip => Carried::Ipip,
        // Nodes of one wire are on one link.
        Encap::Direct | Encap::CrossSubnetVxlan | Encap::CrossSubnetIpip => Carried::Plain,
    }
}

/// Running captures on the wire, at what each node and the host outside send, and on the nodes'
/// host ports. A packet is seen once wherever it passes.
#[derive(Debug)]
pub struct Watch {
    captures: Vec<(Place, Capture)>,
    carried: Carried,
    underlay: Family,
    gateway: MacAddr,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Wire(Spot),
    Host(u8),
}

/// What was captured.
#[derive(Debug)]
pub(super) struct Watched {
    packets: Vec<(Spot, Packet)>,
    carried: Carried,
    underlay: Family,
}

impl Watch {
    /// Starts to watch a cluster made of `spec`, with host ports and a host outside.
    ///
    /// # Errors
    /// When tcpdump does not start.
    pub fn start(cluster: &Cluster, spec: &Spec) -> Result<Self> {
        let mut captures = Vec::new();
        let wire = &cluster.wire.netns;
        let mut gateway = None;
        for site in &cluster.sites {
            let index = site.node.index;
            let capture = Capture::start_inbound(wire, &format!("p{index}"), "ip or ip6")?;
            captures.push((Place::Wire(Spot::Wire(index)), capture));
            let capture = Capture::start(&site.node.netns, HOST_DEVICE, "ip or ip6")?;
            captures.push((Place::Host(index), capture));
            let mac = site.daemon.status()?.gateway_mac;
            ensure!(
                *gateway.get_or_insert(mac) == mac,
                "gateways differ in their MAC"
            );
        }
        let capture = Capture::start_inbound(wire, outside::PORT, "ip or ip6")?;
        captures.push((Place::Wire(Spot::FromOutside), capture));
        Ok(Self {
            captures,
            carried: carried(spec.encap),
            underlay: spec.underlay,
            gateway: gateway.unwrap_or_default(),
        })
    }

    /// How packets are carried between nodes.
    pub(super) fn carried(&self) -> Carried {
        self.carried
    }

    /// Stops all captures.
    ///
    /// # Errors
    /// When tcpdump does not end in order or a capture cannot be read.
    pub(super) fn stop(self) -> Result<Watched> {
        let mut seen = Vec::new();
        for (place, capture) in self.captures {
            for packet in packets(&capture.stop()?)? {
                let spot = match place {
                    Place::Wire(spot) => spot,
                    // Only the switch sends from the gateway's MAC address.
                    Place::Host(node) if packet.mac == self.gateway => Spot::Up(node),
                    Place::Host(node) => Spot::Down(node),
                };
                seen.push((spot, packet));
            }
        }
        Ok(Watched {
            packets: seen,
            carried: self.carried,
            underlay: self.underlay,
        })
    }
}

impl Watched {
    /// Where packets with this mark were.
    pub(super) fn legs(&self, mark: &[u8]) -> BTreeSet<Leg> {
        let marked = self.packets.iter().filter(|(_, p)| p.is_marked(mark));
        marked
            .map(|(spot, packet)| Leg {
                spot: *spot,
                carried: packet.carried,
                source: packet.source,
                destination: packet.destination,
            })
            .collect()
    }

    /// Packets that should not be, whatever they carry: handshakes and the like have no mark.
    pub(super) fn strays(&self) -> Result<Vec<String>> {
        let cidrs = [cluster_cidr(Family::V4)?, cluster_cidr(Family::V6)?];
        let is_pod = |address: IpAddr| cidrs.iter().any(|cidr| cidr.contains(&address));
        let is_node = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().starts_with(&[192, 168, 77]),
            IpAddr::V6(v6) => v6.segments().starts_with(&[0xfd77]),
        };
        let stray = |spot: Spot, packet: &Packet| -> Option<&'static str> {
            let ends = [packet.source, packet.destination];
            if packet.is_icmp_error() {
                return Some("an ICMP error");
            }
            if matches!(spot, Spot::Up(_) | Spot::Down(_)) {
                let tunnel = packet.carried != Carried::Plain;
                return tunnel.then_some("a tunnel packet on the host port");
            }
            if ends.into_iter().any(is_cluster_ip) {
                return Some("a ClusterIP on the wire");
            }
            let Some((from, to)) = packet.outer else {
                let pod = ends.into_iter().any(is_pod);
                if pod && self.carried != Carried::Plain {
                    return Some("a pod's packet without a tunnel");
                }
                let known = ends.into_iter().all(|end| is_pod(end) || is_node(end));
                return (pod && !known).then_some("a pod's packet to or from the outside");
            };
            if packet.carried != self.carried {
                return Some("the wrong tunnel");
            }
            if !is_node(from) || !is_node(to) || Family::of(from) != self.underlay {
                return Some("a tunnel between the wrong ends");
            }
            (!ends.into_iter().any(is_pod)).then_some("no pod's packet in a tunnel")
        };
        Ok(self
            .packets
            .iter()
            .filter_map(|(spot, packet)| {
                Some(format!("{}: {spot:?} {packet}", stray(*spot, packet)?))
            })
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect())
    }
}
