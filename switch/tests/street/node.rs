//! A node of memory ports, and packets for it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use etherparse::{Ipv4HeaderSlice, PacketBuilder};
use ipnet::Ipv4Net;
use shunt_api::MacAddr;
use shunt_encap::ethernet::ETHERTYPE_IPV4;
use shunt_encap::{DscpPolicy, IpFamily, IpipParams, OuterHeader, VxlanParams};
use shunt_fib::NextHopIndex;
use shunt_switch::config::Mode;
use shunt_switch::port::{MemoryPort, MemoryWire, Port};
use shunt_switch::standalone::{Setup, Standalone};
use shunt_switch::stats::DropReason;
use shunt_switch::street::{Event, PendingLimits};
use shunt_switch::tables::{Action, NextHop, PortId, Role, Underlay};

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub(crate) const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);
pub(crate) const VNI: u32 = 7;
pub(crate) const VXLAN_PORT: u16 = 8472;

/// The MAC of pod `n` of any node.
pub(crate) fn pod_mac(n: u8) -> MacAddr {
    MacAddr([0x02, 0, 0, 0, 0x0a, n])
}

/// The address of pod `n` of node `node`.
pub(crate) fn pod(node: u8, n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, n)
}

pub(crate) fn node_address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 50, node)
}

fn nic_mac(node: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 0x50, node]
}

pub(crate) fn vtep_mac(node: u8) -> [u8; 6] {
    [0x02, 0x53, 192, 168, 50, node]
}

/// A node with an uplink and pods on memory ports.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) switch: Standalone,
    pub(crate) uplink: MemoryWire,
    pub(crate) pods: Vec<MemoryWire>,
    pub(crate) ids: Vec<PortId>,
    /// The next hop of each pod, by the pod's place.
    pub(crate) hops: Vec<NextHopIndex>,
}

impl Node {
    /// Node `number` with `pods` pods, whose addresses are `pod(number, 1)` and up.
    pub(crate) fn new(number: u8, mode: Mode, pods: u8) -> Self {
        Self::with(number, mode, pods, |_| {})
    }

    /// [`Node::new`] with changes to the setup.
    pub(crate) fn with(number: u8, mode: Mode, pods: u8, change: impl FnOnce(&mut Setup)) -> Self {
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
                address: node_address(number),
                vni: VNI,
                vxlan_port: VXLAN_PORT,
                vtep_mac: MacAddr(vtep_mac(number)),
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
        };
        let gateway = node.hop(NextHop::inert(Action::Gateway));
        node.route(Ipv4Net::from(GATEWAY), gateway);
        for n in 1..=pods {
            let (port, wire) = MemoryPort::wire();
            let id = node
                .switch
                .add_port(Port::Memory(port), Role::Pod, 9000, true);
            let hop = node.hop(Self::to_pod(id, pod_mac(n)));
            node.route(Ipv4Net::from(pod(number, n)), hop);
            node.pods.push(wire);
            node.ids.push(id);
            node.hops.push(hop);
        }
        node
    }

    pub(crate) fn to_pod(port: PortId, mac: MacAddr) -> NextHop {
        NextHop {
            action: Action::Deliver,
            port,
            mtu: 1500,
            header: OuterHeader::ethernet(GATEWAY_MAC.0, mac.0, ETHERTYPE_IPV4),
            ..NextHop::inert(Action::Deliver)
        }
    }

    pub(crate) fn hop(&mut self, hop: NextHop) -> NextHopIndex {
        self.switch.add_next_hop(hop).expect("room for a next hop")
    }

    pub(crate) fn route(&mut self, prefix: Ipv4Net, hop: NextHopIndex) {
        self.switch
            .add_route(prefix, hop)
            .expect("room for a route");
    }

    fn add_node(&mut self, node: u8, header: OuterHeader, peer: bool, mtu: u16) {
        let hop = self.hop(NextHop {
            action: Action::Underlay,
            port: PortId(0),
            mtu: mtu - header.overhead() as u16,
            remote: true,
            peer: peer.then(|| node_address(node)),
            header,
        });
        let prefix = Ipv4Net::new(Ipv4Addr::new(10, 244, node, 0), 24).expect("a prefix");
        self.route(prefix, hop);
    }

    pub(crate) fn vxlan_to(&mut self, node: u8, udp_checksum: bool) {
        self.vxlan_with_mtu(node, udp_checksum, 1500);
    }

    fn vxlan_with_mtu(&mut self, node: u8, udp_checksum: bool, mtu: u16) {
        let header = OuterHeader::vxlan(VxlanParams {
            src_mac: nic_mac(self.number),
            dst_mac: nic_mac(node),
            src_ip: IpAddr::V4(node_address(self.number)),
            dst_ip: IpAddr::V4(node_address(node)),
            ttl: 64,
            dst_port: VXLAN_PORT,
            vni: VNI,
            inner_src_mac: vtep_mac(self.number),
            inner_dst_mac: vtep_mac(node),
            inner: IpFamily::V4,
            df: true,
            dscp: DscpPolicy::Copy,
            udp_checksum,
        })
        .expect("a header");
        self.add_node(node, header, true, mtu);
    }

    /// A way to `node` that takes jumbo packets.
    pub(crate) fn jumbo_to(&mut self, node: u8) {
        self.vxlan_with_mtu(node, false, 9050);
    }

    pub(crate) fn ipip_to(&mut self, node: u8) {
        let header = OuterHeader::ipip(IpipParams {
            src_mac: nic_mac(self.number),
            dst_mac: nic_mac(node),
            src_ip: IpAddr::V4(node_address(self.number)),
            dst_ip: IpAddr::V4(node_address(node)),
            ttl: 64,
            inner: IpFamily::V4,
            df: true,
            dscp: DscpPolicy::Copy,
        })
        .expect("a header");
        self.add_node(node, header, true, 1500);
    }

    pub(crate) fn direct_to(&mut self, node: u8) {
        let header = OuterHeader::ethernet(nic_mac(self.number), nic_mac(node), ETHERTYPE_IPV4);
        self.add_node(node, header, false, 1500);
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

/// A UDP packet from pod 1 of node 1 to `dst`, addressed to the gateway, with `payload` bytes.
pub(crate) fn udp_to(dst: Ipv4Addr, payload: usize) -> Vec<u8> {
    udp(pod_mac(1), GATEWAY_MAC, pod(1, 1), dst, 64, payload)
}

pub(crate) fn udp(
    src_mac: MacAddr,
    dst_mac: MacAddr,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ttl: u8,
    payload: usize,
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(src_mac.0, dst_mac.0)
        .ipv4(src.octets(), dst.octets(), ttl)
        .udp(1000, 2000);
    let payload: Vec<u8> = (0..payload).map(|n| n as u8).collect();
    let mut frame = Vec::new();
    builder.write(&mut frame, &payload).expect("a packet");
    frame
}

/// As the kernel leaves a checksum to hardware: the pseudo-header's sum, not inverted.
pub(crate) fn leave_checksum(frame: &mut [u8]) {
    let ip = Ipv4HeaderSlice::from_slice(&frame[14..])
        .expect("IPv4")
        .to_header();
    let length = u16::from_be_bytes([frame[16], frame[17]]) - 20;
    let sum = shunt_encap::Checksum::new()
        .add_pseudo_v4(ip.source.into(), ip.destination.into(), 17, length)
        .folded();
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
}

/// Recomputes the IPv4 header checksum after a change.
pub(crate) fn fix_ip_checksum(frame: &mut [u8]) {
    assert!(try_fix_ip_checksum(frame), "no whole IPv4 header");
}

/// [`fix_ip_checksum`]; false if there is no header to have one.
pub(crate) fn try_fix_ip_checksum(frame: &mut [u8]) -> bool {
    let Ok(header) = Ipv4HeaderSlice::from_slice(frame.get(14..).unwrap_or_default()) else {
        return false;
    };
    let checksum = header.to_header().calc_header_checksum();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    true
}

/// Source, destination, TTL of the IPv4 packet 14 bytes into a frame whose checksums are right.
pub(crate) fn check_udp(frame: &[u8]) -> (Ipv4Addr, Ipv4Addr, u8) {
    let packet = etherparse::SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else {
        panic!("not IPv4: {packet:?}")
    };
    let header = ip.header().to_header();
    assert_eq!(
        header.header_checksum,
        header.calc_header_checksum(),
        "IPv4 checksum"
    );
    let Some(etherparse::TransportSlice::Udp(udp)) = &packet.transport else {
        panic!("not UDP: {packet:?}")
    };
    let computed = udp
        .to_header()
        .calc_checksum_ipv4(&header, udp.payload())
        .expect("a sum");
    assert_eq!(udp.checksum(), computed, "UDP checksum");
    (
        header.source.into(),
        header.destination.into(),
        header.time_to_live,
    )
}
