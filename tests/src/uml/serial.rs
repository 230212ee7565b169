//! The serial line over which the peer takes commands (its other end is `tests/uml/init`).

use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The longest command line in bytes. The guest's terminal holds 4096, and user-mode-linux loses
/// input for good once it had to stop the line.
const LONGEST: usize = 3000;

/// How long an answer may take beyond what its command was given.
const GRACE: Duration = Duration::from_secs(10);

/// What a command inside the peer left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 and the signal's number if one ended it.
    pub status: i32,
    /// What it printed on standard output.
    pub stdout: Vec<u8>,
    /// What it printed on standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// This side of the line. Dropping it tells the guest to halt.
#[derive(Debug)]
pub(super) struct Serial {
    to_guest: ChildStdin,
    from_guest: Receiver<Vec<u8>>,
    unread: Vec<u8>,
    sequence: u64,
}

impl Serial {
    /// Takes both directions of the line.
    pub(super) fn new(to_guest: ChildStdin, mut output: ChildStdout) -> Self {
        let (sender, from_guest) = channel();
        // A pipe has no time-out of its own. The thread ends with the guest or with this handle.
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            to_guest,
            from_guest,
            unread: Vec::new(),
            sequence: 0,
        }
    }

    /// Waits for the guest's word that it takes commands; skips what the kernel prints before.
    pub(super) fn wait_ready(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let line = self.line(deadline)?;
            if let Some(failed) = line.strip_prefix("ready") {
                ensure!(failed.is_empty(), "failed at boot:{failed}");
                return Ok(());
            }
        }
    }

    /// Runs one line of shell in the guest, for `limit` at most, rounded up to seconds.
    pub(super) fn run(&mut self, command: &str, limit: Duration) -> Result<Output> {
        ensure!(
            !command.contains(['\n', '\r', '\0']),
            "`{command}` is more than one line"
        );
        ensure!(
            command.len() <= LONGEST,
            "a command of {} bytes: the line takes {LONGEST}",
            command.len()
        );
        self.sequence = self.sequence.wrapping_add(1);
        let seconds = limit
            .as_secs()
            .saturating_add(u64::from(limit.subsec_nanos() > 0))
            .max(1);
        let line = format!("{} {seconds} {command}\n", self.sequence);
        self.to_guest
            .write_all(line.as_bytes())
            .context("the guest has ended")?;
        let deadline = Instant::now() + Duration::from_secs(seconds) + GRACE;
        loop {
            let header = self.line(deadline)?;
            let (sequence, output) = self.answer(&header, deadline)?;
            // An answer that came too late for its own command is not this one's.
            if sequence == self.sequence {
                return Ok(output);
            }
        }
    }

    fn answer(&mut self, header: &str, deadline: Instant) -> Result<(u64, Output)> {
        let unexpected = || format!("unexpected answer `{header}`");
        let words: Vec<&str> = header.split(' ').collect();
        let ["done", sequence, status, length, errors] = words[..] else {
            bail!(unexpected());
        };
        let sequence = sequence.parse().with_context(unexpected)?;
        let status = status.parse().with_context(unexpected)?;
        let length = length.parse().with_context(unexpected)?;
        let errors = errors.parse().with_context(unexpected)?;
        let stdout = self.take(length, deadline)?;
        let stderr = self.take(errors, deadline)?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok((
            sequence,
            Output {
                status,
                stdout,
                stderr,
            },
        ))
    }

    fn line(&mut self, deadline: Instant) -> Result<String> {
        let mut searched = 0;
        loop {
            let found = self
                .unread
                .iter()
                .skip(searched)
                .position(|&byte| byte == b'\n');
            if let Some(position) = found {
                let line = self.take(searched + position + 1, deadline)?;
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            searched = self.unread.len();
            self.receive(deadline)?;
        }
    }

    fn take(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>> {
        while self.unread.len() < length {
            self.receive(deadline)?;
        }
        let rest = self.unread.split_off(length);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    fn receive(&mut self, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.from_guest.recv_timeout(left) {
            Ok(bytes) => self.unread.extend(bytes),
            Err(RecvTimeoutError::Timeout) => bail!("the guest does not answer"),
            Err(RecvTimeoutError::Disconnected) => bail!("the guest has ended"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A line whose other end is a shell script instead of a guest.
    fn guest(script: &str) -> (std::process::Child, Serial) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let serial = Serial::new(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        (child, serial)
    }

    #[test]
    fn output_is_eight_bit_clean_and_late_answers_are_skipped() {
        let (mut child, mut serial) = guest(
            r"echo booting; echo ready; read -r line
            printf 'done 0 0 4 0\nlate'; printf 'done 1 3 4 2\n\000\n\377dno'; cat >&2",
        );
        serial.wait_ready(Duration::from_secs(5)).unwrap();
        let output = serial.run("anything", Duration::from_secs(5)).unwrap();
        assert_eq!(output.status, 3);
        assert_eq!(output.stdout, b"\0\n\xffd");
        assert_eq!(output.stderr, "no");
        drop(serial);
        child.wait().unwrap();
    }

    #[test]
    fn what_failed_at_boot_and_a_dead_guest_are_named() {
        let (mut child, mut serial) = guest("echo ready ipip.ko httpd");
        let error = serial.wait_ready(Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.to_string(), "failed at boot: ipip.ko httpd");
        child.wait().unwrap();
        let error = serial.run("true", Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
        let error = serial.run("a\nb", Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("more than one line"), "{error}");
    }
}
