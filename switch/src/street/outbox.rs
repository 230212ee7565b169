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

    use crate::config::Mode;
    use crate::tables::{DomainId, PortEntry, Role, Underlay};

    fn tables(owners: &[Option<usize>]) -> Tables {
        let entry = |worker| PortEntry {
            role: Role::Pod,
            worker,
            domain: DomainId(0),
            mtu: 1500,
            mac: None,
            partial_checksums: false,
            fdb_full: Arc::new(AtomicBool::new(false)),
        };
        Tables {
            version: 1,
            mode: Mode::L3,
            gateway: [169, 254, 1, 1].into(),
            gateway_mac: shunt_api::MacAddr([0xee; 6]),
            underlay: Underlay {
                address: [192, 168, 0, 1].into(),
                vni: 1,
                vxlan_port: 8472,
                vtep_mac: shunt_api::MacAddr::default(),
                peers: Vec::new(),
            },
            ports: owners.iter().map(|owner| owner.map(entry)).collect(),
            domains: Vec::new(),
            next_hops: Vec::new(),
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
