//! Which versions of the protocol a plugin speaks (CNI 1.1.0, section 2, VERSION).

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// How long a plugin may take; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const LARGEST: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    supported_versions: Vec<String>,
}

/// Runs the plugin, as a runtime does.
///
/// # Errors
/// A text for people: it does not run on this machine, or is no plugin.
pub(super) fn versions(plugin: &Path) -> Result<Vec<String>, String> {
    // A bare name would be looked for in PATH.
    let path = std::path::absolute(plugin);
    let child = path
        .and_then(|path| start(&path))
        .map_err(|error| format!("it does not run: {error}"))?;
    let answer = answer(child)?;
    match serde_json::from_slice::<Answer>(&answer) {
        Ok(answer) => Ok(answer.supported_versions),
        Err(_) => Err("it does not answer as a CNI plugin does".to_owned()),
    }
}

fn start(plugin: &Path) -> std::io::Result<Child> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let started = Command::new(plugin)
            .env_clear()
            .env("CNI_COMMAND", "VERSION")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        match started {
            // Who has just written it may still have it open.
            Err(error)
                if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline =>
            {
                sleep(Duration::from_millis(10));
            }
            started => return started,
        }
    }
}

fn answer(mut child: Child) -> Result<Vec<u8>, String> {
    if let Some(mut input) = child.stdin.take() {
        // One that reads nothing is as good.
        let _ = input.write_all(br#"{"cniVersion": "1.0.0"}"#);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(1)),
            // What does not end, an answer without end among it.
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it gives no answer within {PATIENCE:?}"));
            }
        }
    }
    let mut bytes = Vec::new();
    if let Some(output) = child.stdout.take() {
        let read = output.take(LARGEST).read_to_end(&mut bytes);
        read.map_err(|error| format!("its answer cannot be read: {error}"))?;
    }
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A plugin that does this, by the shell.
    pub(in crate::cni) fn fake(path: &Path, script: &str) {
        fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// A plugin that speaks these versions.
    pub(in crate::cni) fn speaks(path: &Path, versions: &[&str]) {
        let answer = serde_json::json!({"cniVersion": "1.0.0", "supportedVersions": versions});
        fake(
            path,
            &format!("[ \"$CNI_COMMAND\" = VERSION ] && echo '{answer}'"),
        );
    }

    #[test]
    fn a_plugin_tells_its_versions() {
        let folder = tempfile::tempdir().expect("a folder");
        let plugin = folder.path().join("plugin");
        speaks(&plugin, &["0.4.0", "1.0.0"]);
        assert_eq!(
            versions(&plugin),
            Ok(vec!["0.4.0".to_owned(), "1.0.0".to_owned()])
        );
    }

    #[test]
    fn what_is_no_plugin_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let plugin = folder.path().join("plugin");
        let why = |plugin: &Path| versions(plugin).expect_err("no plugin");
        assert!(why(&plugin).contains("does not run"));
        fs::write(&plugin, "").expect("written");
        assert!(why(&plugin).contains("does not run"));
        fake(&plugin, "exit 1");
        assert!(why(&plugin).contains("as a CNI plugin"));
        fake(&plugin, "echo hello");
        assert!(why(&plugin).contains("as a CNI plugin"));
        fake(&plugin, "exec cat /dev/zero");
        assert!(why(&plugin).contains("no answer"));
    }
}
