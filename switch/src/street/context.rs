//! What a batch passes through the stages with.

use shunt_afxdp::{Frame, Pool};
use shunt_fib::Fib4Reader;

use super::{Event, Events, Outbox, Pending};
use crate::stats::{DropReason, PortCounters, WorkerCounters};
use crate::tables::{PortEntry, PortId, Tables};

/// One batch's surroundings.
pub struct Context<'a> {
    /// The port that received the batch.
    pub port: PortId,
    /// Its entry.
    pub entry: &'a PortEntry,
    /// The snapshot.
    pub tables: &'a Tables,
    /// The FIB.
    pub fib: &'a Fib4Reader,
    /// The second.
    pub now: u32,
    /// ARP packets and events that the port may still cause in this second.
    pub slow_budget: &'a mut u32,
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

impl Context<'_> {
    /// Ends a frame's life with a reason.
    #[inline]
    pub(super) fn drop(&mut self, frame: Frame, reason: DropReason) {
        self.counters.drop(reason);
        self.pool.free(frame);
    }

    /// Tells the control thread, unless the port has caused too many events in this second.
    pub(super) fn report(&mut self, event: Event) {
        if let Some(left) = self.slow_budget.checked_sub(1) {
            *self.slow_budget = left;
            self.events.report(event);
        }
    }

    /// Queues a frame for a port, or drops it.
    #[inline]
    pub(super) fn send(&mut self, port: PortId, frame: Frame) {
        if let Err((frame, reason)) = self.out.send(port, frame) {
            self.drop(frame, reason);
        }
    }
}
