//! What the workers read: a snapshot taken once per batch, and the MAC tables and the FIB that
//! are read in place.
//!
//! Architecture Invariant: only the control thread writes here. It publishes a new [`Tables`]
//! and frees the old one after every worker has passed.

mod fdb;
mod ids;
mod next_hop;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use shunt_api::MacAddr;

use crate::config::Mode;

pub use fdb::{Fdb, FdbRow, Learned};
pub use ids::{DomainId, PortId};
pub use next_hop::{Action, NextHop};

/// Seconds since the daemon started, coarse, kept by the control thread.
#[derive(Debug, Default)]
pub struct Clock(AtomicU32);

impl Clock {
    /// The second.
    #[inline]
    pub fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Control thread: sets it.
    pub fn set(&self, second: u32) {
        self.0.store(second, Ordering::Relaxed);
    }
}

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A pod's.
    Pod,
    /// The physical network's.
    Uplink,
}

/// A port, as the street sees it.
#[derive(Debug, Clone)]
pub struct PortEntry {
    /// What it is for.
    pub role: Role,
    /// The index of the worker that owns it.
    pub worker: usize,
    /// Its broadcast domain (pods, L2 mode).
    pub domain: DomainId,
    /// The largest IP packet in bytes that it takes.
    pub mtu: u16,
    /// The only MAC address that its frames may be sent to; `None` for any.
    pub mac: Option<MacAddr>,
    /// Frames from it may carry checksums that their sender left to the (virtual) hardware: true
    /// for veths, whose frames never crossed a wire.
    pub partial_checksums: bool,
    /// Set while the MAC table takes no new station from it.
    pub fdb_full: Arc<AtomicBool>,
}

impl PortEntry {
    /// Stands in for a port that was removed while frames of it waited.
    pub(crate) fn gone() -> Self {
        Self {
            role: Role::Pod,
            worker: usize::MAX,
            domain: DomainId(0),
            mtu: 0,
            mac: None,
            partial_checksums: false,
            fdb_full: Arc::default(),
        }
    }
}

/// An L2 broadcast domain.
#[derive(Clone)]
pub struct Domain {
    /// Its MAC table.
    pub fdb: Arc<Fdb>,
    /// The ports to flood to.
    pub members: Vec<PortId>,
}

/// This node, on the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// This node's address.
    pub address: Ipv4Addr,
    /// The VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// This node's VTEP MAC.
    pub vtep_mac: MacAddr,
    /// The remote nodes that routes name, sorted.
    pub peers: Vec<Ipv4Addr>,
}

/// A snapshot.
#[derive(Clone)]
pub struct Tables {
    /// Grows by one with each snapshot.
    pub version: u64,
    /// How pods are joined.
    pub mode: Mode,
    /// The gateway's address.
    pub gateway: Ipv4Addr,
    /// The gateway's MAC, the same on all nodes.
    pub gateway_mac: MacAddr,
    /// This node on the underlay.
    pub underlay: Underlay,
    /// By [`PortId`].
    pub ports: Vec<Option<PortEntry>>,
    /// By [`DomainId`].
    pub domains: Vec<Domain>,
    /// By the FIB's values.
    pub next_hops: Vec<NextHop>,
}

impl Tables {
    /// The port's entry, unless it is gone.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.ports.get(id.index())?.as_ref()
    }
}
