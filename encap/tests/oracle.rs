//! Against independent readings of the same formats: RFC 1071 word by word, and `etherparse`.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpHardwareId, EtherType, IpNumber, Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice,
    UdpHeaderSlice,
};
use proptest::collection::vec;
use proptest::prelude::*;
use shunt_encap::checksum::{update_u16, update_u32};
use shunt_encap::{
    ArpOperation, ArpPacket, ArpRepr, Checksum, EthernetFrame, EthernetRepr, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, TcpPacket, UdpPacket, UdpRepr, VxlanHeader, VxlanRepr, complete_l4_v4,
    complete_l4_v6, flow_hash_v6, is_partial_l4_v4, is_partial_l4_v6,
};

/// RFC 1071, section 4.1.
fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

/// An IPv4 packet with a right TCP or UDP checksum, built by etherparse.
fn packet(src: Ipv4Addr, dst: Ipv4Addr, tcp: bool, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = PacketBuilder::ipv4(src.octets(), dst.octets(), 64);
    if tcp {
        ip.tcp(ports.0, ports.1, 77, 1024)
            .write(&mut bytes, payload)
    } else {
        ip.udp(ports.0, ports.1).write(&mut bytes, payload)
    }
    .expect("it fits");
    bytes
}

/// As [`packet`], of IPv6.
fn packet_v6(
    src: Ipv6Addr,
    dst: Ipv6Addr,
    tcp: bool,
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = PacketBuilder::ipv6(src.octets(), dst.octets(), 64);
    if tcp {
        ip.tcp(ports.0, ports.1, 77, 1024)
            .write(&mut bytes, payload)
    } else {
        ip.udp(ports.0, ports.1).write(&mut bytes, payload)
    }
    .expect("it fits");
    bytes
}

proptest! {
    #[test]
    fn checksum_equals_naive(bytes in vec(any::<u8>(), 0..3000)) {
        prop_assert_eq!(Checksum::new().add(&bytes).finish(), naive(&bytes));
    }

    #[test]
    fn checksum_does_not_depend_on_the_cuts(
        bytes in vec(any::<u8>(), 0..500),
        mut cuts in vec(0usize..500, 0..8),
    ) {
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let (mut added, mut combined, mut from) = (Checksum::new(), Checksum::new(), 0);
        for to in cuts {
            let to = to.min(bytes.len());
            added = added.add(&bytes[from..to]);
            combined = combined.combine(Checksum::new().add(&bytes[from..to]));
            from = to;
        }
        prop_assert_eq!(added.finish(), naive(&bytes));
        prop_assert_eq!(combined.finish(), naive(&bytes));
    }

    #[test]
    fn incremental_equals_recomputed(
        mut bytes in vec(any::<u8>(), 4..100),
        at: prop::sample::Index,
        new16: u16,
        new32: u32,
    ) {
        // A sum over nothing but zeros has no incremental form (RFC 1624, section 3).
        bytes.extend([0x45, 0]);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        let end = bytes.len();
        bytes.swap(0, end - 2);
        bytes.swap(1, end - 1);

        let at = 2 + at.index(end - 4) / 2 * 2;
        let before = naive(&bytes);
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        bytes[at..at + 2].copy_from_slice(&new16.to_be_bytes());
        prop_assert_eq!(update_u16(before, old, new16), naive(&bytes));

        if at + 4 <= end {
            let before = naive(&bytes);
            let old = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            bytes[at..at + 4].copy_from_slice(&new32.to_be_bytes());
            prop_assert_eq!(update_u32(before, old, new32), naive(&bytes));
        }
    }

    #[test]
    fn transport_checksums_equal_etherparse(
        src in address(), dst in address(), tcp: bool, ports: (u16, u16),
        payload in vec(any::<u8>(), 0..1500),
    ) {
        let bytes = packet(src, dst, tcp, ports, &payload);
        let ip = Ipv4Packet::new_checked(&bytes[..]).expect("etherparse builds sound packets");
        prop_assert!(ip.verify_checksum());
        let mut transport = ip.payload().to_vec();
        if tcp {
            let mut packet = TcpPacket::new_checked(&mut transport[..]).expect("sound");
            prop_assert_eq!((packet.src_port(), packet.dst_port()), ports);
            prop_assert_eq!(packet.payload(), &payload[..]);
            prop_assert!(packet.verify_checksum_v4(src, dst));
            packet.set_checksum(0);
            packet.fill_checksum_v4(src, dst);
        } else {
            let mut packet = UdpPacket::new_checked(&mut transport[..]).expect("sound");
            prop_assert_eq!((packet.src_port(), packet.dst_port()), ports);
            prop_assert_eq!(packet.payload(), &payload[..]);
            prop_assert!(packet.verify_checksum_v4(src, dst));
            packet.set_checksum(0);
            packet.fill_checksum_v4(src, dst);
        }
        prop_assert_eq!(&transport[..], ip.payload());
    }

    #[test]
    fn pseudo_header_v6_equals_etherparse(
        src: u128, dst: u128, payload in vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6(src.to_be_bytes(), dst.to_be_bytes(), 64)
            .udp(1, 2)
            .write(&mut bytes, &payload)
            .expect("it fits");
        let ip = Ipv6Packet::new_checked(&bytes[..]).expect("sound");
        let sum = Checksum::new()
            .add_pseudo_v6(ip.src(), ip.dst(), ip.next_header(), u32::from(ip.payload_len()))
            .add(ip.payload());
        prop_assert_eq!(sum.finish(), 0);
    }

    #[test]
    fn partial_becomes_what_etherparse_computes(
        src in address(), dst in address(), tcp: bool, ports: (u16, u16),
        payload in vec(any::<u8>(), 0..2000),
        padding in vec(any::<u8>(), 0..40),
        cuts: (prop::sample::Index, prop::sample::Index),
    ) {
        let finished = packet(src, dst, tcp, ports, &payload);
        let (field, protocol) = if tcp { (36, 6) } else { (26, 17) };
        let mut partial = finished.clone();
        let len = (finished.len() - 20) as u16;
        let pseudo = Checksum::new().add_pseudo_v4(src, dst, protocol, len).folded();
        partial[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());

        let place = is_partial_l4_v4(&partial).expect("the field holds the pseudo-header's sum");
        prop_assert_eq!((usize::from(place.start), usize::from(place.offset)), (20, field));

        let mut chained = partial.clone();
        let (head, rest) = chained.split_at_mut(field + 2);
        let mut at = [cuts.0.index(rest.len() + 1), cuts.1.index(rest.len() + 1)];
        at.sort_unstable();
        place
            .complete_chain(head, [&rest[..at[0]], &rest[at[0]..at[1]], &rest[at[1]..]])
            .expect("the head holds the field");
        prop_assert_eq!(&chained, &finished);

        partial.extend(padding);
        prop_assert_eq!(complete_l4_v4(&mut partial), Ok(true));
        prop_assert_eq!(&partial[..finished.len()], &finished[..]);
        let expected = if tcp {
            TcpHeaderSlice::from_slice(&finished[20..])
                .expect("sound")
                .calc_checksum_ipv4_raw(src.octets(), dst.octets(), &payload)
                .expect("it fits")
        } else {
            UdpHeaderSlice::from_slice(&finished[20..])
                .expect("sound")
                .to_header()
                .calc_checksum_ipv4_raw(src.octets(), dst.octets(), &payload)
                .expect("it fits")
        };
        prop_assert_eq!(&partial[field..field + 2], expected.to_be_bytes());
    }

    #[test]
    fn reprs_survive_the_wire(
        macs: ([u8; 6], [u8; 6]), src in address(), dst in address(),
        bytes: (u8, u8, u8), words: (u16, u16), flag: bool,
        payload_len in 0u16..200, vni in 0u32..1 << 24, v6: (u128, u128),
    ) {
        let mut out = [0xa5u8; 300];

        let ethernet = EthernetRepr { dst: macs.0, src: macs.1, ethertype: words.0 };
        ethernet.emit(&mut out).expect("room");
        let view = EthernetFrame::new_checked(&out).expect("just written");
        prop_assert_eq!(EthernetRepr::parse(&view), ethernet);

        let arp = ArpRepr {
            operation: if flag { ArpOperation::Request } else { ArpOperation::Reply },
            sender_hardware_addr: macs.0,
            sender_protocol_addr: src,
            target_hardware_addr: macs.1,
            target_protocol_addr: dst,
        };
        arp.emit(&mut out).expect("room");
        let view = ArpPacket::new_checked(&out).expect("just written");
        prop_assert_eq!(ArpRepr::parse(&view), arp);
        let theirs = etherparse::ArpPacketSlice::from_slice(&out).expect("etherparse reads it");
        prop_assert_eq!(theirs.hw_addr_type(), ArpHardwareId::ETHERNET);
        prop_assert_eq!(theirs.proto_addr_type(), EtherType::IPV4);
        prop_assert_eq!(theirs.operation().0, arp.operation.code());
        prop_assert_eq!(theirs.sender_hw_addr(), macs.0);
        prop_assert_eq!(theirs.sender_protocol_addr(), src.octets());
        prop_assert_eq!(theirs.target_hw_addr(), macs.1);
        prop_assert_eq!(theirs.target_protocol_addr(), dst.octets());

        let ipv4 = Ipv4Repr {
            src, dst,
            protocol: bytes.0, ttl: bytes.1, tos: bytes.2, ident: words.0,
            dont_fragment: flag, payload_len,
        };
        ipv4.emit(&mut out).expect("room");
        let view = Ipv4Packet::new_checked(&out).expect("just written");
        prop_assert_eq!(Ipv4Repr::parse(&view), ipv4);
        let theirs = Ipv4HeaderSlice::from_slice(&out).expect("etherparse reads it").to_header();
        prop_assert_eq!(theirs.header_checksum, theirs.calc_header_checksum());
        prop_assert_eq!(theirs.total_len, 20 + payload_len);
        prop_assert_eq!(theirs.dscp.value() << 2 | theirs.ecn.value(), bytes.2);
        prop_assert_eq!(theirs.dont_fragment, flag);
        prop_assert_eq!(theirs.protocol, IpNumber(bytes.0));

        let ipv6 = Ipv6Repr {
            src: v6.0.into(), dst: v6.1.into(), next_header: bytes.0, hop_limit: bytes.1,
            traffic_class: bytes.2, payload_len,
        };
        ipv6.emit(&mut out).expect("room");
        let view = Ipv6Packet::new_checked(&out).expect("just written");
        prop_assert_eq!(Ipv6Repr::parse(&view), ipv6);
        let theirs = etherparse::Ipv6HeaderSlice::from_slice(&out).expect("etherparse reads it");
        prop_assert_eq!(theirs.traffic_class(), bytes.2);
        prop_assert_eq!(theirs.payload_length(), payload_len);
        prop_assert_eq!(theirs.source(), v6.0.to_be_bytes());

        let udp = UdpRepr { src_port: words.0, dst_port: words.1, payload_len };
        udp.emit(&mut out).expect("room");
        let view = UdpPacket::new_checked(&out).expect("just written");
        prop_assert_eq!(UdpRepr::parse(&view), udp);

        let vxlan = VxlanRepr { vni };
        vxlan.emit(&mut out).expect("room");
        let view = VxlanHeader::new_checked(&out).expect("just written");
        prop_assert_eq!(VxlanRepr::parse(&view), vxlan);
    }

    #[test]
    fn v6_transport_checksums_equal_etherparse(
        src: u128, dst: u128, tcp: bool, ports: (u16, u16), options: bool,
        payload in vec(any::<u8>(), 0..1500), padding in vec(any::<u8>(), 0..40),
        cuts: (prop::sample::Index, prop::sample::Index),
    ) {
        let (src, dst) = (Ipv6Addr::from(src), Ipv6Addr::from(dst));
        let mut finished = packet_v6(src, dst, tcp, ports, &payload);
        let (field, protocol) = if tcp { (16, 6) } else { (6, 17) };
        let mut transport = finished.split_off(40);
        let field_of = |bytes: &[u8]| [bytes[field], bytes[field + 1]];
        let right = field_of(&transport);
        if tcp {
            let mut packet = TcpPacket::new_checked(&mut transport[..]).expect("sound");
            prop_assert!(packet.verify_checksum_v6(src, dst));
            packet.set_checksum(0);
            packet.fill_checksum_v6(src, dst);
        } else {
            let mut packet = UdpPacket::new_checked(&mut transport[..]).expect("sound");
            prop_assert!(packet.verify_checksum_v6(src, dst));
            packet.set_checksum(0);
            packet.fill_checksum_v6(src, dst);
        }
        prop_assert_eq!(field_of(&transport), right);

        // The same as Linux leaves it, perhaps behind a hop-by-hop header.
        let plain = [&finished[..], &transport].concat();
        if options {
            finished[6] = 0;
            finished.extend([protocol, 0, 5, 2, 0, 0, 1, 0]);
            let payload_len = (8 + transport.len()) as u16;
            finished[4..6].copy_from_slice(&payload_len.to_be_bytes());
        }
        let start = finished.len();
        finished.extend_from_slice(&transport);
        prop_assert_eq!(flow_hash_v6(&finished), flow_hash_v6(&plain));
        let mut partial = finished.clone();
        let pseudo = Checksum::new()
            .add_pseudo_v6(src, dst, protocol, transport.len() as u32)
            .folded();
        partial[start + field..start + field + 2].copy_from_slice(&pseudo.to_be_bytes());
        let place = is_partial_l4_v6(&partial).expect("the field holds the pseudo-header's sum");
        prop_assert_eq!(usize::from(place.start), start);
        prop_assert_eq!(usize::from(place.offset), start + field);

        let mut chained = partial.clone();
        let (head, rest) = chained.split_at_mut(start + field + 2);
        let mut at = [cuts.0.index(rest.len() + 1), cuts.1.index(rest.len() + 1)];
        at.sort_unstable();
        place
            .complete_chain(head, [&rest[..at[0]], &rest[at[0]..at[1]], &rest[at[1]..]])
            .expect("the head holds the field");
        prop_assert_eq!(&chained, &finished);

        partial.extend(padding);
        prop_assert_eq!(complete_l4_v6(&mut partial), Ok(true));
        prop_assert_eq!(&partial[..finished.len()], &finished[..]);
    }
}
