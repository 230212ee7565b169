//! What containerd leaves when it is killed, and its removal: shims, containers, mounts, cgroups,
//! network namespaces. All of it is found from the folder that containerd was given, so that a
//! test that was killed itself can be cleaned up after.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::command::run;

/// Between the owner's name and a number.
const MARK: &str = "-containerd-";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new name of a folder for the containerd of the namespace `netns`.
pub(super) fn folder(netns: &str) -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("{netns}{MARK}{number}"))
}

/// containerd's socket.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("containerd.sock")
}

/// Removes what the containerds of dead test processes have left: namespaces of tests are named
/// `sh-PID-...`.
pub(super) fn sweep() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let owner = name
            .strip_prefix("sh-")
            .filter(|rest| rest.contains(MARK))
            .and_then(|rest| rest.split('-').next()?.parse().ok())
            .and_then(Pid::from_raw);
        if owner.is_some_and(|pid| test_kill_process(pid).is_err()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// The folders of sandboxes and containers that have a shim, or had.
pub(super) fn bundles(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(folder.join("state/io.containerd.runtime.v2.task/k8s.io")) {
        Ok(entries) => Ok(entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The processes that name this containerd's socket among their arguments.
pub(super) fn shims(folder: &Path) -> Result<Vec<Pid>> {
    let socket = socket(folder).display().to_string();
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry.file_name().to_string_lossy().parse().ok();
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        // It may have ended since.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let mut words = line.split(|&byte| byte == 0);
        let shim = words
            .next()
            .is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"));
        if shim && words.any(|word| word == socket.as_bytes()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Mount points below the folder, the innermost first.
pub(super) fn mounts(folder: &Path) -> Result<Vec<String>> {
    let folder = format!("{}/", folder.display());
    // The fifth field is the mount point (proc_pid_mountinfo(5)).
    let mut mounts: Vec<String> = fs::read_to_string("/proc/self/mountinfo")?
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with(&folder))
        .map(str::to_owned)
        .collect();
    mounts.reverse();
    Ok(mounts)
}

/// The network namespace that a bundle's configuration names (OCI runtime specification,
/// `linux.namespaces`), if it is one that containerd has made.
fn netns_of(bundle: &Path) -> Option<PathBuf> {
    let spec: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).ok()?).ok()?;
    let path = spec["linux"]["namespaces"]
        .as_array()?
        .iter()
        .find(|namespace| namespace["type"] == "network")?["path"]
        .as_str()?;
    let made = ["/run/netns/cni-", "/var/run/netns/cni-"]
        .iter()
        .any(|prefix| path.starts_with(prefix));
    made.then(|| PathBuf::from(path))
}

/// Ends and removes everything of the containerd with this folder, which must not run any more.
pub(super) fn remove(folder: &Path) -> Result<()> {
    let runc = folder.join("runc/k8s.io").display().to_string();
    let mut files = Vec::new();
    for bundle in bundles(folder)? {
        if let Some(id) = bundle.file_name().and_then(|name| name.to_str()) {
            // Kills what runs and removes the cgroups; one that is already gone is an error.
            let _ = run(&["runc", "--root", &runc, "delete", "--force", id]);
        }
        files.extend(netns_of(&bundle));
        // The shim's own socket lies in a folder that all containerds share.
        if let Ok(address) = fs::read_to_string(bundle.join("address")) {
            files.extend(address.trim().strip_prefix("unix://").map(PathBuf::from));
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let shims = shims(folder)?;
        for &pid in &shims {
            let _ = kill_process(pid, Signal::KILL);
        }
        if shims.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "shims {shims:?} do not end");
        sleep(Duration::from_millis(10));
    }
    files.sort_unstable();
    files.dedup();
    for file in files.iter().filter(|file| file.exists()) {
        let text = file.display().to_string();
        if text.contains("/netns/") {
            // It is a plain file when its mount is gone.
            let _ = run(&["umount", "--lazy", &text]);
        }
        fs::remove_file(file).with_context(|| text)?;
    }
    for mount in mounts(folder)? {
        run(&["umount", "--lazy", &mount])?;
    }
    fs::remove_dir_all(folder).with_context(|| folder.display().to_string())
}
