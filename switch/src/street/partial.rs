//! Checksums that a sender left to its hardware.

use shunt_afxdp::{Csum, Frame, Offload, Pool};
use shunt_encap::ethernet::HEADER_LEN;
use shunt_encap::extension::walk_v6;
use shunt_encap::ip::PROTOCOL_SCTP;
use shunt_encap::{
    Ipv4Packet, PartialChecksum, is_partial_l4_v4, is_partial_l4_v6, needs_sctp_crc_v4,
    needs_sctp_crc_v6,
};

use super::ipv6;

/// The largest IP packet behind an Ethernet header.
const MAX_FRAME: usize = HEADER_LEN + u16::MAX as usize;

/// Notes it on the frame, whose IP packet starts 14 bytes in.
#[inline]
pub(super) fn note(frame: &mut Frame, partial: PartialChecksum) {
    // Both lie within the first bytes of a received frame, far below the limit of 16 bits.
    let csum = Csum {
        start: partial.start.saturating_add(HEADER_LEN as u16),
        offset: partial.offset.saturating_sub(partial.start),
    };
    frame.set_offload(Offload { csum: Some(csum) });
}

/// Notes it on a bridged frame with an IPv4 packet.
#[inline]
pub(super) fn note_bridged_v4(frame: &mut Frame, pool: &Pool) {
    let sctp = note_bridged(frame, pool, is_partial_l4_v4, |bytes, available| {
        let packet = Ipv4Packet::new_checked_head(bytes, available).ok()?;
        Some((usize::from(packet.total_len()), packet.protocol()))
    });
    if sctp {
        complete_sctp(frame, pool);
    }
}

/// Notes it on a bridged frame with an IPv6 packet.
#[inline]
pub(super) fn note_bridged_v6(frame: &mut Frame, pool: &Pool) {
    let sctp = note_bridged(frame, pool, is_partial_l4_v6, |bytes, available| {
        let length = ipv6::Fixed::read(bytes, available).ok()?.total_len();
        Some((length, walk_v6(bytes).ok()?.protocol))
    });
    if sctp {
        complete_sctp(frame, pool);
    }
}

/// True for SCTP, which is completed otherwise. `read` finds a packet's length and protocol.
#[inline]
fn note_bridged(
    frame: &mut Frame,
    pool: &Pool,
    find: impl Fn(&[u8]) -> Option<PartialChecksum>,
    read: impl Fn(&[u8], usize) -> Option<(usize, u8)>,
) -> bool {
    let available = frame.len().saturating_sub(HEADER_LEN);
    let (partial, sctp) = {
        let Some(bytes) = frame.data(pool.umem()).get(HEADER_LEN..) else {
            return false;
        };
        // Such a frame never crossed a wire, so nothing pads it; what follows would be summed.
        match read(bytes, available) {
            Some((length, protocol)) if length == available => {
                (find(bytes), protocol == PROTOCOL_SCTP)
            }
            _ => (None, false),
        }
    };
    if let Some(partial) = partial {
        note(frame, partial);
    }
    sctp
}

/// Completes the CRC32c of an SCTP packet whose sender left it to its hardware
/// (`skb_crc32c_csum_help`, net/core/dev.c): at once, because a frame's metadata have no word for
/// it, and offloaded SCTP is rare.
#[cold]
pub(super) fn complete_sctp(frame: &mut Frame, pool: &Pool) {
    let umem = pool.umem();
    let wanting = {
        let bytes = frame.data(umem).get(HEADER_LEN..).unwrap_or_default();
        match bytes.first().map(|first| first >> 4) {
            Some(4) => needs_sctp_crc_v4(bytes),
            Some(6) => needs_sctp_crc_v6(bytes),
            _ => None,
        }
    };
    let Some(wanting) = wanting else {
        return;
    };
    let done = if frame.segments() == 1 {
        let packet = frame
            .data_mut(umem)
            .get_mut(HEADER_LEN..)
            .unwrap_or_default();
        wanting.complete(packet)
    } else {
        // Summed in one piece: rare, and large packets of SCTP rarer still.
        let mut whole = [0; MAX_FRAME];
        let length = frame.copy_into(umem, &mut whole);
        let packet = whole.get_mut(HEADER_LEN..length).unwrap_or_default();
        let done = wanting.complete(packet);
        let headers = frame
            .data_mut(umem)
            .get_mut(HEADER_LEN..)
            .unwrap_or_default();
        for (to, from) in headers.iter_mut().zip(packet.iter()) {
            *to = *from;
        }
        done
    };
    if let Err(error) = done {
        log::debug!("SCTP checksum: {error}");
    }
}
