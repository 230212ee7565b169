//! IPv4 (RFC 791; the TOS octet as DSCP and ECN, RFC 2474 and RFC 3168).

use std::net::Ipv4Addr;

use crate::checksum::{Checksum, update_u16};
use crate::ecn::Ecn;
use crate::error::{self, Error};
use crate::field::{clamped, clamped_mut, read, read_u8, read_u16, write, write_u8, write_u16};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const VERSION_IHL: usize = 0;
    pub(crate) const TOS: usize = 1;
    pub(crate) const TOTAL_LEN: Range<usize> = 2..4;
    pub(crate) const IDENT: Range<usize> = 4..6;
    pub(crate) const FLAGS_OFFSET: Range<usize> = 6..8;
    pub(crate) const TTL: usize = 8;
    pub(crate) const PROTOCOL: usize = 9;
    pub(crate) const CHECKSUM: Range<usize> = 10..12;
    pub(crate) const SRC: Range<usize> = 12..16;
    pub(crate) const DST: Range<usize> = 16..20;
}

/// DF in the flags and fragment offset field.
const DONT_FRAGMENT: u16 = 0x4000;
/// MF in the same field.
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// A packet whose header and length are sound. Bytes beyond the total length (Ethernet padding)
/// may follow in the buffer and are never part of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4Packet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ipv4Packet<T> {
    /// Checks version, IHL and total length (`IHL * 4 <= total length <= buffer`), not the
    /// checksum: see [`Ipv4Packet::verify_checksum`].
    ///
    /// Fails with [`Error::Truncated`], [`Error::BadVersion`], [`Error::BadHeaderLength`] or
    /// [`Error::BadTotalLength`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let available = buffer.as_ref().len();
        Self::new_checked_head(buffer, available)
    }

    /// As [`Ipv4Packet::new_checked`] when the buffer holds only the first part of a packet, as
    /// the first descriptor of a multi-buffer frame does: the header must lie in it, the total
    /// length may reach up to `available` bytes. The payload ends with the buffer.
    #[inline]
    pub fn new_checked_head(buffer: T, available: usize) -> Result<Self, Error> {
        let data = buffer.as_ref();
        error::need("IPv4", HEADER_LEN, data)?;
        let version_ihl = read_u8(data, field::VERSION_IHL);
        if version_ihl >> 4 != 4 {
            return Err(Error::BadVersion {
                what: "IPv4",
                version: version_ihl >> 4,
            });
        }
        let header_len = usize::from(version_ihl & 0x0f) * 4;
        if header_len < HEADER_LEN {
            return Err(Error::BadHeaderLength {
                what: "IPv4",
                length: header_len,
            });
        }
        error::need("IPv4", header_len, data)?;
        let length = usize::from(read_u16(data, field::TOTAL_LEN));
        if length < header_len || length > available {
            return Err(Error::BadTotalLength {
                what: "IPv4",
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

    /// Bytes of the header with its options.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(read_u8(self.buffer.as_ref(), field::VERSION_IHL) & 0x0f) * 4
    }

    /// The TOS octet: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        read_u8(self.buffer.as_ref(), field::TOS)
    }

    /// The upper 6 bits of the TOS octet.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.tos() >> 2
    }

    /// The lower 2 bits of the TOS octet.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.tos())
    }

    /// Bytes of header and payload.
    #[inline]
    pub fn total_len(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::TOTAL_LEN)
    }

    /// Identification.
    #[inline]
    pub fn ident(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::IDENT)
    }

    /// DF.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_offset() & DONT_FRAGMENT != 0
    }

    /// MF.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.flags_offset() & MORE_FRAGMENTS != 0
    }

    /// Where the payload lies in the datagram, in bytes (a multiple of 8).
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (self.flags_offset() & OFFSET_MASK) << 3
    }

    /// True for every fragment, the first included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.flags_offset() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Time to live, hops.
    #[inline]
    pub fn ttl(&self) -> u8 {
        read_u8(self.buffer.as_ref(), field::TTL)
    }

    /// Protocol of the payload: see [`crate::ip`].
    #[inline]
    pub fn protocol(&self) -> u8 {
        read_u8(self.buffer.as_ref(), field::PROTOCOL)
    }

    /// Header checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(read(self.buffer.as_ref(), field::SRC))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(read(self.buffer.as_ref(), field::DST))
    }

    /// The options with their padding; most often empty.
    #[inline]
    pub fn options(&self) -> &[u8] {
        clamped(self.buffer.as_ref(), HEADER_LEN, self.header_len())
    }

    /// What follows the header, up to the total length.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        clamped(
            self.buffer.as_ref(),
            self.header_len(),
            usize::from(self.total_len()),
        )
    }

    /// True when the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        if self.header_len() == HEADER_LEN
            && let Some(header) = self.buffer.as_ref().first_chunk::<HEADER_LEN>()
        {
            return crate::checksum::is_right_20(header);
        }
        Checksum::new()
            .add(clamped(self.buffer.as_ref(), 0, self.header_len()))
            .finish()
            == 0
    }

    #[inline]
    fn flags_offset(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::FLAGS_OFFSET)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4Packet<T> {
    /// Sets the TOS octet and leaves the checksum; see [`Ipv4Packet::set_tos_incremental`].
    #[inline]
    pub fn set_tos(&mut self, value: u8) {
        write_u8(self.buffer.as_mut(), field::TOS, value);
    }

    /// Sets the upper 6 bits of the TOS octet; the upper 2 bits of `value` are ignored.
    #[inline]
    pub fn set_dscp(&mut self, value: u8) {
        self.set_tos(value << 2 | self.tos() & 0b11);
    }

    /// Sets the lower 2 bits of the TOS octet.
    #[inline]
    pub fn set_ecn(&mut self, value: Ecn) {
        self.set_tos(value.into_tos(self.tos()));
    }

    /// Sets the bytes of header and payload.
    #[inline]
    pub fn set_total_len(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::TOTAL_LEN, value);
    }

    /// Sets the identification.
    #[inline]
    pub fn set_ident(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::IDENT, value);
    }

    /// Sets DF, MF, and the fragment offset in bytes, of which the lower 3 bits are ignored.
    #[inline]
    pub fn set_fragment(&mut self, dont_fragment: bool, more_fragments: bool, offset: u16) {
        let df = if dont_fragment { DONT_FRAGMENT } else { 0 };
        let mf = if more_fragments { MORE_FRAGMENTS } else { 0 };
        write_u16(
            self.buffer.as_mut(),
            field::FLAGS_OFFSET,
            df | mf | offset >> 3,
        );
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, value: u8) {
        write_u8(self.buffer.as_mut(), field::TTL, value);
    }

    /// Sets the protocol of the payload.
    #[inline]
    pub fn set_protocol(&mut self, value: u8) {
        write_u8(self.buffer.as_mut(), field::PROTOCOL, value);
    }

    /// Sets the header checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::CHECKSUM, value);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, value: Ipv4Addr) {
        write(self.buffer.as_mut(), field::SRC, value.octets());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, value: Ipv4Addr) {
        write(self.buffer.as_mut(), field::DST, value.octets());
    }

    /// As [`Ipv4Packet::options`].
    #[inline]
    pub fn options_mut(&mut self) -> &mut [u8] {
        let end = self.header_len();
        clamped_mut(self.buffer.as_mut(), HEADER_LEN, end)
    }

    /// As [`Ipv4Packet::payload`].
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (from, to) = (self.header_len(), usize::from(self.total_len()));
        clamped_mut(self.buffer.as_mut(), from, to)
    }

    /// Computes and sets the header checksum.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let header = clamped(self.buffer.as_ref(), 0, self.header_len());
        let checksum = Checksum::new().add(header).finish();
        self.set_checksum(checksum);
    }

    /// Takes one hop off the TTL, updates the checksum (RFC 1624), and returns the new TTL.
    ///
    /// Fails with [`Error::TtlExpired`], the packet unchanged, when none would be left (RFC 1812,
    /// section 5.3.1).
    #[inline]
    pub fn decrement_ttl(&mut self) -> Result<u8, Error> {
        let ttl = self.ttl();
        if ttl <= 1 {
            return Err(Error::TtlExpired);
        }
        // TTL is the upper octet of its word; the lower one, the protocol, does not change.
        let (old, new) = (u16::from(ttl) << 8, u16::from(ttl - 1) << 8);
        self.set_ttl(ttl - 1);
        self.set_checksum(update_u16(self.checksum(), old, new));
        Ok(ttl - 1)
    }

    /// Sets the TOS octet and updates the checksum (RFC 1624).
    #[inline]
    pub fn set_tos_incremental(&mut self, value: u8) {
        let (old, new) = (u16::from(self.tos()), u16::from(value));
        self.set_tos(value);
        self.set_checksum(update_u16(self.checksum(), old, new));
    }
}

/// A header without options in host terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live, hops.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification; means nothing with DF (RFC 6864).
    pub ident: u16,
    /// DF.
    pub dont_fragment: bool,
    /// Bytes of the payload.
    pub payload_len: u16,
}

impl Ipv4Repr {
    /// Reads the header of a checked packet; options and fragment offset are not represented.
    pub fn parse<T: AsRef<[u8]>>(packet: &Ipv4Packet<T>) -> Self {
        Self {
            src: packet.src(),
            dst: packet.dst(),
            protocol: packet.protocol(),
            ttl: packet.ttl(),
            tos: packet.tos(),
            ident: packet.ident(),
            dont_fragment: packet.dont_fragment(),
            payload_len: (usize::from(packet.total_len()).saturating_sub(packet.header_len()))
                as u16,
        }
    }

    /// Writes [`HEADER_LEN`] bytes, checksum included.
    ///
    /// Fails with [`Error::Truncated`], or with [`Error::TooLong`] when header and payload exceed
    /// 65535 bytes.
    pub fn emit(&self, buffer: &mut [u8]) -> Result<(), Error> {
        error::need("IPv4", HEADER_LEN, buffer)?;
        let total_len = self
            .payload_len
            .checked_add(HEADER_LEN as u16)
            .ok_or(Error::TooLong {
                what: "IPv4",
                payload: usize::from(self.payload_len),
            })?;
        write_u8(buffer, field::VERSION_IHL, 0x45);
        let mut packet = Ipv4Packet { buffer };
        packet.set_tos(self.tos);
        packet.set_total_len(total_len);
        packet.set_ident(self.ident);
        packet.set_fragment(self.dont_fragment, false, 0);
        packet.set_ttl(self.ttl);
        packet.set_protocol(self.protocol);
        packet.set_src(self.src);
        packet.set_dst(self.dst);
        packet.fill_checksum();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 20-byte header, 4 bytes of payload, 2 bytes of padding.
    const PACKET: [u8; 26] = [
        0x45, 0xb9, 0x00, 0x18, 0x12, 0x34, 0x40, 0x00, 0x40, 0x11, 0x12, 0xc4, 0x0a, 0xf4, 0x01,
        0x02, 0x0a, 0xf4, 0x02, 0x03, 0xde, 0xad, 0xbe, 0xef, 0x00, 0x00,
    ];

    fn packet() -> Ipv4Packet<[u8; 26]> {
        let mut packet = Ipv4Packet::new_checked(PACKET).expect("the packet is sound");
        packet.fill_checksum();
        packet
    }

    #[test]
    fn reads_fields() {
        let packet = packet();
        assert_eq!(packet.header_len(), 20);
        assert_eq!(
            (packet.tos(), packet.dscp(), packet.ecn()),
            (0xb9, 46, Ecn::Ect1)
        );
        assert_eq!(packet.total_len(), 24);
        assert_eq!(packet.ident(), 0x1234);
        assert!(packet.dont_fragment() && !packet.more_fragments() && !packet.is_fragment());
        assert_eq!(packet.fragment_offset(), 0);
        assert_eq!((packet.ttl(), packet.protocol()), (64, 17));
        assert_eq!(packet.src(), Ipv4Addr::new(10, 244, 1, 2));
        assert_eq!(packet.dst(), Ipv4Addr::new(10, 244, 2, 3));
        assert!(packet.options().is_empty());
        assert_eq!(packet.payload(), [0xde, 0xad, 0xbe, 0xef]);
        assert!(packet.verify_checksum());
    }

    #[test]
    fn refuses_each_wrong_length_and_version() {
        let refused = |at: usize, value: u8| {
            let mut bytes = PACKET;
            bytes[at] = value;
            Ipv4Packet::new_checked(bytes).err()
        };
        assert_eq!(
            refused(0, 0x65),
            Some(Error::BadVersion {
                what: "IPv4",
                version: 6
            })
        );
        assert_eq!(
            refused(0, 0x44),
            Some(Error::BadHeaderLength {
                what: "IPv4",
                length: 16
            })
        );
        assert_eq!(
            refused(0, 0x47),
            Some(Error::Truncated {
                what: "IPv4",
                need: 28,
                have: 26
            })
        );
        assert_eq!(
            refused(3, 19),
            Some(Error::BadTotalLength {
                what: "IPv4",
                length: 19,
                have: 26
            })
        );
        assert_eq!(
            refused(3, 27),
            Some(Error::BadTotalLength {
                what: "IPv4",
                length: 27,
                have: 26
            })
        );
        assert_eq!(refused(3, 26), None);
        assert_eq!(refused(3, 20), None);
        assert_eq!(
            Ipv4Packet::new_checked(&PACKET[..19]).err(),
            Some(Error::Truncated {
                what: "IPv4",
                need: 20,
                have: 19
            })
        );
    }

    #[test]
    fn head_of_a_longer_packet() {
        let mut bytes = PACKET;
        bytes[2..4].copy_from_slice(&9000u16.to_be_bytes());
        assert!(Ipv4Packet::new_checked(bytes).is_err());
        assert!(Ipv4Packet::new_checked_head(bytes, 8999).is_err());
        let packet = Ipv4Packet::new_checked_head(bytes, 9000).expect("9000 bytes are there");
        assert_eq!(packet.payload().len(), 6);
    }

    #[test]
    fn options_are_apart_from_the_payload() {
        let mut bytes = PACKET;
        bytes[0] = 0x46;
        let packet = Ipv4Packet::new_checked(bytes).expect("IHL 6 fits 24 bytes");
        assert_eq!(packet.options(), [0xde, 0xad, 0xbe, 0xef]);
        assert!(packet.payload().is_empty());
    }

    #[test]
    fn fragments() {
        let mut packet = packet();
        packet.set_fragment(false, true, 0);
        assert!(packet.is_fragment() && packet.more_fragments() && !packet.dont_fragment());
        packet.set_fragment(false, false, 1480);
        assert!(packet.is_fragment() && !packet.more_fragments());
        assert_eq!(packet.fragment_offset(), 1480);
        packet.set_fragment(true, false, 0);
        assert!(!packet.is_fragment() && packet.dont_fragment());
    }

    #[test]
    fn every_ttl_and_tos_update_equals_the_recomputed_checksum() {
        for ttl in 2..=255u8 {
            let mut packet = packet();
            packet.set_ttl(ttl);
            packet.fill_checksum();
            assert_eq!(packet.decrement_ttl(), Ok(ttl - 1));
            let incremental = packet.checksum();
            packet.fill_checksum();
            assert_eq!((incremental, packet.ttl()), (packet.checksum(), ttl - 1));
        }
        for tos in 0..=255u8 {
            let mut packet = packet();
            packet.set_tos_incremental(tos);
            let incremental = packet.checksum();
            packet.fill_checksum();
            assert_eq!((incremental, packet.tos()), (packet.checksum(), tos));
        }
    }

    #[test]
    fn ttl_is_not_taken_below_one() {
        for ttl in [0, 1] {
            let mut packet = packet();
            packet.set_ttl(ttl);
            let before = packet.clone();
            assert_eq!(packet.decrement_ttl(), Err(Error::TtlExpired));
            assert_eq!(packet, before);
        }
    }

    #[test]
    fn dscp_and_ecn_do_not_touch_each_other() {
        let mut packet = packet();
        packet.set_dscp(0);
        assert_eq!(packet.tos(), 0b01);
        packet.set_ecn(Ecn::Ce);
        packet.set_dscp(63);
        assert_eq!(packet.tos(), 0xff);
    }

    #[test]
    fn emit_refuses_what_does_not_fit() {
        let mut repr = Ipv4Repr::parse(&packet());
        let mut out = [0u8; HEADER_LEN];
        assert!(repr.emit(&mut out[..19]).is_err());
        repr.payload_len = 65516;
        assert_eq!(
            repr.emit(&mut out),
            Err(Error::TooLong {
                what: "IPv4",
                payload: 65516
            })
        );
        repr.payload_len = 65515;
        assert_eq!(repr.emit(&mut out), Ok(()));
    }

    #[test]
    fn lengths_spoilt_after_the_check_are_clamped() {
        let mut packet = packet();
        packet.set_total_len(0xffff);
        assert_eq!(packet.payload().len(), 6);
        packet.set_total_len(3);
        assert!(packet.payload().is_empty() && packet.payload_mut().is_empty());
        assert_eq!(Ipv4Repr::parse(&packet).payload_len, 0);
    }
}
