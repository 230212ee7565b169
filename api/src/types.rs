//! Requests, replies, and what they carry.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address, written `02:00:00:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// True when the group bit is set (IEEE 802-2014, 8.2.2): multicast or broadcast.
    pub const fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }

    /// True for `00:00:00:00:00:00`, which names no station.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six hexadecimal octets separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address: write six hexadecimal octets, as in 02:00:00:00:00:01")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseMacError(text.to_owned());
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(bad()),
        }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What the daemon is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Attach a port. Answer: [`Reply::Done`].
    PortAdd(PortSpec),
    /// Detach a port and return its frames to the pool. Answer: [`Reply::Done`].
    PortDel {
        /// The port's name.
        name: String,
    },
    /// Answer: [`Reply::Ports`].
    PortList,
    /// Install or replace a route. Answer: [`Reply::Done`].
    RouteAdd(RouteSpec),
    /// Remove a route. Answer: [`Reply::Done`].
    RouteDel {
        /// The exact prefix.
        prefix: IpNet,
    },
    /// Answer: [`Reply::Routes`], in address order.
    RouteList,
    /// Which route a destination takes. Answer: [`Reply::Route`]; refused as
    /// [`ErrorCode::NotFound`] when there is nothing to show.
    RouteGet {
        /// The destination: a prefix, or an address as the prefix of its full length.
        prefix: IpNet,
        /// Also tell the routes inside the prefix, this many at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        covered: Option<u32>,
    },
    /// Answer: [`Reply::Fdb`].
    FdbList,
    /// Answer: [`Reply::Neighbours`].
    NeighList,
    /// Answer: [`Reply::Stats`].
    Stats,
    /// Answer: [`Reply::Status`].
    Status,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", content = "of", rename_all = "kebab-case")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// To [`Request::PortList`].
    Ports(Vec<PortInfo>),
    /// To [`Request::RouteList`].
    Routes(Vec<RouteInfo>),
    /// To [`Request::RouteGet`].
    Route(RouteLookup),
    /// To [`Request::FdbList`].
    Fdb(Vec<FdbEntry>),
    /// To [`Request::NeighList`].
    Neighbours(Vec<NeighbourEntry>),
    /// To [`Request::Stats`].
    Stats(StatsReport),
    /// To [`Request::Status`].
    Status(StatusReport),
    /// The request was refused; nothing was changed.
    Error(ApiError),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The class, for programs.
    pub code: ErrorCode,
    /// One line that names the thing and the remedy, for people.
    pub message: String,
}

/// Classes of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request itself makes no sense.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already, or another holds it.
    Exists,
    /// A limit is reached (ports, frames, table entries).
    Exhausted,
    /// The kernel refused.
    System,
}

/// How a port meets the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    /// An AF_XDP socket on a veth's host end or on a NIC.
    Afxdp,
    /// A TAP device that the daemon creates.
    Tap,
    /// In-process, for benches and tests.
    Memory,
}

/// A port to attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// The port's name in the switch, 1 to 32 characters of `[A-Za-z0-9_.-]`.
    pub name: String,
    /// How it meets the kernel.
    pub kind: PortKind,
    /// The kernel interface: for `afxdp` an existing one, for `tap` the one to create.
    pub device: String,
    /// For `tap`: the network namespace (a path such as `/run/netns/pod1`) that gets the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// The pod's addresses, if known: each becomes a host route to this port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The pod's MAC address, if known; otherwise the switch asks by ARP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The index of the worker to own the port; the least loaded when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<usize>,
    /// Frames kept with the kernel for reception; the configured default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_frames: Option<u32>,
}

/// A port as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: PortRole,
    /// How it meets the kernel.
    pub kind: PortKind,
    /// The kernel interface.
    pub device: String,
    /// The index of the worker that owns it.
    pub worker: usize,
    /// `native`, `skb` (the driver has no XDP of its own: slower), or `-` for other kinds.
    pub xdp: String,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// The pod's MAC address, as attached or learned.
    pub mac: Option<MacAddr>,
    /// The addresses bound to it.
    pub addresses: Vec<IpAddr>,
    /// `up`, or why not.
    pub state: String,
}

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortRole {
    /// A pod's.
    Pod,
    /// The physical network.
    Uplink,
}

/// How a packet reaches a remote node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encap {
    /// VXLAN, RFC 7348.
    Vxlan,
    /// IP in IP, RFC 2003.
    Ipip,
    /// Plain: the next hop is on the same link.
    Direct,
    /// Plain where the remote node is on-link, VXLAN otherwise.
    CrossSubnetVxlan,
    /// Plain where the remote node is on-link, IPIP otherwise.
    CrossSubnetIpip,
}

/// A route to install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// The destination.
    pub prefix: IpNet,
    /// Where to.
    pub to: RouteTarget,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTarget {
    /// A remote node.
    Node {
        /// Its underlay address.
        via: IpAddr,
        /// How packets travel there.
        encap: Encap,
        /// VXLAN: the remote VTEP's MAC; derived from `via` as [`vtep_mac`] does when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vtep_mac: Option<MacAddr>,
    },
    /// A local pod's port.
    Port(String),
    /// Packets are dropped (reason `blackhole_route`).
    Blackhole,
}

/// The VTEP MAC that Shunt gives a node when none is configured: `02:53` and the four octets of
/// the node's IPv4 address (for IPv6 the last four), so that nodes know each other's without
/// asking, across restarts too.
pub fn vtep_mac(node: IpAddr) -> MacAddr {
    let [a, b, c, d] = match node {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let o = v6.octets();
            [o[12], o[13], o[14], o[15]]
        }
    };
    MacAddr([0x02, 0x53, a, b, c, d])
}

/// A route as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteInfo {
    /// The destination.
    pub prefix: IpNet,
    /// Where to; `None` for what the switch made itself (see `origin`).
    pub to: Option<RouteTarget>,
    /// `config`, `api`, `pod` (bound at attachment), `learned`, `connected`, or `gateway`.
    pub origin: String,
    /// The outgoing port, once known.
    pub port: Option<String>,
    /// What travels: `vxlan`, `ipip`, `direct`, `local`, ...
    pub encap: String,
    /// The link-layer next hop, once resolved.
    pub neighbour: Option<MacAddr>,
    /// The largest IP packet in bytes that fits.
    pub mtu: Option<u32>,
    /// `reachable`, `incomplete` (being resolved), or `unreachable`.
    pub state: String,
}

/// The routes around a destination, and inside it, as the FIB has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteLookup {
    /// The destination, its host bits cleared.
    pub prefix: IpNet,
    /// The route in use: the longest that covers all of the destination. `None` when there are
    /// only routes inside it.
    pub route: Option<RouteInfo>,
    /// The shorter routes that cover the destination, from the longest to the shortest.
    pub covering: Vec<RouteInfo>,
    /// The routes inside the destination; `None` when they were not asked for.
    pub covered: Option<CoveredRoutes>,
}

/// The routes inside a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredRoutes {
    /// The first ones, by address, then from the shorter to the longer, without a route of the
    /// prefix itself.
    pub routes: Vec<RouteInfo>,
    /// How many more there are.
    pub more: u64,
}

/// An entry of the MAC table (L2 mode).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The station.
    pub mac: MacAddr,
    /// The port it was last seen behind.
    pub port: String,
    /// Seconds since it was last seen; `None` for a static entry.
    pub age: Option<u32>,
}

/// A neighbour: a pod, or a node on the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourEntry {
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address, once known.
    pub mac: Option<MacAddr>,
    /// The port it is behind.
    pub port: String,
    /// `static` (attachment), `learned`, `kernel` (mirrored from the kernel), `incomplete`.
    pub state: String,
}

/// Counters of the whole switch.
///
/// Always: `received + generated = transmitted + sum of drops + consumed + in_flight`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatsReport {
    /// Frames that ports handed in.
    pub received: u64,
    /// Frames the switch made itself: ARP, copies made to flood.
    pub generated: u64,
    /// Frames that ports took.
    pub transmitted: u64,
    /// Frames meant for the switch itself and dealt with: ARP to the gateway, and the like.
    pub consumed: u64,
    /// Frames inside the switch: waiting for a neighbour, or on a link between workers.
    pub in_flight: u64,
    /// Frames dropped, by reason; reasons that never occurred are absent.
    pub drops: BTreeMap<String, u64>,
    /// The same by port.
    pub ports: Vec<PortStats>,
    /// Frames of the pool that nobody holds now.
    pub pool_free: u64,
    /// Frames of the pool.
    pub pool_total: u64,
}

/// Counters of one port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortStats {
    /// Its name.
    pub name: String,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received, without the frame check sequence.
    pub rx_bytes: u64,
    /// Frames transmitted.
    pub tx_packets: u64,
    /// Bytes transmitted.
    pub tx_bytes: u64,
    /// Drops of frames that came in here; `tx_rejected`, and `port_gone` of frames that were queued
    /// when the port went, are counted at the port they were to leave by.
    pub drops: BTreeMap<String, u64>,
    /// What the kernel dropped before the switch saw it, by the kernel's names
    /// (`struct xdp_statistics`, include/uapi/linux/if_xdp.h).
    pub kernel: BTreeMap<String, u64>,
}

/// What the daemon is and how it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// `l3` or `l2`.
    pub mode: String,
    /// This node's underlay address.
    pub node: IpAddr,
    /// The pods' CIDRs on this node.
    pub pod_cidrs: Vec<IpNet>,
    /// The gateway's address.
    pub gateway: IpAddr,
    /// The gateway's MAC address.
    pub gateway_mac: MacAddr,
    /// This node's VTEP MAC address.
    pub vtep_mac: MacAddr,
    /// The CPU core of each worker.
    pub cores: Vec<usize>,
    /// Seconds since start.
    pub uptime: u64,
    /// Drop reasons, in order, with what each means.
    pub drop_reasons: Vec<(String, String)>,
}

#[cfg(test)]
mod tests;
