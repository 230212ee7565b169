//! A hash that keeps the packets of a flow together and spreads flows apart.

use crate::field::{read, read_u8, read_u16};
use crate::ip::{PROTOCOL_DCCP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::ipv4::{self, field};
use crate::ipv6;

// Fractional digits of pi, as in Blowfish: odd, with no structure.
const ADDRESSES: u64 = 0x243f_6a88_85a3_08d3;
const FIRST: u64 = 0x1319_8a2e_0370_7345;
const SECOND: u64 = 0xa409_3822_299f_31d1;
const THIRD: u64 = 0x082e_fa98_ec4e_6c89;

/// Hashes addresses, protocol and, of TCP, UDP, SCTP and DCCP, ports of an IPv4 packet.
///
/// Fragments are hashed without ports, the first one too, so that all pieces of a datagram agree.
/// The two directions of a connection differ. Bytes that hold no IPv4 header hash to 0. Not keyed:
/// who chooses the ports chooses the hash, which is good enough to spread load over paths.
#[inline]
pub fn flow_hash_v4(packet: &[u8]) -> u32 {
    let Some(header) = packet.first_chunk::<{ ipv4::HEADER_LEN }>() else {
        return 0;
    };
    let addresses = u64::from_be_bytes(read(header, field::SRC.start..field::DST.end));
    let protocol = read_u8(header, field::PROTOCOL);
    let more_fragments_or_offset = read_u16(header, field::FLAGS_OFFSET) & 0x3fff;
    let ports = if more_fragments_or_offset == 0 && has_ports(protocol) {
        let start = usize::from(read_u8(header, field::VERSION_IHL) & 0x0f) * 4;
        u32::from_be_bytes(read(packet, start..start + 4))
    } else {
        0
    };
    let l4 = u64::from(ports) << 8 | u64::from(protocol);
    let hash = fold_multiply(fold_multiply(addresses ^ ADDRESSES, FIRST) ^ l4, SECOND);
    (hash >> 32) as u32 ^ hash as u32
}

/// As [`flow_hash_v4`] of an IPv6 packet; ports are found behind a few extension headers.
///
/// Fragments are hashed with the fragment header's number (44) as their protocol: the next header
/// within it need not be the same in all of them (RFC 8200, section 4.5). Where more extension
/// headers follow than are walked, the number of the next one takes the protocol's place.
///
/// The flow label is not used: many senders leave it 0, and Linux gives a connection another one
/// when it suspects its path (`sk_rethink_txhash`), so that it neither tells flows apart nor
/// keeps one together. Ports do both.
#[inline]
pub fn flow_hash_v6(packet: &[u8]) -> u32 {
    let Some(header) = packet.first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return 0;
    };
    let word = |at: usize| u64::from_be_bytes(read(header, at..at + 8));
    let (src, dst) = (ipv6::field::SRC.start, ipv6::field::DST.start);
    let upper = ipv6::upper_layer(packet);
    let ports = if has_ports(upper.protocol) {
        u32::from_be_bytes(read(packet, upper.start..upper.start + 4))
    } else {
        0
    };
    let l4 = u64::from(ports) << 8 | u64::from(upper.protocol);
    // The two products do not wait for each other.
    let src = fold_multiply(word(src) ^ ADDRESSES, word(src + 8) ^ FIRST);
    let dst = fold_multiply(word(dst) ^ SECOND, word(dst + 8) ^ THIRD);
    let hash = fold_multiply(fold_multiply(src ^ FIRST, dst ^ THIRD) ^ l4, SECOND);
    (hash >> 32) as u32 ^ hash as u32
}

/// Both ports are the header's first four bytes.
#[inline]
const fn has_ports(protocol: u8) -> bool {
    matches!(
        protocol,
        PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP | PROTOCOL_DCCP
    )
}

/// The two halves of the 128-bit product, combined: every input bit reaches every output bit.
#[inline]
const fn fold_multiply(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests;
