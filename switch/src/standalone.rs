//! The street alone: one worker over ports of the caller's choice, with no daemon and no control
//! thread. For benches and tests, which write the tables themselves and turn the crank.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam::channel::{Sender, unbounded};
use crossbeam::queue::ArrayQueue;
use ipnet::IpNet;
use shunt_afxdp::{Pool, Umem, UmemConfig};
use shunt_api::MacAddr;
use shunt_fib::{Fib4Config, Fib4Writer, Fib6Config, Fib6Writer, NextHopIndex};

use crate::config::Mode;
use crate::port::Port;
use crate::stats::PortCounters;
use crate::street::{Event, Events, LINK_CAPACITY, PendingLimits};
use crate::tables::{
    Clock, Domain, DomainId, Fdb, FlowTable, Guard, NextHop, Policy, PortEntry, PortId, Role,
    Tables, Underlay,
};
use crate::worker::{Command, Limits, Worker, WorkerParts, WorkerSnapshot};

/// How a [`Standalone`] is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How pods are joined.
    pub mode: Mode,
    /// Frames per batch.
    pub batch: usize,
    /// Frames of the pool.
    pub frames: u32,
    /// Limits of the waiting room.
    pub pending: PendingLimits,
    /// Stations that the MAC table takes.
    pub max_macs: usize,
    /// The gateway's address and MAC.
    pub gateway: (Ipv4Addr, MacAddr),
    /// This node on the underlay.
    pub underlay: Underlay,
}

/// Why it could not be set up, or a route not be installed.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// No packet memory.
    #[error(transparent)]
    Memory(#[from] shunt_afxdp::Error),
    /// The FIB refused.
    #[error(transparent)]
    Fib(#[from] shunt_fib::FibError),
    /// More next hops than the FIB can name.
    #[error("all {} next hops are in use", NextHopIndex::MAX.get())]
    NextHops,
}

/// One worker and its tables.
pub struct Standalone {
    umem: Arc<Umem>,
    worker: Worker,
    commands: Sender<Command>,
    events: Arc<ArrayQueue<Event>>,
    fib: Fib4Writer,
    fib6: Fib6Writer,
    fdb: Arc<Fdb>,
    clock: Arc<Clock>,
    tables: Tables,
}

impl Standalone {
    /// A switch without ports.
    ///
    /// # Errors
    /// The packet memory or the FIB cannot be allocated.
    pub fn new(setup: Setup) -> Result<Self, StandaloneError> {
        let umem = Umem::new(UmemConfig {
            chunk_size: 2048,
            chunks: setup.frames,
            headroom: crate::tables::HEADROOM,
        })?;
        let mut fib = Fib4Writer::new(Fib4Config::default())?;
        let mut fib6 = Fib6Writer::new(Fib6Config::default())?;
        let fdb = Arc::new(Fdb::new(setup.max_macs));
        let tables = Tables {
            version: 1,
            mode: setup.mode,
            gateway: setup.gateway.0,
            gateway_mac: setup.gateway.1,
            underlay: setup.underlay,
            domains: vec![Domain {
                fdb: Arc::clone(&fdb),
                members: Vec::new(),
                multicast: None,
            }],
            ..Tables::default()
        };
        let (commands, obeyed) = unbounded();
        let events = Arc::new(ArrayQueue::new(1024));
        let clock = Arc::new(Clock::default());
        let worker = Worker::new(WorkerParts {
            index: 0,
            batch: setup.batch,
            pool: Pool::new(&umem),
            fib: fib.reader()?,
            fib6: fib6.reader()?,
            tables: Arc::new(tables.clone()),
            clock: Arc::clone(&clock),
            pending: setup.pending,
            links: vec![Arc::new(ArrayQueue::new(LINK_CAPACITY))],
            commands: obeyed,
            events: Events::new(Arc::clone(&events), None),
            passed: Arc::default(),
        });
        Ok(Self {
            umem,
            worker,
            commands,
            events,
            fib,
            fib6,
            fdb,
            clock,
            tables,
        })
    }

    /// Attaches a port with the given role and MTU in bytes.
    pub fn add_port(
        &mut self,
        port: Port,
        role: Role,
        mtu: u16,
        partial_checksums: bool,
    ) -> PortId {
        self.add_port_with(port, role, mtu, partial_checksums, Limits::default())
    }

    /// [`add_port`](Self::add_port) with limits of what may pass.
    pub fn add_port_with(
        &mut self,
        port: Port,
        role: Role,
        mtu: u16,
        partial_checksums: bool,
        limits: Limits,
    ) -> PortId {
        // Far fewer ports than slots are ever attached this way.
        let id = PortId(self.tables.ports.len() as u16);
        self.tables.ports.push(Some(PortEntry {
            role,
            worker: 0,
            domain: DomainId(0),
            mtu,
            mac: None,
            partial_checksums,
            fdb_full: Arc::new(AtomicBool::new(false)),
            guard: None,
        }));
        if role == Role::Pod {
            self.tables.domains[0].members.push(id);
        }
        self.command(Command::AddPort {
            id,
            port: Box::new(port),
            limits,
        });
        self.publish();
        id
    }

    /// Says what may come from a port.
    pub fn set_guard(&mut self, id: PortId, guard: Guard) {
        if let Some(Some(entry)) = self.tables.ports.get_mut(id.index()) {
            entry.guard = Some(Arc::new(guard));
        }
        self.publish();
    }

    /// Says which next hops lead to the node's own stack, for IPv4 and IPv6.
    pub fn set_to_host(&mut self, to_host: [Option<NextHopIndex>; 2]) {
        self.tables.to_host = to_host.map(|hop| hop.map(NextHopIndex::get));
        self.publish();
    }

    /// Changes what all ports share.
    pub fn set_policy(&mut self, policy: Policy) {
        self.tables.policy = policy;
        self.publish();
    }

    /// The connections to services.
    pub fn flows(&self) -> &FlowTable {
        &self.tables.flows
    }

    /// Says which MAC address frames to a port must be sent to, as for an uplink's NIC.
    pub fn set_port_mac(&mut self, id: PortId, mac: MacAddr) {
        if let Some(Some(entry)) = self.tables.ports.get_mut(id.index()) {
            entry.mac = Some(mac);
        }
        self.publish();
    }

    /// Adds a next hop.
    ///
    /// # Errors
    /// There are too many.
    pub fn add_next_hop(&mut self, hop: NextHop) -> Result<NextHopIndex, StandaloneError> {
        let index = u16::try_from(self.tables.next_hops.len())
            .ok()
            .and_then(NextHopIndex::new);
        let index = index.ok_or(StandaloneError::NextHops)?;
        if let Some(peer) = hop.peer {
            let peers = &mut self.tables.underlay.peers;
            peers.push(peer);
            peers.sort_unstable();
            peers.dedup();
        }
        self.tables.next_hops.push(hop);
        self.publish();
        Ok(index)
    }

    /// Replaces a next hop, as the control thread does when a neighbour is found.
    pub fn set_next_hop(&mut self, index: NextHopIndex, hop: NextHop) {
        if let Some(slot) = self.tables.next_hops.get_mut(usize::from(index.get())) {
            *slot = hop;
        }
        self.publish();
    }

    /// Routes a prefix to a next hop.
    ///
    /// # Errors
    /// The FIB is full.
    pub fn add_route(
        &mut self,
        prefix: impl Into<IpNet>,
        hop: NextHopIndex,
    ) -> Result<(), StandaloneError> {
        match prefix.into() {
            IpNet::V4(prefix) => self.fib.insert(prefix, hop)?,
            IpNet::V6(prefix) => self.fib6.insert(prefix, hop)?,
        };
        Ok(())
    }

    /// Carries on frames that waited for a route that is there now.
    pub fn resume(&mut self) {
        self.command(Command::Resume);
    }

    /// The MAC table.
    pub fn fdb(&self) -> &Fdb {
        &self.fdb
    }

    /// The second that the worker sees.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The port's entry.
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.tables.port(id)
    }

    /// One round of the worker over all ports; true when a frame moved.
    #[inline]
    pub fn turn(&mut self) -> bool {
        self.worker.turn()
    }

    /// What the worker has reported since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.pop()).collect()
    }

    /// The worker's counters, and the sum of all ports'.
    pub fn counters(&mut self) -> (WorkerSnapshot, PortCounters) {
        let (reply, answer) = unbounded();
        self.command(Command::Snapshot(reply));
        let snapshot = answer.try_recv().unwrap_or_default();
        let mut total = snapshot.worker.retired.clone();
        for port in &snapshot.ports {
            total.add(&port.counters);
        }
        (snapshot, total)
    }

    /// Takes a port away again and closes it.
    pub fn remove_port(&mut self, id: PortId) {
        if let Some(slot) = self.tables.ports.get_mut(id.index()) {
            *slot = None;
        }
        self.tables.domains[0]
            .members
            .retain(|member| *member != id);
        self.publish();
        let (reply, answer) = unbounded();
        self.command(Command::RemovePort { id, reply });
        if let Ok(Some(port)) = answer.try_recv() {
            port.close(&mut Pool::new(&self.umem));
        }
    }

    /// Ends it; returns how many frames of the pool have not come back.
    pub fn finish(mut self) -> usize {
        let (reply, answer) = unbounded();
        self.command(Command::Stop(reply));
        let umem = Arc::clone(&self.umem);
        for (_, port) in answer.try_iter().flatten() {
            port.close(&mut Pool::new(&umem));
        }
        drop(self);
        umem.chunks() - umem.available()
    }

    fn publish(&mut self) {
        self.tables.version += 1;
        self.command(Command::Tables(Arc::new(self.tables.clone())));
    }

    fn command(&mut self, command: Command) {
        // The worker holds the other end.
        let _ = self.commands.send(command);
        self.worker.obey();
    }
}
