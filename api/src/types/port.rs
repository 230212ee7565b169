//! Ports, and what their pods are told.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::MacAddr;

/// How a port meets the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    /// An AF_XDP socket on a veth's host end or on a NIC.
    #[default]
    Afxdp,
    /// A TAP device that the daemon creates.
    Tap,
    /// In-process, for benches and tests.
    Memory,
}

/// A port to attach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// The pod's MAC address, if known; otherwise the switch asks by ARP or NDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The index of the worker to own the port; the least loaded when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<usize>,
    /// Frames kept with the kernel for reception; the configured default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_frames: Option<u32>,
    /// What the pod may send from beside its own addresses, such as a virtual address that moves
    /// between pods (VRRP) or the addresses of what is nested in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<IpNet>,
    /// MAC addresses that the pod may send from beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_macs: Vec<MacAddr>,
    /// Turns off the guards of this port: it may then send from any address. Goes with neither
    /// `allowed_addresses` nor `allowed_macs`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unguarded: bool,
    /// What the pod may receive; without a limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<RateLimit>,
    /// What the pod may send; without a limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<RateLimit>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What 128 KiB are in bits: the burst of a slow port, two of the largest packets.
const LEAST_DEFAULT_BURST: u64 = 128 * 1024 * 8;

/// A token bucket: a rate and how far it may be exceeded for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Bits per second, of Ethernet frames without the frame check sequence: 8000 (8 kbit/s) to
    /// 10^12 (1 Tbit/s).
    pub rate: u64,
    /// Bits that may pass at once: 72144 (one frame of 9018 bytes) to 10^12.
    pub burst: u64,
}

impl RateLimit {
    /// The rates that there are, in bit/s: below, a full frame takes more than a second; above, no
    /// link is.
    pub const RATES: RangeInclusive<u64> = 8_000..=1_000_000_000_000;
    /// The bursts that there are, in bits: a bucket that is smaller than a frame would let none pass.
    /// 9018 bytes are the largest, a jumbo frame of 9000 bytes with its Ethernet header and a VLAN
    /// tag.
    pub const BURSTS: RangeInclusive<u64> = 9018 * 8..=1_000_000_000_000;

    /// The limit to a rate in bit/s. Without a burst (in bits) it takes what comes in an eighth of
    /// a second, and 128 KiB at least.
    pub fn with_burst(rate: u64, burst: Option<u64>) -> Self {
        let burst = burst.unwrap_or(LEAST_DEFAULT_BURST.max(rate / 8));
        Self { rate, burst }
    }
}

/// What a pod has to be told when it is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The MTU for the pod's interface in bytes: what the port takes between pods of this node.
    pub mtu: u32,
    /// The MTU for routes in bytes, by prefix: where the path to other nodes takes less. The
    /// default routes are among them.
    pub routes: Vec<RouteMtu>,
    /// The pod's gateways, one of each address family that the pod has.
    pub gateways: Vec<IpAddr>,
    /// Their MAC address.
    pub gateway_mac: MacAddr,
}

/// The largest packet that a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMtu {
    /// The destination.
    pub prefix: IpNet,
    /// The largest IP packet in bytes.
    pub mtu: u32,
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
    /// The node's own stack.
    Host,
}
