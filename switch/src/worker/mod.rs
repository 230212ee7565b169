//! A worker: one pinned thread that polls its ports and carries their frames down the street.

mod bucket;
mod command;
mod owned;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam::channel::Receiver;
use shunt_afxdp::{Frame, Pool};
use shunt_fib::{Fib4Reader, Fib6Reader, NextHopIndex};

pub use command::{Command, Limits, PortSnapshot, WorkerSnapshot};
use owned::Owned;

use crate::port::Port;
use crate::stats::{DropReason, PortCounters, WorkerCounters};
use crate::street::{Budget, Context, Event, Events, Link, Outbox, Pending, PendingLimits, Street};
use crate::tables::{Action, Clock, PortEntry, PortId, Tables};

/// Frames that wait in a port's transmit queue at most.
const TX_QUEUE: usize = 512;
/// Rounds without a frame after which the thread offers its core to others.
const IDLE_ROUNDS: u32 = 64;

/// What a worker is made of.
pub struct WorkerParts {
    /// Its number.
    pub index: usize,
    /// Frames per batch at most.
    pub batch: usize,
    /// Its share of the frames.
    pub pool: Pool,
    /// Its view of the FIB of IPv4.
    pub fib: Fib4Reader,
    /// Its view of the FIB of IPv6.
    pub fib6: Fib6Reader,
    /// The first snapshot.
    pub tables: Arc<Tables>,
    /// The second.
    pub clock: Arc<Clock>,
    /// Limits of the waiting room.
    pub pending: PendingLimits,
    /// A link to each worker by number, its own one being the way in.
    pub links: Vec<Link>,
    /// Commands.
    pub commands: Receiver<Command>,
    /// Events.
    pub events: Events,
    /// Where it says which snapshot it has reached.
    pub passed: Arc<AtomicU64>,
}

/// One worker.
pub struct Worker {
    batch: Vec<Frame>,
    batch_size: usize,
    resumed: Vec<Frame>,
    pool: Pool,
    fib: Fib4Reader,
    fib6: Fib6Reader,
    tables: Arc<Tables>,
    clock: Arc<Clock>,
    link: Link,
    commands: Receiver<Command>,
    passed: Arc<AtomicU64>,
    /// By [`PortId`].
    ports: Vec<Option<Owned>>,
    /// The slots in use.
    order: Vec<PortId>,
    street: Street,
    pending: Pending,
    out: Outbox,
    events: Events,
    counters: WorkerCounters,
    /// Where rates are measured from.
    epoch: Instant,
    /// Frames between a queue and a port whose rate is limited.
    scratch: Vec<Frame>,
}

/// Nanoseconds since `epoch`.
fn nanoseconds(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Worker {
    /// Puts one together.
    pub fn new(parts: WorkerParts) -> Self {
        let link = Arc::clone(&parts.links[parts.index]);
        let mut out = Outbox::new(parts.index, TX_QUEUE, parts.links);
        out.follow(&parts.tables);
        parts.passed.store(parts.tables.version, Ordering::Release);
        Self {
            batch: Vec::with_capacity(parts.batch),
            batch_size: parts.batch,
            resumed: Vec::with_capacity(parts.batch),
            pool: parts.pool,
            fib: parts.fib,
            fib6: parts.fib6,
            tables: parts.tables,
            clock: parts.clock,
            link,
            commands: parts.commands,
            passed: parts.passed,
            ports: Vec::new(),
            order: Vec::new(),
            street: Street::new(parts.batch),
            pending: Pending::new(parts.pending),
            out,
            events: parts.events,
            counters: WorkerCounters::default(),
            epoch: Instant::now(),
            scratch: Vec::with_capacity(TX_QUEUE),
        }
    }

    /// Polls until told to stop.
    pub fn run(mut self) {
        let mut idle = 0;
        loop {
            if !self.commands.is_empty() && !self.obey() {
                return;
            }
            if self.turn() {
                idle = 0;
            } else {
                idle += 1;
                if idle >= IDLE_ROUNDS {
                    std::thread::yield_now();
                }
            }
        }
    }

    /// One round over all ports; true when a frame moved.
    pub fn turn(&mut self) -> bool {
        self.fib.quiescent();
        self.fib6.quiescent();
        let mut moved = self.take_links();
        for index in 0..self.order.len() {
            moved |= self.serve(self.order[index]);
        }
        if !self.pending.is_empty() {
            self.expire();
        }
        self.flush();
        self.events.flush();
        moved
    }

    /// Carries out the waiting commands; false after [`Command::Stop`].
    pub fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Tables(tables) => self.follow(tables),
                Command::AddPort { id, port, limits } => self.add(id, *port, limits),
                Command::RemovePort { id, reply } => {
                    // Without a listener the port is closed by its own drop.
                    let _ = reply.send(self.remove(id));
                }
                Command::Resume => self.resume(),
                Command::Send { ports, frame } => self.originate(&ports, &frame),
                Command::Pinhole { id, pinhole, reply } => {
                    if let Some(Some(owned)) = self.ports.get_mut(id.index()) {
                        let _ = reply.send(owned.port.set_pinhole(pinhole));
                    }
                }
                Command::Snapshot(reply) => {
                    let _ = reply.send(self.snapshot());
                }
                Command::Stop(reply) => {
                    let order = self.order.clone();
                    let ports = order
                        .into_iter()
                        .filter_map(|id| Some((id, self.remove(id)?)))
                        .collect();
                    self.abandon();
                    let _ = reply.send(ports);
                    return false;
                }
            }
        }
        true
    }

    fn follow(&mut self, tables: Arc<Tables>) {
        self.out.follow(&tables);
        self.tables = tables;
        self.passed.store(self.tables.version, Ordering::Release);
        self.resume();
    }

    fn add(&mut self, id: PortId, port: Port, limits: Limits) {
        while self.ports.len() <= id.index() {
            self.ports.push(None);
        }
        self.out.limit(id, limits.ingress);
        self.ports[id.index()] = Some(Owned::new(port, limits));
        self.order.push(id);
        self.order.sort_unstable();
    }

    fn remove(&mut self, id: PortId) -> Option<Box<Port>> {
        let mut owned = self.ports.get_mut(id.index())?.take()?;
        self.order.retain(|other| *other != id);
        for frame in self.out.take(id) {
            owned.counters.drop(DropReason::PortGone);
            self.pool.free(frame);
        }
        self.counters.retired.add(&owned.counters);
        Some(Box::new(owned.port))
    }

    /// At the end: frames that still wait are dropped by name.
    fn abandon(&mut self) {
        while let Some((_, frame)) = self.link.pop() {
            self.counters.from_links += 1;
            self.counters.retired.drop(DropReason::PortGone);
            self.pool.free(frame);
        }
        let (pool, retired) = (&mut self.pool, &mut self.counters.retired);
        self.pending.drain(|frame| {
            retired.drop(DropReason::NeighbourTimeout);
            pool.free(frame);
        });
    }

    /// Receives one batch from a port and carries it down the street.
    fn serve(&mut self, id: PortId) -> bool {
        let Some(Some(owned)) = self.ports.get_mut(id.index()) else {
            return false;
        };
        if self.tables.port(id).is_none() {
            return false;
        }
        owned.port.complete(&mut self.pool);
        if !owned.may_send(|| nanoseconds(self.epoch)) {
            return false;
        }
        let received = owned
            .port
            .rx(&mut self.pool, &mut self.batch, self.batch_size);
        if received == 0 {
            if owned.port.is_dead() && !owned.said_dead {
                owned.said_dead = self.events.report(Event::PortDead(id));
            }
            return false;
        }
        let bytes = self.batch.iter().map(Frame::len).sum::<usize>() as u64;
        owned.counters.rx_packets += received as u64;
        owned.counters.rx_bytes += bytes;
        owned.has_sent(bytes);
        let mut batch = std::mem::take(&mut self.batch);
        self.walk(id, &mut batch, Street::run);
        self.batch = batch;
        true
    }

    /// Sends a batch of one port's frames down the street, from where `stages` begins.
    #[inline]
    fn walk(
        &mut self,
        id: PortId,
        batch: &mut Vec<Frame>,
        stages: impl FnOnce(&mut Street, &mut Context<'_>, &mut Vec<Frame>),
    ) {
        let now = self.clock.now();
        // Frames may have waited longer than their port was there.
        let gone;
        let entry = match self.tables.port(id) {
            Some(entry) => entry,
            // It allocates, so for those alone.
            None => {
                gone = PortEntry::gone();
                &gone
            }
        };
        let mut orphans = PortCounters::default();
        let mut no_budget = Budget::default();
        let (counters, budget) = match self.ports.get_mut(id.index()) {
            Some(Some(owned)) => {
                owned.renew(now, &self.tables.policy);
                (&mut owned.counters, &mut owned.budget)
            }
            _ => (&mut orphans, &mut no_budget),
        };
        let mut context = Context {
            port: id,
            entry,
            tables: &self.tables,
            fib: &self.fib,
            fib6: &self.fib6,
            now,
            budget,
            pool: &mut self.pool,
            counters,
            worker: &mut self.counters,
            pending: &mut self.pending,
            out: &mut self.out,
            events: &mut self.events,
        };
        stages(&mut self.street, &mut context, batch);
        if orphans.dropped() > 0 {
            self.counters.retired.add(&orphans);
        }
        self.flush();
    }

    /// Sends what the stages queued.
    fn flush(&mut self) {
        let (ports, pool, counters) = (&mut self.ports, &mut self.pool, &mut self.counters);
        let (scratch, epoch) = (&mut self.scratch, self.epoch);
        self.out.flush(|id, queue| {
            let Some(Some(owned)) = ports.get_mut(id.index()) else {
                for frame in queue.drain(..) {
                    counters.retired.drop(DropReason::PortGone);
                    pool.free(frame);
                }
                return;
            };
            owned.transmit(pool, queue, scratch, || nanoseconds(epoch));
        });
        counters.to_links += self.out.take_linked();
    }

    /// Takes over frames that other workers have for this one's ports.
    fn take_links(&mut self) -> bool {
        let mut moved = false;
        for _ in 0..self.batch_size {
            let Some((port, frame)) = self.link.pop() else {
                break;
            };
            moved = true;
            self.counters.from_links += 1;
            // Only the owner's queue is a right place now: a frame that has missed its port must
            // not go round.
            let owned = self.ports.get(port.index()).is_some_and(Option::is_some);
            let refused = if owned {
                self.out.send(port, frame)
            } else {
                Err((frame, DropReason::PortGone))
            };
            if let Err((frame, reason)) = refused {
                self.counters.retired.drop(reason);
                self.pool.free(frame);
            }
        }
        moved
    }

    /// Sends a frame that the control thread made.
    fn originate(&mut self, ports: &[PortId], bytes: &[u8]) {
        for port in ports {
            self.counters.generated += 1;
            let Some(frame) = self.pool.alloc_copy(bytes) else {
                self.counters.retired.drop(DropReason::PoolEmpty);
                continue;
            };
            if let Err((frame, reason)) = self.out.send(*port, frame) {
                self.counters.retired.drop(reason);
                self.pool.free(frame);
            }
        }
        self.flush();
    }

    /// Carries on what had to wait and need not any more.
    fn resume(&mut self) {
        loop {
            let (fib, fib6, hops) = (&self.fib, &self.fib6, &self.tables.next_hops);
            let ready = |destination: IpAddr| {
                let hop = match destination {
                    IpAddr::V4(v4) => fib.lookup(v4),
                    IpAddr::V6(v6) => fib6.lookup(v6),
                };
                let action = hop
                    .and_then(|hop: NextHopIndex| hops.get(usize::from(hop.get())))
                    .map(|hop| hop.action);
                !matches!(action, Some(Action::Wait | Action::Glean))
            };
            let mut batch = std::mem::take(&mut self.resumed);
            let port = self.pending.take_ready(&mut batch, self.batch_size, ready);
            if let Some(id) = port {
                self.walk(id, &mut batch, Street::resume);
            }
            self.resumed = batch;
            if port.is_none() {
                return;
            }
        }
    }

    /// Ends what has waited in vain.
    fn expire(&mut self) {
        loop {
            let mut batch = std::mem::take(&mut self.resumed);
            let port = self
                .pending
                .take_expired(&mut batch, self.batch_size, Instant::now());
            if let Some(id) = port {
                self.walk(id, &mut batch, Street::expire);
            }
            self.resumed = batch;
            if port.is_none() {
                return;
            }
        }
    }

    fn snapshot(&mut self) -> WorkerSnapshot {
        self.counters.held = (self.pending.len() + self.out.held()) as u64;
        let ports = self.order.iter().filter_map(|id| {
            let owned = self.ports.get(id.index())?.as_ref()?;
            Some(PortSnapshot {
                id: *id,
                counters: owned.counters.clone(),
                kernel: owned.port.kernel_counters(),
            })
        });
        WorkerSnapshot {
            worker: self.counters.clone(),
            ports: ports.collect(),
            pool_free: self.pool.local(),
        }
    }
}
