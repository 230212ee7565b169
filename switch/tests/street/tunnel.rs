//! Between nodes: VXLAN, IPIP, direct; and what must not come in.

use shunt_api::MacAddr;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::PortId;

use crate::node::*;

type Join = fn(&mut Node, u8);

const VXLAN: Join = |node, to| node.vxlan_to(to, false);
const TUNNELS: [(&str, Join); 2] = [("vxlan", VXLAN), ("ipip", Node::ipip_to)];

/// Two nodes, joined by `join`, and a packet from pod 1 of node 1 to pod 1 of node 2.
fn across(join: impl Fn(&mut Node, u8)) -> (Node, Node, Vec<u8>) {
    let mut one = Node::new(1, Mode::L3, 1);
    let mut two = Node::new(2, Mode::L3, 1);
    join(&mut one, 2);
    join(&mut two, 1);
    let mut frame = udp_to(pod(2, 1), 100);
    leave_checksum(&mut frame);
    one.send(1, &frame);
    let wire = one.uplink.receive().expect("a frame on the wire");
    (one, two, wire)
}

fn arrives(mut one: Node, mut two: Node, wire: &[u8]) {
    two.send_uplink(wire);
    let got = two.pods[0].receive().expect("a frame");
    assert_eq!(check_udp(&got), (pod(1, 1), pod(2, 1), 62));
    assert_eq!(got[..12], [pod_mac(1).0, GATEWAY_MAC.0].concat());
    one.settle();
    one.finish();
    two.finish();
}

#[test]
fn vxlan_there_and_out() {
    for udp_checksum in [false, true] {
        let (one, two, wire) = across(|node, to| node.vxlan_to(to, udp_checksum));
        assert_eq!(wire.len(), 14 + 20 + 8 + 8 + 14 + 20 + 8 + 100);
        let outer = etherparse::SlicedPacket::from_ethernet(&wire).expect("a packet");
        let Some(etherparse::NetSlice::Ipv4(ip)) = &outer.net else {
            panic!("not IPv4")
        };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(header.source, node_address(1).octets());
        assert_eq!(header.destination, node_address(2).octets());
        assert!(header.dont_fragment);
        let Some(etherparse::TransportSlice::Udp(udp)) = &outer.transport else {
            panic!("not UDP")
        };
        assert_eq!(udp.destination_port(), VXLAN_PORT);
        assert!(udp.source_port() >= 49152);
        let sum = udp
            .to_header()
            .calc_checksum_ipv4(&header, udp.payload())
            .expect("a sum");
        assert_eq!(udp.checksum(), if udp_checksum { sum } else { 0 });
        assert_eq!(udp.payload()[..8], [8, 0, 0, 0, 0, 0, VNI as u8, 0]);
        check_udp(&udp.payload()[8..]);
        arrives(one, two, &wire);
    }
}

#[test]
fn ipip_there_and_out() {
    let (one, two, wire) = across(Node::ipip_to);
    assert_eq!(wire[23], 4, "IP in IP");
    assert_eq!(wire.len(), 14 + 20 + 20 + 8 + 100);
    arrives(one, two, &wire);
}

#[test]
fn direct_there_and_out() {
    let (one, two, wire) = across(Node::direct_to);
    assert_eq!(check_udp(&wire), (pod(1, 1), pod(2, 1), 63));
    arrives(one, two, &wire);
}

#[test]
fn jumbo_chains_keep_their_bytes_through_a_tunnel() {
    let (mut one, mut two, _) = across(VXLAN);
    // The pods and the wire take 9000 bytes.
    for node in [&mut one, &mut two] {
        let other = 3 - node.number;
        let hop = shunt_switch::tables::NextHop {
            mtu: 9000,
            ..Node::to_pod(node.ids[0], pod_mac(1))
        };
        node.switch.set_next_hop(node.hops[0], hop);
        node.jumbo_to(other);
    }
    let mut frame = udp_to(pod(2, 1), 8000);
    leave_checksum(&mut frame);
    one.send(1, &frame);
    let wire = one.uplink.receive().expect("a frame on the wire");
    two.send_uplink(&wire);
    let got = two.pods[0].receive().expect("a frame");
    assert_eq!(got.len(), frame.len());
    check_udp(&got);
    assert_eq!(got[42..], frame[42..]);
    one.finish();
    two.finish();
}

#[test]
fn flows_spread_over_source_ports() {
    let mut node = Node::new(1, Mode::L3, 1);
    node.vxlan_to(2, false);
    let mut ports = std::collections::HashSet::new();
    for n in 1..=100 {
        node.send(1, &udp_to(pod(2, n), 10));
        let wire = node.uplink.receive().expect("a frame");
        ports.insert([wire[34], wire[35]]);
    }
    assert!(
        ports.len() > 90,
        "{} source ports for 100 flows",
        ports.len()
    );
    node.finish();
}

/// Each change to a good VXLAN packet, and the drop it must end in.
#[test]
fn vxlan_packets_that_must_not_come_in() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change, DropReason); 12] = [
        ("a stranger", |f| f[29] = 99, DropReason::UnknownPeer),
        (
            "inner source of no peer",
            |f| f[78] = 9,
            DropReason::InnerSourceMismatch,
        ),
        ("another VNI", |f| f[48] = 8, DropReason::WrongVni),
        ("I flag clear", |f| f[42] = 0, DropReason::BadVxlanHeader),
        ("reserved bit", |f| f[49] = 1, DropReason::BadVxlanHeader),
        (
            "another VTEP's MAC",
            |f| f[55] = 9,
            DropReason::WrongVtepMac,
        ),
        ("inner ARP", |f| f[63] = 6, DropReason::InnerUnsupported),
        (
            "another UDP port",
            |f| f[37] = 1,
            DropReason::UnexpectedProtocol,
        ),
        (
            "TCP to the node",
            |f| f[23] = 6,
            DropReason::UnexpectedProtocol,
        ),
        ("a fragment", |f| f[20] = 0x20, DropReason::OuterFragment),
        ("cut short", |f| f.truncate(70), DropReason::BadIpHeader),
        (
            "inner longer than outer",
            |f| f[66] = 0xff,
            DropReason::BadIpHeader,
        ),
    ];
    for (name, change, reason) in cases {
        let (one, mut two, mut wire) = across(VXLAN);
        change(&mut wire);
        fix_ip_checksum(&mut wire);
        // The inner header too, where the case has changed it.
        if wire.len() > 98 && name.starts_with("inner source") {
            fix_ip_checksum(&mut wire[50..]);
        }
        two.send_uplink(&wire);
        assert_eq!(two.pods[0].receive(), None, "{name}");
        assert_eq!(two.drops(reason), 1, "{name}: {:?}", two.drop_names());
        one.finish();
        two.finish();
    }
}

#[test]
fn an_inner_source_that_belongs_to_another_peer_is_named_so() {
    let (one, mut two, mut wire) = across(VXLAN);
    two.vxlan_to(3, false);
    // From node 3 to this node, with a pod of node 1 as inner source.
    wire[29] = 3;
    fix_ip_checksum(&mut wire);
    two.send_uplink(&wire);
    assert_eq!(two.drops(DropReason::InnerSourceMismatch), 1);
    one.finish();
    two.finish();
}

#[test]
fn tunnels_in_tunnels_are_refused() {
    let (one, mut two, mut wire) = across(Node::ipip_to);
    // The inner packet becomes IPIP to the node itself.
    wire[43] = 4;
    wire[50..54].copy_from_slice(&node_address(2).octets());
    fix_ip_checksum(&mut wire[20..]);
    two.send_uplink(&wire);
    assert_eq!(two.drops(DropReason::NestedTunnel), 1);
    one.finish();
    two.finish();
}

#[test]
fn congestion_marks_pass_to_the_inner_header_or_drop() {
    // RFC 6040, figure 4: CE outside marks an ECN-capable inner packet and drops another.
    let (one, mut two, mut wire) = across(VXLAN);
    wire[15] = 3;
    fix_ip_checksum(&mut wire);
    two.send_uplink(&wire);
    assert_eq!(two.drops(DropReason::EcnIllegal), 1);
    wire[65] = 2;
    fix_ip_checksum(&mut wire[50..]);
    two.send_uplink(&wire);
    let got = two.pods[0].receive().expect("a frame");
    assert_eq!(got[15] & 3, 3);
    check_udp(&got);
    one.finish();
    two.finish();
}

#[test]
fn what_is_not_for_a_local_pod_goes_no_further() {
    let mut two = Node::new(2, Mode::L3, 1);
    two.direct_to(1);
    let foreign = udp(pod_mac(9), pod_mac(8), pod(3, 1), pod(1, 1), 64, 10);
    two.send_uplink(&foreign);
    assert_eq!(two.drops(DropReason::TransitRefused), 1);
    assert_eq!(two.uplink.receive(), None);
    two.finish();
}

/// Makes the outer lengths of a tunnel packet say `total`, VXLAN's UDP length included.
fn set_outer_length(wire: &mut [u8], total: u16) {
    wire[16..18].copy_from_slice(&total.to_be_bytes());
    if wire[23] == 17 {
        wire[38..40].copy_from_slice(&(total - 20).to_be_bytes());
    }
    fix_ip_checksum(wire);
}

/// Where an Ethernet header in front of the inner packet begins; as many bytes, from the outer IP
/// header on, come before the packet.
fn inner(wire: &[u8]) -> usize {
    if wire[23] == 17 { 50 } else { 20 }
}

fn outer_length(wire: &[u8]) -> u16 {
    u16::from_be_bytes([wire[16], wire[17]])
}

/// Applies `change` to a good packet of both encapsulations; it must end in `reason`.
fn both_refuse(name: &str, reason: DropReason, change: impl Fn(&mut Vec<u8>)) {
    for (encap, join) in TUNNELS {
        let (one, mut two, mut wire) = across(join);
        change(&mut wire);
        two.send_uplink(&wire);
        assert_eq!(two.pods[0].receive(), None, "{name} in {encap}");
        let names = two.drop_names();
        assert_eq!(two.drops(reason), 1, "{name} in {encap}: {names:?}");
        one.finish();
        two.finish();
    }
}

#[test]
fn outer_sources_that_no_host_has_are_martian() {
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        let name = format!("from {source:?}");
        both_refuse(&name, DropReason::MartianSource, |wire| {
            wire[26..30].copy_from_slice(&source);
            fix_ip_checksum(wire);
        });
    }
}

#[test]
fn inner_sources_that_no_host_has_are_martian() {
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        let name = format!("from {source:?}");
        both_refuse(&name, DropReason::MartianSource, |wire| {
            let inner = inner(wire);
            wire[inner + 26..inner + 30].copy_from_slice(&source);
            fix_ip_checksum(&mut wire[inner..]);
        });
    }
}

#[test]
fn an_inner_packet_does_not_reach_beyond_the_outer_one() {
    // By a byte, by its payload, and into its header.
    for missing in [1, 100, 108, 120] {
        let name = format!("{missing} bytes in the padding");
        let header_too = missing > 108;
        let reason = if header_too {
            DropReason::TruncatedFrame
        } else {
            DropReason::BadIpHeader
        };
        both_refuse(&name, reason, |wire| {
            let total = outer_length(wire);
            set_outer_length(wire, total - missing);
        });
    }
    // Nothing is left of it.
    both_refuse("all of it", DropReason::TruncatedFrame, |wire| {
        let headers = inner(wire) as u16;
        set_outer_length(wire, headers);
    });
}

#[test]
fn padding_behind_the_outer_packet_is_cut_off() {
    for join in [VXLAN, Node::ipip_to, Node::direct_to] {
        for padding in [1, 46, 3000] {
            let (one, mut two, mut wire) = across(join);
            wire.resize(wire.len() + padding, 0xa5);
            two.send_uplink(&wire);
            let got = two.pods[0].receive().expect("a frame");
            assert_eq!(got.len(), 14 + 20 + 8 + 100);
            assert_eq!(check_udp(&got), (pod(1, 1), pod(2, 1), 62));
            one.finish();
            two.finish();
        }
    }
}

#[test]
fn bytes_between_the_inner_packet_and_the_end_of_the_outer_are_cut_off() {
    for (_, join) in TUNNELS {
        let (one, mut two, mut wire) = across(join);
        // As when a short inner Ethernet frame is padded.
        wire.extend([0xa5; 30]);
        let total = outer_length(&wire) + 30;
        set_outer_length(&mut wire, total);
        arrives_unchanged(&mut two, &wire);
        one.finish();
        two.finish();
    }
}

fn arrives_unchanged(two: &mut Node, wire: &[u8]) {
    two.send_uplink(wire);
    let names = two.drop_names();
    let got = two.pods[0].receive();
    let got = got.unwrap_or_else(|| panic!("no frame, but {names:?}"));
    assert_eq!(got.len(), 14 + 20 + 8 + 100);
    assert_eq!(check_udp(&got), (pod(1, 1), pod(2, 1), 62));
}

#[test]
fn a_udp_length_that_is_not_the_packets_is_refused() {
    let (one, mut two, wire) = across(VXLAN);
    let length = outer_length(&wire) - 20;
    let wrong = [0, 7, 8, length - 1, length + 1, u16::MAX];
    for (n, wrong) in (1..).zip(wrong) {
        let mut wire = wire.clone();
        wire[38..40].copy_from_slice(&wrong.to_be_bytes());
        two.send_uplink(&wire);
        assert_eq!(two.pods[0].receive(), None, "{wrong}");
        let names = two.drop_names();
        assert_eq!(two.drops(DropReason::BadUdpLength), n, "{wrong}: {names:?}");
    }
    arrives_unchanged(&mut two, &wire);
    one.finish();
    two.finish();
}

#[test]
fn ip_options_before_the_tunnel_are_skipped() {
    for (_, join) in TUNNELS {
        let (one, mut two, mut wire) = across(join);
        let total = outer_length(&wire) + 4;
        // Three times no operation, and the end of the list (RFC 791, 3.1).
        wire.splice(34..34, [1, 1, 1, 0]);
        wire[14] = 0x46;
        wire[16..18].copy_from_slice(&total.to_be_bytes());
        fix_ip_checksum(&mut wire);
        arrives_unchanged(&mut two, &wire);
        one.finish();
        two.finish();
    }
}

#[test]
fn a_wrong_header_checksum_is_refused_outside_and_inside() {
    both_refuse("outer", DropReason::BadIpChecksum, |wire| wire[25] ^= 1);
    both_refuse("inner", DropReason::BadIpChecksum, |wire| {
        let inner = inner(wire);
        wire[inner + 25] ^= 1;
    });
    // In no tunnel.
    let (one, mut two, mut wire) = across(Node::direct_to);
    wire[25] ^= 1;
    two.send_uplink(&wire);
    assert_eq!(two.drops(DropReason::BadIpChecksum), 1);
    one.finish();
    two.finish();
}

#[test]
fn an_inner_ttl_that_ends_here_is_named_so() {
    for ttl in [0, 1] {
        both_refuse("TTL", DropReason::TtlExpired, |wire| {
            let inner = inner(wire);
            wire[inner + 22] = ttl;
            fix_ip_checksum(&mut wire[inner..]);
        });
    }
}

/// At any length, a frame of the wire ends by name, and by the right one.
#[test]
fn frames_cut_anywhere_are_accounted_for() {
    for (_, join) in TUNNELS {
        let (one, mut two, wire) = across(join);
        for length in 1..wire.len() {
            two.send_uplink(&wire[..length]);
            two.must_balance();
            // Without the whole outer header there is nothing to compare lengths with.
            let headers = if length < 34 { length as u64 } else { 33 };
            assert_eq!(two.drops(DropReason::TruncatedFrame), headers, "{length}");
            let rest = length as u64 - headers;
            assert_eq!(two.drops(DropReason::BadIpHeader), rest, "{length}");
        }
        assert_eq!(two.pods[0].receive(), None);
        one.finish();
        two.finish();
    }
}

/// As above, but the outer packet says itself that it is so short.
#[test]
fn packets_cut_anywhere_are_accounted_for() {
    for (_, join) in TUNNELS {
        let (one, mut two, wire) = across(join);
        let inner_header = inner(&wire) + 14;
        let shortest = if wire[23] == 17 { 42 } else { 34 };
        for length in shortest..wire.len() {
            let mut wire = wire[..length].to_vec();
            set_outer_length(&mut wire, (length - 14) as u16);
            let before = two.drops(DropReason::TruncatedFrame);
            two.send_uplink(&wire);
            two.must_balance();
            let truncated = two.drops(DropReason::TruncatedFrame) - before;
            assert_eq!(truncated, u64::from(length < inner_header + 20), "{length}");
        }
        assert_eq!(two.pods[0].receive(), None);
        one.finish();
        two.finish();
    }
}

#[test]
fn what_the_link_floods_for_other_stations_is_not_ours() {
    for join in [VXLAN, Node::ipip_to, Node::direct_to] {
        let (one, mut two, wire) = across(join);
        let mut mac = [0; 6];
        mac.copy_from_slice(&wire[..6]);
        two.switch.set_port_mac(PortId(0), MacAddr(mac));
        two.send_uplink(&wire);
        assert!(two.pods[0].receive().is_some());
        let mut elsewhere = wire.clone();
        elsewhere[5] ^= 1;
        two.send_uplink(&elsewhere);
        assert_eq!(two.pods[0].receive(), None);
        assert_eq!(two.drops(DropReason::NotOurMac), 1);
        one.finish();
        two.finish();
    }
}
