//! What the stages ask of an IP packet of either family.

use shunt_encap::ethernet::HEADER_LEN;

/// Source and destination of a packet that may be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Routable {
    V4 { source: u32, destination: u32 },
    V6 { source: u128, destination: u128 },
}

/// The IP version of the packet that starts 14 bytes into a frame.
#[inline]
pub(super) fn version(data: &[u8]) -> u8 {
    data.get(HEADER_LEN).map_or(0, |first| first >> 4)
}

/// Source and destination of the IP packet that starts 14 bytes into a frame.
pub(super) fn addresses(data: &[u8]) -> Option<Routable> {
    match version(data) {
        4 => Some(Routable::V4 {
            source: u32::from_be_bytes(data.get(26..30)?.try_into().ok()?),
            destination: u32::from_be_bytes(data.get(30..34)?.try_into().ok()?),
        }),
        6 => Some(Routable::V6 {
            source: u128::from_be_bytes(data.get(22..38)?.try_into().ok()?),
            destination: u128::from_be_bytes(data.get(38..54)?.try_into().ok()?),
        }),
        _ => None,
    }
}
