//! What the underlay says of its own paths, in truth or not.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use shunt_api::{Encap, RouteInfo, RouteTarget};
use shunt_tests::cluster::Spec;
use shunt_tests::daemon::{Daemon, shunt};
use shunt_tests::family::Family;
use shunt_tests::frames::{ethernet, ethernet_ipv4, inject, ipv4, udp};
use shunt_tests::hops::ping_words;
use shunt_tests::node::{pod_cidr, pod_cidr6, underlay_address, underlay_address6};
use shunt_tests::pod::{Mode, mac_of};
use shunt_tests::probe::must_ping;
use shunt_tests::routed::Routed;
use shunt_tests::testbed::Testbed;

use crate::{add_pod, echo_headers, ends, learned, must_carry, must_take};

/// The MTU of the routes to node 2's pods on node 1, IPv4 first.
fn route_mtus(daemon: &Daemon) -> Result<Vec<Option<u32>>> {
    let routes = daemon.routes()?;
    [IpNet::from(pod_cidr(2)?), pod_cidr6(2)?.into()]
        .iter()
        .map(|prefix| {
            let found = routes.iter().find(|route| route.prefix == *prefix);
            Ok(found.with_context(|| format!("route to {prefix}"))?.mtu)
        })
        .collect()
}

/// Nodes behind routers, 1400 bytes between these, with routes to each other's pods.
fn behind_routers(encap: Encap, underlay: Family) -> Result<Routed> {
    let spec = Spec {
        pods: 0,
        dual: true,
        underlay,
        host: Some(String::new()),
        ..Spec::new(Mode::L3, encap)
    };
    let mut routed = Routed::build(&spec, 1400)?;
    for site in &mut routed.sites {
        add_pod(site, 1, 1500)?;
    }
    let [one, two] = &routed.sites[..] else {
        bail!("two nodes");
    };
    for (site, peer) in [(one, two), (two, one)] {
        let vtep_mac = match encap {
            Encap::Vxlan => Some(peer.daemon.status()?.vtep_mac),
            _ => None,
        };
        let index = peer.node.index;
        let via = peer.node.underlay(underlay);
        // The daemon knows the way to the node by the address in `via`, not by its other one.
        let other = match underlay {
            Family::V4 => peer.node.underlay(Family::V6),
            Family::V6 => peer.node.underlay(Family::V4),
        };
        for prefix in [
            IpNet::from(pod_cidr(index)?),
            pod_cidr6(index)?.into(),
            other.into(),
        ] {
            let to = RouteTarget::Node {
                via,
                encap,
                vtep_mac,
            };
            site.daemon.route_add(prefix, to)?;
        }
    }
    Ok(routed)
}

/// A router on the underlay says what the path takes: the switch tells the pods.
fn narrow_underlay(encap: Encap, underlay: Family, first: u32) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let routed = behind_routers(encap, underlay)?;
    let [(one, a1), (two, b1)] = ends(&routed.sites)?;
    must_ping(&a1.netns, b1.address, 3, "")?;
    let before = route_mtus(&one.daemon)?;
    ensure!(before == [Some(first); 2], "{before:?}");
    // Node 2 finds out by TCP, which sends again what was lost and is told then.
    let (a, b) = (a1.address_of(Family::V6)?, b1.address_of(Family::V6)?);
    must_carry((&b1.netns, b), (&a1.netns, a))?;
    let routes = two.daemon.routes()?;
    let found = |route: &RouteInfo| {
        route.prefix == IpNet::from(one.node.pod_cidr) && route.mtu == Some(first - 100)
    };
    ensure!(routes.iter().any(found), "{routes:?}");
    ensure!(
        learned(b1, a)? == Some(first - 100),
        "{:?}",
        learned(b1, a)?
    );
    // Node 1 by a ping: the first one that is too big is lost on the way.
    let narrow = first - 100;
    let size = first - echo_headers(Family::V4);
    let seen = ping_words(
        &a1.netns,
        &format!("-c 1 -W 1 -M do -s {size} {}", b1.address),
    )?;
    ensure!(seen.replies == 0 && seen.errors.is_empty(), "{}", seen.text);
    must_become(&one.daemon, narrow)?;
    let socket = one.daemon.socket().to_str().context("socket's path")?;
    let (status, text) = shunt(&one.node.netns, &["--socket", socket, "route", "list"])?;
    let prefix = pod_cidr(2)?.to_string();
    let shown = text.lines().any(|line| {
        line.starts_with(&prefix)
            && line
                .split_whitespace()
                .any(|word| word == narrow.to_string())
    });
    ensure!(status.success() && shown, "{text}");
    for family in Family::ALL {
        let (a, b) = (a1.address_of(family)?, b1.address_of(family)?);
        must_take(one, a1, b, narrow)?;
        must_carry((&a1.netns, a), (&b1.netns, b))?;
        must_carry((&b1.netns, b), (&a1.netns, a))?;
        // Nodes are told as pods are.
        let node = (&one.node.netns, one.node.underlay(family));
        must_carry(node, (&b1.netns, b))?;
        must_carry((&b1.netns, b), node)?;
        let largest = narrow - echo_headers(family);
        must_ping(node.0, b, 2, &format!("-M do -s {largest}"))?;
    }
    for site in &routed.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

#[test]
fn the_underlay_tells_of_a_narrow_path_for_vxlan() -> Result<()> {
    narrow_underlay(Encap::Vxlan, Family::V4, 1450)
}

#[test]
fn the_underlay_tells_of_a_narrow_path_for_vxlan_over_ipv6() -> Result<()> {
    narrow_underlay(Encap::Vxlan, Family::V6, 1430)
}

#[test]
fn the_underlay_tells_of_a_narrow_path_for_ipip() -> Result<()> {
    narrow_underlay(Encap::Ipip, Family::V4, 1480)
}

#[test]
fn the_underlay_tells_of_a_narrow_path_for_ipip_over_ipv6() -> Result<()> {
    narrow_underlay(Encap::Ipip, Family::V6, 1460)
}

/// Waits until the routes to node 2's pods take this much.
fn must_become(daemon: &Daemon, mtu: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let mtus = route_mtus(daemon)?;
        if mtus == [Some(mtu); 2] {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{mtus:?} instead of {mtu}");
        sleep(Duration::from_millis(20));
    }
}

/// The node's own link, and what its kernel says of a route, are followed while they change.
#[test]
fn the_nodes_own_mtus_are_followed() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let routed = behind_routers(Encap::Vxlan, Family::V4)?;
    let [(one, a1), (_, b1)] = ends(&routed.sites)?;
    must_ping(&a1.netns, b1.address, 3, "")?;
    let (netns, node2) = (&one.node.netns, underlay_address(2));
    let via = "via 192.168.77.101 dev eth0";
    must_become(&one.daemon, 1450)?;
    netns.ip(&format!("route add {node2}/32 {via} mtu 1390"))?;
    must_become(&one.daemon, 1340)?;
    must_take(one, a1, b1.address.into(), 1340)?;
    netns.ip(&format!("route del {node2}/32 {via}"))?;
    must_become(&one.daemon, 1450)?;
    netns.ip("link set eth0 mtu 1380")?;
    must_become(&one.daemon, 1330)?;
    for to in b1.addresses() {
        a1.netns.ip("route flush cache")?;
        must_take(one, a1, to, 1330)?;
    }
    netns.ip("link set eth0 mtu 1500")?;
    must_become(&one.daemon, 1450)?;
    for site in &routed.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).unwrap_or_default()).to_be_bytes()
}

/// Fragmentation needed (RFC 1191, 4), about `quoted`, from router 1 to node 1.
fn frag_needed(mtu: u16, quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&quoted[..quoted.len().min(28)]);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    ipv4(
        Ipv4Addr::new(192, 168, 77, 101),
        underlay_address(1),
        1,
        64,
        &message,
    )
}

/// Messages about packets that the switch has not sent, or that no router sends, are not believed.
#[test]
fn forged_messages_change_nothing() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let routed = behind_routers(Encap::Vxlan, Family::V4)?;
    let [(one, a1), (_, b1)] = ends(&routed.sites)?;
    must_ping(&a1.netns, b1.address, 3, "")?;
    let router = &routed.routers[0];
    let (from, to) = (mac_of(router, "near")?, mac_of(&one.node.netns, "eth0")?);
    let (node1, node2) = (underlay_address(1), underlay_address(2));
    let vxlan =
        |source, destination, port| udp((source, 50_000), (destination, port), 64, &[0; 1400]);
    let sent = vxlan(node1, node2, 8472);
    let small = udp((node1, 50_000), (node2, 8472), 64, &[0; 100]);
    let mut broken = frag_needed(1300, &sent);
    broken[22] ^= 0xff;
    let before = one.daemon.routes()?;
    let forged = [
        (
            "another's packet",
            frag_needed(1300, &vxlan(node2, node1, 8472)),
        ),
        (
            "to nobody we know",
            frag_needed(1300, &vxlan(node1, Ipv4Addr::new(192, 168, 77, 9), 8472)),
        ),
        (
            "to a pod",
            frag_needed(1300, &vxlan(node1, b1.address, 8472)),
        ),
        (
            "no tunnel's port",
            frag_needed(1300, &vxlan(node1, node2, 53)),
        ),
        ("it would have fitted", frag_needed(1300, &small)),
        ("10 bytes", frag_needed(10, &sent)),
        ("no MTU", frag_needed(0, &sent)),
        ("larger than known", frag_needed(9000, &sent)),
        ("wrong checksum", broken),
        ("too short to tell", frag_needed(1300, &sent[..24])),
    ];
    for (what, packet) in forged {
        inject(router, "near", &[ethernet_ipv4(from, to, &packet)])?;
        sleep(Duration::from_millis(200));
        ensure!(one.daemon.routes()? == before, "{what}");
    }
    // One that is right in all of this is believed.
    let good = ethernet_ipv4(from, to, &frag_needed(1300, &sent));
    inject(router, "near", &[good])?;
    sleep(Duration::from_millis(300));
    // IPv6 cannot use a path with less than 1280.
    let after = route_mtus(&one.daemon)?;
    ensure!(after.first() == Some(&Some(1250)), "{after:?}");
    must_take(one, a1, b1.address.into(), 1250)?;
    for site in &routed.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

/// One message, which anybody can forge who guesses two nodes' addresses, must not end IPv6 between
/// their pods: where less than IPv6's minimum fits (RFC 8200, 5), what does fit still passes.
#[test]
fn a_path_below_the_minimum_carries_small_ipv6_packets() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let routed = behind_routers(Encap::Vxlan, Family::V4)?;
    let [(one, a1), (_, b1)] = ends(&routed.sites)?;
    let b = b1.address_of(Family::V6)?;
    must_ping(&a1.netns, b, 3, "")?;
    let router = &routed.routers[0];
    let (from, to) = (mac_of(router, "near")?, mac_of(&one.node.netns, "eth0")?);
    let sent = udp(
        (underlay_address(1), 50_000),
        (underlay_address(2), 8472),
        64,
        &[0; 1400],
    );
    let message = ethernet_ipv4(from, to, &frag_needed(1300, &sent));
    inject(router, "near", &[message])?;
    sleep(Duration::from_millis(300));
    must_ping(&a1.netns, b1.address, 3, "")?;
    must_ping(&a1.netns, b, 3, "-s 1000")?;
    for site in &routed.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

/// A UDP datagram's start in IPv6 (RFC 8200, 3; RFC 768), as an error quotes it.
fn quoted_v6(source: Ipv6Addr, destination: Ipv6Addr, port: u16) -> Vec<u8> {
    let udp = [
        &50_000u16.to_be_bytes()[..],
        &port.to_be_bytes(),
        &[0; 1404],
    ]
    .concat();
    ipv6(source, destination, 17, &udp)
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or_default();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// Packet too big (RFC 4443, 3.2), about `quoted`, from router 1 to node 1.
fn packet_too_big(mtu: u32, quoted: &[u8]) -> Vec<u8> {
    let (source, destination) = (
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x101),
        underlay_address6(1),
    );
    let mut message = vec![2, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&quoted[..quoted.len().min(200)]);
    // The pseudo-header (RFC 8200, 8.1): the length is less than 65536.
    let mut sum = [source.octets(), destination.octets()].concat();
    sum.extend(
        u32::try_from(message.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    sum.extend([0, 0, 0, 58]);
    sum.extend(&message);
    let sum = checksum(&sum);
    message[2..4].copy_from_slice(&sum);
    ipv6(source, destination, 58, &message)
}

/// The same by ICMPv6.
#[test]
fn forged_messages_change_nothing_over_ipv6() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let routed = behind_routers(Encap::Vxlan, Family::V6)?;
    let [(one, a1), (_, b1)] = ends(&routed.sites)?;
    must_ping(&a1.netns, b1.address, 3, "")?;
    let router = &routed.routers[0];
    let (from, to) = (mac_of(router, "near")?, mac_of(&one.node.netns, "eth0")?);
    let (node1, node2) = (underlay_address6(1), underlay_address6(2));
    let stranger = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 9);
    let sent = quoted_v6(node1, node2, 8472);
    let mut broken = packet_too_big(1350, &sent);
    broken[42] ^= 0xff;
    let send = |packet: &[u8]| inject(router, "near", &[ethernet(from, to, 0x86dd, packet)]);
    let before = one.daemon.routes()?;
    for (what, packet) in [
        (
            "another's packet",
            packet_too_big(1350, &quoted_v6(node2, node1, 8472)),
        ),
        (
            "to nobody we know",
            packet_too_big(1350, &quoted_v6(node1, stranger, 8472)),
        ),
        (
            "no tunnel's port",
            packet_too_big(1350, &quoted_v6(node1, node2, 53)),
        ),
        ("less than any link takes", packet_too_big(1279, &sent)),
        ("larger than known", packet_too_big(9000, &sent)),
        ("wrong checksum", broken),
        ("too short to tell", packet_too_big(1350, &sent[..39])),
    ] {
        send(&packet)?;
        sleep(Duration::from_millis(200));
        ensure!(one.daemon.routes()? == before, "{what}");
    }
    send(&packet_too_big(1350, &sent))?;
    sleep(Duration::from_millis(300));
    let after = route_mtus(&one.daemon)?;
    ensure!(after == [Some(1280); 2], "{after:?}");
    for to in b1.addresses() {
        must_take(one, a1, to, 1280)?;
    }
    for site in &routed.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}
