//! The thread that removes what is left of pods: deleting a veth takes the kernel an RCU grace
//! period or two.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use shunt_api::AttachmentKey;

use super::store::Store;
use super::threads::{ReapJob, Report, Reports, open};
use crate::netlink::Netlink;
use crate::podlink;

/// How long a new record waits for its way to the disk: one of a pod that comes and goes never
/// takes it.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// How often a veth that the kernel does not delete is tried.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(jobs: &Receiver<ReapJob>, reports: &Reports, store: &Store, stop: &AtomicBool) {
    let mut netlink = None;
    let mut unsynced = BTreeSet::new();
    let mut due = Instant::now();
    loop {
        let job = match unsynced.is_empty() {
            true => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => jobs.recv_deadline(due),
        };
        // What is left is on disk as such, and done at the next start.
        if stop.load(Ordering::Relaxed) {
            return;
        }
        match job {
            Ok(ReapJob::Demolish(key)) => {
                unsynced.remove(&key.short_name());
                let outcome = demolish(&mut netlink, &key);
                let forgotten = outcome.is_ok().then(|| store.forget(&key.short_name()));
                reports.send(Report::Demolished {
                    key,
                    outcome,
                    record_left: matches!(forgotten, Some(Err(_))),
                });
            }
            Ok(ReapJob::Close(port)) => drop(port),
            Ok(ReapJob::Sync(name)) => {
                due = Instant::now() + SYNC_AFTER;
                unsynced.insert(name);
            }
            Err(RecvTimeoutError::Timeout) => store.sync(std::mem::take(&mut unsynced).into_iter()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn demolish(netlink: &mut Option<Netlink>, key: &AttachmentKey) -> Result<(), String> {
    let mut tries = 1;
    loop {
        let done = open(netlink).map_err(|error| error.to_string());
        let done = done.and_then(|netlink| {
            let name = key.short_name();
            podlink::demolish(netlink, key, &name).map_err(|error| error.to_string())
        });
        match done {
            Ok(_) => return Ok(()),
            Err(error) if tries == TRIES => return Err(error),
            Err(error) => log::debug!("pod {key}: {error}"),
        }
        *netlink = None;
        tries += 1;
        std::thread::sleep(PAUSE);
    }
}
