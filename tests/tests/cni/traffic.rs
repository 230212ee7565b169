//! ADD "returns only when traffic flows": the first packet is answered.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use shunt_api::{Encap, RouteTarget};
use shunt_tests::cni::{CniNode, CniPod, Options};
use shunt_tests::family::Family;
use shunt_tests::netns::Netns;
use shunt_tests::node::underlay_address;
use shunt_tests::probe::{http, must_ping, tcp, udp};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

use crate::built;

/// The very first packet to a pod and from it, pod after pod.
#[test]
fn the_first_packet_on_a_node() -> Result<()> {
    let options = Options {
        dual: true,
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let runtime = node.runtime(node.network());
    let mut pods = vec![CniPod::add(&runtime, "pod")?];
    // In turns, since what the first family waits for is there for the second.
    let families = Family::ALL.iter().copied().cycle();
    for (number, family) in families.enumerate().take(24) {
        let pod = CniPod::add(&runtime, "pod")?;
        let last = pods.last().context("a pod")?;
        let (from, to) = match number / 2 % 2 {
            0 => (last, &pod),
            _ => (&pod, last),
        };
        must_ping(&from.netns, to.address_of(family)?, 1, "")
            .with_context(|| format!("{family}, pod {number}"))?;
        pods.push(pod);
    }
    let [a, .., z] = &pods[..] else {
        anyhow::bail!("two pods")
    };
    tcp(
        &a.netns,
        (&z.netns, z.address()?),
        Duration::from_millis(100),
    )?;
    udp(&z.netns, (&a.netns, a.address()?), &[0, 1, 1400])?;
    http(&a.netns, (&z.netns, z.address()?))?;
    for pod in &pods {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}

/// Two nodes with host ports, both families.
fn pair() -> Result<(Testbed, Vec<CniNode>, Wire)> {
    let testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let options = Options {
        dual: true,
        host: Some(String::new()),
        ..Options::default()
    };
    let mut nodes = Vec::new();
    for index in 1..=2u8 {
        let mut node = CniNode::on(&wire, index, &options)?;
        node.route_to(3 - index, Encap::Vxlan)?;
        // The other node's IPv6 address, which is not the tunnel's.
        let other: IpAddr = shunt_tests::node::underlay_address6(3 - index).into();
        let to = RouteTarget::Node {
            via: underlay_address(3 - index).into(),
            encap: Encap::Vxlan,
            vtep_mac: None,
        };
        node.daemon.route_add(other, to)?;
        node.take_stock()?;
        nodes.push(node);
    }
    Ok((testbed, nodes, wire))
}

#[test]
fn the_first_packet_between_nodes() -> Result<()> {
    let (_testbed, mut nodes, _wire) = pair()?;
    let runtimes: Vec<_> = nodes
        .iter()
        .map(|node| node.runtime(node.network()))
        .collect();
    let mut pods = Vec::new();
    for _ in 0..3 {
        for runtime in &runtimes {
            pods.push(CniPod::add(runtime, "pod")?);
        }
        let [.., a, b] = &pods[..] else {
            anyhow::bail!("two pods")
        };
        for family in Family::ALL {
            must_ping(&a.netns, b.address_of(family)?, 1, "")?;
            must_ping(&b.netns, a.address_of(family)?, 1, "")?;
        }
    }
    let [a, b, ..] = &pods[..] else {
        anyhow::bail!("two pods")
    };
    http(&a.netns, (&b.netns, b.address()?))?;
    // What the remote path does not take is not sent.
    must_ping(&a.netns, b.address()?, 1, "-M do -s 1422")?;

    // A restart of one daemon: its pods' traffic goes on.
    nodes[0].daemon.halt(Signal::TERM)?;
    nodes[0].daemon.start_again()?;
    nodes[0].route_to(2, Encap::Vxlan)?;
    for family in Family::ALL {
        must_ping(&a.netns, b.address_of(family)?, 1, "")?;
        must_ping(&b.netns, a.address_of(family)?, 1, "")?;
    }
    for (index, pod) in pods.iter().enumerate() {
        runtimes[index % 2].del(&pod.container)?;
    }
    nodes[1].must_be_clean()?;
    assert_eq!(nodes[0].pods()?, []);
    Ok(())
}

/// The kubelet's probes come from the node.
#[test]
fn the_first_packet_of_the_node() -> Result<()> {
    let (_testbed, nodes, _wire) = pair()?;
    let node = &nodes[0];
    let runtime = node.runtime(node.network());
    let own = &node.node.netns;
    for family in Family::ALL {
        let pod = CniPod::add(&runtime, "pod")?;
        let address = pod.address_of(family)?;
        must_ping(own, address, 1, "")?;
        must_ping(&pod.netns, node.node.underlay(family), 1, "")?;
        tcp(own, (&pod.netns, address), Duration::from_millis(50))?;
        http(own, (&pod.netns, address))?;
        // From the other node, too.
        must_ping(&nodes[1].node.netns, address, 1, "")?;
        runtime.del(&pod.container)?;
    }
    for node in &nodes {
        node.must_be_clean()?;
    }
    Ok(())
}
