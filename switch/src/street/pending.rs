//! Frames that wait for a link-layer address: few, and not for long.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_afxdp::Frame;

use crate::stats::DropReason;
use crate::tables::PortId;

/// How many frames wait, and how long.
#[derive(Debug, Clone, Copy)]
pub struct PendingLimits {
    /// Frames that wait for one next hop or host.
    pub per_neighbour: usize,
    /// Frames of one worker.
    pub total: usize,
    /// How long a frame waits.
    pub timeout: Duration,
}

struct Waiting {
    frame: Frame,
    port: PortId,
    destination: IpAddr,
    hop: u16,
    deadline: Instant,
}

/// The waiting room of one worker.
pub struct Pending {
    limits: PendingLimits,
    waiting: Vec<Waiting>,
}

impl Pending {
    /// An empty one.
    pub fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            waiting: Vec::with_capacity(limits.total),
        }
    }

    /// Takes in a frame that port `port` received. Frames that wait for the same thing share a
    /// limit: the next hop `hop`, and on a connected subnet (`glean`) the destination.
    pub(super) fn push(
        &mut self,
        frame: Frame,
        port: PortId,
        hop: u16,
        destination: IpAddr,
        glean: bool,
    ) -> Result<(), (Frame, DropReason)> {
        let same = self
            .waiting
            .iter()
            .filter(|w| w.hop == hop && (!glean || w.destination == destination))
            .count();
        if same >= self.limits.per_neighbour || self.waiting.len() >= self.limits.total {
            return Err((frame, DropReason::NeighbourQueueFull));
        }
        let deadline = Instant::now() + self.limits.timeout;
        self.waiting.push(Waiting {
            frame,
            port,
            destination,
            hop,
            deadline,
        });
        Ok(())
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out, up to `limit`, frames that one port received and whose time is over. Returns that
    /// port.
    pub(crate) fn take_expired(
        &mut self,
        batch: &mut Vec<Frame>,
        limit: usize,
        now: Instant,
    ) -> Option<PortId> {
        self.take(batch, limit, |waiting| waiting.deadline <= now)
    }

    /// Takes out everything.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Frame)) {
        for waiting in self.waiting.drain(..) {
            each(waiting.frame);
        }
    }

    /// Takes out, in order and up to `limit`, frames that one port received and whose destination
    /// is `ready` now. Returns that port.
    pub(crate) fn take_ready(
        &mut self,
        batch: &mut Vec<Frame>,
        limit: usize,
        mut ready: impl FnMut(IpAddr) -> bool,
    ) -> Option<PortId> {
        self.take(batch, limit, |waiting| ready(waiting.destination))
    }

    fn take(
        &mut self,
        batch: &mut Vec<Frame>,
        limit: usize,
        mut wanted: impl FnMut(&Waiting) -> bool,
    ) -> Option<PortId> {
        let mut port = None;
        let mut index = 0;
        while index < self.waiting.len() && batch.len() < limit {
            let waiting = &self.waiting[index];
            if port.is_none_or(|port| port == waiting.port) && wanted(waiting) {
                port = Some(waiting.port);
                batch.push(self.waiting.remove(index).frame);
            } else {
                index += 1;
            }
        }
        port
    }
}
