//! What can be wrong with a pod's link.

use std::io;
use std::path::{Path, PathBuf};

use shunt_api::ErrorCode;

use crate::netlink::NetlinkError;
use crate::sys::TapError;

/// Why a pod's link cannot be made, removed or is not as it should be. The message names the thing
/// and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodLinkError {
    /// The pod has an interface of that name.
    #[error(
        "the pod has an interface `{ifname}` already (network namespace {}): detach it first, or \
         choose another name",
        netns.display()
    )]
    InterfaceExists {
        /// The pod's network namespace.
        netns: PathBuf,
        /// The interface.
        ifname: String,
    },
    /// The node has a device of that name that is not this attachment's.
    #[error("the node's device `{device}` {owner}; remove it (ip link del {device})")]
    DeviceTaken {
        /// The device.
        device: String,
        /// Whose it is.
        owner: String,
    },
    /// The pod has such a route.
    #[error(
        "the pod has a route to {dst} already, {there} (network namespace {}): only one network \
         can have it, so leave it out of the others (`isDefaultGateway`, `routes`)",
        netns.display()
    )]
    RouteExists {
        /// The pod's network namespace.
        netns: PathBuf,
        /// Where the route leads.
        dst: String,
        /// Through what.
        there: String,
    },
    /// Nothing is at the namespace's path.
    #[error("there is no network namespace {} (any more): is the pod gone?", netns.display())]
    NetnsGone {
        /// The path.
        netns: PathBuf,
    },
    /// The path is not that of a pod's network namespace.
    #[error("{} {what}: give the path of a pod's network namespace, such as /run/netns/NAME", netns.display())]
    NoNetns {
        /// The path.
        netns: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// The plan makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The pod's interface is not as it should be.
    #[error(
        "the interface `{ifname}` in the network namespace {} is not as it was made: {}",
        netns.display(),
        differences.join("; ")
    )]
    Different {
        /// The pod's network namespace.
        netns: PathBuf,
        /// The interface.
        ifname: String,
        /// What differs, one thing each.
        differences: Vec<String>,
    },
    /// An end of the link does not come up.
    #[error(
        "the device `{device}` did not come up within {} ms; is the node overloaded? Try again",
        super::READY_MAX.as_millis()
    )]
    NotReady {
        /// The device.
        device: String,
    },
    /// The kernel refused something in the pod.
    #[error("in the network namespace {}: {source}", netns.display())]
    Inside {
        /// The pod's network namespace.
        netns: PathBuf,
        /// The exchange with the kernel.
        source: NetlinkError,
    },
    /// The kernel refused something on the node.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The TAP cannot be made.
    #[error("in the network namespace {}: {source}", netns.display())]
    Tap {
        /// The pod's network namespace.
        netns: PathBuf,
        /// Why not.
        source: TapError,
    },
    /// Another system call failed.
    #[error("{operation}: {source}")]
    Kernel {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl PodLinkError {
    /// How the control protocol calls it. What [`Different`](Self::Different) lacks is not found.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InterfaceExists { .. }
            | Self::DeviceTaken { .. }
            | Self::RouteExists { .. }
            | Self::Tap {
                source: TapError::Exists { .. },
                ..
            } => ErrorCode::Exists,
            Self::NetnsGone { .. } | Self::Different { .. } => ErrorCode::NotFound,
            Self::NoNetns { .. } | Self::Invalid(_) => ErrorCode::Invalid,
            Self::NotReady { .. }
            | Self::Inside { .. }
            | Self::Netlink(_)
            | Self::Tap { .. }
            | Self::Kernel { .. } => ErrorCode::System,
        }
    }

    pub(super) fn kernel(operation: impl Into<String>, source: io::Error) -> Self {
        Self::Kernel {
            operation: operation.into(),
            source,
        }
    }

    /// For `map_err`: a refusal in that pod.
    pub(super) fn inside(netns: &Path) -> impl Fn(NetlinkError) -> Self + '_ {
        move |source| Self::Inside {
            netns: netns.to_owned(),
            source,
        }
    }
}
