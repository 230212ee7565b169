//! What runtimes ask: whether pods can be attached, which there are, and whether one is as it
//! should be.

use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, TryRecvError};
use shunt_api::{ApiError, AttachmentKey, ErrorCode, PodCheck, PodInfo, Readiness, Reply, Request};

use super::store::Stored;
use super::threads::BuildJob;
use super::{Phase, ReleaseStep, Standing};
use crate::control::daemon::Daemon;
use crate::control::error::{refuse, system};
use crate::control::ports::Record;
use crate::control::server::Asker;
use crate::control::workers::PATIENCE;
use crate::worker::WorkerSnapshot;

/// How long it holds what was found of the disk.
const DISK_HOLDS: Duration = Duration::from_secs(1);
/// Between two questions to the workers.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// An answer that a worker owes.
type Owed = (usize, Receiver<WorkerSnapshot>);

/// What is known of the parts that attaching needs.
#[derive(Default)]
pub(super) struct Health {
    /// When the disk was tried, and what was wrong.
    disk: Option<(Instant, Result<(), String>)>,
    /// When the workers were asked, and where answers are still to come.
    asked: Option<(Instant, Vec<Owed>)>,
    silent: Option<usize>,
}

impl Daemon {
    /// Answers [`Request::Readiness`]; `None` when the answer comes later.
    pub(in crate::control) fn readiness(
        &mut self,
        asker: Asker,
        key: Option<AttachmentKey>,
    ) -> Result<Option<Reply>, ApiError> {
        if let Some(key) = key {
            self.drain_queue();
            if let Some(on) = self.still_busy(&key, None)? {
                let request = Request::Readiness { key: Some(key) };
                self.attachments.put_off(on, asker, request);
                return Ok(None);
            }
        }
        let mut cannot = Vec::new();
        cannot.extend(self.disk_trouble());
        cannot.extend(self.attachments.threads.dead());
        cannot.extend(self.attachments.health.silent.map(|worker| {
            let core = self.config.workers.cores.get(worker).copied();
            format!(
                "worker {worker} does not answer: is its core {} taken by a process of higher \
                 priority?",
                core.unwrap_or_default()
            )
        }));
        let mut apart = Vec::new();
        if let Some(uplink) = &self.config.uplink {
            apart.extend(down("uplink", &uplink.device, self.ports.uplink()));
        }
        if let Some(host) = &self.config.host {
            apart.extend(down("host port", &host.device, self.ports.host()));
        }
        Ok(Some(Reply::Readiness(Readiness {
            can_attach: cannot.is_empty(),
            connected: apart.is_empty(),
            problems: [cannot, apart].concat(),
        })))
    }

    fn disk_trouble(&mut self) -> Option<String> {
        let now = Instant::now();
        let health = &mut self.attachments.health;
        let fresh = health
            .disk
            .as_ref()
            .is_some_and(|(at, _)| now.duration_since(*at) < DISK_HOLDS);
        if !fresh {
            health.disk = Some((now, self.attachments.store.probe()));
        }
        health
            .disk
            .as_ref()
            .and_then(|(_, found)| found.clone().err())
    }

    /// Asks the workers once a second whether they are there, without waiting.
    pub(super) fn watch_health(&mut self) {
        let health = &mut self.attachments.health;
        if let Some((at, answers)) = &mut health.asked {
            if at.elapsed() < ASK_EVERY {
                return;
            }
            answers.retain(|(_, answer)| matches!(answer.try_recv(), Err(TryRecvError::Empty)));
            // One that is late is not asked again before it has answered.
            if let Some((worker, _)) = answers.first() {
                health.silent = (at.elapsed() >= PATIENCE).then_some(*worker);
                return;
            }
        }
        health.silent = self.workers.ended();
        let answers = self.workers.ask().into_iter().enumerate();
        health.asked = Some((Instant::now(), answers.collect()));
    }

    /// Answers [`Request::PodList`].
    pub(in crate::control) fn pod_list(&self, network: Option<&str>) -> Vec<PodInfo> {
        let phases = self.attachments.phases.values();
        let pods = phases.filter_map(|phase| match phase {
            Phase::Standing(Standing { stored, .. }) => {
                Some(self.pod_info(stored, self.pod_state(stored)))
            }
            Phase::Releasing(releasing) => {
                let state = match releasing.step {
                    ReleaseStep::Removing | ReleaseStep::Calling => "gone: being released".into(),
                    ReleaseStep::Paused(_) => {
                        format!("gone: cannot be released: {}", releasing.why)
                    }
                };
                Some(self.pod_info(&releasing.stored, state))
            }
            Phase::Making(_) | Phase::Removing(_) => None,
        });
        pods.filter(|pod| network.is_none_or(|network| pod.key.network == network))
            .collect()
    }

    /// `up`, or why not.
    pub(super) fn pod_state(&self, stored: &Stored) -> String {
        match self.ports.by_name(&stored.host_device) {
            Some(record) => record.state(),
            None => match self.attachments.phases.get(stored.key()) {
                Some(Phase::Standing(Standing {
                    trouble: Some(why), ..
                })) => format!("down: {why}"),
                _ => "down".to_owned(),
            },
        }
    }

    /// Answers [`Request::PodCheck`]: the port here, the interface on a thread that may block.
    pub(in crate::control) fn pod_check(
        &mut self,
        asker: Asker,
        check: Box<PodCheck>,
    ) -> Result<Option<Reply>, ApiError> {
        let key = &check.key;
        let Some(Phase::Standing(standing)) = self.attachments.phases.get(key) else {
            return Err(refuse(
                ErrorCode::NotFound,
                format!("pod {key} is not attached"),
            ));
        };
        let state = self.pod_state(&standing.stored);
        if state != "up" {
            return Err(system(format!("pod {key}: its port is {state}")));
        }
        self.attachments
            .threads
            .build(BuildJob::Check { asker, check })?;
        Ok(None)
    }
}

/// What is wrong with a port that there is to be.
fn down(what: &str, device: &str, record: Option<&Record>) -> Option<String> {
    let why = match record.map(Record::state) {
        None => "it is not attached".to_owned(),
        Some(state) if state == "up" => return None,
        Some(state) => state,
    };
    Some(format!("{what} {device}: {why}"))
}
