//! The way out: a transmit queue per own port, a bounded link per other worker.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use shunt_afxdp::Frame;
use shunt_api::RateLimit;

use crate::stats::DropReason;
use crate::tables::{PortId, Tables};

/// Frames on their way from one worker to the port of another.
pub type Link = Arc<ArrayQueue<(PortId, Frame)>>;

/// How many frames a link holds.
pub const LINK_CAPACITY: usize = 4096;

/// How long a frame may wait for a port whose rate is limited, in milliseconds, if all are full
/// size.
const QUEUE_MS: u64 = 50;
/// Bytes of a full-size Ethernet frame.
const FULL_FRAME: u64 = 1514;
/// A connection needs some frames of room however slow the port is.
const MIN_LIMITED_QUEUE: usize = 32;

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
    /// By port whose rate is limited, how many frames wait at most.
    limits: Vec<Option<usize>>,
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
            limits: Vec::new(),
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
        let ports = self.queues.len().max(self.limits.len());
        self.limits.resize(ports, None);
        self.busy.reserve(ports);
    }

    /// Says how fast a port of this worker's may take frames: its queue is no longer than that
    /// rate empties in a moment.
    pub(crate) fn limit(&mut self, port: PortId, rate: Option<RateLimit>) {
        if self.limits.len() <= port.index() {
            self.limits.resize(port.index() + 1, None);
        }
        self.limits[port.index()] = rate.map(|rate| {
            let frames = rate.rate / 8 * QUEUE_MS / 1000 / FULL_FRAME;
            usize::try_from(frames)
                .unwrap_or(usize::MAX)
                .max(MIN_LIMITED_QUEUE)
                .min(self.capacity)
        });
    }

    /// Queues `frame` for `port`; a frame that cannot be queued comes back with the reason.
    #[inline]
    pub fn send(&mut self, port: PortId, frame: Frame) -> Result<(), (Frame, DropReason)> {
        match self.places.get(port.index()) {
            Some(Place::Here) => {
                let queue = &mut self.queues[port.index()];
                if let Some(limit) = self.limits[port.index()]
                    && queue.len() >= limit
                {
                    return Err((frame, DropReason::RateLimit));
                }
                if queue.len() == self.capacity {
                    return Err((frame, DropReason::TxQueueFull));
                }
                if queue.is_empty() {
                    self.busy.push(port);
                }
                queue.push(frame);
                Ok(())
            }
            Some(Place::Worker(worker)) => {
                let worker = *worker;
                self.link(worker, port, frame)
            }
            Some(Place::Nowhere) | None => Err((frame, DropReason::PortGone)),
        }
    }

    #[inline(never)]
    fn link(
        &mut self,
        worker: usize,
        port: PortId,
        frame: Frame,
    ) -> Result<(), (Frame, DropReason)> {
        let Some(link) = self.links.get(worker) else {
            return Err((frame, DropReason::PortGone));
        };
        match link.push((port, frame)) {
            Ok(()) => {
                self.linked += 1;
                Ok(())
            }
            Err((_, frame)) => Err((frame, DropReason::LinkFull)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_afxdp::{Pool, Umem, UmemConfig};
    use std::sync::atomic::AtomicBool;

    use crate::tables::{DomainId, PortEntry, Role};

    fn tables(owners: &[Option<usize>]) -> Tables {
        let entry = |worker| PortEntry {
            role: Role::Pod,
            worker,
            domain: DomainId(0),
            mtu: 1500,
            mac: None,
            partial_checksums: false,
            fdb_full: Arc::new(AtomicBool::new(false)),
            guard: None,
        };
        Tables {
            version: 1,
            ports: owners.iter().map(|owner| owner.map(entry)).collect(),
            ..Tables::default()
        }
    }

    /// Worker 0 of two: port 0 is its own, port 1 the other's, port 2 nobody's.
    fn outbox(link: usize) -> (Outbox, Link, Pool) {
        let links: Vec<Link> = (0..2).map(|_| Arc::new(ArrayQueue::new(link))).collect();
        let mut out = Outbox::new(0, 2, links.clone());
        out.follow(&tables(&[Some(0), Some(1), None]));
        let config = UmemConfig {
            chunk_size: 2048,
            chunks: 64,
            headroom: 64,
        };
        let umem = Umem::new(config).expect("packet memory");
        (out, Arc::clone(&links[1]), Pool::new(&umem))
    }

    fn send(out: &mut Outbox, pool: &mut Pool, port: u16) -> Result<(), DropReason> {
        let frame = pool.alloc_copy(&[0; 60]).expect("a frame");
        out.send(PortId(port), frame).map_err(|(frame, reason)| {
            pool.free(frame);
            reason
        })
    }

    #[test]
    fn own_ports_queue_and_are_bounded() {
        let (mut out, _, mut pool) = outbox(4);
        assert_eq!(send(&mut out, &mut pool, 0), Ok(()));
        assert_eq!(send(&mut out, &mut pool, 0), Ok(()));
        assert_eq!(send(&mut out, &mut pool, 0), Err(DropReason::TxQueueFull));
        assert_eq!(out.held(), 2);
        let mut visits = Vec::new();
        // The port takes one and leaves the other, which stays queued.
        for _ in 0..3 {
            out.flush(|port, queue| {
                visits.push((port, queue.len()));
                pool.free(queue.remove(0));
            });
        }
        assert_eq!(visits, [(PortId(0), 2), (PortId(0), 1)]);
        assert_eq!(out.held(), 0);
    }

    #[test]
    fn other_workers_ports_are_reached_by_a_bounded_link() {
        let (mut out, link, mut pool) = outbox(1);
        assert_eq!(send(&mut out, &mut pool, 1), Ok(()));
        assert_eq!(send(&mut out, &mut pool, 1), Err(DropReason::LinkFull));
        assert_eq!(out.take_linked(), 1);
        assert_eq!(out.take_linked(), 0);
        let (port, frame) = link.pop().expect("a frame");
        assert_eq!(port, PortId(1));
        pool.free(frame);
    }

    #[test]
    fn ports_that_are_not_there_take_nothing() {
        let (mut out, _, mut pool) = outbox(1);
        assert_eq!(send(&mut out, &mut pool, 2), Err(DropReason::PortGone));
        assert_eq!(send(&mut out, &mut pool, 3), Err(DropReason::PortGone));
    }

    #[test]
    fn the_queue_of_a_port_that_goes_comes_back() {
        let (mut out, _, mut pool) = outbox(1);
        assert_eq!(send(&mut out, &mut pool, 0), Ok(()));
        let taken = out.take(PortId(0));
        assert_eq!((taken.len(), out.held()), (1, 0));
        taken.into_iter().for_each(|frame| pool.free(frame));
        out.flush(|port, _| panic!("{port} has nothing to send"));
    }
}
