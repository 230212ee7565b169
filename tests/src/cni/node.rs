//! A node whose pods come by CNI.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};
use shunt_api::{Encap, PodInfo, Reply, Request, RouteTarget};

use super::{Leases, Network, Plugins, Runtime, host_local};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::netns::Netns;
use crate::node::{Node, pod_cidr, pod_cidr6, underlay_address};
use crate::pod::Mode;
use crate::wire::Wire;

/// How long what has to go may take: the daemon looks for what has vanished every few seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the daemon opens with the first pod and keeps: netlink sockets of its threads, and the XDP
/// program that all pods share, with its maps.
const KEPT: [(&str, usize); 3] = [
    ("socket:[]", 3),
    ("anon_inode:bpf-prog", 1),
    ("anon_inode:bpf-map", 2),
];

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// The switch's mode.
    pub mode: Mode,
    /// Whether nodes and pods have IPv6 addresses besides their IPv4 ones.
    pub dual: bool,
    /// Lines of the table `[host]`: with it, the node has a host port.
    pub host: Option<String>,
    /// Where the daemon keeps its attachments; a folder of its own when absent.
    pub state_dir: Option<PathBuf>,
    /// Lines for the daemon's configuration.
    pub extra: String,
}

impl Default for Options {
    /// IPv4 in L3 mode, without a host port.
    fn default() -> Self {
        Self {
            mode: Mode::L3,
            dual: false,
            host: None,
            state_dir: None,
            extra: String::new(),
        }
    }
}

/// A node with a daemon and plugins. The daemon goes first when it is dropped.
#[derive(Debug)]
pub struct CniNode {
    /// Its daemon.
    pub daemon: Daemon,
    /// Its plugins.
    pub plugins: Plugins,
    /// The node.
    pub node: Node,
    /// The wire, if no other node is on it.
    pub wire: Option<Wire>,
    dual: bool,
    before: Still,
}

impl CniNode {
    /// A node that is alone on its wire.
    ///
    /// # Errors
    /// When the kernel or the daemon refuses.
    pub fn lone(options: &Options) -> Result<Self> {
        let wire = Wire::new(Netns::new("wire")?, 1500)?;
        let mut node = Self::on(&wire, 1, options)?;
        node.wire = Some(wire);
        Ok(node)
    }

    /// Node `index` on a wire; its worker is pinned to core `index` - 1, modulo the cores of the
    /// machine.
    ///
    /// # Errors
    /// When the kernel or the daemon refuses.
    pub fn on(wire: &Wire, index: u8, options: &Options) -> Result<Self> {
        let plugins = Plugins::new()?;
        let make = if options.dual { Node::dual } else { Node::new };
        let node = make(Netns::new(&format!("node{index}"))?, wire, index)?;
        let cores = std::thread::available_parallelism()?.get();
        let config = Config {
            dual: options.dual,
            host: options.host.clone(),
            state_dir: options.state_dir.clone(),
            extra: options.extra.clone(),
            ..Config::new(options.mode, usize::from(index.saturating_sub(1)) % cores)
        };
        let daemon = Daemon::start(&node, &config)?;
        let mut made = Self {
            daemon,
            plugins,
            node,
            wire: None,
            dual: options.dual,
            before: Still::default(),
        };
        made.before = made.still()?;
        Ok(made)
    }

    /// Routes the pods of node `index` to that node.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn route_to(&mut self, index: u8, encap: Encap) -> Result<()> {
        let to = RouteTarget::Node {
            via: underlay_address(index).into(),
            encap,
            vtep_mac: None,
        };
        self.daemon.route_add(pod_cidr(index)?, to.clone())?;
        if self.dual {
            self.daemon.route_add(pod_cidr6(index)?, to)?;
        }
        self.before = self.still()?;
        Ok(())
    }

    /// The pods' network: our plugin with all that it can do, and host-local with an address of
    /// each family.
    pub fn network(&self) -> Network {
        Network::new(
            "pods",
            json!({
                "type": "shunt-cni",
                "socket": self.daemon.socket(),
                "stateDir": self.daemon.state_dir(),
                "ipam": host_local(&self.subnets(), &self.plugins.lease_dir()),
                "capabilities": {
                    "bandwidth": true, "mac": true, "ips": true, "dns": true, "aliases": true,
                },
            }),
        )
    }

    /// The pods' subnets, one of each family.
    pub fn subnets(&self) -> Vec<IpNet> {
        let four = IpNet::from(self.node.pod_cidr);
        let six = pod_cidr6(self.node.index).ok().filter(|_| self.dual);
        std::iter::once(four).chain(six.map(IpNet::from)).collect()
    }

    /// A runtime on this node.
    pub fn runtime(&self, network: Network) -> Runtime {
        Runtime::new(&self.node.netns.path(), self.plugins.clone(), network)
    }

    /// The addresses that host-local has given out.
    pub fn leases(&self) -> Leases {
        Leases::new(self.plugins.lease_dir())
    }

    /// The attachments, as the daemon tells.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn pods(&self) -> Result<Vec<PodInfo>> {
        match self.daemon.ask(&Request::PodList { network: None })? {
            Reply::Pods(pods) => Ok(pods),
            other => bail!("pod-list is answered by {other:?}"),
        }
    }

    /// The files of the daemon's attachments.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn records(&self) -> Result<BTreeSet<PathBuf>> {
        files(&self.daemon.state_dir().join("attachments"))
    }

    /// The detachments that wait on disk.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn queue(&self) -> Result<BTreeSet<PathBuf>> {
        files(&self.daemon.state_dir().join("queue"))
    }

    /// Demands that nothing is left of any attachment: no port, route, neighbour, frame, interface,
    /// lease, record, queued detachment or open file of the daemon that was not there at start.
    ///
    /// # Errors
    /// When something is left after ten seconds; the message names it.
    pub fn must_be_clean(&self) -> Result<()> {
        self.must_be_without(|_| ())
    }

    fn must_be_without(&self, forgive: impl Fn(&mut Still)) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut now = self.still()?;
            forgive(&mut now);
            let left = now.beyond(&self.before);
            if left.is_empty() {
                // The books are balanced by asking for them.
                self.daemon.stats()?;
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "node {} is not clean: {}\n{}",
                self.node.index,
                left.join("; "),
                self.daemon.log()
            );
            sleep(Duration::from_millis(10));
        }
    }

    /// [`CniNode::must_be_clean`] of a daemon that was restarted: with other files open than at its
    /// first start.
    ///
    /// # Errors
    /// As [`CniNode::must_be_clean`].
    pub fn must_be_gone(&self) -> Result<()> {
        self.must_be_without(|left| left.descriptors.clear())
    }

    /// Takes what there is now as what [`CniNode::must_be_clean`] compares with: after a restart
    /// the daemon is another process.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn take_stock(&mut self) -> Result<()> {
        self.before = self.still()?;
        Ok(())
    }

    fn still(&self) -> Result<Still> {
        let mut things = BTreeSet::new();
        for port in self.daemon.ports()? {
            things.insert(format!("port {}", port.name));
        }
        for route in self.daemon.routes()? {
            things.insert(format!("route {}", route.prefix));
        }
        let subnets = self.subnets();
        for neighbour in self.daemon.neighbours()? {
            if subnets.iter().any(|net| net.contains(&neighbour.address)) {
                things.insert(format!("neighbour {}", neighbour.address));
            }
        }
        for station in self.daemon.fdb()? {
            things.insert(format!("station {} on {}", station.mac, station.port));
        }
        for pod in self.pods()? {
            things.insert(format!("attachment {}", pod.key));
        }
        for link in self.links()? {
            things.insert(format!("interface {link}"));
        }
        for (network, address) in self.leases().all()?.into_keys() {
            things.insert(format!("lease {address} of {network}"));
        }
        for file in self.records()?.into_iter().chain(self.queue()?) {
            things.insert(format!("file {}", file.display()));
        }
        let stats = self.daemon.stats()?;
        Ok(Still {
            things,
            frames: stats.pool_total.saturating_sub(stats.pool_free) + stats.in_flight,
            descriptors: descriptors(self.daemon.pid())?,
        })
    }

    /// The interfaces in the node's namespace.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn links(&self) -> Result<BTreeSet<String>> {
        let links: Vec<Value> = serde_json::from_str(&self.node.netns.ip("-j link show")?)?;
        let name = |link: &Value| link["ifname"].as_str().map(str::to_owned);
        Ok(links.iter().filter_map(name).collect())
    }
}

/// What is there, in words.
#[derive(Debug, Default)]
struct Still {
    things: BTreeSet<String>,
    /// Frames outside of the pool.
    frames: u64,
    /// Open files by kind.
    descriptors: BTreeMap<String, usize>,
}

impl Still {
    /// What there is more of than there was.
    fn beyond(&self, before: &Self) -> Vec<String> {
        let mut more: Vec<String> = self.things.difference(&before.things).cloned().collect();
        if self.frames > before.frames {
            more.push(format!("{} frames", self.frames - before.frames));
        }
        for (kind, &now) in &self.descriptors {
            let kept = KEPT.iter().find(|(kept, _)| kept == kind);
            let was = before.descriptors.get(kind).copied().unwrap_or(0)
                + kept.map_or(0, |(_, count)| *count);
            if now > was {
                more.push(format!("{} of {kind}", now - was));
            }
        }
        more
    }
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// A process's open files by kind: `socket:[123]` is a `socket:[]`.
fn descriptors(pid: u32) -> Result<BTreeMap<String, usize>> {
    let mut kinds = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One that was closed meanwhile is none.
        if let Ok(target) = std::fs::read_link(entry?.path()) {
            let mut kind = target.to_string_lossy().into_owned();
            if kind.ends_with(']') {
                kind.retain(|c| !c.is_ascii_digit());
            }
            *kinds.entry(kind).or_insert(0) += 1;
        }
    }
    Ok(kinds)
}
