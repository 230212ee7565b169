//! Any bytes at all, of both families and at every kind of port: no panic, every frame accounted
//! for, nothing lost. Beside `hostile.rs`: guards, the node's stack, discovery, extension headers,
//! fragments, errors, tunnels over IPv6.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use shunt_api::MacAddr;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::Policy;

use crate::node::*;

/// Where a frame goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Guarded,
    Free,
    Uplink,
    Host,
}

const SIDES: [Side; 4] = [Side::Guarded, Side::Free, Side::Uplink, Side::Host];

/// A good frame for node 1.
#[derive(Debug, Clone)]
struct Template {
    bytes: Vec<u8>,
    side: Side,
    /// Where its IP headers are, the outermost first.
    packets: Vec<usize>,
}

fn message(source: IpAddr, to: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let to: IpAddr = to.parse().expect("an address");
    let (protocol, bytes) = icmp(source, to, (kind, 0), [0; 4], body);
    ip(source, to, 255, protocol, &bytes)
}

/// What pods and the node's stack send, of one family.
fn sent(source: IpAddr, near: IpAddr) -> Vec<Vec<u8>> {
    let family = if source.is_ipv4() { V4 } else { V6 };
    let far = pod_ip(family, 2, 1);
    let outside = if family == V4 {
        "192.0.2.9"
    } else {
        "2001:db8::9"
    };
    let outside: IpAddr = outside.parse().expect("an address");
    let quoted = udp_ip(near, source, 60, 40);
    let unreachable = if family == V4 { 3 } else { 1 };
    let (protocol, error) = icmp(source, near, (unreachable, 1), [0; 4], &quoted);
    let syn = segment(source, far, (1, 80), 2, &[2, 4, 0x05, 0xb4], &[]);
    let mut fragment = udp_ip(source, near, 64, 64);
    if family == V4 {
        fragment[6] = 0x20;
        seal_ip(&mut fragment);
    }
    let to_node = node_ip(family, 1);
    vec![
        udp_ip(source, near, 64, 30),
        udp_ip(source, far, 64, 3000),
        udp_ip(source, outside, 64, 30),
        udp_ip(source, to_node, 64, 30),
        ping(source, gateway(family), 64, 30),
        ip(source, far, 64, TCP, &syn),
        ip(source, near, 64, protocol, &error),
        ip(source, near, 64, SCTP, &[0; 40]),
        ip(source, to_node, 64, 4, &quoted),
        ip(
            source,
            near,
            64,
            UDP,
            &datagram(source, near, (67, 67), b"x"),
        ),
        fragment,
    ]
}

/// IPv6 with extension headers, and neighbour discovery.
fn only_v6(source: IpAddr, near: IpAddr, mac: MacAddr) -> Vec<Vec<u8>> {
    let udp = datagram(source, near, (1, 2), &pattern(40));
    let link_local: IpAddr = "fe80::9".parse().expect("an address");
    let chain = [
        60, 0, 5, 2, 0, 0, 1, 0, 44, 0, 1, 4, 0, 0, 0, 0, UDP, 0, 0, 1, 0, 0, 0, 1,
    ];
    let routing = [UDP, 0, 4, 0, 0, 0, 0, 0];
    let option = |kind: u8| [&[kind, 1][..], &mac.0].concat();
    let solicit = [octets(gateway(V6)), option(1)].concat();
    let advertise = [octets(source), option(2)].concat();
    let deep: Vec<u8> = std::iter::repeat_n([60, 0, 1, 4, 0, 0, 0, 0], 7)
        .flatten()
        .chain(routing)
        .collect();
    vec![
        ip(source, near, 64, 0, &[&chain[..], &udp].concat()),
        ip(source, near, 64, 43, &[&routing[..], &udp].concat()),
        ip(source, near, 64, 60, &[&deep[..], &udp].concat()),
        message(source, "ff02::1:ff00:1", 135, &solicit),
        message(source, "ff02::1", 136, &advertise),
        message(link_local, "ff02::2", 133, &[]),
        message(link_local, "ff02::1", 134, &[0; 8]),
        message(source, "ff02::16", 143, &[0; 24]),
        udp_ip(source, "fe80::77".parse().expect("an address"), 64, 9),
    ]
}

fn templates(to_mac: impl Fn(&[u8]) -> MacAddr) -> Vec<Template> {
    let mut templates = Vec::new();
    let mut add = |side, mac, packet: &[u8]| {
        templates.push(Template {
            bytes: frame(mac, to_mac(packet), packet),
            side,
            packets: vec![14],
        });
    };
    for (side, n) in [(Side::Guarded, 1), (Side::Free, 2)] {
        for family in [V4, V6] {
            let (source, near) = (pod_ip(family, 1, n), pod_ip(family, 1, 3 - n));
            for packet in sent(source, near) {
                add(side, pod_mac(n), &packet);
            }
            if family == V6 {
                for packet in only_v6(source, near, pod_mac(n)) {
                    add(side, pod_mac(n), &packet);
                }
            }
        }
    }
    for family in [V4, V6] {
        for source in [node_ip(family, 1), pod_ip(family, 1, 1)] {
            for packet in sent(source, pod_ip(family, 1, 2)) {
                add(Side::Host, HOST_MAC, &packet);
            }
        }
    }
    templates
}

/// What comes from node 2.
fn tunnelled() -> Vec<Template> {
    let mut templates = Vec::new();
    for kind in [VXLAN, Kind::Ipip, Kind::Direct] {
        for (outer, inner) in [(V4, V4), (V4, V6), (V6, V4), (V6, V6)] {
            if kind == Kind::Direct && outer != inner {
                continue;
            }
            let mut two = Node::new(2, Mode::L3, 1);
            two.tunnel(1, kind, outer, inner, 1500);
            let source = pod_ip(inner, 2, 1);
            let mut packets = vec![
                udp_ip(source, pod_ip(inner, 1, 1), 64, 60),
                udp_ip(source, node_ip(inner, 1), 64, 60),
            ];
            if inner == V6 {
                packets.extend(only_v6(source, pod_ip(V6, 1, 1), pod_mac(1)).drain(..3));
            }
            for packet in packets {
                two.send(1, &routed(1, &packet));
                // Routing headers of type 0 do not leave node 2.
                let Some(bytes) = two.uplink.receive() else {
                    continue;
                };
                let at = bytes.len() - packet.len();
                templates.push(Template {
                    bytes,
                    side: Side::Uplink,
                    packets: if at == 14 { vec![14] } else { vec![14, at] },
                });
            }
            two.finish();
        }
    }
    templates
}

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let mut all = templates(|packet| match packet[0] >> 4 {
        6 if packet[24] == 0xff => {
            MacAddr([0x33, 0x33, packet[36], packet[37], packet[38], packet[39]])
        }
        _ => GATEWAY_MAC,
    });
    all.extend(tunnelled());
    all
});

/// Makes good the checksums of an IP packet that may be anything.
fn try_seal(packet: &mut [u8]) {
    let Some(first) = packet.first().copied() else {
        return;
    };
    let (header, protocol) = match first >> 4 {
        4 => (usize::from(first & 15) * 4, 9),
        6 => (40, 6),
        _ => return,
    };
    if header < 20 || packet.len() < header {
        return;
    }
    seal_ip(packet);
    let (source, destination, protocol) = (
        address(&packet[..header], first >> 4, 0),
        address(&packet[..header], first >> 4, 1),
        packet[protocol],
    );
    let payload = &mut packet[header..];
    if matches!(protocol, UDP | TCP | ICMP | ICMP6) && payload.len() >= 20 {
        seal(source, destination, protocol, payload);
    }
}

/// The source (0) or destination (1) in a whole header.
fn address(header: &[u8], version: u8, which: usize) -> IpAddr {
    if version == 4 {
        let at = 12 + 4 * which;
        let octets: [u8; 4] = header[at..at + 4].try_into().expect("4 bytes");
        IpAddr::from(octets)
    } else {
        let at = 8 + 16 * which;
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("16 bytes");
        IpAddr::from(octets)
    }
}

/// What happens to a template.
#[derive(Debug, Clone)]
struct Damage {
    which: Index,
    /// In the headers, or anywhere.
    bytes: Vec<(Index, bool, u8)>,
    cut: Option<Index>,
    padding: usize,
    fix: bool,
    /// In at another side.
    elsewhere: Option<Index>,
}

fn damage() -> impl Strategy<Value = Damage> {
    let special = prop::sample::select(vec![0, 1, 2, 4, 6, 17, 41, 43, 44, 60, 67, 134, 255u8]);
    let value = prop_oneof![any::<u8>(), special];
    let byte = (any::<Index>(), prop::bool::weighted(0.9), value);
    (
        any::<Index>(),
        prop::collection::vec(byte, 0..4),
        prop::option::weighted(0.1, any::<Index>()),
        prop_oneof![8 => Just(0usize), 1 => 1usize..64],
        prop::bool::weighted(0.8),
        prop::option::weighted(0.1, any::<Index>()),
    )
        .prop_map(|(which, bytes, cut, padding, fix, elsewhere)| Damage {
            which,
            bytes,
            cut,
            padding,
            fix,
            elsewhere,
        })
}

impl Damage {
    fn frame(&self) -> (Vec<u8>, Side) {
        let template = self.which.get(&TEMPLATES);
        let mut frame = template.bytes.clone();
        let last = template.packets.last().copied().unwrap_or(14);
        let headers = (last + 64).min(frame.len());
        for (at, in_headers, value) in &self.bytes {
            let within = if *in_headers { headers } else { frame.len() };
            frame[at.index(within)] = *value;
        }
        if self.fix {
            for at in template.packets.iter().rev() {
                try_seal(&mut frame[*at..]);
            }
        }
        if let Some(cut) = self.cut {
            frame.truncate(cut.index(frame.len()).max(1));
        }
        frame.resize(frame.len() + self.padding, 0xa5);
        let side = self.elsewhere.map(|index| *index.get(&SIDES));
        (frame, side.unwrap_or(template.side))
    }
}

/// Node 1, its stack, a guarded pod and one without a guard, and ways to node 2.
fn target(l2: bool) -> Node {
    let mode = if l2 { Mode::L2 } else { Mode::L3 };
    let mut node = Node::new(1, mode, 2);
    node.join_host();
    node.guard(1, node.own(1));
    for (kind, outer, inner) in [(VXLAN, V4, V4), (VXLAN, V6, V6)] {
        node.tunnel(2, kind, outer, inner, 1500);
    }
    node.switch.set_policy(Policy {
        clamp_mss: true,
        ..Policy::default()
    });
    node
}

fn inject(node: &mut Node, frame: &[u8], side: Side) {
    match side {
        Side::Guarded => node.send(1, frame),
        Side::Free => node.send(2, frame),
        Side::Uplink => node.send_uplink(frame),
        Side::Host => node.send_host(frame),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_packets_are_accounted_for(
        damages in prop::collection::vec(damage(), 1..30),
        l2 in any::<bool>(),
    ) {
        let mut node = target(l2);
        for damage in &damages {
            let (frame, side) = damage.frame();
            inject(&mut node, &frame, side);
            node.must_balance();
        }
        node.finish();
    }
}

/// The same damage at every run, and enough of it to come to the verdicts deep inside. Whatever a
/// guarded pod sends, nobody hears of it from another's address.
#[test]
fn damage_reaches_the_verdicts_deep_inside() {
    const NODES: usize = 60;
    const FRAMES: usize = 300;
    let mut runner = TestRunner::deterministic();
    let mut drops: BTreeMap<&str, u64> = BTreeMap::new();
    let mut places: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..NODES {
        let mut node = target(round % 2 == 1);
        for second in 0..FRAMES {
            let tree = damage().new_tree(&mut runner).expect("a damage");
            let (frame, side) = tree.current().frame();
            inject(&mut node, &frame, side);
            node.must_balance();
            node.events();
            for (place, _) in node.take_all() {
                *places.entry(place).or_default() += 1;
            }
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
    let seen = format!("{places:?} {drops:?}");
    for reason in [
        DropReason::BadExtension,
        DropReason::ExtensionLimit,
        DropReason::BadNdp,
        DropReason::SpoofedMac,
        DropReason::SpoofedSource,
        DropReason::SpoofedNdp,
        DropReason::RogueRouter,
        DropReason::DhcpServer,
        DropReason::TunnelFromPod,
        DropReason::NotForGateway,
        DropReason::LinkLocal,
        DropReason::MulticastNotRouted,
        DropReason::GatewayNoService,
        DropReason::MartianSource,
        DropReason::UnexpectedProtocol,
        DropReason::UnknownPeer,
        DropReason::InnerSourceMismatch,
        DropReason::EcnIllegal,
        DropReason::TransitRefused,
        DropReason::HostLoop,
        DropReason::TtlExpired,
        DropReason::MtuExceeded,
    ] {
        let found = drops.contains_key(reason.name());
        assert!(found, "{}: {seen}", reason.name());
    }
    for place in ["host", "pod 1", "pod 2", "uplink"] {
        assert!(
            places.get(place).is_some_and(|count| *count > 500),
            "{seen}"
        );
    }
}
