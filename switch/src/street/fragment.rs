//! Packets that do not fit their path: cut where IPv4 allows it (RFC 791, 3.2), sent back where not
//! (RFC 1191; RFC 8200, 5: no router cuts IPv6). Tunnels never cut.

use std::sync::Arc;

use shunt_afxdp::Frame;
use shunt_encap::ethernet::HEADER_LEN;
use shunt_encap::fragment::Fragments;

use super::{Context, egress, icmp, packet};
use crate::stats::DropReason;

/// The largest IP packet, and the largest header of one (RFC 791, 3.1).
const MAX_PACKET: usize = u16::MAX as usize;
const MAX_HEADER: usize = 60;

/// Ends a frame that is larger than the path of next hop `index` takes.
#[cold]
#[inline(never)]
pub(super) fn too_big(context: &mut Context<'_>, frame: Frame, index: u16) {
    let hop = context.tables.next_hops.get(usize::from(index));
    let mtu = hop.map_or(0, |hop| hop.mtu);
    if packet::version(frame.data(context.pool.umem())) == 4 && cut(context, &frame, index, mtu) {
        context.worker.consumed += 1;
        context.pool.free(frame);
        return;
    }
    icmp::too_big(context, &frame, mtu);
    context.drop(frame, DropReason::MtuExceeded);
}

/// Sends the packet in pieces; false if it may not be cut.
fn cut(context: &mut Context<'_>, frame: &Frame, index: u16, mtu: u16) -> bool {
    let umem = Arc::clone(context.pool.umem());
    let mut joined;
    let data = if frame.segments() == 1 {
        frame.data(&umem)
    } else {
        joined = [0; HEADER_LEN + MAX_PACKET];
        let length = frame.copy_into(&umem, &mut joined);
        joined.get(..length).unwrap_or_default()
    };
    let Some(packet) = data.get(HEADER_LEN..) else {
        return false;
    };
    let Ok(fragments) = Fragments::new(packet, packet.len(), mtu) else {
        return false;
    };
    let header_length = usize::from(packet.first().copied().unwrap_or_default() & 0x0f) * 4;
    let whole = packet.get(header_length..).unwrap_or_default();
    for piece in fragments {
        let mut front = [0; HEADER_LEN + MAX_HEADER];
        let end = HEADER_LEN + piece.header_len;
        // All lie within the packet and the header, by construction.
        let (Some(room), Some(header), Some(payload)) = (
            front.get_mut(HEADER_LEN..end),
            piece.header.get(..piece.header_len),
            whole.get(piece.payload),
        ) else {
            continue;
        };
        room.copy_from_slice(header);
        let Some(mut frame) = front.get(..end).and_then(|front| context.make(front)) else {
            continue;
        };
        if frame.append(context.pool, payload) {
            egress::send_via(context, frame, index);
        } else {
            context.drop(frame, DropReason::PoolEmpty);
        }
    }
    true
}
