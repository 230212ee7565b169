//! A node with Shunt and containerd.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use shunt_api::{Encap, RouteTarget};
use shunt_tests::cni::{CniNode, Options};
use shunt_tests::cri::{Containerd, CriPod, PORT};
use shunt_tests::daemon::{binary, shunt};
use shunt_tests::family::Family;
use shunt_tests::netns::Netns;
use shunt_tests::node::pod_cidr6;
use shunt_tests::probe::curl;
use shunt_tests::wire::Wire;

/// A node whose pods containerd makes.
#[derive(Debug)]
pub(crate) struct CriNode {
    /// containerd; it goes first.
    pub(crate) containerd: Containerd,
    /// The node with daemon and plugins.
    pub(crate) cni: CniNode,
    /// Files in `/run/netns` before.
    namespaces: Vec<String>,
    restarted: bool,
}

impl CriNode {
    /// Node `index` on a wire, with a host port. Shunt is put under containerd as a user would:
    /// by `shunt cni install`.
    pub(crate) fn on(wire: &Wire, index: u8) -> Result<Self> {
        let options = Options {
            dual: true,
            host: Some(String::new()),
            ..Options::default()
        };
        let cni = CniNode::on(wire, index, &options)?;
        fs::remove_file(cni.plugins.plugin("shunt-cni"))?;
        let containerd = Containerd::start(&cni.node.netns, &cni.plugins.bin())?;
        let node = Self {
            namespaces: shunt_tests::netns::list("cni-")?,
            containerd,
            cni,
            restarted: false,
        };
        node.install()?;
        Ok(node)
    }

    fn install(&self) -> Result<()> {
        let [binary, state, leases] = [
            binary("SHUNT_CNI_BIN", "shunt-cni", "shunt-cni")?,
            self.cni.daemon.state_dir().to_owned(),
            self.cni.plugins.lease_dir(),
        ]
        .map(|path| path.display().to_string());
        self.shunt_cni(&[
            "install",
            "--binary",
            &binary,
            "--network-name",
            "pods",
            "--state-dir",
            &state,
            "--ipam-dir",
            &leases,
        ])?;
        self.containerd.wait_network()
    }

    /// Takes Shunt away from under containerd: no pod can be made any more.
    pub(crate) fn uninstall(&self) -> Result<()> {
        self.shunt_cni(&["remove"])?;
        ensure!(
            !self.cni.plugins.plugin("shunt-cni").exists(),
            "the plugin is left"
        );
        let left = fs::read_dir(self.containerd.conf_dir())?.count();
        ensure!(left == 0, "{left} configurations are left");
        self.containerd.wait_no_network()
    }

    fn shunt_cni(&self, arguments: &[&str]) -> Result<()> {
        let [socket, bin, conf] = [
            self.cni.daemon.socket().to_owned(),
            self.cni.plugins.bin(),
            self.containerd.conf_dir(),
        ]
        .map(|path| path.display().to_string());
        let (verb, rest) = arguments.split_first().context("no command")?;
        let argv = ["--socket", &socket, "cni", verb, "--bin-dir", &bin];
        let argv = [&argv[..], &["--conf-dir", &conf], rest].concat();
        let (status, text) = shunt(&self.cni.node.netns, &argv)?;
        ensure!(status.success(), "shunt cni {verb}: {status}: {text}");
        Ok(())
    }

    /// A node that is alone on its wire.
    pub(crate) fn lone() -> Result<(Self, Wire)> {
        let wire = Wire::new(Netns::new("wire")?, 1500)?;
        Ok((Self::on(&wire, 1)?, wire))
    }

    /// Makes a pod.
    pub(crate) fn run(&self, name: &str) -> Result<CriPod> {
        CriPod::run(&self.containerd, name)
            .with_context(|| format!("containerd:\n{}", self.containerd.log()))
    }

    /// Ends the daemon; it can be started again.
    pub(crate) fn halt(&mut self, signal: Signal) -> Result<()> {
        self.restarted = true;
        self.cni.daemon.halt(signal)
    }

    /// Routes what another node has to it.
    pub(crate) fn route_to(&self, peer: &CriNode) -> Result<()> {
        let peer = &peer.cni.node;
        let to = RouteTarget::Node {
            via: peer.address.into(),
            encap: Encap::Vxlan,
            vtep_mac: None,
        };
        let daemon = &self.cni.daemon;
        daemon.route_add(peer.pod_cidr, to.clone())?;
        daemon.route_add(pod_cidr6(peer.index)?, to.clone())?;
        daemon.route_add(peer.underlay(Family::V6), to)
    }

    /// What the kubelet asks of a pod: `httpGet` and `tcpSocket` probes of every address, and that
    /// a probe of a port where nobody listens is refused at once.
    pub(crate) fn must_probe(&self, pod: &CriPod) -> Result<()> {
        let netns = &self.cni.node.netns;
        for &address in &pod.addresses {
            let server = SocketAddr::new(address, PORT);
            let text = get(netns, server)?;
            ensure!(text == pod.name, "{server} is {text}, not {}", pod.name);
            netns
                .within(|| TcpStream::connect_timeout(&server, Duration::from_secs(3)))?
                .with_context(|| format!("TCP connect to {server}"))?;
            let closed = SocketAddr::new(address, PORT + 1);
            let begin = Instant::now();
            let refused = netns
                .within(|| TcpStream::connect_timeout(&closed, Duration::from_secs(3)))?
                .err()
                .with_context(|| format!("{closed} is open"))?;
            ensure!(
                refused.kind() == std::io::ErrorKind::ConnectionRefused,
                "{closed}: {refused} after {:?}",
                begin.elapsed()
            );
        }
        Ok(())
    }

    /// Demands that nothing is left of any pod: in the switch, in the node's namespace, on disk, of
    /// containerd's.
    pub(crate) fn must_be_clean(&self) -> Result<()> {
        // A daemon that was restarted has other files open.
        match self.restarted {
            true => self.cni.must_be_gone()?,
            false => self.cni.must_be_clean()?,
        }
        let cri = self.containerd.cri()?;
        let left = (
            cri.sandboxes()?.len(),
            self.containerd.shims()?,
            self.containerd.bundles()?,
            self.containerd.mounts()?,
        );
        ensure!(
            left == (0, 0, 0, 0),
            "sandboxes, shims, bundles, mounts: {left:?}"
        );
        let namespaces: Vec<String> = shunt_tests::netns::list("cni-")?
            .into_iter()
            .filter(|name| !self.namespaces.contains(name))
            .collect();
        ensure!(namespaces.is_empty(), "namespaces left: {namespaces:?}");
        Ok(())
    }
}

/// What curl(1) in a namespace gets from a server, without white space around it.
pub(crate) fn get(from: &Netns, server: SocketAddr) -> Result<String> {
    let url = format!("http://{server}/");
    let text = curl(from, 5, &[], &url)?;
    Ok(text.trim().to_owned())
}

/// Two nodes, and routes through VXLAN to all that each has: its pods, and its own address of the
/// family in which the tunnel does not run, by which it probes.
pub(crate) fn pair() -> Result<([CriNode; 2], Wire)> {
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let [mut one, mut two] = [CriNode::on(&wire, 1)?, CriNode::on(&wire, 2)?];
    one.route_to(&two)?;
    two.route_to(&one)?;
    one.cni.take_stock()?;
    two.cni.take_stock()?;
    Ok(([one, two], wire))
}

/// HTTP from each of these pods to every other, by every address.
pub(crate) fn must_talk(pods: &[(&CriNode, &CriPod)]) -> Result<()> {
    for (node, from) in pods {
        for (_, to) in pods.iter().filter(|(_, to)| to.name != from.name) {
            for &address in &to.addresses {
                must_fetch((node, from), to, address)?;
            }
        }
    }
    Ok(())
}

fn must_fetch(from: (&CriNode, &CriPod), to: &CriPod, address: IpAddr) -> Result<()> {
    let (node, pod) = from;
    let what = || format!("HTTP {} -> {} at {address}", pod.name, to.name);
    let text = pod
        .fetch(&node.containerd, SocketAddr::new(address, PORT))
        .with_context(what)?;
    ensure!(text == to.name, "{}: {text}", what());
    Ok(())
}
