//! The VXLAN header (RFC 7348, section 5): flags, 24 reserved bits, VNI, 8 reserved bits.

use crate::error::{self, Error};
use crate::field::{clamped, read, read_u8, write, write_u8};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// The I flag: the VNI is valid.
pub const FLAG_VNI: u8 = 0x08;
/// The UDP port that IANA assigned.
pub const PORT: u16 = 4789;
/// The UDP port of Linux' default and of Flannel.
pub const PORT_LINUX: u16 = 8472;
/// The largest VNI.
pub const MAX_VNI: u32 = 0x00ff_ffff;

mod field {
    use std::ops::Range;

    pub(super) const FLAGS: usize = 0;
    pub(super) const RESERVED1: Range<usize> = 1..4;
    pub(super) const VNI: Range<usize> = 4..7;
    pub(super) const RESERVED2: usize = 7;
}

/// A header with the I flag set and every reserved bit zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VxlanHeader<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> VxlanHeader<T> {
    /// Strict, as the Linux kernel is (drivers/net/vxlan/vxlan_core.c, `vxlan_rcv`): a set
    /// reserved bit means an extension that was not agreed upon, and the frame is refused, though
    /// RFC 7348 would ignore it.
    ///
    /// Fails with [`Error::Truncated`], [`Error::MissingVni`], [`Error::BadVxlanFlags`] or
    /// [`Error::BadVxlanReserved`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let data = buffer.as_ref();
        error::need("VXLAN", HEADER_LEN, data)?;
        let flags = read_u8(data, field::FLAGS);
        if flags & FLAG_VNI == 0 {
            return Err(Error::MissingVni(flags));
        }
        if flags != FLAG_VNI {
            return Err(Error::BadVxlanFlags(flags));
        }
        let header = Self { buffer };
        match (header.reserved1(), header.reserved2()) {
            (0, 0) => Ok(header),
            (0, last) => Err(Error::BadVxlanReserved(u32::from(last))),
            (first, _) => Err(Error::BadVxlanReserved(first)),
        }
    }

    /// Gives the buffer back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// The flags octet.
    #[inline]
    pub fn flags(&self) -> u8 {
        read_u8(self.buffer.as_ref(), field::FLAGS)
    }

    /// The 24 bits after the flags.
    #[inline]
    pub fn reserved1(&self) -> u32 {
        u24(read(self.buffer.as_ref(), field::RESERVED1))
    }

    /// The network, 24 bits.
    #[inline]
    pub fn vni(&self) -> u32 {
        u24(read(self.buffer.as_ref(), field::VNI))
    }

    /// The last octet.
    #[inline]
    pub fn reserved2(&self) -> u8 {
        read_u8(self.buffer.as_ref(), field::RESERVED2)
    }

    /// The inner Ethernet frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        clamped(self.buffer.as_ref(), HEADER_LEN, usize::MAX)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> VxlanHeader<T> {
    /// Sets the network. Fails with [`Error::BadVni`], the header unchanged.
    #[inline]
    pub fn set_vni(&mut self, value: u32) -> Result<(), Error> {
        write(self.buffer.as_mut(), field::VNI, vni_octets(value)?);
        Ok(())
    }
}

#[inline]
fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// The three octets of a VNI. Fails with [`Error::BadVni`].
#[inline]
fn vni_octets(vni: u32) -> Result<[u8; 3], Error> {
    match vni.to_be_bytes() {
        [0, a, b, c] => Ok([a, b, c]),
        _ => Err(Error::BadVni(vni)),
    }
}

/// A header in host terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanRepr {
    /// The network, 24 bits.
    pub vni: u32,
}

impl VxlanRepr {
    /// Reads a checked header.
    pub fn parse<T: AsRef<[u8]>>(header: &VxlanHeader<T>) -> Self {
        Self { vni: header.vni() }
    }

    /// Writes [`HEADER_LEN`] bytes. Fails with [`Error::Truncated`] or [`Error::BadVni`].
    pub fn emit(&self, buffer: &mut [u8]) -> Result<(), Error> {
        error::need("VXLAN", HEADER_LEN, buffer)?;
        let vni = vni_octets(self.vni)?;
        write_u8(buffer, field::FLAGS, FLAG_VNI);
        write(buffer, field::RESERVED1, [0; 3]);
        write(buffer, field::VNI, vni);
        write_u8(buffer, field::RESERVED2, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 9] = [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0xaa];

    #[test]
    fn reads_fields() {
        let header = VxlanHeader::new_checked(HEADER).expect("a sound header");
        assert_eq!(header.vni(), 0x12_3456);
        assert_eq!(
            (header.flags(), header.reserved1(), header.reserved2()),
            (0x08, 0, 0)
        );
        assert_eq!(header.payload(), [0xaa]);
    }

    #[test]
    fn refuses_every_single_wrong_bit() {
        for bit in 0..64 {
            let mut bytes = HEADER;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let result = VxlanHeader::new_checked(bytes);
            match bit / 8 {
                0 if bit == 3 => assert_eq!(result, Err(Error::MissingVni(0))),
                0 => assert_eq!(result, Err(Error::BadVxlanFlags(bytes[0]))),
                4..=6 => assert!(result.is_ok(), "bit {bit} belongs to the VNI"),
                7 => assert_eq!(result, Err(Error::BadVxlanReserved(1 << (bit % 8)))),
                octet => {
                    let value = 1 << (bit % 8) << (8 * (3 - octet));
                    assert_eq!(result, Err(Error::BadVxlanReserved(value)));
                }
            }
        }
        assert_eq!(
            VxlanHeader::new_checked(&HEADER[..7]).err(),
            Some(Error::Truncated {
                what: "VXLAN",
                need: 8,
                have: 7
            })
        );
    }

    #[test]
    fn emits_what_it_parses() {
        for vni in [0, 1, 4096, MAX_VNI] {
            let mut bytes = [0xff; HEADER_LEN];
            VxlanRepr { vni }
                .emit(&mut bytes)
                .expect("a VNI of 24 bits");
            let header = VxlanHeader::new_checked(bytes).expect("just written");
            assert_eq!(VxlanRepr::parse(&header), VxlanRepr { vni });
        }
    }

    #[test]
    fn refuses_a_vni_of_25_bits() {
        let mut bytes = HEADER;
        assert_eq!(
            VxlanRepr { vni: MAX_VNI + 1 }.emit(&mut bytes),
            Err(Error::BadVni(MAX_VNI + 1))
        );
        let mut header = VxlanHeader::new_checked(&mut bytes).expect("still whole");
        assert_eq!(header.set_vni(MAX_VNI + 1), Err(Error::BadVni(MAX_VNI + 1)));
        assert_eq!(header.vni(), 0x12_3456);
        assert_eq!(header.set_vni(7), Ok(()));
        assert_eq!(header.vni(), 7);
    }
}
