//! A pod as the kubelet makes one: a sandbox with a container in it.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fd::AsFd;
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::client::process;
use super::containerd::Containerd;
use super::image::BUSYBOX;
use super::messages::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};

/// The port on which a pod's container serves its name over HTTP.
pub const PORT: u16 = 8000;

/// What the kubelet asks for unless the pod says otherwise: processes do not see those of the pod's
/// other containers, and outlive the process that holds the sandbox.
const NAMESPACES: NamespaceOption = NamespaceOption {
    network: 0,
    pid: 1,
    ipc: 0,
};

/// A sandbox with a container that serves the pod's name as `/` over HTTP. It stays until
/// [`CriPod::remove`], or until its containerd goes.
#[derive(Debug)]
pub struct CriPod {
    /// Its name.
    pub name: String,
    /// The sandbox's id.
    pub sandbox: String,
    /// The container's id.
    pub container: String,
    /// Its addresses, as the runtime tells them.
    pub addresses: Vec<IpAddr>,
    /// The file that holds its network namespace.
    pub netns: PathBuf,
    /// The process that holds its other namespaces.
    pub pause: Pid,
    /// What the CNI plugins have answered, in containerd's own form.
    pub cni: Value,
}

/// The configuration of a sandbox named `name`.
pub fn sandbox_config(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(NAMESPACES),
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

impl CriPod {
    /// Makes a pod and waits until it serves.
    ///
    /// # Errors
    /// What the runtime says; then nothing of the pod is left.
    pub fn run(containerd: &Containerd, name: &str) -> Result<Self> {
        Self::run_as(containerd, &sandbox_config(name))
    }

    /// [`CriPod::run`] with a configuration of the sandbox.
    ///
    /// # Errors
    /// As [`CriPod::run`].
    pub fn run_as(containerd: &Containerd, config: &PodSandboxConfig) -> Result<Self> {
        let metadata = config.metadata.clone().unwrap_or_default();
        let cri = containerd.cri()?;
        let sandbox = cri
            .run_sandbox(config)
            .with_context(|| format!("run {}", metadata.name))?;
        let made = Self::fill(containerd, config, &metadata.name, &sandbox);
        if made.is_err() {
            // The first error is the one to tell.
            let _ = cri.remove_sandbox(&sandbox);
        }
        made.with_context(|| format!("run {}", metadata.name))
    }

    fn fill(
        containerd: &Containerd,
        config: &PodSandboxConfig,
        name: &str,
        sandbox: &str,
    ) -> Result<Self> {
        let cri = containerd.cri()?;
        let seen = cri.sandbox(sandbox)?;
        let network = seen.status.network.unwrap_or_default();
        let addresses = std::iter::once(&network.ip)
            .chain(network.additional_ips.iter().map(|ip| &ip.ip))
            .map(|text| text.parse().with_context(|| format!("address `{text}`")))
            .collect::<Result<_>>()?;
        let pause = process(&seen.info)?;
        let netns = seen.info["runtimeSpec"]["linux"]["namespaces"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["type"] == "network"))
            .and_then(|network| network["path"].as_str())
            .context("a sandbox without a network namespace")?
            .into();
        let serve =
            format!("echo {name} > /tmp/index.html && exec httpd -f -p [::]:{PORT} -h /tmp");
        let container = cri.run_container(
            sandbox,
            ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: "web".to_owned(),
                    attempt: config.metadata.as_ref().map_or(0, |pod| pod.attempt),
                }),
                image: Some(ImageSpec {
                    image: BUSYBOX.to_owned(),
                }),
                command: ["/bin/sh", "-c", &serve].map(str::to_owned).to_vec(),
                linux: Some(LinuxContainerConfig {
                    security_context: Some(LinuxContainerSecurityContext {
                        namespace_options: Some(NAMESPACES),
                    }),
                }),
            },
            config,
        )?;
        let pod = Self {
            name: name.to_owned(),
            sandbox: sandbox.to_owned(),
            container,
            addresses,
            netns,
            pause,
            cni: seen.info["cniResult"].clone(),
        };
        pod.wait_serving(containerd)?;
        Ok(pod)
    }

    /// Waits until the container listens, asking inside of the pod.
    fn wait_serving(&self, containerd: &Containerd) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let own = SocketAddr::from(([127, 0, 0, 1], PORT));
        loop {
            let error = match self.fetch(containerd, own) {
                Ok(text) => {
                    ensure!(text == self.name, "{} serves {text}", self.name);
                    return Ok(());
                }
                Err(error) => error,
            };
            ensure!(
                Instant::now() < deadline,
                "{} serves not: {error:#}",
                self.name
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Its first address.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self) -> Result<IpAddr> {
        self.addresses.first().copied().context("no address")
    }

    /// Where it serves.
    ///
    /// # Errors
    /// When it has no address.
    pub fn server(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.address()?, PORT))
    }

    /// What wget(1) in the pod's container gets from a server, without white space around it.
    ///
    /// # Errors
    /// When the fetch fails or takes five seconds.
    pub fn fetch(&self, containerd: &Containerd, server: SocketAddr) -> Result<String> {
        let url = format!("http://{server}/");
        let text = containerd.cri()?.must_exec(
            &self.container,
            // Debian's busybox 1.35 dies of wget's own option for it.
            &["/bin/timeout", "5", "/bin/wget", "-q", "-O", "-", &url],
        )?;
        Ok(text.trim().to_owned())
    }

    /// Demands that it gets another pod's name from it by HTTP.
    ///
    /// # Errors
    /// When it does not.
    pub fn must_fetch(&self, containerd: &Containerd, from: &CriPod) -> Result<()> {
        let what = || format!("HTTP {} -> {}", self.name, from.name);
        let text = self.fetch(containerd, from.server()?).with_context(what)?;
        ensure!(text == from.name, "{}: {text}", what());
        Ok(())
    }

    /// Calls `f` on a thread in the pod's network namespace.
    ///
    /// # Errors
    /// When the namespace is gone.
    ///
    /// # Panics
    /// When `f` does.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                let file =
                    File::open(&self.netns).with_context(|| self.netns.display().to_string())?;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(f())
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether the runtime takes the sandbox for ready.
    ///
    /// # Errors
    /// When the runtime knows no such sandbox.
    pub fn is_ready(&self, containerd: &Containerd) -> Result<bool> {
        Ok(containerd.cri()?.sandbox(&self.sandbox)?.status.state == 0)
    }

    /// Stops and removes it, as the kubelet does.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn remove(&self, containerd: &Containerd) -> Result<()> {
        let cri = containerd.cri()?;
        cri.stop_sandbox(&self.sandbox)
            .with_context(|| format!("stop {}", self.name))?;
        cri.remove_sandbox(&self.sandbox)
            .with_context(|| format!("remove {}", self.name))
    }
}
