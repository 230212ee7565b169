//! The user-mode-linux peer against the kernel alone: what these tests prove of it, the tests
//! with a Shunt node may rely on.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shunt_api::MacAddr;
use shunt_tests::capture::{Capture, Captured};
use shunt_tests::command::sh;
use shunt_tests::flannel::{FlannelNode, PORT, VNI};
use shunt_tests::netns::{Netns, list};
use shunt_tests::node::Node;
use shunt_tests::probe::must_ping;
use shunt_tests::testbed::Testbed;
use shunt_tests::uml::{Overlay, UmlPeer, UmlPeerConfig};
use shunt_tests::wire::Wire;

fn fetch_blob(from: &Netns, peer: &UmlPeer) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("copy");
    let copy = copy.to_str().context("temporary folder")?;
    let url = format!("http://{}/blob", peer.pod());
    from.run(&["curl", "-sSf", "--max-time", "20", "-o", copy, &url])?;
    assert!(std::fs::read(copy)? == UmlPeer::blob(), "bytes differ");
    Ok(())
}

/// Every packet is well-formed and its checksums are right.
fn must_be_sound(captured: &Captured) -> Result<()> {
    let warnings = captured.warnings_among("!(tcp.checksum == 0xffff)")?;
    assert!(
        warnings.is_empty(),
        "{} warnings, the first: {:?}",
        warnings.len(),
        warnings.first()
    );
    Ok(())
}

#[test]
fn ipip_leaves_as_protocol_4_between_the_nodes() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let node = Node::new(Netns::new("node1")?, &wire, 1)?;
    let peer = UmlPeer::boot(
        Netns::new("uml2")?,
        &wire,
        UmlPeerConfig::new(2, 1, Overlay::Ipip)?,
    )?;

    let capture = Capture::start(&wire.netns, "p1", "")?;
    must_ping(&node.netns, peer.address(), 3, "-s 1472 -M do")?;
    // This node's kernel takes no IPIP, so nobody answers; the wire shows what was asked.
    peer.must_not_ping(node.pod_address(1), 2)?;
    let captured = capture.stop()?;

    must_be_sound(&captured)?;
    let rows = captured.fields(
        "icmp.type == 8",
        &["ip.src", "ip.dst", "ip.proto", "ip.ttl"],
    )?;
    let plain: Vec<_> = rows.iter().filter(|row| row[2] == "1").collect();
    let tunnelled: Vec<_> = rows.iter().filter(|row| row[2] == "4,1").collect();
    assert_eq!((plain.len(), tunnelled.len()), (3, 2), "{rows:?}");
    assert_eq!(
        tunnelled[0][..2],
        ["192.168.77.2,10.244.2.11", "192.168.77.1,10.244.1.11"]
    );
    Ok(())
}

#[test]
fn vxlan_reaches_a_flannel_node_of_this_kernel() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let one = FlannelNode::new(Netns::new("node1")?, &wire, 1)?;
    let mac = MacAddr([0x02, 0x53, 0, 0, 0, 2]);
    let overlay = Overlay::Vxlan {
        vni: VNI,
        port: PORT,
        mac,
        remote_mac: one.vtep_mac,
    };
    let peer = UmlPeer::boot(
        Netns::new("uml2")?,
        &wire,
        UmlPeerConfig::new(2, 1, overlay)?,
    )?;
    one.peer(2, mac)?;
    let a1 = one.pod(Netns::new("a1")?, 1, 1450)?;

    let capture = Capture::start(&wire.netns, "p1", "udp port 8472")?;
    must_ping(&a1.netns, peer.pod(), 5, "-s 1422 -M do")?;
    peer.must_ping(a1.address, 5, 1422)?;
    fetch_blob(&a1.netns, &peer)?;
    let captured = capture.stop()?;
    must_be_sound(&captured)?;
    let replies = captured.fields("icmp.type == 0", &["ip.src", "ip.dst", "vxlan.vni"])?;
    assert_eq!(replies.len(), 10);
    assert_eq!(
        replies[0],
        ["192.168.77.2,10.244.2.11", "192.168.77.1,10.244.1.11", "1"]
    );
    Ok(())
}

#[test]
fn two_peers_speak_ipip_with_each_other() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let one = UmlPeer::boot(
        Netns::new("uml1")?,
        &wire,
        UmlPeerConfig::new(1, 2, Overlay::Ipip)?,
    )?;
    let two = UmlPeer::boot(
        Netns::new("uml2")?,
        &wire,
        UmlPeerConfig::new(2, 1, Overlay::Ipip)?,
    )?;

    let capture = Capture::start(&wire.netns, "p1", "ip proto 4")?;
    one.must_ping(two.pod(), 3, 1452)?;
    two.must_ping(one.pod(), 3, 56)?;
    let blob = one.fetch(&format!("http://{}/blob", two.pod()))?;
    assert!(blob == UmlPeer::blob(), "bytes differ");
    let captured = capture.stop()?;
    must_be_sound(&captured)?;
    assert_eq!(captured.count("icmp")?, 12);
    assert!(captured.count("tcp.len > 0")? > 0);
    // Segmented before the wire.
    assert_eq!(captured.count("frame.len > 1514")?, 0);
    Ok(())
}

#[test]
fn commands_report_their_status_and_are_limited() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let peer = UmlPeer::boot(
        Netns::new("uml2")?,
        &wire,
        UmlPeerConfig::new(2, 1, Overlay::Direct)?,
    )?;
    let output = peer.run("echo out; echo err >&2; exit 7")?;
    assert_eq!((output.status, output.text()), (7, "out\n".to_owned()));
    assert_eq!(output.stderr, "err\n");
    assert_eq!(
        peer.run_for("sleep 60", Duration::from_secs(1))?.status,
        137
    );
    // The line is in step again after a command that was killed.
    assert_eq!(peer.must("echo again")?, "again\n");
    let error = peer.must("ip link set nothing up").unwrap_err().to_string();
    assert!(error.contains("Cannot find device"), "{error}");
    // As long as a command may be, and an answer longer than any buffer on its way.
    let long = "x".repeat(2900);
    assert_eq!(peer.must(&format!("echo {long}"))?.len(), 2901);
    assert_eq!(peer.run("cat /www/blob /www/blob")?.stdout.len(), 2 << 20);
    assert!(peer.run(&"x".repeat(3001)).is_err());
    assert!(
        peer.must("ip route show table all")?
            .contains("10.244.1.0/24 via 192.168.77.1")
    );
    Ok(())
}

#[test]
fn nothing_of_a_peer_is_left() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let config = UmlPeerConfig::new(2, 1, Overlay::Ipip)?;
    let peer = UmlPeer::boot(Netns::new("uml2")?, &wire, config.clone())?;
    let name = peer.netns().name().to_owned();
    let pids = sh(&format!("ip netns pids {name}"))?;
    assert!(pids.split_whitespace().count() > 1, "{pids}");
    let begin = Instant::now();
    drop(peer);
    // It halted by itself, it was not killed after five seconds.
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(!list("sh-")?.contains(&name));
    for pid in pids.split_whitespace() {
        assert!(!Path::new(&format!("/proc/{pid}/ns/net")).exists());
    }
    // Its number is free again; one that cannot start leaves nothing either.
    let peer = UmlPeer::boot(Netns::new("uml2")?, &wire, config.clone())?;
    let error = UmlPeer::boot(Netns::new("uml2")?, &wire, config).unwrap_err();
    assert!(format!("{error:#}").contains("p2"), "{error:#}");
    peer.must("true")?;
    Ok(())
}
