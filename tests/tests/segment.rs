//! L2 mode: what an Ethernet switch owes its segment.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shunt_api::{Encap, MacAddr, PortSpec};
use shunt_tests::balance::drops_between;
use shunt_tests::capture::Capture;
use shunt_tests::cluster::{Site, Spec};
use shunt_tests::config::Config;
use shunt_tests::daemon::Daemon;
use shunt_tests::frames::{BROADCAST, ethernet, inject};
use shunt_tests::netns::Netns;
use shunt_tests::node::Node;
use shunt_tests::pod::Mode;
use shunt_tests::probe::{must_ping, must_tcp};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

/// Local experimental EtherType 1 (IEEE 802): nobody's protocol, so that only ports count.
const ETHERTYPE: u16 = 0x88b5;
const STATION: MacAddr = MacAddr([0x02, 0xaa, 0, 0, 0, 1]);
const NOBODY: MacAddr = MacAddr([0x02, 0xbb, 0, 0, 0, 1]);

/// A node with three pods, without guards: the tests' frames come from many stations. With
/// `announce` the pods' MAC addresses are told at attachment; without, the switch has to learn them.
fn segment(announce: bool, extra: &str) -> Result<(Site, Wire)> {
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let node = Node::new(Netns::new("node1")?, &wire, 1)?;
    let config = Config {
        uplink: false,
        extra: extra.to_owned(),
        ..Config::new(Mode::L2, 0)
    };
    let spec = Spec {
        pods: 0,
        ..Spec::new(Mode::L2, Encap::Direct)
    };
    let mut site = Site::new(node, &spec, &config, Netns::new)?;
    for number in 1..=3 {
        let netns = Netns::new(&site.node.pod_name(number))?;
        let pod = site.node.pod(netns, number, Mode::L2, 1500)?;
        let mut spec = PortSpec {
            unguarded: true,
            ..Daemon::veth_port(&pod)?
        };
        if !announce {
            spec.mac = None;
            spec.addresses.clear();
        }
        site.daemon.port_add(spec)?;
        site.pods.push(pod);
    }
    Ok((site, wire))
}

/// The port behind which the switch knows a station.
fn port_of(daemon: &Daemon, mac: MacAddr) -> Result<Option<String>> {
    Ok(daemon
        .fdb()?
        .into_iter()
        .find(|entry| entry.mac == mac)
        .map(|entry| entry.port))
}

/// Waits until the MAC table says `expected` of a station.
fn wait_for(daemon: &Daemon, mac: MacAddr, expected: Option<&str>, patience: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(patience);
    loop {
        let port = port_of(daemon, mac)?;
        if port.as_deref() == expected {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{mac} is behind {port:?}, not {expected:?}"
        );
        sleep(Duration::from_millis(20));
    }
}

/// Counts the frames of our EtherType that reach each pod while `act` runs.
fn heard(site: &Site, act: impl FnOnce() -> Result<()>) -> Result<Vec<usize>> {
    let filter = format!("ether proto {ETHERTYPE}");
    let captures: Vec<Capture> = site
        .pods
        .iter()
        .map(|pod| Capture::start_inbound(&pod.netns, "eth0", &filter))
        .collect::<Result<_>>()?;
    act()?;
    captures
        .into_iter()
        .map(|capture| capture.stop()?.count(""))
        .collect()
}

fn frame(source: MacAddr, destination: MacAddr) -> Vec<u8> {
    ethernet(source, destination, ETHERTYPE, &[0x55; 64])
}

#[test]
fn broadcast_and_unknown_unicast_reach_everyone_else() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, _wire) = segment(true, "")?;
    let a1 = &site.pods[0];
    let before = site.daemon.stats()?;
    let group = MacAddr([0x01, 0, 0x5e, 0x7f, 0, 1]);
    for destination in [BROADCAST, NOBODY, group] {
        let frames = vec![frame(a1.mac()?, destination); 5];
        let counts = heard(&site, || inject(&a1.netns, "eth0", &frames))?;
        assert_eq!(counts, [0, 5, 5], "to {destination}");
    }
    let after = site.daemon.stats()?;
    // One of the two copies is the frame itself.
    assert_eq!(after.received - before.received, 15);
    assert_eq!(after.generated - before.generated, 15);
    assert_eq!(after.transmitted - before.transmitted, 30);
    assert_eq!(drops_between(&before, &after).len(), 0, "{:?}", after.drops);
    site.daemon.must_return_all_frames()?;
    Ok(())
}

#[test]
fn known_unicast_reaches_its_station_only() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, _wire) = segment(false, "")?;
    let (a1, a2) = (&site.pods[0], &site.pods[1]);
    // Nobody told the switch where anybody is: ARP floods, the answer teaches.
    must_ping(&a1.netns, a2.address, 3, "")?;
    must_tcp(a1, a2)?;
    wait_for(&site.daemon, a1.mac()?, Some(&a1.name), 2)?;
    wait_for(&site.daemon, a2.mac()?, Some(&a2.name), 2)?;
    let frames = vec![frame(a1.mac()?, a2.mac()?); 5];
    assert_eq!(
        heard(&site, || inject(&a1.netns, "eth0", &frames))?,
        [0, 5, 0]
    );
    // A frame to a station behind the port it came from goes nowhere.
    let before = site.daemon.stats()?;
    inject(&a1.netns, "eth0", &[frame(STATION, BROADCAST)])?;
    wait_for(&site.daemon, STATION, Some(&a1.name), 2)?;
    let frames = vec![frame(a1.mac()?, STATION); 3];
    assert_eq!(
        heard(&site, || inject(&a1.netns, "eth0", &frames))?,
        [0, 0, 0]
    );
    let drops = drops_between(&before, &site.daemon.stats()?);
    assert_eq!(
        drops.into_iter().collect::<Vec<_>>(),
        [("same_port".to_owned(), 3)]
    );
    site.daemon.must_return_all_frames()?;
    Ok(())
}

#[test]
fn a_station_moves_and_ages() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, _wire) = segment(true, "[l2]\nageing = 10")?;
    let [a1, a2, a3] = &site.pods[..] else {
        anyhow::bail!("three pods")
    };
    inject(&a1.netns, "eth0", &[frame(STATION, BROADCAST)])?;
    wait_for(&site.daemon, STATION, Some(&a1.name), 2)?;
    inject(&a2.netns, "eth0", &[frame(STATION, BROADCAST)])?;
    wait_for(&site.daemon, STATION, Some(&a2.name), 2)?;
    let moved = Instant::now();
    let frames = vec![frame(a3.mac()?, STATION); 4];
    assert_eq!(
        heard(&site, || inject(&a3.netns, "eth0", &frames))?,
        [0, 4, 0]
    );
    // IEEE 802.1Q, 8.8.3: an entry not refreshed for the ageing time goes; static ones stay.
    wait_for(&site.daemon, STATION, None, 25)?;
    let lived = moved.elapsed();
    assert!(lived > Duration::from_secs(9), "gone after {lived:?}");
    assert_eq!(
        heard(&site, || inject(&a3.netns, "eth0", &frames))?,
        [4, 4, 0]
    );
    assert_eq!(
        port_of(&site.daemon, a1.mac()?)?.as_deref(),
        Some(a1.name.as_str())
    );
    site.daemon.must_return_all_frames()?;
    Ok(())
}

#[test]
fn a_port_fills_its_share_of_the_mac_table_only() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, _wire) = segment(true, "[l2]\nmax_macs_per_port = 8")?;
    let [a1, a2, a3] = &site.pods[..] else {
        anyhow::bail!("three pods")
    };
    let before = site.daemon.stats()?;
    for number in 0..64 {
        let source = MacAddr([0x02, 0xcc, 0, 0, 0, number]);
        inject(&a1.netns, "eth0", &[frame(source, BROADCAST)])?;
        sleep(Duration::from_millis(2));
    }
    sleep(Duration::from_millis(200));
    let behind = site
        .daemon
        .fdb()?
        .into_iter()
        .filter(|entry| entry.port == a1.name)
        .count();
    assert!(behind <= 8, "{behind} stations behind {}", a1.name);
    let after = site.daemon.stats()?;
    let drops = drops_between(&before, &after);
    let limited = drops
        .get("fdb_limit")
        .copied()
        .context("no frame met the limit")?;
    assert!(limited >= 32, "{drops:?}");
    // The others, and the pod's own station, are as before.
    for (from, to) in [(a1, a2), (a2, a3), (a3, a1)] {
        must_ping(&from.netns, to.address, 3, "")?;
    }
    site.daemon.must_return_all_frames()?;
    Ok(())
}
