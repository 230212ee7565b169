//! A port of a worker's, with what it may do.

use shunt_afxdp::{Frame, Pool};

use super::bucket::TokenBucket;
use super::command::Limits;
use crate::port::{Port, Sent};
use crate::stats::{DropReason, PortCounters};
use crate::street::Budget;
use crate::tables::Policy;

/// Requests to the switch itself (ARP, NDP, echo) that a port may make in a second.
const SLOW_PER_SECOND: u32 = 1000;
/// Events for the control thread that it may cause.
const EVENTS_PER_SECOND: u32 = 1000;

/// A port and its books.
pub(super) struct Owned {
    pub(super) port: Port,
    pub(super) counters: PortCounters,
    pub(super) budget: Budget,
    pub(super) said_dead: bool,
    /// The second that the budget is for.
    second: u32,
    /// What the pod may receive.
    ingress: Option<TokenBucket>,
    /// What it may send.
    egress: Option<TokenBucket>,
}

fn bucket(limit: Option<shunt_api::RateLimit>) -> Option<TokenBucket> {
    let limit = limit?;
    let burst = u32::try_from(limit.burst / 8).unwrap_or(u32::MAX);
    Some(TokenBucket::new(limit.rate, burst))
}

impl Owned {
    pub(super) fn new(port: Port, limits: Limits) -> Self {
        Self {
            port,
            counters: PortCounters::default(),
            budget: Budget::default(),
            said_dead: false,
            second: u32::MAX,
            ingress: bucket(limits.ingress),
            egress: bucket(limits.egress),
        }
    }

    /// Fills the budget up when a new second has begun.
    #[inline]
    pub(super) fn renew(&mut self, second: u32, policy: &Policy) {
        if self.second != second {
            self.second = second;
            self.budget = Budget {
                slow: SLOW_PER_SECOND,
                events: EVENTS_PER_SECOND,
                flood: policy.storm_limit,
                icmp: policy.icmp_rate,
            };
        }
    }

    /// Whether the pod may send now. What it may not stays in the ring, and what finds no room
    /// there the kernel counts.
    #[inline]
    pub(super) fn may_send(&mut self, now: impl FnOnce() -> u64) -> bool {
        match &mut self.egress {
            None => true,
            Some(bucket) => {
                bucket.refill(now());
                bucket.available()
            }
        }
    }

    /// The pod has sent this much.
    #[inline]
    pub(super) fn has_sent(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.egress {
            bucket.spend(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// Sends from the front of `queue` what the pod may receive now; the rest stays there.
    /// `scratch` is empty before and after.
    #[inline]
    pub(super) fn transmit(
        &mut self,
        pool: &mut Pool,
        queue: &mut Vec<Frame>,
        scratch: &mut Vec<Frame>,
        now: impl FnOnce() -> u64,
    ) {
        let sent = match &mut self.ingress {
            None => self.port.tx(pool, queue),
            Some(bucket) => {
                bucket.refill(now());
                let may = queue
                    .iter()
                    .take_while(|frame| bucket.take(u32::try_from(frame.len()).unwrap_or(u32::MAX)))
                    .count();
                if may == 0 {
                    return;
                }
                scratch.extend(queue.drain(..may));
                let sent = self.port.tx(pool, scratch);
                // What the device did not take has been paid for: it goes first next time, and a
                // device that is full is slower than the limit.
                queue.splice(..0, scratch.drain(..));
                sent
            }
        };
        self.count(sent);
        if self.port.is_dead() {
            for frame in queue.drain(..) {
                self.counters.drop(DropReason::TxRejected);
                pool.free(frame);
            }
        }
    }

    fn count(&mut self, sent: Sent) {
        self.counters.tx_packets += sent.packets as u64;
        self.counters.tx_bytes += sent.bytes as u64;
        self.counters.drops[DropReason::TxRejected as usize] += sent.rejected as u64;
    }
}
