//! L2 mode: learned, flooded, limited.

use std::sync::atomic::Ordering;

use shunt_api::MacAddr;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::street::Event;

use crate::node::*;

fn frame(src: u8, dst: MacAddr) -> Vec<u8> {
    udp(pod_mac(src), dst, pod(1, src), pod(1, 200), 64, 20)
}

#[test]
fn unknown_stations_are_flooded_to_and_known_ones_are_not() {
    let mut node = Node::new(1, Mode::L2, 3);
    let sent = frame(1, pod_mac(2));
    node.send(1, &sent);
    assert_eq!(node.pods[0].receive(), None);
    assert_eq!(
        node.pods[1].receive(),
        Some(sent.clone()),
        "bridged frames keep every byte"
    );
    assert_eq!(node.pods[2].receive(), Some(sent.clone()));
    assert_eq!(
        node.events(),
        [Event::Station {
            mac: pod_mac(1),
            port: node.ids[0]
        }]
    );

    node.switch.fdb().learn(pod_mac(1), node.ids[0], 0);
    node.switch.fdb().learn(pod_mac(2), node.ids[1], 0);
    node.send(1, &sent);
    assert_eq!(node.events(), [], "no news");
    assert_eq!(node.pods[1].receive(), Some(sent));
    assert_eq!(node.pods[2].receive(), None);
    node.finish();
}

#[test]
fn broadcast_and_multicast_reach_everybody_else() {
    let mut node = Node::new(1, Mode::L2, 3);
    for dst in [MacAddr([0xff; 6]), MacAddr([1, 0, 0x5e, 0, 0, 5])] {
        let sent = frame(2, dst);
        node.send(2, &sent);
        assert_eq!(node.pods[0].receive(), Some(sent.clone()));
        assert_eq!(node.pods[1].receive(), None);
        assert_eq!(node.pods[2].receive(), Some(sent));
    }
    node.finish();
}

#[test]
fn a_station_that_moves_is_reported_where_it_is_now() {
    let mut node = Node::new(1, Mode::L2, 2);
    node.switch.fdb().learn(pod_mac(1), node.ids[0], 0);
    node.send(2, &frame(1, MacAddr([0xff; 6])));
    assert_eq!(
        node.events(),
        [Event::Station {
            mac: pod_mac(1),
            port: node.ids[1]
        }]
    );
    node.finish();
}

#[test]
fn frames_refresh_the_age_of_their_source() {
    let mut node = Node::new(1, Mode::L2, 2);
    node.switch.fdb().learn(pod_mac(1), node.ids[0], 0);
    node.switch.clock().set(42);
    node.send(1, &frame(1, pod_mac(2)));
    assert_eq!(node.switch.fdb().list()[0].seen, Some(42));
    node.finish();
}

#[test]
fn a_full_port_takes_known_stations_only() {
    let mut node = Node::new(1, Mode::L2, 2);
    node.switch.fdb().learn(pod_mac(1), node.ids[0], 0);
    let port = node.switch.port(node.ids[0]).expect("a port");
    port.fdb_full.store(true, Ordering::Relaxed);
    let known = frame(1, MacAddr([0xff; 6]));
    assert_eq!(node.exchange(1, &known, 2), Some(known));
    assert_eq!(node.exchange(1, &frame(9, MacAddr([0xff; 6])), 2), None);
    assert_eq!(node.drops(DropReason::FdbLimit), 1);
    assert_eq!(node.events(), []);
    node.finish();
}

#[test]
fn frames_larger_than_a_port_takes_are_dropped_by_name() {
    let mut node = Node::new(1, Mode::L2, 2);
    let large = udp(
        pod_mac(1),
        MacAddr([0xff; 6]),
        pod(1, 1),
        pod(1, 2),
        64,
        9000,
    );
    assert_eq!(node.exchange(1, &large, 2), None);
    node.switch.fdb().learn(pod_mac(2), node.ids[1], 0);
    let large = udp(pod_mac(1), pod_mac(2), pod(1, 1), pod(1, 2), 64, 9000);
    assert_eq!(node.exchange(1, &large, 2), None);
    assert_eq!(node.drops(DropReason::MtuExceeded), 2);
    node.finish();
}

#[test]
fn a_frame_for_its_own_port_or_for_nobody_is_dropped_by_name() {
    let mut node = Node::new(1, Mode::L2, 1);
    node.send(1, &frame(1, MacAddr([0xff; 6])));
    assert_eq!(node.drops(DropReason::NoFloodTarget), 1);
    node.switch.fdb().learn(pod_mac(5), node.ids[0], 0);
    node.send(1, &frame(1, pod_mac(5)));
    assert_eq!(node.drops(DropReason::SamePort), 1);
    node.finish();
}

#[test]
fn bridged_checksums_left_to_hardware_are_finished() {
    let mut node = Node::new(1, Mode::L2, 2);
    for payload in [20, 1401, 5000] {
        let mut sent = udp(pod_mac(1), pod_mac(2), pod(1, 1), pod(1, 2), 64, payload);
        let finished = sent.clone();
        leave_checksum(&mut sent);
        // Flooded (unknown), and by the MAC table.
        assert!(
            node.exchange(1, &sent, 2).as_ref() == Some(&finished),
            "{payload} flooded"
        );
        node.switch.fdb().learn(pod_mac(2), node.ids[1], 0);
        assert!(
            node.exchange(1, &sent, 2) == Some(finished),
            "{payload} by the MAC table"
        );
        node.switch.fdb().remove_if(|_| true);
    }
    node.finish();
}

#[test]
fn the_gateway_routes_out_of_the_domain() {
    let mut node = Node::new(1, Mode::L2, 2);
    node.direct_to(2);
    node.send(1, &udp_to(pod(2, 1), 10));
    let wire = node.uplink.receive().expect("a frame on the wire");
    assert_eq!(check_udp(&wire), (pod(1, 1), pod(2, 1), 63));
    node.send_uplink(&udp(pod_mac(9), pod_mac(8), pod(2, 1), pod(1, 2), 64, 10));
    let got = node.pods[1].receive().expect("a frame");
    assert_eq!(got[..12], [pod_mac(2).0, GATEWAY_MAC.0].concat());
    node.finish();
}
