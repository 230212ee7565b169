//! What every IPv4 packet is asked, wherever it came from.

use std::net::Ipv4Addr;

use shunt_afxdp::{Frame, Pool};
use shunt_encap::ethernet::HEADER_LEN;
use shunt_encap::ip::PROTOCOL_SCTP;
use shunt_encap::{Error, Ipv4Packet, is_partial_l4_v4};

use super::{Context, guard, partial};
use crate::stats::DropReason;

/// Checks the IPv4 packet that starts 14 bytes into `frame` as a router must (RFC 1812, 5.2.2 and
/// 5.3.7), cuts off what follows it (the padding of short Ethernet frames), and notes a checksum
/// that the sender left to its hardware. Returns source and destination.
#[inline]
pub(super) fn admit(
    context: &mut Context<'_>,
    frame: &mut Frame,
) -> Result<(u32, u32), DropReason> {
    let length = frame.len();
    let available = length.saturating_sub(HEADER_LEN);
    let (source, destination, total_len, partial, sctp) = {
        let data = frame.data(context.pool.umem());
        let bytes = data.get(HEADER_LEN..).ok_or(DropReason::TruncatedFrame)?;
        let packet = Ipv4Packet::new_checked_head(bytes, available).map_err(malformed)?;
        if !packet.verify_checksum() {
            return Err(DropReason::BadIpChecksum);
        }
        let (source, destination) = (packet.src(), packet.dst());
        if is_martian(source) {
            return Err(DropReason::MartianSource);
        }
        if destination.is_multicast() || destination.is_broadcast() {
            return Err(DropReason::MulticastNotRouted);
        }
        if let Some(guard) = &context.entry.guard {
            guard::ipv4(context, guard, &packet)?;
        }
        let (partial, sctp) = if context.entry.partial_checksums {
            (is_partial_l4_v4(bytes), packet.protocol() == PROTOCOL_SCTP)
        } else {
            (None, false)
        };
        let total_len = usize::from(packet.total_len());
        (source, destination, total_len, partial, sctp)
    };
    trim(frame, context.pool, HEADER_LEN + total_len);
    if let Some(partial) = partial {
        partial::note(frame, partial);
    }
    if sctp {
        partial::complete_sctp(frame, context.pool);
    }
    Ok((source.into(), destination.into()))
}

/// Cuts off what follows a packet that ends `end` bytes into the frame.
#[inline]
pub(super) fn trim(frame: &mut Frame, pool: &mut Pool, end: usize) {
    if end < frame.len() {
        frame.truncate(pool, end);
    }
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
