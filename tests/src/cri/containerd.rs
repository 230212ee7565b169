//! containerd with runc in a node's network namespace.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::client::Cri;
use super::image::{BUSYBOX, PAUSE, image};
use super::remains;
use crate::command::run;
use crate::netns::Netns;
use crate::process::{Lifetime, Process};

/// How long containerd may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// containerd with everything it writes in a folder of its own, and with the images
/// [`PAUSE`] and [`BUSYBOX`]. Dropping it ends it and whatever it has started.
///
/// It lives in the node's network namespace and in the mount namespace of this program: the
/// namespaces that it makes for pods are mounts, which others must see (`ip netns exec` would
/// give it mounts of its own).
#[derive(Debug)]
pub struct Containerd {
    cri: Option<Cri>,
    process: Option<Process>,
    netns: String,
    folder: PathBuf,
}

impl Containerd {
    /// Starts containerd in a node's namespace, with the CNI plugins of `bin_dir`; they need a
    /// configuration in [`Containerd::conf_dir`] before the first pod.
    ///
    /// # Errors
    /// When it ends early or stays silent; the message has what it printed.
    pub fn start(netns: &Netns, bin_dir: &Path) -> Result<Self> {
        remains::sweep()?;
        let folder = remains::folder(netns.name());
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&folder)
            .with_context(|| folder.display().to_string())?;
        let mut containerd = Self {
            cri: None,
            process: None,
            netns: netns.name().to_owned(),
            folder,
        };
        fs::create_dir(containerd.conf_dir())?;
        let text = config(&containerd.folder, &containerd.conf_dir(), bin_dir);
        fs::write(containerd.folder.join("config.toml"), text)?;
        containerd.launch()?;
        containerd.import()?;
        Ok(containerd)
    }

    fn launch(&mut self) -> Result<()> {
        let mounts = format!("--mount=/proc/{}/ns/mnt", std::process::id());
        let config = self.folder.join("config.toml").display().to_string();
        let argv = ["nsenter", &mounts, "containerd", "--config", &config];
        let process = Process::start(&self.netns, &argv, Lifetime::Handle)?;
        let process = self.process.insert(process);
        let socket = remains::socket(&self.folder);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // An old socket without a listener may stand there.
            let error = match Cri::connect(&socket).and_then(|cri| cri.conditions().map(|_| cri)) {
                Ok(cri) => {
                    self.cri = Some(cri);
                    return Ok(());
                }
                Err(error) => error,
            };
            if let Some(status) = process.ended()? {
                bail!("containerd ended early ({status}): {}", process.output());
            }
            if Instant::now() > deadline {
                bail!("containerd: {error:#}: {}", process.output());
            }
            sleep(Duration::from_millis(10));
        }
    }

    fn import(&self) -> Result<()> {
        let file = image(&self.folder)?;
        let [socket, tar] =
            [remains::socket(&self.folder), file.clone()].map(|path| path.display().to_string());
        run(&[
            "ctr",
            "--address",
            &socket,
            "-n",
            "k8s.io",
            "images",
            "import",
            &tar,
        ])?;
        fs::remove_file(file)?;
        // The CRI hears of new images by containerd's events.
        let deadline = Instant::now() + PATIENCE;
        for name in [PAUSE, BUSYBOX] {
            while !self.cri()?.has_image(name)? {
                ensure!(Instant::now() < deadline, "no image {name}: {}", self.log());
                sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// The CRI.
    ///
    /// # Errors
    /// While it is stopped.
    pub fn cri(&self) -> Result<&Cri> {
        self.cri.as_ref().context("containerd does not run")
    }

    /// Where its CNI configuration belongs; the first file by name is the one.
    pub fn conf_dir(&self) -> PathBuf {
        self.folder.join("net.d")
    }

    /// Waits until it has read a CNI configuration.
    ///
    /// # Errors
    /// When it does not, with its reason.
    pub fn wait_network(&self) -> Result<()> {
        self.wait_network_is(true)
    }

    /// Waits until it has seen that there is no CNI configuration any more.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_no_network(&self) -> Result<()> {
        self.wait_network_is(false)
    }

    fn wait_network_is(&self, ready: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let conditions = self.cri()?.conditions()?;
            let network = conditions
                .into_iter()
                .find(|condition| condition.kind == "NetworkReady")
                .context("no condition NetworkReady")?;
            if network.status == ready {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "NetworkReady is {}: {} {}",
                network.status,
                network.reason,
                network.message
            );
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends containerd in order (SIGTERM); pods run on.
    ///
    /// # Errors
    /// When it has to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.cri = None;
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::TERM, PATIENCE).context("containerd")?;
        }
        Ok(())
    }

    /// Ends containerd as a crash does (SIGKILL); pods run on.
    ///
    /// # Errors
    /// When it survives.
    pub fn kill(&mut self) -> Result<()> {
        self.cri = None;
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::KILL, PATIENCE).context("containerd")?;
        }
        Ok(())
    }

    /// Starts it again after [`Containerd::stop`] or [`Containerd::kill`].
    ///
    /// # Errors
    /// As [`Containerd::start`].
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "containerd runs");
        self.launch()?;
        self.wait_network()
    }

    /// What it has printed since it was started.
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    /// The shims, one for each sandbox: processes that outlive containerd.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn shims(&self) -> Result<usize> {
        Ok(remains::shims(&self.folder)?.len())
    }

    /// The sandboxes and containers that have files, running or not.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn bundles(&self) -> Result<usize> {
        Ok(remains::bundles(&self.folder)?.len())
    }

    /// The mounts that it and its shims hold.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn mounts(&self) -> Result<usize> {
        Ok(remains::mounts(&self.folder)?.len())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.cri = None;
        self.process = None;
        if let Err(error) = remains::remove(&self.folder) {
            eprintln!(
                "containerd leaves {} behind: {error:#}",
                self.folder.display()
            );
        }
    }
}

/// The configuration file (containerd-config.toml(5), version 2).
fn config(folder: &Path, conf_dir: &Path, bin_dir: &Path) -> String {
    format!(
        "version = 2\n\
         root = \"{folder}/root\"\n\
         state = \"{folder}/state\"\n\
         [grpc]\n\
         address = \"{socket}\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n\
         path = \"{folder}/opt\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = \"{PAUSE}\"\n\
         disable_apparmor = true\n\
         # A sandbox asks for an OOM score that only a privileged parent may give.\n\
         restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = \"{bin}\"\n\
         conf_dir = \"{conf}\"\n\
         max_conf_num = 1\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
         runtime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n\
         SystemdCgroup = false\n\
         Root = \"{folder}/runc\"\n",
        folder = folder.display(),
        socket = remains::socket(folder).display(),
        bin = bin_dir.display(),
        conf = conf_dir.display(),
    )
}
