//! One execution of a plugin (CNI 1.1.0, section 2).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::netns::within;

/// How long a plugin may take: longer than any pause of ours.
const PATIENCE: Duration = Duration::from_secs(90);

/// What to execute.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The plugin's binary.
    pub program: PathBuf,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its standard input.
    pub stdin: Vec<u8>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

/// An error as a plugin prints it (section 5, "Error").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// What a program acts on.
    pub code: u64,
    /// One line.
    pub msg: String,
    /// More, or empty.
    pub details: String,
}

impl Invocation {
    /// An execution of `program` with `CNI_COMMAND` and nothing else.
    pub fn new(program: PathBuf, verb: &str) -> Self {
        Self {
            program,
            environment: BTreeMap::new(),
            stdin: Vec::new(),
        }
        .with("CNI_COMMAND", verb)
    }

    /// With a variable set.
    #[must_use]
    pub fn with(mut self, variable: &str, value: impl Into<String>) -> Self {
        self.environment.insert(variable.to_owned(), value.into());
        self
    }

    /// Without a variable.
    #[must_use]
    pub fn without(mut self, variable: &str) -> Self {
        self.environment.remove(variable);
        self
    }

    /// With this configuration.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// Executes it in the network namespace at path `node`, as a runtime does: in the mount
    /// namespace of this program.
    ///
    /// # Errors
    /// When it cannot be started, or still runs after a minute and a half.
    pub fn run(&self, node: &str) -> Result<Outcome> {
        Running::start(self, node)?.wait(PATIENCE)
    }

    /// Starts it, and leaves it to the caller to wait or to kill.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, node: &str) -> Result<Running> {
        Running::start(self, node)
    }
}

/// A plugin that runs; dropping it kills its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    begin: Instant,
    name: String,
    stdout: File,
    stderr: File,
}

impl Running {
    fn start(what: &Invocation, node: &str) -> Result<Self> {
        // Files instead of pipes: neither side can be held up by the other.
        let mut stdin = tempfile::tempfile()?;
        stdin.write_all(&what.stdin)?;
        stdin.rewind()?;
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut command = Command::new(&what.program);
        command
            .env_clear()
            // Scripts in place of a plugin need their tools.
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&what.environment)
            .stdin(stdin)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .process_group(0);
        let begin = Instant::now();
        let child = within(node, || command.spawn())?
            .with_context(|| format!("cannot start {}", what.program.display()))?;
        Ok(Self {
            child,
            begin,
            name: format!("{} {:?}", what.program.display(), what.environment),
            stdout,
            stderr,
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `patience`.
    pub fn wait(mut self, patience: Duration) -> Result<Outcome> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Outcome {
                    status,
                    took: self.begin.elapsed(),
                    stdout: text(&mut self.stdout)?,
                    stderr: text(&mut self.stderr)?,
                });
            }
            if self.begin.elapsed() > patience {
                bail!("{} still runs after {patience:?}", self.name);
            }
            sleep(Duration::from_micros(200));
        }
    }

    /// Kills it, and what it has started, as a runtime does whose patience is at an end.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Reaped children keep no pid, so a pid that answers here is still ours.
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Outcome {
    /// Its result, `null` when it printed nothing.
    ///
    /// # Errors
    /// When it failed; the message has what it printed. When it printed something but JSON.
    pub fn ok(&self) -> Result<Value> {
        ensure!(
            self.status.success(),
            "the plugin failed ({}): {} {}",
            self.status,
            self.stdout.trim(),
            self.stderr.trim()
        );
        if self.stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("the plugin printed: {}", self.stdout))
    }

    /// Its error, which must be on standard output in the form that the specification demands.
    ///
    /// # Errors
    /// When it succeeded, was killed, or printed something else.
    pub fn error(&self) -> Result<CniError> {
        ensure!(
            self.status.code().is_some_and(|code| code != 0),
            "the plugin should have failed ({}): {}",
            self.status,
            self.stdout
        );
        let value: Value = serde_json::from_str(&self.stdout).with_context(|| {
            format!(
                "no JSON on standard output: {:?}, on standard error: {:?}",
                self.stdout, self.stderr
            )
        })?;
        let word = |key: &str| value[key].as_str().map(str::to_owned);
        ensure!(
            word("cniVersion").is_some(),
            "an error without cniVersion: {value}"
        );
        Ok(CniError {
            code: value["code"].as_u64().context("an error without code")?,
            msg: word("msg")
                .filter(|msg| !msg.is_empty())
                .context("an error without msg")?,
            details: word("details").unwrap_or_default(),
        })
    }

    /// Demands this error, whose words must be in its message or details.
    ///
    /// # Errors
    /// As [`Outcome::error`], and when it is another.
    pub fn must_fail(&self, code: u64, words: &[&str]) -> Result<CniError> {
        let error = self.error()?;
        ensure!(error.code == code, "code {code} is due: {error:?}");
        let all = format!("{} {}", error.msg, error.details);
        for word in words {
            ensure!(all.contains(word), "no {word:?} in {error:?}");
        }
        Ok(error)
    }
}
