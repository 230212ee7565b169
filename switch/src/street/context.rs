//! What a batch passes through the stages with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_afxdp::{Frame, Pool};
use shunt_api::MacAddr;
use shunt_fib::{Fib4Reader, Fib6Reader, NextHopIndex};

use super::{Event, Events, Outbox, Pending};
use crate::stats::{DropReason, PortCounters, WorkerCounters};
use crate::tables::{Action, NextHop, PortEntry, PortId, Tables};

/// What a port may still cause in this second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    /// Requests to the switch itself (ARP, NDP, echo).
    pub slow: u32,
    /// Events for the control thread.
    pub events: u32,
    /// Frames to flood.
    pub flood: u32,
    /// ICMP errors.
    pub icmp: u32,
}

/// One batch's surroundings.
pub struct Context<'a> {
    /// The port that received the batch.
    pub port: PortId,
    /// Its entry.
    pub entry: &'a PortEntry,
    /// The snapshot.
    pub tables: &'a Tables,
    /// The FIB of IPv4.
    pub fib: &'a Fib4Reader,
    /// The FIB of IPv6.
    pub fib6: &'a Fib6Reader,
    /// The second.
    pub now: u32,
    /// What the port may still cause in this second.
    pub budget: &'a mut Budget,
    /// Free frames.
    pub pool: &'a mut Pool,
    /// The port's counters.
    pub counters: &'a mut PortCounters,
    /// The worker's.
    pub worker: &'a mut WorkerCounters,
    /// Frames that wait for a neighbour.
    pub pending: &'a mut Pending,
    /// The way out.
    pub out: &'a mut Outbox,
    /// The way to the control thread.
    pub events: &'a mut Events,
}

impl<'a> Context<'a> {
    /// Ends a frame's life with a reason.
    #[inline]
    pub(super) fn drop(&mut self, frame: Frame, reason: DropReason) {
        self.counters.drop(reason);
        self.pool.free(frame);
    }

    /// Tells the control thread, unless the port has caused too many events in this second.
    pub(super) fn report(&mut self, event: Event) {
        if self.events.is_last(event) {
            return;
        }
        if let Some(left) = self.budget.events.checked_sub(1) {
            self.budget.events = left;
            self.events.report(event);
        }
    }

    /// Tells the control thread that the sender asks for, or claims, an address of another's.
    #[cold]
    pub(super) fn conflict(&mut self, address: IpAddr, mac: MacAddr) {
        let port = self.port;
        self.report(Event::Conflict { address, mac, port });
    }

    /// Takes one request to the switch itself out of the port's budget.
    pub(super) fn spend_slow(&mut self) -> Result<(), DropReason> {
        self.budget.slow = self
            .budget
            .slow
            .checked_sub(1)
            .ok_or(DropReason::SlowPathLimit)?;
        Ok(())
    }

    /// Queues a frame for a port, or drops it.
    #[inline]
    pub(super) fn send(&mut self, port: PortId, frame: Frame) {
        if let Err((frame, reason)) = self.out.send(port, frame) {
            self.drop(frame, reason);
        }
    }

    /// A frame of the switch's own making.
    pub(super) fn make(&mut self, bytes: &[u8]) -> Option<Frame> {
        self.worker.generated += 1;
        let frame = self.pool.alloc_copy(bytes);
        if frame.is_none() {
            self.counters.drop(DropReason::PoolEmpty);
        }
        frame
    }

    /// The next hop of one address, and its index: for what is rare. Batches look up together.
    pub(super) fn next_hop(&self, address: IpAddr) -> Option<(u16, &'a NextHop)> {
        let index: NextHopIndex = match address {
            IpAddr::V4(v4) => self.fib.lookup(v4)?,
            IpAddr::V6(v6) => self.fib6.lookup(v6)?,
        };
        let hop = self.tables.next_hops.get(usize::from(index.get()))?;
        Some((index.get(), hop))
    }

    /// The port of the local pod that has an address.
    pub(super) fn local_port(&self, address: IpAddr) -> Option<PortId> {
        let (_, hop) = self.next_hop(address)?;
        (hop.action == Action::Deliver).then_some(hop.port)
    }

    /// Whether this is an address of this node or of one that routes name.
    pub(super) fn is_node(&self, address: IpAddr) -> bool {
        let underlay = &self.tables.underlay;
        let own = match address {
            IpAddr::V4(v4) => underlay.address == Some(v4),
            IpAddr::V6(v6) => underlay.address6 == Some(v6),
        };
        own || underlay.peers.binary_search(&address).is_ok()
    }

    /// Where an IPv4 error comes from: this node, or else the gateway.
    pub(super) fn router_v4(&self) -> Ipv4Addr {
        self.tables.underlay.address.unwrap_or(self.tables.gateway)
    }

    /// Where an IPv6 error comes from: this node, or else the gateway, whose address means
    /// something to this node's pods only.
    pub(super) fn router_v6(&self) -> Ipv6Addr {
        self.tables
            .underlay
            .address6
            .unwrap_or(self.tables.gateway6)
    }
}
