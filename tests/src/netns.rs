//! Network namespaces that vanish with their handle.

use std::fs::File;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fd::AsFd;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{run, sh};
use crate::process::{Lifetime, Process};

/// Where `ip netns` keeps its names (ip-netns(8)).
const NETNS_DIR: &str = "/run/netns";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A named network namespace; dropping it ends the processes left in it and deletes it, also
/// while a panic unwinds.
#[derive(Debug)]
pub struct Netns {
    name: String,
    keep: bool,
}

impl Netns {
    /// Makes a namespace called `sh-PID-N-ROLE`, N counting up in this process. Its loopback is
    /// up and IPv6 is off, so that the only traffic in it is a test's own.
    ///
    /// # Errors
    /// When the kernel refuses: it takes root.
    pub fn new(role: &str) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("sh-{}-{number}-{role}", std::process::id()))
    }

    /// Makes a namespace of exactly this name.
    ///
    /// # Errors
    /// When one of that name exists, or the kernel refuses.
    pub fn named(name: &str) -> Result<Self> {
        sh(&format!("ip netns add {name}")).context("network namespaces take root")?;
        let netns = Self {
            name: name.to_owned(),
            keep: false,
        };
        netns.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Its name for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path for setns(2).
    pub fn path(&self) -> String {
        format!("{NETNS_DIR}/{}", self.name)
    }

    /// Leaves the namespace and what runs in it alone when the handle goes.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Runs `ip -n NAME WORDS`.
    ///
    /// # Errors
    /// As [`run`].
    pub fn ip(&self, words: &str) -> Result<String> {
        sh(&format!("ip -n {} {words}", self.name))
    }

    /// Runs a command in the namespace to its end.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        run(&[&["ip", "netns", "exec", &self.name], argv].concat())
    }

    /// Starts a command in the namespace that lives no longer than its handle.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start(&self, argv: &[&str]) -> Result<Process> {
        Process::start(&self.name, argv, Lifetime::Handle)
    }

    /// Sets a network sysctl, written with dots.
    ///
    /// # Errors
    /// When the key is unknown or the value refused.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.within(|| std::fs::write(&path, value))?
            .with_context(|| format!("sysctl {key}={value} in {}", self.name))
    }

    /// Lets it speak IPv6, without router solicitations and without duplicate address detection,
    /// whose second of waiting no test here is about. Interfaces that come later do as well.
    ///
    /// # Errors
    /// As [`Netns::sysctl`].
    pub fn enable_ipv6(&self) -> Result<()> {
        for (key, value) in [
            ("accept_dad", "0"),
            ("accept_ra", "0"),
            ("disable_ipv6", "0"),
        ] {
            self.sysctl(&format!("net.ipv6.conf.all.{key}"), value)?;
            self.sysctl(&format!("net.ipv6.conf.default.{key}"), value)?;
        }
        Ok(())
    }

    /// Calls `f` on a thread inside the namespace: sockets it opens stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When `f` does.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        within(&self.path(), f)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = delete(&self.name)
        {
            eprintln!("namespace {} is left behind: {error:#}", self.name);
        }
    }
}

/// Calls `f` on a thread inside the namespace at `path`, as [`Netns::within`].
///
/// # Errors
/// When the namespace cannot be entered.
///
/// # Panics
/// When `f` does.
pub fn within<T: Send>(path: &str, f: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| -> Result<T> {
            let file = File::open(path).with_context(|| path.to_owned())?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("setns to {path}"))?;
            Ok(f())
        });
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Ends every process in the namespace and deletes it. No such namespace is success.
///
/// # Errors
/// When a process in it survives SIGKILL for two seconds, or `ip netns del` fails.
pub fn delete(name: &str) -> Result<()> {
    if !std::path::Path::new(NETNS_DIR).join(name).exists() {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let pids = sh(&format!("ip netns pids {name}"))?;
        let mut alive = false;
        for pid in pids
            .split_whitespace()
            .filter_map(|p| p.parse().ok())
            .filter_map(Pid::from_raw)
        {
            alive = true;
            let _ = kill_process(pid, Signal::KILL);
        }
        if !alive {
            break;
        }
        if Instant::now() > deadline {
            bail!(
                "processes {} do not end",
                pids.split_whitespace().collect::<Vec<_>>().join(" ")
            );
        }
        thread::sleep(Duration::from_millis(5));
    }
    sh(&format!("ip netns del {name}"))?;
    Ok(())
}

/// Deletes the namespaces of test processes that were killed before they could do so: those
/// named `sh-PID-...` whose PID no longer runs.
///
/// # Errors
/// When the directory of names cannot be read or a deletion fails.
pub fn sweep() -> Result<()> {
    for name in list("sh-")? {
        let owner = name
            .split('-')
            .nth(1)
            .and_then(|p| p.parse().ok())
            .and_then(Pid::from_raw);
        if owner.is_some_and(|pid| test_kill_process(pid).is_err()) {
            delete(&name)?;
        }
    }
    Ok(())
}

/// Names of namespaces that begin with `prefix`.
///
/// # Errors
/// When the directory of names exists but cannot be read.
pub fn list(prefix: &str) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(NETNS_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(NETNS_DIR),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
