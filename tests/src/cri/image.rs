//! A container image made of Debian's static busybox alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::command::run;

/// The image of the process that holds a sandbox's namespaces.
pub const PAUSE: &str = "localhost/pause:1";

/// The image for containers: the same files.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// The commands in its `/bin`.
const APPLETS: [&str; 13] = [
    "cat", "echo", "httpd", "ip", "nc", "ping", "ps", "sh", "sleep", "tail", "test", "timeout",
    "wget",
];

/// Makes the image in `folder` as a file that `ctr images import` takes (docker-archive: Docker
/// Image Specification 1.2, "Combined Image JSON + Filesystem Changeset Format").
///
/// # Errors
/// When busybox-static is not installed or the folder cannot be written.
pub(super) fn image(folder: &Path) -> Result<PathBuf> {
    let files = folder.join("image");
    let root = files.join("root");
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static")?;
    for name in APPLETS {
        symlink("busybox", root.join("bin").join(name))?;
    }
    let tar = |what: &Path, to: &Path| -> Result<()> {
        let [what, to] = [what, to].map(|path| path.display().to_string());
        run(&[
            "tar",
            "--owner=0",
            "--group=0",
            "-C",
            &what,
            "-cf",
            &to,
            ".",
        ])
        .map(drop)
    };
    let content = files.join("content");
    fs::create_dir(&content)?;
    let layer = content.join("layer.tar");
    tar(&root, &layer)?;
    let digest = run(&["sha256sum", &layer.display().to_string()])?;
    let digest = digest.split_whitespace().next().context("sha256sum")?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/bin/tail", "-f", "/dev/null"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    fs::write(content.join("config.json"), config.to_string())?;
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": [PAUSE, BUSYBOX],
        "Layers": ["layer.tar"],
    }]);
    fs::write(content.join("manifest.json"), manifest.to_string())?;
    let file = folder.join("image.tar");
    tar(&content, &file)?;
    fs::remove_dir_all(&files)?;
    Ok(file)
}
