//! Between nodes with two families: IPv4 and IPv6 within VXLAN and IPIP over IPv4 and IPv6.

use std::net::IpAddr;

use etherparse::SlicedPacket;
use shunt_encap::IpFamily;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::NextHop;

use crate::node::*;

const KINDS: [Kind; 4] = [
    VXLAN,
    Kind::Vxlan { udp_checksum: true },
    Kind::Ipip,
    Kind::Direct,
];

/// Bytes of the outer IP header.
fn outer_len(family: IpFamily) -> usize {
    match family {
        V4 => 20,
        V6 => 40,
    }
}

/// Bytes from the outer Ethernet header to the inner IP header.
fn inner_at(kind: Kind, outer: IpFamily) -> usize {
    match kind {
        Kind::Vxlan { .. } => 14 + outer_len(outer) + 8 + 8 + 14,
        Kind::Ipip => 14 + outer_len(outer),
        Kind::Direct => 14,
    }
}

/// Two nodes, and a packet from pod 1 of node 1 to pod 1 of node 2.
struct Across {
    one: Node,
    two: Node,
    sent: Vec<u8>,
    wire: Vec<u8>,
    /// Where the inner IP header is in the wire's frame.
    at: usize,
}

fn across(kind: Kind, outer: IpFamily, inner: IpFamily) -> Across {
    let mut one = Node::new(1, Mode::L3, 1);
    let mut two = Node::new(2, Mode::L3, 1);
    one.tunnel(2, kind, outer, inner, 1500);
    two.tunnel(1, kind, outer, inner, 1500);
    let sent = udp_ip(pod_ip(inner, 1, 1), pod_ip(inner, 2, 1), 64, 100);
    let wire = sends(&mut one, &sent);
    let at = inner_at(kind, outer);
    Across {
        one,
        two,
        sent,
        wire,
        at,
    }
}

/// What pod 1 sends, as it is on the wire; its checksum is left to hardware.
fn sends(one: &mut Node, packet: &[u8]) -> Vec<u8> {
    let mut frame = routed(1, packet);
    let start = 14 + outer_len(if packet[0] >> 4 == 4 { V4 } else { V6 });
    let whole = seen(&frame);
    leave(whole.source, whole.destination, UDP, &mut frame[start..]);
    one.send(1, &frame);
    let wire = one.uplink.receive();
    wire.unwrap_or_else(|| panic!("nothing on the wire: {:?}", one.drop_names()))
}

impl Across {
    fn finish(self) {
        self.one.finish();
        self.two.finish();
    }
}

fn tunnels() -> impl Iterator<Item = (Kind, IpFamily, IpFamily)> {
    let pairs = [(V4, V4), (V4, V6), (V6, V4), (V6, V6)];
    let kinds = KINDS.into_iter().filter(|kind| *kind != Kind::Direct);
    kinds.flat_map(move |kind| pairs.map(|(outer, inner)| (kind, outer, inner)))
}

#[test]
fn every_pair_of_families_goes_there_and_comes_out() {
    for kind in KINDS {
        for (outer, inner) in [(V4, V4), (V4, V6), (V6, V4), (V6, V6)] {
            if kind == Kind::Direct && outer != inner {
                continue;
            }
            let what = format!("{inner:?} by {kind:?} over {outer:?}");
            let mut world = across(kind, outer, inner);
            assert_eq!(world.wire.len(), world.at + world.sent.len(), "{what}");
            // The inner packet, one hop on and with its checksum.
            let packet = [&world.wire[..14], &world.wire[world.at..]].concat();
            let mut packet = packet;
            packet[12..14].copy_from_slice(if inner == V4 { &[8, 0] } else { &[0x86, 0xdd] });
            let (from, to) = (pod_ip(inner, 1, 1), pod_ip(inner, 2, 1));
            assert_eq!(seen(&packet).ways(), (from, to, 63), "{what}");
            if kind != Kind::Direct {
                outside(&world.wire, kind, outer, inner, &what);
            }
            world.two.send_uplink(&world.wire);
            let names = world.two.drop_names();
            let got = world.two.pods[0].receive();
            let got = got.unwrap_or_else(|| panic!("{what}: {names:?}"));
            assert_eq!(got[..12], [pod_mac(1).0, GATEWAY_MAC.0].concat(), "{what}");
            let arrived = seen(&got);
            assert_eq!(arrived.ways(), (from, to, 62), "{what}");
            assert_eq!(arrived.payload[8..], pattern(100), "{what}");
            world.finish();
        }
    }
}

/// The outer headers, as another implementation reads them.
fn outside(wire: &[u8], kind: Kind, outer: IpFamily, inner: IpFamily, what: &str) {
    let sliced = SlicedPacket::from_ethernet(wire).expect("a packet");
    let (source, destination, protocol, hops) = match &sliced.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let sum = header.to_header().calc_header_checksum();
            assert_eq!(header.header_checksum(), sum, "{what}");
            assert!(header.dont_fragment(), "{what}");
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                header.protocol().0,
                header.ttl(),
            )
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            assert!(
                usize::from(header.payload_length()) == wire.len() - 54,
                "{what}"
            );
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                header.next_header().0,
                header.hop_limit(),
            )
        }
        other => panic!("{what}: {other:?}"),
    };
    assert_eq!(
        (source, destination, hops),
        (node_ip(outer, 1), node_ip(outer, 2), 64),
        "{what}"
    );
    let Kind::Vxlan { udp_checksum } = kind else {
        let expected = if inner == V4 { 4 } else { 41 };
        assert_eq!(protocol, expected, "{what}");
        return;
    };
    assert_eq!(protocol, UDP, "{what}");
    let udp = &wire[14 + outer_len(outer)..];
    assert!(udp[0] >= 0xc0, "{what}: a port of the dynamic range");
    assert_eq!(udp[2..4], VXLAN_PORT.to_be_bytes(), "{what}");
    assert_eq!(usize::from(udp[4]) << 8 | usize::from(udp[5]), udp.len());
    if udp_checksum {
        // Every checksum is right, the outer one too.
        assert_eq!(seen(wire).protocol, UDP, "{what}");
    } else {
        assert_eq!(udp[6..8], [0, 0], "{what}");
    }
    assert_eq!(udp[8..16], [8, 0, 0, 0, 0, 0, VNI as u8, 0], "{what}");
    assert_eq!(udp[16..28], [vtep_mac(2), vtep_mac(1)].concat(), "{what}");
    assert_eq!(udp[28..30], inner.ethertype().to_be_bytes(), "{what}");
}

#[test]
fn congestion_marks_pass_to_the_inner_header_or_drop() {
    // RFC 6040, figure 4.
    for (kind, outer, inner) in tunnels() {
        let what = format!("{inner:?} by {kind:?} over {outer:?}");
        let mut world = across(kind, outer, inner);
        let mark = |wire: &mut [u8], at: usize, bits: u8| match wire[at] >> 4 {
            4 => {
                wire[at + 1] = wire[at + 1] & !3 | bits;
                seal_ip(&mut wire[at..]);
            }
            _ => wire[at + 1] = wire[at + 1] & !0x30 | bits << 4,
        };
        mark(&mut world.wire, 14, 3);
        let wire = world.wire.clone();
        world
            .two
            .refuses_uplink(&wire, DropReason::EcnIllegal, &what);
        for capable in [1, 2, 3] {
            let mut wire = world.wire.clone();
            mark(&mut wire, world.at, capable);
            world.two.send_uplink(&wire);
            let got = world.two.pods[0].receive().expect("a frame");
            assert_eq!(seen(&got).class & 3, 3, "{what}, {capable}");
        }
        world.finish();
    }
}

#[test]
fn marks_and_classes_pass_to_the_outer_header() {
    for (kind, outer, inner) in tunnels() {
        let mut world = across(kind, outer, inner);
        let mut packet = world.sent.clone();
        match inner {
            V4 => packet[1] = 0xba,
            V6 => packet[..2].copy_from_slice(&[0x6b, 0xa0]),
        }
        seal_ip(&mut packet);
        let wire = sends(&mut world.one, &packet);
        let class = match outer {
            V4 => wire[15],
            V6 => wire[14] << 4 | wire[15] >> 4,
        };
        assert_eq!(class, 0xba, "{inner:?} by {kind:?} over {outer:?}");
        world.finish();
    }
}

#[test]
fn tunnels_in_tunnels_are_refused() {
    for (kind, outer, inner) in tunnels() {
        for (protocol, upper) in [(4, vec![0x45; 40]), (41, vec![0x60; 60]), (UDP, vec![])] {
            let what = format!("{protocol} within {inner:?} by {kind:?} over {outer:?}");
            let mut world = across(kind, outer, inner);
            let (from, to) = (pod_ip(inner, 1, 1), node_ip(inner, 2));
            let upper = match protocol {
                UDP => datagram(from, to, (50000, VXLAN_PORT), &[8; 60]),
                _ => upper,
            };
            let nested = ip(from, to, 63, protocol, &upper);
            let wire = carry(&world, kind, outer, &nested);
            let reason = DropReason::NestedTunnel;
            world.two.refuses_uplink(&wire, reason, &what);
            world.finish();
        }
    }
}

/// The packet on the wire, with another inner packet and the outer lengths made good.
fn carry(world: &Across, kind: Kind, outer: IpFamily, packet: &[u8]) -> Vec<u8> {
    let mut wire = [&world.wire[..world.at], packet].concat();
    fix_outer(&mut wire, kind, outer);
    wire
}

fn fix_outer(wire: &mut [u8], kind: Kind, outer: IpFamily) {
    let length = wire.len() - 14;
    let payload = ((length - outer_len(outer)) as u16).to_be_bytes();
    match outer {
        V4 => wire[16..18].copy_from_slice(&(length as u16).to_be_bytes()),
        V6 => wire[18..20].copy_from_slice(&payload),
    }
    if let Kind::Vxlan { .. } = kind {
        let udp = 14 + outer_len(outer);
        wire[udp + 4..udp + 6].copy_from_slice(&payload);
        wire[udp + 6..udp + 8].fill(0);
    }
    seal_ip(&mut wire[14..]);
}

/// Where the outer and an inner header of one family have their source, from the header's start.
fn source(family: IpFamily) -> std::ops::Range<usize> {
    match family {
        V4 => 12..16,
        V6 => 8..24,
    }
}

#[test]
fn the_reverse_path_is_strict() {
    for (kind, outer, inner) in tunnels() {
        let what = format!("{inner:?} by {kind:?} over {outer:?}");
        let mut world = across(kind, outer, inner);
        world.two.tunnel(3, kind, outer, inner, 1500);
        let from = |node: IpAddr, pod: IpAddr| {
            let mut wire = world.wire.clone();
            let outer_source = source(outer);
            wire[14 + outer_source.start..14 + outer_source.end].copy_from_slice(&octets(node));
            let inner_source = source(inner);
            let at = world.at;
            wire[at + inner_source.start..at + inner_source.end].copy_from_slice(&octets(pod));
            seal_ip(&mut wire[14..]);
            seal_ip(&mut wire[at..]);
            wire
        };
        let stranger = from(node_ip(outer, 99), pod_ip(inner, 1, 1));
        let others = from(node_ip(outer, 3), pod_ip(inner, 1, 1));
        let nobodys = from(node_ip(outer, 1), pod_ip(inner, 77, 1));
        let ours = from(node_ip(outer, 1), pod_ip(inner, 2, 1));
        let right = from(node_ip(outer, 3), pod_ip(inner, 3, 9));
        let two = &mut world.two;
        two.refuses_uplink(&stranger, DropReason::UnknownPeer, &what);
        two.refuses_uplink(&others, DropReason::InnerSourceMismatch, &what);
        two.refuses_uplink(&nobodys, DropReason::InnerSourceMismatch, &what);
        two.refuses_uplink(&ours, DropReason::InnerSourceMismatch, &what);
        two.send_uplink(&right);
        assert!(two.pods[0].receive().is_some(), "{what}");
        world.finish();
    }
}

#[test]
fn what_is_no_ip_packet_inside_is_refused() {
    for (kind, outer, inner) in tunnels() {
        let what = format!("{inner:?} by {kind:?} over {outer:?}");
        let mut world = across(kind, outer, inner);
        let mut wire = world.wire.clone();
        if let Kind::Vxlan { .. } = kind {
            let at = world.at - 2;
            wire[at..at + 2].copy_from_slice(&[8, 6]);
            world
                .two
                .refuses_uplink(&wire, DropReason::InnerUnsupported, &what);
        }
        // The other family than the tunnel header says.
        let other = match inner {
            V4 => udp_ip(pod_ip(V6, 1, 1), pod_ip(V6, 2, 1), 63, 10),
            V6 => udp_ip(pod_ip(V4, 1, 1), pod_ip(V4, 2, 1), 63, 30),
        };
        let wire = carry(&world, kind, outer, &other);
        world
            .two
            .refuses_uplink(&wire, DropReason::BadIpHeader, &what);
        world.finish();
    }
}

#[test]
fn outer_fragments_and_extension_headers_are_refused_by_name() {
    for kind in [VXLAN, Kind::Ipip] {
        for (header, next) in [
            ([0, 0, 0, 1, 0, 0, 0, 9], 44),
            ([0, 0, 0, 0, 0, 0, 0, 9], 44),
            ([0, 0, 1, 4, 0, 0, 0, 0], 60),
            ([0, 0, 1, 4, 0, 0, 0, 0], 0),
        ] {
            let what = format!("{next} before {kind:?}");
            let mut world = across(kind, V6, V6);
            let mut wire = world.wire.clone();
            wire.splice(54..54, header);
            wire[54] = wire[20];
            wire[20] = next;
            let length = (wire.len() - 54) as u16;
            wire[18..20].copy_from_slice(&length.to_be_bytes());
            let reason = DropReason::UnexpectedProtocol;
            world.two.refuses_uplink(&wire, reason, &what);
            world.finish();
        }
    }
}

#[test]
fn outer_sources_that_no_host_has_are_martian() {
    for source in ["::", "::1", "ff02::1"] {
        let mut world = across(VXLAN, V6, V4);
        let address: IpAddr = source.parse().expect("an address");
        world.wire[22..38].copy_from_slice(&octets(address));
        let wire = world.wire.clone();
        world
            .two
            .refuses_uplink(&wire, DropReason::MartianSource, source);
        world.finish();
    }
}

#[test]
fn frames_of_the_wire_cut_anywhere_are_accounted_for() {
    for (kind, outer, inner) in tunnels() {
        let mut world = across(kind, outer, inner);
        for length in 1..world.wire.len() {
            world.two.send_uplink(&world.wire[..length]);
            // And where the outer packet says itself that it is so short.
            let mut short = world.wire[..length].to_vec();
            if length > 14 + outer_len(outer) + 8 {
                fix_outer(&mut short, kind, outer);
                world.two.send_uplink(&short);
            }
            world.two.must_balance();
        }
        assert_eq!(world.two.take_all(), []);
        world.finish();
    }
}

#[test]
fn jumbo_chains_keep_their_bytes_through_a_tunnel() {
    for (kind, outer, inner) in tunnels() {
        let mut world = across(kind, outer, inner);
        for node in [&mut world.one, &mut world.two] {
            let other = 3 - node.number;
            node.tunnel(other, kind, outer, inner, 9100);
            let action = shunt_switch::tables::Action::Deliver;
            for (family, hop) in [(V4, node.hops[0]), (V6, node.hops6[0])] {
                let jumbo = NextHop {
                    mtu: 9000,
                    ..Node::to_station(action, node.ids[0], pod_mac(1), family)
                };
                node.switch.set_next_hop(hop, jumbo);
            }
        }
        let sent = udp_ip(pod_ip(inner, 1, 1), pod_ip(inner, 2, 1), 64, 8001);
        let wire = sends(&mut world.one, &sent);
        world.two.send_uplink(&wire);
        let got = world.two.pods[0].receive().expect("a frame");
        assert_eq!(got.len(), 14 + sent.len());
        assert!(seen(&got).payload[8..] == pattern(8001));
        world.finish();
    }
}
