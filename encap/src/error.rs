//! Why bytes were refused.

/// Why a buffer is not what it was taken for, or a header cannot be written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The buffer ends before the header (or what a length field promises) does.
    #[error("{what}: {have} bytes, need {need}")]
    Truncated {
        /// The header.
        what: &'static str,
        /// Bytes needed.
        need: usize,
        /// Bytes present.
        have: usize,
    },
    /// The IP version field is not the one of this header.
    #[error("{what}: version field is {version}")]
    BadVersion {
        /// The header.
        what: &'static str,
        /// The field.
        version: u8,
    },
    /// The header length field is below the header's minimum.
    #[error("{what}: header length of {length} bytes is below the minimum")]
    BadHeaderLength {
        /// The header.
        what: &'static str,
        /// The field, in bytes.
        length: usize,
    },
    /// The length field contradicts the header, or the bytes that are present.
    #[error("{what}: length field says {length} bytes, which cannot be with {have} present")]
    BadTotalLength {
        /// The header.
        what: &'static str,
        /// The field, in bytes.
        length: usize,
        /// Bytes present.
        have: usize,
    },
    /// ARP for something else than IPv4 over Ethernet (RFC 826: `ar$hrd` 1, `ar$pro` 0x0800,
    /// `ar$hln` 6, `ar$pln` 4).
    #[error(
        "ARP: hardware type {hardware_type}, protocol type {protocol_type:#06x}, lengths \
         {hardware_len} and {protocol_len} are not those of IPv4 over Ethernet"
    )]
    BadArpFormat {
        /// `ar$hrd`.
        hardware_type: u16,
        /// `ar$pro`.
        protocol_type: u16,
        /// `ar$hln`, bytes.
        hardware_len: u8,
        /// `ar$pln`, bytes.
        protocol_len: u8,
    },
    /// `ar$op` is neither request (1) nor reply (2).
    #[error("ARP: operation {0} is neither request (1) nor reply (2)")]
    BadArpOperation(u16),
    /// The I flag is clear, so the header names no network (RFC 7348, section 5).
    #[error("VXLAN: the I flag is clear (flags {0:#04x}), so the VNI is not valid")]
    MissingVni(u8),
    /// A reserved bit of the flags octet is set.
    #[error("VXLAN: reserved bits are set in the flags {0:#04x}")]
    BadVxlanFlags(u8),
    /// A reserved field after the flags, or after the VNI, is not zero.
    #[error("VXLAN: a reserved field is {0:#x}, not zero")]
    BadVxlanReserved(u32),
    /// A VNI has 24 bits.
    #[error("VNI {0} does not fit 24 bits: choose one up to 16777215")]
    BadVni(u32),
    /// A DSCP has 6 bits.
    #[error("DSCP {0} does not fit 6 bits: choose one up to 63")]
    BadDscp(u8),
    /// The packet would be longer than its 16-bit length field can say.
    #[error("{what}: a payload of {payload} bytes overflows the 16-bit length field")]
    TooLong {
        /// The header with the length field.
        what: &'static str,
        /// Bytes behind the header.
        payload: usize,
    },
    /// The place for an outer header has another size than the header.
    #[error("outer header: {have} bytes given, give exactly {need}")]
    WrongSize {
        /// The header's length in bytes.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// A tunnel's two ends have addresses of two families.
    #[error("outer header: one address is IPv4, the other IPv6: give two of one family")]
    MixedFamilies,
    /// The packet may not be forwarded again (RFC 8200, section 3).
    #[error("IPv6: the hop limit is used up")]
    HopLimitExpired,
    /// The packet may not be forwarded again (RFC 1812, section 5.3.1).
    #[error("IPv4: TTL is used up")]
    TtlExpired,
}

/// `Ok` when `buffer` holds at least `need` bytes of the header `what`.
#[inline]
pub(crate) fn need(what: &'static str, need: usize, buffer: &[u8]) -> Result<(), Error> {
    if buffer.len() < need {
        return Err(Error::Truncated {
            what,
            need,
            have: buffer.len(),
        });
    }
    Ok(())
}
