//! ICMP for IPv4 (RFC 792): errors written and read, echo answered. And what both versions share:
//! [`IcmpPacket`], [`TooBig`], [`embedded`].

use std::net::{IpAddr, Ipv4Addr};

use crate::checksum::{Checksum, update_u16};
use crate::error::{self, Error};
use crate::extension::walk_v6;
use crate::field::{clamped, clamped_mut, read, read_u8, read_u16, write, write_u8, write_u16};
use crate::icmpv6::addresses_v6;
use crate::ip::{PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::ipv4::{self, Ipv4Packet};

/// Bytes before the body of every message that is read or written here.
pub const HEADER_LEN: usize = 8;
/// Bytes of an error with its IPv4 header, at most (RFC 1812, section 4.3.2.3).
pub const MAX_ERROR_LEN: usize = 576;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;

/// Code of "fragmentation needed and DF set" (RFC 1191, section 4).
const FRAGMENTATION_NEEDED: u8 = 4;
/// Every link carries that much (RFC 791, section 3.2), so a smaller MTU is a forgery.
const MIN_MTU: u16 = 68;
/// Of what is sent: TOS "internetwork control" (RFC 1812, section 4.3.2.5), as Linux does.
const TOS: u8 = 0xc0;
const TTL: u8 = 64;

/// A message of at least 8 bytes, of either version; the buffer is exactly the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpPacket<'a> {
    data: &'a [u8],
}

impl<'a> IcmpPacket<'a> {
    /// Fails with [`Error::Truncated`].
    #[inline]
    pub fn new_checked(data: &'a [u8]) -> Result<Self, Error> {
        error::need("ICMP", HEADER_LEN, data)?;
        Ok(Self { data })
    }

    /// Type.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> u8 {
        read_u8(self.data, 0)
    }

    /// Code.
    #[inline]
    #[must_use]
    pub fn code(&self) -> u8 {
        read_u8(self.data, 1)
    }

    /// Checksum.
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> u16 {
        read_u16(self.data, 2..4)
    }

    /// The four bytes behind the checksum; what they say depends on the type.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> [u8; 4] {
        read(self.data, 4..8)
    }

    /// What follows the first 8 bytes: of an error, the packet that it is about.
    #[inline]
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        clamped(self.data, HEADER_LEN, usize::MAX)
    }

    /// True when the checksum of an IPv4 message is right. ICMPv6 also sums a pseudo-header.
    #[inline]
    #[must_use]
    pub fn verify_checksum_v4(&self) -> bool {
        Checksum::new().add(self.data).finish() == 0
    }
}

/// An error of the network to a packet's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorV4 {
    /// Type 3, code 0: no route.
    NetUnreachable,
    /// Type 3, code 1: the last hop cannot be reached.
    HostUnreachable,
    /// Type 3, code 2.
    ProtocolUnreachable,
    /// Type 3, code 3.
    PortUnreachable,
    /// Type 3, code 4, with the next hop's MTU in bytes, IP header included (RFC 1191, section 4).
    FragmentationNeeded {
        /// The MTU in bytes.
        mtu: u16,
    },
    /// Type 3, code 13: filtered (RFC 1812, section 5.2.7.1).
    AdminProhibited,
    /// Type 11, code 0: TTL used up in transit.
    TimeExceeded,
}

impl ErrorV4 {
    /// Type, code, and the 16 bits at the header's end.
    const fn fields(self) -> (u8, u8, u16) {
        match self {
            Self::NetUnreachable => (DESTINATION_UNREACHABLE, 0, 0),
            Self::HostUnreachable => (DESTINATION_UNREACHABLE, 1, 0),
            Self::ProtocolUnreachable => (DESTINATION_UNREACHABLE, 2, 0),
            Self::PortUnreachable => (DESTINATION_UNREACHABLE, 3, 0),
            Self::FragmentationNeeded { mtu } => {
                (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, mtu)
            }
            Self::AdminProhibited => (DESTINATION_UNREACHABLE, 13, 0),
            Self::TimeExceeded => (TIME_EXCEEDED, 0, 0),
        }
    }
}

/// Writes a whole IPv4 packet with `error` about the packet `original`, and returns its length, at
/// most [`MAX_ERROR_LEN`] bytes: TTL 64, TOS 0xc0, DF clear, identification 0.
///
/// `original` begins with its IPv4 header and may be the first bytes of a longer packet; as much of
/// it is quoted as fits. Ask [`may_answer_v4`] first.
///
/// Fails with the errors of [`Ipv4Packet::new_checked_head`] for `original`, and with
/// [`Error::Truncated`] when `out` is too short.
pub fn emit_error_v4(
    out: &mut [u8],
    error: ErrorV4,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    original: &[u8],
) -> Result<usize, Error> {
    let total_len = Ipv4Packet::new_checked_head(original, usize::MAX)?.total_len();
    let room = MAX_ERROR_LEN - ipv4::HEADER_LEN - HEADER_LEN;
    let quote = clamped(original, 0, usize::from(total_len).min(room));
    let message_len = HEADER_LEN + quote.len();
    let length = ipv4::HEADER_LEN + message_len;
    error::need("ICMP error", length, out)?;
    let (header, message) = out
        .get_mut(..length)
        .and_then(|out| out.split_at_mut_checked(ipv4::HEADER_LEN))
        .unwrap_or_default();
    ipv4::Ipv4Repr {
        src,
        dst,
        protocol: PROTOCOL_ICMP,
        ttl: TTL,
        tos: TOS,
        ident: 0,
        dont_fragment: false,
        payload_len: message_len as u16,
    }
    .emit(header)?;
    let (kind, code, value) = error.fields();
    let [high, low] = value.to_be_bytes();
    write(message, 0..HEADER_LEN, [kind, code, 0, 0, 0, 0, high, low]);
    clamped_mut(message, HEADER_LEN, message_len).copy_from_slice(quote);
    let checksum = Checksum::new().add(message).finish();
    write_u16(message, 2..4, checksum);
    Ok(length)
}

/// True when an error about `original` may be sent to its source (RFC 1122, section 3.2.2; RFC
/// 1812, section 4.3.2.7).
///
/// Not about ICMP errors or ICMP of a type unknown, not about fragments other than the first, not
/// about what was sent to a multicast or the limited broadcast address, and not to a source that is
/// no single host: unspecified and the rest of 0/8, loopback, multicast, class E. A subnet's
/// broadcast address and a broadcast of the link are the caller's to see.
#[must_use]
pub fn may_answer_v4(original: &[u8]) -> bool {
    let Ok(ip) = Ipv4Packet::new_checked_head(original, usize::MAX) else {
        return false;
    };
    let dst = ip.dst();
    if ip.fragment_offset() != 0
        || dst.is_multicast()
        || dst.is_broadcast()
        || !is_single_host(ip.src())
    {
        return false;
    }
    // The queries of RFC 792, RFC 950 and RFC 8335, and their replies.
    ip.protocol() != PROTOCOL_ICMP
        || matches!(
            ip.payload().first(),
            Some(&ECHO_REPLY | &ECHO_REQUEST | 13..=18 | 42 | 43)
        )
}

/// An address that one host may have as its own, by its form.
fn is_single_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// Turns the echo request `packet`, a whole IPv4 packet, into its reply in place: addresses
/// swapped, type 0, TTL 64, options erased, checksums right. False, the packet unchanged, when it
/// is no unfragmented echo request between two single hosts with a right header checksum.
///
/// `packet` may be the first bytes of a longer packet (the ICMP header must lie in them): the
/// ICMP checksum is updated (RFC 1624), not verified, so a reply to a damaged request is as
/// damaged and its receiver will see it. That `dst` is an address to answer for, is the caller's to
/// know.
#[must_use]
pub fn answer_echo_v4(packet: &mut [u8]) -> bool {
    let Ok(mut ip) = Ipv4Packet::new_checked_head(&mut *packet, usize::MAX) else {
        return false;
    };
    let (src, dst, header_len) = (ip.src(), ip.dst(), ip.header_len());
    if ip.is_fragment()
        || ip.protocol() != PROTOCOL_ICMP
        || !ip.payload().starts_with(&[ECHO_REQUEST, 0])
        || ip.payload().len() < HEADER_LEN
        || !is_single_host(src)
        || !is_single_host(dst)
        || !ip.verify_checksum()
    {
        return false;
    }
    ip.set_src(dst);
    ip.set_dst(src);
    ip.set_ttl(TTL);
    // A route recorded for one way is not the other's.
    ip.options_mut().fill(0);
    ip.fill_checksum();
    let message = clamped_mut(packet, header_len, usize::MAX);
    let checksum = read_u16(message, 2..4);
    write_u8(message, 0, ECHO_REPLY);
    let request = u16::from_be_bytes([ECHO_REQUEST, 0]);
    let reply = u16::from_be_bytes([ECHO_REPLY, 0]);
    // Both are zero in one's complement, but for a reply of nothing else only this one is right.
    let updated = match update_u16(checksum, request, reply) {
        0 => u16::MAX,
        updated => updated,
    };
    write_u16(message, 2..4, updated);
    true
}

/// A router's word that a packet did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooBig<'a> {
    /// MTU of the router's next hop in bytes, IP header included.
    pub mtu: u32,
    /// First bytes of the packet that did not fit, from its IP header on: as this host sent it.
    pub outer: &'a [u8],
}

/// Reads "fragmentation needed" (RFC 1191, section 4) from a whole IPv4 packet, as a raw socket
/// gives it; bytes behind the packet are ignored.
///
/// `None` for anything else: fragments, wrong checksums (IP header and ICMP), an MTU below 68 (0 is
/// what routers older than RFC 1191 say), a quoted packet without its whole IPv4 header and 8 bytes
/// more. Anyone may forge such a message: compare `outer` with what was sent.
#[must_use]
pub fn read_too_big_v4(icmp_packet: &[u8]) -> Option<TooBig<'_>> {
    let ip = Ipv4Packet::new_checked(icmp_packet).ok()?;
    if ip.is_fragment() || ip.protocol() != PROTOCOL_ICMP || !ip.verify_checksum() {
        return None;
    }
    let message = clamped(icmp_packet, ip.header_len(), usize::from(ip.total_len()));
    let icmp = IcmpPacket::new_checked(message).ok()?;
    if (icmp.kind(), icmp.code()) != (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED)
        || !icmp.verify_checksum_v4()
    {
        return None;
    }
    let [_, _, high, low] = icmp.rest();
    let mtu = u16::from_be_bytes([high, low]);
    let outer = icmp.body();
    let quoted = Ipv4Packet::new_checked_head(outer, usize::MAX).ok()?;
    (mtu >= MIN_MTU && quoted.payload().len() >= 8).then_some(TooBig {
        mtu: u32::from(mtu),
        outer,
    })
}

/// The flow of the packet that an ICMP error is about, as its sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Embedded {
    /// Its source: who the error is for.
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// TCP, UDP or SCTP.
    pub protocol: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

/// The flow behind an ICMP or ICMPv6 error, from the error's body ([`IcmpPacket::body`]): the first
/// bytes of a packet of either version.
///
/// `None` when it is not TCP, UDP or SCTP, a fragment other than the first, or ends before the
/// ports do.
#[must_use]
pub fn embedded(icmp_error_body: &[u8]) -> Option<Embedded> {
    let (src, dst, protocol, ports) = match read_u8(icmp_error_body, 0) >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked_head(icmp_error_body, usize::MAX).ok()?;
            if ip.fragment_offset() != 0 {
                return None;
            }
            let ports = ip.payload().first_chunk::<4>().copied()?;
            (
                IpAddr::V4(ip.src()),
                IpAddr::V4(ip.dst()),
                ip.protocol(),
                ports,
            )
        }
        6 => {
            let upper = walk_v6(icmp_error_body).ok()?;
            if upper.is_later_fragment() {
                return None;
            }
            let (src, dst) = addresses_v6(icmp_error_body);
            let ports = icmp_error_body
                .get(upper.offset..)?
                .first_chunk::<4>()
                .copied()?;
            (IpAddr::V6(src), IpAddr::V6(dst), upper.protocol, ports)
        }
        _ => return None,
    };
    let [a, b, c, d] = ports;
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP).then_some(Embedded {
        src,
        dst,
        protocol,
        src_port: u16::from_be_bytes([a, b]),
        dst_port: u16::from_be_bytes([c, d]),
    })
}

#[cfg(test)]
mod tests;
