//! podman with its CNI backend (`network_backend = "cni"`, containers.conf(5)): containers with
//! storage, state, network configuration and plugins in a scratch folder, in a node's namespace.
//!
//! podman makes the pods' namespaces by itself, as `/run/netns/netns-UUID`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, test_kill_process};
use serde_json::Value;

use crate::command::{run, sh};
use crate::netns::Netns;

/// How the scratch folders' names begin; the process id of the owner follows.
const PREFIX: &str = "shunt-podman-";
/// The image that every container runs: busybox.
const IMAGE: &str = "localhost/busybox:1";
/// The applets that the image has by name.
const APPLETS: [&str; 8] = ["cat", "httpd", "ip", "ping", "printf", "sh", "tail", "wget"];
/// Answers with the server's name and the client's address.
const WHO: &str = "#!/bin/sh\n\
    printf 'Content-Type: text/plain\\r\\n\\r\\n%s %s\\n' \"$(cat /name)\" \"$REMOTE_ADDR\"\n";
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A podman of its own; dropping it removes its containers.
#[derive(Debug)]
pub struct Podman {
    folder: PathBuf,
    netns: PathBuf,
}

/// A running container that serves HTTP on port 80.
#[derive(Debug)]
pub struct Container<'a> {
    podman: &'a Podman,
    /// Its name.
    pub name: String,
}

/// What podman tells of a container on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its IPv4 address; empty without one.
    pub address: String,
    /// Its IPv6 address; empty without one.
    pub address6: String,
    /// The MAC address of its interface.
    pub mac: String,
    /// The path of its network namespace.
    pub sandbox: PathBuf,
}

impl Podman {
    /// Prepares podman in a node's namespace with the CNI plugins of the folder `plugins`, and an
    /// image made of busybox. What killed tests have left is removed first.
    ///
    /// # Errors
    /// When a file cannot be written or podman fails.
    pub fn new(node: &Netns, plugins: &Path) -> Result<Self> {
        sweep()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let podman = Self {
            folder: std::env::temp_dir().join(name),
            netns: node.path().into(),
        };
        podman.write_configuration(plugins)?;
        podman.import_image()?;
        Ok(podman)
    }

    fn write_configuration(&self, plugins: &Path) -> Result<()> {
        std::fs::create_dir_all(self.networks())?;
        let folder = self.folder.display();
        // No systemd, no journal, and limits that the machine grants.
        let containers = format!(
            "[containers]\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
             log_driver = \"k8s-file\"\n\
             [engine]\n\
             cgroup_manager = \"cgroupfs\"\n\
             runtime = \"runc\"\n\
             events_logger = \"file\"\n\
             [network]\n\
             network_backend = \"cni\"\n\
             cni_plugin_dirs = [\"{}\"]\n\
             network_config_dir = \"{}\"\n",
            plugins.display(),
            self.networks().display()
        );
        std::fs::write(self.folder.join("containers.conf"), containers)?;
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{folder}/run\"\ngraphroot = \"{folder}/root\"\n"
        );
        std::fs::write(self.folder.join("storage.conf"), storage)?;
        Ok(())
    }

    /// An image without a registry: a folder, packed.
    fn import_image(&self) -> Result<()> {
        let root = self.folder.join("image");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "www/cgi-bin"] {
            std::fs::create_dir_all(root.join(name))?;
        }
        std::fs::copy("/usr/bin/busybox", root.join("bin/busybox"))
            .context("busybox: scripts/install-deps.sh installs it")?;
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        let who = root.join("www/cgi-bin/who");
        std::fs::write(&who, WHO)?;
        sh(&format!("chmod 755 {}", who.display()))?;
        let archive = self.folder.join("image.tar");
        let (archive, root) = (archive.display(), root.display());
        sh(&format!("tar -C {root} -cf {archive} ."))?;
        self.podman(&["import", "--quiet", &archive.to_string(), IMAGE])?;
        Ok(())
    }

    fn networks(&self) -> PathBuf {
        self.folder.join("net.d")
    }

    /// Adds a network by its CNI configuration list.
    ///
    /// # Errors
    /// When it has no name or the file cannot be written.
    pub fn add_network(&self, conflist: &Value) -> Result<()> {
        let name = conflist["name"].as_str().context("a network's name")?;
        let file = self.networks().join(format!("10-{name}.conflist"));
        std::fs::write(file, serde_json::to_vec_pretty(conflist)?)?;
        Ok(())
    }

    /// Runs podman to its end and returns what it printed on standard output.
    ///
    /// # Errors
    /// When it fails; the message has its standard error.
    pub fn podman(&self, arguments: &[&str]) -> Result<String> {
        self.podman_for(Duration::from_secs(60), arguments)
    }

    fn podman_for(&self, patience: Duration, arguments: &[&str]) -> Result<String> {
        let folder = |name: &str| self.folder.join(name);
        // `nsenter` and not `ip netns exec`: namespaces that podman makes have to be seen by others,
        // so it keeps the mount namespace.
        let output = Command::new("timeout")
            .arg(patience.as_secs().to_string())
            .arg("nsenter")
            .arg(format!("--net={}", self.netns.display()))
            .arg("podman")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(folder("root"))
            .arg("--runroot")
            .arg(folder("run"))
            .arg("--tmpdir")
            .arg(folder("tmp"))
            .args(arguments)
            .env("CONTAINERS_CONF", folder("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", folder("storage.conf"))
            .stdin(Stdio::null())
            .process_group(0)
            .output()
            .context("cannot start podman: scripts/install-deps.sh installs it")?;
        ensure!(
            output.status.success(),
            "podman {}: {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a container that serves HTTP, on a network, with more options of podman-run(1), and
    /// waits until it listens.
    ///
    /// # Errors
    /// When podman fails or the server does not listen in ten seconds.
    pub fn serve(&self, name: &str, network: &str, options: &[&str]) -> Result<Container<'_>> {
        let script = format!(
            "echo {name} > /name; httpd -p 80 -h /www && echo serving && exec tail -f /dev/null"
        );
        let head = ["run", "--detach", "--name", name, "--network", network];
        let tail = [IMAGE, "/bin/sh", "-c", &script];
        self.podman(&[&head, options, &tail].concat())?;
        let container = Container {
            podman: self,
            name: name.to_owned(),
        };
        container.wait_serving(1)?;
        Ok(container)
    }

    /// The names of all containers, running or not.
    ///
    /// # Errors
    /// When podman fails.
    pub fn containers(&self) -> Result<Vec<String>> {
        let text = self.podman(&["ps", "--all", "--format", "{{.Names}}"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = clear(self) {
            eprintln!(
                "podman's {} is left behind: {error:#}",
                self.folder.display()
            );
        }
    }
}

/// Removes every container and the folder. Networks are of no interest any more: where a plugin
/// fails, podman removes the container all the same.
fn clear(podman: &Podman) -> Result<()> {
    let removed = podman.podman_for(
        Duration::from_secs(30),
        &["rm", "--all", "--force", "--time", "0"],
    );
    std::fs::remove_dir_all(&podman.folder)?;
    removed.map(drop)
}

/// Clears what test processes left that were killed: their folders name them.
fn sweep() -> Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse().ok())
            .and_then(Pid::from_raw);
        if owner.is_some_and(|pid| test_kill_process(pid).is_err()) {
            // The node's namespace has gone with the test; its containers have not.
            let left = Podman {
                folder: std::env::temp_dir().join(&name),
                netns: "/proc/1/ns/net".into(),
            };
            eprintln!("podman's {name} was left by a killed test");
            drop(left);
        }
    }
    Ok(())
}

impl Container<'_> {
    /// Runs a command in the container and returns its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub fn exec(&self, argv: &[&str]) -> Result<String> {
        self.podman.podman(&[&["exec", &self.name], argv].concat())
    }

    /// Asks the server at an address, by HTTP, who it is and whom it sees: its name and the
    /// client's address.
    ///
    /// # Errors
    /// When it does not answer in five seconds, or with something else.
    pub fn ask(&self, address: &str) -> Result<(String, String)> {
        let host = match address.contains(':') {
            true => format!("[{address}]"),
            false => address.to_owned(),
        };
        let url = format!("http://{host}/cgi-bin/who");
        // Without wget's own `-T`, which crashes Debian's static busybox.
        let ask = ["exec", &self.name, "wget", "-q", "-O", "-", &url];
        let text = self.podman.podman_for(Duration::from_secs(5), &ask)?;
        let mut words = text.split_whitespace();
        match (words.next(), words.next()) {
            (Some(name), Some(client)) => {
                // As an IPv6 socket sees IPv4 clients: `[::ffff:10.0.0.1]`.
                let client = client.trim_matches(['[', ']']);
                let client = client.strip_prefix("::ffff:").unwrap_or(client);
                Ok((name.to_owned(), client.to_owned()))
            }
            _ => bail!("{url} is answered by {text:?}"),
        }
    }

    /// What podman tells of it on a network.
    ///
    /// # Errors
    /// When podman fails or the container is not on the network.
    pub fn attached(&self, network: &str) -> Result<Attached> {
        let text = self.podman.podman(&["inspect", &self.name])?;
        let all: Value = serde_json::from_str(&text)?;
        let settings = &all[0]["NetworkSettings"];
        let on = &settings["Networks"][network];
        let word = |value: &Value| -> Result<String> {
            let word = value.as_str();
            Ok(word
                .with_context(|| format!("{} on {network}: {settings}", self.name))?
                .to_owned())
        };
        Ok(Attached {
            address: word(&on["IPAddress"])?,
            address6: word(&on["GlobalIPv6Address"])?,
            mac: word(&on["MacAddress"])?,
            sandbox: word(&settings["SandboxKey"])?.into(),
        })
    }

    /// Stops and starts it again: the same container in a new network namespace.
    ///
    /// # Errors
    /// When podman fails or the server does not listen in ten seconds.
    pub fn restart(&self) -> Result<()> {
        self.podman
            .podman(&["restart", "--time", "0", &self.name])?;
        self.wait_serving(2)
    }

    /// Removes it.
    ///
    /// # Errors
    /// When podman fails.
    pub fn remove(self) -> Result<()> {
        self.podman
            .podman(&["rm", "--force", "--time", "0", &self.name])
            .map(drop)
    }

    /// Waits until it has said `count` times that it listens.
    fn wait_serving(&self, count: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.podman.podman(&["logs", &self.name])?;
            if log.lines().filter(|line| *line == "serving").count() >= count {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} does not serve: {log}", self.name);
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Attached {
    /// Runs `ip WORDS` in the container's network namespace.
    ///
    /// # Errors
    /// As [`run`].
    pub fn ip(&self, words: &str) -> Result<String> {
        let enter = format!("--net={}", self.sandbox.display());
        let words: Vec<&str> = words.split_whitespace().collect();
        run(&[&["nsenter", &enter, "ip"], words.as_slice()].concat())
    }
}
