//! Pods' network namespaces by path.

use std::io;
use std::path::Path;

use super::{NetnsId, PodLinkError};
use crate::sys::Netns;

/// See [`super::netns_id`].
pub(super) fn id(path: &Path) -> io::Result<Option<NetnsId>> {
    match Netns::open(path) {
        Ok(netns) => Ok(netns.map(|netns| {
            let (device, inode) = netns.id();
            NetnsId { device, inode }
        })),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a pod's network namespace: never the node's own.
pub(super) fn open(path: &Path) -> Result<Netns, PodLinkError> {
    let no_netns = |what| PodLinkError::NoNetns {
        netns: path.to_owned(),
        what,
    };
    if !path.is_absolute() {
        return Err(no_netns("is no absolute path"));
    }
    let netns = match Netns::open(path) {
        Ok(Some(netns)) => netns,
        Ok(None) => return Err(no_netns("is no network namespace")),
        Err(error) if is_missing(&error) => {
            return Err(PodLinkError::NetnsGone {
                netns: path.to_owned(),
            });
        }
        Err(error) => {
            let what = format!("opening the network namespace {}", path.display());
            return Err(PodLinkError::kernel(what, error));
        }
    };
    let own = Netns::of_this_thread()
        .map_err(|error| PodLinkError::kernel("opening the node's network namespace", error))?;
    if own.id() == netns.id() {
        return Err(no_netns(
            "is the node's own network namespace, which cannot be a pod's",
        ));
    }
    Ok(netns)
}

/// Calls `f` inside `netns`, which is at `path`.
pub(super) fn run<T: Send>(
    netns: &Netns,
    path: &Path,
    f: impl FnOnce() -> Result<T, PodLinkError> + Send,
) -> Result<T, PodLinkError> {
    netns.run(f).map_err(|error| {
        let what = format!("entering the network namespace {}", path.display());
        PodLinkError::kernel(what, error)
    })?
}

/// ESRCH: a process under /proc whose end came in between.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH)
    )
}
