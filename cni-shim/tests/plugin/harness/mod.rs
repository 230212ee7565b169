//! A node: a folder with a fake IPAM plugin and, on a socket in it, a fake daemon. Both write what
//! they are asked into one file, so that the order can be seen.

mod call;
mod daemon;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use shunt_api::{AttachmentKey, DetachQueue};
use tempfile::TempDir;

pub(crate) use call::{Answer, Call};
pub(crate) use daemon::{FakeDaemon, Say, pod};

/// What IPAM gives unless told otherwise.
pub(crate) const LEASE: &str = r#"{"cniVersion": "1.1.0",
    "ips": [{"address": "10.244.1.5/24", "gateway": "10.244.1.1"}],
    "routes": [{"dst": "0.0.0.0/0"}]}"#;

/// Within a second, and some time for a busy machine to start a program.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(1500);

/// The network namespace of all containers here: any will do.
pub(crate) const NETNS: &str = "/proc/self/ns/net";

pub(crate) struct Node {
    folder: TempDir,
    daemon: Option<FakeDaemon>,
}

impl Node {
    /// With a daemon that does what it is asked, and an IPAM plugin that gives [`LEASE`].
    pub(crate) fn new() -> Self {
        let mut node = Self::without_daemon();
        node.daemon = Some(FakeDaemon::start(&node.socket(), &node.path("calls")));
        node
    }

    pub(crate) fn without_daemon() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = Self {
            folder,
            daemon: None,
        };
        fs::create_dir(node.path("bin")).expect("a folder");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ipam.sh");
        symlink(script, node.path("bin/fake-ipam")).expect("a link");
        node.ipam_says("ADD", LEASE);
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("shunt.sock")
    }

    pub(crate) fn daemon(&self) -> &FakeDaemon {
        self.daemon.as_ref().expect("a node with a daemon")
    }

    /// A good network configuration.
    pub(crate) fn conf(&self) -> Value {
        json!({
            "cniVersion": "1.1.0",
            "name": "pods",
            "type": "shunt-cni",
            "socket": self.socket(),
            "stateDir": self.path("state"),
            "ipam": {"type": "fake-ipam"},
        })
    }

    /// The same with one key changed.
    pub(crate) fn conf_with(&self, name: &str, value: Value) -> Value {
        let mut conf = self.conf();
        conf[name] = value;
        conf
    }

    /// Of this version.
    pub(crate) fn conf_of(&self, version: &str) -> Value {
        self.conf_with("cniVersion", version.into())
    }

    /// A call of the plugin with all that a runtime sets.
    pub(crate) fn call(&self, verb: &str) -> Call<'_> {
        Call::new(self, verb)
    }

    /// What the IPAM plugin does for a verb, as lines for the shell.
    pub(crate) fn ipam_does(&self, verb: &str, lines: &str) {
        fs::write(self.path(&format!("{verb}.sh")), lines).expect("written");
    }

    /// What it prints.
    pub(crate) fn ipam_says(&self, verb: &str, text: &str) {
        self.ipam_does(verb, &format!("cat <<'EOF'\n{text}\nEOF\n"));
    }

    /// Its error.
    pub(crate) fn ipam_fails(&self, verb: &str, code: u32, msg: &str, details: &str) {
        let error = json!({"cniVersion": "1.1.0", "code": code, "msg": msg, "details": details});
        self.ipam_says(verb, &error.to_string());
        let lines = fs::read_to_string(self.path(&format!("{verb}.sh"))).expect("read");
        self.ipam_does(verb, &format!("{lines}exit 1\n"));
    }

    /// What it had on its standard input.
    pub(crate) fn ipam_input(&self, verb: &str) -> Vec<u8> {
        fs::read(self.path(&format!("{verb}.stdin"))).expect("it was called")
    }

    /// A variable that it had.
    pub(crate) fn ipam_variable(&self, verb: &str, name: &str) -> Option<String> {
        let all = fs::read_to_string(self.path(&format!("{verb}.env"))).expect("it was called");
        let mut lines = all.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(found, _)| *found == name)?;
        Some(value.to_owned())
    }

    /// What daemon and IPAM plugin were asked for, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// The containers whose detachment waits on disk.
    pub(crate) fn queued(&self) -> Vec<String> {
        let queue = DetachQueue::new(&self.path("state"));
        let waiting = queue.waiting().expect("a queue");
        let keys = waiting.into_iter().map(|it| it.key.expect("undamaged"));
        keys.map(|key| key.container_id).collect()
    }
}

/// The attachment that calls are about.
pub(crate) fn key(container: &str) -> AttachmentKey {
    AttachmentKey {
        network: "pods".to_owned(),
        container_id: container.to_owned(),
        ifname: "eth0".to_owned(),
    }
}
