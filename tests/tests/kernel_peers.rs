//! The topology library against the kernel alone: what these tests prove of two kernel nodes,
//! the other tests may rely on when one of the nodes is Shunt's.

use std::time::Duration;

use anyhow::Result;
use shunt_tests::capture::Capture;
use shunt_tests::command::sh;
use shunt_tests::flannel::FlannelNode;
use shunt_tests::netns::{Netns, list};
use shunt_tests::probe::{must_http, must_not_ping, must_ping, must_tcp, must_udp};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

#[test]
fn two_flannel_nodes_reach_each_other() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let one = FlannelNode::new(Netns::new("node1")?, &wire, 1)?;
    let two = FlannelNode::new(Netns::new("node2")?, &wire, 2)?;
    one.peer(2, two.vtep_mac)?;
    two.peer(1, one.vtep_mac)?;
    let a1 = one.pod(Netns::new("a1")?, 1, 1450)?;
    let b1 = two.pod(Netns::new("b1")?, 1, 1450)?;

    let capture = Capture::start(&wire.netns, "p1", "udp port 8472")?;
    must_ping(&a1.netns, b1.address, 5, "")?;
    must_ping(&b1.netns, a1.address, 5, "-s 1422 -M do")?;
    must_udp(&a1, &b1, &[0, 1, 1000, 1422])?;
    must_http(&a1, &b1)?;
    must_tcp(&a1, &b1)?;
    must_tcp(&b1, &a1)?;
    let captured = capture.stop()?;
    let warnings = captured.warnings_among("!(tcp.checksum == 0xffff)")?;
    assert_eq!(warnings, Vec::<String>::new());
    let rows = captured.fields("icmp", &["ip.src", "ip.dst", "vxlan.vni"])?;
    assert_eq!(rows.len(), 20);
    assert_eq!(
        rows[0],
        ["192.168.77.1,10.244.1.11", "192.168.77.2,10.244.2.11", "1"]
    );

    two.node.netns.ip("link set flannel.1 down")?;
    must_not_ping(&a1.netns, b1.address, 2, "")?;
    Ok(())
}

#[test]
fn namespaces_and_processes_go_with_their_handle() -> Result<()> {
    let netns = Netns::new("gone")?;
    let name = netns.name().to_owned();
    // Started outside of any handle, as a runaway of a test would be.
    netns.run(&["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo"])?;
    let pids = sh(&format!("ip netns pids {name}"))?;
    assert_eq!(pids.split_whitespace().count(), 1, "{pids}");
    let panicked = std::thread::spawn(move || {
        let _held = netns;
        panic!("a test fails");
    })
    .join();
    assert!(panicked.is_err());
    assert!(!list("sh-")?.contains(&name));
    let pid = pids.trim();
    assert!(!std::path::Path::new(&format!("/proc/{pid}/ns/net")).exists());
    Ok(())
}

#[test]
fn a_background_process_ends_with_its_handle() -> Result<()> {
    let netns = Netns::new("proc")?;
    let mut process = netns.start(&["sh", "-c", "echo up; exec sleep 600"])?;
    process.wait_output(Duration::from_secs(5), |text| text.contains("up"))?;
    let pid = process.pid();
    assert_eq!(
        sh(&format!("ip netns pids {}", netns.name()))?.trim(),
        pid.to_string()
    );
    drop(process);
    assert_eq!(sh(&format!("ip netns pids {}", netns.name()))?.trim(), "");
    let mut failing = netns.start(&["sh", "-c", "echo broken >&2; exit 3"])?;
    let error = failing
        .wait_output(Duration::from_secs(5), |_| false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("broken") && error.contains("exit status: 3"),
        "{error}"
    );
    Ok(())
}
