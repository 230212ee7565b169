//! The node's own stack, and the connections to services that it translates.

mod end;

use std::net::IpAddr;

use shunt_api::MacAddr;
use shunt_encap::IpFamily;
use shunt_encap::ndp::{multicast_mac, solicited_node};
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::{FlowState, Policy, PortId};

use crate::arp;
use crate::node::*;

const FAMILIES: [IpFamily; 2] = [V4, V6];

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Client and endpoint.
const PORTS: (u16, u16) = (40000, 8080);

/// Two pods and the node's stack; node 2 is reached by VXLAN.
fn joined(mode: Mode) -> Node {
    let mut node = Node::new(1, mode, 2);
    node.join_host();
    for family in FAMILIES {
        node.tunnel(2, VXLAN, V4, family, 1500);
    }
    node
}

fn outside(family: IpFamily) -> IpAddr {
    let text = if family == V4 {
        "198.51.100.7"
    } else {
        "2001:db8::7"
    };
    text.parse().expect("an address")
}

/// From the node's stack to the gateway.
fn by_host(packet: &[u8]) -> Vec<u8> {
    frame(HOST_MAC, GATEWAY_MAC, packet)
}

fn udp_ports(from: IpAddr, to: IpAddr, ports: (u16, u16), payload: usize) -> Vec<u8> {
    ip(
        from,
        to,
        64,
        UDP,
        &datagram(from, to, ports, &pattern(payload)),
    )
}

fn tcp(from: IpAddr, to: IpAddr, ports: (u16, u16), flags: u8) -> Vec<u8> {
    ip(
        from,
        to,
        64,
        TCP,
        &segment(from, to, ports, flags, &[], b"x"),
    )
}

fn back((a, b): (u16, u16)) -> (u16, u16) {
    (b, a)
}

/// The one frame that came out, and where; its packet has one hop less.
#[track_caller]
fn goes(node: &mut Node, packet: &[u8], to: &str) {
    let names = node.drop_names();
    let mut came = node.take_all();
    let (place, got) = came.pop().unwrap_or_else(|| panic!("to {to}: {names:?}"));
    assert!(came.is_empty(), "more than one: {came:02x?}");
    assert_eq!(place, to);
    let mac = match to {
        "host" => HOST_MAC,
        "pod 1" => pod_mac(1),
        _ => pod_mac(2),
    };
    assert_eq!(got[..12], [mac.0, GATEWAY_MAC.0].concat());
    let mut expected = packet.to_vec();
    let at = if packet[0] >> 4 == 4 { 8 } else { 7 };
    expected[at] -= 1;
    seal_ip(&mut expected);
    assert!(got[14..] == expected, "the packet as it was");
}

/// What pod `n` sends to its gateway, and where it comes out.
#[track_caller]
fn from_pod(node: &mut Node, n: u8, packet: &[u8], to: &str) {
    node.send(n, &routed(n, packet));
    goes(node, packet, to);
}

/// The same from the node's stack.
#[track_caller]
fn from_host(node: &mut Node, packet: &[u8], to: &str) {
    node.send_host(&by_host(packet));
    goes(node, packet, to);
}

#[test]
fn node_and_pods_talk_and_pods_reach_the_outside_by_the_node() {
    for family in FAMILIES {
        for mode in [Mode::L3, Mode::L2] {
            let mut node = joined(mode);
            let (one, own) = (pod_ip(family, 1, 1), node_ip(family, 1));
            from_host(&mut node, &udp_ip(own, one, 64, 30), "pod 1");
            from_pod(&mut node, 1, &udp_ip(one, own, 64, 30), "host");
            from_pod(&mut node, 1, &udp_ip(one, outside(family), 64, 30), "host");
            from_host(&mut node, &udp_ip(outside(family), one, 60, 30), "pod 1");
            // To another node's pods, by their tunnel.
            let far = pod_ip(family, 2, 1);
            node.send_host(&by_host(&udp_ip(own, far, 64, 30)));
            let wire = node.uplink.receive().expect("a packet on the wire");
            assert!(wire.len() > 14 + 50 + 30);
            assert_eq!(node.take_all(), []);
            assert!(node.switch.flows().is_empty(), "no service among them");
            node.finish();
        }
    }
}

#[test]
fn the_nodes_stack_asks_for_its_neighbours() {
    let mut node = joined(Mode::L3);
    for target in [GATEWAY, pod(1, 1), pod(2, 1)] {
        node.send_host(&arp::request(HOST_MAC, node_address(1), target));
        let got = node.host.receive().expect("an answer");
        assert_eq!(got[..12], [HOST_MAC.0, GATEWAY_MAC.0].concat());
        let sender = [&GATEWAY_MAC.0[..], &target.octets()].concat();
        assert_eq!(got[20..32], [&[0, 2], &sender[..]].concat(), "{target}");
    }
    for target in [GATEWAY6, pod6(1, 1), pod6(2, 1)] {
        let (own, group) = (node_ip(V6, 1), solicited_node(target));
        let body = [&target.octets()[..], &[1, 1], &HOST_MAC.0].concat();
        let (protocol, bytes) = icmp(own, group.into(), (135, 0), [0; 4], &body);
        let packet = ip(own, group.into(), 255, protocol, &bytes);
        let to = MacAddr(multicast_mac(group));
        node.send_host(&frame(HOST_MAC, to, &packet));
        let got = node.host.receive().expect("an answer");
        assert_eq!(got[..12], [HOST_MAC.0, GATEWAY_MAC.0].concat());
        let answer = seen(&got);
        assert_eq!(answer.ways(), (GATEWAY6.into(), own, 255));
        assert_eq!(answer.payload[0], 136);
        assert_eq!(answer.payload[8..24], target.octets());
        let option = [&[2, 1][..], &GATEWAY_MAC.0].concat();
        assert_eq!(answer.payload[24..], option);
    }
    // Its addresses are the kernel's own matter, and what is not for us is not.
    assert_eq!(node.events(), []);
    for (to, reason) in [
        (pod_mac(1), DropReason::NotForGateway),
        (MacAddr([0xff; 6]), DropReason::MulticastNotRouted),
    ] {
        let packet = udp_ip(node_ip(V4, 1), pod_ip(V4, 1, 1), 64, 9);
        node.send_host(&frame(HOST_MAC, to, &packet));
        assert_eq!(node.drops(reason), 1);
    }
    assert_eq!(node.take_all(), []);
    node.finish();
}

#[test]
fn checksums_that_the_node_leaves_to_hardware_are_finished() {
    for family in FAMILIES {
        let mut node = joined(Mode::L3);
        let (own, one) = (node_ip(family, 1), pod_ip(family, 1, 1));
        let whole = datagram(own, one, PORTS, &pattern(99));
        let mut partial = whole.clone();
        leave(own, one, UDP, &mut partial);
        node.send_host(&by_host(&ip(own, one, 64, UDP, &partial)));
        let got = node.pods[0].receive().expect("a frame");
        assert_eq!(seen(&got).payload, whole);
        node.finish();
    }
}

#[test]
fn what_would_go_round_comes_back_as_unreachable() {
    for family in FAMILIES {
        let mut node = joined(Mode::L3);
        let own = node_ip(family, 1);
        for to in [outside(family), own] {
            let packet = udp_ip(own, to, 64, 30);
            node.send_host(&by_host(&packet));
            let got = node.host.receive().expect("an error");
            let heard = complaint(&got);
            assert_eq!(heard.kind, if family == V4 { (3, 0) } else { (1, 0) });
            // The kernel would not believe its own address.
            assert_eq!((heard.from, heard.to), (gateway(family), own));
            assert_eq!(heard.quoted, packet);
        }
        assert_eq!(node.drops(DropReason::HostLoop), 2);
        node.switch.set_policy(Policy {
            unreachable: false,
            ..Policy::default()
        });
        node.send_host(&by_host(&udp_ip(own, outside(family), 64, 30)));
        assert_eq!(node.take_all(), []);
        assert_eq!(node.drops(DropReason::HostLoop), 3);
        // A last hop, to a pod.
        let packet = udp_ip(own, pod_ip(family, 1, 1), 1, 30);
        node.send_host(&by_host(&packet));
        let heard = complaint(&node.host.receive().expect("an error"));
        assert_eq!(heard.kind, if family == V4 { (11, 0) } else { (3, 0) });
        assert_eq!((heard.from, heard.to), (gateway(family), own));
        node.finish();
    }
}

#[test]
fn the_uplink_reaches_the_node_and_its_pods_only() {
    for family in FAMILIES {
        let mut node = joined(Mode::L3);
        let far = pod_ip(family, 2, 1);
        let wire = |to| frame(pod_mac(9), pod_mac(8), &udp_ip(far, to, 64, 30));
        for to in [outside(family), pod_ip(family, 2, 9), gateway(family)] {
            let what = format!("to {to}");
            node.refuses_uplink(&wire(to), DropReason::TransitRefused, &what);
        }
        let to_node = udp_ip(far, pod_ip(family, 1, 1), 64, 30);
        node.send_uplink(&frame(pod_mac(9), pod_mac(8), &to_node));
        goes(&mut node, &to_node, "pod 1");
        // Out of a tunnel, to the node's own stack.
        let inner = udp_ip(far, node_ip(family, 1), 64, 30);
        let protocol = if family == V4 { 4 } else { 41 };
        let outer = ip(node_ip(V4, 2), node_ip(V4, 1), 64, protocol, &inner);
        node.send_uplink(&frame(pod_mac(9), pod_mac(8), &outer));
        goes(&mut node, &inner, "host");
        node.finish();
    }
}

#[test]
fn replies_of_a_service_go_by_the_node_and_nothing_else_does() {
    for family in FAMILIES {
        let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
        let mut node = joined(Mode::L3);
        // Before there is a connection, pods talk directly.
        from_pod(&mut node, 2, &tcp(two, one, back(PORTS), ACK), "pod 1");
        assert!(node.switch.flows().is_empty(), "pods record nothing");
        // The node's stack has made pod 2 the destination.
        from_host(&mut node, &tcp(one, two, PORTS, SYN), "pod 2");
        from_pod(&mut node, 2, &tcp(two, one, back(PORTS), SYN | ACK), "host");
        from_host(&mut node, &tcp(one, two, PORTS, ACK), "pod 2");
        // Other ports, other ways, another protocol.
        from_pod(&mut node, 2, &tcp(two, one, (8080, 40001), ACK), "pod 1");
        from_pod(&mut node, 2, &tcp(two, one, (8081, 40000), ACK), "pod 1");
        from_pod(&mut node, 1, &tcp(one, two, PORTS, ACK), "pod 2");
        from_pod(&mut node, 2, &udp_ports(two, one, back(PORTS), 9), "pod 1");
        from_pod(
            &mut node,
            2,
            &tcp(two, outside(family), back(PORTS), ACK),
            "host",
        );
        // What the node says itself is no service.
        let flows = node.switch.flows().len();
        from_host(
            &mut node,
            &tcp(node_ip(family, 1), two, PORTS, SYN),
            "pod 2",
        );
        assert_eq!(node.switch.flows().len(), flows);
        // Without the node's stack there is only the straight way.
        node.switch.set_to_host([None; 2]);
        from_pod(&mut node, 2, &tcp(two, one, back(PORTS), ACK), "pod 1");
        node.finish();
    }
}

#[test]
fn replies_of_remote_endpoints_go_by_the_node_too() {
    for family in FAMILIES {
        let (one, far) = (pod_ip(family, 1, 1), pod_ip(family, 2, 1));
        let mut node = joined(Mode::L3);
        node.send_host(&by_host(&udp_ports(one, far, PORTS, 20)));
        assert!(node.uplink.receive().is_some());
        let from_far = |node: &mut Node, packet: &[u8]| {
            let protocol = if family == V4 { 4 } else { 41 };
            let outer = ip(node_ip(V4, 2), node_ip(V4, 1), 64, protocol, packet);
            node.send_uplink(&frame(pod_mac(9), pod_mac(8), &outer));
        };
        let reply = udp_ports(far, one, back(PORTS), 20);
        from_far(&mut node, &reply);
        goes(&mut node, &reply, "host");
        let other = udp_ports(far, one, (8080, 40001), 20);
        from_far(&mut node, &other);
        goes(&mut node, &other, "pod 1");
        // The kernel's answer to the pod: from the service, and not recorded.
        let flows = node.switch.flows().len();
        let answer = udp_ports(outside(family), one, (80, 40000), 20);
        from_host(&mut node, &answer, "pod 1");
        assert_eq!(node.switch.flows().len(), flows);
        node.finish();
    }
}

#[test]
fn replies_to_remote_clients_of_the_nodes_ports_go_by_the_node_too() {
    for family in FAMILIES {
        let (one, far) = (pod_ip(family, 1, 1), pod_ip(family, 2, 1));
        let mut node = joined(Mode::L3);
        let leaves = |node: &mut Node, packet: &[u8]| {
            node.send(1, &routed(1, packet));
            assert!(node.uplink.receive().is_some());
        };
        let reply = tcp(one, far, back(PORTS), SYN | ACK);
        leaves(&mut node, &reply);
        // A remote pod has asked for a port of this node: the kernel has made pod 1 of it.
        from_host(&mut node, &tcp(far, one, PORTS, SYN), "pod 1");
        from_pod(&mut node, 1, &reply, "host");
        leaves(&mut node, &tcp(one, far, (8080, 40001), ACK));
        // It is not asked for in vain once it is over.
        from_host(&mut node, &tcp(far, one, PORTS, RST), "pod 1");
        assert!(node.switch.flows().has_far());
        node.switch.flows().age(u32::MAX - 1);
        assert!(node.switch.flows().is_empty() && !node.switch.flows().has_far());
        leaves(&mut node, &reply);
        node.finish();
    }
}

/// An IP packet in two fragments.
fn halves(packet: &[u8]) -> [Vec<u8>; 2] {
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let (payload, cut) = (&packet[header..], 64);
    let piece = |part: &[u8], offset: u16, more: bool| {
        let mut piece = packet[..header].to_vec();
        if header == 20 {
            let word = (offset / 8) | (u16::from(more) << 13);
            piece[6..8].copy_from_slice(&word.to_be_bytes());
            piece[2..4].copy_from_slice(&((20 + part.len()) as u16).to_be_bytes());
        } else {
            piece[4..6].copy_from_slice(&((8 + part.len()) as u16).to_be_bytes());
            piece.extend([piece[6], 0]);
            piece[6] = 44;
            piece.extend((offset | u16::from(more)).to_be_bytes());
            piece.extend([0, 0, 0, 7]);
        }
        seal_ip(&mut piece);
        piece.extend(part);
        piece
    };
    [
        piece(&payload[..cut], 0, true),
        piece(&payload[cut..], cut as u16, false),
    ]
}

#[test]
fn fragments_of_replies_all_go_by_the_node() {
    for family in FAMILIES {
        let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
        let mut node = joined(Mode::L3);
        for half in halves(&udp_ports(two, one, back(PORTS), 100)) {
            from_pod(&mut node, 2, &half, "pod 1");
        }
        from_host(&mut node, &udp_ports(one, two, PORTS, 20), "pod 2");
        for half in halves(&udp_ports(two, one, back(PORTS), 100)) {
            from_pod(&mut node, 2, &half, "host");
        }
        node.finish();
    }
}

/// A large question with a small answer.
#[test]
fn a_request_in_fragments_has_a_reply_that_is_whole() {
    for family in FAMILIES {
        let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
        let mut node = joined(Mode::L3);
        for half in halves(&udp_ports(one, two, PORTS, 100)) {
            from_host(&mut node, &half, "pod 2");
        }
        from_pod(&mut node, 2, &udp_ports(two, one, back(PORTS), 20), "host");
        node.finish();
    }
}

#[test]
fn a_bridged_reply_is_caught() {
    for family in FAMILIES {
        let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
        let mut node = joined(Mode::L2);
        for n in [1, 2] {
            node.switch.fdb().pin(pod_mac(n), PortId(n.into()));
        }
        let reply = tcp(two, one, back(PORTS), SYN | ACK);
        let bridged = frame(pod_mac(2), pod_mac(1), &reply);
        assert_eq!(node.exchange(2, &bridged, 1), Some(bridged.clone()));
        from_host(&mut node, &tcp(one, two, PORTS, SYN), "pod 2");
        node.send(2, &bridged);
        goes(&mut node, &reply, "host");
        // Another connection of the same pods is bridged as ever.
        let other = frame(pod_mac(2), pod_mac(1), &tcp(two, one, (1, 2), ACK));
        assert_eq!(node.exchange(2, &other, 1), Some(other));
        node.finish();
    }
}
