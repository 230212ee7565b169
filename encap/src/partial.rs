//! Checksums that Linux left to the hardware.
//!
//! A packet whose checksum is CHECKSUM_PARTIAL (include/linux/skbuff.h) carries in its TCP or UDP
//! checksum field the folded sum of the pseudo-header, not inverted; the device is to sum from
//! `csum_start` to the end, that field included, and store the inverse at `csum_offset`. A veth
//! hands such packets to XDP as they are, and AF_XDP tells nothing about them. They are recognised
//! by their field: it equals the pseudo-header's sum.
//!
//! # Why a mistaken match is harmless
//! A finished checksum may equal the pseudo-header's sum by chance (one packet in 65536). Let P be
//! that sum and D the sum of all else that is covered. A finished checksum C is `!(P + D)`. With
//! C = P, completion computes `!(C + D) = !(P + D) = C`: the value that was there. Only -0 (0xffff)
//! may become +0 in TCP, which a receiver cannot tell apart; UDP keeps 0xffff. The test
//! `mistaken_match_changes_nothing` shows it.
//!
//! SCTP has a CRC instead of a sum: see [`crate::sctp`].
//!
//! What a match cannot tell is a packet damaged so that its field equals P: completing would make
//! it look right. Look only at packets from a local veth, which damages none, not from the wire.

use std::ops::Range;

use crate::checksum::Checksum;
use crate::error::{self, Error};
use crate::field::{clamped, read_u16, write_u16};
use crate::ip::{PROTOCOL_TCP, PROTOCOL_UDP};
use crate::ipv4::Ipv4Packet;
use crate::ipv6::{self, Ipv6Packet, upper_layer};
use crate::{tcp, udp};

/// Where to finish a checksum, in bytes from the start of the IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartialChecksum {
    /// Where the sum starts: at the transport header (`csum_start` of virtio_net_hdr, counted
    /// from the IP header).
    pub start: u16,
    /// Where the checksum field is. Unlike virtio_net_hdr's `csum_offset`, counted from the IP
    /// header, not from `start`.
    pub offset: u16,
}

impl PartialChecksum {
    /// Finishes the checksum of `packet`: exactly the IP packet, no padding behind it.
    ///
    /// A UDP checksum of 0 is written as 0xffff (RFC 768). Fails with [`Error::Truncated`], the
    /// packet unchanged.
    #[inline]
    pub fn complete(&self, packet: &mut [u8]) -> Result<(), Error> {
        self.complete_chain(packet, [])
    }

    /// As [`PartialChecksum::complete`] for a packet in several buffers: `head` from the IP header
    /// on, holding at least the transport checksum, then the `rest` in order, of any lengths.
    #[inline]
    pub fn complete_chain<'a>(
        &self,
        head: &mut [u8],
        rest: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        let (start, offset) = (usize::from(self.start), usize::from(self.offset));
        error::need("checksum field", offset + 2, head)?;
        let covered = head.get(start..).ok_or(Error::Truncated {
            what: "checksum start",
            need: start,
            have: head.len(),
        })?;
        let sum = rest
            .into_iter()
            .fold(Checksum::new().add(covered), Checksum::add);
        // A field before `start` is no transport header's, so not UDP's either.
        let checksum = sum.finish_at(offset.checked_sub(start).unwrap_or(usize::MAX));
        write_u16(head, offset..offset + 2, checksum);
        Ok(())
    }
}

/// Recognises a partial checksum in an IPv4 packet, or in the first buffer of one (only the
/// headers are read).
///
/// `None` for a finished checksum, for UDP without one (0), for fragments, for protocols other
/// than TCP and UDP, and when either header is not wholly there.
#[inline]
pub fn is_partial_l4_v4(packet: &[u8]) -> Option<PartialChecksum> {
    let ip = Ipv4Packet::new_checked_head(packet, usize::MAX).ok()?;
    if ip.is_fragment() {
        return None;
    }
    let protocol = ip.protocol();
    let field = checksum_field(protocol, ip.payload())?;
    let len = u16::try_from(usize::from(ip.total_len()).checked_sub(ip.header_len())?).ok()?;
    let pseudo = Checksum::new().add_pseudo_v4(ip.src(), ip.dst(), protocol, len);
    matching(pseudo, ip.payload(), ip.header_len(), field)
}

/// As [`is_partial_l4_v4`] for an IPv6 packet; the transport header may lie behind hop-by-hop
/// and destination options, a routing header without segments left, and an atomic fragment's
/// header.
///
/// `None` also where segments are left: the sum then is that of a destination which only the
/// routing header knows.
#[inline]
pub fn is_partial_l4_v6(packet: &[u8]) -> Option<PartialChecksum> {
    let ip = Ipv6Packet::new_checked_head(packet, usize::MAX).ok()?;
    let upper = upper_layer(packet);
    if upper.routed {
        return None;
    }
    let end = ipv6::HEADER_LEN + usize::from(ip.payload_len());
    let transport = clamped(packet, upper.start, end);
    let field = checksum_field(upper.protocol, transport)?;
    let len = u32::try_from(end.checked_sub(upper.start)?).ok()?;
    let pseudo = Checksum::new().add_pseudo_v6(ip.src(), ip.dst(), upper.protocol, len);
    matching(pseudo, transport, upper.start, field)
}

/// The checksum field in the header of a TCP or UDP `transport`.
#[inline]
fn checksum_field(protocol: u8, transport: &[u8]) -> Option<Range<usize>> {
    let (header_len, field) = match protocol {
        PROTOCOL_TCP => (tcp::HEADER_LEN, tcp::field::CHECKSUM),
        PROTOCOL_UDP => (udp::HEADER_LEN, udp::field::CHECKSUM),
        _ => return None,
    };
    (transport.len() >= header_len).then_some(field)
}

/// The place of the checksum if `field` holds the sum of the pseudo-header.
#[inline]
fn matching(
    pseudo: Checksum,
    transport: &[u8],
    start: usize,
    field: Range<usize>,
) -> Option<PartialChecksum> {
    // Never 0, for the protocol is not: UDP's 0 (none) does not match.
    if read_u16(transport, field.clone()) != pseudo.folded() {
        return None;
    }
    let start = u16::try_from(start).ok()?;
    let offset = start.checked_add(u16::try_from(field.start).ok()?)?;
    Some(PartialChecksum { start, offset })
}

/// Finishes the checksum of an IPv4 packet if it is partial, and tells whether it was. Padding
/// behind the packet is not summed.
///
/// Fails with [`Error::BadTotalLength`], the packet unchanged, when a part of it is missing; see
/// [`PartialChecksum::complete_chain`] for packets in several buffers.
#[inline]
pub fn complete_l4_v4(packet: &mut [u8]) -> Result<bool, Error> {
    let Some(partial) = is_partial_l4_v4(packet) else {
        return Ok(false);
    };
    let length = usize::from(Ipv4Packet::new_checked(&*packet)?.total_len());
    complete_exact(partial, packet, length, "IPv4")
}

/// As [`complete_l4_v4`] for an IPv6 packet.
#[inline]
pub fn complete_l4_v6(packet: &mut [u8]) -> Result<bool, Error> {
    let Some(partial) = is_partial_l4_v6(packet) else {
        return Ok(false);
    };
    let payload_len = Ipv6Packet::new_checked(&*packet)?.payload_len();
    let length = ipv6::HEADER_LEN + usize::from(payload_len);
    complete_exact(partial, packet, length, "IPv6")
}

#[inline]
fn complete_exact(
    partial: PartialChecksum,
    packet: &mut [u8],
    length: usize,
    what: &'static str,
) -> Result<bool, Error> {
    let have = packet.len();
    let exact = packet
        .get_mut(..length)
        .ok_or(Error::BadTotalLength { what, length, have })?;
    partial.complete(exact)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
