//! Packets that a switch must not forward: each is a drop with a name, and nothing else happens.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shunt_api::{Encap, MacAddr, RouteTarget, StatsReport};
use shunt_tests::balance::drops_between;
use shunt_tests::cluster::{Site, Spec};
use shunt_tests::config::Config;
use shunt_tests::frames::{
    echo_request, ethernet, ethernet_ipv4, fix_checksum, inject, ipv4, udp, vxlan,
};
use shunt_tests::netns::Netns;
use shunt_tests::node::{Node, pod_cidr};
use shunt_tests::pod::{L3_GATEWAY, Mode, mac_of};
use shunt_tests::probe::{must_ping, must_tcp, ping};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

const NODE1: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
const NODE2: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 99);
const A1: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 11);
const A2: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 12);
const B1: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 11);
const OTHER_MAC: MacAddr = MacAddr([0x02, 0xee, 0, 0, 0, 1]);
const TUNNEL_PORT: u16 = 8472;
const IPIP: u8 = 4;
const UDP: u8 = 17;
/// How many times each frame is sent.
const COPIES: u64 = 3;

/// A frame and the reason why it must be dropped.
struct Case {
    what: &'static str,
    frame: Vec<u8>,
    reason: &'static str,
}

fn case(what: &'static str, reason: &'static str, frame: Vec<u8>) -> Case {
    Case {
        what,
        frame,
        reason,
    }
}

/// A Shunt node with two pods, and a node 2 without any switch, from which frames are injected.
fn site(mode: Mode, encap: Encap) -> Result<(Site, Node, Wire)> {
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let node = Node::new(Netns::new("node1")?, &wire, 1)?;
    let site = Site::new(
        node,
        &Spec::new(mode, encap),
        &Config::new(mode, 0),
        Netns::new,
    )?;
    let other = Node::new(Netns::new("node2")?, &wire, 2)?;
    site.route_to(2, encap)?;
    Ok((site, other, wire))
}

/// Proof that the frames of a test are refused for what is wrong with them: one without a fault,
/// sent from `from`, reaches its pod.
fn must_be_delivered(site: &Site, from: &Netns, good: &Vec<u8>) -> Result<()> {
    let before = site.daemon.stats()?;
    inject(from, "eth0", std::slice::from_ref(good))?;
    let after = received(site, &before, 1)?;
    assert!(
        drops_between(&before, &after).is_empty(),
        "{:?}",
        after.drops
    );
    assert!(after.transmitted > before.transmitted);
    // The pod's answer goes back into the tunnel.
    sleep(Duration::from_millis(200));
    Ok(())
}

/// Waits until `count` more frames than `before` were received.
fn received(site: &Site, before: &StatsReport, count: u64) -> Result<StatsReport> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let now = site.daemon.stats()?;
        let new = now.received - before.received;
        if new >= count && now.in_flight == 0 {
            return Ok(now);
        }
        ensure!(
            Instant::now() < deadline,
            "{new} of {count} frames received: {now:?}"
        );
        sleep(Duration::from_millis(5));
    }
}

/// Sends every case from `device` of `netns` and checks what became of it.
fn refused(site: &Site, netns: &Netns, cases: &[Case]) -> Result<()> {
    let mut wrong = Vec::new();
    for case in cases {
        let before = site.daemon.stats()?;
        inject(netns, "eth0", &vec![case.frame.clone(); COPIES as usize])?;
        let after = match received(site, &before, COPIES) {
            Ok(after) => after,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.what));
                continue;
            }
        };
        let drops: Vec<_> = drops_between(&before, &after).into_iter().collect();
        if drops != [(case.reason.to_owned(), COPIES)] {
            wrong.push(format!(
                "{}: {drops:?} instead of {}",
                case.what, case.reason
            ));
        }
        // The sender is told of these (RFC 1812, 4.3.3.1 and 4.3.3.4; RFC 1122, 3.2.2.1), and of
        // nothing else.
        let told = match case.reason {
            "ttl_expired" | "no_route" | "gateway_no_service" => COPIES,
            _ => 0,
        };
        if (
            after.icmp_sent,
            after.transmitted,
            after.generated,
            after.consumed,
        ) != (
            before.icmp_sent + told,
            before.transmitted + told,
            before.generated + told,
            before.consumed,
        ) {
            wrong.push(format!(
                "{}: something else happened: {before:?} {after:?}",
                case.what
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Changes the IPv4 header that begins at `at` and sets its checksum right again.
fn edited(mut frame: Vec<u8>, at: usize, edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    edit(&mut frame[at..]);
    fix_checksum(&mut frame[at..]);
    frame
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

#[test]
fn from_a_pod_in_l3_mode() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, _node2, _wire) = site(Mode::L3, Encap::Vxlan)?;
    let blackhole: ipnet::Ipv4Net = "10.244.66.0/24".parse()?;
    site.daemon.route_add(blackhole, RouteTarget::Blackhole)?;
    let (a1, a2) = (&site.pods[0], &site.pods[1]);
    let status = site.daemon.status()?;
    let (mac, gateway) = (a1.mac()?, status.gateway_mac);
    let to_gateway = |packet: &[u8]| ethernet_ipv4(mac, gateway, packet);
    let good = to_gateway(&echo_request(A1, A2, 64));
    let towards = |destination: Ipv4Addr| to_gateway(&echo_request(A1, destination, 64));
    let mut bad_checksum = good.clone();
    bad_checksum[24] ^= 0xff;
    let cases = [
        case("header cut short", "truncated_frame", cut(good.clone(), 30)),
        case(
            "nothing after Ethernet",
            "truncated_frame",
            cut(good.clone(), 14),
        ),
        case(
            "version 5",
            "bad_ip_header",
            edited(good.clone(), 14, |ip| ip[0] = 0x55),
        ),
        case(
            "header length 16",
            "bad_ip_header",
            edited(good.clone(), 14, |ip| ip[0] = 0x44),
        ),
        case(
            "total length too long",
            "bad_ip_header",
            edited(good.clone(), 14, |ip| ip[3] += 1),
        ),
        case(
            "total length too short",
            "bad_ip_header",
            edited(good.clone(), 14, |ip| ip[3] = 19),
        ),
        case("wrong checksum", "bad_ip_checksum", bad_checksum),
        case("TTL 1", "ttl_expired", to_gateway(&echo_request(A1, A2, 1))),
        case("TTL 0", "ttl_expired", to_gateway(&echo_request(A1, A2, 0))),
        case(
            "loopback source",
            "martian_source",
            to_gateway(&echo_request(Ipv4Addr::LOCALHOST, A2, 64)),
        ),
        case(
            "multicast source",
            "martian_source",
            to_gateway(&echo_request(Ipv4Addr::new(224, 0, 0, 1), A2, 64)),
        ),
        case(
            "multicast",
            "multicast_not_routed",
            towards(Ipv4Addr::new(224, 0, 0, 5)),
        ),
        case(
            "broadcast",
            "multicast_not_routed",
            towards(Ipv4Addr::BROADCAST),
        ),
        case(
            "the gateway itself",
            "gateway_no_service",
            to_gateway(&udp((A1, 9), (L3_GATEWAY, 9), 64, b"")),
        ),
        case("no route", "no_route", towards(Ipv4Addr::new(10, 99, 0, 1))),
        case(
            "blackhole",
            "blackhole_route",
            towards(Ipv4Addr::new(10, 244, 66, 1)),
        ),
        case(
            "another station",
            "not_for_gateway",
            ethernet_ipv4(mac, OTHER_MAC, &echo_request(A1, A2, 64)),
        ),
        case(
            "no IP",
            "unsupported_ethertype",
            ethernet(mac, gateway, 0x88b5, &[0; 46]),
        ),
        case(
            "IPv6 longer than its frame",
            "truncated_frame",
            ethernet(mac, gateway, 0x86dd, &[0x60; 46]),
        ),
        case(
            "ARP without content",
            "bad_arp",
            ethernet(mac, gateway, 0x0806, &[0, 1, 8, 0, 6, 4]),
        ),
        case(
            "group source MAC",
            "bad_source_mac",
            ethernet_ipv4(MacAddr([0x03; 6]), gateway, &echo_request(A1, A2, 64)),
        ),
        case(
            "zero source MAC",
            "bad_source_mac",
            ethernet_ipv4(MacAddr([0; 6]), gateway, &echo_request(A1, A2, 64)),
        ),
        case(
            "the gateway's source MAC",
            "spoofed_gateway",
            ethernet_ipv4(gateway, gateway, &echo_request(A1, A2, 64)),
        ),
    ];
    refused(&site, &a1.netns, &cases)?;
    must_ping(&a1.netns, a2.address, 3, "")?;
    must_ping(&a1.netns, L3_GATEWAY, 3, "")?;
    must_tcp(a2, a1)?;
    site.daemon.must_return_all_frames()?;
    Ok(())
}

#[test]
fn from_the_underlay_in_vxlan() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, node2, _wire) = site(Mode::L3, Encap::Vxlan)?;
    let status = site.daemon.status()?;
    let eth = |packet: &[u8]| -> Result<Vec<u8>> {
        let from = mac_of(&node2.netns, "eth0")?;
        Ok(ethernet_ipv4(
            from,
            mac_of(&site.node.netns, "eth0")?,
            packet,
        ))
    };
    let outer = |source: Ipv4Addr, payload: &[u8]| {
        eth(&udp((source, 50_000), (NODE1, TUNNEL_PORT), 64, payload))
    };
    let inner = |packet: &[u8]| ethernet_ipv4(OTHER_MAC, status.vtep_mac, packet);
    let tunnelled = |packet: &[u8]| outer(NODE2, &vxlan(1, &inner(packet)));
    let good = tunnelled(&echo_request(B1, A1, 64))?;
    // Headers before the inner Ethernet frame: Ethernet, IPv4, UDP, VXLAN.
    let inner_frame = 14 + 20 + 8 + 8;
    let inner_packet = inner_frame + 14;
    let flags = |flags: u8| -> Result<Vec<u8>> {
        let mut payload = vxlan(1, &inner(&echo_request(B1, A1, 64)));
        payload[0] = flags;
        outer(NODE2, &payload)
    };
    let mut reserved = vxlan(1, &inner(&echo_request(B1, A1, 64)));
    reserved[7] = 1;
    let short = |length: usize| -> Result<Vec<u8>> {
        outer(
            NODE2,
            &vxlan(1, &inner(&echo_request(B1, A1, 64)))[..length],
        )
    };
    let other_vtep = ethernet_ipv4(OTHER_MAC, OTHER_MAC, &echo_request(B1, A1, 64));
    let arp = ethernet(OTHER_MAC, status.vtep_mac, 0x0806, &[0; 28]);
    let nested = udp(
        (B1, 50_000),
        (NODE1, TUNNEL_PORT),
        64,
        &vxlan(1, &inner(&[0x45; 40])),
    );

    must_be_delivered(&site, &node2.netns, &good)?;

    let cases = [
        case("no I flag", "bad_vxlan_header", flags(0)?),
        case("reserved flag", "bad_vxlan_header", flags(0x88)?),
        case(
            "reserved octet",
            "bad_vxlan_header",
            outer(NODE2, &reserved)?,
        ),
        case(
            "another VNI",
            "wrong_vni",
            outer(NODE2, &vxlan(2, &inner(&echo_request(B1, A1, 64))))?,
        ),
        case(
            "another VTEP's MAC",
            "wrong_vtep_mac",
            outer(NODE2, &vxlan(1, &other_vtep))?,
        ),
        case(
            "a stranger's tunnel",
            "unknown_peer",
            outer(STRANGER, &vxlan(1, &inner(&echo_request(B1, A1, 64))))?,
        ),
        case(
            "a local pod's source",
            "inner_source_mismatch",
            tunnelled(&echo_request(A2, A1, 64))?,
        ),
        case(
            "a source of no node",
            "inner_source_mismatch",
            tunnelled(&echo_request(Ipv4Addr::new(10, 244, 7, 1), A1, 64))?,
        ),
        case(
            "inner TTL 1",
            "ttl_expired",
            tunnelled(&echo_request(B1, A1, 1))?,
        ),
        case(
            "inner TTL 0",
            "ttl_expired",
            tunnelled(&echo_request(B1, A1, 0))?,
        ),
        case(
            "inner ARP",
            "inner_unsupported",
            outer(NODE2, &vxlan(1, &arp))?,
        ),
        case("a tunnel in a tunnel", "nested_tunnel", tunnelled(&nested)?),
        case(
            "IPIP in VXLAN",
            "nested_tunnel",
            tunnelled(&ipv4(B1, NODE1, IPIP, 64, &echo_request(B1, A1, 64)))?,
        ),
        case(
            "back to its node",
            "transit_refused",
            tunnelled(&echo_request(B1, B1, 64))?,
        ),
        case(
            "no such pod",
            "no_route",
            tunnelled(&echo_request(B1, Ipv4Addr::new(10, 99, 0, 1), 64))?,
        ),
        case("VXLAN header cut short", "truncated_frame", short(4)?),
        case("no inner frame", "truncated_frame", short(8)?),
        case("inner Ethernet cut short", "truncated_frame", short(18)?),
        case("inner IP header cut short", "truncated_frame", short(30)?),
        case("inner packet cut short", "bad_ip_header", short(45)?),
        case(
            "inner total length too long",
            "bad_ip_header",
            edited(good.clone(), inner_packet, |ip| ip[2] = 0x20),
        ),
        case(
            "inner version 6",
            "bad_ip_header",
            edited(good.clone(), inner_packet, |ip| ip[0] = 0x65),
        ),
        case(
            "outer total length too long",
            "bad_ip_header",
            edited(good.clone(), 14, |ip| ip[2] = 0x20),
        ),
        case(
            "outer says congestion",
            "ecn_illegal",
            edited(good.clone(), 14, |ip| ip[1] = 3),
        ),
    ];
    refused(&site, &node2.netns, &cases)?;

    let (a1, a2) = (&site.pods[0], &site.pods[1]);
    must_ping(&a1.netns, a2.address, 3, "")?;
    site.daemon.must_return_all_frames()?;
    Ok(())
}

#[test]
fn from_the_underlay_in_ipip() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, node2, _wire) = site(Mode::L3, Encap::Ipip)?;
    let from = mac_of(&node2.netns, "eth0")?;
    let to = mac_of(&site.node.netns, "eth0")?;
    let outer = |source: Ipv4Addr, packet: &[u8]| {
        ethernet_ipv4(from, to, &ipv4(source, NODE1, IPIP, 64, packet))
    };
    let good = outer(NODE2, &echo_request(B1, A1, 64));
    must_be_delivered(&site, &node2.netns, &good)?;

    let cases = [
        case(
            "a stranger's tunnel",
            "unknown_peer",
            outer(STRANGER, &echo_request(B1, A1, 64)),
        ),
        case(
            "a local pod's source",
            "inner_source_mismatch",
            outer(NODE2, &echo_request(A2, A1, 64)),
        ),
        case(
            "inner TTL 1",
            "ttl_expired",
            outer(NODE2, &echo_request(B1, A1, 1)),
        ),
        case(
            "inner TTL 0",
            "ttl_expired",
            outer(NODE2, &echo_request(B1, A1, 0)),
        ),
        case(
            "a tunnel in a tunnel",
            "nested_tunnel",
            outer(NODE2, &ipv4(B1, NODE1, IPIP, 64, &echo_request(B1, A1, 64))),
        ),
        case(
            "VXLAN in IPIP",
            "nested_tunnel",
            outer(
                NODE2,
                &udp((B1, 50_000), (NODE1, TUNNEL_PORT), 64, &[0; 50]),
            ),
        ),
        case("nothing inside", "truncated_frame", outer(NODE2, &[])),
        case(
            "inner header cut short",
            "truncated_frame",
            outer(NODE2, &[0x45; 12]),
        ),
        case(
            "inner version 6",
            "bad_ip_header",
            edited(good.clone(), 34, |ip| ip[0] = 0x65),
        ),
        case(
            "inner total length too long",
            "bad_ip_header",
            edited(good.clone(), 34, |ip| ip[2] = 0x20),
        ),
        case(
            "outer says congestion",
            "ecn_illegal",
            edited(good.clone(), 14, |ip| ip[1] = 3),
        ),
        case(
            "back to its node",
            "transit_refused",
            outer(NODE2, &echo_request(B1, B1, 64)),
        ),
    ];
    refused(&site, &node2.netns, &cases)?;
    site.daemon.must_return_all_frames()?;
    Ok(())
}

/// A fragment of a tunnel packet is not ours: only the kernel could put it together.
#[test]
fn tunnel_fragments_are_left_to_the_kernel() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, node2, _wire) = site(Mode::L3, Encap::Vxlan)?;
    let from = mac_of(&node2.netns, "eth0")?;
    let to = mac_of(&site.node.netns, "eth0")?;
    let packet = ipv4(NODE2, NODE1, UDP, 64, &[0; 64]);
    let fragment = edited(ethernet_ipv4(from, to, &packet), 14, |ip| ip[6] = 0x20);
    let before = site.daemon.stats()?;
    inject(&node2.netns, "eth0", &vec![fragment; 3])?;
    sleep(Duration::from_millis(200));
    assert_eq!(site.daemon.stats()?.received, before.received);
    let snmp = site
        .node
        .netns
        .within(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let reassembly = column(&snmp, "Ip:", "ReasmReqds");
    assert_eq!(reassembly, Some(3), "{snmp}");
    site.daemon.must_return_all_frames()?;
    Ok(())
}

/// A value of /proc/net/snmp: a line of names, then a line of values.
fn column(text: &str, section: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(section));
    let at = lines
        .next()?
        .split_whitespace()
        .position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

/// A packet that does not fit into the tunnel is dropped by name, and its sender told what fits: it
/// sends no second one.
#[test]
fn larger_than_the_path() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, _node2, _wire) = site(Mode::L3, Encap::Vxlan)?;
    let (a1, a2) = (&site.pods[0], &site.pods[1]);
    for pod in [a1, a2] {
        pod.netns.ip("link set eth0 mtu 1500")?;
        site.node
            .netns
            .ip(&format!("link set {} mtu 1500", pod.host_device))?;
    }
    let before = site.daemon.stats()?;
    // 1423 octets of payload make 1451 of packet and 1501 on the wire.
    assert_eq!(ping(&a1.netns, B1, 3, "-s 1423 -M do")?.received, 0);
    let drops: Vec<_> = drops_between(&before, &site.daemon.stats()?)
        .into_iter()
        .collect();
    assert_eq!(drops, [("mtu_exceeded".to_owned(), 1)]);
    let route = a1.netns.ip(&format!("route get {B1}"))?;
    assert!(route.contains("mtu 1450"), "{route}");
    assert!(site.daemon.routes()?.iter().any(|route| {
        pod_cidr(2).is_ok_and(|cidr| route.prefix == cidr.into()) && route.mtu == Some(1450)
    }));
    site.daemon.must_return_all_frames()?;
    Ok(())
}
