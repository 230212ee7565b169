//! What every IPv4 packet is asked, wherever it came from.

use std::net::Ipv4Addr;

use shunt_afxdp::{Csum, Frame, Offload, Pool};
use shunt_encap::ethernet::HEADER_LEN;
use shunt_encap::{Error, Ipv4Packet, PartialChecksum, is_partial_l4_v4};

use crate::stats::DropReason;

/// A packet that may be routed.
pub(super) struct Routable {
    pub(super) source: u32,
    pub(super) destination: u32,
}

/// Checks the IPv4 packet that starts 14 bytes into `frame` as a router must (RFC 1812, 5.2.2 and
/// 5.3.7), cuts off what follows it (the padding of short Ethernet frames), and notes a checksum
/// that the sender left to its hardware.
#[inline]
pub(super) fn admit(
    frame: &mut Frame,
    pool: &mut Pool,
    partial_checksums: bool,
) -> Result<Routable, DropReason> {
    let length = frame.len();
    let available = length.saturating_sub(HEADER_LEN);
    let (routable, total_len, partial) = {
        let data = frame.data(pool.umem());
        let bytes = data.get(HEADER_LEN..).ok_or(DropReason::TruncatedFrame)?;
        let packet = Ipv4Packet::new_checked_head(bytes, available).map_err(malformed)?;
        if !packet.verify_checksum() {
            return Err(DropReason::BadIpChecksum);
        }
        if packet.ttl() <= 1 {
            return Err(DropReason::TtlExpired);
        }
        let (source, destination) = (packet.src(), packet.dst());
        if is_martian(source) {
            return Err(DropReason::MartianSource);
        }
        if destination.is_multicast() || destination.is_broadcast() {
            return Err(DropReason::MulticastNotRouted);
        }
        let partial = if partial_checksums {
            is_partial_l4_v4(bytes)
        } else {
            None
        };
        let routable = Routable {
            source: source.into(),
            destination: destination.into(),
        };
        (routable, usize::from(packet.total_len()), partial)
    };
    if HEADER_LEN + total_len < length {
        frame.truncate(pool, HEADER_LEN + total_len);
    }
    if let Some(partial) = partial {
        note_partial(frame, partial);
    }
    Ok(routable)
}

/// Notes on a bridged frame a checksum that the sender left to its hardware.
#[inline]
pub(super) fn note_partial_l4(frame: &mut Frame, pool: &Pool) {
    let length = frame.len();
    let partial = {
        let Some(bytes) = frame.data(pool.umem()).get(HEADER_LEN..) else {
            return;
        };
        // Such a frame never crossed a wire, so nothing pads it; what follows would be summed.
        let whole = Ipv4Packet::new_checked_head(bytes, length - HEADER_LEN)
            .is_ok_and(|packet| HEADER_LEN + usize::from(packet.total_len()) == length);
        if whole { is_partial_l4_v4(bytes) } else { None }
    };
    if let Some(partial) = partial {
        note_partial(frame, partial);
    }
}

#[inline]
fn note_partial(frame: &mut Frame, partial: PartialChecksum) {
    // Both lie within the first bytes of a received frame, far below the limit of 16 bits.
    let csum = Csum {
        start: partial.start.saturating_add(HEADER_LEN as u16),
        offset: partial.offset.saturating_sub(partial.start),
    };
    frame.set_offload(Offload { csum: Some(csum) });
}

/// Source and destination of the IPv4 packet that starts 14 bytes into a frame.
pub(super) fn addresses(data: &[u8]) -> Option<(u32, u32)> {
    let source = data.get(26..30)?.try_into().ok()?;
    let destination = data.get(30..34)?.try_into().ok()?;
    Some((u32::from_be_bytes(source), u32::from_be_bytes(destination)))
}

pub(super) fn malformed(error: Error) -> DropReason {
    match error {
        Error::Truncated { .. } => DropReason::TruncatedFrame,
        _ => DropReason::BadIpHeader,
    }
}

/// An address that no host can send from (RFC 1812, 5.3.7).
#[inline]
pub(super) fn is_martian(source: Ipv4Addr) -> bool {
    source.is_multicast()
        || source.is_loopback()
        || source.is_broadcast()
        || source.is_unspecified()
}
