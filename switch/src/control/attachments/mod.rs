//! Pods that a container runtime attaches: each is owned by a key, goes from phase to phase, and is
//! kept on disk.
//!
//! ```text
//! attach -> Making -> Standing -> (detached)      -> Removing -> nothing
//!              |          |
//!              |          +----> (pod vanished)   -> Releasing -> nothing
//!              +-------------->  (failed)         -> Removing -> nothing
//! ```
//!
//! The control thread decides; what may block is done by other threads (`threads.rs`). A request
//! that has to wait for the end of a key's phase is put off and asked again then.

mod admission;
mod attach;
mod builder;
mod collect;
mod detach;
mod plan;
mod ready;
mod reaper;
mod reconcile;
mod release;
mod restore;
mod store;
mod threads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Waker;
use shunt_api::{ApiError, AttachmentKey, DetachQueue, ErrorCode, PodInfo, Reply, Request};

use super::daemon::Daemon;
use super::error::{RunError, refuse};
use super::server::Asker;
use crate::podlink::NetnsId;
use crate::port::Port;
use store::{Store, Stored};
use threads::{ReapJob, ReleaseJob, Report, Threads};

/// Between two looks whether pods are still there, and at the queue of detachments.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// An interface in a network namespace: there is one of a name.
type Place = (NetnsId, String);

/// Where an attachment is between nothing and nothing.
enum Phase {
    /// The builder is at it.
    Making(Making),
    /// It stands; its port may be down.
    Standing(Standing),
    /// It is taken down, and the reaper removes what is left.
    Removing(Removing),
    /// The pod vanished: what is left is removed, then the runtime's part is given back.
    Releasing(Releasing),
}

struct Making {
    asker: Asker,
    stored: Box<Stored>,
    /// Frames that its port is to have.
    frames: u32,
    /// It was detached meanwhile.
    cancelled: bool,
}

struct Standing {
    stored: Box<Stored>,
    /// Why it has no port, if it has none.
    trouble: Option<String>,
}

struct Removing {
    /// Where no other interface of that name can be made yet.
    place: Option<Place>,
    /// The index of the veth's host end, where the kernel's notice of its going is waited for.
    veth: Option<u32>,
    /// What is to be answered, and to whom, once nothing is left.
    then: Option<(Asker, ApiError)>,
}

struct Releasing {
    stored: Box<Stored>,
    step: ReleaseStep,
    /// Times that it failed.
    failed: u32,
    /// Why it failed last, or why there is something to release.
    why: String,
}

enum ReleaseStep {
    /// The reaper is at it.
    Removing,
    /// The plugin is called.
    Calling,
    /// It failed; the next try is then.
    Paused(Instant),
}

/// A request that is put off until the key's phase is over.
struct Waiting {
    on: AttachmentKey,
    asker: Asker,
    request: Request,
}

impl Waiting {
    /// Whether it is about this attachment.
    fn is_of(&self, key: &AttachmentKey) -> bool {
        match &self.request {
            Request::PodAttach(spec) => spec.key == *key,
            Request::Readiness { key: asked } => asked.as_ref() == Some(key),
            _ => false,
        }
    }
}

/// All attachments.
pub(crate) struct Attachments {
    store: Store,
    queue: DetachQueue,
    phases: BTreeMap<AttachmentKey, Phase>,
    /// Those whose records are to be removed and could not be.
    unremoved: BTreeSet<AttachmentKey>,
    /// Who was tried last of those that stand without a port.
    tried: Option<AttachmentKey>,
    waiting: Vec<Waiting>,
    replies: VecDeque<(Asker, Reply)>,
    threads: Threads,
    next_look: Instant,
    health: ready::Health,
}

impl Attachments {
    /// Starts the threads; nothing is read yet, and nothing made on disk.
    pub(crate) fn new(state_dir: &Path, waker: &Arc<Waker>) -> Result<Self, RunError> {
        let store = Store::new(state_dir);
        Ok(Self {
            threads: Threads::start(&store, waker)?,
            store,
            queue: DetachQueue::new(state_dir),
            phases: BTreeMap::new(),
            unremoved: BTreeSet::new(),
            tried: None,
            waiting: Vec::new(),
            replies: VecDeque::new(),
            next_look: Instant::now(),
            health: ready::Health::default(),
        })
    }

    /// Ends the threads. Interfaces and records stay.
    pub(crate) fn stop(self) {
        self.threads.stop();
    }

    /// The attachment that stands or is to stand behind this port.
    pub(super) fn of_port(&self, port: &str) -> Option<&AttachmentKey> {
        let named = |stored: &Stored| stored.host_device == port;
        self.phases.iter().find_map(|(key, phase)| {
            let own = match phase {
                Phase::Making(making) => named(&making.stored),
                Phase::Standing(standing) => named(&standing.stored),
                Phase::Removing(_) | Phase::Releasing(_) => false,
            };
            own.then_some(key)
        })
    }

    fn standing(&self) -> impl Iterator<Item = &Stored> {
        self.phases.values().filter_map(|phase| match phase {
            Phase::Standing(standing) => Some(&*standing.stored),
            _ => None,
        })
    }

    /// Those being made that are still wanted.
    fn making(&self) -> impl Iterator<Item = &Making> {
        self.phases.values().filter_map(|phase| match phase {
            Phase::Making(making) if !making.cancelled => Some(making),
            _ => None,
        })
    }

    /// Whether something of an earlier attachment of this key, or at this place, is still to end:
    /// the key to wait for.
    ///
    /// # Errors
    /// [`ErrorCode::Exists`] when the key's attachment stands or is being made.
    fn busy(
        &self,
        key: &AttachmentKey,
        place: Option<&Place>,
    ) -> Result<Option<&AttachmentKey>, ApiError> {
        match self.phases.get_key_value(key) {
            Some((own, Phase::Making(Making { cancelled, .. }))) if *cancelled => {
                return Ok(Some(own));
            }
            Some((_, Phase::Making(_) | Phase::Standing(_))) => {
                return Err(refuse(
                    ErrorCode::Exists,
                    format!(
                        "pod {key} is attached already: detach it first (shunt pod del {} {} {})",
                        key.network, key.container_id, key.ifname
                    ),
                ));
            }
            Some((own, Phase::Removing(_) | Phase::Releasing(_))) => return Ok(Some(own)),
            None => {}
        }
        let at_place = |phase: &Phase| match phase {
            Phase::Making(making) => {
                making.cancelled && attach::place(&making.stored).as_ref() == place
            }
            Phase::Removing(removing) => removing.place.as_ref() == place,
            Phase::Standing(_) | Phase::Releasing(_) => false,
        };
        let mut phases = self.phases.iter();
        let busy = place.and_then(|_| phases.find(|(_, phase)| at_place(phase)));
        Ok(busy.map(|(key, _)| key))
    }

    /// Who stands without a port and is to be tried next: all take turns.
    fn next_to_try(&self) -> Option<AttachmentKey> {
        let troubled = || {
            self.phases.iter().filter_map(|(key, phase)| match phase {
                Phase::Standing(Standing { trouble, .. }) => trouble.as_ref().map(|_| key),
                _ => None,
            })
        };
        let next = troubled().find(|key| Some(*key) > self.tried.as_ref());
        next.or_else(|| troubled().next()).cloned()
    }

    fn put_off(&mut self, on: AttachmentKey, asker: Asker, request: Request) {
        self.waiting.push(Waiting { on, asker, request });
    }

    fn reply(&mut self, asker: Asker, reply: Reply) {
        self.replies.push_back((asker, reply));
    }

    /// Closes a TAP where that may take its time.
    pub(super) fn close_later(&mut self, tap: Port) {
        self.threads.reap(ReapJob::Close(tap));
    }

    /// Has an attachment's record stand no more, and go when nothing else is `left`. What cannot
    /// be done now is remembered, and done as soon as it can be.
    fn remove_record(&mut self, key: &AttachmentKey, left: bool) -> Result<(), ApiError> {
        let name = key.short_name();
        let removed = self.store.retire(&name).and_then(|()| match left {
            true => Ok(()),
            false => self.store.forget(&name),
        });
        match &removed {
            Ok(()) if left => {}
            Ok(()) => drop(self.unremoved.remove(key)),
            Err(error) => {
                if self.unremoved.insert(key.clone()) {
                    log::error!("pod {key}: {error}; it is tried again");
                }
            }
        }
        removed
    }

    /// Those whose records are to be removed, and that nothing else is done about now.
    fn records_left(&self) -> Vec<AttachmentKey> {
        let idle = |key: &&AttachmentKey| !self.phases.contains_key(*key);
        self.unremoved.iter().filter(idle).cloned().collect()
    }

    /// An attachment is taken down: the reaper gets what is left.
    fn remove(&mut self, key: AttachmentKey, removing: Removing) {
        self.threads.reap(ReapJob::Demolish(key.clone()));
        self.phases.insert(key, Phase::Removing(removing));
    }
}

impl Daemon {
    /// An answer that was put off and is there now.
    pub(crate) fn next_reply(&mut self) -> Option<(Asker, Reply)> {
        self.attachments.replies.pop_front()
    }

    /// Deals with what the threads have done.
    pub(crate) fn attachment_reports(&mut self) {
        for report in self.attachments.threads.reports() {
            match report {
                Report::Built { key, outcome } => self.pod_built(&key, outcome),
                Report::Checked { asker, outcome } => {
                    let reply = outcome.map_or_else(Reply::Error, |()| Reply::Done);
                    self.attachments.reply(asker, reply);
                }
                Report::Demolished {
                    key,
                    outcome,
                    record_left,
                } => {
                    if record_left || self.attachments.unremoved.contains(&key) {
                        // It is told of and remembered there.
                        let _ = self.attachments.remove_record(&key, outcome.is_err());
                    }
                    self.pod_demolished(&key, outcome);
                }
                Report::Released { key, outcome } => self.pod_released(&key, outcome),
            }
        }
    }

    /// A few times a second: what is due.
    pub(crate) fn tend_attachments(&mut self) {
        self.retry_releases();
        self.watch_health();
        let now = Instant::now();
        if now >= self.attachments.next_look {
            self.attachments.next_look = now + LOOK_EVERY;
            self.drain_queue();
            self.remove_records_left();
            self.look_at_pods();
        }
    }

    fn pod_demolished(&mut self, key: &AttachmentKey, outcome: Result<(), String>) {
        if let Err(why) = outcome {
            log::error!("pod {key}: what is left of it cannot be removed: {why}");
        }
        match self.attachments.phases.get_mut(key) {
            Some(Phase::Removing(removing)) => {
                if let Some((asker, error)) = removing.then.take() {
                    self.attachments.reply(asker, Reply::Error(error));
                }
                self.phase_over(key);
            }
            Some(Phase::Releasing(_)) => self.call_release(key),
            _ => {}
        }
    }

    /// A link is gone. Of a veth that is being removed the kernel says so long before the removal
    /// returns, which waits until nobody refers to it any more: its place is free from now on.
    pub(in crate::control) fn pod_link_gone(&mut self, index: u32) {
        let mut phases = self.attachments.phases.iter_mut();
        let freed = phases.find_map(|(key, phase)| match phase {
            Phase::Removing(removing) if removing.veth == Some(index) => {
                removing.veth = None;
                removing.place.take().map(|_| key.clone())
            }
            _ => None,
        });
        if let Some(key) = freed {
            // The same attachment made anew would have the same name: that waits for the end.
            self.go_on(|waiting| waiting.on == key && !waiting.is_of(&key));
        }
    }

    /// Nothing is left of an attachment: what waited for that goes on.
    fn phase_over(&mut self, key: &AttachmentKey) {
        self.attachments.phases.remove(key);
        self.go_on(|waiting| waiting.on == *key);
    }

    /// Requests that were put off are asked again.
    fn go_on(&mut self, due: impl Fn(&Waiting) -> bool) {
        let due = |waiting: &mut Waiting| due(waiting);
        let due: Vec<_> = self.attachments.waiting.extract_if(.., due).collect();
        for Waiting { asker, request, .. } in due {
            if let Some(reply) = self.answer(asker, request) {
                self.attachments.reply(asker, reply);
            }
        }
    }

    /// An attachment as the API shows it.
    fn pod_info(&self, stored: &Stored, state: String) -> PodInfo {
        PodInfo {
            key: stored.key().clone(),
            netns: stored.spec.netns.clone(),
            kind: stored.spec.kind,
            port: stored.host_device.clone(),
            host_mac: (!stored.is_tap()).then_some(self.config.gateway.mac),
            mac: stored.mac,
            mtu: stored.mtu,
            addresses: stored.addresses.clone(),
            gateways: stored.gateways.clone(),
            routes: stored.routes.clone(),
            pod: stored.spec.pod.clone(),
            state,
        }
    }
}

#[cfg(test)]
mod tests;
