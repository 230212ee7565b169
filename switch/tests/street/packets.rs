//! Packets for a node, and what is read from those that come out. Checksums are summed here, one
//! 16-bit word after the other: nothing of the switch has a part in them.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{Ipv4HeaderSlice, NetSlice, PacketBuilder, SlicedPacket};
use shunt_api::MacAddr;

use crate::places::{GATEWAY_MAC, pod, pod_mac};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

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

/// The Internet checksum's sum of some bytes (RFC 1071), on top of `sum`.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        let sum = sum + u32::from(u16::from_be_bytes([pair[0], low]));
        (sum & 0xffff) + (sum >> 16)
    })
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The sum of a pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1); ICMP for IPv4 has none.
fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u32 {
    if protocol == ICMP {
        return 0;
    }
    let sum = add(add(0, &octets(source)), &octets(destination));
    add(add(sum, &[0, protocol]), &(length as u16).to_be_bytes())
}

fn field(protocol: u8) -> usize {
    match protocol {
        UDP => 6,
        TCP => 16,
        ICMP | ICMP6 => 2,
        _ => panic!("protocol {protocol} has no Internet checksum"),
    }
}

/// Fills in the checksum of a transport header and its payload.
pub(crate) fn seal(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &mut [u8]) {
    let at = field(protocol);
    bytes[at..at + 2].fill(0);
    let sum = add(pseudo(source, destination, protocol, bytes.len()), bytes);
    let checksum = match !(sum as u16) {
        0 if protocol == UDP => 0xffff,
        checksum => checksum,
    };
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Leaves it to hardware, as the kernel does: the pseudo-header's sum, not inverted.
pub(crate) fn leave(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &mut [u8]) {
    let at = field(protocol);
    let sum = pseudo(source, destination, protocol, bytes.len()) as u16;
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Bytes that tell where they were.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n ^ n >> 8) as u8).collect()
}

/// An IP packet of either version; `hops` is the TTL or hop limit. IPv4 may be fragmented.
pub(crate) fn ip(
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = match source {
        IpAddr::V4(_) => {
            let length = (20 + payload.len()) as u16;
            let mut packet = vec![0x45, 0];
            packet.extend(length.to_be_bytes());
            packet.extend([0x12, 0x34, 0, 0, hops, protocol, 0, 0]);
            packet
        }
        IpAddr::V6(_) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, hops]);
            packet
        }
    };
    packet.extend(octets(source));
    packet.extend(octets(destination));
    seal_ip(&mut packet);
    packet.extend(payload);
    packet
}

/// Makes an IPv4 header's checksum right after a change; IPv6 has none.
pub(crate) fn seal_ip(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 {
        let length = usize::from(packet[0] & 15) * 4;
        packet[10..12].fill(0);
        let checksum = !(add(0, &packet[..length]) as u16);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A UDP datagram with a right checksum.
pub(crate) fn datagram(
    source: IpAddr,
    destination: IpAddr,
    (from, to): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut bytes: Vec<u8> = [from, to, length, 0]
        .into_iter()
        .flat_map(u16::to_be_bytes)
        .collect();
    bytes.extend(payload);
    seal(source, destination, UDP, &mut bytes);
    bytes
}

/// A TCP segment with a right checksum; `options` is a multiple of 4 bytes.
pub(crate) fn segment(
    source: IpAddr,
    destination: IpAddr,
    (from, to): (u16, u16),
    flags: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes: Vec<u8> = [from, to].into_iter().flat_map(u16::to_be_bytes).collect();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2]);
    bytes.extend([((5 + options.len() / 4) << 4) as u8, flags, 0xff, 0xff]);
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes.extend(payload);
    seal(source, destination, TCP, &mut bytes);
    bytes
}

/// An ICMP or ICMPv6 message with a right checksum.
pub(crate) fn icmp(
    source: IpAddr,
    destination: IpAddr,
    (kind, code): (u8, u8),
    rest: [u8; 4],
    body: &[u8],
) -> (u8, Vec<u8>) {
    let protocol = if source.is_ipv4() { ICMP } else { ICMP6 };
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    bytes.extend(body);
    seal(source, destination, protocol, &mut bytes);
    (protocol, bytes)
}

/// An echo request of either version as an IP packet.
pub(crate) fn ping(source: IpAddr, destination: IpAddr, hops: u8, payload: usize) -> Vec<u8> {
    let kind = if source.is_ipv4() { 8 } else { 128 };
    let body = pattern(payload);
    let (protocol, message) = icmp(source, destination, (kind, 0), [0, 7, 0, 1], &body);
    ip(source, destination, hops, protocol, &message)
}

/// A UDP packet of either version with `payload` bytes, ports 1000 and 2000.
pub(crate) fn udp_ip(source: IpAddr, destination: IpAddr, hops: u8, payload: usize) -> Vec<u8> {
    let bytes = datagram(source, destination, (1000, 2000), &pattern(payload));
    ip(source, destination, hops, UDP, &bytes)
}

/// An Ethernet frame around an IP packet.
pub(crate) fn frame(source: MacAddr, destination: MacAddr, packet: &[u8]) -> Vec<u8> {
    let mut frame = [destination.0, source.0].concat();
    frame.extend(if packet[0] >> 4 == 6 {
        [0x86, 0xdd]
    } else {
        [0x08, 0x00]
    });
    frame.extend(packet);
    frame
}

/// What pod `n` sends to its gateway.
pub(crate) fn routed(n: u8, packet: &[u8]) -> Vec<u8> {
    frame(pod_mac(n), GATEWAY_MAC, packet)
}

/// An IP packet as it came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) hops: u8,
    /// TOS or traffic class.
    pub(crate) class: u8,
    /// Behind any extension headers.
    pub(crate) protocol: u8,
    pub(crate) payload: Vec<u8>,
    /// Bytes of the whole packet.
    pub(crate) length: usize,
}

impl Seen {
    pub(crate) fn ways(&self) -> (IpAddr, IpAddr, u8) {
        (self.source, self.destination, self.hops)
    }
}

/// Reads the IP packet in a frame; every checksum must be right.
#[track_caller]
pub(crate) fn seen(frame: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let (source, destination, hops, class, payload) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            assert_eq!(frame[12..14], [8, 0]);
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum(),
                "IPv4 checksum"
            );
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                header.ttl(),
                frame[15],
                ip.payload(),
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            assert_eq!(frame[12..14], [0x86, 0xdd]);
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                header.hop_limit(),
                header.traffic_class(),
                ip.payload(),
            )
        }
        other => panic!("not IP: {other:?}"),
    };
    let protocol = payload.ip_number.0;
    if !payload.fragmented && matches!(protocol, UDP | TCP | ICMP | ICMP6) {
        let sum = pseudo(source, destination, protocol, payload.payload.len());
        assert_eq!(add(sum, payload.payload), 0xffff, "checksum of {protocol}");
        if protocol == UDP {
            assert_ne!(payload.payload[6..8], [0, 0], "UDP without a checksum");
        }
    }
    Seen {
        source,
        destination,
        hops,
        class,
        protocol,
        payload: payload.payload.to_vec(),
        length: frame.len() - 14,
    }
}

/// An ICMP or ICMPv6 error as it came out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) kind: (u8, u8),
    /// The MTU, where the error has one.
    pub(crate) value: u32,
    pub(crate) quoted: Vec<u8>,
}

/// Reads the error in a frame.
#[track_caller]
pub(crate) fn complaint(frame: &[u8]) -> Complaint {
    let seen = seen(frame);
    let family = if seen.source.is_ipv4() { ICMP } else { ICMP6 };
    assert_eq!(seen.protocol, family, "{seen:?}");
    let value = [4, 5, 6, 7].map(|at| seen.payload[at]);
    Complaint {
        from: seen.source,
        to: seen.destination,
        kind: (seen.payload[0], seen.payload[1]),
        value: u32::from_be_bytes(value),
        quoted: seen.payload[8..].to_vec(),
    }
}
