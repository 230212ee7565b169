//! Neighbour discovery: who is answered, who is not, what is learned, and what is a lie.

mod lies;

use std::net::Ipv6Addr;

use shunt_api::MacAddr;
use shunt_encap::ndp::{multicast_mac, solicited_node};
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::street::Event;
use shunt_switch::tables::{Guard, PortId};

use crate::node::*;

const RS: u8 = 133;
const RA: u8 = 134;
const NS: u8 = 135;
const NA: u8 = 136;
const REDIRECT: u8 = 137;

const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;

const NOBODY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The R, S and O flags of an advertisement.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

fn local(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa, n)
}

/// A discovery message from `mac`: what follows the checksum is `rest`.
fn message(
    mac: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    rest: &[u8],
) -> Vec<u8> {
    let (source, destination) = (source.into(), destination.into());
    let (protocol, bytes) = icmp(
        source,
        destination,
        (kind, 0),
        [rest[0], rest[1], rest[2], rest[3]],
        &rest[4..],
    );
    let packet = ip(source, destination, 255, protocol, &bytes);
    let to = match destination {
        std::net::IpAddr::V6(v6) if v6.is_multicast() => MacAddr(multicast_mac(v6)),
        _ => GATEWAY_MAC,
    };
    frame(mac, to, &packet)
}

/// Flags, a target, and an option with a MAC address.
fn body(flags: u8, target: Ipv6Addr, option: Option<(u8, MacAddr)>) -> Vec<u8> {
    let mut body = vec![flags, 0, 0, 0];
    body.extend(target.octets());
    if let Some((kind, mac)) = option {
        body.extend([kind, 1]);
        body.extend(mac.0);
    }
    body
}

/// Pod `n` asks who has `target`.
fn solicit(n: u8, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let option = (!source.is_unspecified()).then_some((SOURCE_OPTION, pod_mac(n)));
    let rest = body(0, target, option);
    message(pod_mac(n), source, solicited_node(target), NS, &rest)
}

/// Pod `n` says that `target` is here.
fn advertise(n: u8, target: Ipv6Addr) -> Vec<u8> {
    let rest = body(OVERRIDE, target, Some((TARGET_OPTION, pod_mac(n))));
    message(pod_mac(n), target, ALL_NODES, NA, &rest)
}

/// An answer of the gateway's: the link's destination, the packet's, the flags and the target.
#[track_caller]
fn advertised(got: &[u8]) -> (MacAddr, Ipv6Addr, u8, Ipv6Addr) {
    let packet = seen(got);
    assert_eq!((packet.protocol, packet.hops), (ICMP6, 255));
    assert_eq!(packet.source, GATEWAY6);
    assert_eq!(got[6..12], GATEWAY_MAC.0);
    let payload = &packet.payload;
    assert_eq!((payload[0], payload[1], payload.len()), (NA, 0, 32));
    let option = [&[TARGET_OPTION, 1][..], &GATEWAY_MAC.0].concat();
    assert_eq!(payload[24..], option);
    let mut target = [0; 16];
    target.copy_from_slice(&payload[8..24]);
    let mut mac = [0; 6];
    mac.copy_from_slice(&got[..6]);
    let std::net::IpAddr::V6(to) = packet.destination else {
        panic!("not IPv6")
    };
    (MacAddr(mac), to, payload[4], target.into())
}

/// No answer and no drop: it was for the switch.
#[track_caller]
fn silent(node: &mut Node, from: u8, sent: &[u8], what: &str) {
    let before = node.switch.counters().0.worker.consumed;
    node.send(from, sent);
    let came = node.take_all();
    assert!(came.is_empty(), "{what}: {came:02x?}");
    let names = node.drop_names();
    let after = node.switch.counters().0.worker.consumed;
    assert_eq!(after, before + 1, "{what}: {names:?}");
}

#[test]
fn l3_answers_for_everything_that_is_routed_but_the_asker() {
    let mut node = Node::new(1, Mode::L3, 2);
    let far: Ipv6Addr = "2001:db8::1".parse().expect("an address");
    for source in [pod6(1, 1), local(1)] {
        for (target, flags) in [
            (GATEWAY6, ROUTER | SOLICITED | OVERRIDE),
            (pod6(1, 2), ROUTER | SOLICITED),
            (pod6(9, 9), ROUTER | SOLICITED),
            (far, ROUTER | SOLICITED),
        ] {
            let got = node.exchange(1, &solicit(1, source, target), 1);
            let got = got.unwrap_or_else(|| panic!("no answer for {target}"));
            assert_eq!(advertised(&got), (pod_mac(1), source, flags, target));
        }
        silent(&mut node, 1, &solicit(1, source, pod6(1, 1)), "own");
        silent(&mut node, 1, &solicit(1, source, local(2)), "link-local");
    }
    // Asked again to make sure it is still there, straight at the gateway (RFC 4861, 7.3.3).
    let rest = body(0, GATEWAY6, Some((SOURCE_OPTION, pod_mac(1))));
    let sent = message(pod_mac(1), pod6(1, 1), GATEWAY6, NS, &rest);
    let got = node.exchange(1, &sent, 1).expect("an answer");
    assert_eq!(advertised(&got).2, ROUTER | SOLICITED | OVERRIDE);
    // A router solicitation has nobody to answer it.
    let sent = message(pod_mac(1), local(1), ALL_NODES, RS, &[0; 4]);
    silent(&mut node, 1, &sent, "router solicitation");
    assert_eq!(node.take_all(), [], "discovery stays on its port");
    assert_eq!(node.drop_names(), Vec::<&str>::new());
    node.finish();
}

#[test]
fn duplicate_address_detection_is_left_alone_unless_the_address_is_taken() {
    let mut node = Node::new(1, Mode::L3, 2);
    node.guard(1, node.own(1));
    // Its own, a link-local one, one that nobody has, and one of another node.
    for target in [pod6(1, 1), local(1), pod6(1, 77), pod6(2, 1)] {
        silent(&mut node, 1, &solicit(1, NOBODY, target), "free");
    }
    assert_eq!(node.events(), []);
    for (target, flags) in [(pod6(1, 2), ROUTER), (GATEWAY6, ROUTER | OVERRIDE)] {
        let got = node.exchange(1, &solicit(1, NOBODY, target), 1);
        let got = got.expect("an answer");
        let all_nodes = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(advertised(&got), (all_nodes, ALL_NODES, flags, target));
        let conflict = Event::Conflict {
            address: target.into(),
            mac: pod_mac(1),
            port: node.ids[0],
        };
        assert_eq!(node.events(), [conflict]);
    }
    assert_eq!(node.take_all(), [], "nobody else hears of it");
    node.finish();
}

#[test]
fn a_known_address_is_no_news_and_a_new_one_is() {
    let mut node = Node::new(1, Mode::L3, 2);
    silent(&mut node, 1, &advertise(1, pod6(1, 1)), "known");
    node.send(1, &solicit(1, pod6(1, 1), GATEWAY6));
    node.send(1, &solicit(1, local(1), GATEWAY6));
    assert_eq!(node.take_all().len(), 2);
    silent(&mut node, 1, &advertise(1, local(1)), "link-local");
    assert_eq!(node.events(), []);
    let new = |n: u8| Event::Binding {
        address: pod6(1, n).into(),
        mac: pod_mac(1),
        port: PortId(1),
    };
    assert_eq!(node.ids[0], PortId(1));
    node.send(1, &solicit(1, pod6(1, 50), GATEWAY6));
    assert_eq!(node.events(), [new(50)]);
    node.take_all();
    silent(&mut node, 1, &advertise(1, pod6(1, 51)), "new");
    assert_eq!(node.events(), [new(51)]);
    // The same address at another MAC.
    node.send(1, &advertise(9, pod6(1, 1)));
    let moved = Event::Binding {
        address: pod6(1, 1).into(),
        mac: pod_mac(9),
        port: node.ids[0],
    };
    assert_eq!(node.events(), [moved]);
    node.take_all();
    node.finish();
}

#[test]
fn floods_of_discovery_are_limited() {
    let mut node = Node::new(1, Mode::L3, 1);
    let good = solicit(1, pod6(1, 1), GATEWAY6);
    for _ in 0..1500 {
        node.send(1, &good);
    }
    assert_eq!(node.drops(DropReason::SlowPathLimit), 500);
    node.switch.clock().set(1);
    node.take_all();
    assert!(node.exchange(1, &good, 1).is_some());
    assert_eq!(node.drops(DropReason::SlowPathLimit), 500);
    node.finish();
}

#[test]
fn l2_answers_for_the_gateway_and_floods_the_rest() {
    let mut node = Node::new(1, Mode::L2, 3);
    let got = node.exchange(1, &solicit(1, pod6(1, 1), GATEWAY6), 1);
    let flags = ROUTER | SOLICITED | OVERRIDE;
    let expected = (pod_mac(1), pod6(1, 1), flags, GATEWAY6);
    assert_eq!(advertised(&got.expect("an answer")), expected);
    assert_eq!(node.take_all(), [], "answered, not flooded");
    // Everything else is between the stations, detection of duplicates too.
    for sent in [
        solicit(1, pod6(1, 1), pod6(1, 2)),
        solicit(1, NOBODY, pod6(1, 2)),
        advertise(1, pod6(1, 1)),
    ] {
        node.send(1, &sent);
        let expected = ["pod 2", "pod 3"].map(|pod| (pod.to_owned(), sent.clone()));
        assert_eq!(node.take_all(), expected);
    }
    // The gateway's address is taken here too.
    let got = node.exchange(1, &solicit(1, NOBODY, GATEWAY6), 1);
    assert_eq!(advertised(&got.expect("an answer")).1, ALL_NODES);
    let conflict = Event::Conflict {
        address: GATEWAY6.into(),
        mac: pod_mac(1),
        port: node.ids[0],
    };
    assert!(node.events().contains(&conflict));
    // What a guarded pod says of others reaches nobody.
    node.guard(1, node.own(1));
    let rest = body(OVERRIDE, pod6(1, 2), Some((TARGET_OPTION, pod_mac(1))));
    let sent = message(pod_mac(1), pod6(1, 1), ALL_NODES, NA, &rest);
    node.refuses(1, &sent, DropReason::SpoofedNdp, "another's address");
    node.finish();
}
