//! IGMP (RFC 2236; version 3, RFC 3376), as far as snooping goes (RFC 4541).

use std::net::Ipv4Addr;

use crate::checksum::Checksum;
use crate::error::{self, Error};
use crate::field::{clamped, read_u8, write, write_u16};
use crate::ipv4::{self, Ipv4Packet};
use crate::membership::{Group, MembershipError, Memberships, NEW_QUERY_TAIL, QueryVersion};

/// IGMP's number as an IP protocol.
pub const PROTOCOL_IGMP: u8 = 2;
/// All systems of the link: where general queries go.
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Bytes of the longest query written here.
pub const MAX_QUERY_LEN: usize = HEADER_LEN + NEW_LEN;

const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;

/// Bytes of an IPv4 header with the router alert option.
const HEADER_LEN: usize = 24;
/// Bytes of a message of the older versions.
const OLD_LEN: usize = 8;
/// Bytes of a query of version 3 without sources.
const NEW_LEN: usize = 12;
/// RFC 2113: every router on the way looks at the packet.
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// Internetwork control (RFC 3376, section 4).
const TOS: u8 = 0xc0;

/// Reads a whole IPv4 packet; bytes behind the packet (padding) are ignored.
///
/// Refused are fragments, a wrong checksum of the message, a TTL other than 1, groups that are not
/// multicast, and records that do not fit. The router alert is not asked for: version 1 has none.
pub fn parse_igmp(packet: &[u8]) -> Result<Memberships<'_, Ipv4Addr>, MembershipError> {
    let ip = Ipv4Packet::new_checked(packet)?;
    if ip.protocol() != PROTOCOL_IGMP {
        return Err(MembershipError::NotMembership);
    }
    if ip.is_fragment() {
        return Err(MembershipError::Fragmented);
    }
    if ip.ttl() != 1 {
        return Err(MembershipError::BadTtl(ip.ttl()));
    }
    let message = clamped(packet, ip.header_len(), usize::from(ip.total_len()));
    error::need("IGMP", OLD_LEN, message)?;
    if Checksum::new().add(message).finish() != 0 {
        return Err(MembershipError::BadChecksum);
    }
    let group = <Ipv4Addr as Group>::read(message, 4);
    match read_u8(message, 0) {
        QUERY => Memberships::query(ip.src(), group),
        REPORT_V1 | REPORT_V2 => Memberships::join(group),
        LEAVE => Memberships::leave(group),
        REPORT_V3 => Memberships::records(message),
        _ => Err(MembershipError::NotMembership),
    }
}

/// Writes a general query as a whole IPv4 packet to [`ALL_SYSTEMS`], TTL 1, with the router alert
/// option, and returns its length: 32 bytes, or [`MAX_QUERY_LEN`] of version 3.
///
/// `max_response` is the time to answer in tenths of a second, at most 127 (of version 3, more
/// would be an exponent). Fails with [`Error::Truncated`].
pub fn emit_query_v4(
    out: &mut [u8],
    src: Ipv4Addr,
    version: QueryVersion,
    max_response: u8,
) -> Result<usize, Error> {
    let message_len = match version {
        QueryVersion::Old => OLD_LEN,
        QueryVersion::New => NEW_LEN,
    };
    let length = HEADER_LEN + message_len;
    error::need("IGMP query", length, out)?;
    let (header, message) = out
        .get_mut(..length)
        .and_then(|out| out.split_at_mut_checked(HEADER_LEN))
        .unwrap_or_default();
    ipv4::Ipv4Repr {
        src,
        dst: ALL_SYSTEMS,
        protocol: PROTOCOL_IGMP,
        ttl: 1,
        tos: TOS,
        ident: 0,
        dont_fragment: true,
        payload_len: (ROUTER_ALERT.len() + message_len) as u16,
    }
    .emit(header)?;
    write(header, 0..1, [0x46]);
    write(header, 20..24, ROUTER_ALERT);
    let checksum = {
        write_u16(header, 10..12, 0);
        Checksum::new().add(header).finish()
    };
    write_u16(header, 10..12, checksum);
    write(
        message,
        0..8,
        [QUERY, max_response.min(127), 0, 0, 0, 0, 0, 0],
    );
    write(message, 8..12, NEW_QUERY_TAIL);
    let checksum = Checksum::new().add(message).finish();
    write_u16(message, 2..4, checksum);
    Ok(length)
}

#[cfg(test)]
mod tests;
