//! Sound inputs for each body.

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_encap::extension::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP};
use shunt_encap::icmp::{ErrorV4, emit_error_v4};
use shunt_encap::icmpv6::{ErrorV6, emit_error_v6};
use shunt_encap::igmp::{PROTOCOL_IGMP, emit_query_v4};
use shunt_encap::ip::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};
use shunt_encap::membership::QueryVersion;
use shunt_encap::mld::emit_query_v6;
use shunt_encap::ndp::{ALL_NODES, NaParams, emit_advertisement, emit_solicitation};
use shunt_encap::{
    ArpRepr, Checksum, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetRepr, Ipv4Packet,
    Ipv4Repr, Ipv6Repr, UdpRepr, VxlanRepr,
};

const SRC: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const DST: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);
const SRC_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, 2);
const DST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 2, 3);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// A TCP SYN with NOP, MSS 1460, NOP, NOP, NOP, its checksum field 0.
const SYN: [u8; 28] = [
    0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x70, 2, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 4, 5, 0xb4,
    1, 1, 1,
];

fn in_ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14];
    let repr = EthernetRepr {
        dst: [2, 0, 0, 0, 0, 2],
        src: [2, 0, 0, 0, 0, 1],
        ethertype,
    };
    repr.emit(&mut frame).expect("14 bytes");
    frame.extend_from_slice(payload);
    frame
}

/// A packet with a partial checksum.
fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut transport = if protocol == PROTOCOL_TCP {
        let mut header = vec![0u8; 20];
        header[12] = 0x50;
        header
    } else {
        let mut header = vec![0u8; 8];
        UdpRepr {
            src_port: 5353,
            dst_port: 53,
            payload_len: payload.len() as u16,
        }
        .emit(&mut header)
        .expect("8 bytes");
        header
    };
    transport.extend_from_slice(payload);
    let len = transport.len() as u16;
    let pseudo = Checksum::new()
        .add_pseudo_v4(SRC, DST, protocol, len)
        .folded();
    let field = if protocol == PROTOCOL_TCP { 16 } else { 6 };
    transport[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());

    let mut packet = vec![0; 20];
    let repr = Ipv4Repr {
        src: SRC,
        dst: DST,
        protocol,
        ttl: 64,
        tos: 0b10,
        ident: 7,
        dont_fragment: true,
        payload_len: len,
    };
    repr.emit(&mut packet).expect("20 bytes");
    packet.extend_from_slice(&transport);
    packet
}

/// An IPv4 packet around any payload, DF clear.
fn v4(protocol: u8, ttl: u8, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    let repr = Ipv4Repr {
        src: SRC,
        dst,
        protocol,
        ttl,
        tos: 0,
        ident: 7,
        dont_fragment: false,
        payload_len: payload.len() as u16,
    };
    repr.emit(&mut packet).expect("20 bytes");
    packet.extend_from_slice(payload);
    packet
}

/// An IPv6 packet around any payload.
fn v6(next_header: u8, hop_limit: u8, src: Ipv6Addr, dst: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    let repr = Ipv6Repr {
        src,
        dst,
        next_header,
        hop_limit,
        traffic_class: 0,
        payload_len: payload.len() as u16,
    };
    repr.emit(&mut packet).expect("40 bytes");
    packet.extend_from_slice(payload);
    packet
}

/// An ICMPv6 message with its checksum, which a packet of these addresses covers.
fn message_v6(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let checksum = Checksum::new()
        .add_pseudo_v6(src, dst, PROTOCOL_ICMPV6, message.len() as u32)
        .add(&message)
        .finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// An ICMP or IGMP message with its checksum.
fn message_v4(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let checksum = Checksum::new().add(&message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

fn extensions() -> Vec<Vec<u8>> {
    let datagram = [0x14, 0xe9, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let pseudo = Checksum::new()
        .add_pseudo_v6(SRC_V6, DST_V6, PROTOCOL_UDP, 12)
        .folded();
    let mut partial = datagram;
    partial[6..8].copy_from_slice(&pseudo.to_be_bytes());
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let fragment = |offset: u16| {
        let [high, low] = offset.to_be_bytes();
        [PROTOCOL_UDP, 0, high, low, 0, 0, 0, 9]
    };
    let chain = |offset| {
        let headers = [
            options(DESTINATION_OPTIONS),
            options(FRAGMENT),
            fragment(offset),
        ];
        let payload = [&headers.concat()[..], &partial].concat();
        v6(HOP_BY_HOP, 64, SRC_V6, DST_V6, &payload)
    };
    vec![
        v6(PROTOCOL_UDP, 64, SRC_V6, DST_V6, &partial),
        v6(PROTOCOL_TCP, 64, SRC_V6, DST_V6, &SYN),
        // Atomic, first, later.
        chain(0),
        chain(1),
        chain(0x0101),
        v6(50, 64, SRC_V6, DST_V6, &[0x5a; 20]),
    ]
}

fn fragments() -> Vec<Vec<u8>> {
    let payload: Vec<u8> = (0..=255).collect();
    let plain = v4(PROTOCOL_UDP, 64, DST, &payload);
    // Record route (not copied), router alert (copied), end.
    let options = [7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0];
    let mut optioned = [&plain[..20], &options, &payload].concat();
    optioned[0] = 0x48;
    let length = optioned.len() as u16;
    let mut ip = Ipv4Packet::new_checked_head(&mut optioned[..], usize::MAX).expect("sound");
    ip.set_total_len(length);
    ip.set_fragment(false, true, 800);
    ip.fill_checksum();
    let with = |mtu: u16, packet: &[u8]| [&mtu.to_be_bytes(), packet].concat();
    vec![
        with(68, &plain),
        with(150, &plain),
        with(276, &plain),
        with(100, &optioned),
    ]
}

fn icmp() -> Vec<Vec<u8>> {
    let datagram = v4(
        PROTOCOL_UDP,
        64,
        DST,
        &[0x14, 0xe9, 0, 53, 0, 10, 0, 0, 1, 2],
    );
    let echo = message_v4(&[8, 0, 0, 0, 0, 9, 0, 1, 0x61, 0x62]);
    let mut out = [0; 576];
    let error = ErrorV4::FragmentationNeeded { mtu: 1400 };
    let length = emit_error_v4(&mut out, error, DST, SRC, &datagram).expect("sound");
    vec![
        [&[6, 5, 0xdc], &datagram[..]].concat(),
        [&[5, 0, 0], &v4(PROTOCOL_ICMP, 64, DST, &echo)[..]].concat(),
        [&[0, 0, 0], &out[..length]].concat(),
    ]
}

fn icmpv6() -> Vec<Vec<u8>> {
    let datagram = v6(
        PROTOCOL_UDP,
        64,
        SRC_V6,
        DST_V6,
        &[0x14, 0xe9, 0, 53, 0, 8, 0, 0],
    );
    let echo = message_v6(SRC_V6, DST_V6, &[128, 0, 0, 0, 0, 9, 0, 1, 0x61, 0x62]);
    let mut out = [0; 1280];
    let error = ErrorV6::PacketTooBig { mtu: 1400 };
    let length = emit_error_v6(&mut out, error, DST_V6, SRC_V6, &datagram).expect("sound");
    vec![
        [&[7, 0, 0, 5, 0xdc], &datagram[..]].concat(),
        [
            &[5, 0, 0, 0, 0],
            &v6(PROTOCOL_ICMPV6, 64, SRC_V6, DST_V6, &echo)[..],
        ]
        .concat(),
        // As a packet, and as the message that a raw socket gives.
        [&[0, 0, 0, 0, 0], &out[..length]].concat(),
        [&[0, 0, 0, 0, 0], &out[40..length]].concat(),
    ]
}

fn ndp() -> Vec<Vec<u8>> {
    let mut out = [0; 72];
    let length = emit_solicitation(&mut out, SRC_V6, DST_V6, MAC).expect("it fits");
    let solicitation = out[..length].to_vec();
    let params = NaParams {
        src: LINK_LOCAL,
        dst: ALL_NODES,
        target: SRC_V6,
        lladdr: MAC,
        router: false,
        solicited: false,
        overrides: true,
    };
    let length = emit_advertisement(&mut out, &params).expect("it fits");
    let mut router = [0; 24];
    router[0] = 134;
    router[16..18].copy_from_slice(&[1, 1]);
    let router = message_v6(LINK_LOCAL, ALL_NODES, &router);
    vec![
        solicitation,
        out[..length].to_vec(),
        v6(PROTOCOL_ICMPV6, 255, LINK_LOCAL, ALL_NODES, &router),
    ]
}

fn igmp() -> Vec<Vec<u8>> {
    let mut out = [0; 36];
    let length = emit_query_v4(&mut out, SRC, QueryVersion::New, 100).expect("it fits");
    // Two records: exclude nothing of 239.1.2.3, include one source of 239.1.2.4.
    let report = message_v4(&[
        0x22, 0, 0, 0, 0, 0, 0, 2, 4, 0, 0, 0, 239, 1, 2, 3, 1, 0, 0, 1, 239, 1, 2, 4, 10, 0, 0, 1,
    ]);
    let join = message_v4(&[0x16, 0, 0, 0, 239, 1, 2, 3]);
    let to = Ipv4Addr::new(224, 0, 0, 22);
    vec![
        out[..length].to_vec(),
        v4(PROTOCOL_IGMP, 1, to, &report),
        v4(PROTOCOL_IGMP, 1, to, &join),
    ]
}

fn mld() -> Vec<Vec<u8>> {
    let mut out = [0; 76];
    let length = emit_query_v6(&mut out, LINK_LOCAL, QueryVersion::New, 1000).expect("it fits");
    let group = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x77);
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    let alert = [PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let in_packet = |message: &[u8]| {
        let message = message_v6(LINK_LOCAL, to, message);
        v6(
            HOP_BY_HOP,
            1,
            LINK_LOCAL,
            to,
            &[&alert[..], &message].concat(),
        )
    };
    let report = [&[143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0], &group.octets()[..]].concat();
    let done = [&[132, 0, 0, 0, 0, 0, 0, 0], &group.octets()[..]].concat();
    vec![out[..length].to_vec(), in_packet(&report), in_packet(&done)]
}

fn mss() -> Vec<Vec<u8>> {
    let with = |packet: &[u8]| [&[1, 0xf4], packet].concat();
    let (mut over_v4, mut over_v6) = (SYN, SYN);
    let length = SYN.len();
    let sum = Checksum::new().add_pseudo_v4(SRC, DST, PROTOCOL_TCP, length as u16);
    over_v4[16..18].copy_from_slice(&sum.add(&SYN).finish().to_be_bytes());
    let sum = Checksum::new().add_pseudo_v6(SRC_V6, DST_V6, PROTOCOL_TCP, length as u32);
    over_v6[16..18].copy_from_slice(&sum.add(&SYN).finish().to_be_bytes());
    vec![
        with(&v4(PROTOCOL_TCP, 64, DST, &over_v4)),
        with(&v6(PROTOCOL_TCP, 64, SRC_V6, DST_V6, &over_v6)),
    ]
}

fn sctp() -> Vec<Vec<u8>> {
    let packet = [0x0b, 0x59, 0x0b, 0x59, 1, 2, 3, 4, 0, 0, 0, 0, 1, 0, 0, 4];
    vec![
        v4(PROTOCOL_SCTP, 64, DST, &packet),
        v6(PROTOCOL_SCTP, 64, SRC_V6, DST_V6, &packet),
    ]
}

/// Operations; prefixes as block, bits, place, length and a fifth byte; hops as two bytes.
fn fib() -> Vec<Vec<u8>> {
    let insert = |block, bits, place, len, hop| vec![0, block, bits, place, len, 0, hop, 1];
    let nested = [0, 8, 16, 16 + 8, 25, 32, 96]
        .into_iter()
        .flat_map(|len| insert(0, 0, 0, len, len));
    let crowd = (0..20).flat_map(|n| insert(1, n, 80, 40, n));
    let look = [9, 7, 9, 1, 0, 1, 0, 1, 1, 7, 2, 0, 0, 12, 13, 14, 15, 0x8d];
    let remove = [5, 0, 0, 0, 24, 0, 6, 0, 0, 0, 16, 0];
    let around = [10, 0, 0, 0, 32, 0, 11, 0, 0, 0, 0, 0];
    vec![
        nested.clone().chain(look).chain(remove).collect(),
        nested.chain(crowd).chain(around).chain(look).collect(),
    ]
}

/// Sound inputs for the body of this name.
pub(crate) fn seeds(name: &str) -> Vec<Vec<u8>> {
    let packets = vec![
        ipv4(PROTOCOL_TCP, b"some payload"),
        ipv4(PROTOCOL_UDP, b"odd"),
    ];
    let mut arp = vec![0; 28];
    ArpRepr::request([2; 6], SRC, DST)
        .emit(&mut arp)
        .expect("28 bytes");
    let ipv6 = v6(PROTOCOL_UDP, 64, SRC_V6, DST_V6, &[0x5a; 8]);
    let mut frames = vec![
        in_ethernet(ETHERTYPE_ARP, &arp),
        in_ethernet(ETHERTYPE_IPV6, &ipv6),
    ];
    frames.extend(
        packets
            .iter()
            .map(|packet| in_ethernet(ETHERTYPE_IPV4, packet)),
    );

    match name {
        "arp" => vec![arp],
        "ipv4" => packets,
        "ethernet" => frames,
        "vxlan" => frames
            .iter()
            .map(|frame| {
                let mut bytes = vec![0; 8];
                VxlanRepr { vni: 1 }.emit(&mut bytes).expect("8 bytes");
                bytes.extend_from_slice(frame);
                bytes
            })
            .collect(),
        "checksum" => vec![vec![3, 1, 0, 0, 0, 0, 0], vec![0xff; 64]],
        "extension" | "ipv6" => extensions(),
        "fragment" => fragments(),
        "icmp" => icmp(),
        "icmpv6" => icmpv6(),
        "igmp" => igmp(),
        "mld" => mld(),
        "mss" => mss(),
        "ndp" => ndp(),
        "sctp" => sctp(),
        "tunnel" => (0..16)
            .map(|choice| [&[choice, 0xb9, 0xff, 1, 2, 3, 4][..], b"an inner packet"].concat())
            .collect(),
        "fib4" | "fib6" => fib(),
        other => panic!("write seeds for the new body `{other}`"),
    }
}
