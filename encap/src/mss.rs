//! The MSS option of TCP (RFC 9293, section 3.7.1), lowered to what a path carries.

use crate::checksum::update_u16;
use crate::extension::walk_v6;
use crate::field::{clamped_mut, read_u8, read_u16, write_u16};
use crate::ip::PROTOCOL_TCP;
use crate::ipv4::Ipv4Packet;
use crate::ipv6;
use crate::tcp::{self, SYN};

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
/// Bytes of the option: type, length, value.
const MSS_LEN: usize = 4;

/// Lowers the MSS that a TCP SYN (with or without ACK) announces to at most `max_mss` bytes, and
/// tells whether it changed something. `packet` is an IP packet of either version, or its first
/// bytes as long as the TCP header with its options lies in them.
///
/// The TCP checksum is updated (RFC 1624), unless `partial`: then its field holds only the sum of
/// the pseudo-header (see [`crate::partial`]), which does not cover the option. A SYN without the
/// option gets none: its peer assumes 536 or 1220 bytes.
pub fn clamp_mss(packet: &mut [u8], max_mss: u16, partial: bool) -> bool {
    let Some((start, end)) = tcp_of(packet) else {
        return false;
    };
    let tcp = clamped_mut(packet, start, end);
    let header_len = usize::from(read_u8(tcp, tcp::field::DATA_OFFSET) >> 4) * 4;
    if tcp.len() < tcp::HEADER_LEN
        || header_len > tcp.len()
        || read_u8(tcp, tcp::field::FLAGS) & SYN == 0
    {
        return false;
    }
    let mut changed = false;
    let mut at = tcp::HEADER_LEN;
    while at < header_len {
        let length = match read_u8(tcp, at) {
            END_OF_OPTIONS => break,
            NO_OPERATION => 1,
            // At the header's end this reads data, or 0, and what it yields is refused.
            _ => usize::from(read_u8(tcp, at + 1)),
        };
        if length == 0 || at + length > header_len {
            break;
        }
        if read_u8(tcp, at) == MSS && length == MSS_LEN {
            changed |= lower(tcp, at + 2, max_mss, partial);
        }
        // An option of length 1 other than NOP is malformed; Linux stops there too.
        if length == 1 && read_u8(tcp, at) != NO_OPERATION {
            break;
        }
        at += length;
    }
    changed
}

/// Lowers the value at `at` of the segment `tcp`.
fn lower(tcp: &mut [u8], at: usize, max_mss: u16, partial: bool) -> bool {
    let mss = read_u16(tcp, at..at + 2);
    if mss <= max_mss {
        return false;
    }
    write_u16(tcp, at..at + 2, max_mss);
    if !partial {
        // At an odd place the value lies across two words: as if its bytes were swapped.
        let (old, new) = if at.is_multiple_of(2) {
            (mss, max_mss)
        } else {
            (mss.swap_bytes(), max_mss.swap_bytes())
        };
        let checksum = read_u16(tcp, tcp::field::CHECKSUM);
        write_u16(tcp, tcp::field::CHECKSUM, update_u16(checksum, old, new));
    }
    true
}

/// From where to where `packet` is TCP, in an unfragmented packet or a first fragment.
fn tcp_of(packet: &[u8]) -> Option<(usize, usize)> {
    match read_u8(packet, 0) >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked_head(packet, usize::MAX).ok()?;
            (ip.protocol() == PROTOCOL_TCP && ip.fragment_offset() == 0)
                .then(|| (ip.header_len(), usize::from(ip.total_len())))
        }
        6 => {
            let upper = walk_v6(packet).ok()?;
            let end = ipv6::HEADER_LEN + usize::from(read_u16(packet, 4..6));
            (upper.protocol == PROTOCOL_TCP && !upper.is_later_fragment())
                .then_some((upper.offset, end))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
