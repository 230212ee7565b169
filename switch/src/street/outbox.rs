//! The way out: a transmit queue per own port, a bounded link per other worker.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use shunt_afxdp::Frame;

use crate::stats::DropReason;
use crate::tables::{PortId, Tables};

/// Frames on their way from one worker to the port of another.
pub type Link = Arc<ArrayQueue<(PortId, Frame)>>;

/// How many frames a link holds.
pub const LINK_CAPACITY: usize = 4096;

/// Where an outgoing port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Here,
    Worker(usize),
}

/// Outgoing frames of one worker.
pub struct Outbox {
    worker: usize,
    places: Vec<Place>,
    queues: Vec<Vec<Frame>>,
    /// Ports with frames in their queue.
    busy: Vec<PortId>,
    capacity: usize,
    links: Vec<Link>,
    linked: u64,
}

impl Outbox {
    /// For worker number `worker`; `links` leads to each worker by number (the own one unused).
    /// A port's queue holds `capacity` frames.
    pub fn new(worker: usize, capacity: usize, links: Vec<Link>) -> Self {
        Self {
            worker,
            places: Vec::new(),
            queues: Vec::new(),
            busy: Vec::new(),
            capacity,
            links,
            linked: 0,
        }
    }

    /// Takes over a new snapshot: which port is whose.
    pub(crate) fn follow(&mut self, tables: &Tables) {
        let ports = tables.ports.len();
        self.places.clear();
        self.places
            .extend(tables.ports.iter().map(|port| match port {
                None => Place::Nowhere,
                Some(port) if port.worker == self.worker => Place::Here,
                Some(port) => Place::Worker(port.worker),
            }));
        while self.queues.len() < ports {
            self.queues.push(Vec::with_capacity(self.capacity));
        }
        self.busy.reserve(ports);
    }

    /// Queues `frame` for `port`; a frame that cannot be queued comes back with the reason.
    #[inline]
    pub fn send(&mut self, port: PortId, frame: Frame) -> Result<(), (Frame, DropReason)> {
        match self.places.get(port.index()) {
            Some(Place::Here) => {
                let queue = &mut self.queues[port.index()];
                if queue.len() == self.capacity {
                    return Err((frame, DropReason::TxQueueFull));
                }
                if queue.is_empty() {
                    self.busy.push(port);
                }
                queue.push(frame);
                Ok(())
            }
            Some(Place::Worker(worker)) => match self.links.get(*worker) {
                None => Err((frame, DropReason::PortGone)),
                Some(link) => match link.push((port, frame)) {
                    Ok(()) => {
                        self.linked += 1;
                        Ok(())
                    }
                    Err((_, frame)) => Err((frame, DropReason::LinkFull)),
                },
            },
            Some(Place::Nowhere) | None => Err((frame, DropReason::PortGone)),
        }
    }

    /// How many frames went to other workers since the last call.
    pub(crate) fn take_linked(&mut self) -> u64 {
        std::mem::take(&mut self.linked)
    }

    /// Hands each busy port's queue to `transmit`; a queue it leaves frames in stays busy.
    pub(crate) fn flush(&mut self, mut transmit: impl FnMut(PortId, &mut Vec<Frame>)) {
        let queues = &mut self.queues;
        self.busy.retain(|port| {
            let queue = &mut queues[port.index()];
            transmit(*port, queue);
            !queue.is_empty()
        });
    }

    /// The frames still queued for `port`, which is going away.
    pub(crate) fn take(&mut self, port: PortId) -> Vec<Frame> {
        self.busy.retain(|busy| *busy != port);
        match self.queues.get_mut(port.index()) {
            Some(queue) => std::mem::replace(queue, Vec::with_capacity(self.capacity)),
            None => Vec::new(),
        }
    }

    /// Frames queued here, on no link.
    pub(crate) fn held(&self) -> usize {
        self.busy
            .iter()
            .map(|port| self.queues[port.index()].len())
            .sum()
    }
}
