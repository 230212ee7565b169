//! Requests, replies, and what they carry.

mod mac;
mod pod;
mod port;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use mac::{MacAddr, ParseMacError};
pub use pod::{AttachmentKey, PodCheck, PodInfo, PodRoute, PodSpec, Readiness, Release};
pub use port::{Attachment, PortInfo, PortKind, PortRole, PortSpec, RateLimit, RouteMtu};

/// What the daemon is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Attach a port. Answer: [`Reply::Attached`].
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
    /// Answer: [`Reply::Flows`].
    FlowList,
    /// Answer: [`Reply::Stats`].
    Stats,
    /// Answer: [`Reply::Status`].
    Status,
    /// Attach a pod by an interface that the daemon makes. Answer, once traffic flows:
    /// [`Reply::Pod`]. On a refusal nothing is left of it.
    PodAttach(Box<PodSpec>),
    /// Detach a pod: its port, its addresses, its interface. Answer: [`Reply::Done`], also when
    /// there is no such attachment.
    PodDetach {
        /// Who owns it.
        key: AttachmentKey,
    },
    /// Compare an attachment with the kernel. Answer: [`Reply::Done`], or a refusal that names what
    /// differs.
    PodCheck(Box<PodCheck>),
    /// Answer: [`Reply::Pods`].
    PodList {
        /// Only those of this network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<String>,
    },
    /// Whether pods can be attached. Answer: [`Reply::Readiness`].
    Readiness {
        /// Also whether this attachment can be made: refused as [`ErrorCode::Exists`] while it
        /// stands. The answer comes when nothing of an earlier one of the same key is left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<AttachmentKey>,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", content = "of", rename_all = "kebab-case")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// To [`Request::PortAdd`].
    Attached(Attachment),
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
    /// To [`Request::FlowList`].
    Flows(Vec<FlowEntry>),
    /// To [`Request::Stats`].
    Stats(StatsReport),
    /// To [`Request::Status`].
    Status(StatusReport),
    /// To [`Request::PodAttach`].
    Pod(Box<PodInfo>),
    /// To [`Request::PodList`], by key.
    Pods(Vec<PodInfo>),
    /// To [`Request::Readiness`].
    Readiness(Readiness),
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

/// How a packet reaches a remote node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encap {
    /// VXLAN, RFC 7348.
    Vxlan,
    /// IP in IP: IPv4 in IPv4 (RFC 2003), IPv6 in IPv4 (RFC 4213), and both in IPv6 (RFC 2473).
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
    /// `config`, `api`, `pod` (bound at attachment), `learned`, `connected`, `gateway`, or `node`
    /// (this or another node's own address, and what leaves the cluster).
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

/// A connection to a service that the node's kernel translates: its replies go through the node's
/// stack, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEntry {
    /// The client, a pod of this node.
    pub source: IpAddr,
    /// Its port; 0 for protocols without, and for the entry that fragments follow.
    pub source_port: u16,
    /// The endpoint that the kernel has chosen.
    pub destination: IpAddr,
    /// Its port, or 0.
    pub destination_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// `opening`, `established`, `closing`, or `other`.
    pub state: String,
    /// Seconds since the last packet.
    pub idle: u32,
    /// Seconds until it is forgotten if no further packet comes.
    pub expires_in: u32,
}

/// Counters of the whole switch.
///
/// Always: `received + generated = transmitted + sum of drops + consumed + in_flight`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatsReport {
    /// Frames that ports handed in.
    pub received: u64,
    /// Frames the switch made itself: ARP and NDP, ICMP errors, copies made to flood.
    pub generated: u64,
    /// Frames that ports took.
    pub transmitted: u64,
    /// Frames meant for the switch itself and dealt with: ARP and NDP to the gateway, and the like.
    pub consumed: u64,
    /// Frames inside the switch: waiting for a neighbour, or on a link between workers.
    pub in_flight: u64,
    /// ICMP and ICMPv6 errors sent; they are among the generated.
    #[serde(default)]
    pub icmp_sent: u64,
    /// Packets that no error was sent for because of the limit.
    #[serde(default)]
    pub icmp_limited: u64,
    /// Service connections that found no room in the table: their replies do not go through the
    /// node's stack.
    #[serde(default)]
    pub flows_refused: u64,
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
    /// This node's IPv6 address beside an IPv4 one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node6: Option<IpAddr>,
    /// The pods' CIDRs on this node.
    pub pod_cidrs: Vec<IpNet>,
    /// The gateway's address.
    pub gateway: IpAddr,
    /// The gateway's IPv6 address.
    pub gateway6: IpAddr,
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
