//! Forward: the FIB's answers become verdicts.

use std::net::Ipv4Addr;

use shunt_fib::NextHopIndex;

use super::{Context, Street, Verdict};
use crate::stats::DropReason;
use crate::tables::{Action, NextHop, Role, Tables};

impl Street {
    /// Looks up all routed packets of the batch at once.
    pub(super) fn forward(&mut self, context: &Context<'_>) {
        let count = self.routed.len();
        if count == 0 {
            return;
        }
        let from_uplink = context.entry.role == Role::Uplink;
        if from_uplink {
            self.addresses
                .extend(self.routed.iter().map(|routed| routed.source));
        }
        let hops = &mut self.hops[..self.addresses.len()];
        context.fib.lookup_batch(&self.addresses, hops);
        let (hops, source_hops) = hops.split_at(count);
        for (at, routed) in self.routed.iter().enumerate() {
            let verdict = verdict(context.tables, hops[at]);
            let verdict = if from_uplink {
                let source_hop = source_hops[at];
                match check_uplink(context.tables, routed.tunnel_source, source_hop, verdict) {
                    Ok(()) => verdict,
                    Err(reason) => Verdict::Drop(reason),
                }
            } else {
                verdict
            };
            self.verdicts[usize::from(routed.index)] = verdict;
        }
    }
}

#[inline]
fn hop(tables: &Tables, raw: u16) -> Option<(u16, &NextHop)> {
    let index = NextHopIndex::from_raw(raw)?.get();
    Some((index, tables.next_hops.get(usize::from(index))?))
}

#[inline]
fn verdict(tables: &Tables, raw: u16) -> Verdict {
    let Some((index, hop)) = hop(tables, raw) else {
        return Verdict::Drop(if raw == 0 {
            DropReason::NoRoute
        } else {
            DropReason::NextHopGone
        });
    };
    match hop.action {
        Action::Deliver | Action::Underlay | Action::Wait | Action::Glean => Verdict::Via(index),
        Action::Gateway => Verdict::Drop(DropReason::GatewayNoService),
        Action::Blackhole => Verdict::Drop(DropReason::BlackholeRoute),
        Action::Gone => Verdict::Drop(DropReason::NextHopGone),
    }
}

/// From the underlay, packets may only go to this node's pods; and a tunnel packet's inner source
/// must be one that we would send to the same far end (strict reverse path).
#[inline]
fn check_uplink(
    tables: &Tables,
    tunnel_source: Option<u32>,
    source_hop: u16,
    verdict: Verdict,
) -> Result<(), DropReason> {
    if let Some(tunnel_source) = tunnel_source {
        let peer = hop(tables, source_hop).and_then(|(_, hop)| hop.peer);
        let tunnel_source = Ipv4Addr::from(tunnel_source);
        if peer != Some(tunnel_source) {
            let known = tables.underlay.peers.binary_search(&tunnel_source).is_ok();
            return Err(if known {
                DropReason::InnerSourceMismatch
            } else {
                DropReason::UnknownPeer
            });
        }
    }
    if let Verdict::Via(index) = verdict
        && tables
            .next_hops
            .get(usize::from(index))
            .is_some_and(|hop| hop.remote)
    {
        return Err(DropReason::TransitRefused);
    }
    Ok(())
}
