//! L2 mode: what one port may do to the segment and to the MAC table.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shunt_api::{Encap, MacAddr, PortSpec};
use shunt_tests::balance::drops_between;
use shunt_tests::capture::Capture;
use shunt_tests::daemon::Daemon;
use shunt_tests::frames::{BROADCAST, echo_request, ethernet, ethernet_ipv4, inject, udp, vxlan};
use shunt_tests::lone::{Lone, plain};
use shunt_tests::pod::{Mode, mac_of};
use shunt_tests::probe::{must_ping, must_tcp};
use shunt_tests::refusal::{case, must_be_as_before, received, refused, tables};
use shunt_tests::testbed::Testbed;

use crate::{A2, B1, NODE1, NODE2, TUNNEL_PORT};

/// Local experimental EtherType 1 (IEEE 802).
const ETHERTYPE: u16 = 0x88b5;
const STATION: MacAddr = MacAddr([0x02, 0xaa, 0, 0, 0, 1]);

fn frame(source: MacAddr, destination: MacAddr) -> Vec<u8> {
    ethernet(source, destination, ETHERTYPE, &[0x55; 64])
}

/// A pod whose MAC address is not told at attachment.
fn unnamed(spec: &mut PortSpec) {
    spec.mac = None;
}

fn port_of(daemon: &Daemon, mac: MacAddr) -> Result<Option<String>> {
    let entries = daemon.fdb()?.into_iter();
    let mut of_station = entries.filter(|entry| entry.mac == mac);
    Ok(of_station.next().map(|entry| entry.port))
}

#[test]
fn a_storm_is_limited_at_its_port_alone() -> Result<()> {
    const LIMIT: u64 = 50;
    const SENT: u64 = 300;
    let _testbed = Testbed::acquire()?;
    let extra = format!("[l2]\nstorm_limit = {LIMIT}");
    let lone = Lone::new(Mode::L2, Encap::Vxlan, &extra, &[&plain, &plain, &plain])?;
    let [a1, a2, a3] = &lone.site.pods[..] else {
        anyhow::bail!("three pods")
    };
    for pod in [a2, a3] {
        must_ping(&a1.netns, pod.address, 2, "")?;
        must_ping(&pod.netns, a1.address, 2, "")?;
    }
    lone.settle()?;
    sleep(Duration::from_secs(1));
    let filter = format!("ether proto {ETHERTYPE}");
    for destination in [BROADCAST, STATION, MacAddr([0x01, 0, 0x5e, 0x7f, 0, 1])] {
        let capture = Capture::start_inbound(&a2.netns, "eth0", &filter)?;
        let before = lone.daemon().stats()?;
        let frames = vec![frame(a1.mac()?, destination); SENT as usize];
        let begin = Instant::now();
        inject(&a1.netns, "eth0", &frames)?;
        // Others' budgets are their own, and what is not flooded needs none.
        inject(&a3.netns, "eth0", &vec![frame(a3.mac()?, BROADCAST); 5])?;
        inject(&a1.netns, "eth0", &vec![frame(a1.mac()?, a2.mac()?); 5])?;
        let after = received(lone.daemon(), &before, SENT + 10)?;
        let seconds = begin.elapsed().as_secs() + 1;
        let heard = capture.stop()?.count("")? as u64;
        let drops = drops_between(&before, &after);
        let stopped = drops.get("storm_limit").copied().unwrap_or_default();
        ensure!(drops.len() == 1, "to {destination}: {drops:?}");
        ensure!(
            heard == SENT - stopped + 10,
            "to {destination}: {heard} heard, {stopped} stopped"
        );
        let flooded = SENT - stopped;
        ensure!(
            (LIMIT..=LIMIT * (seconds + 1)).contains(&flooded),
            "to {destination}: {flooded} flooded in {seconds} s"
        );
        sleep(Duration::from_millis(1100));
    }
    must_tcp(a1, a2)?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

#[test]
fn a_port_fills_no_more_than_its_share_of_the_mac_table() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let extra = "[l2]\nmax_macs_per_port = 8";
    let lone = Lone::new(Mode::L2, Encap::Vxlan, extra, &[&unnamed, &plain, &plain])?;
    let (a1, a2, a3) = (lone.pod(0), lone.pod(1), lone.pod(2));
    must_ping(&a1.netns, a2.address, 2, "")?;
    lone.settle()?;
    let before = lone.daemon().stats()?;
    for number in 0..64 {
        let source = MacAddr([0x02, 0xcc, 0, 0, 0, number]);
        inject(&a1.netns, "eth0", &[frame(source, BROADCAST)])?;
        sleep(Duration::from_millis(2));
    }
    let after = received(lone.daemon(), &before, 64)?;
    sleep(Duration::from_millis(100));
    let behind = |name: &str| -> Result<usize> {
        let entries = lone.daemon().fdb()?.into_iter();
        Ok(entries.filter(|entry| entry.port == name).count())
    };
    ensure!(behind("a1")? <= 8, "{} behind a1", behind("a1")?);
    ensure!(
        behind("a2")? == 1 && behind("a3")? == 1,
        "{:?}",
        lone.daemon().fdb()?
    );
    let limited = drops_between(&before, &after).get("fdb_limit").copied();
    ensure!(limited.unwrap_or_default() >= 32, "{:?}", after.drops);
    for (from, to) in [(a1, a2), (a2, a3), (a3, a1)] {
        must_ping(&from.netns, to.address, 2, "")?;
    }
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

#[test]
fn a_mac_address_that_was_given_is_nobody_elses() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let free = |spec: &mut PortSpec| {
        spec.mac = None;
        spec.unguarded = true;
    };
    let pods: [shunt_tests::lone::Edit<'_>; 4] = [&unnamed, &plain, &free, &plain];
    let lone = Lone::new(Mode::L2, Encap::Vxlan, "", &pods)?;
    let (a1, a2, a3, a4) = (lone.pod(0), lone.pod(1), lone.pod(2), lone.pod(3));
    for pod in [a1, a3] {
        must_ping(&pod.netns, a4.address, 2, "")?;
    }
    must_ping(&a4.netns, a2.address, 2, "")?;
    lone.settle()?;
    let victim = a2.mac()?;
    let cases = [
        case("to all", "spoofed_mac", frame(victim, BROADCAST)),
        case("to one", "spoofed_mac", frame(victim, a4.mac()?)),
        case(
            "to the gateway",
            "spoofed_mac",
            ethernet_ipv4(
                victim,
                lone.daemon().status()?.gateway_mac,
                &echo_request(a1.address, A2, 64),
            ),
        ),
    ];
    refused(lone.daemon(), &a1.netns, &cases)?;
    // Nobody stops this one from saying so, but nobody believes it either.
    let state = tables(lone.daemon())?;
    let before = lone.daemon().stats()?;
    inject(&a3.netns, "eth0", &vec![frame(victim, BROADCAST); 20])?;
    received(lone.daemon(), &before, 20)?;
    sleep(Duration::from_millis(100));
    must_be_as_before(lone.daemon(), &state)?;
    must_ping(&a4.netns, a2.address, 3, "")?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

#[test]
fn a_station_that_moves_to_and_fro_stays_where_it_is() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let pods: [shunt_tests::lone::Edit<'_>; 3] = [&unnamed, &unnamed, &plain];
    let lone = Lone::new(Mode::L2, Encap::Vxlan, "", &pods)?;
    let (a1, a2) = (lone.pod(0), lone.pod(1));
    must_ping(&a1.netns, a2.address, 2, "")?;
    let mut moves = 0;
    let mut last = None;
    for _ in 0..10 {
        for pod in [a1, a2] {
            let before = lone.daemon().stats()?;
            inject(&pod.netns, "eth0", &[frame(STATION, BROADCAST)])?;
            received(lone.daemon(), &before, 1)?;
            sleep(Duration::from_millis(20));
            let port = port_of(lone.daemon(), STATION)?;
            if last.is_some() && port != last {
                moves += 1;
            }
            last = port;
        }
    }
    ensure!((1..=6).contains(&moves), "{moves} moves of 19");
    let log = lone.daemon().log();
    let line = log.lines().find(|line| line.contains(&STATION.to_string()));
    let line = line.with_context(|| format!("nothing is said of it: {log}"))?;
    ensure!(line.contains("a1") && line.contains("a2"), "{line}");
    // The pods themselves are as before.
    must_ping(&a1.netns, a2.address, 2, "")?;
    must_tcp(a1, a2)?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

/// A tunnel packet whose inner frame says that it comes from a pod of this node.
#[test]
fn a_local_stations_mac_is_not_learned_from_the_overlay() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = Lone::new(Mode::L2, Encap::Vxlan, "", &[&unnamed, &plain])?;
    let (a1, a2) = (lone.pod(0), lone.pod(1));
    must_ping(&a1.netns, a2.address, 2, "")?;
    must_ping(&a2.netns, a1.address, 2, "")?;
    lone.settle()?;
    let status = lone.daemon().status()?;
    let (from, to) = (
        mac_of(&lone.peer.netns, "eth0")?,
        mac_of(&lone.site.node.netns, "eth0")?,
    );
    let state = tables(lone.daemon())?;
    for source in [a1.mac()?, a2.mac()?, status.gateway_mac, STATION] {
        // Echo replies, which nobody answers.
        let mut packet = echo_request(B1, A2, 64);
        packet[20] = 0;
        packet[22] = packet[22].wrapping_add(8);
        let inner = ethernet_ipv4(source, status.vtep_mac, &packet);
        let outer = udp((NODE2, 50_000), (NODE1, TUNNEL_PORT), 64, &vxlan(1, &inner));
        let before = lone.daemon().stats()?;
        inject(
            &lone.peer.netns,
            "eth0",
            &vec![ethernet_ipv4(from, to, &outer); 5],
        )?;
        let after = received(lone.daemon(), &before, 5)?;
        ensure!(
            drops_between(&before, &after).is_empty(),
            "{source}: {:?}",
            after.drops
        );
        sleep(Duration::from_millis(50));
        must_be_as_before(lone.daemon(), &state)?;
    }
    must_tcp(a1, a2)?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}
