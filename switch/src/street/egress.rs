//! Egress: frames get the headers of their next hop and go to their port.

use shunt_afxdp::{Frame, Offload, Pool};
use shunt_encap::ethernet::HEADER_LEN;
use shunt_encap::{Checksum, Ipv4Packet, OuterHeader, OuterKind, flow_hash_v4};

use super::{Context, Event, Street, Verdict, ipv4};
use crate::stats::DropReason;
use crate::tables::{Action, DomainId, NextHop, PortId};

impl Street {
    /// Carries out the verdicts; the batch is empty afterwards.
    pub(super) fn egress(&mut self, context: &mut Context<'_>, batch: &mut Vec<Frame>) {
        // Rewritten in place first and moved later: a frame that is read as a whole right after its
        // fields were written one by one stalls the core (stores do not forward to a wider load).
        for (frame, verdict) in batch.iter_mut().zip(&mut self.verdicts) {
            match *verdict {
                Verdict::Via(index) => *verdict = via(context, frame, index),
                Verdict::Out(port) => {
                    complete_checksum(frame, context.pool);
                    if let Err(reason) = check_size(context, port, frame) {
                        *verdict = Verdict::Drop(reason);
                    }
                }
                Verdict::Flood(_) => complete_checksum(frame, context.pool),
                _ => {}
            }
        }
        for (frame, verdict) in batch.drain(..).zip(self.verdicts.drain(..)) {
            match verdict {
                Verdict::Out(port) => context.send(port, frame),
                // Those that could go have become `Out`.
                Verdict::Via(index) => wait(context, frame, index),
                Verdict::Flood(domain) => flood(context, frame, domain),
                Verdict::Answer => {
                    context.worker.consumed += 1;
                    context.worker.generated += 1;
                    context.send(context.port, frame);
                }
                Verdict::Consumed => {
                    context.worker.consumed += 1;
                    context.pool.free(frame);
                }
                Verdict::Drop(reason) => context.drop(frame, reason),
                // `forward` has replaced every one.
                Verdict::Route => context.drop(frame, DropReason::NextHopGone),
            }
        }
    }
}

/// Rewrites a routed frame; it stays `Via` if it has to wait for the next hop.
#[inline]
fn via(context: &Context<'_>, frame: &mut Frame, index: u16) -> Verdict {
    let Some(hop) = context.tables.next_hops.get(usize::from(index)) else {
        return Verdict::Drop(DropReason::NextHopGone);
    };
    if matches!(hop.action, Action::Wait | Action::Glean) {
        return Verdict::Via(index);
    }
    match rewrite(frame, context.pool, hop) {
        Ok(()) => Verdict::Out(hop.port),
        Err(reason) => Verdict::Drop(reason),
    }
}

/// Decrements TTL and pastes the next hop's headers.
#[inline]
fn rewrite(frame: &mut Frame, pool: &Pool, hop: &NextHop) -> Result<(), DropReason> {
    complete_checksum(frame, pool);
    let length = frame.len() - HEADER_LEN;
    if length > usize::from(hop.mtu) {
        return Err(DropReason::MtuExceeded);
    }
    let umem = pool.umem();
    let data = frame.data_mut(umem);
    let bytes = data
        .get_mut(HEADER_LEN..)
        .ok_or(DropReason::TruncatedFrame)?;
    let hash = if hop.header.kind() == OuterKind::Vxlan {
        flow_hash_v4(bytes)
    } else {
        0
    };
    let mut packet = Ipv4Packet::new_checked_head(bytes, length).map_err(ipv4::malformed)?;
    packet.decrement_ttl().map_err(|_| DropReason::TtlExpired)?;
    let tos = packet.tos();
    let header = &hop.header;
    if !frame.push_head(header.overhead()) {
        return Err(DropReason::NoHeadroom);
    }
    let Some(front) = frame.data_mut(umem).get_mut(..header.len()) else {
        return Err(DropReason::TruncatedFrame);
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
fn complete_checksum(frame: &mut Frame, pool: &Pool) {
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

#[cold]
fn wait(context: &mut Context<'_>, frame: Frame, index: u16) {
    let hop = context.tables.next_hops.get(usize::from(index));
    let glean = hop.is_some_and(|hop| hop.action == Action::Glean);
    let Some((_, destination)) = ipv4::addresses(frame.data(context.pool.umem())) else {
        return context.drop(frame, DropReason::TruncatedFrame);
    };
    let pushed = context
        .pending
        .push(frame, context.port, index, destination, glean);
    if let Err((frame, reason)) = pushed {
        context.drop(frame, reason);
    }
    context.report(Event::Miss {
        address: destination.into(),
    });
}

/// A copy to every port of the domain but the one it came from; the last gets the frame itself.
fn flood(context: &mut Context<'_>, frame: Frame, domain: DomainId) {
    let tables = context.tables;
    let came_from = context.port;
    let domain = tables.domains.get(domain.index());
    let members = domain.map_or(&[][..], |domain| domain.members.as_slice());
    let mut targets = members.iter().copied().filter(|port| *port != came_from);
    let Some(first) = targets.next() else {
        return context.drop(frame, DropReason::NoFloodTarget);
    };
    for port in targets {
        context.worker.generated += 1;
        match context.pool.copy(&frame) {
            Some(copy) => bridge(context, port, copy),
            None => context.counters.drop(DropReason::PoolEmpty),
        }
    }
    bridge(context, first, frame);
}

/// Sends a frame as it is, if the port takes one so large.
fn bridge(context: &mut Context<'_>, port: PortId, frame: Frame) {
    match check_size(context, port, &frame) {
        Ok(()) => context.send(port, frame),
        Err(reason) => context.drop(frame, reason),
    }
}

/// Whether a port takes a bridged frame of this size: a VLAN tag counts as part of the header
/// (`is_skb_forwardable`, net/core/dev.c).
#[inline]
fn check_size(context: &Context<'_>, port: PortId, frame: &Frame) -> Result<(), DropReason> {
    const TAG: usize = 4;
    let entry = context.tables.port(port).ok_or(DropReason::PortGone)?;
    if frame.len() > usize::from(entry.mtu) + HEADER_LEN + TAG {
        return Err(DropReason::MtuExceeded);
    }
    Ok(())
}
