//! A node of memory ports.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use shunt_api::MacAddr;
use shunt_encap::{DscpPolicy, IpFamily, IpipParams, OuterHeader, VxlanParams};
use shunt_fib::NextHopIndex;
use shunt_switch::config::Mode;
use shunt_switch::port::{MemoryPort, MemoryWire, Port};
use shunt_switch::standalone::{Setup, Standalone};
use shunt_switch::stats::DropReason;
use shunt_switch::street::{Event, PendingLimits};
use shunt_switch::tables::{Action, Guard, NextHop, PortId, Role, Underlay};

pub(crate) use crate::packets::*;
pub(crate) use crate::places::*;

/// How packets travel between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Vxlan { udp_checksum: bool },
    Ipip,
    Direct,
}

pub(crate) const VXLAN: Kind = Kind::Vxlan {
    udp_checksum: false,
};

/// A node with an uplink and pods on memory ports.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) switch: Standalone,
    pub(crate) uplink: MemoryWire,
    pub(crate) pods: Vec<MemoryWire>,
    pub(crate) ids: Vec<PortId>,
    /// The next hop of each pod, by the pod's place.
    pub(crate) hops: Vec<NextHopIndex>,
    /// The same for IPv6.
    pub(crate) hops6: Vec<NextHopIndex>,
    /// The node's own stack, once it has joined.
    pub(crate) host: MemoryWire,
}

impl Node {
    /// Node `number` with `pods` pods, whose addresses are `pod(number, 1)` and up.
    pub(crate) fn new(number: u8, mode: Mode, pods: u8) -> Self {
        Self::with(number, mode, pods, |_| {})
    }

    /// [`Node::new`] with changes to the setup.
    pub(crate) fn with(number: u8, mode: Mode, pods: u8, change: impl FnOnce(&mut Setup)) -> Self {
        let IpAddr::V6(address6) = node_ip(V6, number) else {
            panic!("an IPv6 address")
        };
        let mut setup = Setup {
            mode,
            batch: 8,
            frames: 256,
            pending: PendingLimits {
                per_neighbour: 2,
                total: 3,
                // Longer than any test takes.
                timeout: Duration::from_secs(10),
            },
            max_macs: 64,
            gateway: (GATEWAY, GATEWAY_MAC),
            underlay: Underlay {
                address: Some(node_address(number)),
                address6: Some(address6),
                vni: VNI,
                vxlan_port: VXLAN_PORT,
                vtep_mac: MacAddr(vtep_mac(number)),
                vtep_mac6: None,
                peers: Vec::new(),
            },
        };
        change(&mut setup);
        let mut switch = Standalone::new(setup).expect("a switch");
        let (port, uplink) = MemoryPort::wire();
        switch.add_port(Port::Memory(port), Role::Uplink, 1500, true);
        let mut node = Self {
            number,
            switch,
            uplink,
            pods: Vec::new(),
            ids: Vec::new(),
            hops: Vec::new(),
            hops6: Vec::new(),
            host: MemoryWire::default(),
        };
        let answers = node.hop(NextHop::inert(Action::Gateway));
        node.route(IpAddr::from(GATEWAY), answers);
        node.route(IpAddr::from(GATEWAY6), answers);
        for n in 1..=pods {
            let (port, wire) = MemoryPort::wire();
            let id = node
                .switch
                .add_port(Port::Memory(port), Role::Pod, 9000, true);
            let hop = node.hop(Self::to_pod(id, pod_mac(n)));
            let hop6 = node.hop(Self::to_station(Action::Deliver, id, pod_mac(n), V6));
            node.route(pod_ip(V4, number, n), hop);
            node.route(pod_ip(V6, number, n), hop6);
            node.pods.push(wire);
            node.ids.push(id);
            node.hops.push(hop);
            node.hops6.push(hop6);
        }
        node
    }

    pub(crate) fn to_pod(port: PortId, mac: MacAddr) -> NextHop {
        Self::to_station(Action::Deliver, port, mac, V4)
    }

    /// From the gateway to a station of this node.
    pub(crate) fn to_station(
        action: Action,
        port: PortId,
        mac: MacAddr,
        family: IpFamily,
    ) -> NextHop {
        NextHop {
            port,
            mtu: 1500,
            header: OuterHeader::ethernet(GATEWAY_MAC.0, mac.0, family.ethertype()),
            ..NextHop::inert(action)
        }
    }

    pub(crate) fn hop(&mut self, hop: NextHop) -> NextHopIndex {
        self.switch.add_next_hop(hop).expect("room for a next hop")
    }

    pub(crate) fn route(&mut self, prefix: impl Into<IpNet>, hop: NextHopIndex) {
        self.switch
            .add_route(prefix, hop)
            .expect("room for a route");
    }

    /// Joins the node's own stack: its addresses, and what no other route takes. Returns the port.
    pub(crate) fn join_host(&mut self) -> PortId {
        let (port, wire) = MemoryPort::wire();
        self.host = wire;
        let id = self
            .switch
            .add_port(Port::Memory(port), Role::Host, 1500, true);
        let mut ways = [None; 2];
        for (way, family) in ways.iter_mut().zip([V4, V6]) {
            let own = self.hop(Self::to_station(Action::Node, id, HOST_MAC, family));
            self.route(node_ip(family, self.number), own);
            let outside = self.hop(Self::to_station(Action::Outside, id, HOST_MAC, family));
            let default = match family {
                V4 => "0.0.0.0/0",
                V6 => "::/0",
            };
            self.route(default.parse::<IpNet>().expect("a prefix"), outside);
            *way = Some(outside);
        }
        self.switch.set_to_host(ways);
        id
    }

    /// What pod `n` may send from: its own addresses.
    pub(crate) fn own(&self, n: u8) -> Guard {
        Guard {
            macs: vec![pod_mac(n)],
            v4: vec![pod(self.number, n)],
            v6: vec![pod6(self.number, n)],
            ..Guard::default()
        }
    }

    /// Guards pod `n`.
    pub(crate) fn guard(&mut self, n: u8, guard: Guard) {
        self.switch.set_guard(self.ids[usize::from(n) - 1], guard);
    }

    /// The way of one family's packets to `node`, over a link of `link_mtu` bytes. What goes to
    /// that node itself takes it too.
    pub(crate) fn tunnel(
        &mut self,
        node: u8,
        kind: Kind,
        outer: IpFamily,
        inner: IpFamily,
        link_mtu: u16,
    ) -> NextHopIndex {
        let (src_mac, dst_mac) = (nic_mac(self.number), nic_mac(node));
        let (src_ip, dst_ip) = (node_ip(outer, self.number), node_ip(outer, node));
        let header = match kind {
            Kind::Vxlan { udp_checksum } => OuterHeader::vxlan(VxlanParams {
                src_mac,
                dst_mac,
                src_ip,
                dst_ip,
                ttl: 64,
                dst_port: VXLAN_PORT,
                vni: VNI,
                inner_src_mac: vtep_mac(self.number),
                inner_dst_mac: vtep_mac(node),
                inner,
                df: true,
                dscp: DscpPolicy::Copy,
                udp_checksum,
            }),
            Kind::Ipip => OuterHeader::ipip(IpipParams {
                src_mac,
                dst_mac,
                src_ip,
                dst_ip,
                ttl: 64,
                inner,
                df: true,
                dscp: DscpPolicy::Copy,
            }),
            Kind::Direct => Ok(OuterHeader::ethernet(src_mac, dst_mac, inner.ethertype())),
        };
        let header = header.expect("a header");
        let hop = self.hop(NextHop {
            action: Action::Underlay,
            port: PortId(0),
            mtu: link_mtu - header.overhead() as u16,
            remote: true,
            peer: (kind != Kind::Direct).then_some(dst_ip),
            header,
        });
        let length = match inner {
            V4 => 24,
            V6 => 64,
        };
        let pods = IpNet::new(pod_ip(inner, node, 0), length).expect("a prefix");
        self.route(pods, hop);
        self.route(node_ip(inner, node), hop);
        hop
    }

    pub(crate) fn vxlan_to(&mut self, node: u8, udp_checksum: bool) {
        self.tunnel(node, Kind::Vxlan { udp_checksum }, V4, V4, 1500);
    }

    /// A way to `node` that takes jumbo packets.
    pub(crate) fn jumbo_to(&mut self, node: u8) {
        self.tunnel(node, VXLAN, V4, V4, 9050);
    }

    pub(crate) fn ipip_to(&mut self, node: u8) {
        self.tunnel(node, Kind::Ipip, V4, V4, 1500);
    }

    pub(crate) fn direct_to(&mut self, node: u8) {
        self.tunnel(node, Kind::Direct, V4, V4, 1500);
    }

    /// Turns the crank until nothing moves.
    pub(crate) fn settle(&mut self) {
        while self.switch.turn() {}
    }

    /// What pod `n` (from 1) receives when `frame` is sent by pod `from`.
    pub(crate) fn exchange(&mut self, from: u8, frame: &[u8], n: u8) -> Option<Vec<u8>> {
        self.send(from, frame);
        self.pods[usize::from(n) - 1].receive()
    }

    pub(crate) fn send(&mut self, from: u8, frame: &[u8]) {
        self.pods[usize::from(from) - 1].send(frame);
        self.settle();
    }

    pub(crate) fn send_uplink(&mut self, frame: &[u8]) {
        self.uplink.send(frame);
        self.settle();
    }

    pub(crate) fn send_host(&mut self, frame: &[u8]) {
        self.host.send(frame);
        self.settle();
    }

    /// Whatever came out, anywhere.
    pub(crate) fn take_all(&mut self) -> Vec<(String, Vec<u8>)> {
        let named = [
            ("uplink".to_owned(), &self.uplink),
            ("host".to_owned(), &self.host),
        ];
        let pods = self.pods.iter().enumerate();
        let pods = pods.map(|(place, wire)| (format!("pod {}", place + 1), wire));
        named
            .into_iter()
            .chain(pods)
            .flat_map(|(name, wire)| {
                std::iter::from_fn(|| wire.receive()).map(move |frame| (name.clone(), frame))
            })
            .collect()
    }

    /// What pod `from` sends goes nowhere, for one reason, and nobody hears of it.
    #[track_caller]
    pub(crate) fn refuses(&mut self, from: u8, frame: &[u8], reason: DropReason, what: &str) {
        let before = self.switch.counters().1;
        self.send(from, frame);
        self.only(&before, reason, what);
    }

    /// The same of what comes from the uplink.
    #[track_caller]
    pub(crate) fn refuses_uplink(&mut self, frame: &[u8], reason: DropReason, what: &str) {
        let before = self.switch.counters().1;
        self.send_uplink(frame);
        self.only(&before, reason, what);
    }

    #[track_caller]
    fn only(&mut self, before: &shunt_switch::stats::PortCounters, reason: DropReason, what: &str) {
        let total = self.switch.counters().1;
        let dropped: Vec<_> = DropReason::ALL
            .iter()
            .filter(|r| total.drops[**r as usize] > before.drops[**r as usize])
            .map(|r| r.name())
            .collect();
        let came = self.take_all();
        assert_eq!(dropped, [reason.name()], "{what}; out came {came:02x?}");
        assert_eq!(total.dropped() - before.dropped(), 1, "{what}");
        assert!(came.is_empty(), "{what}: {came:02x?}");
    }

    /// How many frames were dropped for `reason`.
    pub(crate) fn drops(&mut self, reason: DropReason) -> u64 {
        self.switch.counters().1.drops[reason as usize]
    }

    /// Every reason for which frames were dropped, for messages.
    pub(crate) fn drop_names(&mut self) -> Vec<&'static str> {
        let total = self.switch.counters().1;
        DropReason::ALL
            .iter()
            .filter(|reason| total.drops[**reason as usize] > 0)
            .map(|reason| reason.name())
            .collect()
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.switch.events()
    }

    /// Every frame is accounted for.
    pub(crate) fn must_balance(&mut self) {
        let (snapshot, total) = self.switch.counters();
        let worker = &snapshot.worker;
        assert_eq!(
            total.rx_packets + worker.generated,
            total.tx_packets + total.dropped() + worker.consumed + worker.held,
            "{total:?} {worker:?}"
        );
    }

    /// Every frame is accounted for, and every chunk comes back.
    pub(crate) fn finish(mut self) {
        self.must_balance();
        assert_eq!(self.switch.finish(), 0, "frames lost");
    }
}
