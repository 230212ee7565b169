//! IPv6 extension headers (RFC 8200, section 4): from the fixed header to the upper-layer one.

use crate::field::{read, read_u8, read_u16};
use crate::ip::{PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::ipv6::HEADER_LEN;

/// Extension headers that are walked; a packet with more is refused.
pub const MAX_EXTENSIONS: usize = 8;
/// Bytes of extension headers that are walked; a packet with more is refused.
pub const MAX_EXTENSIONS_LEN: usize = 512;

/// Hop-by-hop options (RFC 8200, section 4.3).
pub const HOP_BY_HOP: u8 = 0;
/// Routing header (RFC 8200, section 4.4).
pub const ROUTING: u8 = 43;
/// Fragment header (RFC 8200, section 4.5).
pub const FRAGMENT: u8 = 44;
/// Authentication header (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Destination options (RFC 8200, section 4.6).
pub const DESTINATION_OPTIONS: u8 = 60;
/// Mobility header (RFC 6275).
pub const MOBILITY: u8 = 135;
/// Host Identity Protocol (RFC 7401).
pub const HIP: u8 = 139;
/// Shim6 (RFC 5533).
pub const SHIM6: u8 = 140;

/// Bytes of a fragment header.
const FRAGMENT_LEN: usize = 8;

/// What a fragment header says (RFC 8200, section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct V6Fragment {
    /// Where the payload lies in the fragmentable part, in bytes (a multiple of 8).
    pub offset_bytes: u16,
    /// The M flag: more fragments follow. An atomic fragment (RFC 6946) has none and offset 0.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

/// Where the extension headers end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Upper {
    /// The header at `offset`: the first that is not walked. In a fragment other than the first,
    /// the fragment header's next header, which is not at `offset`.
    pub protocol: u8,
    /// Bytes from the packet's start; at most the packet's length, and may be equal to it.
    pub offset: usize,
    /// The fragment header's content.
    pub fragment: Option<V6Fragment>,
    /// Where the fragment header is, in bytes from the packet's start.
    pub fragment_header: Option<usize>,
}

impl Upper {
    /// True when the upper-layer header is in another fragment.
    #[inline]
    #[must_use]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment
            .is_some_and(|fragment| fragment.offset_bytes != 0)
    }
}

/// Why the upper-layer header was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// The packet ends (by its payload length, or in the buffer) within a header.
    #[error("IPv6: the packet ends within its extension headers")]
    Truncated,
    /// More headers, or bytes of them, than [`MAX_EXTENSIONS`] or [`MAX_EXTENSIONS_LEN`].
    #[error("IPv6: more than {MAX_EXTENSIONS} extension headers or {MAX_EXTENSIONS_LEN} bytes")]
    TooMany,
    /// Not version 6, hop-by-hop options that are not first (RFC 8200, section 4.1), a second
    /// fragment header, or an authentication header too short (RFC 4302, section 2).
    #[error("IPv6: malformed extension headers")]
    Malformed,
    /// A routing header of type 0, whatever its segments left (RFC 5095).
    #[error("IPv6: a routing header of type 0 (RFC 5095)")]
    Type0Routing,
}

/// Walks the extension headers of `packet`, which begins with the fixed header. It may be the
/// first bytes of a longer packet, as long as the extension headers lie in them.
///
/// In a fragment other than the first the walk ends behind the fragment header. ESP (50) and "no
/// next header" (59) are upper-layer protocols here. A jumbogram (RFC 2675), whose payload length
/// is 0, is [`ExtensionError::Truncated`].
#[inline]
pub fn walk_v6(packet: &[u8]) -> Result<Upper, ExtensionError> {
    if packet.len() < HEADER_LEN {
        return Err(ExtensionError::Truncated);
    }
    if read_u8(packet, 0) >> 4 != 6 {
        return Err(ExtensionError::Malformed);
    }
    let next = read_u8(packet, 6);
    if matches!(next, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMPV6) {
        return Ok(Upper {
            protocol: next,
            offset: HEADER_LEN,
            fragment: None,
            fragment_header: None,
        });
    }
    walk(packet, next)
}

fn walk(packet: &[u8], first: u8) -> Result<Upper, ExtensionError> {
    let end = packet
        .len()
        .min(HEADER_LEN + usize::from(read_u16(packet, 4..6)));
    let mut upper = Upper {
        protocol: first,
        offset: HEADER_LEN,
        fragment: None,
        fragment_header: None,
    };
    // One round more than headers allowed: the last only sees that the next is none.
    for round in 0..=MAX_EXTENSIONS {
        let at = upper.offset;
        let length = match upper.protocol {
            HOP_BY_HOP if at != HEADER_LEN => return Err(ExtensionError::Malformed),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 | FRAGMENT
            | AUTHENTICATION
                if round == MAX_EXTENSIONS =>
            {
                return Err(ExtensionError::TooMany);
            }
            // Every header has at least 8 bytes.
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 | FRAGMENT
            | AUTHENTICATION
                if at + 8 > end =>
            {
                return Err(ExtensionError::Truncated);
            }
            FRAGMENT if upper.fragment.is_some() => return Err(ExtensionError::Malformed),
            FRAGMENT => {
                upper.fragment = Some(fragment(packet, at));
                upper.fragment_header = Some(at);
                FRAGMENT_LEN
            }
            // RFC 4302, section 2.2: in 32-bit words less 2, at least up to the sequence number.
            AUTHENTICATION => match read_u8(packet, at + 1) {
                0 => return Err(ExtensionError::Malformed),
                words => (usize::from(words) + 2) * 4,
            },
            ROUTING if read_u8(packet, at + 2) == 0 => return Err(ExtensionError::Type0Routing),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => {
                (usize::from(read_u8(packet, at + 1)) + 1) * 8
            }
            _ => return Ok(upper),
        };
        let behind = at + length;
        if behind - HEADER_LEN > MAX_EXTENSIONS_LEN {
            return Err(ExtensionError::TooMany);
        }
        if behind > end {
            return Err(ExtensionError::Truncated);
        }
        upper.protocol = read_u8(packet, at);
        upper.offset = behind;
        if upper.is_later_fragment() {
            return Ok(upper);
        }
    }
    Err(ExtensionError::TooMany)
}

fn fragment(packet: &[u8], at: usize) -> V6Fragment {
    let word = read_u16(packet, at + 2..at + 4);
    V6Fragment {
        offset_bytes: word & 0xfff8,
        more: word & 1 != 0,
        id: u32::from_be_bytes(read(packet, at + 4..at + 8)),
    }
}

#[cfg(test)]
mod tests;
