//! What a daemon and the kernel hold for its pods, to be compared before and after.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use shunt_tests::daemon::Daemon;
use shunt_tests::netns::Netns;

/// What must be the same again once the pods that came in between are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// The daemon's descriptors by what they are: `socket`, `anon_inode:bpf-map`, `net`, ...
    pub(crate) descriptors: BTreeMap<String, usize>,
    /// Its threads by name, each name once: of some it starts more when there is more to do.
    pub(crate) threads: Vec<String>,
    /// The node's interfaces.
    pub(crate) links: Vec<String>,
    /// Ports of the switch.
    pub(crate) ports: Vec<String>,
    /// Its routes.
    pub(crate) routes: Vec<String>,
    /// Its neighbours.
    pub(crate) neighbours: Vec<String>,
    /// Frames of the pool that nobody holds.
    pub(crate) pool_free: u64,
    /// The daemon's records and its queue, and the leases.
    pub(crate) files: Vec<String>,
}

/// What may grow a little.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// The daemon's resident memory in KiB.
    pub(crate) resident: u64,
    /// The daemon's memory mappings: each ring is one, and so is what the allocator has got.
    pub(crate) mappings: usize,
    /// The kernel's memory that is mapped for rings and tables, in KiB, of the whole machine.
    pub(crate) vmalloc: u64,
}

impl Footprint {
    /// Takes it; `folders` are the daemon's and the leases'.
    pub(crate) fn take(daemon: &Daemon, node: &Netns, folders: &[&Path]) -> Result<Self> {
        let process = Path::new("/proc").join(daemon.pid().to_string());
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(process.join("fd"))? {
            // One that was closed in between is none.
            if let Ok(target) = fs::read_link(entry?.path()) {
                let target = target.to_string_lossy().into_owned();
                // `socket:[4711]`: each has a number of its own.
                let kind = target.split(":[").next().unwrap_or(&target).to_owned();
                *descriptors.entry(kind).or_default() += 1;
            }
        }
        let links = node.ip("-br link")?;
        let mut files = Vec::new();
        for folder in folders {
            list(folder, &mut files)?;
        }
        files.sort();
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        Ok(Self {
            descriptors,
            threads: threads(&process)?,
            links: sorted(
                links
                    .lines()
                    .filter_map(|line| line.split_whitespace().next())
                    .map(str::to_owned)
                    .collect(),
            ),
            ports: sorted(daemon.ports()?.into_iter().map(|port| port.name).collect()),
            routes: sorted(
                daemon
                    .routes()?
                    .into_iter()
                    .map(|route| format!("{} {}", route.prefix, route.origin))
                    .collect(),
            ),
            neighbours: sorted(
                daemon
                    .neighbours()?
                    .into_iter()
                    .map(|entry| format!("{} on {}", entry.address, entry.port))
                    .collect(),
            ),
            pool_free: daemon.stats()?.pool_free,
            files,
        })
    }
}

impl Memory {
    /// Takes it.
    pub(crate) fn take(daemon: &Daemon) -> Result<Self> {
        let status = format!("/proc/{}/status", daemon.pid());
        Ok(Self {
            resident: kib(Path::new(&status), "VmRSS")?,
            mappings: fs::read_to_string(format!("/proc/{}/maps", daemon.pid()))?
                .lines()
                .count(),
            vmalloc: kib(Path::new("/proc/meminfo"), "VmallocUsed")?,
        })
    }
}

fn threads(process: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for task in fs::read_dir(process.join("task"))? {
        // One that has ended in between is none.
        if let Ok(name) = fs::read_to_string(task?.path().join("comm")) {
            names.push(name.trim().to_owned());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// A line such as `VmRSS:   1234 kB`.
fn kib(file: &Path, key: &str) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("{} has no {key}", file.display()))?;
    Ok(value.parse()?)
}

fn list(folder: &Path, files: &mut Vec<String>) -> Result<()> {
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path().display().to_string());
        }
    }
    Ok(())
}
