//! SCTP's checksum, a CRC32c (RFC 9260, section 6.8 and appendix A), where Linux left it to the
//! hardware.
//!
//! Linux leaves it where the device has `NETIF_F_SCTP_CRC`, as a veth has (net/sctp/output.c,
//! drivers/net/veth.c). Such a packet is CHECKSUM_PARTIAL with `csum_not_inet`: its field holds
//! 0, for a CRC is no sum that a pseudo-header could begin, and `skb_crc32c_csum_help`
//! (net/core/dev.c) computes over all from `csum_start` on, the zero included. So a field of 0 is
//! how such a packet is recognised.
//!
//! # Why a mistaken match is harmless
//! A finished packet's field is 0 by chance once in 2^32, when its CRC over the zeroed field is 0:
//! completion computes the same 0. Where endpoints agreed on a zero checksum (RFC 9653), they
//! still take a right one.
//!
//! As in [`crate::partial`]: look only at packets from a local veth, not from the wire.

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::error::{self, Error};
use crate::field::{clamped, read, write};
use crate::ip::PROTOCOL_SCTP;
use crate::ipv4::Ipv4Packet;
use crate::ipv6::{self, Ipv6Packet, upper_layer};

/// Bytes of the common header (RFC 9260, section 3.1).
pub const HEADER_LEN: usize = 12;

/// In the common header.
const CHECKSUM: Range<usize> = 8..12;

/// Where to compute an SCTP checksum, in bytes from the start of the IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SctpChecksum {
    /// Where the common header begins; the field is 8 bytes behind it.
    pub start: u16,
}

impl SctpChecksum {
    /// Computes the checksum of `packet`: exactly the IP packet, no padding behind it. Whatever
    /// the field held counts as 0.
    ///
    /// Fails with [`Error::Truncated`], the packet unchanged.
    #[inline]
    pub fn complete(&self, packet: &mut [u8]) -> Result<(), Error> {
        self.complete_chain(packet, [])
    }

    /// As [`SctpChecksum::complete`] for a packet in several buffers: `head` from the IP header
    /// on, holding at least the common header, then the `rest` in order, of any lengths.
    #[inline]
    pub fn complete_chain<'a>(
        &self,
        head: &mut [u8],
        rest: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        let start = usize::from(self.start);
        error::need("SCTP", start + HEADER_LEN, head)?;
        let field = start + CHECKSUM.start..start + CHECKSUM.end;
        write(head, field.clone(), [0; 4]);
        let crc = rest.into_iter().fold(
            crc32c::crc32c(clamped(head, start, usize::MAX)),
            crc32c::crc32c_append,
        );
        // The least significant byte goes first: appendix A.
        write(head, field, crc.to_le_bytes());
        Ok(())
    }
}

/// Recognises an SCTP checksum that is yet to be computed (0) in an IPv4 packet, or in the first
/// buffer of one (only the headers are read).
///
/// `None` for any other checksum, for fragments, for other protocols, and when either header is
/// not wholly there.
#[inline]
pub fn needs_sctp_crc_v4(packet: &[u8]) -> Option<SctpChecksum> {
    let ip = Ipv4Packet::new_checked_head(packet, usize::MAX).ok()?;
    if ip.protocol() != PROTOCOL_SCTP || ip.is_fragment() {
        return None;
    }
    unfinished(ip.payload(), ip.header_len())
}

/// As [`needs_sctp_crc_v4`] for an IPv6 packet; extension headers in front are walked as
/// [`crate::is_partial_l4_v6`] does. Routing headers do not matter: no pseudo-header is covered.
#[inline]
pub fn needs_sctp_crc_v6(packet: &[u8]) -> Option<SctpChecksum> {
    let ip = Ipv6Packet::new_checked_head(packet, usize::MAX).ok()?;
    let upper = upper_layer(packet);
    if upper.protocol != PROTOCOL_SCTP {
        return None;
    }
    let end = ipv6::HEADER_LEN + usize::from(ip.payload_len());
    unfinished(clamped(packet, upper.start, end), upper.start)
}

#[inline]
fn unfinished(transport: &[u8], start: usize) -> Option<SctpChecksum> {
    if transport.len() < HEADER_LEN || read::<4>(transport, CHECKSUM) != [0; 4] {
        return None;
    }
    let start = u16::try_from(start).ok()?;
    Some(SctpChecksum { start })
}
