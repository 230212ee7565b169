//! ICMPv6 (RFC 4443): errors written and read, echo answered. Neighbour discovery is in
//! [`crate::ndp`].

use std::net::Ipv6Addr;

use crate::checksum::{Checksum, update_u16};
use crate::error::{self, Error};
use crate::extension::Upper;
use crate::field::{clamped, clamped_mut, read, read_u8, read_u16, write, write_u8, write_u16};
use crate::icmp::{HEADER_LEN, IcmpPacket, TooBig};
use crate::ip::PROTOCOL_ICMPV6;
use crate::ipv6::{self, Ipv6Repr};

/// Bytes of an error with its IPv6 header, at most: the minimum MTU (RFC 4443, section 2.4 (c)).
pub const MAX_ERROR_LEN: usize = 1280;

/// Destination unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 1;
/// Packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;

/// Types from here on are no errors (RFC 4443, section 2.1).
const FIRST_INFORMATIONAL: u8 = 128;
/// Redirect (RFC 4861), which may not be answered with an error either.
const REDIRECT: u8 = 137;
/// Every link carries that much (RFC 8200, section 5).
const MIN_MTU: u32 = 1280;
const HOP_LIMIT: u8 = 64;

/// An error of the network to a packet's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorV6 {
    /// Type 1, code 0: no route.
    NoRoute,
    /// Type 1, code 1: filtered.
    AdminProhibited,
    /// Type 1, code 2: the source's scope ends here.
    BeyondScope,
    /// Type 1, code 3: the last hop cannot be reached.
    AddressUnreachable,
    /// Type 1, code 4.
    PortUnreachable,
    /// Type 2: the next hop's MTU in bytes, IP header included.
    PacketTooBig {
        /// The MTU in bytes.
        mtu: u32,
    },
    /// Type 3, code 0: hop limit used up in transit.
    HopLimitExceeded,
    /// Type 4.
    ParameterProblem {
        /// 0: erroneous field; 1: next header unknown; 2: option unknown; 3: incomplete header
        /// chain (RFC 7112).
        code: u8,
        /// Where in the packet, bytes from its start.
        pointer: u32,
    },
}

impl ErrorV6 {
    /// Type, code, and the 32 bits at the header's end.
    const fn fields(self) -> (u8, u8, u32) {
        match self {
            Self::NoRoute => (DESTINATION_UNREACHABLE, 0, 0),
            Self::AdminProhibited => (DESTINATION_UNREACHABLE, 1, 0),
            Self::BeyondScope => (DESTINATION_UNREACHABLE, 2, 0),
            Self::AddressUnreachable => (DESTINATION_UNREACHABLE, 3, 0),
            Self::PortUnreachable => (DESTINATION_UNREACHABLE, 4, 0),
            Self::PacketTooBig { mtu } => (PACKET_TOO_BIG, 0, mtu),
            Self::HopLimitExceeded => (TIME_EXCEEDED, 0, 0),
            Self::ParameterProblem { code, pointer } => (PARAMETER_PROBLEM, code, pointer),
        }
    }
}

/// Source and destination of what begins with a fixed header; unspecified when it is too short.
pub(crate) fn addresses_v6(packet: &[u8]) -> (Ipv6Addr, Ipv6Addr) {
    (
        Ipv6Addr::from(read::<16>(packet, 8..24)),
        Ipv6Addr::from(read::<16>(packet, 24..40)),
    )
}

/// Sums an ICMPv6 message with its pseudo-header; 0 when the message holds its right checksum.
pub(crate) fn checksum_v6(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    Checksum::new()
        .add_pseudo_v6(src, dst, PROTOCOL_ICMPV6, length)
        .add(message)
        .finish()
}

/// Writes a whole IPv6 packet with `error` about the packet `original`, and returns its length, at
/// most [`MAX_ERROR_LEN`] bytes: hop limit 64, traffic class 0.
///
/// `original` begins with its fixed header and may be the first bytes of a longer packet; as much
/// of it is quoted as fits. Ask [`may_answer_v6`] first.
///
/// Fails with [`Error::Truncated`] when `original` is shorter than a fixed header or `out` too
/// short, and with [`Error::BadVersion`].
pub fn emit_error_v6(
    out: &mut [u8],
    error: ErrorV6,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    original: &[u8],
) -> Result<usize, Error> {
    error::need("IPv6", ipv6::HEADER_LEN, original)?;
    let version = read_u8(original, 0) >> 4;
    if version != 6 {
        return Err(Error::BadVersion {
            what: "IPv6",
            version,
        });
    }
    let whole = ipv6::HEADER_LEN + usize::from(read_u16(original, 4..6));
    let room = MAX_ERROR_LEN - ipv6::HEADER_LEN - HEADER_LEN;
    let quote = clamped(original, 0, whole.min(room));
    let message_len = HEADER_LEN + quote.len();
    let length = ipv6::HEADER_LEN + message_len;
    error::need("ICMPv6 error", length, out)?;
    let (header, message) = out
        .get_mut(..length)
        .and_then(|out| out.split_at_mut_checked(ipv6::HEADER_LEN))
        .unwrap_or_default();
    Ipv6Repr {
        src,
        dst,
        next_header: PROTOCOL_ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        payload_len: message_len as u16,
    }
    .emit(header)?;
    let (kind, code, value) = error.fields();
    write(message, 0..4, [kind, code, 0, 0]);
    write(message, 4..HEADER_LEN, value.to_be_bytes());
    clamped_mut(message, HEADER_LEN, message_len).copy_from_slice(quote);
    let checksum = checksum_v6(src, dst, message);
    write_u16(message, 2..4, checksum);
    Ok(length)
}

/// True when `error` about `original`, whose extension headers end at `upper`, may be sent to its
/// source (RFC 4443, section 2.4 (e)).
///
/// Not about ICMPv6 errors and redirects (nor when the type cannot be seen), not to a source that
/// is no single node, and about what was sent to a multicast address only [`ErrorV6::PacketTooBig`]
/// and parameter problem 2. A multicast or broadcast of the link, and anycast sources, are the
/// caller's to see.
#[must_use]
pub fn may_answer_v6(original: &[u8], upper: &Upper, error: ErrorV6) -> bool {
    if original.len() < ipv6::HEADER_LEN {
        return false;
    }
    let (src, dst) = addresses_v6(original);
    let to_multicast = matches!(
        error,
        ErrorV6::PacketTooBig { .. } | ErrorV6::ParameterProblem { code: 2, .. }
    );
    if !is_single_node(src) || (dst.is_multicast() && !to_multicast) {
        return false;
    }
    if upper.protocol != PROTOCOL_ICMPV6 {
        return true;
    }
    !upper.is_later_fragment()
        && original
            .get(upper.offset)
            .is_some_and(|kind| *kind >= FIRST_INFORMATIONAL && *kind != REDIRECT)
}

/// An address that one node may have as its own, by its form.
fn is_single_node(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}

/// Turns the echo request `packet`, a whole IPv6 packet, into its reply in place: addresses
/// swapped, type 129, hop limit 64, checksum right. False, the packet unchanged, when it is no echo
/// request between two single nodes, or has extension headers.
///
/// `packet` may be the first bytes of a longer packet (the ICMPv6 header must lie in them): the
/// checksum is updated (RFC 1624), not verified, so a reply to a damaged request is as damaged and
/// its receiver will see it. That `dst` is an address to answer for, is the caller's to know.
#[must_use]
pub fn answer_echo_v6(packet: &mut [u8]) -> bool {
    let (src, dst) = addresses_v6(packet);
    if packet.len() < ipv6::HEADER_LEN + HEADER_LEN
        || read_u8(packet, 0) >> 4 != 6
        || usize::from(read_u16(packet, 4..6)) < HEADER_LEN
        || read_u8(packet, 6) != PROTOCOL_ICMPV6
        || read_u16(packet, 40..42) != u16::from_be_bytes([ECHO_REQUEST, 0])
        || !is_single_node(src)
        || !is_single_node(dst)
    {
        return false;
    }
    write_u8(packet, 7, HOP_LIMIT);
    write(packet, 8..24, dst.octets());
    write(packet, 24..40, src.octets());
    // The pseudo-header's sum is the same both ways.
    let checksum = read_u16(packet, 42..44);
    let request = u16::from_be_bytes([ECHO_REQUEST, 0]);
    let reply = u16::from_be_bytes([ECHO_REPLY, 0]);
    write_u8(packet, 40, ECHO_REPLY);
    write_u16(packet, 42..44, update_u16(checksum, request, reply));
    true
}

/// Reads "packet too big" (RFC 4443, section 3.2) from an ICMPv6 message without its IPv6 header,
/// as a raw ICMPv6 socket gives it: the kernel has verified the checksum (RFC 3542, section 3.1).
///
/// `None` for anything else, for an MTU below 1280 (RFC 8201, section 4), and for a quoted packet
/// without its whole fixed header (version 6). Anyone may forge such a message: compare `outer`
/// with what was sent.
#[must_use]
pub fn read_too_big_v6(message: &[u8]) -> Option<TooBig<'_>> {
    let icmp = IcmpPacket::new_checked(message).ok()?;
    let mtu = u32::from_be_bytes(icmp.rest());
    let outer = icmp.body();
    // The code is to be ignored.
    (icmp.kind() == PACKET_TOO_BIG
        && mtu >= MIN_MTU
        && outer.len() >= ipv6::HEADER_LEN
        && read_u8(outer, 0) >> 4 == 6)
        .then_some(TooBig { mtu, outer })
}

#[cfg(test)]
mod tests;
