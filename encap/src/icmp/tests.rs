use super::*;
use etherparse::{Icmpv4Slice, Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, icmpv4};

const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const SRC: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const DST: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);

fn udp(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(SRC.octets(), DST.octets(), 1)
        .udp(4000, 53)
        .write(&mut bytes, &vec![0x5a; len])
        .expect("it fits");
    bytes
}

fn icmp(src: Ipv4Addr, dst: Ipv4Addr, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src.octets(), dst.octets(), 9)
        .icmpv4_raw(kind, code, [0x12, 0x34, 0, 1])
        .write(&mut bytes, body)
        .expect("it fits");
    bytes
}

/// Header, type and body as etherparse reads them, both checksums verified by it.
fn read_back(packet: &[u8]) -> (u8, u8, Icmpv4Type, Vec<u8>) {
    let sliced = SlicedPacket::from_ip(packet).expect("a sound packet");
    let Some(NetSlice::Ipv4(ip)) = sliced.net else {
        panic!("no IPv4: {sliced:?}");
    };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let icmp = Icmpv4Slice::from_slice(ip.payload().payload).expect("sound");
    assert_eq!(
        icmp.checksum(),
        icmp.icmp_type().calc_checksum(icmp.payload())
    );
    (
        header.dscp.value() << 2,
        header.time_to_live,
        icmp.icmp_type(),
        icmp.payload().to_vec(),
    )
}

#[test]
fn errors_read_back_by_etherparse() {
    use icmpv4::DestUnreachableHeader as Unreachable;
    let wanted = [
        (ErrorV4::NetUnreachable, Unreachable::Network),
        (ErrorV4::HostUnreachable, Unreachable::Host),
        (ErrorV4::ProtocolUnreachable, Unreachable::Protocol),
        (ErrorV4::PortUnreachable, Unreachable::Port),
        (
            ErrorV4::FragmentationNeeded { mtu: 1450 },
            Unreachable::FragmentationNeeded { next_hop_mtu: 1450 },
        ),
        (ErrorV4::AdminProhibited, Unreachable::FilterProhibited),
    ];
    let wanted = wanted
        .map(|(error, header)| (error, Icmpv4Type::DestinationUnreachable(header)))
        .into_iter()
        .chain([(
            ErrorV4::TimeExceeded,
            Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
        )]);
    for (error, header) in wanted {
        for len in [0, 1, 40, 519, 520, 521, 1400] {
            let original = udp(len);
            let mut out = [0xa5; MAX_ERROR_LEN];
            let length = emit_error_v4(&mut out, error, ROUTER, SRC, &original).expect("room");
            let (tos, ttl, kind, body) = read_back(&out[..length]);
            assert_eq!((tos, ttl, kind), (0xc0, 64, header.clone()));
            assert_eq!(body, original[..original.len().min(548)]);
            assert!(length <= 576);
            assert!(emit_error_v4(&mut out[..length - 1], error, ROUTER, SRC, &original).is_err());
            assert!(
                !may_answer_v4(&out[..length]),
                "no error about an error: {error:?}"
            );
        }
    }
}

#[test]
fn quotes_no_padding_and_of_a_first_segment_what_is_there() {
    let mut padded = udp(3);
    let whole = padded.len();
    padded.resize(46, 0xee);
    let mut out = [0; 600];
    let error = ErrorV4::HostUnreachable;
    let length = emit_error_v4(&mut out, error, ROUTER, SRC, &padded).expect("room");
    assert_eq!(read_back(&out[..length]).3, padded[..whole]);
    let long = udp(1000);
    let length = emit_error_v4(&mut out, error, ROUTER, SRC, &long[..64]).expect("room");
    assert_eq!(read_back(&out[..length]).3, long[..64]);
    assert!(emit_error_v4(&mut out, error, ROUTER, SRC, &long[..19]).is_err());
}

#[test]
fn whom_an_error_may_answer() {
    assert!(may_answer_v4(&udp(4)));
    for kind in 0..=255u8 {
        let query = matches!(kind, 0 | 8 | 13..=18 | 42 | 43);
        assert_eq!(
            may_answer_v4(&icmp(SRC, DST, kind, 0, b"")),
            query,
            "{kind}"
        );
    }
    assert!(!may_answer_v4(&icmp(SRC, DST, 8, 0, b"")[..20]), "no type");
    for (flags, may) in [(0x2000u16, true), (0x0001, false), (0x20b9, false)] {
        let mut fragment = udp(8);
        fragment[6..8].copy_from_slice(&flags.to_be_bytes());
        assert_eq!(may_answer_v4(&fragment), may, "{flags:#x}");
    }
    for source in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [240, 0, 0, 1],
    ] {
        let mut bytes = udp(8);
        bytes[12..16].copy_from_slice(&source);
        assert!(!may_answer_v4(&bytes), "from {source:?}");
    }
    for destination in [[224, 0, 0, 251], [239, 1, 1, 1], [255, 255, 255, 255]] {
        let mut bytes = udp(8);
        bytes[16..20].copy_from_slice(&destination);
        assert!(!may_answer_v4(&bytes), "to {destination:?}");
    }
}

#[test]
fn echo_is_answered_in_place() {
    for len in [0, 1, 56, 1000] {
        let body = vec![0xc3; len];
        let request = icmp(SRC, ROUTER, 8, 0, &body);
        let mut reply = request.clone();
        assert!(answer_echo_v4(&mut reply));
        let (_, ttl, kind, payload) = read_back(&reply);
        let header = etherparse::IcmpEchoHeader { id: 0x1234, seq: 1 };
        assert_eq!((ttl, kind), (64, Icmpv4Type::EchoReply(header)));
        assert_eq!(payload, body);
        assert_eq!(
            reply[12..20],
            [request[16..20].to_vec(), request[12..16].to_vec()].concat()
        );
        // The first bytes alone give the same headers.
        let mut head = request[..28].to_vec();
        assert!(answer_echo_v4(&mut head));
        assert_eq!(head, reply[..28]);
        assert!(!answer_echo_v4(&mut reply), "a reply is no request");
    }
}

#[test]
fn options_of_a_request_are_erased() {
    let mut packet = icmp(SRC, ROUTER, 8, 0, b"abcd");
    packet.splice(20..20, [7, 7, 4, 10, 0, 0, 1, 0]);
    packet[0] = 0x47;
    packet[3] += 8;
    Ipv4Packet::new_checked(&mut packet[..])
        .expect("sound")
        .fill_checksum();
    assert!(answer_echo_v4(&mut packet));
    assert_eq!(packet[20..28], [0; 8]);
    assert!(matches!(read_back(&packet).2, Icmpv4Type::EchoReply(_)));
}

#[test]
fn what_is_no_echo_request_stays_as_it_is() {
    let sound = icmp(SRC, ROUTER, 8, 0, b"abcd");
    // Offset, value; the header checksum is made right again except for its own.
    for (at, value) in [
        (0, 0x44),
        (3, 27),
        (6, 0x20),
        (7, 1),
        (9, 17),
        (10, 0),
        (16, 224),
        (20, 0),
        (21, 1),
    ] {
        let mut packet = sound.clone();
        packet[at] = value;
        if at != 10
            && let Ok(mut ip) = Ipv4Packet::new_checked(&mut packet[..])
        {
            ip.fill_checksum();
        }
        let before = packet.clone();
        assert!(!answer_echo_v4(&mut packet), "byte {at}");
        assert_eq!(packet, before);
    }
    for len in 0..28 {
        assert!(!answer_echo_v4(&mut sound.clone()[..len]), "{len} bytes");
    }
}

#[test]
fn too_big_is_what_was_emitted() {
    let original = udp(1400);
    let mut out = [0; 600];
    let error = ErrorV4::FragmentationNeeded { mtu: 1400 };
    let length = emit_error_v4(&mut out, error, ROUTER, SRC, &original).expect("room");
    assert_eq!(
        read_too_big_v4(&out),
        Some(TooBig {
            mtu: 1400,
            outer: &original[..548]
        })
    );
    for at in [10, 12, 20, 21, 22, 26, 27, 40, length - 1] {
        let mut bad = out;
        bad[at] ^= 0x40;
        assert_eq!(read_too_big_v4(&bad), None, "byte {at}");
    }
    for len in 0..length {
        assert_eq!(read_too_big_v4(&out[..len]), None, "{len} bytes");
    }
    for (mtu, quoted, ok) in [
        (0, 40, false),
        (67, 40, false),
        (68, 40, true),
        (68, 28, true),
        (68, 27, false),
    ] {
        let error = ErrorV4::FragmentationNeeded { mtu };
        let length =
            emit_error_v4(&mut out, error, ROUTER, SRC, &original[..quoted]).expect("room");
        assert_eq!(
            read_too_big_v4(&out[..length]).is_some(),
            ok,
            "{mtu} {quoted}"
        );
    }
    let length =
        emit_error_v4(&mut out, ErrorV4::PortUnreachable, ROUTER, SRC, &original).expect("room");
    assert_eq!(read_too_big_v4(&out[..length]), None);
}

#[test]
fn the_embedded_flow() {
    let flow = Embedded {
        src: IpAddr::V4(SRC),
        dst: IpAddr::V4(DST),
        protocol: 17,
        src_port: 4000,
        dst_port: 53,
    };
    let original = udp(100);
    assert_eq!(embedded(&original), Some(flow));
    assert_eq!(embedded(&original[..24]), Some(flow), "ports are enough");
    assert_eq!(embedded(&original[..23]), None);
    for (at, value) in [(7, 1), (9, 1), (0, 0x55)] {
        let mut other = original.clone();
        other[at] = value;
        assert_eq!(embedded(&other), None, "byte {at}");
    }
    let mut bytes = Vec::new();
    let (src, dst) = ([0xfd; 16], [0xfe; 16]);
    PacketBuilder::ipv6(src, dst, 3)
        .tcp(1, 2, 3, 4)
        .write(&mut bytes, b"")
        .expect("it fits");
    assert_eq!(
        embedded(&bytes[..44]),
        Some(Embedded {
            src: IpAddr::from(src),
            dst: IpAddr::from(dst),
            protocol: 6,
            src_port: 1,
            dst_port: 2
        })
    );
    assert_eq!(embedded(&bytes[..43]), None);
    assert_eq!(embedded(&[]), None);
}
