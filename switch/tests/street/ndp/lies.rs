//! What a guarded pod may not say, and what nobody may.

use super::*;

#[test]
fn what_a_pod_says_of_others_is_a_lie() {
    let mut node = Node::new(1, Mode::L3, 2);
    node.guard(1, node.own(1));
    let conflict = |address: Ipv6Addr| Event::Conflict {
        address: address.into(),
        mac: pod_mac(1),
        port: PortId(1),
    };
    // An advertisement for another's address, from its own.
    for (target, events) in [
        (pod6(1, 2), vec![conflict(pod6(1, 2))]),
        (GATEWAY6, vec![conflict(GATEWAY6)]),
        (pod6(2, 2), vec![]),
    ] {
        let rest = body(OVERRIDE, target, Some((TARGET_OPTION, pod_mac(1))));
        let sent = message(pod_mac(1), pod6(1, 1), ALL_NODES, NA, &rest);
        node.refuses(1, &sent, DropReason::SpoofedNdp, "another's address");
        assert_eq!(node.events(), events, "{target}");
    }
    // Its own address at another's MAC.
    for (kind, option) in [(NS, SOURCE_OPTION), (NA, TARGET_OPTION)] {
        let target = if kind == NS { GATEWAY6 } else { pod6(1, 1) };
        let rest = body(0, target, Some((option, pod_mac(2))));
        let sent = message(pod_mac(1), pod6(1, 1), ALL_NODES, kind, &rest);
        node.refuses(1, &sent, DropReason::SpoofedNdp, "another's MAC");
    }
    // As the gateway.
    let sent = solicit(1, GATEWAY6, pod6(1, 2));
    node.refuses(1, &sent, DropReason::SpoofedNdp, "from the gateway");
    assert_eq!(node.events(), [conflict(GATEWAY6)]);
    // From another pod's address.
    let sent = solicit(1, pod6(1, 2), GATEWAY6);
    node.refuses(1, &sent, DropReason::SpoofedSource, "another's source");
    assert!(
        !node
            .events()
            .iter()
            .any(|e| matches!(e, Event::Binding { .. }))
    );
    // What is its own, it may say.
    silent(&mut node, 1, &advertise(1, pod6(1, 1)), "own");
    assert!(
        node.exchange(1, &solicit(1, pod6(1, 1), GATEWAY6), 1)
            .is_some()
    );
    node.finish();
}

#[test]
fn a_virtual_mac_that_the_attachment_names_may_be_announced() {
    let virtual_mac = MacAddr([0, 0, 0x5e, 0, 2, 7]);
    let mut node = Node::new(1, Mode::L3, 2);
    let mut guard = node.own(1);
    guard.macs.push(virtual_mac);
    node.guard(1, guard);
    let rest = body(OVERRIDE, pod6(1, 1), Some((TARGET_OPTION, virtual_mac)));
    let sent = message(pod_mac(1), pod6(1, 1), ALL_NODES, NA, &rest);
    silent(&mut node, 1, &sent, "a virtual router");
    let binding = Event::Binding {
        address: pod6(1, 1).into(),
        mac: virtual_mac,
        port: node.ids[0],
    };
    assert_eq!(node.events(), [binding]);
    node.finish();
}

#[test]
fn pods_are_no_routers() {
    let advertisement = [&[64, 0, 7, 8][..], &[0; 8]].concat();
    let redirect = [&body(0, GATEWAY6, None)[..], &pod6(2, 2).octets()].concat();
    for mode in [Mode::L3, Mode::L2] {
        let mut node = Node::new(1, mode, 2);
        node.guard(1, node.own(1));
        for (kind, rest) in [(RA, &advertisement), (REDIRECT, &redirect)] {
            let sent = message(pod_mac(1), local(1), ALL_NODES, kind, rest);
            node.refuses(1, &sent, DropReason::RogueRouter, "plain");
            // Behind an extension header, as those do who hide (RFC 7113).
            let mut hidden = sent.clone();
            hidden.splice(54..54, [ICMP6, 0, 1, 4, 0, 0, 0, 0]);
            hidden[20] = 60;
            hidden[19] += 8;
            node.refuses(1, &hidden, DropReason::RogueRouter, "hidden");
            // In a first fragment, which a host would put together.
            let mut first = sent.clone();
            first.splice(54..54, [ICMP6, 0, 0, 1, 0, 0, 0, 7]);
            first[20] = 44;
            first[19] += 8;
            node.refuses(1, &first, DropReason::RogueRouter, "a fragment");
            // Damaged, which not every host looks at.
            let mut bad = sent.clone();
            bad[56] ^= 0xff;
            node.refuses(1, &bad, DropReason::RogueRouter, "damaged");
        }
        // Without a guard it is nobody's business.
        let sent = message(pod_mac(2), local(2), ALL_NODES, RA, &advertisement);
        node.send(2, &sent);
        assert_eq!(node.drops(DropReason::RogueRouter), 8);
        let heard = node.pods[0].receive();
        assert_eq!(heard.is_some(), mode == Mode::L2, "{mode:?}");
        node.finish();
    }
}

#[test]
fn malformed_messages_are_refused_by_name() {
    let good = solicit(1, pod6(1, 1), GATEWAY6);
    for mode in [Mode::L3, Mode::L2] {
        let mut node = Node::new(1, mode, 2);
        assert!(node.exchange(1, &good, 1).is_some());
        node.take_all();
        let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            let (ip, message) = bytes.split_at_mut(54);
            let address = |at: usize| {
                let octets: [u8; 16] = ip[at..at + 16].try_into().expect("16 bytes");
                Ipv6Addr::from(octets).into()
            };
            seal(address(22), address(38), ICMP6, message);
            bytes
        };
        let multicast = |bytes: &mut Vec<u8>| bytes[62] = 0xff;
        let cases: [(&str, Vec<u8>); 7] = [
            ("hop limit 254", sealed(&|bytes| bytes[21] = 254)),
            ("an option of length 0", sealed(&|bytes| bytes[79] = 0)),
            ("an option too long", sealed(&|bytes| bytes[79] = 2)),
            ("code 1", sealed(&|bytes| bytes[55] = 1)),
            ("a multicast target", sealed(&multicast)),
            (
                "from nobody with a MAC",
                sealed(&|bytes| bytes[22..38].fill(0)),
            ),
            ("a wrong checksum", {
                let mut bytes = good.clone();
                bytes[57] ^= 1;
                bytes
            }),
        ];
        for (what, sent) in cases {
            node.refuses(1, &sent, DropReason::BadNdp, what);
        }
        // Nothing of it was believed.
        assert!(
            !node
                .events()
                .iter()
                .any(|e| matches!(e, Event::Conflict { .. }))
        );
        node.finish();
    }
}

#[test]
fn an_address_that_nobody_named_may_be_learned_once() {
    let mut node = Node::new(1, Mode::L3, 2);
    let glean = node.hop(shunt_switch::tables::NextHop::inert(
        shunt_switch::tables::Action::Glean,
    ));
    node.route(
        "fd00:244:0:1::/64"
            .parse::<ipnet::IpNet>()
            .expect("a prefix"),
        glean,
    );
    node.guard(
        1,
        Guard {
            macs: vec![pod_mac(1)],
            learns: true,
            ..Guard::default()
        },
    );
    silent(&mut node, 1, &advertise(1, pod6(1, 40)), "nobody's");
    let binding = Event::Binding {
        address: pod6(1, 40).into(),
        mac: pod_mac(1),
        port: node.ids[0],
    };
    assert_eq!(node.events(), [binding]);
    // Routed to another pod, it is that one's.
    let rest = body(OVERRIDE, pod6(1, 2), Some((TARGET_OPTION, pod_mac(1))));
    let sent = message(pod_mac(1), local(1), ALL_NODES, NA, &rest);
    node.refuses(1, &sent, DropReason::SpoofedNdp, "another pod's");
    node.finish();
}
