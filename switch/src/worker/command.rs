//! What the control thread asks of a worker, carried out between two batches.

use std::sync::Arc;

use crossbeam::channel::Sender;
use shunt_afxdp::Pinhole;
use shunt_api::RateLimit;

use crate::port::Port;
use crate::stats::{PortCounters, WorkerCounters};
use crate::tables::{PortId, Tables};

/// How much may pass a port; `None` for no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// To the pod.
    pub ingress: Option<RateLimit>,
    /// From the pod.
    pub egress: Option<RateLimit>,
}

/// A command.
pub enum Command {
    /// Use this snapshot from now on.
    Tables(Arc<Tables>),
    /// Own this port from now on.
    AddPort {
        /// Its slot.
        id: PortId,
        /// The port.
        port: Box<Port>,
        /// How much may pass.
        limits: Limits,
    },
    /// Give this port back.
    RemovePort {
        /// Its slot.
        id: PortId,
        /// Gets the port, or `None` if the worker does not own it.
        reply: Sender<Option<Box<Port>>>,
    },
    /// The FIB has changed: look again at what waits.
    Resume,
    /// Send a frame, made by the control thread, to each of these ports.
    Send {
        /// The outgoing ports, owned by this worker.
        ports: Vec<PortId>,
        /// A whole Ethernet frame.
        frame: Vec<u8>,
    },
    /// Let these packets through to the uplink from now on.
    Pinhole {
        /// The uplink.
        id: PortId,
        /// What to let through.
        pinhole: Pinhole,
        /// Gets the outcome.
        reply: Sender<Result<(), shunt_afxdp::Error>>,
    },
    /// Copy the counters.
    Snapshot(Sender<WorkerSnapshot>),
    /// End, giving every port back.
    Stop(Sender<Vec<(PortId, Box<Port>)>>),
}

/// A worker's counters at one moment between two batches.
#[derive(Debug, Clone, Default)]
pub struct WorkerSnapshot {
    /// The worker's.
    pub worker: WorkerCounters,
    /// Its ports', with what the kernel counted.
    pub ports: Vec<PortSnapshot>,
    /// Free frames in the worker's own pool.
    pub pool_free: usize,
}

/// One port's counters.
#[derive(Debug, Clone)]
pub struct PortSnapshot {
    /// The port.
    pub id: PortId,
    /// What the worker counted.
    pub counters: PortCounters,
    /// What the kernel counted, by its own names.
    pub kernel: Vec<(&'static str, u64)>,
}
