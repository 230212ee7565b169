//! Guards of a pod's port: what may come from it, and what may not.

use std::net::{IpAddr, Ipv4Addr};

use shunt_api::MacAddr;
use shunt_encap::ethernet::BROADCAST;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::street::Event;
use shunt_switch::tables::{Action, Guard, NextHop, Policy};

use crate::arp;
use crate::node::*;

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// Two pods, the first guarded.
fn guarded(mode: Mode) -> Node {
    let mut node = Node::new(1, mode, 3);
    node.guard(1, node.own(1));
    if mode == Mode::L2 {
        for n in 1..=3 {
            node.switch
                .fdb()
                .pin(pod_mac(n), node.ids[usize::from(n) - 1]);
        }
    }
    node
}

/// From pod 1 to its gateway (L3) or straight to pod 2 (L2).
fn to_two(mode: Mode, mac: MacAddr, packet: &[u8]) -> Vec<u8> {
    let to = match mode {
        Mode::L3 => GATEWAY_MAC,
        Mode::L2 => pod_mac(2),
    };
    frame(mac, to, packet)
}

#[track_caller]
fn passes(node: &mut Node, sent: &[u8], what: &str) {
    let got = node.exchange(1, sent, 2);
    assert!(got.is_some(), "{what}: {:?}", node.drop_names());
}

#[test]
fn only_its_own_addresses_may_be_a_pods_source() {
    for mode in [Mode::L3, Mode::L2] {
        for family in [V4, V6] {
            let mut node = guarded(mode);
            let two = pod_ip(family, 1, 2);
            let own = udp_ip(pod_ip(family, 1, 1), two, 64, 20);
            passes(&mut node, &to_two(mode, pod_mac(1), &own), "its own");
            for source in [
                pod_ip(family, 1, 3),
                pod_ip(family, 9, 9),
                node_ip(family, 1),
            ] {
                let sent = to_two(mode, pod_mac(1), &udp_ip(source, two, 64, 20));
                node.refuses(1, &sent, DropReason::SpoofedSource, "another's address");
            }
            for mac in [pod_mac(3), pod_mac(77)] {
                let sent = to_two(mode, mac, &own);
                node.refuses(1, &sent, DropReason::SpoofedMac, "another's MAC");
            }
            // Another pod has no guard.
            let from_three = udp_ip(pod_ip(family, 9, 9), two, 64, 20);
            node.send(3, &to_two(mode, pod_mac(3), &from_three));
            assert!(node.pods[1].receive().is_some());
            node.finish();
        }
    }
}

#[test]
fn spoofed_errors_and_last_hops_elicit_nothing() {
    for family in [V4, V6] {
        let mut node = guarded(Mode::L3);
        let (other, two) = (pod_ip(family, 1, 3), pod_ip(family, 1, 2));
        let sent = routed(1, &udp_ip(other, two, 1, 20));
        node.refuses(1, &sent, DropReason::SpoofedSource, "its last hop");
        node.finish();
    }
}

#[test]
fn more_addresses_may_be_allowed() {
    for mode in [Mode::L3, Mode::L2] {
        let mut node = guarded(mode);
        let virtual_mac = MacAddr([0, 0, 0x5e, 0, 1, 7]);
        let mut guard = node.own(1);
        guard.macs.push(virtual_mac);
        guard.nets4.push("10.99.0.0/24".parse().expect("a prefix"));
        guard.nets6.push("fd99::/64".parse().expect("a prefix"));
        node.guard(1, guard);
        for (allowed, refused, two) in [
            ("10.99.0.200", "10.99.1.200", pod_ip(V4, 1, 2)),
            ("fd99::77", "fd99:1::77", pod_ip(V6, 1, 2)),
        ] {
            let from = |source: &str| {
                let source = source.parse().expect("an address");
                udp_ip(source, two, 64, 20)
            };
            passes(
                &mut node,
                &to_two(mode, pod_mac(1), &from(allowed)),
                allowed,
            );
            passes(
                &mut node,
                &to_two(mode, virtual_mac, &from(allowed)),
                "VRRP",
            );
            let sent = to_two(mode, pod_mac(1), &from(refused));
            node.refuses(1, &sent, DropReason::SpoofedSource, refused);
        }
        node.finish();
    }
}

#[test]
fn a_port_without_named_addresses_has_what_is_routed_to_it_and_what_is_nobodys() {
    let mut node = Node::new(1, Mode::L3, 3);
    let glean = node.hop(NextHop::inert(Action::Glean));
    node.route(
        "10.244.1.0/24".parse::<ipnet::IpNet>().expect("a prefix"),
        glean,
    );
    let learns = |learns| Guard {
        macs: vec![pod_mac(1)],
        learns,
        ..Guard::default()
    };
    let from = |source| routed(1, &udp_ip(source, pod_ip(V4, 1, 2), 64, 20));
    for may in [true, false] {
        node.guard(1, learns(may));
        passes(&mut node, &from(pod_ip(V4, 1, 1)), "routed to it");
        let other = from(pod_ip(V4, 1, 3));
        node.refuses(1, &other, DropReason::SpoofedSource, "another pod's");
        let foreign = from(pod_ip(V4, 9, 3));
        node.refuses(1, &foreign, DropReason::SpoofedSource, "not of the subnet");
        let nobodys = from(pod_ip(V4, 1, 99));
        if may {
            passes(&mut node, &nobodys, "nobody's");
        } else {
            node.refuses(1, &nobodys, DropReason::SpoofedSource, "nobody's");
        }
    }
    node.finish();
}

#[test]
fn tunnels_end_at_no_node() {
    for mode in [Mode::L3, Mode::L2] {
        for family in [V4, V6] {
            let mut node = guarded(mode);
            node.tunnel(2, VXLAN, family, family, 1500);
            let one = pod_ip(family, 1, 1);
            let nodes = [node_ip(family, 1), node_ip(family, 2)];
            let two = pod_ip(family, 1, 2);
            let vxlan = |to| {
                let bytes = datagram(one, to, (50000, VXLAN_PORT), &[8; 60]);
                ip(one, to, 64, UDP, &bytes)
            };
            let within = |to, protocol| ip(one, to, 64, protocol, &[0x45; 60]);
            for to in nodes {
                for packet in [vxlan(to), within(to, 4), within(to, 41)] {
                    for sent in [
                        to_two(mode, pod_mac(1), &packet),
                        frame(pod_mac(1), GATEWAY_MAC, &packet),
                    ] {
                        node.refuses(1, &sent, DropReason::TunnelFromPod, "to a node");
                    }
                }
            }
            // A pod may have tunnels of its own.
            for packet in [vxlan(two), within(two, 4), within(two, 41)] {
                passes(&mut node, &to_two(mode, pod_mac(1), &packet), "to a pod");
            }
            // And other ports of a node are no tunnels.
            let dns = datagram(one, nodes[0], (50000, 53), b"?");
            node.send(
                1,
                &frame(pod_mac(1), GATEWAY_MAC, &ip(one, nodes[0], 64, UDP, &dns)),
            );
            assert_eq!(node.drops(DropReason::TunnelFromPod), 12);
            node.take_all();
            node.finish();
        }
    }
}

#[test]
fn a_tunnel_packet_in_fragments_does_not_pass_either() {
    let mut node = guarded(Mode::L3);
    let (one, to) = (pod_ip(V4, 1, 1), node_ip(V4, 1));
    let bytes = datagram(one, to, (50000, VXLAN_PORT), &[8; 60]);
    // Eight bytes hold the ports.
    for (protocol, part) in [(UDP, &bytes[..8]), (4, &bytes[..8])] {
        let mut packet = ip(one, to, 64, protocol, part);
        packet[6] = 0x20;
        seal_ip(&mut packet);
        node.refuses(1, &routed(1, &packet), DropReason::TunnelFromPod, "first");
    }
    let (one, to) = (pod_ip(V6, 1, 1), node_ip(V6, 1));
    let bytes = datagram(one, to, (50000, VXLAN_PORT), &[8; 60]);
    for next in [UDP, 4, 41] {
        let header = [next, 0, 0, 1, 0, 0, 0, 5];
        let packet = ip(one, to, 64, 44, &[&header[..], &bytes[..8]].concat());
        node.refuses(1, &routed(1, &packet), DropReason::TunnelFromPod, "first");
        let header = [next, 0, 1, 4, 0, 0, 0, 0];
        let packet = ip(one, to, 64, 60, &[&header[..], &bytes].concat());
        node.refuses(1, &routed(1, &packet), DropReason::TunnelFromPod, "behind");
    }
    node.finish();
}

#[test]
fn pods_serve_no_dhcp() {
    for mode in [Mode::L3, Mode::L2] {
        let mut node = guarded(mode);
        for (family, ports) in [(V4, (67, 68)), (V6, (547, 546))] {
            let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
            let (server, client) = ports;
            let offer = ip(one, two, 64, UDP, &datagram(one, two, ports, &[2; 240]));
            let sent = to_two(mode, pod_mac(1), &offer);
            node.refuses(1, &sent, DropReason::DhcpServer, "an offer");
            let ports = (client, server);
            let request = ip(one, two, 64, UDP, &datagram(one, two, ports, &[1; 240]));
            passes(&mut node, &to_two(mode, pod_mac(1), &request), "a request");
        }
        node.finish();
    }
}

#[test]
fn who_has_no_address_yet_may_ask_for_one_but_not_give_one() {
    let mut node = guarded(Mode::L2);
    let everybody: IpAddr = Ipv4Addr::BROADCAST.into();
    let from_nobody = |ports| {
        let bytes = datagram(NOBODY.into(), everybody, ports, &[1; 240]);
        let packet = ip(NOBODY.into(), everybody, 64, UDP, &bytes);
        frame(pod_mac(1), MacAddr(BROADCAST), &packet)
    };
    passes(&mut node, &from_nobody((68, 67)), "a discovery");
    node.take_all();
    let offer = from_nobody((67, 68));
    node.refuses(1, &offer, DropReason::DhcpServer, "an offer from nobody");
    // Without an address it speaks to everybody only.
    let packet = udp_ip(NOBODY.into(), pod_ip(V4, 1, 2), 64, 9);
    let sent = to_two(Mode::L2, pod_mac(1), &packet);
    node.refuses(1, &sent, DropReason::SpoofedSource, "to a pod");
    node.finish();
}

/// A kernel takes a priority tag (VID 0) off and looks again; so must the guard.
#[test]
fn a_tag_hides_nothing() {
    let mut node = guarded(Mode::L2);
    let foreign = udp_ip(pod_ip(V4, 1, 3), pod_ip(V4, 1, 2), 64, 20);
    let lie = arp::request(pod_mac(1), pod(1, 3), pod(1, 2));
    for sent in [to_two(Mode::L2, pod_mac(1), &foreign), lie] {
        for tag in [
            &[0x81, 0, 0, 0][..],
            &[0x88, 0xa8, 0, 0],
            &[0x81, 0, 0, 0, 0x81, 0, 0, 0],
        ] {
            let mut tagged = sent.clone();
            tagged.splice(12..12, tag.iter().copied());
            node.send(1, &tagged);
            assert_eq!(node.take_all(), [], "behind {tag:02x?}");
        }
        // LLC and SNAP (RFC 1042).
        let mut snap = sent.clone();
        let length = (sent.len() - 14 + 8) as u16;
        snap.splice(
            12..12,
            length
                .to_be_bytes()
                .into_iter()
                .chain([0xaa, 0xaa, 3, 0, 0, 0]),
        );
        node.send(1, &snap);
        assert_eq!(node.take_all(), [], "in SNAP");
    }
    node.finish();
}

#[test]
fn floods_are_limited_and_begin_anew_each_second() {
    let mut node = Node::new(1, Mode::L2, 2);
    node.switch.set_policy(Policy {
        storm_limit: 4,
        ..Policy::default()
    });
    let broadcast = udp(pod_mac(1), MacAddr(BROADCAST), pod(1, 1), pod(1, 9), 64, 9);
    let unknown = udp(pod_mac(1), pod_mac(99), pod(1, 1), pod(1, 9), 64, 9);
    for second in 1..=3 {
        node.switch.clock().set(second);
        for n in 0..10 {
            let sent = if n % 2 == 0 { &broadcast } else { &unknown };
            node.send(1, sent);
        }
        assert_eq!(node.take_all().len(), 4);
        assert_eq!(node.drops(DropReason::StormLimit), 6 * u64::from(second));
        // One port's storm is not another's.
        let other = udp(pod_mac(2), MacAddr(BROADCAST), pod(1, 2), pod(1, 9), 64, 9);
        assert!(node.exchange(2, &other, 1).is_some());
    }
    // What need not be flooded is no storm.
    node.switch.fdb().learn(pod_mac(99), node.ids[1], 0);
    assert!(node.exchange(1, &unknown, 2).is_some());
    node.finish();
}

#[test]
fn an_attached_pods_mac_is_no_others() {
    let mut node = guarded(Mode::L2);
    // A port whose attachment names no MAC may have any but those.
    node.guard(
        3,
        Guard {
            v4: vec![pod(1, 3)],
            ..Guard::default()
        },
    );
    let from = |mac| {
        frame(
            mac,
            pod_mac(1),
            &udp_ip(pod_ip(V4, 1, 3), pod_ip(V4, 1, 1), 64, 9),
        )
    };
    node.refuses(3, &from(pod_mac(2)), DropReason::SpoofedMac, "pod 2's");
    node.refuses(
        3,
        &from(GATEWAY_MAC),
        DropReason::SpoofedGateway,
        "the gateway's",
    );
    assert_eq!(node.events(), []);
    assert!(node.exchange(3, &from(pod_mac(50)), 1).is_some());
    let new = Event::Station {
        mac: pod_mac(50),
        port: node.ids[2],
    };
    assert_eq!(node.events(), [new]);
    assert_eq!(node.switch.fdb().lookup(pod_mac(2)), Some(node.ids[1]));
    node.finish();
}

#[test]
fn arp_says_what_is_so() {
    for mode in [Mode::L3, Mode::L2] {
        let mut node = guarded(mode);
        let conflict = |node: &Node, address: Ipv4Addr| Event::Conflict {
            address: address.into(),
            mac: pod_mac(1),
            port: node.ids[0],
        };
        // As another pod (an announcement and a request), as the gateway, as somebody far away.
        for (sender, target, known) in [
            (pod(1, 2), pod(1, 2), true),
            (pod(1, 2), GATEWAY, true),
            (GATEWAY, pod(1, 2), true),
            (pod(2, 2), GATEWAY, false),
        ] {
            let sent = arp::request(pod_mac(1), sender, target);
            node.refuses(1, &sent, DropReason::SpoofedArp, "another's address");
            let expected = known.then(|| conflict(&node, sender));
            assert_eq!(node.events(), Vec::from_iter(expected), "{sender}");
        }
        // Its own address, at another's MAC.
        let mut sent = arp::request(pod_mac(2), pod(1, 1), GATEWAY);
        sent[6..12].copy_from_slice(&pod_mac(1).0);
        node.refuses(1, &sent, DropReason::SpoofedArp, "another's MAC");
        assert_eq!(node.events(), []);
        // What is so.
        let sent = arp::request(pod_mac(1), pod(1, 1), GATEWAY);
        assert!(node.exchange(1, &sent, 1).is_some());
        node.take_all();
        node.finish();
    }
}

#[test]
fn a_probe_for_anothers_address_is_answered_and_one_for_a_free_address_is_not() {
    let mut node = guarded(Mode::L3);
    let probe = |target| arp::request(pod_mac(1), NOBODY, target);
    for free in [pod(1, 1), pod(1, 77), pod(2, 1)] {
        assert_eq!(node.exchange(1, &probe(free), 1), None, "{free}");
    }
    assert_eq!(node.events(), []);
    let got = node.exchange(1, &probe(pod(1, 2)), 1).expect("an answer");
    assert_eq!(
        got[20..32],
        [&[0, 2][..], &GATEWAY_MAC.0, &pod(1, 2).octets()].concat()
    );
    let conflict = Event::Conflict {
        address: pod(1, 2).into(),
        mac: pod_mac(1),
        port: node.ids[0],
    };
    assert_eq!(node.events(), [conflict]);
    assert_eq!(node.take_all(), []);
    node.finish();
}
