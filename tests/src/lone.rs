//! One node that runs Shunt, its dual-stack pods attached as a test says, and a node 2 without any
//! switch, whose pods are routed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shunt_api::{Encap, PortSpec, RouteTarget};

use crate::cluster::{Site, Spec};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::netns::Netns;
use crate::node::{Node, pod_cidr, pod_cidr6};
use crate::pod::{Mode, Pod};
use crate::wire::Wire;

/// What a test changes of a pod's attachment.
pub type Edit<'a> = &'a dyn Fn(&mut PortSpec);

/// Leaves the attachment as it is.
pub fn plain(_: &mut PortSpec) {}

/// The node with its pods.
#[derive(Debug)]
pub struct Lone {
    /// The node.
    pub site: Site,
    /// Node 2, without a switch.
    pub peer: Node,
    /// The underlay.
    pub wire: Wire,
    mode: Mode,
    mtu: u32,
}

impl Lone {
    /// A node with `extra` lines of configuration and a pod for each of `pods`.
    ///
    /// # Errors
    /// When the kernel or the daemon refuses.
    pub fn new(mode: Mode, encap: Encap, extra: &str, pods: &[Edit<'_>]) -> Result<Self> {
        let spec = Spec {
            dual: true,
            pods: 0,
            ..Spec::new(mode, encap)
        };
        let wire = Wire::new(Netns::new("wire")?, spec.underlay_mtu)?;
        let node = Node::dual(Netns::new("node1")?, &wire, 1)?;
        let config = Config {
            dual: true,
            extra: extra.to_owned(),
            ..Config::new(mode, 0)
        };
        let site = Site::new(node, &spec, &config, Netns::new)?;
        let peer = Node::dual(Netns::new("node2")?, &wire, 2)?;
        let to = RouteTarget::Node {
            via: peer.address.into(),
            encap,
            vtep_mac: None,
        };
        site.daemon.route_add(pod_cidr(2)?, to.clone())?;
        site.daemon.route_add(pod_cidr6(2)?, to)?;
        let mut lone = Self {
            site,
            peer,
            wire,
            mode,
            mtu: spec.pod_mtu(),
        };
        for edit in pods {
            let pod = lone.make_pod()?;
            lone.attach(pod, edit)?;
        }
        Ok(lone)
    }

    /// Makes the next pod and leaves it unattached. It does not ask again for neighbours that it
    /// knows, so that counters stand still while it is silent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn make_pod(&self) -> Result<Pod> {
        let number = u8::try_from(self.site.pods.len() + 1)?;
        let netns = Netns::new(&self.site.node.pod_name(number))?;
        let pod = self
            .site
            .node
            .dual_pod(netns, number, self.mode, self.mtu)?;
        for family in ["ipv4", "ipv6"] {
            let key = format!("net.{family}.neigh.eth0.delay_first_probe_time");
            pod.netns.sysctl(&key, "600")?;
        }
        Ok(pod)
    }

    /// Attaches a pod that [`Lone::make_pod`] has made.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn attach(&mut self, pod: Pod, edit: Edit<'_>) -> Result<()> {
        let mut spec = Daemon::veth_port(&pod)?;
        edit(&mut spec);
        self.site
            .daemon
            .port_add(spec)
            .with_context(|| format!("attach {}", pod.name))?;
        self.site.pods.push(pod);
        Ok(())
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.site.daemon
    }

    /// Pod number `index`, from 0.
    ///
    /// # Panics
    /// When there is none.
    pub fn pod(&self, index: usize) -> &Pod {
        &self.site.pods[index]
    }

    /// Waits until nothing has come in for a while: kernels report their groups, and ask for
    /// neighbours, some time after an interface is up.
    ///
    /// # Errors
    /// When it never gets quiet.
    pub fn settle(&self) -> Result<()> {
        const SILENCE: Duration = Duration::from_millis(1300);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut last = (self.daemon().stats()?.received, Instant::now());
        while last.1.elapsed() < SILENCE {
            ensure!(Instant::now() < deadline, "the pods do not fall silent");
            sleep(Duration::from_millis(50));
            let received = self.daemon().stats()?.received;
            if received != last.0 {
                last = (received, Instant::now());
            }
        }
        Ok(())
    }
}
