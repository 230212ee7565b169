//! Ethernet II frames (IEEE 802.3, clause 3), without the frame check sequence.

use crate::error::{self, Error};
use crate::field::{clamped, clamped_mut, read, read_u16, write, write_u16};

/// A 48-bit address in the order of the wire.
pub type Mac = [u8; 6];

/// Bytes before the payload.
pub const HEADER_LEN: usize = 14;
/// `FF:FF:FF:FF:FF:FF`.
pub const BROADCAST: Mac = [0xff; 6];

/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// An IEEE 802.1Q tag follows.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

mod field {
    use std::ops::Range;

    pub(super) const DST: Range<usize> = 0..6;
    pub(super) const SRC: Range<usize> = 6..12;
    pub(super) const ETHERTYPE: Range<usize> = 12..14;
}

/// A frame of at least [`HEADER_LEN`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EthernetFrame<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> EthernetFrame<T> {
    /// Fails with [`Error::Truncated`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        error::need("Ethernet", HEADER_LEN, buffer.as_ref())?;
        Ok(Self { buffer })
    }

    /// Gives the buffer back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Mac {
        read(self.buffer.as_ref(), field::DST)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Mac {
        read(self.buffer.as_ref(), field::SRC)
    }

    /// The type of the payload; a value below 0x0600 is an IEEE 802.3 length.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        read_u16(self.buffer.as_ref(), field::ETHERTYPE)
    }

    /// All that follows the header, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        clamped(self.buffer.as_ref(), HEADER_LEN, usize::MAX)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> EthernetFrame<T> {
    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, value: Mac) {
        write(self.buffer.as_mut(), field::DST, value);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, value: Mac) {
        write(self.buffer.as_mut(), field::SRC, value);
    }

    /// Sets the type of the payload.
    #[inline]
    pub fn set_ethertype(&mut self, value: u16) {
        write_u16(self.buffer.as_mut(), field::ETHERTYPE, value);
    }

    /// As [`EthernetFrame::payload`].
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        clamped_mut(self.buffer.as_mut(), HEADER_LEN, usize::MAX)
    }
}

/// An Ethernet header in host terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetRepr {
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// Type of the payload.
    pub ethertype: u16,
}

impl EthernetRepr {
    /// Reads the header of a checked frame.
    pub fn parse<T: AsRef<[u8]>>(frame: &EthernetFrame<T>) -> Self {
        Self {
            dst: frame.dst(),
            src: frame.src(),
            ethertype: frame.ethertype(),
        }
    }

    /// Writes [`HEADER_LEN`] bytes. Fails with [`Error::Truncated`].
    pub fn emit(&self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut frame = EthernetFrame::new_checked(buffer)?;
        frame.set_dst(self.dst);
        frame.set_src(self.src);
        frame.set_ethertype(self.ethertype);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 16] = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x08, 0x00, 0xaa, 0xbb,
    ];

    #[test]
    fn reads_fields() {
        let frame = EthernetFrame::new_checked(&FRAME[..]).expect("16 bytes are enough");
        assert_eq!(frame.dst(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(frame.src(), [7, 8, 9, 10, 11, 12]);
        assert_eq!(frame.ethertype(), ETHERTYPE_IPV4);
        assert_eq!(frame.payload(), [0xaa, 0xbb]);
    }

    #[test]
    fn header_alone_has_an_empty_payload() {
        let frame = EthernetFrame::new_checked(&FRAME[..HEADER_LEN]).expect("a whole header");
        assert!(frame.payload().is_empty());
    }

    #[test]
    fn refuses_short_frames() {
        assert_eq!(
            EthernetFrame::new_checked(&FRAME[..13]).err(),
            Some(Error::Truncated {
                what: "Ethernet",
                need: 14,
                have: 13
            })
        );
    }

    #[test]
    fn emits_what_it_parses() {
        let repr = EthernetRepr {
            dst: BROADCAST,
            src: [2; 6],
            ethertype: ETHERTYPE_ARP,
        };
        let mut buffer = [0u8; HEADER_LEN];
        repr.emit(&mut buffer).expect("the buffer holds a header");
        let frame = EthernetFrame::new_checked(&buffer).expect("just written");
        assert_eq!(EthernetRepr::parse(&frame), repr);
        assert!(repr.emit(&mut buffer[..13]).is_err());
    }
}
