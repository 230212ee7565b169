//! The thread that gives back what a runtime holds for a pod that vanished: it calls the CNI
//! plugin with `CNI_COMMAND=DEL` (CNI 1.1.0, section 2), as the runtime would have.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use shunt_api::{AttachmentKey, Release};

use super::threads::{ReleaseJob, Report, Reports};

/// How long a plugin may take: ours gives the daemon 4 s and IPAM 60 s, and ends IPAM, which is in
/// a process group of its own, itself.
const PATIENCE: Duration = Duration::from_secs(70);
/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(2);
/// What of its output is kept: an error is far shorter.
const OUTPUT: u64 = 64 << 10;

pub(super) fn run(jobs: &Receiver<ReleaseJob>, reports: &Reports, stop: &AtomicBool) {
    for ReleaseJob { key, release } in jobs {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let outcome = call(&key, &release, PATIENCE, stop);
        reports.send(Report::Released { key, outcome });
    }
}

/// Calls the plugin, and ends it with all that it started when it takes longer than `patience` or
/// the daemon ends.
fn call(
    key: &AttachmentKey,
    release: &Release,
    patience: Duration,
    stop: &AtomicBool,
) -> Result<(), String> {
    let program = release.program.display();
    let (mut child, mut output) =
        start(key, release).map_err(|error| format!("{program} cannot be run: {error}"))?;
    let group = Pid::from_child(&child);
    let deadline = Instant::now() + patience;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(error) => return Err(format!("{program}: {error}")),
        }
        let late = Instant::now() > deadline;
        if late || stop.load(Ordering::Relaxed) {
            // Then it has ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
            return Err(match late {
                true => format!("{program} took longer than {patience:?}"),
                false => "the daemon ends".to_owned(),
            });
        }
        std::thread::sleep(LOOK);
    };
    match status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", said(status, &mut output))),
    }
}

fn start(key: &AttachmentKey, release: &Release) -> io::Result<(Child, File)> {
    // Files in memory: with pipes, one side might wait for the other.
    let mut input = File::from(memfd_create("cni-config", MemfdFlags::CLOEXEC)?);
    input.write_all(release.config.as_bytes())?;
    input.rewind()?;
    let output = memfd_create(
        "cni-result",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    let output = File::from(output);
    output.set_len(OUTPUT)?;
    fcntl_add_seals(&output, SealFlags::GROW)?;
    let child = Command::new(&release.program)
        .env("CNI_COMMAND", "DEL")
        .env("CNI_CONTAINERID", &key.container_id)
        .env("CNI_NETNS", "")
        .env("CNI_IFNAME", &key.ifname)
        .env("CNI_ARGS", &release.args)
        .env("CNI_PATH", &release.path)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok((child, output))
}

/// The error that the plugin printed (CNI 1.1.0, section 5, "Error"), or how it ended.
fn said(status: ExitStatus, output: &mut File) -> String {
    #[derive(serde::Deserialize)]
    struct Printed {
        code: u32,
        msg: String,
        #[serde(default)]
        details: String,
    }
    let mut bytes = Vec::new();
    let read = output
        .rewind()
        .and_then(|()| output.take(OUTPUT).read_to_end(&mut bytes));
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    let printed: Option<Printed> = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
    match printed {
        Some(Printed { code, msg, details }) if details.is_empty() => {
            format!("error {code}: {msg}")
        }
        Some(Printed { code, msg, details }) => format!("error {code}: {msg}: {details}"),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn key() -> AttachmentKey {
        AttachmentKey {
            network: "pods".into(),
            container_id: "c1".into(),
            ifname: "eth0".into(),
        }
    }

    /// Calls a shell script as the plugin.
    fn called(folder: &Path, script: &str, config: &str, patience: Duration) -> Result<(), String> {
        let program = folder.join("plugin");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
        let release = Release {
            program,
            path: "/opt/cni/bin".into(),
            args: "A=1".into(),
            config: config.into(),
        };
        // Another test's fork may hold the script open for writing for a moment (ETXTBSY).
        for _ in 0..50 {
            match call(&key(), &release, patience, &AtomicBool::new(false)) {
                Err(error) if error.contains("busy") => std::thread::sleep(LOOK),
                other => return other,
            }
        }
        Err("busy".into())
    }

    #[test]
    fn the_plugin_gets_what_a_runtime_gives() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("told");
        let config = format!("{{\"name\":\"{}\"}}", "x".repeat(200_000));
        let script = format!("(env | grep ^CNI_ | sort; wc -c) > {}", told.display());
        called(folder.path(), &script, &config, PATIENCE).expect("called");
        let told = std::fs::read_to_string(told).expect("read");
        let lines: Vec<_> = told.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "CNI_ARGS=A=1",
                "CNI_COMMAND=DEL",
                "CNI_CONTAINERID=c1",
                "CNI_IFNAME=eth0",
                "CNI_NETNS=",
                "CNI_PATH=/opt/cni/bin",
                &config.len().to_string(),
            ]
        );
    }

    #[test]
    fn its_error_is_passed_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = |script| called(folder.path(), script, "{}", PATIENCE).expect_err("failed");
        let error = said("echo '{\"code\":11,\"msg\":\"later\",\"details\":\"why\"}'; exit 1");
        assert!(error.ends_with("plugin: error 11: later: why"), "{error}");
        let error = said("echo rubbish; exit 3");
        assert!(error.contains("exit status: 3"), "{error}");
        let error = said("yes; exit 4");
        assert!(error.contains("exit status: 4"), "{error}");
        let missing = Release {
            program: folder.path().join("absent"),
            path: String::new(),
            args: String::new(),
            config: String::new(),
        };
        let error = call(&key(), &missing, PATIENCE, &AtomicBool::new(false)).expect_err("absent");
        assert!(error.contains("absent cannot be run"), "{error}");
    }

    #[test]
    fn one_that_hangs_is_ended_with_its_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", pid.display());
        let before = Instant::now();
        let error =
            called(folder.path(), &script, "{}", Duration::from_millis(300)).expect_err("too long");
        assert!(error.contains("longer than 300ms"), "{error}");
        assert!(before.elapsed() < Duration::from_secs(10));
        let pid = std::fs::read_to_string(pid).expect("read");
        let stat = format!("/proc/{}/stat", pid.trim());
        let dead = (0..500).any(|_| {
            std::thread::sleep(LOOK);
            // Gone, or a zombie until its new parent looks.
            std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z"))
                || !Path::new(&stat).exists()
        });
        assert!(dead, "{pid} lives");
    }

    #[test]
    fn the_end_of_the_daemon_ends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("plugin");
        std::fs::write(&program, "#!/bin/sh\nsleep 60\n").expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
        let release = Release {
            program,
            path: String::new(),
            args: String::new(),
            config: String::new(),
        };
        let before = Instant::now();
        let error = call(&key(), &release, PATIENCE, &AtomicBool::new(true)).expect_err("ended");
        assert!(before.elapsed() < Duration::from_secs(10));
        assert!(
            error == "the daemon ends" || error.contains("busy"),
            "{error}"
        );
    }
}
