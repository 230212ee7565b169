//! The kernel's side of an attached pod: the veth (or TAP) and what is inside the pod's network
//! namespace.
//!
//! A veth's host end has the gateway's MAC address, so that the kernel could take over for the
//! switch, and an alias that names its owner (`shunt:NETWORK/CONTAINER/IFNAME`): after a restart, or without our
//! records, the kernel itself tells whose it is. It is a port of the switch and nothing else: the
//! node's kernel forwards nothing from there and answers nothing, should the switch be away.

mod alias;
mod check;
mod error;
mod found;
mod inside;
mod netns;
mod plan;
mod sysctl;
mod tap;
#[cfg(test)]
mod tests;
mod veth;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use shunt_api::{AttachmentKey, MacAddr, PodCheck, PodRoute, PortKind};

use crate::netlink::{Link, Netlink};
use crate::port::TapPort;

pub use error::PodLinkError;

/// How long the kernel may take to bring an end up, and how often it is asked.
const READY_MAX: Duration = Duration::from_secs(2);
const READY_PAUSE: Duration = Duration::from_micros(200);

/// What is to be made for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLinkPlan {
    /// Its owner; `key.ifname` is the interface in the pod.
    pub key: AttachmentKey,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// `Afxdp` makes a veth, `Tap` a TAP in the pod.
    pub kind: PortKind,
    /// The name of the veth's host end.
    pub host_device: String,
    /// The MAC address of the veth's host end: the gateway's.
    pub host_mac: MacAddr,
    /// The MAC address of the pod's interface.
    pub mac: MacAddr,
    /// The MTU of the pod's interface in bytes.
    pub mtu: u32,
    /// The pod's addresses, with the prefix length they get.
    pub addresses: Vec<IpNet>,
    /// The gateways: on-link, with a permanent neighbour entry at `gateway_mac`.
    pub gateways: Vec<IpAddr>,
    /// The gateways' MAC address.
    pub gateway_mac: MacAddr,
    /// All routes, the default ones among them, in the order to set them in. A route to the
    /// gateway itself, where it is in no subnet of the pod's, is set before them.
    pub routes: Vec<PodRoute>,
}

/// What was made.
pub struct PodLink {
    /// The link that a port is to be opened on: the veth's host end. Of a TAP, the TAP itself, with
    /// index 0: it is in another namespace.
    pub link: Link,
    /// A TAP's port, open.
    pub tap: Option<TapPort>,
}

/// An interface that the kernel has and that is ours by its alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLink {
    /// Its owner, by the alias.
    pub key: AttachmentKey,
    /// The veth's host end.
    pub link: Link,
    /// The MAC address of the pod's end; `None` when it cannot be read.
    pub mac: Option<MacAddr>,
    /// The addresses of the pod's end but for link-local ones.
    pub addresses: Vec<IpNet>,
    /// The pod's end could not be asked: that there is no MAC or no address then says nothing.
    pub unread: bool,
}

/// Which network namespace a path leads to: device and inode of its nsfs file. A path may be
/// reused, this is not while the namespace lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NetnsId {
    /// Device of the file system.
    pub device: u64,
    /// Inode.
    pub inode: u64,
}

/// Makes what `plan` says. It is called on a thread that may block, in the node's network
/// namespace. When it returns, both ends are up, with carrier, and the pod can send.
///
/// # Errors
/// See [`PodLinkError`]; then nothing is left of it. Another network's interface in the pod, the
/// pod's loopback and, where the pod has no IPv6 address, its IPv6 are left alone.
pub fn build(netlink: &mut Netlink, plan: &PodLinkPlan) -> Result<PodLink, PodLinkError> {
    let alias = alias::of(&plan.key)?;
    plan::validate(plan)?;
    let netns = netns::open(&plan.netns)?;
    if plan.kind == PortKind::Tap {
        return tap::build(plan, &netns);
    }
    let link = veth::build(netlink, plan, &alias, &netns)?;
    Ok(PodLink { link, tap: None })
}

/// Removes the veth of `key`, also a half-made one that has no alias yet. False when there is none
/// (a TAP goes with its port). A device of that name with another owner is left alone and an error.
/// The kernel takes 15 to 40 ms: call it where that does not matter.
///
/// # Errors
/// See [`PodLinkError`].
pub fn demolish(
    netlink: &mut Netlink,
    key: &AttachmentKey,
    host_device: &str,
) -> Result<bool, PodLinkError> {
    veth::demolish(netlink, key, host_device)
}

/// Compares a pod's interface with what a runtime believes of it. It has to be called in the node's
/// network namespace.
///
/// # Errors
/// [`PodLinkError::Different`] names all that differs.
pub fn check(check: &PodCheck) -> Result<(), PodLinkError> {
    check::check(check)
}

/// All veths of ours in this network namespace. Of one whose pod is going away in this moment there
/// is neither MAC address nor address. One whose pod's end cannot be read is among them, and says
/// so.
///
/// # Errors
/// See [`PodLinkError`]: when the links of this namespace cannot be read.
pub fn found(netlink: &mut Netlink) -> Result<Vec<FoundLink>, PodLinkError> {
    found::found(netlink)
}

/// Which network namespace a path leads to; `None` when it leads to none (any more): nothing is
/// there, or something else, such as the empty file that an unmounted namespace leaves.
///
/// # Errors
/// When the path cannot be looked at.
pub fn netns_id(path: &Path) -> std::io::Result<Option<NetnsId>> {
    netns::id(path)
}
