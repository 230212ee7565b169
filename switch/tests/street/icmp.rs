//! What the switch says as a router: errors, to whom and about what, and the gateway's answers.

use std::net::IpAddr;
use std::time::Duration;

use shunt_encap::IpFamily;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::{Action, NextHop, Policy};

use crate::node::*;

const FAMILIES: [IpFamily; 2] = [V4, V6];

/// Types and codes, for IPv4 and IPv6.
type Kinds = [(u8, u8); 2];
const TIME_EXCEEDED: Kinds = [(11, 0), (3, 0)];
const NO_ROUTE: Kinds = [(3, 0), (1, 0)];
const HOST_UNREACHABLE: Kinds = [(3, 1), (1, 3)];
const PORT_UNREACHABLE: Kinds = [(3, 3), (1, 4)];
const TOO_BIG: Kinds = [(3, 4), (2, 0)];

fn of(kinds: Kinds, family: IpFamily) -> (u8, u8) {
    let [v4, v6] = kinds;
    if family == V4 { v4 } else { v6 }
}

fn peers(family: IpFamily) -> (IpAddr, IpAddr) {
    (pod_ip(family, 1, 1), pod_ip(family, 1, 2))
}

/// What pod 1 hears about `packet`, which goes nowhere.
#[track_caller]
fn hears(node: &mut Node, packet: &[u8], what: &str) -> Complaint {
    node.send(1, &routed(1, packet));
    let mut came = node.take_all();
    let (to, got) = came.pop().unwrap_or_else(|| panic!("{what}: silence"));
    assert!(came.is_empty(), "{what}: {came:02x?}");
    assert_eq!(to, "pod 1", "{what}");
    assert_eq!(got[..12], [pod_mac(1).0, GATEWAY_MAC.0].concat(), "{what}");
    complaint(&got)
}

#[test]
fn the_last_hop_is_told_by_the_nodes_address() {
    for family in FAMILIES {
        let (one, two) = peers(family);
        let mut node = Node::new(1, Mode::L3, 2);
        for hops in [0, 1] {
            for payload in [0, 100, 3000] {
                let packet = udp_ip(one, two, hops, payload);
                let heard = hears(&mut node, &packet, "an error");
                assert_eq!(heard.kind, of(TIME_EXCEEDED, family));
                assert_eq!((heard.from, heard.to), (node_ip(family, 1), one));
                // As it arrived, and no more than an error may hold.
                let most = if family == V4 { 576 - 28 } else { 1280 - 48 };
                assert_eq!(heard.quoted, packet[..packet.len().min(most)]);
            }
        }
        // Ping is a question, and may be answered with an error.
        let heard = hears(&mut node, &ping(one, two, 1, 8), "ping");
        assert_eq!(heard.kind, of(TIME_EXCEEDED, family));
        assert_eq!(node.drops(DropReason::TtlExpired), 7);
        assert_eq!(node.switch.counters().0.worker.icmp_sent, 7);
        node.finish();
    }
}

#[test]
fn each_node_on_the_way_tells() {
    for kind in [VXLAN, Kind::Ipip, Kind::Direct] {
        for (outer, inner) in [(V4, V4), (V4, V6), (V6, V4), (V6, V6)] {
            if kind == Kind::Direct && outer != inner {
                continue;
            }
            let what = format!("{inner:?} by {kind:?} over {outer:?}");
            let mut nodes = [Node::new(1, Mode::L3, 1), Node::new(2, Mode::L3, 1)];
            let [one, two] = &mut nodes;
            one.tunnel(2, kind, outer, inner, 1500);
            two.tunnel(1, kind, outer, inner, 1500);
            let (from, to) = (pod_ip(inner, 1, 1), pod_ip(inner, 2, 1));
            let heard = hears(one, &udp_ip(from, to, 1, 40), &what);
            assert_eq!(heard.from, node_ip(inner, 1), "{what}");

            one.send(1, &routed(1, &udp_ip(from, to, 2, 40)));
            let there = one.uplink.receive().expect("a packet on the wire");
            two.send_uplink(&there);
            assert_eq!(two.drops(DropReason::TtlExpired), 1, "{what}");
            let back = two.uplink.receive();
            let back = back.unwrap_or_else(|| panic!("{what}: silence"));
            one.send_uplink(&back);
            let names = one.drop_names();
            let got = one.pods[0].receive();
            let got = got.unwrap_or_else(|| panic!("{what}: {names:?}"));
            let heard = complaint(&got);
            assert_eq!(heard.kind, of(TIME_EXCEEDED, inner), "{what}");
            assert_eq!((heard.from, heard.to), (node_ip(inner, 2), from), "{what}");
            // As it came to node 2.
            assert_eq!(heard.quoted, udp_ip(from, to, 1, 40), "{what}");
            nodes.into_iter().for_each(Node::finish);
        }
    }
}

#[test]
fn nobody_is_told_of_errors_and_later_fragments() {
    let expired = DropReason::TtlExpired;
    for family in FAMILIES {
        let (one, two) = peers(family);
        let mut node = Node::new(1, Mode::L3, 2);
        let quoted = udp_ip(two, one, 64, 20);
        for kind in [TIME_EXCEEDED, NO_ROUTE, PORT_UNREACHABLE, TOO_BIG] {
            let (protocol, message) = icmp(one, two, of(kind, family), [0; 4], &quoted);
            let packet = ip(one, two, 1, protocol, &message);
            node.refuses(1, &routed(1, &packet), expired, "an error");
        }
        node.finish();
    }
    let mut node = Node::new(1, Mode::L3, 2);
    let (one, two) = peers(V4);
    let mut fragment = ip(one, two, 1, UDP, &pattern(64));
    fragment[6..8].copy_from_slice(&[0x20, 1]);
    seal_ip(&mut fragment);
    node.refuses(1, &routed(1, &fragment), expired, "a later fragment");
    fragment[7] = 0;
    seal_ip(&mut fragment);
    assert_eq!(hears(&mut node, &fragment, "a first one").kind, (11, 0));
    // Of what a later fragment of ICMPv6 is, nobody knows.
    let (one, two) = peers(V6);
    let header = [ICMP6, 0, 0, 9, 0, 0, 0, 1];
    let packet = ip(one, two, 1, 44, &[&header[..], &pattern(32)].concat());
    node.refuses(1, &routed(1, &packet), expired, "a later fragment");
    node.finish();
}

#[test]
fn what_strangers_send_elicits_nothing() {
    for inner in FAMILIES {
        let mut nodes = [Node::new(1, Mode::L3, 1), Node::new(2, Mode::L3, 1)];
        let [one, two] = &mut nodes;
        one.tunnel(2, Kind::Ipip, V4, inner, 1500);
        two.tunnel(1, Kind::Ipip, V4, inner, 1500);
        two.tunnel(3, Kind::Ipip, V4, inner, 1500);
        let (from, to) = (pod_ip(inner, 1, 1), pod_ip(inner, 2, 1));
        one.send(1, &routed(1, &udp_ip(from, to, 2, 40)));
        let there = one.uplink.receive().expect("a packet on the wire");
        for (node, reason) in [
            (99, DropReason::UnknownPeer),
            (3, DropReason::InnerSourceMismatch),
        ] {
            let mut forged = there.clone();
            forged[29] = node;
            seal_ip(&mut forged[14..]);
            two.refuses_uplink(&forged, reason, "its last hop");
        }
        // Nor when there is no route, and when it is too large.
        one.send(1, &routed(1, &udp_ip(from, to, 9, 1400)));
        let mut large = one.uplink.receive().expect("a packet on the wire");
        let narrow = NextHop {
            mtu: 1300,
            ..Node::to_station(Action::Deliver, two.ids[0], pod_mac(1), inner)
        };
        let hop = if inner == V4 {
            two.hops[0]
        } else {
            two.hops6[0]
        };
        two.switch.set_next_hop(hop, narrow);
        large[29] = 99;
        seal_ip(&mut large[14..]);
        two.refuses_uplink(&large, DropReason::UnknownPeer, "too large");
        nodes.into_iter().for_each(Node::finish);
    }
}

/// A link-local destination is refused before anyone asks whose tunnel it came out of.
#[test]
fn what_strangers_send_to_link_local_addresses_elicits_nothing() {
    let mut two = Node::new(2, Mode::L3, 1);
    two.tunnel(1, Kind::Ipip, V4, V6, 1500);
    let far: IpAddr = "fe80::77".parse().expect("an address");
    let inner = udp_ip(pod_ip(V6, 1, 1), far, 64, 20);
    for from in [99, 1] {
        let packet = ip(node_ip(V4, from), node_ip(V4, 2), 64, 41, &inner);
        let wire = frame(pod_mac(9), pod_mac(8), &packet);
        two.refuses_uplink(&wire, DropReason::LinkLocal, "from a tunnel");
    }
    two.finish();
}

#[test]
fn unreachable_networks_are_reported_where_the_policy_says_so() {
    for family in FAMILIES {
        let one = pod_ip(family, 1, 1);
        let packet = udp_ip(one, pod_ip(family, 9, 9), 64, 20);
        let mut node = Node::new(1, Mode::L3, 2);
        let heard = hears(&mut node, &packet, "no route");
        assert_eq!(heard.kind, of(NO_ROUTE, family));
        assert_eq!(heard.from, node_ip(family, 1));
        assert_eq!(heard.quoted, packet);
        node.switch.set_policy(Policy {
            unreachable: false,
            ..Policy::default()
        });
        node.refuses(1, &routed(1, &packet), DropReason::NoRoute, "silent");
        // A last hop is no secret.
        let packet = udp_ip(one, pod_ip(family, 1, 2), 1, 20);
        let heard = hears(&mut node, &packet, "the last hop");
        assert_eq!(heard.kind, of(TIME_EXCEEDED, family));
        node.finish();
    }
}

#[test]
fn a_neighbour_that_is_not_found_is_unreachable() {
    for family in FAMILIES {
        let mut node = Node::with(1, Mode::L3, 2, |setup| {
            setup.pending.timeout = Duration::from_millis(20);
        });
        let (one, two) = peers(family);
        let hop = if family == V4 {
            node.hops[1]
        } else {
            node.hops6[1]
        };
        node.switch.set_next_hop(hop, NextHop::inert(Action::Wait));
        let packet = udp_ip(one, two, 64, 20);
        node.send(1, &routed(1, &packet));
        assert_eq!(node.take_all(), [], "it waits");
        std::thread::sleep(Duration::from_millis(30));
        node.settle();
        let heard = complaint(&node.pods[0].receive().expect("an error"));
        assert_eq!(heard.kind, of(HOST_UNREACHABLE, family));
        assert_eq!(heard.quoted, packet);
        assert_eq!(node.drops(DropReason::NeighbourTimeout), 1);
        node.finish();
    }
}

#[test]
fn what_does_not_fit_the_path_comes_back_with_the_paths_mtu() {
    for (kind, outer, mtu) in [
        (VXLAN, V4, 1450),
        (Kind::Ipip, V4, 1480),
        (VXLAN, V6, 1430),
        (Kind::Ipip, V6, 1460),
    ] {
        for family in FAMILIES {
            let what = format!("{family:?} by {kind:?} over {outer:?}");
            let mut node = Node::new(1, Mode::L3, 1);
            node.tunnel(2, kind, outer, family, 1500);
            let (from, to) = (pod_ip(family, 1, 1), pod_ip(family, 2, 1));
            let headers = if family == V4 { 28 } else { 48 };
            let sized = |length: usize| {
                let mut packet = udp_ip(from, to, 64, length - headers);
                if family == V4 {
                    packet[6] = 0x40;
                    seal_ip(&mut packet);
                }
                packet
            };
            node.send(1, &routed(1, &sized(mtu)));
            let wire = node.uplink.receive().expect("it fits");
            assert_eq!(wire.len(), 1514, "{what}");
            for length in [mtu + 1, 1500, 4000] {
                let packet = sized(length);
                let heard = hears(&mut node, &packet, &what);
                assert_eq!(heard.kind, of(TOO_BIG, family), "{what}");
                assert_eq!(heard.value, mtu as u32, "{what}");
                assert_eq!(heard.from, node_ip(family, 1), "{what}");
                assert!(packet.starts_with(&heard.quoted), "{what}");
                assert!(heard.quoted.len() >= headers, "{what}");
            }
            assert_eq!(node.drops(DropReason::MtuExceeded), 3, "{what}");
            node.finish();
        }
    }
}

#[test]
fn a_last_hop_counts_before_the_size_does() {
    // RFC 1812, 5.2: the TTL first; the sender gets one error, and nothing is cut.
    for family in FAMILIES {
        let (one, two) = peers(family);
        let mut node = Node::new(1, Mode::L3, 2);
        let packet = udp_ip(one, two, 1, 3000);
        let heard = hears(&mut node, &packet, "its last hop");
        assert_eq!(heard.kind, of(TIME_EXCEEDED, family));
        assert_eq!(node.drop_names(), ["ttl_expired"]);
        node.finish();
    }
}

#[test]
fn errors_are_few_in_a_second_and_those_left_out_are_counted() {
    for family in FAMILIES {
        let (one, two) = peers(family);
        let mut node = Node::new(1, Mode::L3, 2);
        node.switch.set_policy(Policy {
            icmp_rate: 3,
            ..Policy::default()
        });
        for second in 1..=3 {
            node.switch.clock().set(second);
            for _ in 0..5 {
                node.send(1, &routed(1, &udp_ip(one, two, 1, 20)));
            }
            assert_eq!(node.take_all().len(), 3);
            let worker = node.switch.counters().0.worker;
            let so_far = u64::from(second);
            assert_eq!(worker.icmp_sent, 3 * so_far);
            assert_eq!(worker.icmp_limited, 2 * so_far);
        }
        assert_eq!(node.drops(DropReason::TtlExpired), 15);
        node.finish();
    }
}

#[test]
fn ping_of_the_gateway_is_answered() {
    for mode in [Mode::L3, Mode::L2] {
        let mut node = Node::new(1, mode, 2);
        let link_local: IpAddr = "fe80::5".parse().expect("an address");
        let askers = [pod_ip(V4, 1, 1), pod_ip(V6, 1, 1), link_local];
        for asker in askers {
            let family = if asker.is_ipv4() { V4 } else { V6 };
            for (hops, payload) in [(64, 56), (1, 0), (255, 1400), (64, 5001)] {
                let request = ping(asker, gateway(family), hops, payload);
                let got = node.exchange(1, &routed(1, &request), 1);
                let names = node.drop_names();
                let got = got.unwrap_or_else(|| panic!("{asker}: {names:?}"));
                assert_eq!(got[..12], [pod_mac(1).0, GATEWAY_MAC.0].concat());
                let reply = seen(&got);
                assert_eq!(reply.ways(), (gateway(family), asker, 64));
                let kind = if family == V4 { 0 } else { 129 };
                assert_eq!(reply.payload[..2], [kind, 0]);
                assert_eq!(reply.payload[4..8], [0, 7, 0, 1]);
                assert!(reply.payload[8..] == pattern(payload));
            }
        }
        assert_eq!(node.take_all(), []);
        node.finish();
    }
}

#[test]
fn nothing_listens_at_the_gateway() {
    for family in FAMILIES {
        let one = pod_ip(family, 1, 1);
        let mut node = Node::new(1, Mode::L3, 1);
        // The last hop is the gateway itself, so there is none to lack.
        for hops in [64, 1] {
            let packet = udp_ip(one, gateway(family), hops, 20);
            let heard = hears(&mut node, &packet, "UDP");
            assert_eq!(heard.kind, of(PORT_UNREACHABLE, family));
            // It is the one that was asked (RFC 1122, 3.2.2.1; RFC 4443, 2.2 (a)).
            assert_eq!(heard.from, gateway(family));
            assert_eq!(heard.quoted, packet);
        }
        assert_eq!(node.drops(DropReason::GatewayNoService), 2);
        for _ in 0..998 {
            node.send(1, &routed(1, &ping(one, gateway(family), 64, 8)));
        }
        node.take_all();
        let request = routed(1, &ping(one, gateway(family), 64, 8));
        node.refuses(1, &request, DropReason::SlowPathLimit, "too many");
        node.finish();
    }
}
