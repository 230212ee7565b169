//! `shunt cni` as people run it, on disks that are full or may not be written. Takes root: the
//! disks are mounts in a namespace of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// A plugin, as far as can be seen from outside, larger than the small disk.
fn plugin(path: &Path) {
    let answer = r#"{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}"#;
    let padding = "#".repeat(100_000);
    fs::write(path, format!("#!/bin/sh\necho '{answer}'\n{padding}\n")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// Runs lines of shell in a mount namespace that goes with them, in a folder with the plugin
/// `built`, where `$install` installs into `bin` and `conf`, and `$remove` removes.
fn in_folder(folder: &Path, script: &str) -> Output {
    plugin(&folder.join("built"));
    for name in ["bin", "conf"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    let shunt = env!("CARGO_BIN_EXE_shunt");
    let folders = "--bin-dir bin --conf-dir conf";
    let preamble = format!(
        "set -u; install='{shunt} cni install {folders} --binary built --subnet 10.1.0.0/24'; \
         remove='{shunt} cni remove {folders}'; "
    );
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(preamble + script)
        .current_dir(folder)
        .output()
        .expect("unshare")
}

#[track_caller]
fn printed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    format!("{}{error}", String::from_utf8_lossy(&output.stdout))
}

#[test]
fn a_full_disk_keeps_what_it_had() {
    let temp = tempfile::tempdir().expect("a folder");
    let output = in_folder(
        temp.path(),
        "mount -t tmpfs -o size=64k none bin && echo old >bin/shunt-cni && $install; \
         echo exit $?; ls -A bin conf; cat bin/shunt-cni",
    );
    let text = printed(&output);
    assert!(text.contains("No space left on device"), "{text}");
    assert!(
        text.contains("exit 1\nbin:\nshunt-cni\n\nconf:\nold\n"),
        "{text}"
    );

    let output = in_folder(
        temp.path(),
        "mount -t tmpfs -o size=16k none conf && echo '{\"na' >conf/10-shunt.conflist && \
         head -c 100000 /dev/zero >conf/full; $install; \
         echo exit $?; ls -A bin conf; cat conf/10-shunt.conflist",
    );
    let text = printed(&output);
    assert!(text.contains("No space left on device"), "{text}");
    let left = "exit 1\nbin:\nshunt-cni\n\nconf:\n10-shunt.conflist\nfull\n{\"na\n";
    assert!(text.contains(left), "{text}");
}

#[test]
fn a_disk_that_may_not_be_written_is_named() {
    let temp = tempfile::tempdir().expect("a folder");
    for read_only in ["bin", "conf"] {
        let output = in_folder(
            temp.path(),
            &format!(
                "mount -t tmpfs -o ro none {read_only}; $install; echo exit $?; ls -A {read_only}"
            ),
        );
        let text = printed(&output);
        assert!(text.contains("exit 1\n"), "{text}");
        let error = format!("shunt: cannot create {read_only}/.");
        assert!(text.contains(&error), "{text}");
        assert!(text.contains("Read-only file system"), "{text}");
    }
    let output = in_folder(
        temp.path(),
        "$install && mount --bind -o ro conf conf && mount -o remount,bind,ro conf; $remove; \
         echo exit $?; ls bin conf",
    );
    let text = printed(&output);
    assert!(
        text.contains("cannot remove conf/10-shunt.conflist"),
        "{text}"
    );
    // The configuration stays, and so its plugin.
    let left = "exit 1\nbin:\nshunt-cni\n\nconf:\n10-shunt.conflist\n";
    assert!(text.contains(left), "{text}");
}

#[test]
fn only_root_may_write_where_root_does() {
    let temp = tempfile::tempdir().expect("a folder");
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).expect("to be seen");
    let output = in_folder(
        temp.path(),
        "setpriv --reuid 65534 --regid 65534 --clear-groups $install; echo exit $?; ls bin conf",
    );
    let text = printed(&output);
    assert!(text.contains("Permission denied"), "{text}");
    assert!(text.contains("exit 1\nbin:\n\nconf:\n"), "{text}");
}

#[test]
fn it_comes_and_goes_however_often_it_is_killed() {
    let temp = tempfile::tempdir().expect("a folder");
    let output = in_folder(
        temp.path(),
        "for i in $(seq 40); do \
           for run in \"$install\" \"$remove\"; do \
             $run >/dev/null 2>&1 & sleep 0.00$((i % 10)); kill -9 $!; wait $!; \
             for file in conf/*.conflist; do \
               [ ! -e $file ] || { [ -x bin/shunt-cni ] && bin/shunt-cni && tail -c 2 $file; }; \
             done >/dev/null || echo half done; \
           done; \
         done 2>/dev/null; $install 2>/dev/null && $remove && ls -A bin conf",
    );
    let text = printed(&output);
    assert!(!text.contains("half done"), "{text}");
    assert!(text.ends_with("bin:\n\nconf:\n"), "{text}");
}

#[test]
fn a_daemon_that_is_not_there_is_said_with_the_way_out() {
    let temp = tempfile::tempdir().expect("a folder");
    let output = in_folder(
        temp.path(),
        &format!(
            "{} --socket /nonexistent/s cni print; echo exit $?",
            env!("CARGO_BIN_EXE_shunt")
        ),
    );
    let text = printed(&output);
    assert!(
        text.contains("exit 3") && text.contains("--subnet"),
        "{text}"
    );
}
