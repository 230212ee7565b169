//! Pods that went without a word: their ports and addresses are freed, and what the runtime holds
//! for them is given back.

use std::time::{Duration, Instant};

use shunt_api::{AttachmentKey, PortKind, Reply};

use super::attach::{gone, place};
use super::store::State;
use super::threads::ReapJob;
use super::{Phase, ReleaseJob, ReleaseStep, Releasing, Removing, Waiting};
use crate::control::daemon::Daemon;
use crate::control::error::system;

/// The first pause between two calls of a plugin that fails, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long to wait after so many failures.
fn pause(failed: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failed.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

impl Daemon {
    /// Looks for pods that are gone, and tries again to give those a port that have none.
    pub(super) fn look_at_pods(&mut self) {
        let standing = self.attachments.standing();
        let vanished: Vec<_> = standing
            .filter_map(|stored| Some((stored.key().clone(), gone(stored)?)))
            .collect();
        for (key, why) in vanished {
            self.collect(&key, why);
        }
        // One a look: a try may take a while, and traffic control waits for it.
        if let Some(key) = self.attachments.next_to_try() {
            self.adopt_again(&key);
            self.attachments.tried = Some(key);
        }
    }

    /// A port's device is gone. True when it was that of an attachment, which is collected.
    pub(in crate::control) fn pod_port_dead(&mut self, port: &str) -> bool {
        let Some(key) = self.attachments.of_port(port).cloned() else {
            return false;
        };
        self.collect(&key, "its interface is gone");
        true
    }

    /// Frees what a vanished pod had.
    pub(super) fn collect(&mut self, key: &AttachmentKey, why: &str) {
        let Some(Phase::Standing(standing)) = self.attachments.phases.get(key) else {
            return;
        };
        let stored = standing.stored.clone();
        let name = &stored.host_device;
        if self.ports.by_name(name).is_some()
            && let Err(error) = self.remove_port(name)
        {
            // Whatever keeps it now: it is looked at again.
            log::error!("pod {key}: {error}");
            return;
        }
        log::warn!("pod {key} is gone without being detached: {why}");
        self.begin_release(stored, why);
    }

    /// Removes what is left of a pod, then gives back what the runtime holds for it.
    pub(super) fn begin_release(&mut self, mut stored: Box<super::Stored>, why: &str) {
        let key = stored.key().clone();
        if stored.spec.release.is_none() {
            // It is told of and remembered there.
            let _ = self.attachments.remove_record(&key, true);
            let removing = Removing {
                place: place(&stored),
                veth: None,
                then: None,
            };
            self.attachments.remove(key, removing);
            return;
        }
        if stored.state != State::Releasing {
            stored.state = State::Releasing;
            if let Err(error) = self.attachments.store.save(&stored) {
                // As long as this daemon lives it is known anyway.
                log::error!("pod {key}: {error}");
            }
        }
        let releasing = Releasing {
            stored,
            step: ReleaseStep::Removing,
            failed: 0,
            why: why.to_owned(),
        };
        self.attachments
            .threads
            .reap(ReapJob::Demolish(key.clone()));
        self.attachments
            .phases
            .insert(key, Phase::Releasing(releasing));
    }

    /// Calls the plugin.
    pub(super) fn call_release(&mut self, key: &AttachmentKey) {
        let Some(Phase::Releasing(releasing)) = self.attachments.phases.get_mut(key) else {
            return;
        };
        let Some(release) = releasing.stored.spec.release.clone() else {
            self.end_release(key);
            return;
        };
        releasing.step = ReleaseStep::Calling;
        self.attachments.threads.release(ReleaseJob {
            key: key.clone(),
            release,
        });
    }

    /// Calls it at once, should it be waiting for its next try.
    pub(super) fn release_now(&mut self, key: &AttachmentKey) {
        if let Some(Phase::Releasing(releasing)) = self.attachments.phases.get(key)
            && matches!(releasing.step, ReleaseStep::Paused(_))
        {
            self.call_release(key);
        }
    }

    /// Calls those whose pause is over.
    pub(super) fn retry_releases(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .attachments
            .phases
            .iter()
            .filter(|(_, phase)| match phase {
                Phase::Releasing(releasing) => {
                    matches!(releasing.step, ReleaseStep::Paused(until) if until <= now)
                }
                _ => false,
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.call_release(&key);
        }
    }

    /// The plugin has ended.
    pub(super) fn pod_released(&mut self, key: &AttachmentKey, outcome: Result<(), String>) {
        let Some(Phase::Releasing(releasing)) = self.attachments.phases.get_mut(key) else {
            return;
        };
        let Err(why) = outcome else {
            log::info!("pod {key}: what its runtime held for it is given back");
            self.end_release(key);
            return;
        };
        releasing.failed = releasing.failed.saturating_add(1);
        let pause = pause(releasing.failed);
        log::warn!("pod {key} cannot be released: {why}; next try in {pause:?}");
        releasing.step = ReleaseStep::Paused(Instant::now() + pause);
        releasing.why.clone_from(&why);
        // Who waits for it is not to wait for the next try.
        let due = |waiting: &mut Waiting| waiting.on == *key;
        let due: Vec<_> = self.attachments.waiting.extract_if(.., due).collect();
        for waiting in due {
            let error = system(format!(
                "pod {key}: an earlier one cannot be released: {why}"
            ));
            self.attachments.reply(waiting.asker, Reply::Error(error));
        }
    }

    /// A release is over.
    pub(super) fn end_release(&mut self, key: &AttachmentKey) {
        // It is told of and remembered there.
        let _ = self.attachments.remove_record(key, false);
        self.phase_over(key);
    }

    /// Tries to open a port on an interface that is there.
    fn adopt_again(&mut self, key: &AttachmentKey) {
        let Some(Phase::Standing(standing)) = self.attachments.phases.get(key) else {
            return;
        };
        let stored = standing.stored.clone();
        let link = match stored.spec.kind {
            PortKind::Tap => Ok(None),
            _ => self.netlink.link(&stored.host_device).map_err(system),
        };
        let outcome = match link {
            Ok(None) if !stored.is_tap() => {
                self.collect(key, "its veth is gone");
                return;
            }
            Ok(link) => self.adopt(&stored, link),
            Err(error) => Err(error),
        };
        let outcome = outcome.map_err(|error| error.message).err();
        if let Some(Phase::Standing(standing)) = self.attachments.phases.get_mut(key) {
            if outcome.is_none() {
                log::info!("pod {key} has its port again");
            } else if outcome != standing.trouble {
                log::error!("pod {key}: {}", outcome.as_deref().unwrap_or_default());
            }
            standing.trouble = outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_minutes() {
        let seconds: Vec<_> = [1, 2, 3, 9, 10, 40, u32::MAX]
            .map(|failed| pause(failed).as_secs())
            .into();
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300, 300]);
    }
}
