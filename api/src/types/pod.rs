//! Pods, as a container runtime attaches them (CNI 1.1.0).

use std::fmt;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{MacAddr, PortKind, RateLimit};

/// What owns an attachment: the runtime's container, on one network, by one interface (CNI 1.1.0,
/// section 2, "attachment").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentKey {
    /// The network's name: a letter or digit, then those, `_`, `.` or `-`.
    pub network: String,
    /// The container's id, of the same characters.
    pub container_id: String,
    /// The interface in the pod, 1 to 15 characters.
    pub ifname: String,
}

impl AttachmentKey {
    /// A name of 15 characters for the port, the veth's host end and files: `sh` and 13
    /// hexadecimal digits of a hash (FNV-1a) of the key. The same in every version.
    pub fn short_name(&self) -> String {
        let mut hasher = fnv::FnvHasher::default();
        for part in [&self.network, &self.container_id, &self.ifname] {
            hasher.write(part.as_bytes());
            // No name holds it: parts cannot run together.
            hasher.write(b"/");
        }
        format!("sh{:013x}", hasher.finish() >> 12)
    }
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            network,
            container_id,
            ifname,
        } = self;
        write!(f, "{network}/{container_id}/{ifname}")
    }
}

/// A pod to attach, with an interface of its own that the daemon makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// Who owns it.
    pub key: AttachmentKey,
    /// The pod's network namespace, as a path.
    pub netns: PathBuf,
    /// `afxdp` (a veth) or `tap`.
    pub kind: PortKind,
    /// The pod's addresses, each with the length of its subnet. In L3 mode the pod gets them as
    /// /32 and /128.
    pub addresses: Vec<IpNet>,
    /// Routes beside the default ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<PodRoute>,
    /// Whether the pod gets a default route of each family that it has.
    pub default_route: bool,
    /// The MAC address of the pod's interface; one is made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The MTU of the pod's interface in bytes; what the uplink takes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// See [`PortSpec::allowed_addresses`](super::PortSpec::allowed_addresses).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<IpNet>,
    /// See [`PortSpec::allowed_macs`](super::PortSpec::allowed_macs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_macs: Vec<MacAddr>,
    /// See [`PortSpec::unguarded`](super::PortSpec::unguarded).
    #[serde(default)]
    pub unguarded: bool,
    /// What the pod may receive; without a limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<RateLimit>,
    /// What the pod may send; without a limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<RateLimit>,
    /// The pod's name for people, as in `default/web-0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// How to give back what the runtime holds for the attachment, should it vanish without a
    /// [`PodDetach`](super::Request::PodDetach).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

impl PodSpec {
    /// A guarded veth without limits, whose addresses and MAC are still to be said. It gets default
    /// routes.
    pub fn new(key: AttachmentKey, netns: impl Into<PathBuf>) -> Self {
        Self {
            key,
            netns: netns.into(),
            kind: PortKind::Afxdp,
            addresses: Vec::new(),
            routes: Vec::new(),
            default_route: true,
            mac: None,
            mtu: None,
            allowed_addresses: Vec::new(),
            allowed_macs: Vec::new(),
            unguarded: false,
            ingress: None,
            egress: None,
            pod: None,
            release: None,
        }
    }
}

/// A route in a pod (CNI 1.1.0, section 5, "routes").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodRoute {
    /// The destination.
    pub dst: IpNet,
    /// The gateway; the destination is on-link when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The largest IP packet in bytes (`RTAX_MTU`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The largest TCP segment to announce in bytes (`RTAX_ADVMSS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The metric (`RTA_PRIORITY`); the kernel's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The table (`RTA_TABLE`); main (254) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope (`rtm_scope`, rtnetlink(7)); link without gateway, universe with one, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl PodRoute {
    /// A route with nothing special about it.
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self {
            dst,
            gw,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// The CNI plugin to call with `CNI_COMMAND=DEL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The plugin's binary.
    pub program: PathBuf,
    /// `CNI_PATH`.
    pub path: String,
    /// `CNI_ARGS`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub args: String,
    /// The network configuration for its standard input, JSON.
    pub config: String,
}

/// An attached pod, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodInfo {
    /// Who owns it.
    pub key: AttachmentKey,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// `afxdp` (a veth) or `tap`.
    pub kind: PortKind,
    /// The port's name in the switch, and that of the veth's host end.
    pub port: String,
    /// The MAC address of the veth's host end; `None` for a TAP.
    pub host_mac: Option<MacAddr>,
    /// The MAC address of the pod's interface.
    pub mac: MacAddr,
    /// The MTU of the pod's interface in bytes.
    pub mtu: u32,
    /// The pod's addresses, as its interface has them.
    pub addresses: Vec<IpNet>,
    /// The pod's gateways, one of each address family that it has.
    pub gateways: Vec<IpAddr>,
    /// All routes that were set in the pod.
    pub routes: Vec<PodRoute>,
    /// The pod's name for people.
    pub pod: Option<String>,
    /// `up`, or why not.
    pub state: String,
}

/// What a runtime believes of an attachment, to be compared with the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodCheck {
    /// Who owns it.
    pub key: AttachmentKey,
    /// The pod's network namespace, as a path.
    pub netns: PathBuf,
    /// The addresses that its interface must have, perhaps among others.
    pub addresses: Vec<IpNet>,
    /// The routes that must be there, perhaps among others: destination and gateway count.
    pub routes: Vec<PodRoute>,
    /// The MAC address of its interface; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The MTU of its interface; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// Whether pods can be attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// A pod can be attached now.
    pub can_attach: bool,
    /// Attached pods reach all that they should.
    pub connected: bool,
    /// What is wrong and what to do about it, one line each; empty when nothing is.
    pub problems: Vec<String>,
}
