//! Background processes that end with their handle.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

/// A running process; dropping it ends and reaps it.
///
/// It runs in a process group of its own, so that Ctrl-C in a terminal reaches only the program
/// that holds this handle.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stderr: NamedTempFile,
    keep: bool,
}

/// How long a background process may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// With its handle, and at the latest with the thread that started it
    /// (`PR_SET_PDEATHSIG`): even a killed test leaves no switch spinning.
    Handle,
    /// With its handle, unless [`Process::keep`] lets it outlive the program.
    Keepable,
}

impl Process {
    /// Starts `argv` in the network namespace `netns`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(netns: &str, argv: &[&str], lifetime: Lifetime) -> Result<Self> {
        let stderr = NamedTempFile::new().context("temporary file for standard error")?;
        let sink: File = stderr.reopen()?;
        let tether: &[&str] = match lifetime {
            Lifetime::Handle => &["setpriv", "--pdeathsig", "KILL", "--"],
            Lifetime::Keepable => &[],
        };
        let child = Command::new("ip")
            .args(["netns", "exec", netns])
            .args(tether)
            .args(argv)
            .stdin(Stdio::null())
            .stdout(sink.try_clone()?)
            .stderr(sink)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}` in {netns}", argv.join(" ")))?;
        Ok(Self {
            child,
            name: argv.first().unwrap_or(&"").to_string(),
            stderr,
            keep: false,
        })
    }

    /// Lets it run on when the handle goes.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed until now, on standard output and standard error.
    pub fn output(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = self.stderr.reopen() {
            // A read error leaves the text short; it only serves messages and conditions.
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `ready` holds of what it has printed.
    ///
    /// # Errors
    /// When it exits before, or after `patience`; the message has its output.
    pub fn wait_output(&mut self, patience: Duration, ready: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let exited = self.child.try_wait()?;
            let text = self.output();
            if ready(&text) {
                return Ok(());
            }
            if let Some(status) = exited {
                bail!("`{}` ended early ({status}): {}", self.name, text.trim());
            }
            if Instant::now() > deadline {
                bail!(
                    "`{}` is not ready after {patience:?}: {}",
                    self.name,
                    text.trim()
                );
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Its exit status if it has ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!(
                    "`{}` still runs after {patience:?}: {}",
                    self.name,
                    self.output().trim()
                );
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Sends it a signal; harmless when it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // Reaped children keep no pid, so a pid that answers here is still ours.
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Asks it to end by `signal` and waits; after `patience` it is killed.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(&mut self, signal: Signal, patience: Duration) -> Result<ExitStatus> {
        self.signal(signal);
        match self.wait(patience) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.signal(Signal::KILL);
                let _ = self.child.wait();
                Err(error)
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.keep {
            let _ = self.stop(Signal::TERM, Duration::from_secs(3));
        }
    }
}
