//! The street: each stage once per frame.
//!
//! ```text
//! Port::rx -> ingress            -> forward     -> egress                -> Port::tx
//!             decap, classify,      FIB, one       rewrite, encapsulate,
//!             learn                 verdict        complete checksums
//! ```
//!
//! A batch holds frames of one port, so what depends on the port is looked up once. Nothing here
//! allocates, locks, logs or calls the kernel.
//!
//! Between ingress and egress a routed frame starts 14 bytes before its IP header, whatever it
//! came in: those bytes belong to the link-layer header that egress writes.

mod arp;
mod context;
mod egress;
mod events;
mod forward;
mod ingress;
mod ipv4;
mod outbox;
mod pending;
mod uplink;

use shunt_afxdp::Frame;

pub use context::Context;
pub use events::{Event, Events};
pub use outbox::{LINK_CAPACITY, Link, Outbox};
pub use pending::{Pending, PendingLimits};

use crate::stats::DropReason;
use crate::tables::{DomainId, PortId, Role};

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// An IPv4 packet whose next hop `forward` finds.
    Route,
    /// By the next hop with this index: rewrite and send.
    Via(u16),
    /// As it is, to one port.
    Out(PortId),
    /// As it is, to every other port of the domain.
    Flood(DomainId),
    /// It was for the switch, and is an answer now: back to where it came from.
    Answer,
    /// It was for the switch.
    Consumed,
    /// Nowhere.
    Drop(DropReason),
}

/// A routed packet, on its way from ingress to forward.
#[derive(Debug, Clone, Copy)]
struct Routed {
    /// Its place in the batch.
    index: u16,
    source: u32,
    /// The tunnel's far end, for packets that came out of one.
    tunnel_source: Option<u32>,
}

/// Scratch space of one worker's street, sized once.
pub struct Street {
    verdicts: Vec<Verdict>,
    routed: Vec<Routed>,
    /// The routed packets' destinations, and behind them, where they are checked, their sources.
    addresses: Vec<u32>,
    /// What the FIB has for them.
    hops: Vec<u16>,
}

impl Street {
    /// For batches of up to `batch` frames.
    pub fn new(batch: usize) -> Self {
        Self {
            verdicts: Vec::with_capacity(batch),
            routed: Vec::with_capacity(batch),
            addresses: Vec::with_capacity(2 * batch),
            hops: vec![0; 2 * batch],
        }
    }

    /// Carries the frames of `batch`, which port `context.port` received, to their ends. The batch
    /// is empty afterwards.
    pub fn run(&mut self, context: &mut Context<'_>, batch: &mut Vec<Frame>) {
        self.clear();
        match context.entry.role {
            Role::Pod => self.pod_ingress(context, batch),
            Role::Uplink => self.uplink_ingress(context, batch),
        }
        self.forward(context);
        self.egress(context, batch);
    }

    /// Carries frames that waited for a neighbour on from where they stopped: past ingress.
    pub fn resume(&mut self, context: &mut Context<'_>, batch: &mut Vec<Frame>) {
        self.clear();
        for frame in batch.iter() {
            match ipv4::addresses(frame.data(context.pool.umem())) {
                Some((source, destination)) => self.route(source, destination, None),
                None => self
                    .verdicts
                    .push(Verdict::Drop(DropReason::TruncatedFrame)),
            }
        }
        self.forward(context);
        self.egress(context, batch);
    }

    fn clear(&mut self) {
        self.verdicts.clear();
        self.routed.clear();
        self.addresses.clear();
    }

    /// Notes that the next frame of the batch is to be routed.
    #[inline]
    fn route(&mut self, source: u32, destination: u32, tunnel_source: Option<u32>) {
        let index = self.verdicts.len() as u16;
        self.routed.push(Routed {
            index,
            source,
            tunnel_source,
        });
        self.addresses.push(destination);
        self.verdicts.push(Verdict::Route);
    }
}
