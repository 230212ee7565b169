//! What a routed frame gets on its way out: one hop less to live, and its next hop's headers.

use shunt_afxdp::{Frame, Offload, Pool};
use shunt_encap::ethernet::HEADER_LEN;
use shunt_encap::mss::clamp_mss;
use shunt_encap::{Checksum, Ipv4Packet, Ipv6Packet, OuterHeader, flow_hash_v4, flow_hash_v6};

use super::{ipv4, packet};
use crate::stats::DropReason;
use crate::tables::NextHop;

/// Bytes of the IP and TCP headers that a maximum segment size does not count (RFC 6691).
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;

/// Why a frame does not go.
pub(super) enum Refused {
    /// It does not fit the next hop's path.
    TooBig,
    /// Anything else.
    For(DropReason),
}

impl From<DropReason> for Refused {
    fn from(reason: DropReason) -> Self {
        Self::For(reason)
    }
}

/// Decrements the hop count and pastes the next hop's headers.
#[inline]
pub(super) fn rewrite(
    frame: &mut Frame,
    pool: &Pool,
    hop: &NextHop,
    clamp: bool,
) -> Result<(), Refused> {
    complete_checksum(frame, pool);
    let umem = pool.umem();
    let is_v6 = packet::version(frame.data(umem)) == 6;
    // Before the size: what has no hop left is neither cut nor told how small to be.
    let hops = frame.data(umem).get(HEADER_LEN + if is_v6 { 7 } else { 8 });
    if hops.is_none_or(|hops| *hops <= 1) {
        return Err(DropReason::TtlExpired.into());
    }
    let length = frame.len() - HEADER_LEN;
    if length > usize::from(hop.mtu) {
        return Err(Refused::TooBig);
    }
    let data = frame.data_mut(umem);
    let bytes = data
        .get_mut(HEADER_LEN..)
        .ok_or(DropReason::TruncatedFrame)?;
    let hashes = hop.header.wants_flow_hash();
    let (hash, tos) = if is_v6 {
        if clamp {
            clamp_mss(bytes, hop.mtu.saturating_sub(HEADERS_V6), false);
        }
        let hash = if hashes { flow_hash_v6(bytes) } else { 0 };
        let mut packet = Ipv6Packet::new_checked_head(bytes, length).map_err(ipv4::malformed)?;
        packet
            .decrement_hop_limit()
            .map_err(|_| DropReason::TtlExpired)?;
        (hash, packet.traffic_class())
    } else {
        if clamp {
            clamp_mss(bytes, hop.mtu.saturating_sub(HEADERS_V4), false);
        }
        let hash = if hashes { flow_hash_v4(bytes) } else { 0 };
        let mut packet = Ipv4Packet::new_checked_head(bytes, length).map_err(ipv4::malformed)?;
        packet.decrement_ttl().map_err(|_| DropReason::TtlExpired)?;
        (hash, packet.tos())
    };
    let header = &hop.header;
    if !frame.push_head(header.overhead()) {
        return Err(DropReason::NoHeadroom.into());
    }
    let Some(front) = frame.data_mut(umem).get_mut(..header.len()) else {
        return Err(DropReason::TruncatedFrame.into());
    };
    // `length` is at most the MTU, 16 bits; with DF set the identification may be constant
    // (RFC 6864, 4.1).
    header
        .write(front, length as u16, tos, hash, 0)
        .map_err(|_| DropReason::MtuExceeded)?;
    if header.wants_udp_checksum() {
        fill_outer_checksum(frame, pool, header);
    }
    Ok(())
}

/// The checksum of the outer UDP header, over all that follows it.
fn fill_outer_checksum(frame: &mut Frame, pool: &Pool, header: &OuterHeader) {
    let umem = pool.umem();
    let mut inner = Checksum::new();
    let mut skip = header.len();
    for segment in frame.iter(umem) {
        inner = inner.add(segment.get(skip..).unwrap_or_default());
        skip = skip.saturating_sub(segment.len());
    }
    if let Some(front) = frame.data_mut(umem).get_mut(..header.len())
        && let Err(error) = header.fill_udp_checksum(front, inner)
    {
        log::debug!("outer UDP checksum: {error}");
    }
}

/// No port takes unfinished checksums: they are finished here, as `skb_checksum_help` does it
/// (net/core/dev.c): the field already holds the pseudo-header's sum. A UDP checksum of zero is
/// written as all ones, because zero says that there is none (RFC 768).
#[inline]
pub(super) fn complete_checksum(frame: &mut Frame, pool: &Pool) {
    let Some(csum) = frame.offload().csum else {
        return;
    };
    frame.set_offload(Offload::default());
    let umem = pool.umem();
    let mut sum = Checksum::new();
    let mut skip = usize::from(csum.start);
    for segment in frame.iter(umem) {
        sum = sum.add(segment.get(skip..).unwrap_or_default());
        skip = skip.saturating_sub(segment.len());
    }
    let field = usize::from(csum.start) + usize::from(csum.offset);
    if let Some(field) = frame.data_mut(umem).get_mut(field..field + 2) {
        let checksum = sum.finish_at(usize::from(csum.offset));
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}
