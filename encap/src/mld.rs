//! Multicast listener discovery (RFC 2710; version 2, RFC 3810), as far as snooping goes (RFC
//! 4541).

use std::net::Ipv6Addr;

use crate::error::{self, Error};
use crate::extension::{HOP_BY_HOP, Upper, walk_v6};
use crate::field::{clamped, read_u8, write, write_u16};
use crate::icmpv6::checksum_v6;
use crate::ip::PROTOCOL_ICMPV6;
use crate::ipv6::{self, Ipv6Packet, Ipv6Repr};
use crate::membership::{Group, MembershipError, Memberships, NEW_QUERY_TAIL, QueryVersion};
use crate::ndp::ALL_NODES;

/// Bytes of the longest query written here.
pub const MAX_QUERY_LEN: usize = HEADER_LEN + NEW_LEN;

const QUERY: u8 = 130;
const REPORT_V1: u8 = 131;
const DONE: u8 = 132;
const REPORT_V2: u8 = 143;

/// Bytes of the fixed header and hop-by-hop options with the router alert.
const HEADER_LEN: usize = ipv6::HEADER_LEN + 8;
/// Bytes of a message of version 1.
const OLD_LEN: usize = 24;
/// Bytes of a query of version 2 without sources.
const NEW_LEN: usize = 28;
/// Router alert (RFC 2711): type 5, 2 bytes, value 0 for MLD.
const ROUTER_ALERT: [u8; 4] = [5, 2, 0, 0];
/// Type of the option that is one byte of padding.
const PAD1: u8 = 0;

/// Reads a whole IPv6 packet; bytes behind the packet (padding) are ignored.
///
/// Refused is what RFC 3810, section 6.2, has dropped: a hop limit other than 1, no router alert,
/// a source that is not link-local (reports may come from the unspecified address: RFC 3590);
/// also fragments, a wrong checksum, groups that are not multicast, and records that do not fit.
pub fn parse_mld(packet: &[u8]) -> Result<Memberships<'_, Ipv6Addr>, MembershipError> {
    let ip = Ipv6Packet::new_checked(packet)?;
    let upper = walk_v6(packet)?;
    if upper.protocol != PROTOCOL_ICMPV6 {
        return Err(MembershipError::NotMembership);
    }
    if upper.fragment.is_some() {
        return Err(MembershipError::Fragmented);
    }
    let end = ipv6::HEADER_LEN + usize::from(ip.payload_len());
    let message = clamped(packet, upper.offset, end);
    let kind = read_u8(message, 0);
    let least = match kind {
        QUERY | REPORT_V1 | DONE => OLD_LEN,
        REPORT_V2 => 8,
        _ => return Err(MembershipError::NotMembership),
    };
    error::need("MLD", least, message)?;
    if ip.hop_limit() != 1 {
        return Err(MembershipError::BadTtl(ip.hop_limit()));
    }
    if ip.next_header() != HOP_BY_HOP || !has_router_alert(ip.payload()) {
        return Err(MembershipError::NoRouterAlert);
    }
    let (src, dst) = (ip.src(), ip.dst());
    if !src.is_unicast_link_local() && (kind == QUERY || !src.is_unspecified()) {
        return Err(MembershipError::BadSource);
    }
    if checksum_v6(src, dst, message) != 0 {
        return Err(MembershipError::BadChecksum);
    }
    let group = <Ipv6Addr as Group>::read(message, 8);
    match kind {
        QUERY => Memberships::query(src, group),
        REPORT_V1 => Memberships::join(group),
        DONE => Memberships::leave(group),
        _ => Memberships::records(message),
    }
}

/// The type of an MLD message in a packet whose extension headers end at `upper`, whatever else may
/// be wrong with it.
#[must_use]
pub fn mld_type(packet: &[u8], upper: &Upper) -> Option<u8> {
    if upper.protocol != PROTOCOL_ICMPV6 || upper.is_later_fragment() {
        return None;
    }
    let kind = packet.get(upper.offset).copied()?;
    matches!(kind, QUERY | REPORT_V1 | DONE | REPORT_V2).then_some(kind)
}

/// True when hop-by-hop options, which `header` begins with, have a router alert for MLD.
fn has_router_alert(header: &[u8]) -> bool {
    let length = (usize::from(read_u8(header, 1)) + 1) * 8;
    let mut options = clamped(header, 2, length);
    while let Some(kind) = options.first() {
        if options.starts_with(&ROUTER_ALERT) {
            return true;
        }
        let length = match *kind {
            PAD1 => 1,
            _ => usize::from(read_u8(options, 1)) + 2,
        };
        options = options.get(length..).unwrap_or_default();
    }
    false
}

/// Writes a general query as a whole IPv6 packet to [`ALL_NODES`], hop limit 1, with the router
/// alert option, and returns its length: 72 bytes, or [`MAX_QUERY_LEN`] of version 2.
///
/// `src` is to be link-local. `max_response` is the time to answer in milliseconds, at most 32767
/// (of version 2, more would be an exponent). Fails with [`Error::Truncated`].
pub fn emit_query_v6(
    out: &mut [u8],
    src: Ipv6Addr,
    version: QueryVersion,
    max_response: u16,
) -> Result<usize, Error> {
    let message_len = match version {
        QueryVersion::Old => OLD_LEN,
        QueryVersion::New => NEW_LEN,
    };
    let length = HEADER_LEN + message_len;
    error::need("MLD query", length, out)?;
    let (header, message) = out
        .get_mut(..length)
        .and_then(|out| out.split_at_mut_checked(HEADER_LEN))
        .unwrap_or_default();
    Ipv6Repr {
        src,
        dst: ALL_NODES,
        next_header: HOP_BY_HOP,
        hop_limit: 1,
        traffic_class: 0,
        payload_len: (length - ipv6::HEADER_LEN) as u16,
    }
    .emit(header)?;
    // Next header, no further 8 bytes, router alert, PadN without bytes.
    write(header, 40..42, [PROTOCOL_ICMPV6, 0]);
    write(header, 42..46, ROUTER_ALERT);
    write(header, 46..48, [1, 0]);
    message.fill(0);
    write(message, 0..1, [QUERY]);
    write_u16(message, 4..6, max_response.min(0x7fff));
    write(message, 24..28, NEW_QUERY_TAIL);
    let checksum = checksum_v6(src, ALL_NODES, message);
    write_u16(message, 2..4, checksum);
    Ok(length)
}

#[cfg(test)]
mod tests;
