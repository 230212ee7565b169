//! IPv6, the fixed header (RFC 8200, section 3); extension headers stay in the payload.

use std::net::Ipv6Addr;

use crate::ecn::Ecn;
use crate::error::{self, Error};
use crate::extension::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, MAX_EXTENSIONS, ROUTING};
use crate::field::{clamped, read, read_u8, read_u16, write, write_u8, write_u16};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const VERSION_CLASS: Range<usize> = 0..2;
    pub(crate) const VERSION_CLASS_LABEL: Range<usize> = 0..4;
    pub(crate) const PAYLOAD_LEN: Range<usize> = 4..6;
    pub(crate) const NEXT_HEADER: usize = 6;
    pub(crate) const HOP_LIMIT: usize = 7;
    pub(crate) const SRC: Range<usize> = 8..24;
    pub(crate) const DST: Range<usize> = 24..40;
}

/// A packet whose version and payload length are sound; padding may follow in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6Packet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ipv6Packet<T> {
    /// Fails with [`Error::Truncated`], [`Error::BadVersion`] or [`Error::BadTotalLength`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let available = buffer.as_ref().len();
        Self::new_checked_head(buffer, available)
    }

    /// As [`Ipv6Packet::new_checked`] when the buffer holds only the first part of a packet, as
    /// the first descriptor of a multi-buffer frame does: the fixed header must lie in it, header
    /// and payload may reach up to `available` bytes. The payload ends with the buffer.
    #[inline]
    pub fn new_checked_head(buffer: T, available: usize) -> Result<Self, Error> {
        let data = buffer.as_ref();
        error::need("IPv6", HEADER_LEN, data)?;
        let version = read_u8(data, 0) >> 4;
        if version != 6 {
            return Err(Error::BadVersion {
                what: "IPv6",
                version,
            });
        }
        let length = usize::from(read_u16(data, field::PAYLOAD_LEN));
        if HEADER_LEN + length > available {
            return Err(Error::BadTotalLength {
                what: "IPv6",
                length,
                have: available,
            });
        }
        Ok(Self { buffer })
    }

    /// Gives the buffer back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// Traffic class: DSCP and ECN, as IPv4's TOS.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (read_u16(self.buffer.as_ref(), field::VERSION_CLASS) >> 4) as u8
    }

    /// The lower 2 bits of the traffic class.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.traffic_class())
    }

    /// Flow label, 20 bits; 0 means none (RFC 6437).
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32::from_be_bytes(read(self.buffer.as_ref(), field::VERSION_CLASS_LABEL)) & 0xf_ffff
    }

    /// Bytes behind the fixed header.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::PAYLOAD_LEN)
    }

    /// Type of the header that follows.
    #[inline]
    pub fn next_header(&self) -> u8 {
        read_u8(self.buffer.as_ref(), field::NEXT_HEADER)
    }

    /// Hops left.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        read_u8(self.buffer.as_ref(), field::HOP_LIMIT)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        Ipv6Addr::from(read::<16>(self.buffer.as_ref(), field::SRC))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        Ipv6Addr::from(read::<16>(self.buffer.as_ref(), field::DST))
    }

    /// What follows the fixed header, up to the payload length.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let end = HEADER_LEN + usize::from(self.payload_len());
        clamped(self.buffer.as_ref(), HEADER_LEN, end)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6Packet<T> {
    /// Sets the traffic class.
    #[inline]
    pub fn set_traffic_class(&mut self, value: u8) {
        let around = read_u16(self.buffer.as_ref(), field::VERSION_CLASS) & 0xf00f;
        write_u16(
            self.buffer.as_mut(),
            field::VERSION_CLASS,
            around | u16::from(value) << 4,
        );
    }

    /// Sets the bytes behind the fixed header.
    #[inline]
    pub fn set_payload_len(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::PAYLOAD_LEN, value);
    }

    /// Sets the type of the header that follows.
    #[inline]
    pub fn set_next_header(&mut self, value: u8) {
        write_u8(self.buffer.as_mut(), field::NEXT_HEADER, value);
    }

    /// Sets the hops left.
    #[inline]
    pub fn set_hop_limit(&mut self, value: u8) {
        write_u8(self.buffer.as_mut(), field::HOP_LIMIT, value);
    }

    /// Takes one hop off the hop limit and returns what is left; no checksum covers it.
    ///
    /// Fails with [`Error::HopLimitExpired`], the packet unchanged, when none would be left
    /// (RFC 8200, section 3).
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> Result<u8, Error> {
        let hop_limit = self.hop_limit();
        if hop_limit <= 1 {
            return Err(Error::HopLimitExpired);
        }
        self.set_hop_limit(hop_limit - 1);
        Ok(hop_limit - 1)
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, value: Ipv6Addr) {
        write(self.buffer.as_mut(), field::SRC, value.octets());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, value: Ipv6Addr) {
        write(self.buffer.as_mut(), field::DST, value.octets());
    }
}

/// A fixed header in host terms, flow label zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Type of the header that follows.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes behind the fixed header.
    pub payload_len: u16,
}

impl Ipv6Repr {
    /// Reads the header of a checked packet.
    pub fn parse<T: AsRef<[u8]>>(packet: &Ipv6Packet<T>) -> Self {
        Self {
            src: packet.src(),
            dst: packet.dst(),
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            traffic_class: packet.traffic_class(),
            payload_len: packet.payload_len(),
        }
    }

    /// Writes [`HEADER_LEN`] bytes. Fails with [`Error::Truncated`].
    pub fn emit(&self, buffer: &mut [u8]) -> Result<(), Error> {
        error::need("IPv6", HEADER_LEN, buffer)?;
        write(buffer, 0..4, [0x60, 0, 0, 0]);
        let mut packet = Ipv6Packet { buffer };
        packet.set_traffic_class(self.traffic_class);
        packet.set_payload_len(self.payload_len);
        packet.set_next_header(self.next_header);
        packet.set_hop_limit(self.hop_limit);
        packet.set_src(self.src);
        packet.set_dst(self.dst);
        Ok(())
    }
}

/// The header behind the extension headers, as far as they are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UpperLayer {
    /// Its protocol. That of an extension header where the walk ended at one: at a fragment's
    /// header, at one too many, or at one that is not wholly there.
    pub(crate) protocol: u8,
    /// Where it begins, in bytes from the fixed header's start; may lie behind the packet.
    pub(crate) start: usize,
    /// Segments are left in a routing header: the destination address, which pseudo-headers
    /// cover, is not the final one yet (RFC 8200, section 8.1).
    pub(crate) routed: bool,
}

/// Walks the extension headers of a packet of at least [`HEADER_LEN`] bytes, in few instructions
/// and refusing nothing; [`crate::extension::walk_v6`] judges them. It stops at AH, whose
/// packets have no unfinished checksum. An atomic fragment,
/// which is the whole packet (RFC 6946), is walked through.
#[inline]
pub(crate) fn upper_layer(packet: &[u8]) -> UpperLayer {
    let mut at = UpperLayer {
        protocol: read_u8(packet, field::NEXT_HEADER),
        start: HEADER_LEN,
        routed: false,
    };
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(
            at.protocol,
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS
        ) {
            break;
        }
        // None is shorter than 8 bytes.
        let Some([next_header, length, high, low, ..]) = packet
            .get(at.start..)
            .and_then(|rest| rest.first_chunk::<8>())
        else {
            break;
        };
        let mut units = usize::from(*length) + 1;
        match at.protocol {
            FRAGMENT => {
                // Offset, two reserved bits, M; the length octet is reserved.
                if u16::from_be_bytes([*high, *low]) & 0xfff9 != 0 {
                    break;
                }
                units = 1;
            }
            ROUTING => at.routed |= *low != 0,
            _ => {}
        }
        at.start += units * 8;
        at.protocol = *next_header;
    }
    at
}

#[cfg(test)]
mod tests;
