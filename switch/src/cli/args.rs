//! What `shunt` understands.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use shunt_api::{
    AttachmentKey, Encap, MacAddr, PortKind, PortSpec, Request, RouteSpec, RouteTarget,
};

use crate::cni::CniCommand;
use crate::config::{address_or_prefix, bits, netns_path, rate_limit};

/// A poll-mode user-space packet switch for Kubernetes pods.
///
/// `shunt run` is the daemon; all other commands but `check` and `cni` ask a running one.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "shunt",
    version,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 daemon not reachable."
)]
pub struct Cli {
    /// The daemon's control socket [default: /run/shunt/shunt.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print the daemon's answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    Run {
        /// The configuration, TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration: prints ok, or every problem with its line
    Check {
        /// The configuration, TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Attach, detach and list ports
    #[command(subcommand)]
    Port(PortCommand),
    /// The pods that a container runtime has attached
    #[command(subcommand)]
    Pod(PodCommand),
    /// Install, remove and look up routes
    #[command(subcommand)]
    Route(RouteCommand),
    /// The MAC table (L2 mode)
    #[command(subcommand)]
    Fdb(FdbCommand),
    /// The neighbours: pods and other nodes
    #[command(subcommand)]
    Neigh(NeighCommand),
    /// The connections to services that the node's kernel translates
    #[command(subcommand)]
    Flow(FlowCommand),
    /// Put Shunt under a container runtime, and take it away
    #[command(subcommand)]
    Cni(CniCommand),
    /// Counters: totals, drops by reason, ports
    Stats,
    /// What the daemon is and how it runs
    Status,
}

/// `shunt port`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PortCommand {
    /// Attach a port, and print what its pod has to be told: MTUs and gateways
    Add(Box<PortAdd>),
    /// Detach a port
    Del {
        /// The port's name
        name: String,
    },
    /// List the ports
    List,
}

/// `shunt port add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PortAdd {
    /// The port's name in the switch
    pub name: String,
    /// The kernel interface: an existing one for afxdp, the one to create for tap
    #[arg(long, value_name = "DEV")]
    pub device: String,
    /// How the port meets the kernel
    #[arg(long, value_enum, default_value_t = KindArg::Afxdp)]
    pub kind: KindArg,
    /// For tap: the network namespace that gets the device, by name (`ip netns`) or path
    #[arg(long, value_name = "NAME-OR-PATH", value_parser = netns)]
    pub netns: Option<PathBuf>,
    /// An address of the pod, IPv4 or IPv6; repeat for more
    #[arg(long = "address", value_name = "IP")]
    pub addresses: Vec<IpAddr>,
    /// The pod's MAC address; the switch asks by ARP or NDP when absent
    #[arg(long)]
    pub mac: Option<MacAddr>,
    /// The index of the worker to own the port; the least loaded when absent
    #[arg(long, value_name = "N")]
    pub worker: Option<usize>,
    /// Frames kept with the kernel for reception; the configured default when absent
    #[arg(long, value_name = "N")]
    pub rx_frames: Option<u32>,
    /// What the pod may send from beside its own addresses; repeat for more
    #[arg(long = "allowed-address", value_name = "IP|PREFIX", value_parser = address_or_prefix)]
    pub allowed_addresses: Vec<IpNet>,
    /// A MAC address that the pod may send from beside its own; repeat for more
    #[arg(long = "allowed-mac", value_name = "MAC")]
    pub allowed_macs: Vec<MacAddr>,
    /// Let the pod send from any address
    #[arg(long, conflicts_with_all = ["allowed_addresses", "allowed_macs"])]
    pub no_guard: bool,
    /// What the pod may receive in bit/s, as in 100Mbit; no limit when absent
    #[arg(long, value_name = "RATE", value_parser = bits)]
    pub ingress_rate: Option<u64>,
    /// What the pod may receive at once in bits; an eighth of a second, 128 KiB at least, when
    /// absent
    #[arg(long, value_name = "BITS", value_parser = bits, requires = "ingress_rate")]
    pub ingress_burst: Option<u64>,
    /// What the pod may send in bit/s, as in 100Mbit; no limit when absent
    #[arg(long, value_name = "RATE", value_parser = bits)]
    pub egress_rate: Option<u64>,
    /// What the pod may send at once in bits; an eighth of a second, 128 KiB at least, when absent
    #[arg(long, value_name = "BITS", value_parser = bits, requires = "egress_rate")]
    pub egress_burst: Option<u64>,
}

/// `--kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// An AF_XDP socket on a veth's host end or on a NIC
    Afxdp,
    /// A TAP device that the daemon creates
    Tap,
}

/// `shunt pod`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PodCommand {
    /// List the pods
    List {
        /// Only those of this network
        #[arg(long, value_name = "NAME")]
        network: Option<String>,
    },
    /// Detach a pod: its port, addresses and interface; what the runtime holds for it (its IPAM
    /// lease) stays with the runtime
    Del {
        /// The network's name, as `shunt pod list` shows it
        network: String,
        /// The container's whole id, as `shunt pod list --json` shows it
        container: String,
        /// The interface in the pod
        ifname: String,
    },
}

/// `shunt route`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RouteCommand {
    /// Install or replace a route
    Add(RouteAdd),
    /// Remove the route of exactly this prefix
    Del {
        /// The destination, as in 10.244.2.0/24 or fd00:10:244:2::/64
        #[arg(value_parser = prefix)]
        prefix: IpNet,
    },
    /// List the routes
    List,
    /// Show the route that an address or a prefix takes, and the shorter ones that cover it
    Get(RouteGet),
}

/// `shunt route add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["via", "port", "blackhole"]))]
pub struct RouteAdd {
    /// The destination, as in 10.244.2.0/24 or fd00:10:244:2::/64
    #[arg(value_parser = prefix)]
    pub prefix: IpNet,
    /// Lead to this remote node, by its underlay address
    #[arg(long, value_name = "NODE", requires = "encap")]
    pub via: Option<IpAddr>,
    /// How packets travel to the remote node
    #[arg(long, value_enum, requires = "via", conflicts_with_all = ["port", "blackhole"])]
    pub encap: Option<EncapArg>,
    /// VXLAN: the remote VTEP's MAC address; derived from the node's address when absent
    #[arg(long, value_name = "MAC", requires = "via", conflicts_with_all = ["port", "blackhole"])]
    pub vtep_mac: Option<MacAddr>,
    /// Lead to this local port
    #[arg(long, value_name = "NAME")]
    pub port: Option<String>,
    /// Drop what goes there
    #[arg(long)]
    pub blackhole: bool,
}

/// `shunt route get`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RouteGet {
    /// The destination: an address, or a prefix for the longest route that covers all of it
    #[arg(value_name = "ADDRESS|PREFIX", value_parser = address_or_prefix)]
    pub prefix: IpNet,
    /// List the routes inside the prefix too
    #[arg(long)]
    pub covered: bool,
    /// With --covered: list this many at most
    #[arg(long, value_name = "N", default_value_t = 100, requires = "covered")]
    pub limit: u32,
}

/// `--encap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EncapArg {
    /// VXLAN, RFC 7348
    Vxlan,
    /// IP in IP (RFC 2003, RFC 4213, RFC 2473)
    Ipip,
    /// Plain: the node is on the same link
    Direct,
    /// Plain where the node is on the same link, VXLAN otherwise
    CrossSubnetVxlan,
    /// Plain where the node is on the same link, IP in IP otherwise
    CrossSubnetIpip,
}

/// `shunt fdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum FdbCommand {
    /// List the stations and the ports they are behind
    List,
}

/// `shunt neigh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum NeighCommand {
    /// List the neighbours and their link-layer addresses
    List,
}

/// `shunt flow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum FlowCommand {
    /// List the connections, and when each is forgotten
    List,
}

impl Command {
    /// The question to a running daemon; `None` for `run`, `check` and `cni`, which are no question.
    pub fn request(self) -> Option<Request> {
        Some(match self {
            Self::Run { .. } | Self::Check { .. } | Self::Cni(_) => return None,
            Self::Port(PortCommand::Add(port)) => Request::PortAdd((*port).into()),
            Self::Port(PortCommand::Del { name }) => Request::PortDel { name },
            Self::Port(PortCommand::List) => Request::PortList,
            Self::Pod(PodCommand::List { network }) => Request::PodList { network },
            Self::Pod(PodCommand::Del {
                network,
                container,
                ifname,
            }) => Request::PodDetach {
                key: AttachmentKey {
                    network,
                    container_id: container,
                    ifname,
                },
            },
            Self::Route(RouteCommand::Add(route)) => Request::RouteAdd(route.into()),
            Self::Route(RouteCommand::Del { prefix }) => Request::RouteDel { prefix },
            Self::Route(RouteCommand::List) => Request::RouteList,
            Self::Route(RouteCommand::Get(get)) => Request::RouteGet {
                prefix: get.prefix,
                covered: get.covered.then_some(get.limit),
            },
            Self::Fdb(FdbCommand::List) => Request::FdbList,
            Self::Neigh(NeighCommand::List) => Request::NeighList,
            Self::Flow(FlowCommand::List) => Request::FlowList,
            Self::Stats => Request::Stats,
            Self::Status => Request::Status,
        })
    }
}

impl From<PortAdd> for PortSpec {
    fn from(port: PortAdd) -> Self {
        let PortAdd {
            name,
            device,
            kind,
            netns,
            addresses,
            mac,
            worker,
            rx_frames,
            allowed_addresses,
            allowed_macs,
            no_guard,
            ingress_rate,
            ingress_burst,
            egress_rate,
            egress_burst,
        } = port;
        let kind = match kind {
            KindArg::Afxdp => PortKind::Afxdp,
            KindArg::Tap => PortKind::Tap,
        };
        Self {
            name,
            kind,
            device,
            netns,
            addresses,
            mac,
            worker,
            rx_frames,
            allowed_addresses,
            allowed_macs,
            unguarded: no_guard,
            ingress: ingress_rate.map(|rate| rate_limit(rate, ingress_burst)),
            egress: egress_rate.map(|rate| rate_limit(rate, egress_burst)),
        }
    }
}

impl From<RouteAdd> for RouteSpec {
    fn from(route: RouteAdd) -> Self {
        let RouteAdd {
            prefix,
            via,
            encap,
            vtep_mac,
            port,
            blackhole: _,
        } = route;
        let to = match (via.zip(encap), port) {
            (Some((via, encap)), _) => RouteTarget::Node {
                via,
                encap: encap.into(),
                vtep_mac,
            },
            (None, Some(port)) => RouteTarget::Port(port),
            (None, None) => RouteTarget::Blackhole,
        };
        Self { prefix, to }
    }
}

impl From<EncapArg> for Encap {
    fn from(encap: EncapArg) -> Self {
        match encap {
            EncapArg::Vxlan => Self::Vxlan,
            EncapArg::Ipip => Self::Ipip,
            EncapArg::Direct => Self::Direct,
            EncapArg::CrossSubnetVxlan => Self::CrossSubnetVxlan,
            EncapArg::CrossSubnetIpip => Self::CrossSubnetIpip,
        }
    }
}

fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| {
        "not an IP prefix: write one such as 10.244.2.0/24 or fd00:10:244:2::/64".to_owned()
    })
}

/// The daemon may run in another directory, so a relative path is made absolute here.
fn netns(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(netns_path(text)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
