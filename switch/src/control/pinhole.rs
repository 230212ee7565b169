//! What the uplink lets through to the switch: only what the routes need.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_afxdp::Pinhole;
use shunt_api::{ApiError, Encap};

use super::daemon::Daemon;
use super::error::system;
use super::rib::HopKey;
use crate::config::NodeConfig;

impl Daemon {
    /// What the uplink lets through, by what the routes need.
    pub(super) fn pinhole(&self) -> Pinhole {
        pinhole(
            self.rib.keys().flatten(),
            &self.config.node,
            self.config.vxlan.port,
        )
    }

    /// Opens or closes the uplink's pinhole as the routes need.
    pub(super) fn update_pinhole(&mut self) -> Result<(), ApiError> {
        let uplink = self.ports.uplink();
        let Some((id, worker)) = uplink.and_then(|uplink| Some((uplink.id()?, uplink.worker)))
        else {
            return Ok(());
        };
        let pinhole = self.pinhole();
        if self.open_pinhole.as_ref() == Some(&pinhole) {
            return Ok(());
        }
        self.workers
            .set_pinhole(worker, id, pinhole.clone())?
            .map_err(system)?;
        self.open_pinhole = Some(pinhole);
        Ok(())
    }
}

fn pinhole(keys: impl Iterator<Item = HopKey>, node: &NodeConfig, vxlan_port: u16) -> Pinhole {
    let mut pinhole = Pinhole::default();
    let mut direct = false;
    for key in keys {
        let HopKey::Node { via, encap, .. } = key else {
            continue;
        };
        match encap {
            Encap::Vxlan | Encap::CrossSubnetVxlan => pinhole.vxlan_port = Some(vxlan_port),
            Encap::Ipip | Encap::CrossSubnetIpip => pinhole.ipip = true,
            Encap::Direct => {}
        }
        direct |= !matches!(encap, Encap::Vxlan | Encap::Ipip);
        // Tunnel packets come to the address of the family that they leave from.
        if encap != Encap::Direct {
            match via {
                IpAddr::V4(_) => pinhole.node = own_v4(node),
                IpAddr::V6(_) => pinhole.node6 = own_v6(node),
            }
        }
    }
    if direct {
        for cidr in &node.pod_cidrs {
            match cidr {
                IpNet::V4(cidr) => pinhole.direct.push(*cidr),
                IpNet::V6(cidr) => pinhole.direct6.push(*cidr),
            }
        }
    }
    pinhole
}

/// This node's IPv4 address.
pub(super) fn own_v4(node: &NodeConfig) -> Option<std::net::Ipv4Addr> {
    match node.address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

/// This node's IPv6 address.
pub(super) fn own_v6(node: &NodeConfig) -> Option<std::net::Ipv6Addr> {
    match node.address {
        IpAddr::V4(_) => node.address6,
        IpAddr::V6(v6) => Some(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_api::MacAddr;
    use shunt_encap::IpFamily;

    fn node() -> NodeConfig {
        NodeConfig {
            address: "192.168.77.1".parse().expect("an address"),
            address6: "fd77::1".parse().ok(),
            pod_cidrs: vec![
                "10.244.1.0/24".parse().expect("a prefix"),
                "fd00:1::/64".parse().expect("a prefix"),
            ],
            cluster_cidrs: Vec::new(),
        }
    }

    fn open(routes: &[(&str, Encap)]) -> Pinhole {
        let keys = routes.iter().map(|(via, encap)| HopKey::Node {
            via: via.parse().expect("an address"),
            encap: *encap,
            vtep_mac: MacAddr::default(),
            inner: IpFamily::V4,
        });
        pinhole(keys, &node(), 4789)
    }

    #[test]
    fn nothing_is_open_without_a_route() {
        assert_eq!(open(&[]), Pinhole::default());
    }

    #[test]
    fn tunnels_come_to_the_address_of_their_family() {
        let v4 = open(&[("192.168.77.2", Encap::Vxlan)]);
        assert_eq!((v4.node, v4.node6), (own_v4(&node()), None));
        assert_eq!((v4.vxlan_port, v4.ipip), (Some(4789), false));
        assert!(v4.direct.is_empty() && v4.direct6.is_empty());
        let v6 = open(&[("fd77::2", Encap::Ipip)]);
        assert_eq!((v6.node, v6.node6), (None, own_v6(&node())));
        assert_eq!((v6.vxlan_port, v6.ipip), (None, true));
    }

    #[test]
    fn direct_routes_open_the_pod_cidrs_alone() {
        let direct = open(&[("192.168.77.2", Encap::Direct)]);
        assert_eq!((direct.node, direct.vxlan_port), (None, None));
        assert_eq!((direct.direct.len(), direct.direct6.len()), (1, 1));
        let both = open(&[("fd77::2", Encap::CrossSubnetVxlan)]);
        assert_eq!((both.node6, both.vxlan_port), (own_v6(&node()), Some(4789)));
        assert_eq!((both.direct.len(), both.direct6.len()), (1, 1));
    }
}
