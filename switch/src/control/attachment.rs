//! What a pod is told when it is attached.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::{Attachment, Encap, RouteMtu};
use shunt_encap::IpFamily;

use super::daemon::Daemon;
use super::nodes::default_route;
use super::path_mtu::FLOOR_V6;
use super::rib::HopKey;
use crate::config::{GatewayConfig, NodeConfig};

impl Daemon {
    /// For a pod with these addresses on a port that takes IP packets of up to `mtu` bytes.
    pub(super) fn attachment(&self, addresses: &[IpAddr], mtu: u16) -> Attachment {
        let mtu = u32::from(mtu);
        let remote = self.remote_mtu().unwrap_or(mtu);
        attachment(
            addresses,
            &self.config.node,
            &self.config.gateway,
            mtu,
            remote,
        )
    }

    /// The largest IP packet in bytes that pods may send to other nodes; `None` without uplink.
    pub(super) fn remote_mtu(&self) -> Option<u32> {
        let uplink = self.ports.uplink();
        let keys = self.rib.keys().flatten();
        let given = self.config.mtu.remote;
        given.or_else(|| {
            let overhead = largest_overhead(keys, self.config.node.address);
            Some(u32::from(uplink?.mtu.saturating_sub(overhead)))
        })
    }
}

/// The bytes that an encapsulation adds to an inner packet at most.
fn overhead(encap: Encap, via: IpAddr) -> u16 {
    let ip = match via {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    };
    match encap {
        // UDP, VXLAN and the inner Ethernet header (RFC 7348, 5).
        Encap::Vxlan | Encap::CrossSubnetVxlan => ip + 8 + 8 + 14,
        Encap::Ipip | Encap::CrossSubnetIpip => ip,
        Encap::Direct => 0,
    }
}

/// The largest overhead among the routes; that of VXLAN from this node when there are none.
fn largest_overhead(keys: impl Iterator<Item = HopKey>, node: IpAddr) -> u16 {
    keys.filter_map(|key| match key {
        HopKey::Node { via, encap, .. } => Some(overhead(encap, via)),
        _ => None,
    })
    .max()
    .unwrap_or_else(|| overhead(Encap::Vxlan, node))
}

fn attachment(
    addresses: &[IpAddr],
    node: &NodeConfig,
    gateway: &GatewayConfig,
    mtu: u32,
    remote: u32,
) -> Attachment {
    let has = |wanted: IpFamily| {
        if addresses.is_empty() {
            let cidrs = node.pod_cidrs.iter();
            cidrs
                .map(IpNet::addr)
                .any(|own| IpFamily::of(own) == wanted)
        } else {
            addresses.iter().any(|own| IpFamily::of(*own) == wanted)
        }
    };
    let mut told = Attachment {
        mtu,
        routes: Vec::new(),
        gateways: Vec::new(),
        gateway_mac: gateway.mac,
    };
    for (inner, address) in [
        (IpFamily::V4, IpAddr::V4(gateway.address)),
        (IpFamily::V6, IpAddr::V6(gateway.address6)),
    ] {
        if !has(inner) {
            continue;
        }
        told.gateways.push(address);
        // The kernel takes no smaller one for IPv6.
        let floor = match inner {
            IpFamily::V4 => 0,
            IpFamily::V6 => u32::from(FLOOR_V6),
        };
        let remote = remote.max(floor).min(mtu);
        told.routes.push(RouteMtu {
            prefix: default_route(inner),
            mtu: remote,
        });
        if mtu > remote {
            let local = node.pod_cidrs.iter().copied();
            let local = local.filter(|cidr| IpFamily::of(cidr.addr()) == inner);
            told.routes
                .extend(local.map(|prefix| RouteMtu { prefix, mtu }));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_api::MacAddr;

    const GATEWAY: GatewayConfig = GatewayConfig {
        address: std::net::Ipv4Addr::new(169, 254, 1, 1),
        address6: std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        mac: MacAddr([2, 0, 0, 0, 0, 9]),
    };

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn node() -> NodeConfig {
        NodeConfig {
            address: address("192.168.77.1"),
            address6: None,
            pod_cidrs: vec![
                "10.244.1.0/24".parse().expect("a prefix"),
                "fd00:1::/64".parse().expect("a prefix"),
            ],
            cluster_cidrs: Vec::new(),
        }
    }

    fn told(addresses: &[&str], mtu: u32, remote: u32) -> (Attachment, Vec<String>) {
        let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
        let told = attachment(&addresses, &node(), &GATEWAY, mtu, remote);
        let routes = told.routes.iter();
        let routes = routes.map(|route| format!("{} {}", route.prefix, route.mtu));
        let routes = routes.collect();
        (told, routes)
    }

    #[test]
    fn the_way_to_other_nodes_takes_less_than_the_port() {
        let (told, routes) = told(&["10.244.1.7", "fd00:1::7"], 1500, 1450);
        assert_eq!(told.mtu, 1500);
        assert_eq!(
            routes,
            [
                "0.0.0.0/0 1450",
                "10.244.1.0/24 1500",
                "::/0 1450",
                "fd00:1::/64 1500"
            ]
        );
        assert_eq!(told.gateways, [address("169.254.1.1"), address("fe80::1")]);
        assert_eq!(told.gateway_mac, GATEWAY.mac);
    }

    #[test]
    fn routes_are_of_the_pods_families() {
        let (v6, routes) = told(&["fd00:1::7"], 1400, 1450);
        assert_eq!(routes, ["::/0 1400"], "the port's own, and no other");
        assert_eq!(v6.gateways, [address("fe80::1")]);
        let (v4, routes) = told(&["10.244.1.7"], 1500, 1500);
        assert_eq!(routes, ["0.0.0.0/0 1500"]);
        assert_eq!(v4.gateways, [address("169.254.1.1")]);
        let (none, routes) = told(&[], 1500, 1500);
        assert_eq!(routes, ["0.0.0.0/0 1500", "::/0 1500"], "as the CIDRs");
        assert_eq!(none.gateways.len(), 2);
    }

    #[test]
    fn ipv6_is_never_told_less_than_1280() {
        let (_, routes) = told(&["10.244.1.7", "fd00:1::7"], 1500, 1230);
        assert_eq!(
            routes,
            [
                "0.0.0.0/0 1230",
                "10.244.1.0/24 1500",
                "::/0 1280",
                "fd00:1::/64 1500"
            ]
        );
    }

    #[test]
    fn the_largest_overhead_in_use_counts() {
        let key = |via, encap| HopKey::Node {
            via: address(via),
            encap,
            vtep_mac: MacAddr::default(),
            inner: IpFamily::V4,
        };
        let v4 = address("192.168.77.1");
        let largest = |keys: &[HopKey]| largest_overhead(keys.iter().copied(), v4);
        assert_eq!(largest(&[]), 50);
        assert_eq!(largest_overhead([].into_iter(), address("fd77::1")), 70);
        assert_eq!(largest(&[HopKey::Gateway]), 50);
        let mut keys = vec![key("192.168.77.2", Encap::Direct)];
        assert_eq!(largest(&keys), 0);
        keys.push(key("192.168.77.3", Encap::Ipip));
        assert_eq!(largest(&keys), 20);
        keys.push(key("fd77::3", Encap::CrossSubnetIpip));
        assert_eq!(largest(&keys), 40);
        keys.push(key("192.168.77.3", Encap::CrossSubnetVxlan));
        assert_eq!(largest(&keys), 50);
        keys.push(key("fd77::4", Encap::Vxlan));
        assert_eq!(largest(&keys), 70);
    }
}
