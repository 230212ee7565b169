//! The daemon, asked with patience.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use shunt_api::{
    AttachmentKey, Client, ClientError, DetachQueue, ErrorCode, PodCheck, PodInfo, PodSpec,
    Readiness,
};

use crate::conf::Conf;
use crate::error::{CniError, code};

/// What connecting may take on top of the patience.
const SLACK: Duration = Duration::from_millis(10);

/// How long is waited for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a look at whether the daemon is there and ready, and for other short questions.
    pub ask: Duration,
    /// For an attachment.
    pub attach: Duration,
    /// For a detachment; after it, the detachment is left to the queue.
    pub detach: Duration,
    /// For the IPAM plugin.
    pub ipam: Duration,
    /// For the IPAM plugin's STATUS.
    pub ipam_status: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // The runtime is told within a second to try again.
            ask: Duration::from_millis(900),
            attach: Duration::from_secs(30),
            detach: Duration::from_secs(4),
            // A runtime gives a sandbox two minutes or more.
            ipam: Duration::from_secs(60),
            ipam_status: Duration::from_secs(5),
        }
    }
}

/// A connection to the daemon, made when it is first needed.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    socket: &'a Path,
    queue: DetachQueue,
    patience: Patience,
    client: Option<Client>,
    /// It did not answer; further detachments go to the queue at once.
    silent: bool,
}

impl<'a> Daemon<'a> {
    /// The daemon of a network.
    pub(crate) fn of(conf: &'a Conf, patience: &Patience) -> Self {
        Self {
            socket: &conf.socket,
            queue: DetachQueue::new(&conf.state_dir),
            patience: *patience,
            client: None,
            silent: false,
        }
    }

    /// Whether pods can be attached, and whether this one is not yet.
    pub(crate) fn readiness(
        &mut self,
        key: Option<AttachmentKey>,
    ) -> Result<Readiness, ClientError> {
        self.call(self.patience.ask, |client| client.readiness(key))
    }

    /// The attachments of a network.
    pub(crate) fn pods(&mut self, network: &str) -> Result<Vec<PodInfo>, ClientError> {
        self.call(self.patience.detach, |client| {
            client.pod_list(Some(network))
        })
    }

    /// Compares an attachment with the kernel.
    pub(crate) fn check(&mut self, check: PodCheck) -> Result<(), ClientError> {
        self.call(self.patience.detach, |client| client.pod_check(check))
    }

    /// Attaches a pod.
    pub(crate) fn attach(&mut self, pod: PodSpec) -> Result<PodInfo, ClientError> {
        self.call(self.patience.attach, |client| client.pod_attach(pod))
    }

    /// Detaches a pod, now or, by the queue, as soon as the daemon is there.
    ///
    /// # Errors
    /// When neither can be had: the daemon refused, or the queue cannot be written (code 5).
    pub(crate) fn detach(&mut self, key: &AttachmentKey) -> Result<(), CniError> {
        if !self.silent {
            let patience = self.patience.detach;
            match self.call(patience, |client| client.pod_detach(key.clone())) {
                Ok(()) => return Ok(()),
                // What the daemon does not know, or could not have been asked to attach, is gone.
                Err(ClientError::Refused(refusal))
                    if [ErrorCode::NotFound, ErrorCode::Invalid].contains(&refusal.code) =>
                {
                    return Ok(());
                }
                Err(error @ ClientError::Refused(_)) => return Err(CniError::daemon(&error)),
                Err(error) => {
                    eprintln!("{error}; the detachment of {key} is queued");
                    self.silent = true;
                }
            }
        }
        self.queue.push(key).map_err(|error| {
            let folder = self.queue.folder().display();
            let what = format!(
                "the daemon does not answer, and the detachment of {key} cannot be queued in \
                 {folder}: {error}; start the daemon, or make the folder writable"
            );
            CniError::new(code::IO, "the detachment is neither done nor queued", what)
        })
    }

    /// One call, with the time to connect counted in. After an error that is no refusal the next
    /// call connects anew.
    fn call<T>(
        &mut self,
        patience: Duration,
        ask: impl FnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let start = Instant::now();
        let mut client = match self.client.take() {
            Some(client) => client,
            None => connect(self.socket, patience)?,
        };
        let spent = start.elapsed();
        // A round number reads better in an error.
        client.set_timeout(match spent < SLACK {
            true => patience,
            false => patience.saturating_sub(spent),
        });
        let answer = ask(&mut client);
        if matches!(answer, Ok(_) | Err(ClientError::Refused(_))) {
            self.client = Some(client);
        }
        answer
    }
}

/// Connects, on another thread: a Unix socket whose backlog is full, as a hung daemon's can be,
/// makes connect(2) wait without end.
fn connect(socket: &Path, patience: Duration) -> Result<Client, ClientError> {
    let (sender, receiver) = mpsc::channel();
    let path = socket.to_owned();
    let connecting = thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || sender.send(Client::connect(&path)));
    if let Err(source) = connecting {
        let socket = socket.to_owned();
        return Err(ClientError::Connect { socket, source });
    }
    match receiver.recv_timeout(patience) {
        Ok(connected) => connected,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(ClientError::Timeout {
                socket: socket.to_owned(),
                timeout: patience,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_hears_within_a_second_that_the_daemon_is_away() {
        assert!(Patience::default().ask < Duration::from_secs(1));
    }
}
