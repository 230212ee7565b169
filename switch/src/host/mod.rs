//! The node's own network stack as a neighbour of the switch.
//!
//! A veth pair in the node's namespace joins them: the kernel's end (`shunt0`) has the node's
//! addresses and the routes to the pods, the switch opens an AF_XDP socket on the other
//! (`shunt0-sw`). By it come kubelet's probes, what kube-proxy has rewritten, and what pods send to
//! the node and beyond it.
//!
//! - `device.rs`: the pair, its addresses and neighbours.
//! - `routes.rs`: which routes and rules there should be, and the way there from those there are.
//! - `masquerade.rs`: pods talk to the outside with the node's address (nftables).
//! - `sysctl.rs`: the kernel's switches for all that.
//!
//! All of it works in the network namespace of the calling thread.

mod device;
mod masquerade;
mod routes;
mod sysctl;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use shunt_api::MacAddr;

pub use device::{HostDevice, SWITCH_END_SUFFIX};
pub use masquerade::TABLE as NFT_TABLE;
pub use routes::{RULE_PRIORITY, TABLE_SHUNT};

use crate::netlink::NetlinkError;

/// How the node's stack is joined to the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// The kernel's end of the pair, such as `shunt0`: 1 to 12 letters, digits, `.`, `_` and `-`.
    pub device: String,
    /// The Ethernet address of `device`.
    pub mac: MacAddr,
    /// The largest IP packet of the pair in bytes.
    pub mtu: u32,
    /// The switch as an IPv4 router.
    pub gateway: Ipv4Addr,
    /// The switch as an IPv6 router.
    pub gateway6: Ipv6Addr,
    /// The switch's Ethernet address, as the kernel's neighbour.
    pub gateway_mac: MacAddr,
    /// The node's IPv4 address, if it has one.
    pub address: Option<Ipv4Addr>,
    /// The node's IPv6 address, if it has one.
    pub address6: Option<Ipv6Addr>,
    /// Whether pods talk to the outside with the node's address.
    pub masquerade: bool,
    /// The addresses of this node's pods.
    pub pod_cidrs: Vec<IpNet>,
    /// The addresses of all nodes' pods; when empty, `pod_cidrs` counts.
    pub cluster_cidrs: Vec<IpNet>,
    /// Destinations that see the pods' own addresses, besides pods and nodes.
    pub non_masquerade: Vec<IpNet>,
    /// Whether [`HostDevice::remove`] leaves everything as it is, so that a restarted switch finds
    /// it again.
    pub keep: bool,
}

/// What the node's stack sends to the switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPlan {
    /// The pods' prefixes, for the main table.
    pub prefixes: Vec<HostRoute>,
    /// The addresses of other nodes. They keep their usual routes; only packets that come out of
    /// the switch go back into it (see [`TABLE_SHUNT`]).
    pub nodes: Vec<IpAddr>,
    /// The MTU in bytes of the way to other nodes; None for the device's.
    pub nodes_mtu: Option<u32>,
}

/// A prefix that lies behind the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// The addresses.
    pub prefix: IpNet,
    /// The path's MTU in bytes; None for the device's.
    pub mtu: Option<u32>,
}

impl From<IpNet> for HostRoute {
    fn from(prefix: IpNet) -> Self {
        Self { prefix, mtu: None }
    }
}

/// The node's stack cannot be joined to the switch as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The name is not one that a link, its other end and nftables all take.
    #[error(
        "`{device}` cannot name the host device: use 1 to 12 letters, digits, `.`, `_` and `-` \
         (its other end is called `{device}{}`, and the kernel takes 15 bytes)",
        SWITCH_END_SUFFIX
    )]
    Name {
        /// The name.
        device: String,
    },
    /// There is a link of that name that is not ours.
    #[error(
        "a link `{device}` exists that is not the host device: {what}; remove it (`ip link del \
         {device}`) or give the host device another name"
    )]
    Foreign {
        /// The name.
        device: String,
        /// What it is.
        what: String,
    },
    /// The pair was there and is gone.
    #[error(
        "the host device `{device}` was deleted by someone else; restart the switch to make it anew"
    )]
    Lost {
        /// The kernel's end.
        device: String,
    },
    /// Another's route leads elsewhere.
    #[error(
        "the route to {prefix} (table {table}) is another's: it stays, and this node reaches these \
         addresses by it and not through the switch; see `ip route show table {table} exact \
         {prefix}` and delete it, or take the prefix from the configuration"
    )]
    RouteTaken {
        /// The route's prefix.
        prefix: IpNet,
        /// Its table.
        table: u32,
    },
    /// The kernel refused a change.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A sysctl has the wrong value and cannot be set.
    #[error(
        "the sysctl {key} has to be {wanted} and cannot be set: {source}; set it on the host, or \
         mount /proc/sys writable"
    )]
    Sysctl {
        /// Its name, with dots.
        key: String,
        /// The value that it has to have.
        wanted: &'static str,
        /// Why it cannot be set.
        source: std::io::Error,
    },
    /// There is no `nft`.
    #[error(
        "masquerading takes the program `nft`: install nftables or set host.masquerade = false"
    )]
    NftMissing,
    /// `nft` could not be run.
    #[error("the program `nft` cannot be run: {0}")]
    Nft(#[source] std::io::Error),
    /// `nft` took too long.
    #[error("`nft` did not end within {} s and was stopped; try again", limit.as_secs_f32())]
    NftTimeout {
        /// How long it may take.
        limit: Duration,
    },
    /// `nft` said no.
    #[error(
        "nftables refused the masquerading table: {why}; the kernel needs nf_tables, nft_nat, \
         nft_masq and nft_fib_inet and the process CAP_NET_ADMIN; or set host.masquerade = false"
    )]
    NftRefused {
        /// Its words.
        why: String,
    },
    /// Several of these; what could be done is done.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<HostError>),
}

impl HostError {
    /// None, the one, or all of them.
    fn from_many(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.pop() {
            None => Ok(()),
            Some(one) if errors.is_empty() => Err(one),
            Some(last) => {
                errors.push(last);
                Err(Self::Several(errors))
            }
        }
    }
}
