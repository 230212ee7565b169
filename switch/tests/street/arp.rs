//! ARP: who is answered, who is not, and what is learned.

use std::net::Ipv4Addr;

use shunt_api::MacAddr;
use shunt_encap::ethernet::{BROADCAST, ETHERTYPE_ARP, EthernetRepr};
use shunt_encap::{ArpOperation, ArpPacket, ArpRepr};
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::street::Event;

use crate::node::*;

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

pub(crate) fn request(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; 60];
    let header = EthernetRepr {
        dst: BROADCAST,
        src: mac.0,
        ethertype: ETHERTYPE_ARP,
    };
    header.emit(&mut frame).expect("room");
    ArpRepr::request(mac.0, sender, target)
        .emit(&mut frame[14..])
        .expect("room");
    frame
}

fn reply(frame: &[u8]) -> ArpRepr {
    ArpRepr::parse(&ArpPacket::new_checked(&frame[14..]).expect("ARP"))
}

#[test]
fn l3_answers_for_everything_but_the_asker() {
    let mut node = Node::new(1, Mode::L3, 2);
    for target in [GATEWAY, pod(1, 2), pod(9, 9), Ipv4Addr::new(8, 8, 8, 8)] {
        let frame = request(pod_mac(1), pod(1, 1), target);
        let got = node
            .exchange(1, &frame, 1)
            .unwrap_or_else(|| panic!("no answer for {target}"));
        assert_eq!(got[..12], [pod_mac(1).0, GATEWAY_MAC.0].concat());
        let got = reply(&got);
        assert_eq!(got.operation, ArpOperation::Reply);
        assert_eq!(got.sender_hardware_addr, GATEWAY_MAC.0);
        assert_eq!(got.sender_protocol_addr, target);
        assert_eq!(got.target_hardware_addr, pod_mac(1).0);
        assert_eq!(got.target_protocol_addr, pod(1, 1));
    }
    // Itself: asked for by its own address, announced (RFC 5227, 2.3), or probed (2.1.1).
    let own = [
        (pod(1, 1), pod(1, 1)),
        (NOBODY, pod(1, 1)),
        (NOBODY, pod(1, 77)),
    ];
    for (sender, target) in own {
        let frame = request(pod_mac(1), sender, target);
        assert_eq!(
            node.exchange(1, &frame, 1),
            None,
            "{sender} asks for {target}"
        );
    }
    // A probe for the gateway's address is a conflict, and is answered.
    assert!(
        node.exchange(1, &request(pod_mac(1), NOBODY, GATEWAY), 1)
            .is_some()
    );
    assert_eq!(node.pods[1].receive(), None, "ARP stays on its port");
    node.finish();
}

#[test]
fn a_known_address_is_no_news_and_a_new_one_is() {
    let mut node = Node::new(1, Mode::L3, 2);
    node.send(1, &request(pod_mac(1), pod(1, 1), GATEWAY));
    assert_eq!(node.events(), []);
    let new = Event::Binding {
        address: pod(1, 50).into(),
        mac: pod_mac(1),
        port: node.ids[0],
    };
    node.send(1, &request(pod_mac(1), pod(1, 50), GATEWAY));
    assert_eq!(node.events(), [new]);
    let other_mac = Event::Binding {
        address: pod(1, 1).into(),
        mac: pod_mac(9),
        port: node.ids[0],
    };
    node.send(1, &request(pod_mac(9), pod(1, 1), GATEWAY));
    assert_eq!(node.events(), [other_mac]);
    node.finish();
}

#[test]
fn l2_answers_for_the_gateway_and_floods_the_rest() {
    let mut node = Node::new(1, Mode::L2, 3);
    let asked = request(pod_mac(1), pod(1, 1), GATEWAY);
    assert_eq!(
        reply(&node.exchange(1, &asked, 1).expect("an answer")).sender_hardware_addr,
        GATEWAY_MAC.0
    );
    assert_eq!(
        (node.pods[1].receive(), node.pods[2].receive()),
        (None, None)
    );
    let asked = request(pod_mac(1), pod(1, 1), pod(1, 2));
    node.send(1, &asked);
    assert_eq!(node.pods[0].receive(), None);
    assert_eq!(node.pods[1].receive(), Some(asked.clone()));
    assert_eq!(node.pods[2].receive(), Some(asked));
    node.finish();
}

#[test]
fn malformed_arp_and_floods_of_it_are_dropped_by_name() {
    let mut node = Node::new(1, Mode::L3, 1);
    let good = request(pod_mac(1), pod(1, 1), GATEWAY);
    for at in [14, 16, 18, 19] {
        let mut bad = good.clone();
        bad[at] = 0x55;
        node.send(1, &bad);
    }
    node.send(1, &good[..41]);
    assert_eq!(node.drops(DropReason::BadArp), 5);
    for _ in 0..1500 {
        node.send(1, &good);
    }
    let limited = node.drops(DropReason::SlowPathLimit);
    assert_eq!(limited, 505, "a thousand a second and no more");
    node.switch.clock().set(1);
    node.send(1, &good);
    assert_eq!(node.drops(DropReason::SlowPathLimit), limited);
    node.finish();
}
