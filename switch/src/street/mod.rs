//! The street: each stage once per frame.
//!
//! ```text
//! Port::rx -> ingress            -> forward     -> services        -> egress           -> Port::tx
//!             decap, guard,         FIB, one       flows that the     rewrite,
//!             classify, learn       verdict        node translates    encapsulate, answer
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
mod fragment;
mod guard;
mod icmp;
mod ingress;
mod ipv4;
mod ipv6;
mod lane;
mod multicast;
mod ndp;
mod outbox;
mod packet;
mod partial;
mod pending;
mod rewrite;
mod services;
mod uplink;

use std::net::IpAddr;

use shunt_afxdp::Frame;

pub use context::{Budget, Context};
pub use events::{Event, Events, Said};
pub use outbox::{LINK_CAPACITY, Link, Outbox};
pub use pending::{Pending, PendingLimits};

use crate::stats::DropReason;
use crate::tables::{DomainId, PortId, Role};
use lane::Lane;
use packet::Routable;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// An IP packet whose next hop `forward` finds.
    Route,
    /// By the next hop with this index: rewrite and send.
    Via(u16),
    /// It does not fit the path of the next hop with this index.
    TooBig(u16),
    /// As it is, to one port.
    Out(PortId),
    /// As it is, to every other port of the domain.
    Flood(DomainId),
    /// An IP packet to the gateway's own address.
    Gateway,
    /// It was for the switch, and is an answer now: back to where it came from.
    Answer,
    /// It was for the switch.
    Consumed,
    /// Nowhere.
    Drop(DropReason),
}

/// Scratch space of one worker's street, sized once.
pub struct Street {
    verdicts: Vec<Verdict>,
    v4: Lane<u32>,
    v6: Lane<u128>,
}

impl Street {
    /// For batches of up to `batch` frames.
    pub fn new(batch: usize) -> Self {
        Self {
            verdicts: Vec::with_capacity(batch),
            v4: Lane::new(batch),
            v6: Lane::new(batch),
        }
    }

    /// Carries the frames of `batch`, which port `context.port` received, to their ends. The batch
    /// is empty afterwards.
    pub fn run(&mut self, context: &mut Context<'_>, batch: &mut Vec<Frame>) {
        self.clear();
        match context.entry.role {
            Role::Pod => self.pod_ingress(context, batch),
            Role::Uplink => self.uplink_ingress(context, batch),
            Role::Host => self.host_ingress(context, batch),
        }
        self.forward(context);
        self.services(context, batch);
        self.egress(context, batch);
    }

    /// Carries frames that waited for a neighbour on from where they stopped: past ingress.
    pub fn resume(&mut self, context: &mut Context<'_>, batch: &mut Vec<Frame>) {
        self.clear();
        for frame in batch.iter() {
            match packet::addresses(frame.data(context.pool.umem())) {
                Some(packet) => self.route(packet),
                None => self
                    .verdicts
                    .push(Verdict::Drop(DropReason::TruncatedFrame)),
            }
        }
        self.forward(context);
        self.services(context, batch);
        self.egress(context, batch);
    }

    /// Ends frames that have waited for a neighbour in vain.
    pub fn expire(&mut self, context: &mut Context<'_>, batch: &mut Vec<Frame>) {
        self.clear();
        self.verdicts
            .resize(batch.len(), Verdict::Drop(DropReason::NeighbourTimeout));
        self.egress(context, batch);
    }

    fn clear(&mut self) {
        self.verdicts.clear();
        self.v4.clear();
        self.v6.clear();
    }

    /// Notes that the next frame of the batch is to be routed.
    fn route(&mut self, packet: Routable) {
        match packet {
            Routable::V4 {
                source,
                destination,
            } => self.route_from_v4(source, destination, None),
            Routable::V6 {
                source,
                destination,
            } => self.route_from_v6(source, destination, None),
        }
    }

    #[inline]
    fn route_from_v4(&mut self, source: u32, destination: u32, tunnel_source: Option<IpAddr>) {
        let index = self.verdicts.len() as u16;
        self.v4.push(index, source, destination, tunnel_source);
        self.verdicts.push(Verdict::Route);
    }

    #[inline]
    fn route_from_v6(&mut self, source: u128, destination: u128, tunnel_source: Option<IpAddr>) {
        let index = self.verdicts.len() as u16;
        self.v6.push(index, source, destination, tunnel_source);
        self.verdicts.push(Verdict::Route);
    }
}
