//! IPv4 fragmentation (RFC 791, section 3.2), without copying a payload.

use std::ops::Range;

use crate::field::{clamped, clamped_mut, read_u8};
use crate::ipv4::{HEADER_LEN, Ipv4Packet};

/// The smallest MTU of IPv4 in bytes (RFC 791, section 3.2).
pub const MIN_MTU: u16 = 68;
/// The longest header in bytes.
pub const MAX_HEADER_LEN: usize = 60;

/// In an option's type: it goes into every fragment (RFC 791, section 3.1).
const COPIED: u8 = 0x80;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Why a packet cannot be fragmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// The header is not sound.
    #[error(transparent)]
    Header(#[from] crate::Error),
    /// DF is set: the sender is to be told the MTU.
    #[error("IPv4: DF is set")]
    DontFragment,
    /// The MTU is below [`MIN_MTU`], so there may be no room for 8 bytes behind the header.
    #[error("an MTU of {0} bytes is below IPv4's minimum of {MIN_MTU}")]
    MtuTooSmall(u16),
    /// The length is below the header's, or the datagram would end beyond 65535 bytes.
    #[error("IPv4: a length of {0} bytes cannot be")]
    BadLength(usize),
    /// The options do not fill their place as their lengths say.
    #[error("IPv4: malformed options")]
    BadOptions,
}

/// One fragment: write `header[..header_len]`, then the bytes `payload` of the packet's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The header with its checksum.
    pub header: [u8; MAX_HEADER_LEN],
    /// Bytes of `header` that count.
    pub header_len: usize,
    /// Where this fragment's payload is, in bytes from the start of the packet's payload (not of
    /// the datagram, when the packet is a fragment itself).
    pub payload: Range<usize>,
}

/// The fragments of a packet, first to last. A packet that fits gives one: itself.
#[derive(Debug, Clone)]
pub struct Fragments {
    /// Header of the next fragment; checksum, length, flags and offset are set for each.
    header: [u8; MAX_HEADER_LEN],
    header_len: usize,
    /// The options for all but the first fragment.
    later_options: [u8; MAX_HEADER_LEN - HEADER_LEN],
    later_header_len: usize,
    mtu: usize,
    payload_len: usize,
    /// Where the next fragment begins in the payload; `None` behind the last.
    next: Option<usize>,
    /// Of the packet, when it is a fragment itself.
    offset: usize,
    more: bool,
}

impl Fragments {
    /// Cuts the packet of `total_len` bytes whose header (at least) is `packet`, so that no
    /// fragment has more than `mtu` bytes, header included. The header's own length field does not
    /// count.
    pub fn new(packet: &[u8], total_len: usize, mtu: u16) -> Result<Self, FragmentError> {
        let ip = Ipv4Packet::new_checked_head(packet, usize::MAX)?;
        if ip.dont_fragment() {
            return Err(FragmentError::DontFragment);
        }
        if mtu < MIN_MTU {
            return Err(FragmentError::MtuTooSmall(mtu));
        }
        let offset = usize::from(ip.fragment_offset());
        let header_len = ip.header_len();
        if total_len < header_len || offset + total_len > usize::from(u16::MAX) {
            return Err(FragmentError::BadLength(total_len));
        }
        let mut header = [0; MAX_HEADER_LEN];
        clamped_mut(&mut header, 0, header_len).copy_from_slice(clamped(packet, 0, header_len));
        let (later_options, options_len) = copied_options(ip.options())?;
        Ok(Self {
            header,
            header_len,
            later_options,
            later_header_len: HEADER_LEN + options_len,
            mtu: usize::from(mtu),
            payload_len: total_len - header_len,
            next: Some(0),
            offset,
            more: ip.more_fragments(),
        })
    }

    /// The header for `payload_len` bytes at `offset` of the datagram.
    fn header(&self, offset: usize, more: bool, payload_len: usize) -> [u8; MAX_HEADER_LEN] {
        let mut header = self.header;
        // The IHL tells the view how long the header is.
        if let Ok(mut ip) = Ipv4Packet::new_checked_head(&mut header[..], usize::MAX) {
            ip.set_total_len((self.header_len + payload_len) as u16);
            ip.set_fragment(false, more, offset as u16);
            ip.fill_checksum();
        }
        header
    }
}

impl Iterator for Fragments {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let from = self.next?;
        let left = self.payload_len.saturating_sub(from);
        let room = self.mtu.saturating_sub(self.header_len);
        let (length, last) = if left <= room {
            (left, true)
        } else {
            // Offsets count in 8 bytes. With 68 bytes or more and a header of up to 60 it is
            // never 0.
            (room & !7, false)
        };
        let to = from + length;
        let piece = Piece {
            header: self.header(self.offset + from, self.more || !last, length),
            header_len: self.header_len,
            payload: from..to,
        };
        self.next = (!last).then_some(to);
        if from == 0 && !last {
            self.header_len = self.later_header_len;
            if let Some(version_ihl) = self.header.first_mut() {
                *version_ihl = 0x40 | (self.header_len / 4) as u8;
            }
            clamped_mut(&mut self.header, HEADER_LEN, MAX_HEADER_LEN)
                .copy_from_slice(&self.later_options);
        }
        Some(piece)
    }
}

/// The options with the copied bit, padded with zeros to a multiple of 4, and their length.
fn copied_options(
    mut options: &[u8],
) -> Result<([u8; MAX_HEADER_LEN - HEADER_LEN], usize), FragmentError> {
    let mut copied = [0; MAX_HEADER_LEN - HEADER_LEN];
    let mut used = 0;
    while let Some(kind) = options.first().copied() {
        let length = match kind {
            END_OF_OPTIONS => break,
            NO_OPERATION => 1,
            _ => usize::from(read_u8(options, 1)).max(1),
        };
        let (option, behind) = options
            .split_at_checked(length)
            .filter(|_| kind == NO_OPERATION || length >= 2)
            .ok_or(FragmentError::BadOptions)?;
        if kind & COPIED != 0 {
            let to = clamped_mut(&mut copied, used, used + length);
            if to.len() == length {
                to.copy_from_slice(option);
                used += length;
            }
        }
        options = behind;
    }
    Ok((copied, used.next_multiple_of(4)))
}

#[cfg(test)]
mod tests;
