//! Egress: frames get the headers of their next hop and go to their port; those that go nowhere
//! are answered where an answer is due.

use shunt_afxdp::Frame;
use shunt_encap::ethernet::HEADER_LEN;

use super::packet::{self, Routable};
use super::rewrite::{Refused, complete_checksum, rewrite};
use super::{Context, Event, Street, Verdict, fragment, icmp, multicast};
use crate::stats::DropReason;
use crate::tables::{Action, DomainId, PortId};

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
                Verdict::Gateway => *verdict = icmp::to_gateway(context, frame),
                _ => {}
            }
        }
        for (frame, verdict) in batch.drain(..).zip(self.verdicts.drain(..)) {
            match verdict {
                Verdict::Out(port) => context.send(port, frame),
                // Those that could go have become `Out`.
                Verdict::Via(index) => wait(context, frame, index),
                Verdict::TooBig(index) => fragment::too_big(context, frame, index),
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
                Verdict::Drop(reason) => {
                    icmp::report(context, &frame, reason);
                    context.drop(frame, reason);
                }
                // Replaced, every one, by `forward` and above.
                Verdict::Route | Verdict::Gateway => {
                    context.drop(frame, DropReason::NextHopGone);
                }
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
    match rewrite(frame, context.pool, hop, context.tables.policy.clamp_mss) {
        Ok(()) => Verdict::Out(hop.port),
        Err(Refused::TooBig) => Verdict::TooBig(index),
        Err(Refused::For(reason)) => Verdict::Drop(reason),
    }
}

/// Sends a frame of the switch's own, whose IP packet starts 14 bytes in, by a next hop.
pub(super) fn send_via(context: &mut Context<'_>, mut frame: Frame, index: u16) {
    match via(context, &mut frame, index) {
        Verdict::Out(port) => context.send(port, frame),
        Verdict::Via(index) => wait(context, frame, index),
        Verdict::Drop(reason) => context.drop(frame, reason),
        _ => context.drop(frame, DropReason::MtuExceeded),
    }
}

#[cold]
fn wait(context: &mut Context<'_>, frame: Frame, index: u16) {
    let hop = context.tables.next_hops.get(usize::from(index));
    let glean = hop.is_some_and(|hop| hop.action == Action::Glean);
    let destination = match packet::addresses(frame.data(context.pool.umem())) {
        Some(Routable::V4 { destination, .. }) => std::net::Ipv4Addr::from(destination).into(),
        Some(Routable::V6 { destination, .. }) => std::net::Ipv6Addr::from(destination).into(),
        None => return context.drop(frame, DropReason::TruncatedFrame),
    };
    let pushed = context
        .pending
        .push(frame, context.port, index, destination, glean);
    if let Err((frame, reason)) = pushed {
        context.drop(frame, reason);
    }
    context.report(Event::Miss {
        address: destination,
    });
}

/// A copy to every port that it is for but the one it came from; the first gets the frame itself.
fn flood(context: &mut Context<'_>, frame: Frame, domain: DomainId) {
    let tables = context.tables;
    let came_from = context.port;
    let ports = tables
        .domains
        .get(domain.index())
        .map_or(&[][..], |domain| {
            multicast::targets(domain, frame.data(context.pool.umem()))
        });
    let mut targets = ports.iter().copied().filter(|port| *port != came_from);
    let Some(first) = targets.next() else {
        if multicast::is_report(frame.data(context.pool.umem())) {
            context.worker.consumed += 1;
            return context.pool.free(frame);
        }
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
