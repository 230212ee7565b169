//! Any bytes at all: no panic, every frame accounted for, nothing lost.
//!
//! Damage that only ever broke the outer header would test little, so checksums are made good
//! again more often than not, and a fixed run demands that the verdicts deep inside were reached.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use ipnet::Ipv4Net;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use shunt_api::MacAddr;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::{Action, NextHop};

use crate::arp;
use crate::node::*;

/// Where the inner Ethernet header of a VXLAN packet begins.
const VXLAN_INNER: usize = 14 + 20 + 8 + 8;
/// The link-layer header that an inner packet of IPIP would have if it had one.
const IPIP_INNER: usize = 20;

/// A pod whose neighbour is unknown, and a host of a connected subnet.
const WAITING: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);
const GLEANED: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 1);

/// A good frame for node 2.
#[derive(Debug, Clone)]
struct Template {
    bytes: Vec<u8>,
    uplink: bool,
    /// 14 bytes before the inner IP header.
    inner: Option<usize>,
}

/// What pod 1 of node `from` sends to `to`, as it is on the wire between the nodes.
fn on_the_wire(from: u8, to: Ipv4Addr, payload: usize, join: impl FnOnce(&mut Node)) -> Vec<u8> {
    let mut node = Node::new(from, Mode::L3, 1);
    join(&mut node);
    let source = (pod_mac(1), GATEWAY_MAC, pod(from, 1));
    let mut frame = udp(source.0, source.1, source.2, to, 64, payload);
    leave_checksum(&mut frame);
    node.send(1, &frame);
    let wire = node.uplink.receive().expect("a frame on the wire");
    node.finish();
    wire
}

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let mut templates = Vec::new();
    let local = pod(2, 1);
    let vxlan = |from, payload| {
        on_the_wire(from, local, payload, |node| {
            let hop = NextHop {
                mtu: 9000,
                ..Node::to_pod(node.ids[0], pod_mac(1))
            };
            node.switch.set_next_hop(node.hops[0], hop);
            node.jumbo_to(2);
        })
    };
    // VXLAN counts thrice: most of what can go wrong, goes wrong there.
    let tunnelled = [
        (vxlan(1, 60), VXLAN_INNER),
        (vxlan(1, 60), VXLAN_INNER),
        (vxlan(3, 60), VXLAN_INNER),
        (vxlan(1, 5000), VXLAN_INNER),
        (
            on_the_wire(1, local, 60, |node| node.ipip_to(2)),
            IPIP_INNER,
        ),
    ];
    templates.extend(tunnelled.map(|(bytes, inner)| Template {
        bytes,
        uplink: true,
        inner: Some(inner),
    }));
    templates.push(Template {
        bytes: on_the_wire(1, local, 60, |node| node.direct_to(2)),
        uplink: true,
        inner: None,
    });
    let routed = |to, payload| {
        let mut frame = udp(pod_mac(1), GATEWAY_MAC, pod(2, 1), to, 64, payload);
        leave_checksum(&mut frame);
        frame
    };
    let bridged = |to| udp(pod_mac(1), to, pod(2, 1), pod(2, 2), 64, 60);
    templates.extend(
        [
            routed(pod(2, 2), 60),
            routed(pod(2, 2), 5000),
            routed(pod(1, 1), 60),
            routed(pod(1, 1), 5000),
            routed(WAITING, 60),
            routed(GLEANED, 60),
            bridged(pod_mac(2)),
            bridged(MacAddr([0xff; 6])),
            arp::request(pod_mac(1), pod(2, 1), GATEWAY),
            arp::request(pod_mac(1), pod(2, 1), pod(2, 2)),
        ]
        .map(|bytes| Template {
            bytes,
            uplink: false,
            inner: None,
        }),
    );
    templates
});

/// What happens to a template.
#[derive(Debug, Clone)]
struct Damage {
    which: Index,
    /// In the headers, or anywhere.
    bytes: Vec<(Index, bool, u8)>,
    cut: Option<Index>,
    padding: usize,
    fix_outer: bool,
    fix_inner: bool,
    /// In at the wrong side.
    swap: bool,
}

fn damage() -> impl Strategy<Value = Damage> {
    // Values with a meaning somewhere: no address, a last hop, congestion, loopback, everybody.
    let special = prop::sample::select(vec![0, 1, 3, 127, 224, 255u8]);
    let value = prop_oneof![any::<u8>(), special];
    let byte = (any::<Index>(), prop::bool::weighted(0.9), value);
    (
        any::<Index>(),
        prop_oneof![
            1 => Just(Vec::new()),
            6 => prop::collection::vec(byte.clone(), 1),
            3 => prop::collection::vec(byte, 2..6),
        ],
        prop::option::weighted(0.1, any::<Index>()),
        prop_oneof![8 => Just(0usize), 1 => 1usize..64],
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.05),
    )
        .prop_map(
            |(which, bytes, cut, padding, fix_outer, fix_inner, swap)| Damage {
                which,
                bytes,
                cut,
                padding,
                fix_outer,
                fix_inner,
                swap,
            },
        )
}

impl Damage {
    /// The frame, and whether it comes in by the uplink.
    fn frame(&self) -> (Vec<u8>, bool) {
        let template = self.which.get(&TEMPLATES);
        let mut frame = template.bytes.clone();
        let headers = template.inner.unwrap_or(0) + 14 + 20 + 8;
        for (at, in_headers, value) in &self.bytes {
            let within = if *in_headers { headers } else { frame.len() };
            frame[at.index(within)] = *value;
        }
        // ARP has no checksum to make good.
        let ipv4 = template.bytes[12..14] == [8, 0];
        if ipv4
            && self.fix_inner
            && let Some(inner) = template.inner
        {
            try_fix_ip_checksum(&mut frame[inner..]);
        }
        if ipv4 && self.fix_outer {
            try_fix_ip_checksum(&mut frame);
        }
        if let Some(cut) = self.cut {
            frame.truncate(cut.index(frame.len()).max(1));
        }
        frame.resize(frame.len() + self.padding, 0xa5);
        (frame, template.uplink != self.swap)
    }
}

/// Bytes of which nothing is sure but that, often, they begin as something worth a look.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop::collection::vec(any::<u8>(), 1..200);
    let ethertype = prop_oneof![Just([8u8, 0]), Just([8, 6]), any::<[u8; 2]>()];
    (0..4, ethertype, tail).prop_map(|(kind, ethertype, tail)| {
        if kind == 0 {
            return tail;
        }
        let mut frame = [GATEWAY_MAC.0, pod_mac(1).0].concat();
        frame.extend(ethertype);
        frame.extend(tail);
        if kind > 1 && frame.len() >= 34 {
            // An IPv4 header that is one, whatever else it says.
            let length = (frame.len() - 14) as u16;
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&length.to_be_bytes());
            if kind == 2 {
                frame[30..34].copy_from_slice(&pod(2, 2).octets());
            }
            fix_ip_checksum(&mut frame);
        }
        frame
    })
}

/// Node 2 with tunnels to two others, a pod and a subnet whose link-layer addresses are unknown,
/// and a pod that takes jumbo packets.
fn target(l2: bool) -> Node {
    let mode = if l2 { Mode::L2 } else { Mode::L3 };
    let mut node = Node::new(2, mode, 2);
    node.vxlan_to(1, true);
    node.ipip_to(3);
    let wait = node.hop(NextHop::inert(Action::Wait));
    node.route(Ipv4Net::from(WAITING), wait);
    let glean = node.hop(NextHop::inert(Action::Glean));
    let subnet = Ipv4Net::new(GLEANED, 16).expect("a prefix").trunc();
    node.route(subnet, glean);
    for (place, number) in [(0, 1), (1, 2)] {
        let jumbo = NextHop {
            mtu: 9000,
            ..Node::to_pod(node.ids[place], pod_mac(number))
        };
        node.switch.set_next_hop(node.hops[place], jumbo);
    }
    node
}

fn inject(node: &mut Node, frame: &[u8], uplink: bool) {
    if uplink {
        node.send_uplink(frame);
    } else {
        node.send(1, frame);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_are_accounted_for(
        frames in prop::collection::vec((anything(), any::<bool>()), 1..20),
        l2 in any::<bool>(),
    ) {
        let mut node = target(l2);
        for (frame, uplink) in &frames {
            inject(&mut node, frame, *uplink);
            node.must_balance();
        }
        node.finish();
    }

    #[test]
    fn damaged_packets_are_accounted_for(
        damages in prop::collection::vec(damage(), 1..20),
        l2 in any::<bool>(),
    ) {
        let mut node = target(l2);
        for damage in &damages {
            let (frame, uplink) = damage.frame();
            inject(&mut node, &frame, uplink);
            node.must_balance();
        }
        node.finish();
    }
}

/// The same damage at every run, and enough of it to come to every verdict that it can come to.
#[test]
fn damage_reaches_the_verdicts_deep_inside() {
    const NODES: usize = 80;
    const FRAMES: usize = 250;
    let mut runner = TestRunner::deterministic();
    let mut drops: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut sent, mut to_pods, mut to_uplink) = (0, 0, 0);
    for round in 0..NODES {
        let mut node = target(round % 2 == 1);
        for second in 0..FRAMES {
            let tree = damage().new_tree(&mut runner).expect("a damage");
            let (frame, uplink) = tree.current().frame();
            inject(&mut node, &frame, uplink);
            node.must_balance();
            node.events();
            sent += 1;
            to_pods += node
                .pods
                .iter()
                .flat_map(|pod| std::iter::from_fn(|| pod.receive()))
                .count();
            to_uplink += std::iter::from_fn(|| node.uplink.receive()).count();
            node.switch.clock().set(second as u32);
        }
        let total = node.switch.counters().1;
        for reason in DropReason::ALL {
            let count = total.drops[*reason as usize];
            if count > 0 {
                *drops.entry(reason.name()).or_default() += count;
            }
        }
        node.finish();
    }
    let seen = format!("{sent} sent, {to_pods} to pods, {to_uplink} to the uplink, {drops:?}");
    let deep = [
        DropReason::TruncatedFrame,
        DropReason::BadIpHeader,
        DropReason::BadIpChecksum,
        DropReason::BadUdpLength,
        DropReason::BadArp,
        DropReason::BadSourceMac,
        DropReason::MartianSource,
        DropReason::NotForGateway,
        DropReason::UnsupportedEthertype,
        DropReason::MulticastNotRouted,
        DropReason::UnexpectedProtocol,
        DropReason::OuterFragment,
        DropReason::BadVxlanHeader,
        DropReason::WrongVni,
        DropReason::WrongVtepMac,
        DropReason::UnknownPeer,
        DropReason::InnerSourceMismatch,
        DropReason::InnerUnsupported,
        DropReason::EcnIllegal,
        DropReason::TtlExpired,
        DropReason::NoRoute,
        DropReason::MtuExceeded,
        DropReason::NeighbourQueueFull,
    ];
    for reason in deep {
        assert!(
            drops.contains_key(reason.name()),
            "{}: {seen}",
            reason.name()
        );
    }
    assert!(to_pods > sent / 10 && to_uplink > sent / 100, "{seen}");
}
