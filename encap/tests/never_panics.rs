//! Any bytes, through every view, getter and setter: an error or a value, never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use shunt_encap::extension::walk_v6;
use shunt_encap::fragment::Fragments;
use shunt_encap::icmp::{
    ErrorV4, IcmpPacket, answer_echo_v4, embedded, emit_error_v4, may_answer_v4, read_too_big_v4,
};
use shunt_encap::icmpv6::{ErrorV6, answer_echo_v6, emit_error_v6, may_answer_v6, read_too_big_v6};
use shunt_encap::igmp::{emit_query_v4, parse_igmp};
use shunt_encap::membership::QueryVersion;
use shunt_encap::mld::{emit_query_v6, mld_type, parse_mld};
use shunt_encap::mss::clamp_mss;
use shunt_encap::ndp::{NaParams, emit_advertisement, emit_solicitation, ndp_type, parse_ndp};
use shunt_encap::{
    ArpOperation, ArpPacket, ArpRepr, Checksum, DscpPolicy, Ecn, EthernetFrame, EthernetRepr,
    IpFamily, IpipParams, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, OuterHeader, PartialChecksum,
    SctpChecksum, TcpPacket, UdpPacket, UdpRepr, VxlanHeader, VxlanParams, VxlanRepr,
    complete_l4_v4, complete_l4_v6, flow_hash_v4, flow_hash_v6, is_partial_l4_v4, is_partial_l4_v6,
    needs_sctp_crc_v4, needs_sctp_crc_v6,
};

const A: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 2, 0, 0, 0, 3);

/// Random bytes, many of which open like a sound header so that the later checks are reached too.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let openings = prop_oneof![
        Just(vec![]),
        Just(vec![0x45]),
        (5u8..16, any::<u8>(), 0u8..2, any::<u8>()).prop_map(|(ihl, tos, high, low)| vec![
            0x40 | ihl,
            tos,
            high,
            low
        ]),
        Just(vec![0x60, 0, 0, 0, 0]),
        // IPv6 of a short payload that begins with what is worth a walk.
        (0u8..96, next_header()).prop_map(|(length, next)| vec![0x60, 0, 0, 0, 0, length, next]),
        Just(vec![0x08, 0, 0, 0]),
        Just(vec![0, 1, 8, 0, 6, 4, 0]),
    ];
    (openings, vec(any::<u8>(), 0..160)).prop_map(|(mut bytes, rest)| {
        bytes.extend(rest);
        bytes
    })
}

fn next_header() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![0u8, 6, 17, 33, 43, 44, 58, 60, 132])
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|address| Ipv4Addr::from(address).into()),
        any::<u128>().prop_map(|address| Ipv6Addr::from(address).into()),
    ]
}

proptest! {
    #[test]
    fn ethernet(mut data in bytes(), mac: [u8; 6], word: u16) {
        let Ok(mut frame) = EthernetFrame::new_checked(&mut data[..]) else {
            prop_assert!(data.len() < 14);
            return Ok(());
        };
        let length = frame.payload().len();
        frame.set_dst(mac);
        frame.set_src(mac);
        frame.set_ethertype(word);
        prop_assert_eq!(frame.payload_mut().len(), length);
        prop_assert_eq!(
            EthernetRepr::parse(&frame),
            EthernetRepr { dst: mac, src: mac, ethertype: word }
        );
        prop_assert_eq!(frame.into_inner().len(), length + 14);
    }

    #[test]
    fn arp(mut data in bytes(), mac: [u8; 6], word: u32) {
        let Ok(mut packet) = ArpPacket::new_checked(&mut data[..]) else { return Ok(()) };
        let repr = ArpRepr {
            operation: ArpOperation::Reply,
            sender_hardware_addr: mac,
            sender_protocol_addr: Ipv4Addr::from(word),
            target_hardware_addr: [0; 6],
            target_protocol_addr: A,
        };
        packet.set_operation(repr.operation);
        packet.set_sender_hardware_addr(repr.sender_hardware_addr);
        packet.set_sender_protocol_addr(repr.sender_protocol_addr);
        packet.set_target_hardware_addr(repr.target_hardware_addr);
        packet.set_target_protocol_addr(repr.target_protocol_addr);
        prop_assert_eq!(ArpRepr::parse(&packet), repr);
        prop_assert!(packet.into_inner().len() >= 28);
    }

    #[test]
    fn ipv4(mut data in bytes(), available in 0usize..70_000, tos: u8, word: u16, address: u32) {
        if let Ok(head) = Ipv4Packet::new_checked_head(&data[..], available) {
            prop_assert!(head.payload().len() + head.header_len() <= data.len());
            let _ = (Ipv4Repr::parse(&head), head.verify_checksum());
        }
        let Ok(mut packet) = Ipv4Packet::new_checked(&mut data[..]) else { return Ok(()) };
        let (header_len, total_len) = (packet.header_len(), usize::from(packet.total_len()));
        prop_assert_eq!(packet.options().len(), header_len - 20);
        prop_assert_eq!(packet.payload().len(), total_len - header_len);
        prop_assert_eq!(packet.dscp() << 2 | packet.ecn() as u8, packet.tos());
        packet.set_tos(tos);
        packet.set_dscp(tos);
        packet.set_ecn(Ecn::from_tos(tos));
        packet.set_ident(word);
        packet.set_fragment(tos & 1 == 1, tos & 2 == 2, word);
        packet.set_ttl(tos);
        packet.set_protocol(tos);
        packet.set_src(Ipv4Addr::from(address));
        packet.set_dst(Ipv4Addr::from(!address));
        packet.set_checksum(word);
        packet.fill_checksum();
        prop_assert!(packet.verify_checksum());
        prop_assert_eq!(packet.decrement_ttl().is_ok(), tos > 1);
        packet.set_tos_incremental(!tos);
        prop_assert!(packet.verify_checksum());
        prop_assert_eq!(packet.options_mut().len(), header_len - 20);
        prop_assert_eq!(packet.payload_mut().len(), total_len - header_len);
        packet.set_total_len(word);
        prop_assert!(packet.payload().len() <= usize::from(word));
        prop_assert!(Ipv4Repr::parse(&packet).payload_len <= word);
    }

    #[test]
    fn ipv6(mut data in bytes(), class: u8, word: u16, address: u128) {
        if let Ok(head) = Ipv6Packet::new_checked_head(&data[..], 70_000) {
            prop_assert!(head.payload().len() + 40 <= data.len());
            prop_assert!(head.flow_label() < 1 << 20);
            prop_assert_eq!(head.ecn(), Ecn::from_tos(head.traffic_class()));
        }
        let Ok(mut packet) = Ipv6Packet::new_checked(&mut data[..]) else { return Ok(()) };
        prop_assert_eq!(packet.payload().len(), usize::from(packet.payload_len()));
        packet.set_traffic_class(class);
        packet.set_next_header(class);
        packet.set_hop_limit(class);
        packet.set_src(Ipv6Addr::from(address));
        packet.set_dst(Ipv6Addr::from(!address));
        packet.set_payload_len(word);
        prop_assert!(packet.payload().len() <= usize::from(word));
        let repr = Ipv6Repr::parse(&packet);
        prop_assert_eq!((repr.traffic_class, repr.payload_len), (class, word));
        prop_assert_eq!(packet.decrement_hop_limit().is_ok(), class > 1);
    }

    #[test]
    fn udp(mut data in bytes(), length in 0u16..200, word: u16) {
        if let Some(field) = data.get_mut(4..6) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        let Ok(mut packet) = UdpPacket::new_checked(&mut data[..]) else { return Ok(()) };
        prop_assert_eq!(packet.payload().len() + 8, usize::from(length));
        packet.set_src_port(word);
        packet.set_dst_port(!word);
        packet.fill_checksum_v4(A, B);
        prop_assert!(packet.verify_checksum_v4(A, B));
        prop_assert_eq!(packet.payload_mut().len() + 8, usize::from(length));
        packet.set_checksum(word);
        packet.set_length(word);
        let _ = (packet.verify_checksum_v4(A, B), UdpRepr::parse(&packet));
        packet.fill_checksum_v4(A, B);
        let _ = packet.verify_checksum_v6(A6, B6);
        packet.fill_checksum_v6(A6, B6);
        prop_assert!(packet.verify_checksum_v6(A6, B6) || usize::from(word) < 8);
    }

    #[test]
    fn tcp(mut data in bytes(), data_offset: u8, word: u16) {
        if let Some(field) = data.get_mut(12) {
            *field = data_offset;
        }
        let Ok(mut packet) = TcpPacket::new_checked(&mut data[..]) else { return Ok(()) };
        prop_assert!(packet.header_len() >= 20);
        packet.set_src_port(word);
        packet.set_dst_port(!word);
        packet.set_flags(data_offset);
        packet.set_checksum(word);
        packet.fill_checksum_v4(A, B);
        prop_assert!(packet.verify_checksum_v4(A, B));
        packet.fill_checksum_v6(A6, B6);
        prop_assert!(packet.verify_checksum_v6(A6, B6));
        let payload_len = packet.payload().len();
        prop_assert_eq!(packet.header_len() + payload_len, packet.into_inner().len());
    }

    #[test]
    fn vxlan(mut data in bytes(), vni: u32) {
        let Ok(mut header) = VxlanHeader::new_checked(&mut data[..]) else { return Ok(()) };
        prop_assert_eq!((header.flags(), header.reserved1(), header.reserved2()), (8, 0, 0));
        let before = header.vni();
        let set = header.set_vni(vni);
        prop_assert_eq!(set.is_ok(), vni < 1 << 24);
        prop_assert_eq!(header.vni(), if set.is_ok() { vni } else { before });
        prop_assert_eq!(VxlanRepr::parse(&header).vni, header.vni());
        prop_assert_eq!(header.payload().len() + 8, header.into_inner().len());
    }

    #[test]
    fn sums_and_hashes(mut data in bytes(), start: u16, offset: u16) {
        let before = data.clone();
        prop_assert_eq!(flow_hash_v4(&data), flow_hash_v4(&before));
        prop_assert_eq!(flow_hash_v6(&data), flow_hash_v6(&before));
        for complete in [complete_l4_v4, complete_l4_v6] {
            let completed = complete(&mut data);
            if completed != Ok(true) {
                prop_assert_eq!(&data, &before);
            }
            data.clone_from(&before);
        }
        for found in [is_partial_l4_v4(&data), is_partial_l4_v6(&data)].into_iter().flatten() {
            prop_assert!(usize::from(found.offset) + 2 <= data.len());
        }
        for found in [needs_sctp_crc_v4(&data), needs_sctp_crc_v6(&data)].into_iter().flatten() {
            prop_assert!(found.complete(&mut data).is_ok());
        }
        for start in [start, start % 200] {
            let computed = SctpChecksum { start }.complete(&mut data);
            prop_assert_eq!(computed.is_ok(), usize::from(start) + 12 <= data.len());
        }
        for (start, offset) in [(start, offset), (start % 200, offset % 200)] {
            let place = PartialChecksum { start, offset };
            if place.complete(&mut data).is_err() {
                prop_assert!(usize::from(offset) + 2 > data.len() || usize::from(start) > data.len());
            }
        }
        prop_assert_ne!(Checksum::new().add(&data).finish_udp(), 0);
    }

    #[test]
    fn emitting_into_any_length(length in 0usize..80, word: u16, vni: u32) {
        let mut out = vec![0u8; length];
        let frame = EthernetRepr { dst: [1; 6], src: [2; 6], ethertype: word };
        prop_assert_eq!(frame.emit(&mut out).is_ok(), length >= 14);
        let arp = ArpRepr::request([1; 6], A, B);
        prop_assert_eq!(arp.emit(&mut out).is_ok(), length >= 28);
        let udp = UdpRepr { src_port: word, dst_port: word, payload_len: word };
        prop_assert_eq!(udp.emit(&mut out).is_ok(), length >= 8 && word <= 65535 - 8);
        prop_assert_eq!(VxlanRepr { vni }.emit(&mut out).is_ok(), length >= 8 && vni < 1 << 24);
        let plain = OuterHeader::ethernet([1; 6], [2; 6], word);
        prop_assert_eq!(plain.write(&mut out, word, 0, vni, word).is_ok(), length == 14);
        prop_assert!(plain.fill_udp_checksum(&mut out, Checksum::new()).is_ok());
    }

    /// Random chains of extension headers behind a sound fixed header.
    #[test]
    fn extension_chains(
        first in next_header(),
        chain in vec((next_header(), 0u8..4, any::<[u8; 6]>()), 0..12),
        rest in vec(prop_oneof![Just(0u8), any::<u8>()], 0..40),
        cut in 0usize..400,
    ) {
        let mut data = vec![0u8; 40];
        data[0] = 0x60;
        data[6] = first;
        for (next, length, octets) in chain {
            data.extend([next, length]);
            data.extend(octets);
            data.resize(data.len() + usize::from(length) * 8, 0);
        }
        data.extend(rest);
        let payload_len = (data.len() - 40) as u16;
        data[4..6].copy_from_slice(&payload_len.to_be_bytes());
        data.truncate(cut.max(40));
        let hash = flow_hash_v6(&data);
        if let Some(place) = needs_sctp_crc_v6(&data) {
            prop_assert!(place.complete(&mut data).is_ok());
            prop_assert_eq!(flow_hash_v6(&data), hash, "a checksum is no part of a flow");
        }
        if let Some(place) = is_partial_l4_v6(&data) {
            prop_assert!(place.complete(&mut data).is_ok());
        }
    }

    #[test]
    fn outer_headers_of_any_parameters(
        ends in (any_address(), any_address()), inner_v6: bool, fixed in prop::option::of(0u8..80),
        vni in 0u32..1 << 25, bytes: (u8, u8), length in 0usize..100, words: (u16, u16),
        hash: u32, flags: (bool, bool),
    ) {
        let inner = if inner_v6 { IpFamily::V6 } else { IpFamily::V4 };
        let dscp = fixed.map_or(DscpPolicy::Copy, DscpPolicy::Fixed);
        let (src_ip, dst_ip) = ends;
        let vxlan = OuterHeader::vxlan(VxlanParams {
            src_mac: [2; 6], dst_mac: [4; 6], src_ip, dst_ip, ttl: bytes.0, dst_port: words.0, vni,
            inner_src_mac: [6; 6], inner_dst_mac: [8; 6], inner, df: flags.0, dscp,
            udp_checksum: flags.1,
        });
        let ipip = OuterHeader::ipip(IpipParams {
            src_mac: [2; 6], dst_mac: [4; 6], src_ip, dst_ip, ttl: bytes.0, inner, df: flags.0,
            dscp,
        });
        let sound = src_ip.is_ipv4() == dst_ip.is_ipv4() && fixed.is_none_or(|dscp| dscp < 64);
        prop_assert_eq!(ipip.is_ok(), sound);
        prop_assert_eq!(vxlan.is_ok(), sound && vni < 1 << 24);
        let mut out = vec![0u8; length];
        for header in [vxlan, ipip].into_iter().flatten() {
            prop_assert_eq!(header.family(), IpFamily::of(src_ip));
            let written = header.write(&mut out, words.1, bytes.1, hash, words.0);
            prop_assert!(written.is_err() || length == header.len());
            if usize::from(words.1) + header.overhead() <= 65535 {
                prop_assert_eq!(written.is_ok(), length == header.len());
            }
            let filled = header.fill_udp_checksum(&mut out, Checksum::new());
            prop_assert!(filled.is_ok() || length != header.len());
        }
    }
}

/// A packet of either version with a sound header around random bytes, whose ICMP, ICMPv6 or IGMP
/// checksum is most often right, so that what lies behind it is read too.
fn control_packet() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![
        Just(0x11u8),
        Just(0x16),
        Just(0x22),
        Just(3),
        Just(8),
        128u8..144,
        any::<u8>()
    ];
    let body = vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..120);
    let alert = prop_oneof![Just(None), Just(Some([58u8, 0, 5, 2, 0, 0, 1, 0]))];
    (kinds, 0u8..5, body, any::<bool>(), alert, 0u8..8).prop_map(
        |(kind, code, rest, v6, alert, odd)| {
            let mut message = vec![kind, code, 0, 0];
            message.extend(rest);
            let mut packet = vec![0u8; if v6 { 40 } else { 20 }];
            let length = message.len() as u16;
            let sum = if v6 {
                packet[8..24].copy_from_slice(&Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9).octets());
                packet[24..40].copy_from_slice(&A6.octets());
                (packet[0], packet[6], packet[7]) = (0x60, 58, if odd < 4 { 255 } else { 1 });
                let sum = Checksum::new().add_pseudo_v6(
                    "fe80::9".parse().expect("an address"),
                    A6,
                    58,
                    u32::from(length),
                );
                if let Some(options) = alert {
                    packet[6] = 0;
                    packet.extend(options);
                }
                let payload_len = length + packet.len() as u16 - 40;
                packet[4..6].copy_from_slice(&payload_len.to_be_bytes());
                sum
            } else {
                let (protocol, ttl) = if odd < 4 { (2, 1) } else { (1, 64) };
                (packet[0], packet[8], packet[9]) = (0x45, ttl, protocol);
                packet[2..4].copy_from_slice(&(length + 20).to_be_bytes());
                packet[12..16].copy_from_slice(&A.octets());
                packet[16..20].copy_from_slice(&B.octets());
                if let Ok(mut ip) = Ipv4Packet::new_checked_head(&mut packet[..], usize::MAX) {
                    ip.fill_checksum();
                }
                Checksum::new()
            };
            let checksum = sum.add(&message).finish();
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
            packet.extend(message);
            if odd == 0 {
                packet.pop();
            }
            packet
        },
    )
}

proptest! {
    #[test]
    fn extension_headers(data in bytes(), next in next_header(), rest in vec(0u8..5, 0..600)) {
        let mut chain = vec![0x60, 0, 0, 0, 0xff, 0xff, next];
        chain.resize(40, 0);
        chain.extend(rest);
        for data in [data, chain] {
            if let Ok(upper) = walk_v6(&data) {
                prop_assert!((40..=data.len()).contains(&upper.offset));
                prop_assert!(upper.offset <= 40 + 512);
                prop_assert_eq!(upper.fragment.is_some(), upper.fragment_header.is_some());
            }
        }
    }

    #[test]
    fn control_messages(data in prop_oneof![bytes(), control_packet()], length in 0usize..1400) {
        let mut out = vec![0u8; length];
        if let Ok(written) = emit_error_v4(&mut out, ErrorV4::TimeExceeded, A, B, &data) {
            prop_assert!(written <= 576 && written <= length);
        }
        if let Ok(written) = emit_error_v6(&mut out, ErrorV6::NoRoute, A6, B6, &data) {
            prop_assert!(written <= 1280 && written <= length);
        }
        let _ = (may_answer_v4(&data), embedded(&data), read_too_big_v6(&data), parse_ndp(&data));
        prop_assert!(read_too_big_v4(&data).is_none_or(|found| found.outer.len() < data.len()));
        if let Ok(upper) = walk_v6(&data) {
            let _ = may_answer_v6(&data, &upper, ErrorV6::NoRoute);
            prop_assert!(ndp_type(&data, &upper).is_some() || parse_ndp(&data).is_err());
            prop_assert!(mld_type(&data, &upper).is_some() || parse_mld(&data).is_err());
        }
        prop_assert!(parse_igmp(&data).map_or(0, Iterator::count) <= 64);
        prop_assert!(parse_mld(&data).map_or(0, Iterator::count) <= 64);
        if let Ok(icmp) = IcmpPacket::new_checked(&data) {
            prop_assert_eq!(icmp.body().len() + 8, data.len());
        }
        for answer in [answer_echo_v4, answer_echo_v6] {
            let mut packet = data.clone();
            if !answer(&mut packet) {
                prop_assert_eq!(&packet, &data);
            }
        }
    }

    #[test]
    fn pieces(data in bytes(), total_len in 0usize..70_000, mtu in 0u16..9000, max in 0u16..2000) {
        let mut data = data;
        if let Ok(fragments) = Fragments::new(&data, total_len, mtu) {
            let mut next = 0;
            for piece in fragments {
                prop_assert_eq!(piece.payload.start, next);
                prop_assert!(piece.header_len + piece.payload.len() <= usize::from(mtu));
                next = piece.payload.end;
            }
            prop_assert_eq!(next + usize::from(data[0] & 15) * 4, total_len);
        }
        for partial in [true, false] {
            let before = data.clone();
            prop_assert!(clamp_mss(&mut data, max, partial) || data == before);
        }
    }

    #[test]
    fn mss_in_any_options(options in vec(0u8..12, 0..44), offset: u8, v6: bool, max in 0u16..2000) {
        let mut data = vec![0u8; if v6 { 40 } else { 20 }];
        data[if v6 { 6 } else { 9 }] = 6;
        data[0] = if v6 { 0x60 } else { 0x45 };
        let at = data.len();
        data.extend([0; 20]);
        (data[at + 12], data[at + 13]) = (offset, 2);
        data.extend(options);
        let length = (data.len() - if v6 { 40 } else { 0 }) as u16;
        let field = if v6 { 4..6 } else { 2..4 };
        data[field].copy_from_slice(&length.to_be_bytes());
        let before = data.clone();
        let sum = |data: &[u8]| Checksum::new().add(&data[at..]).finish();
        let wanted = sum(&data);
        if clamp_mss(&mut data, max, false) {
            prop_assert!(!clamp_mss(&mut data.clone(), max, false));
            // One's complement has two zeros.
            prop_assert_eq!(sum(&data) % 0xffff, wanted % 0xffff);
        } else {
            prop_assert_eq!(data, before);
        }
    }

    #[test]
    fn emitting_messages_into_any_length(length in 0usize..90, word: u16) {
        let mut out = vec![0u8; length];
        let params = NaParams {
            src: A6, dst: B6, target: A6, lladdr: [2; 6], router: true, solicited: true,
            overrides: false,
        };
        prop_assert_eq!(emit_advertisement(&mut out, &params).is_ok(), length >= 72);
        prop_assert_eq!(emit_solicitation(&mut out, A6, B6, [2; 6]).is_ok(), length >= 72);
        for (version, v4, v6) in [(QueryVersion::Old, 32, 72), (QueryVersion::New, 36, 76)] {
            let written = emit_query_v4(&mut out, A, version, word as u8);
            prop_assert_eq!(written.is_ok(), length >= v4);
            prop_assert_eq!(emit_query_v6(&mut out, A6, version, word).is_ok(), length >= v6);
        }
    }
}
