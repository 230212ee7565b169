//! Two nodes in different subnets, with a narrow link between them.
//!
//! ```text
//! node 1 eth0 -- near (router 1) far -- far (router 2) near -- eth0 node 2
//!           1500 bytes         narrow               1500 bytes
//! ```
//!
//! Either router says of what comes from its node, and is larger than the link between them
//! takes, that it is too big. Two of them are needed: a veth drops without a word what is larger
//! than its own MTU.

use anyhow::Result;

use crate::cluster::{Site, Spec};
use crate::config::Config;
use crate::netns::Netns;
use crate::node::{Node, pod_cidr, underlay_address, underlay_address6};
use crate::wire::veth;

/// Two nodes that run Shunt, two routers.
#[derive(Debug)]
pub struct Routed {
    /// The nodes, without routes to each other's pods.
    pub sites: Vec<Site>,
    /// The router of each node: `near` leads to the node, `far` to the other router.
    pub routers: Vec<Netns>,
}

impl Routed {
    /// Builds them: dual stack, `narrow` bytes on the link between the routers.
    ///
    /// # Errors
    /// When the kernel or a daemon refuses.
    pub fn build(spec: &Spec, narrow: u32) -> Result<Self> {
        let routers = vec![router("r1")?, router("r2")?];
        veth((&routers[0], "far"), (&routers[1], "far"), narrow)?;
        let cores = std::thread::available_parallelism()?.get();
        let mut sites = Vec::new();
        for (index, router) in (1u8..).zip(&routers) {
            let node = connect(router, index, spec.underlay_mtu)?;
            let mut config = Config::new(spec.mode, usize::from(index - 1) % cores);
            config.dual = true;
            config.host.clone_from(&spec.host);
            config.extra.clone_from(&spec.extra);
            sites.push(Site::new(node, spec, &config, Netns::new)?);
        }
        Ok(Self { sites, routers })
    }
}

fn router(role: &str) -> Result<Netns> {
    let netns = Netns::new(role)?;
    netns.enable_ipv6()?;
    for key in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
        netns.sysctl(&format!("net.{key}"), "1")?;
    }
    Ok(netns)
}

/// Makes node `index` behind its router, and the router's way to the other one.
fn connect(router: &Netns, index: u8, mtu: u32) -> Result<Node> {
    let (other, gateway) = (3 - index, 100 + index);
    let (own, own6) = (underlay_address(index), underlay_address6(index));
    let (peer, peer6) = (underlay_address(other), underlay_address6(other));
    let netns = Netns::new(&format!("node{index}"))?;
    netns.enable_ipv6()?;
    veth((router, "near"), (&netns, "eth0"), mtu)?;
    for words in [
        format!("address add {own}/32 dev eth0"),
        format!("address add {own6}/128 dev eth0 nodad"),
        format!("route add 192.168.77.{gateway} dev eth0 scope link src {own}"),
        format!("-6 route add fd77::{gateway} dev eth0 src {own6}"),
        format!("route add default via 192.168.77.{gateway} dev eth0 src {own}"),
        format!("-6 route add default via fd77::{gateway} dev eth0 src {own6}"),
    ] {
        netns.ip(&words)?;
    }
    for words in [
        format!("address add 192.168.77.{gateway}/32 dev near"),
        format!("address add fd77::{gateway}/128 dev near nodad"),
        format!("route add {own} dev near"),
        format!("-6 route add {own6} dev near"),
        format!("address add 192.168.78.{index}/24 dev far"),
        format!("address add fd78::{index}/64 dev far nodad"),
        format!("route add {peer} via 192.168.78.{other} dev far"),
        format!("-6 route add {peer6} via fd78::{other} dev far"),
    ] {
        router.ip(&words)?;
    }
    Ok(Node {
        netns,
        index,
        address: own,
        pod_cidr: pod_cidr(index)?,
    })
}
