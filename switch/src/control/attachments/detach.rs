//! A pod is detached: by its runtime, or by what waits in the queue from a time when the daemon was
//! away.

use shunt_api::{ApiError, AttachmentKey, Reply, Request};

use super::attach::place;
use super::{Phase, ReleaseStep, Removing};
use crate::control::daemon::Daemon;
use crate::control::error::{refuse, system};
use crate::control::server::Asker;

impl Daemon {
    /// Answers [`Request::PodDetach`]: the port is closed and the addresses are free when it
    /// returns; the veth goes a little later.
    pub(in crate::control) fn pod_detach(
        &mut self,
        asker: Asker,
        key: &AttachmentKey,
    ) -> Result<Option<Reply>, ApiError> {
        // Whoever waits to attach it has been given up by its runtime.
        let stale = |waiting: &mut super::Waiting| {
            waiting.asker != asker
                && matches!(&waiting.request, Request::PodAttach(spec) if spec.key == *key)
        };
        let stale: Vec<_> = self.attachments.waiting.extract_if(.., stale).collect();
        for waiting in stale {
            let error = system(format!("pod {key} was detached while it waited"));
            self.attachments.reply(waiting.asker, Reply::Error(error));
        }
        self.take_down(key)?;
        Ok(Some(Reply::Done))
    }

    /// Takes an attachment down, whatever there is of it.
    ///
    /// # Errors
    /// Also when only its record cannot be removed: at a start it would be taken for one that
    /// stands.
    pub(super) fn take_down(&mut self, key: &AttachmentKey) -> Result<(), ApiError> {
        let name = key.short_name();
        let veth = self.ports.by_name(&name).map(|record| record.ifindex);
        let removing = match self.attachments.phases.get_mut(key) {
            Some(Phase::Making(making)) => {
                making.cancelled = true;
                return Ok(());
            }
            Some(Phase::Removing(_)) => return self.attachments.remove_record(key, true),
            Some(Phase::Releasing(releasing)) => {
                // While the plugin is called, it is the plugin that asks. Otherwise the runtime has
                // come after all, and gives back itself.
                if matches!(releasing.step, ReleaseStep::Paused(_)) {
                    self.end_release(key);
                }
                return Ok(());
            }
            Some(Phase::Standing(standing)) => Removing {
                place: place(&standing.stored),
                veth: veth.filter(|_| !standing.stored.is_tap()),
                then: None,
            },
            // Half made, perhaps, by an earlier daemon: the device's name tells.
            None => match self.netlink.link(&name).map_err(system)? {
                None => return self.attachments.remove_record(key, false),
                Some(_) => Removing {
                    place: None,
                    veth: None,
                    then: None,
                },
            },
        };
        if self.ports.by_name(&name).is_some() && self.attachments.phases.contains_key(key) {
            self.remove_port(&name)
                .map_err(|error| refuse(error.code, format!("pod {key}: {}", error.message)))?;
        }
        let removed = self.attachments.remove_record(key, true);
        self.attachments.remove(key.clone(), removing);
        log::info!("pod {key} detached");
        removed
    }

    /// Tries again to remove records that could not be.
    pub(super) fn remove_records_left(&mut self) {
        for key in self.attachments.records_left() {
            if let Err(error) = self.take_down(&key) {
                log::debug!("pod {key}: {error}");
            }
        }
    }

    /// Does what waits in the queue. A file goes once nothing is left of its attachment.
    pub(super) fn drain_queue(&mut self) {
        let waiting = match self.attachments.queue.waiting() {
            Ok(waiting) => waiting,
            Err(error) => {
                let folder = self.attachments.queue.folder();
                log::error!("{}: {error}", folder.display());
                return;
            }
        };
        for queued in waiting {
            let file = queued.file.display();
            let Some(key) = queued.key else {
                if !is_set_aside(&queued.file) {
                    let aside = queued.file.with_extension("json.damaged");
                    log::error!(
                        "{file} is damaged: it is now {}; the pod it names is collected when it is \
                         gone",
                        aside.display()
                    );
                    if let Err(error) = std::fs::rename(&queued.file, &aside) {
                        log::error!("{file} cannot be renamed: {error}");
                    }
                }
                continue;
            };
            if let Err(error) = self.take_down(&key) {
                log::error!("pod {key}: {error}");
                continue;
            }
            if !self.attachments.phases.contains_key(&key)
                && let Err(error) = std::fs::remove_file(&queued.file)
            {
                log::error!("{file} cannot be removed: {error}");
            }
        }
    }
}

fn is_set_aside(file: &std::path::Path) -> bool {
    file.extension().is_some_and(|ending| ending == "damaged")
}
