//! L3 mode: routed between local pods.

use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::{Action, NextHop};

use crate::node::*;

#[test]
fn a_packet_gets_new_macs_and_one_hop_less() {
    let mut node = Node::new(1, Mode::L3, 2);
    let got = node
        .exchange(1, &udp_to(pod(1, 2), 30), 2)
        .expect("a frame");
    assert_eq!(got[..6], pod_mac(2).0);
    assert_eq!(got[6..12], GATEWAY_MAC.0);
    assert_eq!(check_udp(&got), (pod(1, 1), pod(1, 2), 63));
    assert!(node.pods[0].receive().is_none());
    node.finish();
}

#[test]
fn a_pod_reaches_itself_through_the_gateway() {
    let mut node = Node::new(1, Mode::L3, 1);
    let got = node
        .exchange(1, &udp_to(pod(1, 1), 30), 1)
        .expect("a frame");
    assert_eq!(check_udp(&got).2, 63);
    node.finish();
}

#[test]
fn checksums_left_to_hardware_are_finished() {
    let mut node = Node::new(1, Mode::L3, 2);
    // One segment, an odd length, and a chain of chunks (2048 bytes each).
    for payload in [0, 1, 333, 1400] {
        let mut frame = udp_to(pod(1, 2), payload);
        leave_checksum(&mut frame);
        let got = node.exchange(1, &frame, 2).expect("a frame");
        check_udp(&got);
    }
    let jumbo = NextHop {
        mtu: 9000,
        ..Node::to_pod(node.ids[1], pod_mac(2))
    };
    node.switch.set_next_hop(node.hops[1], jumbo);
    for payload in [2000, 5001, 8900] {
        let mut frame = udp_to(pod(1, 2), payload);
        leave_checksum(&mut frame);
        let got = node.exchange(1, &frame, 2).expect("a frame");
        assert_eq!(got.len(), frame.len());
        check_udp(&got);
    }
    node.finish();
}

#[test]
fn padding_of_short_frames_is_cut_off() {
    let mut node = Node::new(1, Mode::L3, 2);
    let mut frame = udp_to(pod(1, 2), 1);
    let length = frame.len();
    frame.resize(60, 0xaa);
    let got = node.exchange(1, &frame, 2).expect("a frame");
    assert_eq!(got.len(), length);
    check_udp(&got);
    node.finish();
}

#[test]
fn what_cannot_be_routed_is_dropped_by_name() {
    let cases: Vec<(&str, Vec<u8>, DropReason)> = vec![
        (
            "no route",
            udp_to([10, 9, 9, 9].into(), 9),
            DropReason::NoRoute,
        ),
        (
            "the gateway itself",
            udp_to(GATEWAY, 9),
            DropReason::GatewayNoService,
        ),
        (
            "multicast",
            udp_to([224, 0, 0, 5].into(), 9),
            DropReason::MulticastNotRouted,
        ),
        (
            "broadcast",
            udp_to([255; 4].into(), 9),
            DropReason::MulticastNotRouted,
        ),
        (
            "TTL 1",
            udp(pod_mac(1), GATEWAY_MAC, pod(1, 1), pod(1, 2), 1, 9),
            DropReason::TtlExpired,
        ),
        (
            "TTL 0",
            udp(pod_mac(1), GATEWAY_MAC, pod(1, 1), pod(1, 2), 0, 9),
            DropReason::TtlExpired,
        ),
        (
            "loopback source",
            udp(
                pod_mac(1),
                GATEWAY_MAC,
                [127, 0, 0, 1].into(),
                pod(1, 2),
                64,
                9,
            ),
            DropReason::MartianSource,
        ),
        (
            "another pod's MAC",
            udp(pod_mac(1), pod_mac(2), pod(1, 1), pod(1, 2), 64, 9),
            DropReason::NotForGateway,
        ),
        (
            "the gateway's MAC as source",
            udp(GATEWAY_MAC, GATEWAY_MAC, pod(1, 1), pod(1, 2), 64, 9),
            DropReason::SpoofedGateway,
        ),
        (
            "a group source",
            udp(
                shunt_api::MacAddr([1, 0, 0, 0, 0, 1]),
                GATEWAY_MAC,
                pod(1, 1),
                pod(1, 2),
                64,
                9,
            ),
            DropReason::BadSourceMac,
        ),
        (
            "too large",
            udp_to(pod(1, 2), 1480),
            DropReason::MtuExceeded,
        ),
    ];
    for (name, frame, reason) in cases {
        let mut node = Node::new(1, Mode::L3, 2);
        assert_eq!(node.exchange(1, &frame, 2), None, "{name}");
        assert_eq!(node.drops(reason), 1, "{name}");
        node.finish();
    }
}

#[test]
fn blackholes_and_removed_next_hops_have_names() {
    let mut node = Node::new(1, Mode::L3, 2);
    node.switch
        .set_next_hop(node.hops[1], NextHop::inert(Action::Blackhole));
    assert_eq!(node.exchange(1, &udp_to(pod(1, 2), 9), 2), None);
    assert_eq!(node.drops(DropReason::BlackholeRoute), 1);
    node.switch
        .set_next_hop(node.hops[1], NextHop::inert(Action::Gone));
    assert_eq!(node.exchange(1, &udp_to(pod(1, 2), 9), 2), None);
    assert_eq!(node.drops(DropReason::NextHopGone), 1);
    node.finish();
}

#[test]
fn a_port_that_is_gone_takes_nothing_and_keeps_nothing() {
    let mut node = Node::new(1, Mode::L3, 2);
    let gone = node.ids[1];
    node.switch.remove_port(gone);
    node.send(1, &udp_to(pod(1, 2), 9));
    assert_eq!(node.drops(DropReason::PortGone), 1);
    node.finish();
}

#[test]
fn unknown_protocols_are_not_routed() {
    let mut node = Node::new(1, Mode::L3, 2);
    let mut frame = udp_to(pod(1, 2), 30);
    // LLDP.
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    node.refuses(1, &frame, DropReason::UnsupportedEthertype, "LLDP");
    // What the EtherType says is not what is there.
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    node.refuses(1, &frame, DropReason::BadIpHeader, "IPv4 as IPv6");
    node.finish();
}

#[test]
fn frames_cut_anywhere_and_wrong_checksums_have_names() {
    let mut node = Node::new(1, Mode::L3, 2);
    let frame = udp_to(pod(1, 2), 10);
    for length in 1..frame.len() {
        assert_eq!(node.exchange(1, &frame[..length], 2), None, "{length}");
        node.must_balance();
    }
    // Without a whole header there is nothing to compare the length with.
    assert_eq!(node.drops(DropReason::TruncatedFrame), 33);
    assert_eq!(node.drops(DropReason::BadIpHeader), frame.len() as u64 - 34);
    let wrong = [
        // Another version, a header shorter than any, a header longer than the packet.
        (14, 0x65, DropReason::BadIpHeader),
        (14, 0x44, DropReason::BadIpHeader),
        (14, 0x4f, DropReason::TruncatedFrame),
        (15, 0x02, DropReason::BadIpChecksum),
        (22, 63, DropReason::BadIpChecksum),
        (24, 0x77, DropReason::BadIpChecksum),
        (33, 3, DropReason::BadIpChecksum),
    ];
    for (at, value, reason) in wrong {
        let mut frame = frame.clone();
        frame[at] = value;
        let before = node.drops(reason);
        assert_eq!(node.exchange(1, &frame, 2), None, "byte {at}");
        let names = node.drop_names();
        assert_eq!(node.drops(reason), before + 1, "byte {at}: {names:?}");
    }
    node.finish();
}
