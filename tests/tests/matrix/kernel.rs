//! Two nodes whose kernels do all by themselves: routes to pods, proxy ARP for the gateway,
//! routes to the other node's pods, and the masquerade that Shunt's host port has.

use std::io::Write;

use anyhow::{Context, Result};
use shunt_tests::matrix::World;
use shunt_tests::netns::Netns;
use shunt_tests::node::{Node, pod_cidr, pod_cidr6, underlay_address, underlay_address6};
use shunt_tests::outside::Outside;
use shunt_tests::pod::{GATEWAY6, Mode, Pod};
use shunt_tests::wire::Wire;

/// What leaves the cluster has the node's address.
const MASQUERADE: &str = "\
add table inet outside
add chain inet outside postrouting { type nat hook postrouting priority 100; }
add rule inet outside postrouting ip saddr 10.244.0.0/16 ip daddr 192.0.2.0/24 masquerade
add rule inet outside postrouting ip6 saddr fd00:10:244::/48 ip6 daddr 2001:db8::/32 masquerade
";

pub(crate) struct KernelCluster {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    outside: Outside,
    _wire: Wire,
}

impl KernelCluster {
    pub(crate) fn build() -> Result<Self> {
        let wire = Wire::new(Netns::new("wire")?, 1500)?;
        let outside = Outside::new(Netns::new("outside")?, &wire)?;
        let (mut nodes, mut pods) = (Vec::new(), Vec::new());
        for (index, count) in [(1, 2), (2, 1)] {
            let node = Node::dual(Netns::new(&format!("node{index}"))?, &wire, index)?;
            let netns = &node.netns;
            for key in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
                netns.sysctl(&format!("net.{key}"), "1")?;
            }
            Outside::route_from(netns)?;
            let peer = 3 - index;
            let (cidr, via) = (pod_cidr(peer)?, underlay_address(peer));
            netns.ip(&format!("route add {cidr} via {via} dev eth0"))?;
            let (cidr, via) = (pod_cidr6(peer)?, underlay_address6(peer));
            netns.ip(&format!("-6 route add {cidr} via {via} dev eth0"))?;
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(MASQUERADE.as_bytes())?;
            let path = file.path().to_str().context("temporary folder")?;
            netns.run(&["nft", "-f", path])?;
            for number in 1..=count {
                let pod =
                    node.dual_pod(Netns::new(&node.pod_name(number))?, number, Mode::L3, 1500)?;
                let device = &pod.host_device;
                netns.sysctl(&format!("net.ipv4.conf.{device}.proxy_arp"), "1")?;
                netns.ip(&format!("address add {GATEWAY6}/64 dev {device} nodad"))?;
                for address in pod.addresses() {
                    let source = node.underlay(shunt_tests::family::Family::of(address));
                    netns.ip(&format!("route add {address} dev {device} src {source}"))?;
                }
                pods.push(pod);
            }
            nodes.push(node);
        }
        Ok(Self {
            nodes,
            pods,
            outside,
            _wire: wire,
        })
    }

    pub(crate) fn world(&self) -> Result<World<'_>> {
        let ([one, two], [a1, a2, b1]) = (&self.nodes[..], &self.pods[..]) else {
            anyhow::bail!("two nodes, three pods");
        };
        Ok(World {
            nodes: [one, two],
            pods: [a1, a2, b1],
            outside: &self.outside,
        })
    }
}
