//! A client of the Container Runtime Interface, as the kubelet is one: gRPC over a Unix socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use prost::Message;
use rustix::process::Pid;
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::messages::{
    ContainerConfig, ContainerId, ContainerStatusRequest, ContainerStatusResponse,
    CreateContainerRequest, ExecSyncRequest, ExecSyncResponse, ImageSpec, ImageStatusRequest,
    ImageStatusResponse, ListPodSandboxRequest, ListPodSandboxResponse, Nothing, PodSandboxConfig,
    PodSandboxItem, PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
    RunPodSandboxRequest, RuntimeCondition, SandboxId, StatusRequest, StatusResponse,
};

/// How long the runtime may take for one request; the kubelet gives most of them two minutes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program in a container may take, in seconds.
const EXEC_PATIENCE: i64 = 20;

/// A connection to a container runtime. Every call blocks until the runtime has answered.
#[derive(Debug)]
pub struct Cri {
    runtime: Runtime,
    channel: Channel,
}

/// What a program in a container did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit status.
    pub status: i32,
}

/// A sandbox as the runtime sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// The status.
    pub status: PodSandboxStatus,
    /// The runtime's own of it, with `pid` (that of the pause process), `runtimeSpec` and
    /// `cniResult`.
    pub info: Value,
}

impl Cri {
    /// Connects to the runtime's socket. It reconnects by itself.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))?;
        let channel = runtime
            .block_on(endpoint.connect())
            .with_context(|| socket.display().to_string())?;
        Ok(Self { runtime, channel })
    }

    /// One unary call (gRPC over HTTP/2, "Requests").
    fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = Request::new(request);
        request.set_timeout(PATIENCE);
        let answer = self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| anyhow!("{error}"))?;
            let path = PathAndQuery::from_static(path);
            grpc.unary(request, path, ProstCodec::<Q, A>::default())
                .await
                .map_err(|status| anyhow!("{:?}: {}", status.code(), status.message()))
        });
        Ok(answer.with_context(|| path.to_owned())?.into_inner())
    }

    /// What the runtime says of itself: `RuntimeReady` and `NetworkReady`.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn conditions(&self) -> Result<Vec<RuntimeCondition>> {
        let answer: StatusResponse =
            self.call("/runtime.v1.RuntimeService/Status", StatusRequest {})?;
        Ok(answer.status.unwrap_or_default().conditions)
    }

    /// Whether the runtime knows an image.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn has_image(&self, image: &str) -> Result<bool> {
        let request = ImageStatusRequest {
            image: Some(ImageSpec {
                image: image.to_owned(),
            }),
        };
        let answer: ImageStatusResponse =
            self.call("/runtime.v1.ImageService/ImageStatus", request)?;
        Ok(answer.image.is_some())
    }

    /// Makes a sandbox and returns its id.
    ///
    /// # Errors
    /// What the runtime says; the message of a CNI plugin that fails is in it.
    pub fn run_sandbox(&self, config: &PodSandboxConfig) -> Result<String> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
        };
        let answer: SandboxId = self.call("/runtime.v1.RuntimeService/RunPodSandbox", request)?;
        Ok(answer.id)
    }

    /// Stops a sandbox: its processes end and its network goes.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn stop_sandbox(&self, id: &str) -> Result<()> {
        let request = SandboxId { id: id.to_owned() };
        let _: Nothing = self.call("/runtime.v1.RuntimeService/StopPodSandbox", request)?;
        Ok(())
    }

    /// Removes a sandbox, by force.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn remove_sandbox(&self, id: &str) -> Result<()> {
        let request = SandboxId { id: id.to_owned() };
        let _: Nothing = self.call("/runtime.v1.RuntimeService/RemovePodSandbox", request)?;
        Ok(())
    }

    /// The sandboxes, stopped ones too.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn sandboxes(&self) -> Result<Vec<PodSandboxItem>> {
        let answer: ListPodSandboxResponse = self.call(
            "/runtime.v1.RuntimeService/ListPodSandbox",
            ListPodSandboxRequest {},
        )?;
        Ok(answer.items)
    }

    /// One sandbox.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn sandbox(&self, id: &str) -> Result<Sandbox> {
        let request = PodSandboxStatusRequest {
            id: id.to_owned(),
            verbose: true,
        };
        let answer: PodSandboxStatusResponse =
            self.call("/runtime.v1.RuntimeService/PodSandboxStatus", request)?;
        let info = answer.info.get("info").map_or("null", String::as_str);
        Ok(Sandbox {
            info: serde_json::from_str(info).context("the sandbox's info")?,
            status: answer.status.context("a sandbox without a status")?,
        })
    }

    /// Makes a container in a sandbox, starts it and returns its id.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn run_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: &PodSandboxConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let made: ContainerId = self.call("/runtime.v1.RuntimeService/CreateContainer", request)?;
        let _: Nothing = self.call("/runtime.v1.RuntimeService/StartContainer", made.clone())?;
        Ok(made.id)
    }

    /// The process of a container.
    ///
    /// # Errors
    /// When there is no container of that id, or it has no process.
    pub fn container_process(&self, id: &str) -> Result<Pid> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: true,
        };
        let answer: ContainerStatusResponse =
            self.call("/runtime.v1.RuntimeService/ContainerStatus", request)?;
        let info = answer.info.get("info").map_or("null", String::as_str);
        let info: Value = serde_json::from_str(info).context("the container's info")?;
        process(&info)
    }

    /// Runs a program in a container to its end, whatever its exit status.
    ///
    /// # Errors
    /// What the runtime says, and when the program takes longer than 20 seconds.
    pub fn exec(&self, container: &str, argv: &[&str]) -> Result<Exec> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: argv.iter().map(|&word| word.to_owned()).collect(),
            timeout: EXEC_PATIENCE,
        };
        let answer: ExecSyncResponse = self
            .call("/runtime.v1.RuntimeService/ExecSync", request)
            .with_context(|| format!("`{}`", argv.join(" ")))?;
        Ok(Exec {
            stdout: String::from_utf8_lossy(&answer.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&answer.stderr).into_owned(),
            status: answer.exit_code,
        })
    }

    /// [`Cri::exec`] of a program that must succeed; returns its standard output.
    ///
    /// # Errors
    /// As [`Cri::exec`], and when it exits non-zero.
    pub fn must_exec(&self, container: &str, argv: &[&str]) -> Result<String> {
        let exec = self.exec(container, argv)?;
        if exec.status != 0 {
            bail!(
                "`{}`: exit status {}: {}{}",
                argv.join(" "),
                exec.status,
                exec.stderr.trim(),
                exec.stdout.trim()
            );
        }
        Ok(exec.stdout)
    }
}

/// The process that containerd's `info` of a sandbox or a container names.
pub(super) fn process(info: &Value) -> Result<Pid> {
    info["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
        .context("it has no process")
}
