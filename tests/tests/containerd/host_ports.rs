//! hostPort: Debian's `portmap`, which `shunt cni install` chains behind Shunt.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use shunt_tests::cri::messages::PortMapping;
use shunt_tests::cri::{CriPod, PORT, sandbox_config};
use shunt_tests::family::Family;
use shunt_tests::netns::Netns;
use shunt_tests::outside::Outside;
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

use crate::node::{CriNode, get};

/// The node's port, which nothing else in these tests uses.
const HOST_PORT: u16 = 18_080;

#[test]
fn a_port_of_the_node_leads_to_the_pod() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let outside = Outside::new(Netns::new("outside")?, &wire)?;
    let node = CriNode::on(&wire, 1)?;
    Outside::route_from(&node.cni.node.netns)?;
    let rules = || {
        let tables = node.cni.node.netns.run(&["iptables-save", "-t", "nat"])?;
        Ok::<_, anyhow::Error>(tables.matches(&HOST_PORT.to_string()).count())
    };
    let mut config = sandbox_config("web");
    config.port_mappings.push(PortMapping {
        protocol: 0,
        container_port: PORT.into(),
        host_port: HOST_PORT.into(),
        host_ip: String::new(),
    });
    let web = CriPod::run_as(&node.containerd, &config)?;
    let client = node.run("client")?;
    ensure!(rules()? > 0, "no rule for port {HOST_PORT}");
    let node4 = SocketAddr::new(node.cni.node.underlay(Family::V4), HOST_PORT);
    let node6 = SocketAddr::new(node.cni.node.underlay(Family::V6), HOST_PORT);
    for (from, server) in [
        (&outside.netns, node4),
        (&outside.netns, node6),
        (&node.cni.node.netns, node4),
        (&node.cni.node.netns, node6),
        (
            &node.cni.node.netns,
            SocketAddr::from(([127, 0, 0, 1], HOST_PORT)),
        ),
    ] {
        let what = || format!("{} -> {server}", from.name());
        let text = get(from, server).with_context(what)?;
        ensure!(text == web.name, "{}: {text}", what());
    }
    for pod in [&client, &web] {
        for server in [node4, node6] {
            let what = || format!("{} -> {server}", pod.name);
            let text = pod.fetch(&node.containerd, server).with_context(what)?;
            ensure!(text == web.name, "{}: {text}", what());
        }
    }
    web.remove(&node.containerd)?;
    client.remove(&node.containerd)?;
    ensure!(rules()? == 0, "{} rules are left", rules()?);
    ensure!(get(&outside.netns, node4).is_err(), "{node4} still answers");
    node.must_be_clean()
}
