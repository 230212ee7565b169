//! In folders of their own, with plugins that are shell scripts.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::super::conflist::{Subnet, tests::args};
use super::super::plugin::tests::{fake, speaks};
use super::*;

const ALL: [&str; 2] = ["1.0.0", "1.1.0"];

/// A machine: a folder of plugins with the usual ones, none of configurations, and our binary.
struct Machine {
    temp: tempfile::TempDir,
    args: InstallArgs,
}

impl Machine {
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("a folder");
        let bin_dir = temp.path().join("bin");
        fs::create_dir(&bin_dir).expect("a folder");
        for plugin in ["loopback", "host-local", "portmap"] {
            speaks(&bin_dir.join(plugin), &ALL);
        }
        let binary = temp.path().join("built");
        speaks(&binary, &ALL);
        let args = InstallArgs {
            bin_dir,
            conf_dir: temp.path().join("etc/cni/net.d"),
            binary: Some(binary),
            conf_name: "10-shunt.conflist".to_owned(),
            conflist: args("--subnet 10.1.0.0/24"),
        };
        Self { temp, args }
    }

    fn install(&self) -> Result<Report, CniError> {
        let args = &self.args.conflist;
        let subnets = args.subnets.iter().copied().map(Subnet::new).collect();
        let conflist = Conflist::new(args, subnets, None).expect("good options");
        install(&self.args, &conflist)
    }

    fn refused(&self) -> String {
        let error = self.install().expect_err("refused");
        assert_eq!(error.exit_code(), 1, "{error}");
        error.to_string()
    }

    fn remove(&self) -> Report {
        let InstallArgs {
            bin_dir, conf_dir, ..
        } = self.args.clone();
        remove(&RemoveArgs { bin_dir, conf_dir }).expect("removed")
    }

    /// Another configuration in the folder.
    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(&self.args.conf_dir).expect("a folder");
        fs::write(self.args.conf_dir.join(name), text).expect("written");
    }

    fn plugin(&self) -> PathBuf {
        self.args.bin_dir.join("shunt-cni")
    }

    fn conflist(&self) -> PathBuf {
        self.args.conf_dir.join("10-shunt.conflist")
    }

    fn nothing_is_written(&self) {
        assert!(!self.plugin().exists() && !self.conflist().exists());
    }
}

const BRIDGE: &str = r#"{"name": "other", "plugins": [{"type": "bridge"}]}"#;

#[test]
fn a_fresh_machine_gets_plugin_and_configuration_and_loses_them_again() {
    let machine = Machine::new();
    let (plugin, conflist) = (machine.plugin(), machine.conflist());
    let both = |done: &str| {
        vec![
            format!("{done} {}", plugin.display()),
            format!("{done} {}", conflist.display()),
        ]
    };
    let report = machine.install().expect("installed");
    assert_eq!(report.done, both("installed"));
    assert_eq!(report.warnings, [""; 0]);
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode(&plugin), mode(&conflist)), (0o755, 0o644));
    assert_eq!(versions(&plugin).expect("it runs"), ALL);
    let text = fs::read_to_string(&conflist).expect("read");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["plugins"][0]["type"], "shunt-cni");

    assert_eq!(machine.install().expect("again").done, both("unchanged"));
    let mut removed = both("removed");
    removed.reverse();
    assert_eq!(machine.remove().done, removed);
    machine.nothing_is_written();
    assert_eq!(machine.remove().done, ["nothing to remove"]);
    assert!(machine.args.conf_dir.is_dir(), "the runtime watches it");
    assert!(machine.args.bin_dir.join("portmap").exists());
}

#[test]
fn what_others_have_put_there_stays() {
    let machine = Machine::new();
    machine.put("87-podman.conflist", BRIDGE);
    machine.put("90.conflist", "{");
    machine.put("old-shunt.conf", r#"{"type": "shunt-cni"}"#);
    let report = machine.install().expect("installed");
    assert!(
        report.warnings[0].contains("90.conflist is broken"),
        "{report:?}"
    );
    assert_eq!(report.warnings.len(), 1);
    let report = machine.remove();
    assert_eq!(report.done.len(), 3, "{report:?}");
    assert!(
        report.warnings[0].contains("90.conflist is left"),
        "{report:?}"
    );
    let mut left: Vec<_> = fs::read_dir(&machine.args.conf_dir)
        .expect("read")
        .map(|entry| entry.expect("read").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["87-podman.conflist", "90.conflist"]);
}

#[test]
fn a_configuration_that_comes_before_is_named() {
    let machine = Machine::new();
    machine.put("05-bridge.conflist", BRIDGE);
    let report = machine.install().expect("installed");
    assert_eq!(report.warnings.len(), 1);
    assert!(
        report.warnings[0].contains("05-bridge.conflist"),
        "{report:?}"
    );
    assert!(machine.conflist().exists());
}

#[test]
fn a_broken_one_before_is_refused_before_anything_is_written() {
    let machine = Machine::new();
    for text in ["", "{", r#"{"name": "a"}"#] {
        machine.put("05-bridge.conflist", text);
        let error = machine.refused();
        assert!(error.contains("05-bridge.conflist is broken"), "{error}");
        machine.nothing_is_written();
    }
    fs::remove_file(machine.args.conf_dir.join("05-bridge.conflist")).expect("removed");
    symlink("nowhere", machine.args.conf_dir.join("01.conf")).expect("a link");
    assert!(machine.refused().contains("01.conf is broken"));
}

#[test]
fn a_file_of_our_name_is_replaced_only_if_it_is_ours_or_broken() {
    let machine = Machine::new();
    machine.put("10-shunt.conflist", BRIDGE);
    assert!(machine.refused().contains("not of Shunt"));
    assert!(!machine.plugin().exists());
    for text in [
        "{\"na",
        r#"{"name": "a", "plugins": [{"type": "shunt-cni"}]}"#,
    ] {
        machine.put("10-shunt.conflist", text);
        let report = machine.install().expect("installed");
        assert_eq!(report.warnings, [""; 0]);
        let text = fs::read_to_string(machine.conflist()).expect("read");
        assert!(text.contains("10.1.0.0/24"));
    }
}

#[test]
fn a_binary_that_is_no_plugin_is_refused() {
    let mut machine = Machine::new();
    let binary = machine.temp.path().join("built");
    fake(&binary, "echo hello");
    assert!(machine.refused().contains("built cannot be the plugin"));
    speaks(&binary, &["0.4.0"]);
    assert!(machine.refused().contains("it speaks CNI 0.4.0, not 1.0.0"));
    machine.args.binary = Some(machine.temp.path().join("none"));
    assert!(machine.refused().contains("cannot read"));
    machine.args.binary = None;
    assert!(machine.refused().contains("--binary"));
    machine.nothing_is_written();
}

#[test]
fn plugins_that_are_not_there_or_too_old_are_warned_of() {
    let mut machine = Machine::new();
    fs::remove_file(machine.args.bin_dir.join("loopback")).expect("removed");
    fs::write(machine.args.bin_dir.join("host-local"), "").expect("written");
    speaks(&machine.args.bin_dir.join("portmap"), &["0.4.0"]);
    machine.args.conflist.cni_version = "1.1.0".to_owned();
    let warnings = machine.install().expect("installed").warnings;
    let parts = [
        ["no ", "loopback"],
        ["host-local", "cannot be used"],
        [
            "portmap speaks CNI 0.4.0, not 1.1.0",
            "--cni-version 1.0.0, or install with --no-portmap",
        ],
    ];
    assert_eq!(warnings.len(), parts.len(), "{warnings:?}");
    for (warning, parts) in warnings.iter().zip(parts) {
        assert!(parts.iter().all(|part| warning.contains(part)), "{warning}");
    }
    fs::remove_file(machine.args.bin_dir.join("portmap")).expect("removed");
    machine.args.conflist.no_portmap = true;
    assert_eq!(machine.install().expect("installed").warnings.len(), 2);
}

#[test]
fn the_plugin_is_replaced_while_it_runs() {
    let machine = Machine::new();
    machine.args.binary.as_ref().expect("one");
    let sleep = Path::new("/bin/sleep");
    fs::copy(sleep, machine.plugin()).expect("copied");
    let mut running = std::process::Command::new(machine.plugin())
        .arg("60")
        .spawn()
        .expect("started");
    let installed = machine.install();
    running.kill().expect("killed");
    running.wait().expect("ended");
    assert!(installed.expect("installed").done[0].starts_with("installed"));
    assert_eq!(versions(&machine.plugin()).expect("the new one"), ALL);
}

#[test]
fn who_looks_meanwhile_never_sees_half_of_it() {
    let machine = Machine::new();
    machine.put("87-podman.conflist", BRIDGE);
    let done = AtomicBool::new(false);
    let (mut with, mut without) = (0u32, 0u32);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut counts = (0u32, 0u32);
            while !done.load(Ordering::Relaxed) {
                let seen = seen(&machine.args.conf_dir).expect("read");
                match seen.first().map(|first| &first.kind) {
                    Some(Kind::Ours) => counts.0 += 1,
                    Some(Kind::Foreign) => counts.1 += 1,
                    other => panic!("the runtime would see {other:?}"),
                }
                assert!(seen.len() <= 2, "{seen:?}");
            }
            counts
        });
        // Without the questions to plugins, which take their time.
        let text = "x".repeat(100_000);
        let text = format!(r#"{{"name": "{text}", "plugins": [{{"type": "shunt-cni"}}]}}"#);
        for round in 0..200 {
            if round % 20 == 0 {
                machine.install().expect("installed");
            } else {
                let folder = Folder::make(&machine.args.conf_dir).expect("there");
                folder
                    .put("10-shunt.conflist", text.as_bytes(), 0o644)
                    .expect("put");
            }
            let removed = machine.remove();
            assert!(removed.done[0].contains("10-shunt.conflist"), "{removed:?}");
        }
        done.store(true, Ordering::Relaxed);
        (with, without) = reader.join().expect("the reader");
    });
    assert!(
        with > 0 && without > 0,
        "seen {with} times, not seen {without} times"
    );
}
