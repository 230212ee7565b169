//! One node of ours, one of the kernel's bridge and vxlan device as Flannel sets them up.

use anyhow::Result;
use shunt_api::{Encap, RouteTarget};
use shunt_tests::capture::Capture;
use shunt_tests::cluster::{Site, Spec};
use shunt_tests::config::Config;
use shunt_tests::flannel::FlannelNode;
use shunt_tests::netns::Netns;
use shunt_tests::node::{Node, pod_cidr};
use shunt_tests::pod::Mode;
use shunt_tests::probe::{must_http, must_ping, must_tcp, must_udp};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

fn meets_the_kernel(mode: Mode) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let node = Node::new(Netns::new("node1")?, &wire, 1)?;
    let spec = Spec {
        pods: 1,
        ..Spec::new(mode, Encap::Vxlan)
    };
    let ours = Site::new(node, &spec, &Config::new(mode, 0), Netns::new)?;
    let theirs = FlannelNode::new(Netns::new("node2")?, &wire, 2)?;
    theirs.peer(1, ours.daemon.status()?.vtep_mac)?;
    let to = RouteTarget::Node {
        via: theirs.node.address.into(),
        encap: Encap::Vxlan,
        vtep_mac: Some(theirs.vtep_mac),
    };
    ours.daemon.route_add(pod_cidr(2)?, to)?;
    let a1 = &ours.pods[0];
    let b1 = theirs.pod(Netns::new("b1")?, 1, 1450)?;

    let capture = Capture::start(&wire.netns, "p1", "")?;
    for (from, to) in [(a1, &b1), (&b1, a1)] {
        must_ping(&from.netns, to.address, 5, "")?;
        must_ping(&from.netns, to.address, 2, "-M do -s 1422")?;
        must_udp(from, to, &[0, 1, 1000, 1422])?;
        must_http(from, to)?;
    }
    let captured = capture.stop()?;
    for (from, to) in [(a1, &b1), (&b1, a1)] {
        must_tcp(from, to)?;
    }

    let ours_only = captured.warnings_among("ip.src == 192.168.77.1")?;
    assert_eq!(ours_only, Vec::<String>::new());
    let sent = captured.fields(
        "vxlan && ip.src == 192.168.77.1",
        &[
            "vxlan.flags",
            "vxlan.vni",
            "udp.dstport",
            "eth.dst",
            "eth.src",
            "ip.ttl",
        ],
    )?;
    assert!(sent.len() > 100, "{} packets", sent.len());
    let vtep = ours.daemon.status()?.vtep_mac.to_string();
    for row in &sent {
        assert_eq!(
            (row[0].as_str(), row[1].as_str()),
            ("0x0800", "1"),
            "{row:?}"
        );
        assert!(row[2].starts_with("8472"), "{row:?}");
        assert!(row[3].ends_with(&theirs.vtep_mac.to_string()), "{row:?}");
        assert!(row[4].ends_with(&vtep), "{row:?}");
        assert!(
            row[5].ends_with(",63"),
            "the inner TTL goes down by one: {row:?}"
        );
    }
    let ports = captured.fields("vxlan && ip.src == 192.168.77.1", &["udp.srcport"])?;
    let mut ports: Vec<&str> = ports
        .iter()
        .filter_map(|row| row[0].split(',').next())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert!(
        ports.len() > 3,
        "flows differ in their outer source port: {ports:?}"
    );
    assert_eq!(captured.count("vxlan && arp")?, 0, "ARP stays on its node");

    ours.daemon.must_return_all_frames()?;
    ours.daemon.stop()
}

#[test]
fn l3_node_and_flannel_node() -> Result<()> {
    meets_the_kernel(Mode::L3)
}

#[test]
fn l2_node_and_flannel_node() -> Result<()> {
    meets_the_kernel(Mode::L2)
}
