//! Errors about any packet, echo, and errors as they come back. The first bytes of an input choose
//! the error and its value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_encap::extension::walk_v6;
use shunt_encap::icmp::{
    self, Embedded, ErrorV4, IcmpPacket, answer_echo_v4, embedded, emit_error_v4, may_answer_v4,
    read_too_big_v4,
};
use shunt_encap::icmpv6::{
    self, ErrorV6, answer_echo_v6, emit_error_v6, may_answer_v6, read_too_big_v6,
};
use shunt_encap::ip::PROTOCOL_ICMPV6;
use shunt_encap::ipv6::HEADER_LEN;
use shunt_encap::{Checksum, Ipv4Packet, Ipv6Packet};

const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const SENDER_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const SENDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// What no write has touched.
const UNTOUCHED: u8 = 0xa5;

/// ICMP: any packet as what an error is about, as an echo request, and as an error.
pub fn icmp(data: &[u8]) {
    let [kind, high, low, packet @ ..] = data else {
        return;
    };
    let mtu = u16::from_be_bytes([*high, *low]);
    let error = match kind % 7 {
        0 => ErrorV4::NetUnreachable,
        1 => ErrorV4::HostUnreachable,
        2 => ErrorV4::ProtocolUnreachable,
        3 => ErrorV4::PortUnreachable,
        4 => ErrorV4::AdminProhibited,
        5 => ErrorV4::TimeExceeded,
        _ => ErrorV4::FragmentationNeeded { mtu },
    };
    error_v4(error, packet);
    echo_v4(packet);
    flow(packet);
    if let Some(news) = read_too_big_v4(packet) {
        assert!(news.mtu >= 68 && news.outer.len() >= 28);
        flow(news.outer);
    }
}

fn error_v4(error: ErrorV4, packet: &[u8]) {
    let mut out = [UNTOUCHED; icmp::MAX_ERROR_LEN + 8];
    let written = emit_error_v4(&mut out, error, ROUTER_V4, SENDER_V4, packet);
    let Ok(original) = Ipv4Packet::new_checked_head(packet, usize::MAX) else {
        assert!(written.is_err() && !may_answer_v4(packet));
        return;
    };
    let length = written.expect("a packet with a sound header is quoted");
    assert!(length <= icmp::MAX_ERROR_LEN);
    assert!(out[length..].iter().all(|byte| *byte == UNTOUCHED));
    if may_answer_v4(packet) {
        assert!(original.fragment_offset() == 0 && !original.dst().is_multicast());
        assert!(!original.src().is_unspecified() && !original.src().is_multicast());
    }

    let ip = Ipv4Packet::new_checked(&out[..length]).expect("our own header is sound");
    assert!(ip.verify_checksum() && usize::from(ip.total_len()) == length);
    assert_eq!((ip.src(), ip.dst()), (ROUTER_V4, SENDER_V4));
    let message = IcmpPacket::new_checked(ip.payload()).expect("8 bytes are there");
    assert!(message.verify_checksum_v4());
    let quote = message.body();
    assert!(packet.starts_with(quote));
    let room = usize::from(original.total_len()).min(icmp::MAX_ERROR_LEN - 28);
    assert_eq!(quote.len(), packet.len().min(room), "all that fits");
    assert_eq!(embedded(quote), embedded(packet), "the flow is quoted");
    assert!(!may_answer_v4(&out[..length]), "no error about an error");

    let read = read_too_big_v4(&out[..length]);
    match error {
        ErrorV4::FragmentationNeeded { mtu } => {
            let believed = mtu >= 68 && quote.len() >= original.header_len() + 8;
            assert_eq!(read.is_some(), believed);
            assert!(read.is_none_or(|it| it.mtu == u32::from(mtu) && it.outer == quote));
        }
        _ => assert_eq!(read, None),
    }
    let mut short = vec![0; length - 1];
    assert!(emit_error_v4(&mut short, error, ROUTER_V4, SENDER_V4, packet).is_err());
}

fn echo_v4(packet: &[u8]) {
    let mut copy = packet.to_vec();
    if !answer_echo_v4(&mut copy) {
        assert_eq!(copy, packet, "what is not answered stays");
        return;
    }
    let asked = Ipv4Packet::new_checked_head(packet, usize::MAX).expect("it was answered");
    let reply = Ipv4Packet::new_checked_head(&copy[..], usize::MAX).expect("as sound");
    assert!(reply.verify_checksum());
    assert_eq!((reply.src(), reply.dst()), (asked.dst(), asked.src()));
    assert_eq!(reply.payload()[..2], [icmp::ECHO_REPLY, 0]);
    assert_eq!(reply.payload()[4..], asked.payload()[4..]);
    let (asked, reply) = (asked.payload(), reply.payload());
    // A reply of zeros alone has another zero (RFC 1624, section 3).
    if reply[4..].iter().any(|byte| *byte != 0) {
        let right = |message| Checksum::new().add(message).finish() == 0;
        assert_eq!(right(reply), right(asked), "as right as the request");
    }
    assert!(!answer_echo_v4(&mut copy), "a reply is not answered");
}

/// The flow that an error's body names is the packet's.
fn flow(body: &[u8]) {
    let Some(found) = embedded(body) else {
        return;
    };
    let Embedded {
        src_port, dst_port, ..
    } = found;
    let (src, dst, transport) = if body[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked_head(body, usize::MAX).expect("a flow was found");
        let ends = (IpAddr::V4(ip.src()), IpAddr::V4(ip.dst()));
        (ends.0, ends.1, ip.header_len())
    } else {
        let ip = Ipv6Packet::new_checked_head(body, usize::MAX).expect("a flow was found");
        let upper = walk_v6(body).expect("a flow was found");
        assert_eq!(upper.protocol, found.protocol);
        (ip.src().into(), ip.dst().into(), upper.offset)
    };
    assert_eq!((src, dst), (found.src, found.dst));
    let ports = u32::from(src_port) << 16 | u32::from(dst_port);
    assert_eq!(body[transport..transport + 4], ports.to_be_bytes());
}

/// ICMPv6, as [`icmp()`].
pub fn icmpv6(data: &[u8]) {
    let [kind, a, b, c, d, packet @ ..] = data else {
        return;
    };
    let value = u32::from_be_bytes([*a, *b, *c, *d]);
    let error = match kind % 8 {
        0 => ErrorV6::NoRoute,
        1 => ErrorV6::AdminProhibited,
        2 => ErrorV6::BeyondScope,
        3 => ErrorV6::AddressUnreachable,
        4 => ErrorV6::PortUnreachable,
        5 => ErrorV6::HopLimitExceeded,
        6 => ErrorV6::ParameterProblem {
            code: *a & 3,
            pointer: value,
        },
        _ => ErrorV6::PacketTooBig { mtu: value },
    };
    error_v6(error, packet);
    echo_v6(packet);
    flow(packet);
    if let Some(news) = read_too_big_v6(packet) {
        assert!(news.mtu >= 1280 && news.outer.len() >= HEADER_LEN);
        flow(news.outer);
    }
}

fn right_v6(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> bool {
    Checksum::new()
        .add_pseudo_v6(src, dst, PROTOCOL_ICMPV6, message.len() as u32)
        .add(message)
        .finish()
        == 0
}

fn error_v6(error: ErrorV6, packet: &[u8]) {
    let mut out = [UNTOUCHED; icmpv6::MAX_ERROR_LEN + 8];
    let written = emit_error_v6(&mut out, error, ROUTER_V6, SENDER_V6, packet);
    let Ok(original) = Ipv6Packet::new_checked_head(packet, usize::MAX) else {
        assert!(written.is_err());
        return;
    };
    let length = written.expect("a packet with a fixed header is quoted");
    assert!(length <= icmpv6::MAX_ERROR_LEN);
    assert!(out[length..].iter().all(|byte| *byte == UNTOUCHED));
    if let Ok(upper) = walk_v6(packet)
        && may_answer_v6(packet, &upper, error)
    {
        assert!(!original.src().is_unspecified() && !original.src().is_multicast());
    }

    let written = &out[..length];
    let ip = Ipv6Packet::new_checked(written).expect("our own header is sound");
    assert_eq!((ip.src(), ip.dst()), (ROUTER_V6, SENDER_V6));
    assert_eq!(usize::from(ip.payload_len()) + HEADER_LEN, length);
    assert!(right_v6(ROUTER_V6, SENDER_V6, ip.payload()));
    let message = IcmpPacket::new_checked(ip.payload()).expect("8 bytes are there");
    let quote = message.body();
    assert!(packet.starts_with(quote));
    let whole = HEADER_LEN + usize::from(original.payload_len());
    let room = whole.min(icmpv6::MAX_ERROR_LEN - 48);
    assert_eq!(quote.len(), packet.len().min(room), "all that fits");
    assert!(embedded(quote).is_none() || embedded(quote) == embedded(packet));
    let upper = walk_v6(written).expect("no extension headers");
    assert!(!may_answer_v6(written, &upper, error), "no error about one");

    let read = read_too_big_v6(ip.payload());
    match error {
        ErrorV6::PacketTooBig { mtu } => {
            assert_eq!(read.is_some(), mtu >= 1280);
            assert!(read.is_none_or(|it| it.mtu == mtu && it.outer == quote));
        }
        _ => assert_eq!(read, None),
    }
    let mut short = vec![0; length - 1];
    assert!(emit_error_v6(&mut short, error, ROUTER_V6, SENDER_V6, packet).is_err());
}

fn echo_v6(packet: &[u8]) {
    let mut copy = packet.to_vec();
    if !answer_echo_v6(&mut copy) {
        assert_eq!(copy, packet, "what is not answered stays");
        return;
    }
    let asked = Ipv6Packet::new_checked_head(packet, usize::MAX).expect("it was answered");
    let reply = Ipv6Packet::new_checked_head(&copy[..], usize::MAX).expect("as sound");
    let (src, dst) = (asked.src(), asked.dst());
    assert_eq!((reply.src(), reply.dst()), (dst, src));
    assert_eq!(reply.payload()[..2], [icmpv6::ECHO_REPLY, 0]);
    assert_eq!(
        right_v6(dst, src, reply.payload()),
        right_v6(src, dst, asked.payload()),
        "as right as the request"
    );
    assert!(!answer_echo_v6(&mut copy), "a reply is not answered");
}
