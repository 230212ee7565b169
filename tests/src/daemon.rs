//! The `shunt` daemon in a node's namespace.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use rustix::process::Signal;
use shunt_api::{
    Attachment, Client, FdbEntry, FlowEntry, NeighbourEntry, PortInfo, PortKind, PortRole,
    PortSpec, Reply, Request, RouteInfo, RouteSpec, RouteTarget, StatsReport, StatusReport,
};
use tempfile::TempDir;

use crate::balance::must_balance;
use crate::config::Config;
use crate::netns::Netns;
use crate::node::Node;
use crate::pod::Pod;
use crate::process::{Lifetime, Process};

/// How long the daemon may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running daemon; dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    folder: TempDir,
    netns: String,
    lifetime: Lifetime,
    socket: PathBuf,
    state_dir: PathBuf,
    /// Frames that the uplink keeps with the kernel: those missing from the pool before any pod.
    uplink_frames: u64,
}

/// The `shunt` binary: `SHUNT_BIN`, or the one that cargo built beside this program, or the
/// release build.
///
/// # Errors
/// When there is none; the message says how to build it.
pub fn shunt_binary() -> Result<PathBuf> {
    binary("SHUNT_BIN", "shunt", "shunt-switch")
}

/// The program `name` of `package`: what the environment `variable` names, or the one that cargo
/// built beside this program, or the release build.
///
/// # Errors
/// When there is none; the message says how to build it.
pub fn binary(variable: &str, name: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "{variable}={}: no such file",
            path.display()
        );
        return Ok(path);
    }
    let program = std::env::current_exe()?;
    let mut candidates = Vec::new();
    for folder in program.ancestors().skip(1).take(3) {
        candidates.push(folder.join(name));
        candidates.push(folder.join("release").join(name));
    }
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no `{name}` beside this program: build it by `cargo build --release -p {package}` \
                 or set {variable}"
            )
        })
}

/// Runs `shunt` with these arguments in a namespace to its end, whatever its exit status.
///
/// # Errors
/// When it cannot be started or does not end in ten seconds.
pub fn shunt(netns: &Netns, arguments: &[&str]) -> Result<(ExitStatus, String)> {
    let binary = shunt_binary()?;
    let binary = binary.to_str().context("path of the shunt binary")?;
    let mut process = netns.start(&[&[binary], arguments].concat())?;
    let status = process.wait(PATIENCE)?;
    Ok((status, process.output()))
}

fn launch(netns: &str, file: &Path, lifetime: Lifetime) -> Result<Process> {
    let binary = shunt_binary()?;
    let argv = [
        binary.to_str().context("path of the shunt binary")?,
        "run",
        "--config",
        file.to_str().context("temporary folder")?,
    ];
    Process::start(netns, &argv, lifetime)
}

impl Daemon {
    /// Starts the daemon in a node's namespace and waits until its control socket answers.
    ///
    /// # Errors
    /// When it ends early or stays silent; the message has what it printed.
    pub fn start(node: &Node, config: &Config) -> Result<Self> {
        Self::start_as(node, config, Lifetime::Handle)
    }

    /// [`Daemon::start`] with a choice of lifetime.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_as(node: &Node, config: &Config, lifetime: Lifetime) -> Result<Self> {
        let prefix = format!("{}-", node.netns.name());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let socket = folder.path().join("shunt.sock");
        let file = folder.path().join("shunt.toml");
        std::fs::write(&file, config.text(node, &socket))?;
        let process = launch(node.netns.name(), &file, lifetime)?;
        let mut daemon = Self {
            process,
            folder,
            netns: node.netns.name().to_owned(),
            lifetime,
            state_dir: config.state_dir(&socket),
            socket,
            uplink_frames: 0,
        };
        daemon.wait_ready()?;
        daemon.uplink_frames = daemon.settled_frames()?;
        Ok(daemon)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.status() {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some(status) = self.process.ended()? {
                bail!(
                    "shunt ended early ({status}): {}",
                    self.process.output().trim()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "shunt is not ready: {error:#}: {}",
                    self.process.output().trim()
                );
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses: then the message is the daemon's own.
    pub fn ask(&self, request: &Request) -> Result<Reply> {
        let mut client = Client::connect(&self.socket)?;
        Ok(client.call(request)?)
    }

    fn done(&self, request: &Request) -> Result<()> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            other => bail!("{request:?} is answered by {other:?}"),
        }
    }

    /// The port specification for a pod's veth: its name, host end, addresses and MAC address.
    ///
    /// # Errors
    /// When the pod has no `eth0`.
    pub fn veth_port(pod: &Pod) -> Result<PortSpec> {
        Ok(PortSpec {
            name: pod.name.clone(),
            kind: PortKind::Afxdp,
            device: pod.host_device.clone(),
            addresses: pod.addresses(),
            mac: Some(pod.mac()?),
            ..PortSpec::default()
        })
    }

    /// Attaches a pod by its veth.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn attach(&self, pod: &Pod) -> Result<()> {
        self.port_add(Self::veth_port(pod)?)
            .map(drop)
            .with_context(|| format!("attach {}", pod.name))
    }

    /// Attaches a port.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn port_add(&self, spec: PortSpec) -> Result<Attachment> {
        match self.ask(&Request::PortAdd(spec))? {
            Reply::Attached(attachment) => Ok(attachment),
            other => bail!("an attachment is answered by {other:?}"),
        }
    }

    /// Detaches a port.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn port_del(&self, name: &str) -> Result<()> {
        self.done(&Request::PortDel {
            name: name.to_owned(),
        })
    }

    /// Installs a route.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn route_add(&self, prefix: impl Into<IpNet>, to: RouteTarget) -> Result<()> {
        self.done(&Request::RouteAdd(RouteSpec {
            prefix: prefix.into(),
            to,
        }))
    }

    /// Removes a route.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn route_del(&self, prefix: impl Into<IpNet>) -> Result<()> {
        self.done(&Request::RouteDel {
            prefix: prefix.into(),
        })
    }

    /// The ports.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn ports(&self) -> Result<Vec<PortInfo>> {
        match self.ask(&Request::PortList)? {
            Reply::Ports(ports) => Ok(ports),
            other => bail!("port-list is answered by {other:?}"),
        }
    }

    /// One port.
    ///
    /// # Errors
    /// As [`Daemon::ask`], and when there is no such port.
    pub fn port(&self, name: &str) -> Result<PortInfo> {
        let found = self.ports()?.into_iter().find(|port| port.name == name);
        found.with_context(|| format!("no port {name}"))
    }

    /// The routes.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn routes(&self) -> Result<Vec<RouteInfo>> {
        match self.ask(&Request::RouteList)? {
            Reply::Routes(routes) => Ok(routes),
            other => bail!("route-list is answered by {other:?}"),
        }
    }

    /// The MAC table.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn fdb(&self) -> Result<Vec<FdbEntry>> {
        match self.ask(&Request::FdbList)? {
            Reply::Fdb(entries) => Ok(entries),
            other => bail!("fdb-list is answered by {other:?}"),
        }
    }

    /// The neighbours.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn neighbours(&self) -> Result<Vec<NeighbourEntry>> {
        match self.ask(&Request::NeighList)? {
            Reply::Neighbours(entries) => Ok(entries),
            other => bail!("neigh-list is answered by {other:?}"),
        }
    }

    /// The flows of services, whose replies go through the node's stack.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn flows(&self) -> Result<Vec<FlowEntry>> {
        match self.ask(&Request::FlowList)? {
            Reply::Flows(flows) => Ok(flows),
            other => bail!("flow-list is answered by {other:?}"),
        }
    }

    /// The status.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn status(&self) -> Result<StatusReport> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(status),
            other => bail!("status is answered by {other:?}"),
        }
    }

    /// The counters, which must balance.
    ///
    /// # Errors
    /// As [`Daemon::ask`], and when they do not balance.
    pub fn stats(&self) -> Result<StatsReport> {
        match self.ask(&Request::Stats)? {
            Reply::Stats(stats) => must_balance(&stats).map(|()| stats),
            other => bail!("stats is answered by {other:?}"),
        }
    }

    /// Detaches every pod and demands that all frames are back in the pool, but for those that
    /// the uplink held before the first pod came, and that the books balance. The uplink stays as
    /// long as the daemon runs.
    ///
    /// # Errors
    /// When a frame is missing two seconds later.
    pub fn must_return_all_frames(&self) -> Result<StatsReport> {
        for port in self
            .ports()?
            .iter()
            .filter(|port| port.role == PortRole::Pod)
        {
            self.port_del(&port.name)
                .with_context(|| format!("detach {}", port.name))?;
        }
        let deadline = Instant::now() + Duration::from_secs(6);
        loop {
            let stats = self.stats()?;
            let held = stats.pool_total - stats.pool_free;
            if held == self.uplink_frames && stats.in_flight == 0 {
                return Ok(stats);
            }
            ensure!(
                Instant::now() < deadline,
                "{held} of {} frames are not in the pool where the uplink keeps {}, {} in flight",
                stats.pool_total,
                self.uplink_frames,
                stats.in_flight
            );
            sleep(Duration::from_millis(10));
        }
    }

    /// The frames outside of the pool once that number stands still.
    fn settled_frames(&self) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            let stats = self.stats()?;
            let held = stats.pool_total - stats.pool_free;
            if last == Some(held) {
                return Ok(held);
            }
            ensure!(
                Instant::now() < deadline,
                "the pool of an idle switch does not stand still"
            );
            last = Some(held);
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends the daemon in order (SIGTERM).
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.stop(Signal::TERM, PATIENCE)?;
        ensure!(
            status.success(),
            "shunt: {status}: {}",
            self.process.output().trim()
        );
        Ok(())
    }

    /// Ends it by `signal` and keeps its files for [`Daemon::start_again`]. By SIGKILL it has no
    /// chance to tidy up.
    ///
    /// # Errors
    /// When it does not end.
    pub fn halt(&mut self, signal: Signal) -> Result<()> {
        self.process.stop(signal, PATIENCE)?;
        Ok(())
    }

    /// Starts it again with the configuration, the socket and the state that it had.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.netns, &self.config_file(), self.lifetime)?;
        self.wait_ready()
    }

    /// Sends it a signal: SIGSTOP makes it hang, until SIGCONT.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Demands that it still runs.
    ///
    /// # Errors
    /// When it has ended; the message has what it printed.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.process.ended()? {
            bail!(
                "shunt has ended ({status}): {}",
                self.process.output().trim()
            );
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has printed until now.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where it keeps its attachments.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("shunt.toml")
    }

    /// Lets it run on when the handle goes.
    pub fn keep(&mut self) {
        self.folder.disable_cleanup(true);
        self.process.keep();
    }
}
