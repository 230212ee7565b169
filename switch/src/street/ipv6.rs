//! What every IPv6 packet is asked, wherever it came from.

use std::net::Ipv6Addr;

use shunt_afxdp::Frame;
use shunt_encap::ethernet::HEADER_LEN;
use shunt_encap::extension::{ExtensionError, Upper, walk_v6};
use shunt_encap::ip::{PROTOCOL_ICMPV6, PROTOCOL_SCTP};
use shunt_encap::is_partial_l4_v6;

use super::{Context, guard, ipv4, partial};
use crate::stats::DropReason;

/// Bytes of the fixed header (RFC 8200, 3).
pub(super) const FIXED_LEN: usize = 40;

/// The fixed header's fields that the switch reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixed {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) next_header: u8,
    payload_len: u16,
}

impl Fixed {
    /// Reads the header of a packet of which `available` bytes are there, not all of them in
    /// `bytes`.
    #[inline]
    pub(super) fn read(bytes: &[u8], available: usize) -> Result<Self, DropReason> {
        let header: &[u8; FIXED_LEN] = bytes.first_chunk().ok_or(DropReason::TruncatedFrame)?;
        if header[0] >> 4 != 6 {
            return Err(DropReason::BadIpHeader);
        }
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]);
            Ipv6Addr::from(octets)
        };
        let fixed = Self {
            source: address(8),
            destination: address(24),
            next_header: header[6],
            payload_len: u16::from_be_bytes([header[4], header[5]]),
        };
        // No jumbograms (RFC 2675): a payload length of zero means just that.
        if fixed.total_len() > available {
            return Err(DropReason::TruncatedFrame);
        }
        Ok(fixed)
    }

    /// Bytes of the whole packet.
    #[inline]
    pub(super) fn total_len(&self) -> usize {
        FIXED_LEN + usize::from(self.payload_len)
    }
}

/// An IPv6 packet that a port has received.
pub(super) enum Admitted {
    /// It may be routed: source and destination.
    Routable(u128, u128),
    /// Neighbour discovery, or multicast listener discovery: between neighbours, never routed.
    Local(Upper),
}

/// Checks the IPv6 packet that starts 14 bytes into `frame` as a router must (RFC 8200, 3 and 4;
/// RFC 4291, 2.5 to 2.7), cuts off what follows it, and notes a checksum that the sender left to
/// its hardware.
#[inline]
pub(super) fn admit(context: &mut Context<'_>, frame: &mut Frame) -> Result<Admitted, DropReason> {
    let length = frame.len();
    let available = length.saturating_sub(HEADER_LEN);
    let (fixed, upper, partial, sctp) = {
        let data = frame.data(context.pool.umem());
        let bytes = data.get(HEADER_LEN..).ok_or(DropReason::TruncatedFrame)?;
        let fixed = Fixed::read(bytes, available)?;
        if is_martian(fixed.source) {
            return Err(DropReason::MartianSource);
        }
        let upper = walk_v6(bytes).map_err(refused)?;
        if let Some(guard) = &context.entry.guard {
            guard::ipv6(context, guard, &fixed, &upper, bytes)?;
        }
        if is_discovery(&upper, bytes) {
            (fixed, Some(upper), None, false)
        } else {
            check_scope(context, &fixed)?;
            let (partial, sctp) = if context.entry.partial_checksums {
                (is_partial_l4_v6(bytes), upper.protocol == PROTOCOL_SCTP)
            } else {
                (None, false)
            };
            (fixed, None, partial, sctp)
        }
    };
    ipv4::trim(frame, context.pool, HEADER_LEN + fixed.total_len());
    if let Some(upper) = upper {
        return Ok(Admitted::Local(upper));
    }
    if let Some(partial) = partial {
        partial::note(frame, partial);
    }
    if sctp {
        partial::complete_sctp(frame, context.pool);
    }
    Ok(Admitted::Routable(
        fixed.source.into(),
        fixed.destination.into(),
    ))
}

/// Whether a router may carry the packet on.
fn check_scope(context: &Context<'_>, fixed: &Fixed) -> Result<(), DropReason> {
    let gateway = fixed.destination == context.tables.gateway6;
    if fixed.destination.is_multicast() {
        return Err(DropReason::MulticastNotRouted);
    }
    // RFC 4291, 2.5.2 and 2.5.3.
    if fixed.source.is_unspecified()
        || fixed.destination.is_unspecified()
        || fixed.destination.is_loopback()
    {
        return Err(DropReason::MartianSource);
    }
    let local = fixed.source.is_unicast_link_local() || fixed.destination.is_unicast_link_local();
    if local && !gateway {
        return Err(DropReason::LinkLocal);
    }
    Ok(())
}

/// Whether this is neighbour discovery (RFC 4861, 4) or multicast listener discovery (RFC 2710, 3;
/// RFC 3810, 5).
#[inline]
pub(super) fn is_discovery(upper: &Upper, packet: &[u8]) -> bool {
    upper.protocol == PROTOCOL_ICMPV6
        && upper.fragment.is_none()
        && matches!(packet.get(upper.offset), Some(130..=137 | 143))
}

/// An address that no host can send from (RFC 4291, 2.5.3 and 2.7).
#[inline]
pub(super) fn is_martian(source: Ipv6Addr) -> bool {
    source.is_multicast() || source.is_loopback()
}

pub(super) fn refused(error: ExtensionError) -> DropReason {
    match error {
        ExtensionError::Truncated => DropReason::TruncatedFrame,
        ExtensionError::TooMany => DropReason::ExtensionLimit,
        _ => DropReason::BadExtension,
    }
}
