//! TCP (RFC 9293), as far as ports, flags and checksums go.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum::Checksum;
use crate::error::{self, Error};
use crate::field::{clamped, read_u8, read_u16, write_u8, write_u16};
use crate::ip::PROTOCOL_TCP;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgment field is significant.
pub const ACK: u8 = 0x10;
/// The urgent pointer is significant.
pub const URG: u8 = 0x20;
/// ECN echo (RFC 3168).
pub const ECE: u8 = 0x40;
/// Congestion window reduced (RFC 3168).
pub const CWR: u8 = 0x80;

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const SRC_PORT: Range<usize> = 0..2;
    pub(crate) const DST_PORT: Range<usize> = 2..4;
    pub(crate) const DATA_OFFSET: usize = 12;
    pub(crate) const FLAGS: usize = 13;
    pub(crate) const CHECKSUM: Range<usize> = 16..18;
}

/// A segment whose header lies within the buffer. TCP has no length field: the buffer must be
/// exactly the segment, as [`crate::Ipv4Packet::payload`] gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpPacket<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> TcpPacket<T> {
    /// Fails with [`Error::Truncated`], or with [`Error::BadHeaderLength`] when the data offset is
    /// below 5.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let data = buffer.as_ref();
        error::need("TCP", HEADER_LEN, data)?;
        let length = usize::from(read_u8(data, field::DATA_OFFSET) >> 4) * 4;
        if length < HEADER_LEN {
            return Err(Error::BadHeaderLength {
                what: "TCP",
                length,
            });
        }
        error::need("TCP", length, data)?;
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

    /// Bytes of the header with its options: the data offset times 4.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(read_u8(self.buffer.as_ref(), field::DATA_OFFSET) >> 4) * 4
    }

    /// The control bits, as [`FIN`] to [`CWR`].
    #[inline]
    pub fn flags(&self) -> u8 {
        read_u8(self.buffer.as_ref(), field::FLAGS)
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        clamped(self.buffer.as_ref(), self.header_len(), usize::MAX)
    }

    /// True when the checksum is right.
    #[inline]
    pub fn verify_checksum_v4(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        self.sum_v4(src, dst).finish() == 0
    }

    /// As [`TcpPacket::verify_checksum_v4`] with the pseudo-header of IPv6 (RFC 8200, section
    /// 8.1); `dst` is the final destination, behind any routing header.
    #[inline]
    pub fn verify_checksum_v6(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        self.sum_v6(src, dst).finish() == 0
    }

    #[inline]
    fn sum_v6(&self, src: Ipv6Addr, dst: Ipv6Addr) -> Checksum {
        let data = self.buffer.as_ref();
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Checksum::new()
            .add_pseudo_v6(src, dst, PROTOCOL_TCP, len)
            .add(data)
    }

    #[inline]
    fn sum_v4(&self, src: Ipv4Addr, dst: Ipv4Addr) -> Checksum {
        let data = self.buffer.as_ref();
        // An IPv4 payload never exceeds 16 bits; beyond them no checksum can be right anyway.
        let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
        Checksum::new()
            .add_pseudo_v4(src, dst, PROTOCOL_TCP, len)
            .add(data)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> TcpPacket<T> {
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

    /// Sets the control bits.
    #[inline]
    pub fn set_flags(&mut self, value: u8) {
        write_u8(self.buffer.as_mut(), field::FLAGS, value);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::CHECKSUM, value);
    }

    /// Computes and sets the checksum.
    #[inline]
    pub fn fill_checksum_v4(&mut self, src: Ipv4Addr, dst: Ipv4Addr) {
        self.set_checksum(0);
        let checksum = self.sum_v4(src, dst).finish();
        self.set_checksum(checksum);
    }

    /// As [`TcpPacket::fill_checksum_v4`], over IPv6.
    #[inline]
    pub fn fill_checksum_v6(&mut self, src: Ipv6Addr, dst: Ipv6Addr) {
        self.set_checksum(0);
        let checksum = self.sum_v6(src, dst).finish();
        self.set_checksum(checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    /// Data offset 6: 4 bytes of options, then 3 of payload.
    fn segment() -> [u8; 27] {
        let mut bytes = [0u8; 27];
        bytes[..4].copy_from_slice(&[0x1f, 0x90, 0x00, 0x50]);
        bytes[12] = 0x60;
        bytes[13] = SYN | ACK;
        bytes[24..].copy_from_slice(b"abc");
        bytes
    }

    #[test]
    fn reads_fields() {
        let packet = TcpPacket::new_checked(segment()).expect("a sound segment");
        assert_eq!((packet.src_port(), packet.dst_port()), (8080, 80));
        assert_eq!(packet.header_len(), 24);
        assert_eq!(packet.flags(), SYN | ACK);
        assert_eq!(packet.payload(), b"abc");
    }

    #[test]
    fn refuses_bad_lengths() {
        for (data_offset, ok) in [(0, false), (4, false), (5, true), (6, true), (7, false)] {
            let mut bytes = segment();
            bytes[12] = data_offset << 4;
            assert_eq!(
                TcpPacket::new_checked(bytes).is_ok(),
                ok,
                "data offset {data_offset}"
            );
        }
        assert_eq!(
            TcpPacket::new_checked([0u8; 19]).err(),
            Some(Error::Truncated {
                what: "TCP",
                need: 20,
                have: 19
            })
        );
    }

    #[test]
    fn checksum_covers_ports_and_flags() {
        let mut packet = TcpPacket::new_checked(segment()).expect("a sound segment");
        packet.fill_checksum_v4(SRC, DST);
        assert!(packet.verify_checksum_v4(SRC, DST));
        packet.set_src_port(1);
        assert!(!packet.verify_checksum_v4(SRC, DST));
        packet.set_src_port(8080);
        packet.set_flags(RST);
        assert!(!packet.verify_checksum_v4(SRC, DST));
        packet.set_flags(SYN | ACK);
        assert!(packet.verify_checksum_v4(SRC, DST));
        assert!(!packet.verify_checksum_v4(SRC, SRC));
    }

    #[test]
    fn v6_checksum_covers_addresses_and_bytes() {
        let (src, dst) = (Ipv6Addr::LOCALHOST, Ipv6Addr::from(0xfd00 << 112 | 7));
        let mut packet = TcpPacket::new_checked(segment()).expect("a sound segment");
        packet.fill_checksum_v6(src, dst);
        assert!(packet.verify_checksum_v6(src, dst));
        assert!(!packet.verify_checksum_v6(src, src));
        assert!(!packet.verify_checksum_v4(SRC, DST));
        packet.set_dst_port(81);
        assert!(!packet.verify_checksum_v6(src, dst));
    }
}
