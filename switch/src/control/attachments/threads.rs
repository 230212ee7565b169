//! The threads that do what may block, so that the control thread never does: jobs go to them by
//! channels, reports come back by one more and wake the control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};
use mio::Waker;
use shunt_api::{ApiError, AttachmentKey, MacAddr, PodCheck, Release};

use super::store::{Store, Stored};
use super::{builder, reaper, release};
use crate::control::error::{RunError, system};
use crate::control::server::Asker;
use crate::netlink::{Netlink, NetlinkError};
use crate::podlink::PodLink;
use crate::port::Port;

/// For the builder.
pub(super) enum BuildJob {
    /// Note it on disk, and make the pod's interface.
    Build {
        stored: Box<Stored>,
        gateway_mac: MacAddr,
    },
    /// Compare.
    Check { asker: Asker, check: Box<PodCheck> },
}

/// For the reaper.
pub(super) enum ReapJob {
    /// Delete the veth, then what the disk has of it.
    Demolish(AttachmentKey),
    /// Close a TAP: its device goes with it.
    Close(Port),
    /// Have the record on disk for certain, in a while.
    Sync(String),
}

/// For the releaser.
pub(super) struct ReleaseJob {
    pub(super) key: AttachmentKey,
    pub(super) release: Release,
}

/// What became of a job.
pub(super) enum Report {
    /// [`BuildJob::Build`]; on a refusal nothing is left of it.
    Built {
        key: AttachmentKey,
        outcome: Result<PodLink, ApiError>,
    },
    /// [`BuildJob::Check`].
    Checked {
        asker: Asker,
        outcome: Result<(), ApiError>,
    },
    /// [`ReapJob::Demolish`].
    Demolished {
        key: AttachmentKey,
        outcome: Result<(), String>,
        /// Nothing else is left, but what the disk has of it could not be removed.
        record_left: bool,
    },
    /// [`ReleaseJob`].
    Released {
        key: AttachmentKey,
        outcome: Result<(), String>,
    },
}

/// Where reports go.
#[derive(Clone)]
pub(super) struct Reports {
    sender: Sender<Report>,
    waker: Arc<Waker>,
}

impl Reports {
    pub(super) fn send(&self, report: Report) {
        // Without a control thread nobody needs to know.
        let _ = self.sender.send(report);
        if let Err(error) = self.waker.wake() {
            log::error!("the control thread cannot be woken: {error}");
        }
    }
}

/// The threads, seen from the control thread.
pub(super) struct Threads {
    build: Sender<BuildJob>,
    reap: Sender<ReapJob>,
    release: Sender<ReleaseJob>,
    reports: Receiver<Report>,
    stop: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn start(store: &Store, waker: &Arc<Waker>) -> Result<Self, RunError> {
        let (sender, reports) = unbounded();
        let to_us = Reports {
            sender,
            waker: Arc::clone(waker),
        };
        let (build, builds) = unbounded();
        let (reap, reaps) = unbounded();
        let (release, releases) = unbounded();
        let mut threads = Self {
            build,
            reap,
            release,
            reports,
            stop: Arc::default(),
            handles: Vec::new(),
        };
        let (to, own, stop) = (to_us.clone(), store.clone(), Arc::clone(&threads.stop));
        threads.spawn("shunt-builder", move || {
            builder::run(&builds, &to, &own, &stop);
        })?;
        let (to, own, stop) = (to_us.clone(), store.clone(), Arc::clone(&threads.stop));
        threads.spawn("shunt-reaper", move || {
            reaper::run(&reaps, &to, &own, &stop);
        })?;
        let stop = Arc::clone(&threads.stop);
        threads.spawn("shunt-release", move || {
            release::run(&releases, &to_us, &stop);
        })?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|error| RunError::Kernel {
                what: "threads",
                why: error.to_string(),
            })?;
        self.handles.push(thread);
        Ok(())
    }

    pub(super) fn build(&self, job: BuildJob) -> Result<(), ApiError> {
        self.build.send(job).map_err(|_| ended("shunt-builder"))
    }

    pub(super) fn reap(&self, job: ReapJob) {
        if let Err(lost) = self.reap.send(job) {
            // What it held is closed here, slowly, and a veth is left to the next start.
            drop(lost);
            log::error!("{}", ended("shunt-reaper"));
        }
    }

    pub(super) fn release(&self, job: ReleaseJob) {
        if self.release.send(job).is_err() {
            log::error!("{}", ended("shunt-release"));
        }
    }

    /// What has been done since the last call.
    pub(super) fn reports(&self) -> Vec<Report> {
        self.reports.try_iter().collect()
    }

    /// A thread that is no more.
    pub(super) fn dead(&self) -> Option<String> {
        let mut handles = self.handles.iter();
        let dead = handles.find(|handle| handle.is_finished())?;
        Some(ended(dead.thread().name().unwrap_or("a thread")).message)
    }

    /// Ends them, each after the job it is at.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop((self.build, self.reap, self.release));
        for handle in self.handles {
            let name = handle.thread().name().unwrap_or("a thread").to_owned();
            if handle.join().is_err() {
                log::error!("{name} had panicked");
            }
        }
    }
}

/// The thread's socket: opened when it is first needed, and anew after it was given up.
pub(super) fn open(netlink: &mut Option<Netlink>) -> Result<&mut Netlink, NetlinkError> {
    match netlink {
        Some(open) => Ok(open),
        none => Ok(none.insert(Netlink::open()?)),
    }
}

fn ended(thread: &str) -> ApiError {
    system(format!(
        "the thread {thread} has ended: its panic is in the log; restart the daemon"
    ))
}
