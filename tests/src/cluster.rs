//! Nodes that run Shunt, with their pods attached and routed to each other.

use anyhow::{Context, Result};
use ipnet::IpNet;
use shunt_api::{Encap, RouteTarget};

use crate::config::Config;
use crate::daemon::Daemon;
use crate::family::Family;
use crate::netns::Netns;
use crate::node::{Node, pod_cidr, pod_cidr6, underlay_address};
use crate::outside::Outside;
use crate::pod::{Mode, Pod};
use crate::process::Lifetime;
use crate::wire::Wire;

/// What to build.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The switches' mode.
    pub mode: Mode,
    /// How packets travel between nodes.
    pub encap: Encap,
    /// Nodes; node N's worker is pinned to core N - 1, modulo the cores of the machine.
    pub nodes: u8,
    /// Pods on each node.
    pub pods: u8,
    /// The largest IP packet of the underlay in bytes.
    pub underlay_mtu: u32,
    /// Whether nodes and pods have IPv6 addresses besides their IPv4 ones.
    pub dual: bool,
    /// The family of the addresses between which tunnels run; IPv6 takes `dual`.
    pub underlay: Family,
    /// Lines of the table `[host]`: with it, nodes have a host port, and routes lead to the other
    /// nodes' own addresses too. It takes `dual`.
    pub host: Option<String>,
    /// Whether there is a host outside of the cluster. It takes `dual`.
    pub outside: bool,
    /// How long the daemons may live.
    pub lifetime: Lifetime,
    /// Lines for every daemon's configuration.
    pub extra: String,
}

impl Spec {
    /// Two nodes with two pods each, underlay MTU 1500.
    pub fn new(mode: Mode, encap: Encap) -> Self {
        Self {
            mode,
            encap,
            nodes: 2,
            pods: 2,
            underlay_mtu: 1500,
            dual: false,
            underlay: Family::V4,
            host: None,
            outside: false,
            lifetime: Lifetime::Handle,
            extra: String::new(),
        }
    }

    /// Two nodes with two dual-stack pods each, host ports, and a host outside.
    pub fn whole(encap: Encap, underlay: Family) -> Self {
        Self {
            dual: true,
            underlay,
            host: Some(String::new()),
            outside: true,
            ..Self::new(Mode::L3, encap)
        }
    }

    /// The MTU of its pods: what the encapsulation leaves of the underlay's.
    pub fn pod_mtu(&self) -> u32 {
        self.underlay_mtu
            .saturating_sub(overhead(self.encap, self.underlay))
    }
}

/// The bytes that an encapsulation adds to an IP packet: outer IP (20 or 40), UDP (8), VXLAN (8)
/// and inner Ethernet (14), or outer IP alone.
pub fn overhead(encap: Encap, underlay: Family) -> u32 {
    match encap {
        Encap::Vxlan | Encap::CrossSubnetVxlan => underlay.header() + 30,
        Encap::Ipip | Encap::CrossSubnetIpip => underlay.header(),
        Encap::Direct => 0,
    }
}

/// A node that runs Shunt. The daemon goes first when it is dropped.
#[derive(Debug)]
pub struct Site {
    /// Its daemon.
    pub daemon: Daemon,
    /// Its pods, attached.
    pub pods: Vec<Pod>,
    /// The node.
    pub node: Node,
}

/// Nodes that run Shunt and the wire between them.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub sites: Vec<Site>,
    /// The host outside of the cluster, if the specification has one.
    pub outside: Option<Outside>,
    /// The underlay.
    pub wire: Wire,
}

impl Site {
    /// Starts a daemon on the node and attaches `pods` new pods.
    ///
    /// # Errors
    /// When the kernel or the daemon refuses.
    pub fn new(
        node: Node,
        spec: &Spec,
        config: &Config,
        netns: impl Fn(&str) -> Result<Netns>,
    ) -> Result<Self> {
        let daemon = Daemon::start_as(&node, config, spec.lifetime)
            .with_context(|| format!("daemon of node {}", node.index))?;
        let mut site = Self {
            daemon,
            pods: Vec::new(),
            node,
        };
        for number in 1..=spec.pods {
            let netns = netns(&site.node.pod_name(number))?;
            let make = if spec.dual { Node::dual_pod } else { Node::pod };
            let pod = make(&site.node, netns, number, spec.mode, spec.pod_mtu())?;
            site.daemon.attach(&pod)?;
            site.pods.push(pod);
        }
        Ok(site)
    }

    /// Routes the pods of node `index` to that node.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn route_to(&self, index: u8, encap: Encap) -> Result<()> {
        let via = underlay_address(index).into();
        self.daemon
            .route_add(
                pod_cidr(index)?,
                RouteTarget::Node {
                    via,
                    encap,
                    vtep_mac: None,
                },
            )
            .with_context(|| format!("route from node {} to node {index}", self.node.index))
    }

    /// Routes what a dual-stack peer has to it: its pods of both families, and with a host port
    /// its own address of the family in which the tunnel does not run. Its address of the other
    /// one is routed by the daemon.
    fn route_to_dual(&self, peer: &Site, spec: &Spec) -> Result<()> {
        let vtep_mac = match (spec.encap, spec.underlay) {
            // The daemon makes its own of the node's first address, which is IPv4.
            (Encap::Vxlan | Encap::CrossSubnetVxlan, Family::V6) => {
                Some(peer.daemon.status()?.vtep_mac)
            }
            _ => None,
        };
        let index = peer.node.index;
        for (family, prefix) in [
            (Family::V4, IpNet::from(pod_cidr(index)?)),
            (Family::V6, IpNet::from(pod_cidr6(index)?)),
        ] {
            let direct = spec.encap == Encap::Direct;
            let via = peer
                .node
                .underlay(if direct { family } else { spec.underlay });
            let to = RouteTarget::Node {
                via,
                encap: spec.encap,
                vtep_mac,
            };
            self.daemon
                .route_add(prefix, to.clone())
                .with_context(|| format!("route to {prefix} via {via}"))?;
            let own = peer.node.underlay(family);
            if spec.host.is_some() && own != via {
                self.daemon
                    .route_add(own, to)
                    .with_context(|| format!("route to {own} via {via}"))?;
            }
        }
        Ok(())
    }
}

impl Cluster {
    /// Builds what `spec` says, in namespaces that `netns` makes for each role: `wire`, `node1`,
    /// `a1`, ...
    ///
    /// # Errors
    /// When the kernel or a daemon refuses.
    pub fn build(spec: &Spec, netns: impl Fn(&str) -> Result<Netns>) -> Result<Self> {
        let wire = Wire::new(netns("wire")?, spec.underlay_mtu)?;
        let outside = match spec.outside {
            true => Some(Outside::new(netns("outside")?, &wire)?),
            false => None,
        };
        let mut cluster = Self {
            sites: Vec::new(),
            outside,
            wire,
        };
        let cores = std::thread::available_parallelism()?.get();
        for index in 1..=spec.nodes {
            let make = if spec.dual { Node::dual } else { Node::new };
            let node = make(netns(&format!("node{index}"))?, &cluster.wire, index)?;
            if spec.outside {
                Outside::route_from(&node.netns)?;
            }
            let mut config = Config::new(spec.mode, usize::from(index - 1) % cores);
            config.dual = spec.dual;
            config.host.clone_from(&spec.host);
            config.extra.clone_from(&spec.extra);
            cluster.sites.push(Site::new(node, spec, &config, &netns)?);
        }
        for site in &cluster.sites {
            if spec.dual {
                let peers = &cluster.sites;
                for peer in peers.iter().filter(|p| p.node.index != site.node.index) {
                    site.route_to_dual(peer, spec)?;
                }
                continue;
            }
            for index in (1..=spec.nodes).filter(|index| *index != site.node.index) {
                site.route_to(index, spec.encap)?;
            }
        }
        Ok(cluster)
    }

    /// Every pod.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.sites.iter().flat_map(|site| &site.pods)
    }

    /// Every ordered pair of pods.
    pub fn pairs(&self) -> Vec<(&Pod, &Pod)> {
        let pairs = self.pods().flat_map(|a| self.pods().map(move |b| (a, b)));
        pairs.filter(|(a, b)| a.name != b.name).collect()
    }

    /// Leaves everything in place when the handle goes.
    pub fn keep(&mut self) {
        if let Some(outside) = &mut self.outside {
            outside.netns.keep();
        }
        self.wire.netns.keep();
        for site in &mut self.sites {
            site.daemon.keep();
            site.node.netns.keep();
            for pod in &mut site.pods {
                pod.netns.keep();
            }
        }
    }
}
