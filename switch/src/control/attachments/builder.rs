//! The thread that makes pods' interfaces and looks at them.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::Receiver;
use shunt_api::{ApiError, MacAddr};

use super::store::{Store, Stored};
use super::threads::{BuildJob, Report, Reports, open};
use crate::control::error::{refuse, system};
use crate::netlink::Netlink;
use crate::podlink::{self, PodLink, PodLinkError};

impl From<PodLinkError> for ApiError {
    fn from(error: PodLinkError) -> Self {
        refuse(error.code(), error.to_string())
    }
}

pub(super) fn run(jobs: &Receiver<BuildJob>, reports: &Reports, store: &Store, stop: &AtomicBool) {
    let mut netlink = None;
    for job in jobs {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        reports.send(match job {
            BuildJob::Build {
                stored,
                gateway_mac,
            } => {
                let outcome = build(&mut netlink, store, &stored, gateway_mac);
                if outcome.is_err() {
                    // A socket of its own for the next.
                    netlink = None;
                }
                Report::Built {
                    key: stored.spec.key,
                    outcome,
                }
            }
            BuildJob::Check { asker, check } => Report::Checked {
                asker,
                outcome: podlink::check(&check).map_err(ApiError::from),
            },
        });
    }
}

/// On the disk first: a disk that is full costs no veth, and after a crash it is known what was
/// half made.
fn build(
    netlink: &mut Option<Netlink>,
    store: &Store,
    stored: &Stored,
    gateway_mac: MacAddr,
) -> Result<PodLink, ApiError> {
    store.begin(stored)?;
    let built = open(netlink).map_err(system).and_then(|netlink| {
        podlink::build(netlink, &stored.plan(gateway_mac)).map_err(ApiError::from)
    });
    if built.is_err()
        && let Err(error) = store.forget(&stored.host_device)
    {
        log::warn!("{error}");
    }
    built
}
