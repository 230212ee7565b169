//! Nodes that run Shunt, with their pods attached and routed to each other.

use anyhow::{Context, Result};
use shunt_api::{Encap, RouteTarget};

use crate::config::Config;
use crate::daemon::Daemon;
use crate::netns::Netns;
use crate::node::{Node, pod_cidr, underlay_address};
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
            lifetime: Lifetime::Handle,
            extra: String::new(),
        }
    }

    /// The MTU of its pods: what the encapsulation leaves of the underlay's.
    pub fn pod_mtu(&self) -> u32 {
        self.underlay_mtu.saturating_sub(overhead(self.encap))
    }
}

/// The bytes that an encapsulation adds to an IP packet: outer IPv4 (20), UDP (8), VXLAN (8) and
/// inner Ethernet (14), or outer IPv4 alone.
pub fn overhead(encap: Encap) -> u32 {
    match encap {
        Encap::Vxlan | Encap::CrossSubnetVxlan => 50,
        Encap::Ipip | Encap::CrossSubnetIpip => 20,
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
            let pod = site.node.pod(netns, number, spec.mode, spec.pod_mtu())?;
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
}

impl Cluster {
    /// Builds what `spec` says, in namespaces that `netns` makes for each role: `wire`, `node1`,
    /// `a1`, ...
    ///
    /// # Errors
    /// When the kernel or a daemon refuses.
    pub fn build(spec: &Spec, netns: impl Fn(&str) -> Result<Netns>) -> Result<Self> {
        let wire = Wire::new(netns("wire")?, spec.underlay_mtu)?;
        let mut cluster = Self {
            sites: Vec::new(),
            wire,
        };
        let cores = std::thread::available_parallelism()?.get();
        for index in 1..=spec.nodes {
            let node = Node::new(netns(&format!("node{index}"))?, &cluster.wire, index)?;
            let mut config = Config::new(spec.mode, usize::from(index - 1) % cores);
            config.extra.clone_from(&spec.extra);
            cluster.sites.push(Site::new(node, spec, &config, &netns)?);
        }
        for site in &cluster.sites {
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
