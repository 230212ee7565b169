//! IPv6 between local pods: routed, refused by name, and its extension headers walked.

use std::net::{IpAddr, Ipv6Addr};

use shunt_api::MacAddr;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::NextHop;

use crate::node::*;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT: u8 = 59;
const OPTIONS: u8 = 60;

fn one() -> IpAddr {
    pod6(1, 1).into()
}

fn two() -> IpAddr {
    pod6(1, 2).into()
}

/// An extension header of 8 bytes and its kind; `fill` are bytes 2 to 8.
fn extension(kind: u8, fill: [u8; 6]) -> (u8, Vec<u8>) {
    (kind, [&[0, 0][..], &fill].concat())
}

/// Options that are only padding (PadN).
fn padding(kind: u8) -> (u8, Vec<u8>) {
    extension(kind, [1, 4, 0, 0, 0, 0])
}

/// A packet from pod 1 to pod 2 with extension headers in front of `upper`.
fn chained(extensions: &[(u8, Vec<u8>)], protocol: u8, upper: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (place, (_, bytes)) in extensions.iter().enumerate() {
        let next = extensions
            .get(place + 1)
            .map_or(protocol, |(kind, _)| *kind);
        payload.push(next);
        payload.extend(&bytes[1..]);
    }
    payload.extend(upper);
    let first = extensions.first().map_or(protocol, |(kind, _)| *kind);
    ip(one(), two(), 64, first, &payload)
}

/// What pod 2 gets of a packet: the same but for one hop.
#[track_caller]
fn passes(node: &mut Node, packet: &[u8], what: &str) -> Vec<u8> {
    let got = node.exchange(1, &routed(1, packet), 2);
    let got = got.unwrap_or_else(|| panic!("{what}: {:?}", node.drop_names()));
    assert_eq!(got[..12], [pod_mac(2).0, GATEWAY_MAC.0].concat(), "{what}");
    let mut expected = packet.to_vec();
    expected[7] -= 1;
    assert_eq!(got[14..], expected, "{what}");
    got
}

#[test]
fn a_packet_gets_new_macs_and_one_hop_less() {
    let mut node = Node::new(1, Mode::L3, 2);
    let mut packet = udp_ip(one(), two(), 64, 30);
    // Traffic class and flow label are the sender's.
    packet[0..4].copy_from_slice(&[0x6b, 0x91, 0x23, 0x45]);
    let got = passes(&mut node, &packet, "UDP");
    assert_eq!(seen(&got).ways(), (one(), two(), 63));
    assert_eq!(seen(&got).class, 0xb9);
    // To itself, by the gateway.
    let own = udp_ip(one(), one(), 2, 30);
    let got = node.exchange(1, &routed(1, &own), 1).expect("a frame");
    assert_eq!(seen(&got).ways(), (one(), one(), 1));
    node.finish();
}

#[test]
fn checksums_left_to_hardware_are_finished() {
    let mut node = Node::new(1, Mode::L3, 2);
    let jumbo = NextHop {
        mtu: 9000,
        ..Node::to_station(
            shunt_switch::tables::Action::Deliver,
            node.ids[1],
            pod_mac(2),
            V6,
        )
    };
    node.switch.set_next_hop(node.hops6[1], jumbo);
    let chains: [&[(u8, Vec<u8>)]; 3] = [
        &[],
        &[padding(HOP_BY_HOP)],
        &[padding(HOP_BY_HOP), padding(OPTIONS)],
    ];
    // One segment, odd lengths, and chains of chunks (2048 bytes each).
    for payload in [0, 1, 333, 1400, 2000, 5001, 8800] {
        for chain in chains {
            let bytes = pattern(payload);
            let whole = datagram(one(), two(), (1000, 2000), &bytes);
            let mut partial = whole.clone();
            leave(one(), two(), UDP, &mut partial);
            let sent = routed(1, &chained(chain, UDP, &partial));
            let got = node.exchange(1, &sent, 2).expect("a frame");
            assert!(seen(&got).payload == whole, "UDP, {payload} bytes");

            let whole = segment(one(), two(), (1000, 80), 0x18, &[], &bytes);
            let mut partial = whole.clone();
            leave(one(), two(), TCP, &mut partial);
            let sent = routed(1, &chained(chain, TCP, &partial));
            let got = node.exchange(1, &sent, 2).expect("a frame");
            assert!(seen(&got).payload == whole, "TCP, {payload} bytes");
        }
    }
    node.finish();
}

#[test]
fn jumbo_chains_keep_every_byte_and_large_ones_are_too_large() {
    let mut node = Node::new(1, Mode::L3, 2);
    let deliver = shunt_switch::tables::Action::Deliver;
    let jumbo = NextHop {
        mtu: 9000,
        ..Node::to_station(deliver, node.ids[1], pod_mac(2), V6)
    };
    node.switch.set_next_hop(node.hops6[1], jumbo);
    for length in [2048, 4096, 8999, 9000] {
        passes(&mut node, &udp_ip(one(), two(), 64, length - 48), "jumbo");
    }
    assert_eq!(
        node.exchange(1, &routed(1, &udp_ip(one(), two(), 64, 8953)), 2),
        None
    );
    assert_eq!(node.drops(DropReason::MtuExceeded), 1);
    node.finish();
}

#[test]
fn padding_of_short_frames_is_cut_off() {
    let mut node = Node::new(1, Mode::L3, 2);
    for (packet, padding) in [
        (udp_ip(one(), two(), 64, 0), 46),
        (ip(one(), two(), 64, NO_NEXT, &[]), 6),
        (udp_ip(one(), two(), 64, 1990), 3000),
    ] {
        let deliver = shunt_switch::tables::Action::Deliver;
        let jumbo = NextHop {
            mtu: 9000,
            ..Node::to_station(deliver, node.ids[1], pod_mac(2), V6)
        };
        node.switch.set_next_hop(node.hops6[1], jumbo);
        let mut sent = routed(1, &packet);
        let length = sent.len();
        sent.resize(length + padding, 0xa5);
        let got = node.exchange(1, &sent, 2).expect("a frame");
        assert_eq!(got.len(), length);
    }
    node.finish();
}

#[test]
fn extension_headers_within_the_limit_pass() {
    let mut node = Node::new(1, Mode::L3, 2);
    let udp = datagram(one(), two(), (1, 2), b"deep");
    let mut chain = vec![padding(HOP_BY_HOP)];
    for _ in 0..8 {
        passes(&mut node, &chained(&chain, UDP, &udp), "a chain");
        // A routing header of another type than 0, with segments left: not ours to use.
        let next = match chain.len() {
            3 => extension(ROUTING, [4, 1, 0, 0, 0, 0]),
            _ => padding(OPTIONS),
        };
        chain.push(next);
    }
    // Nine.
    let nine = routed(1, &chained(&chain, UDP, &udp));
    node.refuses(1, &nine, DropReason::ExtensionLimit, "nine headers");
    // One header of 256 times 8 bytes.
    let mut large = vec![0, 255];
    large.resize(2048, 0);
    let large = routed(1, &chained(&[(OPTIONS, large)], UDP, &udp));
    node.refuses(1, &large, DropReason::ExtensionLimit, "2048 bytes");
    node.finish();
}

#[test]
fn a_chain_of_three_thousand_headers_is_cut_short_by_name() {
    let mut node = Node::new(1, Mode::L3, 2);
    let chain = vec![padding(OPTIONS); 3000];
    let udp = datagram(one(), two(), (1, 2), b"never found");
    let sent = routed(1, &chained(&chain, UDP, &udp));
    node.refuses(1, &sent, DropReason::ExtensionLimit, "3,000 headers");
    node.finish();
}

#[test]
fn malformed_chains_are_refused_by_name() {
    let mut node = Node::new(1, Mode::L3, 2);
    let udp = datagram(one(), two(), (1, 2), b"x");
    let cases: [(&str, Vec<u8>, DropReason); 7] = [
        (
            "routing type 0",
            chained(&[extension(ROUTING, [0, 1, 0, 0, 0, 0])], UDP, &udp),
            DropReason::BadExtension,
        ),
        (
            "routing type 0 with no segments left",
            chained(&[extension(ROUTING, [0, 0, 0, 0, 0, 0])], UDP, &udp),
            DropReason::BadExtension,
        ),
        (
            "routing type 0 behind others",
            chained(
                &[
                    padding(HOP_BY_HOP),
                    padding(OPTIONS),
                    extension(ROUTING, [0; 6]),
                ],
                UDP,
                &udp,
            ),
            DropReason::BadExtension,
        ),
        (
            "hop-by-hop options not first",
            chained(&[padding(OPTIONS), padding(HOP_BY_HOP)], UDP, &udp),
            DropReason::BadExtension,
        ),
        (
            "two fragment headers",
            chained(
                &[
                    extension(FRAGMENT, [0, 1, 0, 0, 0, 1]),
                    extension(FRAGMENT, [0, 1, 0, 0, 0, 1]),
                ],
                UDP,
                &udp,
            ),
            DropReason::BadExtension,
        ),
        (
            "a chain that ends in itself",
            chained(&[padding(OPTIONS)], OPTIONS, &[0, 0, 0]),
            DropReason::TruncatedFrame,
        ),
        (
            "a header longer than the packet",
            chained(&[(OPTIONS, vec![0, 9, 1, 4, 0, 0, 0, 0])], UDP, &udp),
            DropReason::TruncatedFrame,
        ),
    ];
    for (what, packet, reason) in cases {
        node.refuses(1, &routed(1, &packet), reason, what);
    }
    node.finish();
}

#[test]
fn frames_cut_anywhere_are_truncated() {
    let mut node = Node::new(1, Mode::L3, 2);
    let udp = datagram(one(), two(), (1, 2), b"some bytes");
    let sent = routed(
        1,
        &chained(&[padding(HOP_BY_HOP), padding(OPTIONS)], UDP, &udp),
    );
    for length in 1..sent.len() {
        node.refuses(1, &sent[..length], DropReason::TruncatedFrame, "cut");
    }
    // The packet says itself that it is shorter than its headers.
    for length in 0..16u8 {
        let mut short = sent[..54 + usize::from(length)].to_vec();
        short[19] = length;
        node.refuses(1, &short, DropReason::TruncatedFrame, "short");
    }
    node.must_balance();
    node.finish();
}

#[test]
fn fragments_pass_as_they_are() {
    let mut node = Node::new(1, Mode::L3, 2);
    // An atomic one (RFC 6946), a first, a middle and a last one, and a tiny one.
    for (offset_and_more, length) in [(0u16, 32), (1, 64), (64 | 1, 64), (128, 3), (8, 0)] {
        let [high, low] = offset_and_more.to_be_bytes();
        let header = extension(FRAGMENT, [high, low, 0, 0, 0, 9]);
        let packet = chained(&[header], UDP, &pattern(length));
        passes(&mut node, &packet, "a fragment");
    }
    // A checksum left to hardware is finished in an atomic fragment only: it is whole.
    let whole = datagram(one(), two(), (1, 2), b"whole");
    let mut partial = whole.clone();
    leave(one(), two(), UDP, &mut partial);
    let atomic = extension(FRAGMENT, [0, 0, 0, 0, 0, 9]);
    let sent = routed(1, &chained(&[atomic], UDP, &partial));
    let got = node.exchange(1, &sent, 2).expect("a frame");
    assert_eq!(got[62..], whole);
    node.finish();
}

#[test]
fn what_cannot_be_routed_is_dropped_by_name() {
    let mut node = Node::new(1, Mode::L3, 2);
    let address = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().expect("an address"));
    let cases = [
        (
            "to multicast",
            one(),
            "ff05::2",
            DropReason::MulticastNotRouted,
        ),
        (
            "to all nodes",
            one(),
            "ff02::1",
            DropReason::MulticastNotRouted,
        ),
        ("to loopback", one(), "::1", DropReason::MartianSource),
        ("to nobody", one(), "::", DropReason::MartianSource),
        (
            "from multicast",
            address("ff02::5"),
            "fd00::9",
            DropReason::MartianSource,
        ),
        (
            "from loopback",
            address("::1"),
            "fd00::9",
            DropReason::MartianSource,
        ),
        (
            "from nobody",
            address("::"),
            "fd00::9",
            DropReason::MartianSource,
        ),
        // The source's scope reaches as far, so there is nothing to tell.
        ("to link-local", one(), "fe80::77", DropReason::LinkLocal),
    ];
    for (what, source, destination, reason) in cases {
        let packet = udp_ip(source, address(destination), 64, 9);
        node.refuses(1, &routed(1, &packet), reason, what);
    }
    let mut other = udp_ip(one(), two(), 64, 9);
    other[0] = 0x45;
    let mut other = routed(1, &other);
    other[12..14].copy_from_slice(&[0x86, 0xdd]);
    node.refuses(1, &other, DropReason::BadIpHeader, "version 4");
    let to_pod = frame(pod_mac(1), pod_mac(2), &udp_ip(one(), two(), 64, 9));
    node.refuses(1, &to_pod, DropReason::NotForGateway, "another pod's MAC");
    let from_gateway = frame(GATEWAY_MAC, GATEWAY_MAC, &udp_ip(one(), two(), 64, 9));
    node.refuses(
        1,
        &from_gateway,
        DropReason::SpoofedGateway,
        "gateway's MAC",
    );
    let group = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    let from_group = frame(group, GATEWAY_MAC, &udp_ip(one(), two(), 64, 9));
    node.refuses(1, &from_group, DropReason::BadSourceMac, "a group's MAC");
    node.finish();
}

/// What every neighbour hears is for none of them to carry on (RFC 1812, 5.3.4).
#[test]
fn what_is_sent_to_all_neighbours_is_not_routed() {
    let mut node = Node::new(1, Mode::L3, 2);
    for group in [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1]] {
        for hops in [64, 1] {
            let sent = frame(pod_mac(1), MacAddr(group), &udp_ip(one(), two(), hops, 9));
            node.refuses(1, &sent, DropReason::NotForGateway, "to a group's MAC");
        }
    }
    node.finish();
}

#[test]
fn the_world_is_beyond_the_scope_of_a_link_local_source() {
    let mut node = Node::new(1, Mode::L3, 2);
    let near: IpAddr = "fe80::5".parse().expect("an address");
    let packet = udp_ip(near, two(), 64, 40);
    let got = node.exchange(1, &routed(1, &packet), 1).expect("an error");
    let complaint = complaint(&got);
    // Destination unreachable, beyond scope of the source address (RFC 4443, 3.1).
    assert_eq!(complaint.kind, (1, 2));
    let gateway: IpAddr = "fe80::1".parse().expect("an address");
    assert_eq!((complaint.from, complaint.to), (gateway, near));
    assert_eq!(complaint.quoted, packet);
    assert_eq!(node.drops(DropReason::LinkLocal), 1);
    node.finish();
}
