use super::*;
use crate::extension::walk_v6;
use etherparse::{Icmpv6Slice, Icmpv6Type, PacketBuilder, icmpv6};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const SRC: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2);
const DST: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 2, 0, 0, 0, 3);

fn udp(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv6(SRC.octets(), DST.octets(), 1)
        .udp(4000, 53)
        .write(&mut bytes, &vec![0x5a; len])
        .expect("it fits");
    bytes
}

fn icmp(src: Ipv6Addr, dst: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv6(src.octets(), dst.octets(), 9)
        .icmpv6_raw(kind, 0, [0x12, 0x34, 0, 1])
        .write(&mut bytes, body)
        .expect("it fits");
    bytes
}

/// Type and body as etherparse reads them, the checksum verified by it.
fn read_back(packet: &[u8]) -> (Icmpv6Type, Vec<u8>) {
    let (header, rest) = etherparse::Ipv6Header::from_slice(packet).expect("a sound packet");
    assert_eq!(usize::from(header.payload_length), rest.len());
    assert_eq!((header.hop_limit, header.next_header.0), (64, 58));
    let icmp = Icmpv6Slice::from_slice(rest).expect("sound");
    assert!(icmp.is_checksum_valid(header.source, header.destination));
    (icmp.icmp_type(), icmp.payload().to_vec())
}

fn may(original: &[u8], error: ErrorV6) -> bool {
    let upper = walk_v6(original).expect("sound");
    may_answer_v6(original, &upper, error)
}

#[test]
fn errors_read_back_by_etherparse() {
    use Icmpv6Type::{DestinationUnreachable, PacketTooBig, ParameterProblem, TimeExceeded};
    use icmpv6::DestUnreachableCode as Code;
    let wanted = [
        (ErrorV6::NoRoute, DestinationUnreachable(Code::NoRoute)),
        (
            ErrorV6::AdminProhibited,
            DestinationUnreachable(Code::Prohibited),
        ),
        (
            ErrorV6::BeyondScope,
            DestinationUnreachable(Code::BeyondScope),
        ),
        (
            ErrorV6::AddressUnreachable,
            DestinationUnreachable(Code::Address),
        ),
        (ErrorV6::PortUnreachable, DestinationUnreachable(Code::Port)),
        (
            ErrorV6::PacketTooBig { mtu: 0x1_0203 },
            PacketTooBig { mtu: 0x1_0203 },
        ),
        (
            ErrorV6::HopLimitExceeded,
            TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
        ),
        (
            ErrorV6::ParameterProblem {
                code: 1,
                pointer: 6,
            },
            ParameterProblem(icmpv6::ParameterProblemHeader {
                code: icmpv6::ParameterProblemCode::UnrecognizedNextHeader,
                pointer: 6,
            }),
        ),
    ];
    for (error, kind) in wanted {
        for len in [0, 1, 40, 1183, 1184, 1185, 1400] {
            let original = udp(len);
            let mut out = [0xa5; MAX_ERROR_LEN];
            let length = emit_error_v6(&mut out, error, ROUTER, SRC, &original).expect("room");
            let body = original[..original.len().min(1232)].to_vec();
            assert_eq!(read_back(&out[..length]), (kind, body));
            assert!(emit_error_v6(&mut out[..length - 1], error, ROUTER, SRC, &original).is_err());
            assert!(
                !may(&udp_from(&out[..length], SRC), error),
                "no error about an error"
            );
        }
    }
}

/// `packet` from another source, so that only its type may forbid an answer.
fn udp_from(packet: &[u8], src: Ipv6Addr) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[8..24].copy_from_slice(&src.octets());
    packet
}

#[test]
fn quotes_no_padding_and_refuses_what_is_no_packet() {
    let mut original = udp(3);
    let whole = original.len();
    original.resize(90, 0xee);
    let mut out = [0; MAX_ERROR_LEN];
    let error = ErrorV6::NoRoute;
    let length = emit_error_v6(&mut out, error, ROUTER, SRC, &original).expect("room");
    assert_eq!(read_back(&out[..length]).1, original[..whole]);
    assert!(emit_error_v6(&mut out, error, ROUTER, SRC, &original[..39]).is_err());
    original[0] = 0x45;
    assert_eq!(
        emit_error_v6(&mut out, error, ROUTER, SRC, &original),
        Err(Error::BadVersion {
            what: "IPv6",
            version: 4
        })
    );
}

#[test]
fn whom_an_error_may_answer() {
    let error = ErrorV6::NoRoute;
    assert!(may(&udp(4), error));
    for kind in 0..=255u8 {
        let query = kind >= 128 && kind != 137;
        assert_eq!(may(&icmp(SRC, DST, kind, b""), error), query, "{kind}");
    }
    let echo = icmp(SRC, DST, 128, b"");
    let upper = walk_v6(&echo).expect("sound");
    assert!(!may_answer_v6(&echo[..40], &upper, error), "no type");
    assert!(!may_answer_v6(&echo[..39], &upper, error));
    for source in ["::", "::1", "ff02::1"] {
        let source = source.parse().expect("an address");
        assert!(!may(&udp_from(&udp(4), source), error), "from {source}");
    }
    let mut multicast = udp(4);
    multicast[24..40].copy_from_slice(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets());
    for (error, answered) in [
        (ErrorV6::NoRoute, false),
        (ErrorV6::HopLimitExceeded, false),
        (ErrorV6::PacketTooBig { mtu: 1280 }, true),
        (
            ErrorV6::ParameterProblem {
                code: 2,
                pointer: 42,
            },
            true,
        ),
        (
            ErrorV6::ParameterProblem {
                code: 1,
                pointer: 42,
            },
            false,
        ),
    ] {
        assert_eq!(may(&multicast, error), answered, "{error:?}");
    }
    // A fragment: of ICMPv6 only the first shows its type, of UDP any may be answered.
    for (offset, protocol, answered) in [(0u8, 58, true), (8, 58, false), (8, 17, true)] {
        let mut fragment = icmp(SRC, DST, 128, b"abcdefgh");
        fragment.splice(40..40, [protocol, 0, 0, offset | 1, 0, 0, 0, 7]);
        fragment[5] += 8;
        fragment[6] = 44;
        assert_eq!(may(&fragment, error), answered, "{offset} {protocol}");
    }
}

#[test]
fn echo_is_answered_in_place() {
    for len in [0, 1, 56, 1200] {
        let body = vec![0xc3; len];
        let request = icmp(SRC, ROUTER, 128, &body);
        let mut reply = request.clone();
        assert!(answer_echo_v6(&mut reply));
        let header = etherparse::IcmpEchoHeader { id: 0x1234, seq: 1 };
        assert_eq!(read_back(&reply), (Icmpv6Type::EchoReply(header), body));
        assert_eq!(addresses_v6(&reply), (ROUTER, SRC));
        let mut head = request[..48].to_vec();
        assert!(answer_echo_v6(&mut head));
        assert_eq!(head, reply[..48]);
        assert!(!answer_echo_v6(&mut reply), "a reply is no request");
    }
}

#[test]
fn what_is_no_echo_request_stays_as_it_is() {
    let sound = icmp(SRC, ROUTER, 128, b"abcd");
    for (at, value) in [
        (0, 0x40),
        (5, 7),
        (6, 0),
        (6, 44),
        (8, 0xff),
        (24, 0xff),
        (40, 129),
        (41, 1),
    ] {
        let mut packet = sound.clone();
        packet[at] = value;
        let before = packet.clone();
        assert!(!answer_echo_v6(&mut packet), "byte {at}");
        assert_eq!(packet, before);
    }
    for len in 0..48 {
        assert!(!answer_echo_v6(&mut sound.clone()[..len]), "{len} bytes");
    }
}

#[test]
fn too_big_is_what_was_emitted() {
    let original = udp(1400);
    let mut out = [0; MAX_ERROR_LEN];
    for (mtu, ok) in [
        (0, false),
        (1279, false),
        (1280, true),
        (9000, true),
        (70_000, true),
    ] {
        let error = ErrorV6::PacketTooBig { mtu };
        let length = emit_error_v6(&mut out, error, ROUTER, SRC, &original).expect("room");
        let outer = &original[..1232];
        let wanted = ok.then_some(TooBig { mtu, outer });
        assert_eq!(read_too_big_v6(&out[40..length]), wanted);
    }
    assert!(read_too_big_v6(&out[40..88]).is_some());
    assert_eq!(read_too_big_v6(&out[40..87]), None);
    out[48] = 0x45;
    assert_eq!(read_too_big_v6(&out[40..]), None, "no IPv6 within");
    let length = emit_error_v6(&mut out, ErrorV6::NoRoute, ROUTER, SRC, &original).expect("room");
    assert_eq!(read_too_big_v6(&out[40..length]), None);
    assert_eq!(read_too_big_v6(&[]), None);
}
