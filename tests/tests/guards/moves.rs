//! Virtual addresses that move between the pods that are allowed to have them.

use std::net::{IpAddr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use shunt_api::{Encap, MacAddr, NeighbourEntry, PortSpec};
use shunt_tests::balance::drops_between;
use shunt_tests::capture::Capture;
use shunt_tests::daemon::Daemon;
use shunt_tests::family::Family;
use shunt_tests::frames::{BROADCAST, ethernet, inject};
use shunt_tests::lone::{Lone, plain};
use shunt_tests::packets::{ALL_NODES, ARP, IPV6, advertisement, arp, group_mac6, packet_icmpv6};
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::probe::{must_ping, ping};
use shunt_tests::refusal::received;
use shunt_tests::testbed::Testbed;

/// The virtual addresses: in L2 mode of the pods' subnets.
fn virtual_addresses(mode: Mode) -> Result<[IpAddr; 2]> {
    let texts = match mode {
        Mode::L3 => ["10.9.0.1", "fd09::1"],
        Mode::L2 => ["10.244.1.100", "fd00:10:244:1::100"],
    };
    Ok([texts[0].parse()?, texts[1].parse()?])
}

fn with_length(mode: Mode, address: IpAddr) -> String {
    let length = match (mode, address) {
        (Mode::L3, IpAddr::V4(_)) => 32,
        (Mode::L2, IpAddr::V4(_)) => 24,
        (_, IpAddr::V6(_)) => 128,
    };
    format!("{address}/{length}")
}

/// Gives a pod the address, or takes it away.
fn set(pod: &Pod, mode: Mode, address: IpAddr, has: bool) -> Result<()> {
    let address_of = with_length(mode, address);
    let words = match (has, address) {
        (true, IpAddr::V6(_)) => format!("address add {address_of} dev eth0 nodad"),
        (true, IpAddr::V4(_)) => format!("address add {address_of} dev eth0"),
        (false, _) => format!("address del {address_of} dev eth0"),
    };
    pod.netns.ip(&words)?;
    Ok(())
}

/// Says that the pod has the address now: gratuitous ARP (arping(8)), or an unsolicited neighbour
/// advertisement.
fn announce(pod: &Pod, address: IpAddr) -> Result<()> {
    match address {
        IpAddr::V4(v4) => {
            let line = format!("arping -U -c 1 -w 1 -I eth0 {v4} || true");
            pod.netns.run(&["sh", "-c", &line])?;
        }
        IpAddr::V6(v6) => {
            let source: Ipv6Addr = pod.address6.context("no IPv6 address")?;
            let message = advertisement(v6, Some(pod.mac()?));
            let packet = packet_icmpv6(source, ALL_NODES, 255, message);
            let frame = ethernet(pod.mac()?, group_mac6(ALL_NODES), IPV6, &packet);
            inject(&pod.netns, "eth0", &[frame])?;
        }
    }
    Ok(())
}

fn holder(daemon: &Daemon, address: IpAddr) -> Result<Option<NeighbourEntry>> {
    let mut entries = daemon.neighbours()?.into_iter();
    Ok(entries.find(|entry| entry.address == address))
}

fn must_be_at(daemon: &Daemon, address: IpAddr, port: &str, mac: MacAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let entry = holder(daemon, address)?;
        if let Some(entry) = &entry
            && entry.port == port
            && entry.mac == Some(mac)
        {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{address} is not at {port} {mac}: {entry:?}"
        );
        sleep(Duration::from_millis(10));
    }
}

/// What the pod was refused as somebody else.
fn spoofs(daemon: &Daemon, name: &str) -> Result<u64> {
    let stats = daemon.stats()?;
    let port = stats.ports.iter().find(|port| port.name == name);
    let drops = &port.with_context(|| format!("no port {name}"))?.drops;
    let reasons = ["spoofed_arp", "spoofed_ndp", "spoofed_source"];
    Ok(reasons.iter().filter_map(|reason| drops.get(*reason)).sum())
}

fn address_moves(mode: Mode) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let addresses = virtual_addresses(mode)?;
    let allow = |spec: &mut PortSpec| spec.allowed_addresses = addresses.map(IpNet::from).to_vec();
    let lone = Lone::new(mode, Encap::Vxlan, "", &[&allow, &allow, &plain, &plain])?;
    let [a1, a2, a3, a4] = &lone.site.pods[..] else {
        anyhow::bail!("four pods")
    };
    let daemon = lone.daemon();
    for address in addresses {
        ensure!(
            holder(daemon, address)?.is_none(),
            "{address} is somebody's"
        );
        for (old, new) in [(None, a1), (Some(a1), a2), (Some(a2), a1), (Some(a1), a2)] {
            if let Some(old) = old {
                set(old, mode, address, false)?;
            }
            set(new, mode, address, true)?;
            announce(new, address)?;
            must_be_at(daemon, address, &new.name, new.mac()?)?;
            for from in [a3, a4] {
                must_ping(&from.netns, address, 2, "")
                    .with_context(|| format!("{address} at {}", new.name))?;
            }
            // The holder speaks by it, too.
            must_ping(
                &new.netns,
                a4.address_of(Family::of(address))?,
                2,
                &format!("-I {address}"),
            )?;
        }
        // The third has it without being allowed to.
        set(a3, mode, address, true)?;
        let capture = Capture::start_inbound(&a3.netns, "eth0", "icmp or icmp6")?;
        let before = spoofs(daemon, "a3")?;
        announce(a3, address)?;
        let to = a4.address_of(Family::of(address))?;
        let seen = ping(&a3.netns, to, 2, &format!("-I {address}"))?;
        ensure!(seen.received == 0, "{address} speaks at a3");
        must_ping(&a4.netns, address, 5, "")?;
        must_be_at(daemon, address, "a2", a2.mac()?)?;
        let refused = spoofs(daemon, "a3")? - before;
        ensure!(refused >= 2, "{refused} frames of a3's refused");
        let stolen = capture
            .stop()?
            .count("icmp.type == 8 || icmpv6.type == 128")?;
        ensure!(stolen == 0, "{stolen} requests to {address} came to a3");
        set(a3, mode, address, false)?;
    }
    daemon.must_return_all_frames()?;
    Ok(())
}

#[test]
fn an_allowed_address_moves_in_l3_mode() -> Result<()> {
    address_moves(Mode::L3)
}

#[test]
fn an_allowed_address_moves_in_l2_mode() -> Result<()> {
    address_moves(Mode::L2)
}

/// A virtual router (RFC 5798, 7.3) takes its MAC address along.
fn router_moves(mode: Mode) -> Result<()> {
    const ROUTER: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 7]);
    let _testbed = Testbed::acquire()?;
    let [address, _] = virtual_addresses(mode)?;
    let IpAddr::V4(v4) = address else {
        anyhow::bail!("IPv4 first")
    };
    let allow = |spec: &mut PortSpec| {
        spec.allowed_addresses = vec![address.into()];
        spec.allowed_macs = vec![ROUTER];
    };
    let lone = Lone::new(mode, Encap::Vxlan, "", &[&allow, &allow, &plain, &plain])?;
    let (a1, a2, a3, a4) = (lone.pod(0), lone.pod(1), lone.pod(2), lone.pod(3));
    let frame = ethernet(
        ROUTER,
        BROADCAST,
        ARP,
        &arp(1, (ROUTER, v4), (MacAddr([0; 6]), v4)),
    );
    for (new, old) in [(a1, a2), (a2, a1), (a1, a2)] {
        inject(&new.netns, "eth0", std::slice::from_ref(&frame))?;
        must_be_at(lone.daemon(), address, &new.name, ROUTER)?;
        let filter = format!("ether dst {ROUTER}");
        let there = Capture::start_inbound(&new.netns, "eth0", &filter)?;
        let elsewhere = Capture::start_inbound(&old.netns, "eth0", &filter)?;
        // In L2 mode the asker needs an answer to his ARP, which nobody gives here.
        if mode == Mode::L2 {
            a4.netns
                .ip(&format!("neigh replace {v4} lladdr {ROUTER} dev eth0"))?;
        }
        ping(&a4.netns, address, 3, "")?;
        let (there, elsewhere) = (there.stop()?.count("icmp")?, elsewhere.stop()?.count("")?);
        ensure!(there == 3 && elsewhere == 0, "{there} and {elsewhere}");
    }
    let before = lone.daemon().stats()?;
    inject(&a3.netns, "eth0", &[frame])?;
    let after = received(lone.daemon(), &before, 1)?;
    let drops = drops_between(&before, &after);
    ensure!(drops.contains_key("spoofed_mac"), "{drops:?}");
    must_be_at(lone.daemon(), address, "a1", ROUTER)?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

#[test]
fn a_virtual_router_moves_in_l3_mode() -> Result<()> {
    router_moves(Mode::L3)
}

#[test]
fn a_virtual_router_moves_in_l2_mode() -> Result<()> {
    router_moves(Mode::L2)
}
