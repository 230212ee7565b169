//! The daemon's configuration: one TOML file, judged as a whole before anything is attached.
//!
//! [`Config::load`] reads the file, gives every absent key its default and reports all problems
//! together. What needs the running machine is asked separately: [`Config::check_devices`] and
//! [`check_capabilities`]. `switch/shunt.example.toml` shows every key with its default.

mod cross;
mod error;
mod forms;
mod parse;
mod preflight;
mod read;
mod sections;
mod similar;
mod spec;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use shunt_api::{MacAddr, PortSpec, RouteSpec};

pub use error::{ConfigError, Problem};
pub use parse::{address_or_prefix, bits, rate_limit};
pub use preflight::{PreflightError, check_capabilities};
pub use spec::{Fault, netns_path};

/// A validated configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// How packets between pods are forwarded.
    pub mode: Mode,
    /// The control socket.
    pub socket: PathBuf,
    /// Where attachments are kept, an absolute path.
    pub state_dir: PathBuf,
    /// This node's place in the cluster.
    pub node: NodeConfig,
    /// The pods' gateway.
    pub gateway: GatewayConfig,
    /// The threads that forward.
    pub workers: WorkersConfig,
    /// The memory that holds the frames.
    pub memory: MemoryConfig,
    /// Defaults and limits of ports.
    pub ports: PortsConfig,
    /// The physical network; without it the switch serves one node.
    pub uplink: Option<UplinkConfig>,
    /// VXLAN, RFC 7348.
    pub vxlan: VxlanConfig,
    /// IP in IP, RFC 2003.
    pub ipip: IpipConfig,
    /// The MAC table (L2 mode).
    pub l2: L2Config,
    /// Resolution of link-layer addresses.
    pub neighbours: NeighboursConfig,
    /// The node's own stack; without it pods reach pods only.
    pub host: Option<HostConfig>,
    /// Errors that the switch returns.
    pub icmp: IcmpConfig,
    /// Connections to services.
    pub flows: FlowsConfig,
    /// How large packets may be.
    pub mtu: MtuConfig,
    /// Ports to attach at start.
    pub port: Vec<PortSpec>,
    /// Routes to install at start.
    pub route: Vec<RouteSpec>,
}

/// How packets between pods are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By IP address; each pod has a host route and the gateway answers ARP and
    /// neighbour solicitations for everything.
    #[default]
    L3,
    /// By MAC address within the pods' subnet; the gateway routes out of it.
    L2,
}

/// Table `[node]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// This node's underlay address.
    pub address: IpAddr,
    /// This node's IPv6 address on the underlay, when `address` is IPv4.
    pub address6: Option<Ipv6Addr>,
    /// This node's pods, at least one CIDR; none overlaps another.
    pub pod_cidrs: Vec<IpNet>,
    /// All pods of the cluster; empty when not given.
    pub cluster_cidrs: Vec<IpNet>,
}

/// Table `[gateway]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayConfig {
    /// The gateway's IPv4 address.
    pub address: Ipv4Addr,
    /// The gateway's IPv6 address, link-local.
    pub address6: Ipv6Addr,
    /// The gateway's MAC address, the same on every node.
    pub mac: MacAddr,
}

/// Table `[workers]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkersConfig {
    /// The CPU core of each worker, at least one, no two alike.
    pub cores: Vec<usize>,
    /// Frames per batch at most, 1 to 256.
    pub batch: usize,
}

/// Table `[memory]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Chunks in the UMEM.
    pub frames: u32,
    /// Bytes per chunk: 2048 or 4096.
    pub frame_size: u32,
}

/// What the host port keeps for reception at least, where its ring is large enough.
const HOST_RX_FRAMES: u32 = 512;

/// Table `[ports]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortsConfig {
    /// Frames kept with the kernel for reception, at most `ring`; up to `ring` while a port is busy.
    pub rx_frames: u32,
    /// Entries of each AF_XDP ring, a power of two from 64 to 8192.
    pub ring: u32,
    /// Ports at most, the uplink included.
    pub max: usize,
    /// How XDP programs are attached.
    pub xdp: XdpMode,
}

impl PortsConfig {
    /// Frames kept with the kernel for the host port: more than for a pod's, as it serves all pods,
    /// and always as many.
    pub fn host_rx_frames(&self) -> u32 {
        self.rx_frames.max(HOST_RX_FRAMES).min(self.ring)
    }
}

/// How XDP programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpMode {
    /// `Native` where the driver can, `Skb` otherwise.
    #[default]
    Auto,
    /// In the driver (`XDP_FLAGS_DRV_MODE`, include/uapi/linux/if_link.h), or not at all.
    Native,
    /// In the stack, after the driver has made an skb (`XDP_FLAGS_SKB_MODE`): any driver, slower.
    Skb,
}

/// Table `[uplink]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkConfig {
    /// The kernel interface.
    pub device: String,
    /// Frames kept with the kernel for reception, at most `ring`.
    pub rx_frames: u32,
    /// Entries of each AF_XDP ring, a power of two from 64 to 8192.
    pub ring: u32,
}

/// Table `[vxlan]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanConfig {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// This node's VTEP MAC address.
    pub vtep_mac: MacAddr,
    /// Whether the outer UDP checksum is computed (RFC 7348, 5: it should be zero).
    pub udp_checksum: bool,
    /// The outer header's time to live.
    pub ttl: u8,
    /// The outer header's DSCP.
    pub dscp: Dscp,
}

/// Table `[ipip]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpipConfig {
    /// The outer header's time to live.
    pub ttl: u8,
    /// The outer header's DSCP.
    pub dscp: Dscp,
}

/// Where the outer header's differentiated services code point (RFC 2474) comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dscp {
    /// The inner header's (the uniform model, RFC 2983, 3.1).
    #[default]
    Copy,
    /// This one, 0 to 63 (the pipe model, RFC 2983, 3.2).
    Fixed(u8),
}

/// Table `[l2]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L2Config {
    /// How long a silent station stays in the MAC table, in whole seconds.
    pub ageing: Duration,
    /// Entries in total.
    pub max_macs: usize,
    /// Entries behind one port.
    pub max_macs_per_port: usize,
    /// Broadcasts, and frames to stations and groups that are not known, that one port may send in
    /// a second.
    pub storm_limit: u32,
    /// Whether multicast goes only to the ports that have joined (RFC 4541).
    pub snooping: bool,
    /// Whether the switch asks for memberships itself.
    pub querier: bool,
}

/// Table `[host]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The interface in the node's namespace, made and removed by the switch.
    pub device: String,
    /// Whether what leaves the cluster takes the node's address.
    pub masquerade: bool,
    /// Destinations outside the cluster that see the pods' own addresses.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// Whether interface, routes and masquerading stay when the switch ends.
    pub keep: bool,
}

/// Table `[icmp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpConfig {
    /// Whether packets to unknown destinations are answered with destination unreachable.
    pub unreachable: bool,
    /// Errors that the packets of one port cause in a second at most.
    pub rate: u32,
}

/// Table `[flows]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowsConfig {
    /// Flows at most.
    pub max: usize,
    /// How long an idle TCP connection is kept, in whole seconds.
    pub tcp_idle: Duration,
    /// How long a TCP connection that is opening or closing is kept, in whole seconds.
    pub tcp_transient: Duration,
    /// How long any other flow is kept, in whole seconds.
    pub idle: Duration,
}

/// Table `[mtu]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MtuConfig {
    /// The MTU that pods are told for packets to other nodes in bytes; what the underlay leaves
    /// when absent.
    pub remote: Option<u32>,
    /// Whether the maximum segment size of TCP connections is lowered to what the path takes.
    pub clamp_mss: bool,
}

/// Table `[neighbours]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighboursConfig {
    /// Frames that wait for one unresolved neighbour.
    pub queue: usize,
    /// Frames that wait for all unresolved neighbours together, per worker.
    pub total: usize,
    /// How long a frame waits before it is dropped.
    pub timeout: Duration,
}

impl Config {
    /// Reads and judges a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has problems: all of them, each with its line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Judges the text of a configuration file; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let cores: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
        Self::parse_for(text, path, &cores)
    }

    /// As [`Config::parse`], for a machine with these CPU cores.
    fn parse_for(text: &str, path: &Path, cores: &[usize]) -> Result<Self, ConfigError> {
        let (table, errors) = toml::de::DeTable::parse_recoverable(text);
        let mut report = error::Report::new(text);
        if !errors.is_empty() {
            for error in errors {
                report.syntax(&error);
            }
            return Err(report.into_error(path));
        }
        let config = sections::config(table.get_ref(), path, cores, &mut report);
        cross::check(&config, cores, &mut report);
        if report.is_empty() {
            Ok(config)
        } else {
            Err(report.into_error(path))
        }
    }
}
