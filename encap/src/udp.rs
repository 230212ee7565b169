//! UDP (RFC 768).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum::Checksum;
use crate::error::{self, Error};
use crate::field::{clamped, clamped_mut, read_u16, write_u16};
use crate::ip::PROTOCOL_UDP;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const SRC_PORT: Range<usize> = 0..2;
    pub(crate) const DST_PORT: Range<usize> = 2..4;
    pub(crate) const LENGTH: Range<usize> = 4..6;
    pub(crate) const CHECKSUM: Range<usize> = 6..8;
}

/// A datagram whose length field lies within the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpPacket<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> UdpPacket<T> {
    /// Fails with [`Error::Truncated`], or with [`Error::BadTotalLength`] unless
    /// `8 <= length field <= buffer`.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let data = buffer.as_ref();
        error::need("UDP", HEADER_LEN, data)?;
        let length = usize::from(read_u16(data, field::LENGTH));
        if length < HEADER_LEN || length > data.len() {
            return Err(Error::BadTotalLength {
                what: "UDP",
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

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::SRC_PORT)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::DST_PORT)
    }

    /// Bytes of header and payload.
    #[inline]
    pub fn length(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::LENGTH)
    }

    /// Checksum; 0 means none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// What follows the header, up to the length field.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        clamped(self.buffer.as_ref(), HEADER_LEN, usize::from(self.length()))
    }

    /// True when the checksum is right, or there is none.
    #[inline]
    pub fn verify_checksum_v4(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        self.checksum() == 0 || self.sum_v4(src, dst).finish() == 0
    }

    /// True when the checksum is right with the pseudo-header of IPv6 (RFC 8200, section 8.1);
    /// `dst` is the final destination, behind any routing header.
    ///
    /// None (0) is not right here. Tunnels may be allowed it (RFC 6935): ask
    /// [`UdpPacket::checksum`] first.
    #[inline]
    pub fn verify_checksum_v6(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        self.checksum() != 0 && self.sum_v6(src, dst).finish() == 0
    }

    #[inline]
    fn sum_v6(&self, src: Ipv6Addr, dst: Ipv6Addr) -> Checksum {
        let length = self.length();
        Checksum::new()
            .add_pseudo_v6(src, dst, PROTOCOL_UDP, length.into())
            .add(clamped(self.buffer.as_ref(), 0, usize::from(length)))
    }

    #[inline]
    fn sum_v4(&self, src: Ipv4Addr, dst: Ipv4Addr) -> Checksum {
        let length = self.length();
        Checksum::new()
            .add_pseudo_v4(src, dst, PROTOCOL_UDP, length)
            .add(clamped(self.buffer.as_ref(), 0, usize::from(length)))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> UdpPacket<T> {
    /// Sets the source port.
    #[inline]
    pub fn set_src_port(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::SRC_PORT, value);
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::DST_PORT, value);
    }

    /// Sets the bytes of header and payload.
    #[inline]
    pub fn set_length(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::LENGTH, value);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::CHECKSUM, value);
    }

    /// As [`UdpPacket::payload`].
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = usize::from(self.length());
        clamped_mut(self.buffer.as_mut(), HEADER_LEN, end)
    }

    /// Computes and sets the checksum.
    #[inline]
    pub fn fill_checksum_v4(&mut self, src: Ipv4Addr, dst: Ipv4Addr) {
        self.set_checksum(0);
        let checksum = self.sum_v4(src, dst).finish_udp();
        self.set_checksum(checksum);
    }

    /// As [`UdpPacket::fill_checksum_v4`], over IPv6.
    #[inline]
    pub fn fill_checksum_v6(&mut self, src: Ipv6Addr, dst: Ipv6Addr) {
        self.set_checksum(0);
        let checksum = self.sum_v6(src, dst).finish_udp();
        self.set_checksum(checksum);
    }
}

/// A header in host terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of the payload.
    pub payload_len: u16,
}

impl UdpRepr {
    /// Reads the header of a checked datagram.
    pub fn parse<T: AsRef<[u8]>>(packet: &UdpPacket<T>) -> Self {
        Self {
            src_port: packet.src_port(),
            dst_port: packet.dst_port(),
            payload_len: packet.length().saturating_sub(HEADER_LEN as u16),
        }
    }

    /// Writes [`HEADER_LEN`] bytes without a checksum (0).
    ///
    /// Fails with [`Error::Truncated`], or with [`Error::TooLong`] when header and payload exceed
    /// 65535 bytes.
    pub fn emit(&self, buffer: &mut [u8]) -> Result<(), Error> {
        error::need("UDP", HEADER_LEN, buffer)?;
        let length = self
            .payload_len
            .checked_add(HEADER_LEN as u16)
            .ok_or(Error::TooLong {
                what: "UDP",
                payload: usize::from(self.payload_len),
            })?;
        let mut packet = UdpPacket { buffer };
        packet.set_src_port(self.src_port);
        packet.set_dst_port(self.dst_port);
        packet.set_length(length);
        packet.set_checksum(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn datagram() -> [u8; 13] {
        let mut bytes = [0x5a; 13];
        let repr = UdpRepr {
            src_port: 1000,
            dst_port: 53,
            payload_len: 3,
        };
        repr.emit(&mut bytes).expect("13 bytes hold a header");
        bytes
    }

    #[test]
    fn emits_what_it_parses_and_trims_padding() {
        let packet = UdpPacket::new_checked(datagram()).expect("a sound datagram");
        assert_eq!(
            UdpRepr::parse(&packet),
            UdpRepr {
                src_port: 1000,
                dst_port: 53,
                payload_len: 3
            }
        );
        assert_eq!(packet.length(), 11);
        assert_eq!(packet.payload(), [0x5a; 3]);
    }

    #[test]
    fn checksum_is_right_wrong_or_none() {
        let mut packet = UdpPacket::new_checked(datagram()).expect("a sound datagram");
        assert!(packet.verify_checksum_v4(SRC, DST), "none is right");
        packet.fill_checksum_v4(SRC, DST);
        assert_ne!(packet.checksum(), 0);
        assert!(packet.verify_checksum_v4(SRC, DST));
        packet.payload_mut()[0] ^= 1;
        assert!(!packet.verify_checksum_v4(SRC, DST));
    }

    #[test]
    fn refuses_bad_lengths() {
        for (length, ok) in [(0, false), (7, false), (8, true), (13, true), (14, false)] {
            let mut bytes = datagram();
            bytes[5] = length;
            assert_eq!(UdpPacket::new_checked(bytes).is_ok(), ok, "length {length}");
        }
        assert_eq!(
            UdpPacket::new_checked([0u8; 7]).err(),
            Some(Error::Truncated {
                what: "UDP",
                need: 8,
                have: 7
            })
        );
        let long = UdpRepr {
            src_port: 1,
            dst_port: 2,
            payload_len: 65528,
        };
        assert_eq!(
            long.emit(&mut [0; 8]),
            Err(Error::TooLong {
                what: "UDP",
                payload: 65528
            })
        );
    }

    #[test]
    fn v6_checksum_is_right_or_wrong_and_none_is_wrong() {
        let (src, dst) = (Ipv6Addr::LOCALHOST, Ipv6Addr::from(0xfd00 << 112 | 7));
        let mut packet = UdpPacket::new_checked(datagram()).expect("a sound datagram");
        assert!(!packet.verify_checksum_v6(src, dst), "none is not enough");
        packet.fill_checksum_v6(src, dst);
        assert!(packet.verify_checksum_v6(src, dst));
        assert!(!packet.verify_checksum_v6(src, src));
        assert!(!packet.verify_checksum_v4(SRC, DST));
        // A sum of zero is sent as 0xffff.
        let sum = packet.checksum();
        packet.payload_mut()[..2].copy_from_slice(&[0, 0]);
        packet.fill_checksum_v6(src, dst);
        let missing = packet.checksum();
        packet.payload_mut()[..2].copy_from_slice(&missing.to_be_bytes());
        packet.fill_checksum_v6(src, dst);
        assert_eq!(packet.checksum(), 0xffff);
        assert!(packet.verify_checksum_v6(src, dst));
        assert_ne!(sum, 0xffff);
    }
}
