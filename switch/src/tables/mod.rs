//! What the workers read: a snapshot taken once per batch, and the MAC tables and the FIB that
//! are read in place.
//!
//! Architecture Invariant: only the control thread writes here. It publishes a new [`Tables`]
//! and frees the old one after every worker has passed.

mod fdb;
mod flows;
mod guard;
mod ids;
mod multicast;
mod next_hop;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use shunt_api::MacAddr;

use crate::config::Mode;

pub use fdb::{Fdb, FdbRow, Learned};
pub use flows::{FlowKey, FlowLimits, FlowRow, FlowState, FlowTable, Recorded};
pub use guard::Guard;
pub use ids::{DomainId, PortId};
pub use multicast::Multicast;
pub use next_hop::{Action, NextHop};

/// Room behind the kernel's own headroom for outer headers, in bytes: VXLAN over IPv6 needs 70.
pub(crate) const HEADROOM: u32 = 128;

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
    /// The node's own stack.
    Host,
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
    /// What may come from it; `None` for everything.
    pub guard: Option<Arc<Guard>>,
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
            guard: None,
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
    /// Who listens to which multicast group, if that is watched.
    pub multicast: Option<Multicast>,
}

/// This node, on the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Underlay {
    /// This node's IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// This node's IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// The VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// This node's VTEP MAC.
    pub vtep_mac: MacAddr,
    /// Another that it answers to: the one that other nodes make of its IPv6 address.
    pub vtep_mac6: Option<MacAddr>,
    /// The remote nodes that routes name, sorted.
    pub peers: Vec<IpAddr>,
}

/// A snapshot.
#[derive(Clone)]
pub struct Tables {
    /// Grows by one with each snapshot.
    pub version: u64,
    /// How pods are joined.
    pub mode: Mode,
    /// The gateway's IPv4 address.
    pub gateway: Ipv4Addr,
    /// The gateway's IPv6 address, link-local.
    pub gateway6: Ipv6Addr,
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
    /// Connections to services; read and written in place.
    pub flows: Arc<FlowTable>,
    /// The next hops of IPv4 and IPv6 to the node's stack, while it is joined.
    pub to_host: [Option<u16>; 2],
    /// What the worker does beside forwarding.
    pub policy: Policy,
}

/// What the configuration says that all ports share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether packets to unknown destinations are answered with destination unreachable.
    pub unreachable: bool,
    /// ICMP errors that the packets of one port cause in a second at most.
    pub icmp_rate: u32,
    /// Whether the maximum segment size of TCP connections is lowered to what the path takes.
    pub clamp_mss: bool,
    /// Frames that a port may cause to be flooded in a second.
    pub storm_limit: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            unreachable: true,
            icmp_rate: 1000,
            clamp_mss: false,
            storm_limit: 10_000,
        }
    }
}

/// Nothing yet: no ports, no routes, the default gateways.
impl Default for Tables {
    fn default() -> Self {
        Self {
            version: 0,
            mode: Mode::L3,
            gateway: Ipv4Addr::new(169, 254, 1, 1),
            gateway6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            gateway_mac: MacAddr([0xee; 6]),
            underlay: Underlay::default(),
            ports: Vec::new(),
            domains: Vec::new(),
            next_hops: Vec::new(),
            flows: Arc::new(FlowTable::new(FlowLimits::default())),
            to_host: [None; 2],
            policy: Policy::default(),
        }
    }
}

impl Tables {
    /// The port's entry, unless it is gone.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.ports.get(id.index())?.as_ref()
    }
}
