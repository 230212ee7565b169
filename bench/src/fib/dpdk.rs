//! DPDK's tables, in a process of their own: built from `bench/peers`, and driven by lines of text.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::compare::install_peers;
use crate::interrupt::Interrupt;

const SOURCES: &[&str] = &["fib_dpdk.c", "fib_dpdk_tables4.c", "fib_dpdk_tables6.c"];
const CRATE: &str = env!("CARGO_MANIFEST_DIR");
/// Megabytes that DPDK may take of ordinary memory. It takes them as it needs them.
const MEGABYTES: &str = "4096";

/// The process. Without commands it sleeps; it ends with this handle.
#[derive(Debug)]
pub(super) struct Dpdk {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
    /// Files that the process reads, and what it says on stderr.
    directory: TempDir,
    interrupt: Interrupt,
    version: String,
}

/// How a table was built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Built {
    /// Seconds of making the empty table and adding the routes.
    pub(super) seconds: f64,
    /// Second-level groups it was given.
    pub(super) groups: u64,
    /// Bytes allocated, with those for the groups and routes it has room for.
    pub(super) bytes: u64,
}

/// Times of single updates, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    /// Median.
    pub(super) p50: f64,
    /// 99th percentile.
    pub(super) p99: f64,
    /// The longest.
    pub(super) max: f64,
}

impl Dpdk {
    /// Installs what is missing, builds the program and starts it on `core`.
    ///
    /// # Errors
    /// A package is missing and this is not root (the error has the command), the program does
    /// not compile or start.
    pub(super) fn start(core: usize, interrupt: &Interrupt) -> Result<Self> {
        let program = build()?;
        let directory = tempfile::Builder::new().prefix("shunt-fib-").tempdir()?;
        let log = File::create(directory.path().join("log"))?;
        let prefix = format!("shunt-fib-{}", std::process::id());
        let mut child = Command::new(&program)
            .args([
                "--no-huge",
                "--no-pci",
                "--no-telemetry",
                "--no-shconf",
                "-m",
                MEGABYTES,
            ])
            .args(["--lcores", &format!("0@{core}")])
            .args(["--force-max-simd-bitwidth=512", "--file-prefix", &prefix])
            .args(["--log-level", "*:error"])
            // It leaves its sockets behind; here they go with the rest.
            .env("RUNTIME_DIRECTORY", directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let commands = child.stdin.take().context("no pipe")?;
        let lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let (sender, answers) = channel();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut dpdk = Self {
            child,
            commands,
            answers,
            directory,
            interrupt: interrupt.clone(),
            version: String::new(),
        };
        let ready = dpdk.answer()?;
        dpdk.version = words(&ready, "ready")?.join(" ");
        Ok(dpdk)
    }

    /// The version of DPDK.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a file for the process to read, in place of the former one of that name.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Builds table `kind` of a file of routes, with room for `room` more.
    ///
    /// # Errors
    /// The table cannot hold them, or the processor has no AVX512 for its lookups.
    pub(super) fn build(&mut self, kind: &str, file: &str, room: usize) -> Result<Built> {
        let path = self.path(file);
        let line = format!("build {kind} {kind} {} {room}", path.display());
        let [seconds, groups, bytes] = self.numbers(&line, "built")?;
        Ok(Built {
            seconds,
            groups: groups as u64,
            bytes: bytes as u64,
        })
    }

    /// Adds a file of routes to a table.
    ///
    /// # Errors
    /// The table cannot hold them.
    pub(super) fn extend(&mut self, kind: &str, file: &str) -> Result<()> {
        let line = format!("extend {kind} {}", self.path(file).display());
        self.numbers::<1>(&line, "extended").map(|_| ())
    }

    /// Frees a table.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn free(&mut self, kind: &str) -> Result<()> {
        self.numbers::<0>(&format!("free {kind}"), "freed")
            .map(|_| ())
    }

    /// Loads the addresses to look up, `width` bytes each.
    ///
    /// # Errors
    /// The file is too small.
    pub(super) fn traffic(&mut self, file: &str, width: usize) -> Result<()> {
        let line = format!("traffic {} {width}", self.path(file).display());
        self.numbers::<1>(&line, "traffic").map(|_| ())
    }

    /// Looks the traffic up for about `time`; gives lookups a second.
    ///
    /// # Errors
    /// There is no such table, or the traffic is of another family.
    pub(super) fn run(&mut self, kind: &str, batch: usize, time: Duration) -> Result<f64> {
        let line = format!("run {kind} {batch} {}", time.as_secs_f64());
        let [lookups, seconds] = self.numbers(&line, "ran")?;
        Ok(lookups / seconds)
    }

    /// The checksum of the answers to the traffic, looked up in batches of this size.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub(super) fn sum(&mut self, kind: &str, batch: usize) -> Result<u64> {
        let answer = self.ask(&format!("sum {kind} {batch}"))?;
        let words = words(&answer, "sum")?;
        match words[..] {
            [sum] => u64::from_str_radix(sum, 16).with_context(|| unexpected(&answer)),
            _ => bail!(unexpected(&answer)),
        }
    }

    /// Replays a file of updates for at most `time`; gives how many, and how many a second.
    ///
    /// # Errors
    /// The table refuses one.
    pub(super) fn replay(
        &mut self,
        kind: &str,
        file: &str,
        time: Duration,
    ) -> Result<(usize, f64)> {
        let path = self.path(file);
        let line = format!("replay {kind} {} {}", path.display(), time.as_secs_f64());
        let [updates, seconds] = self.numbers(&line, "replayed")?;
        Ok((updates as usize, updates / seconds))
    }

    /// Replays a file of updates for at most `time`, and times each; gives how many, too.
    ///
    /// # Errors
    /// The table refuses one.
    pub(super) fn latency(
        &mut self,
        kind: &str,
        file: &str,
        time: Duration,
    ) -> Result<(usize, Latency)> {
        let path = self.path(file);
        let line = format!("latency {kind} {} {}", path.display(), time.as_secs_f64());
        let [updates, p50, p99, max] = self.numbers(&line, "latency")?;
        Ok((updates as usize, Latency { p50, p99, max }))
    }

    fn numbers<const N: usize>(&mut self, command: &str, verb: &str) -> Result<[f64; N]> {
        let answer = self.ask(command)?;
        numbers(&answer, verb)
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        let sent = writeln!(self.commands, "{command}").and_then(|()| self.commands.flush());
        let answer = match sent {
            Ok(()) => self.answer(),
            Err(_) => Err(self.ended()),
        };
        answer.with_context(|| format!("DPDK's tables: {command}"))
    }

    fn answer(&mut self) -> Result<String> {
        loop {
            match self.answers.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) => self.interrupt.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    /// Why the process is not there any more.
    fn ended(&mut self) -> anyhow::Error {
        let status = self
            .child
            .wait()
            .map_or("lost".to_owned(), |status| status.to_string());
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        anyhow::anyhow!(
            "the process of DPDK's tables has ended, {status}: {}",
            log.trim()
        )
    }
}

impl Drop for Dpdk {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words after `verb`; an error if the peer answered with one.
fn words<'a>(answer: &'a str, verb: &str) -> Result<Vec<&'a str>> {
    let mut words = answer.split_whitespace();
    match words.next() {
        Some("error") => bail!("{}", answer["error".len()..].trim()),
        Some(word) if word == verb => Ok(words.collect()),
        _ => bail!(unexpected(answer)),
    }
}

fn numbers<const N: usize>(answer: &str, verb: &str) -> Result<[f64; N]> {
    words(answer, verb)?
        .into_iter()
        .map(str::parse)
        .collect::<Result<Vec<f64>, _>>()
        .ok()
        .and_then(|numbers| numbers.try_into().ok())
        .with_context(|| unexpected(answer))
}

fn unexpected(answer: &str) -> String {
    format!("the answer {answer:?} is none that was expected")
}

/// Installs what is missing, and builds the program.
fn build() -> Result<PathBuf> {
    install_peers("fib")?;
    // target/release/compare: beside `release`.
    let exe = std::env::current_exe()?;
    let target = exe
        .ancestors()
        .nth(2)
        .context("this program has no directory")?;
    let directory = target.join("peers");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let program = directory.join("fib_dpdk");
    let sources = SOURCES
        .iter()
        .map(|source| Path::new(CRATE).join("peers").join(source));
    let output = Command::new("cc")
        .args(["-O3", "-Wall", "-Wextra", "-DALLOW_EXPERIMENTAL_API", "-o"])
        .arg(&program)
        .args(sources)
        .args(flags("--cflags")?)
        // After DPDK's own flags, which name the oldest processor that it runs on.
        .arg("-march=native")
        .args(flags("--libs")?)
        .output()
        .context("cannot run cc: install gcc")?;
    ensure!(
        output.status.success(),
        "the program of DPDK's tables does not compile:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(program)
}

fn flags(which: &str) -> Result<Vec<String>> {
    let output = Command::new("pkg-config")
        .args([which, "libdpdk"])
        .output()
        .context("cannot run pkg-config: install pkg-config")?;
    ensure!(
        output.status.success(),
        "pkg-config knows no libdpdk: install libdpdk-dev: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbers_after_a_verb() {
        assert_eq!(numbers("ran 100 0.5", "ran").unwrap(), [100.0, 0.5]);
        assert_eq!(numbers("freed", "freed").unwrap(), [0.0; 0]);
        assert_eq!(
            words("ready DPDK 22.11", "ready").unwrap(),
            ["DPDK", "22.11"]
        );
    }

    #[test]
    fn other_answers_are_errors_that_quote_them() {
        let error = |answer, verb| numbers::<2>(answer, verb).unwrap_err().to_string();
        assert_eq!(
            error("error no table is called x", "ran"),
            "no table is called x"
        );
        for answer in ["ran 100", "ran 100 0.5 7", "ran 100 x", "built 1 2", ""] {
            let error = error(answer, "ran");
            assert!(error.contains(&format!("{answer:?}")), "{error}");
        }
    }
}
