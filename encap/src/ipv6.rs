//! IPv6, the fixed header only (RFC 8200, section 3); extension headers stay in the payload.

use std::net::Ipv6Addr;

use crate::error::{self, Error};
use crate::field::{clamped, read, read_u8, read_u16, write, write_u8, write_u16};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const VERSION_CLASS: Range<usize> = 0..2;
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
        if HEADER_LEN + length > data.len() {
            return Err(Error::BadTotalLength {
                what: "IPv6",
                length,
                have: data.len(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn repr() -> Ipv6Repr {
        Ipv6Repr {
            src: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
            dst: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
            next_header: 17,
            hop_limit: 64,
            traffic_class: 0xb9,
            payload_len: 2,
        }
    }

    #[test]
    fn emits_what_it_parses() {
        let mut bytes = [0xa5u8; 44];
        repr().emit(&mut bytes).expect("44 bytes hold a header");
        assert_eq!(&bytes[..8], [0x6b, 0x90, 0, 0, 0, 2, 17, 64]);
        let packet = Ipv6Packet::new_checked(&bytes).expect("just written");
        assert_eq!(Ipv6Repr::parse(&packet), repr());
        assert_eq!(packet.payload(), [0xa5, 0xa5]);
    }

    #[test]
    fn refuses_bad_headers() {
        let mut bytes = [0u8; 41];
        repr().emit(&mut bytes).expect("41 bytes hold a header");
        assert_eq!(
            Ipv6Packet::new_checked(&bytes).err(),
            Some(Error::BadTotalLength {
                what: "IPv6",
                length: 2,
                have: 41
            })
        );
        assert_eq!(
            Ipv6Packet::new_checked(&bytes[..39]).err(),
            Some(Error::Truncated {
                what: "IPv6",
                need: 40,
                have: 39
            })
        );
        bytes[0] = 0x45;
        assert_eq!(
            Ipv6Packet::new_checked(&bytes).err(),
            Some(Error::BadVersion {
                what: "IPv6",
                version: 4
            })
        );
    }

    #[test]
    fn traffic_class_keeps_version_and_flow_label() {
        let mut bytes = [0u8; HEADER_LEN];
        bytes[..4].copy_from_slice(&[0x6f, 0xf5, 0x12, 0x34]);
        let mut packet = Ipv6Packet::new_checked(&mut bytes).expect("an empty packet");
        packet.set_traffic_class(0x01);
        assert_eq!(packet.traffic_class(), 0x01);
        assert_eq!(&bytes[..4], [0x60, 0x15, 0x12, 0x34]);
    }
}
