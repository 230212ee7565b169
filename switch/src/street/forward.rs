//! Forward: the FIB's answers become verdicts.

use std::net::IpAddr;

use shunt_fib::NextHopIndex;

use super::lane::Lane;
use super::{Context, Street, Verdict};
use crate::stats::DropReason;
use crate::tables::{Action, NextHop, Role, Tables};

impl Street {
    /// Looks up all routed packets of the batch at once.
    pub(super) fn forward(&mut self, context: &Context<'_>) {
        let Self { verdicts, v4, v6 } = self;
        forward(context, v4, verdicts, |addresses, hops| {
            context.fib.lookup_batch(addresses, hops);
        });
        forward(context, v6, verdicts, |addresses, hops| {
            context.fib6.lookup_batch(addresses, hops);
        });
    }
}

#[inline]
fn forward<A: Copy>(
    context: &Context<'_>,
    lane: &mut Lane<A>,
    verdicts: &mut [Verdict],
    lookup: impl FnOnce(&[A], &mut [u16]),
) {
    if lane.is_empty() {
        return;
    }
    let (tables, role) = (context.tables, context.entry.role);
    let from_uplink = role == Role::Uplink;
    let (routed, hops, source_hops) = lane.look_up(from_uplink, lookup);
    for (at, routed) in routed.iter().enumerate() {
        let mut verdict = verdict(tables, role, hops[at]);
        if from_uplink
            && let Some(tunnel_source) = routed.tunnel_source
            && let Err(reason) = check_peer(tables, tunnel_source, source_hops[at])
        {
            verdict = Verdict::Drop(reason);
        }
        verdicts[usize::from(routed.index)] = verdict;
    }
}

/// The next hop that the FIB names, and its index.
#[inline]
pub(super) fn hop(tables: &Tables, raw: u16) -> Option<(u16, &NextHop)> {
    let index = NextHopIndex::from_raw(raw)?.get();
    Some((index, tables.next_hops.get(usize::from(index))?))
}

#[inline]
fn verdict(tables: &Tables, role: Role, raw: u16) -> Verdict {
    let Some((index, hop)) = hop(tables, raw) else {
        return Verdict::Drop(if raw == 0 {
            DropReason::NoRoute
        } else {
            DropReason::NextHopGone
        });
    };
    // From the underlay, packets go to this node and its pods only.
    if hop.remote && role == Role::Uplink {
        return Verdict::Drop(DropReason::TransitRefused);
    }
    match (hop.action, role) {
        (Action::Deliver | Action::Underlay | Action::Wait | Action::Glean, _) => {
            Verdict::Via(index)
        }
        (Action::Node | Action::Outside, Role::Host) => Verdict::Drop(DropReason::HostLoop),
        (Action::Outside, Role::Uplink) => Verdict::Drop(DropReason::TransitRefused),
        (Action::Node | Action::Outside, _) => Verdict::Via(index),
        (Action::Gateway, Role::Uplink) => Verdict::Drop(DropReason::TransitRefused),
        (Action::Gateway, _) => Verdict::Gateway,
        (Action::Blackhole, _) => Verdict::Drop(DropReason::BlackholeRoute),
        (Action::Gone, _) => Verdict::Drop(DropReason::NextHopGone),
    }
}

/// A tunnel packet's inner source must be one that we would send to the same far end (strict
/// reverse path).
#[inline]
fn check_peer(tables: &Tables, tunnel_source: IpAddr, source_hop: u16) -> Result<(), DropReason> {
    let peer = hop(tables, source_hop).and_then(|(_, hop)| hop.peer);
    if peer == Some(tunnel_source) {
        return Ok(());
    }
    let known = tables.underlay.peers.binary_search(&tunnel_source).is_ok();
    Err(if known {
        DropReason::InnerSourceMismatch
    } else {
        DropReason::UnknownPeer
    })
}
