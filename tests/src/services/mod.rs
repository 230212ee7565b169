//! Services as kube-proxy makes them: its chains and its tables, in a node's own namespace.
//!
//! The rules have the shape that kube-proxy writes in its modes `iptables`
//! (pkg/proxy/iptables/proxier.go) and `nftables` (pkg/proxy/nftables/proxier.go) with
//! `--cluster-cidr` and node ports on the node's address: who is masqueraded, by which mark, in
//! which order of chains. Two things are ours: rules that translate count their packets in either
//! mode, and both modes drop what connection tracking calls invalid.

mod iptables;
mod nftables;

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::family::Family;
use crate::netns::Netns;
use crate::node::{Node, cluster_cidr, pod_cidr, pod_cidr6};
use crate::probe::Transport;

/// Which of kube-proxy's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `--proxy-mode=iptables`.
    Iptables,
    /// `--proxy-mode=nftables`.
    Nftables,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        })
    }
}

/// One port of a service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name, of letters and digits, unique among services.
    pub name: String,
    /// Its protocol.
    pub transport: Transport,
    /// The ClusterIP and its port.
    pub address: SocketAddr,
    /// The port on every node's address, of which 0 is none.
    pub node_port: u16,
    /// `externalTrafficPolicy: Local`: what comes by the node port goes to this node's endpoints
    /// alone, and keeps its source.
    pub local: bool,
    /// The endpoints: pods, or processes of nodes.
    pub endpoints: Vec<SocketAddr>,
}

impl Service {
    fn family(&self) -> Family {
        Family::of(self.address.ip())
    }

    /// The endpoints that are pods of this node, or the node itself.
    fn local_endpoints(&self, node: &Node) -> Result<Vec<SocketAddr>> {
        let cidrs: [IpNet; 2] = [pod_cidr(node.index)?.into(), pod_cidr6(node.index)?.into()];
        let here = |ip: IpAddr| {
            cidrs.iter().any(|cidr| cidr.contains(&ip)) || node.underlay(Family::of(ip)) == ip
        };
        let endpoints = self.endpoints.iter().copied();
        Ok(endpoints.filter(|endpoint| here(endpoint.ip())).collect())
    }
}

/// How many connections the rules have translated since they were installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits {
    /// Sent to an endpoint.
    pub translated: u64,
    /// Given the node's address as source.
    pub masqueraded: u64,
    /// Packets dropped because connection tracking knows no connection they belong to.
    pub invalid: u64,
}

/// A node's rules; dropping the handle leaves them in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxy(Flavour);

impl Proxy {
    /// Installs the services' rules in a dual-stack node, for both families.
    ///
    /// # Errors
    /// When the tool refuses.
    pub fn install(flavour: Flavour, node: &Node, services: &[Service]) -> Result<Self> {
        for family in Family::ALL {
            let services: Vec<&Service> = services
                .iter()
                .filter(|service| service.family() == family)
                .collect();
            match flavour {
                Flavour::Iptables => {
                    let text = iptables::text(node, cluster_cidr(family)?, &services)?;
                    feed(&node.netns, &iptables::restore(family), &text)?;
                }
                Flavour::Nftables => {
                    let text = nftables::text(node, family, cluster_cidr(family)?, &services)?;
                    feed(&node.netns, &["nft", "-f"], &text)?;
                }
            }
        }
        Ok(Self(flavour))
    }

    /// Removes them; established connections lose their translation.
    ///
    /// # Errors
    /// When the tool refuses.
    pub fn remove(self, node: &Node) -> Result<()> {
        for family in Family::ALL {
            match self.0 {
                Flavour::Iptables => {
                    feed(&node.netns, &iptables::restore(family), iptables::EMPTY)?;
                }
                Flavour::Nftables => {
                    let table = nftables::table(family);
                    node.netns
                        .run(&["nft", "delete", "table", table, "kube-proxy"])?;
                }
            }
        }
        node.netns.run(&["conntrack", "-F"])?;
        Ok(())
    }

    /// The counters, both families together.
    ///
    /// # Errors
    /// When the tool refuses or prints what it should not.
    pub fn hits(self, node: &Node) -> Result<Hits> {
        let mut hits = Hits::default();
        for family in Family::ALL {
            let more = match self.0 {
                Flavour::Iptables => {
                    let text = node.netns.run(&[iptables::save(family), "-c"])?;
                    iptables::hits(&text)?
                }
                Flavour::Nftables => {
                    let table = nftables::table(family);
                    let text = node
                        .netns
                        .run(&["nft", "list", "table", table, "kube-proxy"])?;
                    nftables::hits(&text)?
                }
            };
            hits.translated += more.translated;
            hits.masqueraded += more.masqueraded;
            hits.invalid += more.invalid;
        }
        Ok(hits)
    }
}

/// Runs a command that reads `text` from the file that is its last argument.
fn feed(netns: &Netns, argv: &[&str], text: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    let path = file.path().to_str().context("temporary folder")?;
    netns
        .run(&[argv, &[path]].concat())
        .with_context(|| format!("the rules were:\n{text}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Testbed;
    use crate::wire::Wire;

    /// The kernel takes what either mode writes, in both families, and gives it back whole.
    #[test]
    fn rules_come_and_go() {
        let _testbed = Testbed::acquire().unwrap();
        let wire = Wire::new(Netns::new("wire").unwrap(), 1500).unwrap();
        let node = Node::dual(Netns::new("node1").unwrap(), &wire, 1).unwrap();
        let service = |name: &str, address: &str, node_port, endpoints: &[&str]| Service {
            name: name.to_owned(),
            transport: Transport::Tcp,
            address: address.parse().unwrap(),
            node_port,
            local: name == "local",
            endpoints: endpoints.iter().map(|e| e.parse().unwrap()).collect(),
        };
        let services = [
            service(
                "four",
                "10.96.0.1:80",
                30080,
                &["10.244.1.11:8080", "10.244.2.11:8080"],
            ),
            service("local", "10.96.0.2:80", 30081, &["10.244.2.11:8080"]),
            service(
                "six",
                "[fd00:10:96::1]:80",
                30080,
                &["[fd00:10:244:1::11]:8080"],
            ),
        ];
        for flavour in [Flavour::Iptables, Flavour::Nftables] {
            let proxy = Proxy::install(flavour, &node, &services).unwrap();
            assert_eq!(proxy.hits(&node).unwrap(), Hits::default());
            let all = node.netns.run(&["nft", "list", "ruleset"]).unwrap();
            for text in [
                "10.96.0.1",
                "10.96.0.2",
                "fd00:10:96::1",
                "dnat to",
                "masquerade",
            ] {
                assert!(all.contains(text), "{flavour}: no {text} in {all}");
            }
            proxy.remove(&node).unwrap();
            let left = node.netns.run(&["nft", "list", "ruleset"]).unwrap();
            assert!(!left.contains("dnat"), "{flavour}: {left}");
        }
    }

    #[test]
    fn counters_are_read() {
        let seen = iptables::hits(
            "*nat\n[3:180] -A KUBE-SEP-A -p tcp -j DNAT --to-destination 10.244.1.11:8080\n\
             [2:120] -A KUBE-SEP-B -p tcp -j DNAT --to-destination 10.244.1.12:8080\n\
             [9:1] -A KUBE-SEP-B -s 10.244.1.12/32 -j KUBE-MARK-MASQ\n\
             [4:9] -A KUBE-POSTROUTING -m comment --comment \"SNAT\" -j MASQUERADE --random-fully\n\
             [7:9] -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n",
        )
        .unwrap();
        let expected = Hits {
            translated: 5,
            masqueraded: 4,
            invalid: 7,
        };
        assert_eq!(seen, expected);
        let seen = nftables::hits(
            "\t\tmeta l4proto tcp counter packets 5 bytes 300 dnat to 10.244.1.11:8080\n\
             \t\tcounter packets 4 bytes 1 masquerade fully-random\n\
             \t\tct state invalid counter packets 7 bytes 3 drop\n",
        )
        .unwrap();
        assert_eq!(seen, expected);
    }
}
