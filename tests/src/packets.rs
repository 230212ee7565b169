//! Packets made by hand beyond [`crate::frames`]: ARP, IPv6 with its extension headers and
//! discovery, fragments, ICMP errors, SCTP.

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_api::MacAddr;

use crate::frames::{fix_checksum, ipv4};

/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Hop-by-hop options (RFC 8200, 4.3).
pub const HOP_BY_HOP: u8 = 0;
/// Routing header (RFC 8200, 4.4).
pub const ROUTING: u8 = 43;
/// Fragment header (RFC 8200, 4.5).
pub const FRAGMENT: u8 = 44;
/// ICMPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;
/// Destination options (RFC 8200, 4.6).
pub const DESTINATION: u8 = 60;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
/// SCTP (RFC 9260).
pub const SCTP: u8 = 132;
/// All nodes of a link (RFC 4291, 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The Internet checksum (RFC 1071) over `parts` one behind the other; each but the last has an
/// even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or_default();
            sum += u64::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The MAC address of an IPv4 group (RFC 1112, 6.4).
pub fn group_mac(group: Ipv4Addr) -> MacAddr {
    let [_, b, c, d] = group.octets();
    MacAddr([0x01, 0, 0x5e, b & 0x7f, c, d])
}

/// The MAC address of an IPv6 group (RFC 2464, 7).
pub fn group_mac6(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// An ARP packet (RFC 826): operation 1 asks, 2 answers; hardware and protocol address of each
/// side.
pub fn arp(operation: u16, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        bytes.extend(mac.0);
        bytes.extend(address.octets());
    }
    bytes
}

/// An IPv6 packet (RFC 8200).
pub fn ipv6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or_default();
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([next_header, hop_limit]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(payload);
    bytes
}

/// The checksum of an upper-layer message over IPv6, its field zero (RFC 8200, 8.1).
fn checksum6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or_default();
    checksum(&[
        &source.octets(),
        &destination.octets(),
        &length.to_be_bytes(),
        &[0, 0, 0, protocol],
        message,
    ])
}

/// Puts the checksum of an ICMPv6 message right, which is sent between these addresses.
pub fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].fill(0);
    let sum = checksum6(source, destination, ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ICMPv6 message in an IPv6 packet, its checksum right.
pub fn packet_icmpv6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    message: Vec<u8>,
) -> Vec<u8> {
    let message = icmpv6(source, destination, message);
    ipv6(source, destination, ICMPV6, hop_limit, &message)
}

/// A UDP datagram for IPv6, without the IPv6 header, its checksum right.
pub fn datagram6(source: (Ipv6Addr, u16), to: (Ipv6Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend(
        u16::try_from(8 + payload.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let sum = match checksum6(source.0, to.0, UDP, &bytes) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A UDP datagram in an IPv6 packet.
pub fn udp6(source: (Ipv6Addr, u16), to: (Ipv6Addr, u16), payload: &[u8]) -> Vec<u8> {
    ipv6(source.0, to.0, UDP, 64, &datagram6(source, to, payload))
}

/// A header of eight octets, hop-by-hop or destination options, with an option that whoever does
/// not know it skips (RFC 8200, 4.2; 0x1e is for experiments, RFC 4727, 3.5).
pub fn extension(next: u8) -> [u8; 8] {
    [next, 0, 0x1e, 4, 0x73, 0x68, 0x75, 0x6e]
}

/// A routing header of type 0 (RFC 5095) without segments.
pub fn routing0(next: u8) -> [u8; 8] {
    [next, 0, 0, 0, 0, 0, 0, 0]
}

/// `count` headers of destination options, `last` behind them.
pub fn chain(count: usize, last: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * 8 + payload.len());
    for number in 1..=count {
        bytes.extend(extension(if number == count { last } else { DESTINATION }));
    }
    bytes.extend(payload);
    bytes
}

/// A fragment header (RFC 8200, 4.5) and the fragment behind it.
pub fn fragment6(next: u8, id: u32, offset: u16, more: bool, piece: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend(((offset & 0xfff8) | u16::from(more)).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(piece);
    bytes
}

/// A fragment of an IPv4 packet (RFC 791, 3.2), `offset` in octets.
pub fn fragment4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    (id, offset, more): (u16, u16, bool),
    piece: &[u8],
) -> Vec<u8> {
    let mut packet = ipv4(source, destination, protocol, 64, piece);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    let word = (offset / 8) | if more { 0x2000 } else { 0 };
    packet[6..8].copy_from_slice(&word.to_be_bytes());
    fix_checksum(&mut packet);
    packet
}

/// An ICMP error (RFC 792) about the packet `about`: destination unreachable with `code`, and the
/// MTU that code 4 has (RFC 1191, 4).
pub fn icmp_unreachable(code: u8, mtu: u16, about: &[u8]) -> Vec<u8> {
    let mut bytes = vec![3, code, 0, 0, 0, 0];
    bytes.extend(mtu.to_be_bytes());
    bytes.extend(about);
    let sum = checksum(&[&bytes]);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// ICMPv6 "packet too big" (RFC 4443, 3.2) about the packet `about`, without a checksum.
pub fn too_big6(mtu: u32, about: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    bytes.extend(mtu.to_be_bytes());
    bytes.extend(about);
    bytes
}

/// Appends a link-layer address option (RFC 4861, 4.6.1).
fn link_layer(bytes: &mut Vec<u8>, kind: u8, mac: Option<MacAddr>) {
    if let Some(mac) = mac {
        bytes.extend([kind, 1]);
        bytes.extend(mac.0);
    }
}

/// A neighbour solicitation (RFC 4861, 4.3), without a checksum.
pub fn solicitation(target: Ipv6Addr, mac: Option<MacAddr>) -> Vec<u8> {
    let mut bytes = vec![135, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(target.octets());
    link_layer(&mut bytes, 1, mac);
    bytes
}

/// An unsolicited neighbour advertisement that overrides (RFC 4861, 4.4), without a checksum.
pub fn advertisement(target: Ipv6Addr, mac: Option<MacAddr>) -> Vec<u8> {
    let mut bytes = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    bytes.extend(target.octets());
    link_layer(&mut bytes, 2, mac);
    bytes
}

/// A router advertisement (RFC 4861, 4.2) of half an hour, without a checksum.
pub fn router_advertisement(mac: MacAddr) -> Vec<u8> {
    let mut bytes = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    link_layer(&mut bytes, 1, Some(mac));
    bytes
}

/// A redirect (RFC 4861, 4.5) of `destination` to `target`, without a checksum.
pub fn redirect(target: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mut bytes = vec![137, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(target.octets());
    bytes.extend(destination.octets());
    bytes
}

/// CRC32c (RFC 9260, appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    });
    !crc
}

/// An SCTP packet (RFC 9260, 3.1) with one DATA chunk, its checksum left at zero.
pub fn sctp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend(0x5348_554e_u32.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([0, 3]);
    bytes.extend(
        u16::try_from(16 + payload.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    bytes.extend([0; 12]);
    bytes.extend(payload);
    bytes
}

/// Puts the checksum of an SCTP packet right.
pub fn complete_sctp(mut packet: Vec<u8>) -> Vec<u8> {
    packet[8..12].fill(0);
    let crc = crc32c(&packet);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        // RFC 1071, section 3, and RFC 3720, B.4.
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&example]), !0xddf2);
        assert_eq!(checksum(&[&example[..4], &example[4..]]), !0xddf2);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn groups_have_their_mac_addresses() {
        let group = group_mac(Ipv4Addr::new(239, 129, 2, 3));
        assert_eq!(group.0, [1, 0, 0x5e, 1, 2, 3]);
        assert_eq!(group_mac6(ALL_NODES).0, [0x33, 0x33, 0, 0, 0, 1]);
    }

    #[test]
    fn headers_are_where_they_belong() {
        let chain = chain(3, UDP, &[9]);
        assert_eq!(chain.len(), 25);
        assert_eq!([chain[0], chain[8], chain[16]], [60, 60, 17]);
        let packet = packet_icmpv6(ALL_NODES, ALL_NODES, 255, solicitation(ALL_NODES, None));
        assert_eq!((packet[6], packet[7], packet[40]), (58, 255, 135));
        let message = &packet[40..];
        assert_eq!(checksum6(ALL_NODES, ALL_NODES, ICMPV6, message), 0);
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let fragment = fragment4(a, b, UDP, (7, 16, true), &[0; 8]);
        assert_eq!(fragment[4..8], [0, 7, 0x20, 2]);
    }
}
