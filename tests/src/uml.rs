//! A node that is another Linux kernel: user-mode-linux, a kernel that runs as a process.
//!
//! It brings what the kernel under the tests may lack, above all the ipip module, and it shares
//! no code path, no offload and no socket buffer with that kernel: all that passes between them
//! is frames on a TAP. So what Shunt exchanges with it is IPIP as Calico's nodes speak it.

mod initrd;
mod serial;

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipnet::Ipv4Net;
use rustix::process::{Pid, Signal, kill_process_group};
use shunt_api::MacAddr;
use tempfile::TempDir;

use crate::netns::Netns;
use crate::node::{pod_cidr, underlay_address};
use crate::wire::Wire;

pub use serial::Output;
use serial::Serial;

/// How long the peer may take to boot. It takes less than two seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(30);

/// How long [`UmlPeer::run`] lets a command run.
const COMMAND: Duration = Duration::from_secs(30);

/// How long it may take to halt before it is killed.
const HALT: Duration = Duration::from_secs(5);

/// The host's end of the peer's interface.
const TAP: &str = "tap0";

/// The length of the file that the peer serves.
const BLOB: usize = 1 << 20;

/// How the peer reaches the other node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// IP in IP (RFC 2003), as Calico sets it up: the device `tunl0` with no endpoint of its own,
    /// and `onlink` routes over it whose gateway is the remote node.
    Ipip,
    /// VXLAN (RFC 7348), as Flannel sets it up: a device `flannel.1` that learns nothing, with a
    /// permanent neighbour and FDB entry for the remote node.
    Vxlan {
        /// The VXLAN network identifier.
        vni: u32,
        /// The UDP port of both ends.
        port: u16,
        /// The MAC address of the peer's VTEP.
        mac: MacAddr,
        /// The MAC address of the remote node's VTEP.
        remote_mac: MacAddr,
    },
    /// None: a route over the underlay.
    Direct,
}

/// A peer to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UmlPeerConfig {
    /// Its number on the wire, of which it takes bridge port `p{index}`.
    pub index: u8,
    /// The MAC address of its interface `vec0`.
    pub mac: MacAddr,
    /// The peer's underlay address with the length of the underlay's prefix.
    pub address: Ipv4Net,
    /// The underlay address of the other node.
    pub remote: Ipv4Addr,
    /// The addresses of the other node's pods.
    pub remote_pods: Ipv4Net,
    /// The peer's own pod addresses. It sends from the first.
    pub pods: Vec<Ipv4Addr>,
    /// How it reaches the other node's pods.
    pub overlay: Overlay,
}

impl UmlPeerConfig {
    /// Node `index` of the underlay, facing node `remote`: addresses as [`crate::node::Node`]
    /// has them, and one pod, number 1.
    ///
    /// # Errors
    /// Never in fact: the prefix lengths are valid.
    pub fn new(index: u8, remote: u8, overlay: Overlay) -> Result<Self> {
        Ok(Self {
            index,
            mac: MacAddr([0x02, 0x75, 0x6d, 0x6c, 0, index]),
            address: Ipv4Net::new(underlay_address(index), 24)?,
            remote: underlay_address(remote),
            remote_pods: pod_cidr(remote)?,
            pods: vec![Ipv4Addr::new(10, 244, index, 11)],
            overlay,
        })
    }
}

/// A running peer. Dropping it halts it and deletes its namespace.
///
/// It serves [`UmlPeer::blob`] at `http://ADDRESS/blob` on all of its addresses and answers
/// pings, as any node does.
#[derive(Debug)]
pub struct UmlPeer {
    config: UmlPeerConfig,
    // Before its namespace, whose deletion kills whatever still runs there.
    machine: Machine,
    netns: Netns,
}

impl UmlPeer {
    /// Boots a peer in `netns`, joins it to the wire and configures it.
    ///
    /// # Errors
    /// When the packages are missing, the kernel does not come up in 30 seconds, or it refuses
    /// the configuration; the message has the end of its console log.
    pub fn boot(netns: Netns, wire: &Wire, config: UmlPeerConfig) -> Result<Self> {
        ensure!(
            !config.pods.is_empty(),
            "a peer takes at least one pod address"
        );
        plug(&netns, wire, config.index)?;
        let machine = Machine::boot(netns.name(), config.mac)?;
        let peer = Self {
            config,
            machine,
            netns,
        };
        peer.configure(wire.mtu())?;
        Ok(peer)
    }

    fn configure(&self, mtu: u32) -> Result<()> {
        let config = &self.config;
        let source = self.pod();
        self.must(&format!("ip link set vec0 mtu {mtu} up"))?;
        self.must(&format!("ip address add {} dev vec0", config.address))?;
        for pod in &config.pods {
            self.must(&format!("ip address add {pod}/32 dev lo"))?;
        }
        let (remote, pods) = (config.remote, config.remote_pods);
        match config.overlay {
            Overlay::Ipip => {
                self.must(&format!(
                    "ip link set tunl0 mtu {} up",
                    mtu.saturating_sub(20)
                ))?;
                self.must(&format!(
                    "ip route add {pods} via {remote} dev tunl0 onlink src {source}"
                ))?;
            }
            Overlay::Vxlan {
                vni,
                port,
                mac,
                remote_mac,
            } => {
                let gateway = pods.network();
                let local = config.address.addr();
                let mtu = mtu.saturating_sub(50);
                self.must(&format!(
                    "ip link add flannel.1 mtu {mtu} address {mac} type vxlan id {vni} \
                     dstport {port} local {local} dev vec0 nolearning"
                ))?;
                self.must("ip link set flannel.1 up")?;
                self.must(&format!(
                    "ip neigh add {gateway} lladdr {remote_mac} dev flannel.1 nud permanent"
                ))?;
                self.must(&format!(
                    "bridge fdb add {remote_mac} dev flannel.1 dst {remote}"
                ))?;
                self.must(&format!(
                    "ip route add {pods} via {gateway} dev flannel.1 onlink src {source}"
                ))?;
            }
            Overlay::Direct => {
                self.must(&format!("ip route add {pods} via {remote} src {source}"))?;
            }
        }
        Ok(())
    }

    /// Its underlay address.
    pub fn address(&self) -> Ipv4Addr {
        self.config.address.addr()
    }

    /// Its first pod address, from which it sends to the other node's pods.
    pub fn pod(&self) -> Ipv4Addr {
        self.config.pods.first().copied().unwrap_or(self.address())
    }

    /// Its configuration.
    pub fn config(&self) -> &UmlPeerConfig {
        &self.config
    }

    /// The namespace that its host processes, its TAP and the end of its cable are in.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// What its kernel and its first process have printed on the console.
    pub fn console(&self) -> String {
        self.machine.console()
    }

    /// Runs one line of shell in the peer (dash, busybox, iproute2's `ip` and `bridge`),
    /// for 30 seconds at most. A failing command is a finding, not an error.
    ///
    /// # Errors
    /// When the line is longer than 3000 bytes or the peer does not answer.
    pub fn run(&self, command: &str) -> Result<Output> {
        self.run_for(command, COMMAND)
    }

    /// [`UmlPeer::run`] with another limit, rounded up to seconds; then the command is killed
    /// (status 137).
    ///
    /// # Errors
    /// As [`UmlPeer::run`].
    pub fn run_for(&self, command: &str, limit: Duration) -> Result<Output> {
        self.machine.run(command, limit)
    }

    /// [`UmlPeer::run`] for a command that must succeed; returns its standard output.
    ///
    /// # Errors
    /// As [`UmlPeer::run`], and when the command exits non-zero.
    pub fn must(&self, command: &str) -> Result<String> {
        let output = self.run(command)?;
        ensure!(
            output.status == 0,
            "`{command}` in the peer: status {}: {} {}",
            output.status,
            output.stderr.trim(),
            output.text().trim()
        );
        Ok(output.text())
    }

    /// Sends `count` echo requests of `size` payload bytes from its first pod address.
    ///
    /// # Errors
    /// When one stays without an answer.
    pub fn must_ping(&self, to: Ipv4Addr, count: u32, size: u32) -> Result<()> {
        let from = self.pod();
        let output = self.run(&format!("ping -q -A -c {count} -s {size} -I {from} {to}"))?;
        let text = output.text();
        ensure!(
            text.contains(&format!(
                "{count} packets transmitted, {count} packets received"
            )),
            "ping {from} -> {to} from the peer: {} {}",
            text.trim(),
            output.stderr.trim()
        );
        Ok(())
    }

    /// Demands that none of `count` echo requests from its first pod address is answered.
    ///
    /// # Errors
    /// When one is, or ping prints no statistics.
    pub fn must_not_ping(&self, to: Ipv4Addr, count: u32) -> Result<()> {
        let from = self.pod();
        let text = self
            .run(&format!("ping -q -c {count} -W 1 -I {from} {to}"))?
            .text();
        ensure!(
            text.contains(" 0 packets received"),
            "ping {from} -> {to} from the peer: {}",
            text.trim()
        );
        Ok(())
    }

    /// Fetches a URL by busybox's wget.
    ///
    /// # Errors
    /// When that fails or takes more than 30 seconds.
    pub fn fetch(&self, url: &str) -> Result<Vec<u8>> {
        let output = self.run(&format!("wget -q -O - {url}"))?;
        ensure!(
            output.status == 0,
            "wget {url} in the peer: status {}: {}",
            output.status,
            output.stderr.trim()
        );
        Ok(output.stdout)
    }

    /// What it serves at `/blob`: one MiB without any period that a lost or repeated segment
    /// could hide in.
    pub fn blob() -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        (0..BLOB)
            .map(|_| {
                // xorshift64 (Marsaglia 2003)
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_be_bytes()[0]
            })
            .collect()
    }
}

impl Drop for UmlPeer {
    fn drop(&mut self) {
        // A namespace's devices go some time after it. So that the port on the wire is free for
        // a successor at once, the cable goes now; if it has gone already, so much the better.
        let _ = self.netns.ip("link del eth0");
    }
}

/// The kernel as a process, in a process group of its own: it runs a host process for each of
/// its address spaces.
#[derive(Debug)]
struct Machine {
    child: Child,
    serial: Option<Mutex<Serial>>,
    folder: TempDir,
}

impl Machine {
    fn boot(netns: &str, mac: MacAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("shunt-uml-").tempdir()?;
        let archive = folder.path().join("initrd");
        std::fs::write(&archive, initrd::build(UmlPeer::blob())?)?;
        let console = File::create(folder.path().join("console"))?;
        let mut child = Command::new("ip")
            .args(["netns", "exec", netns, initrd::KERNEL])
            .args(["mem=128M", "root=/dev/ram0", "rdinit=/init", "quiet"])
            .arg(argument("initrd=", &archive)?)
            .arg(argument("uml_dir=", folder.path())?)
            .arg(format!(
                "vec0:transport=tap,ifname={TAP},depth=64,mac={mac}"
            ))
            // Kernel messages to the log, commands over the first serial line, nothing else.
            .args(["con0=null,fd:2", "con=null", "ssl0=fd:0,fd:1", "ssl=null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(console)
            .process_group(0)
            .spawn()
            .context("ip netns exec")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let mut machine = Self {
            child,
            serial: None,
            folder,
        };
        let (stdin, stdout) = pipes.context("pipes to user-mode-linux")?;
        let mut serial = Serial::new(stdin, stdout);
        serial
            .wait_ready(BOOT)
            .map_err(|error| machine.explain(&error))?;
        machine.serial = Some(Mutex::new(serial));
        Ok(machine)
    }

    fn run(&self, command: &str, limit: Duration) -> Result<Output> {
        let serial = self.serial.as_ref().context("the peer has not booted")?;
        serial
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .run(command, limit)
            .map_err(|error| {
                self.explain(&error)
                    .context(format!("`{command}` in the peer"))
            })
    }

    fn console(&self) -> String {
        std::fs::read(self.folder.path().join("console"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        anyhow!("user-mode-linux: {error:#}; its console:\n{tail}")
    }

    fn ended_within(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("still runs after {patience:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let booted = self.serial.take().is_some();
        if booted && self.ended_within(HALT).is_ok() {
            return;
        }
        // Not yet reaped, so its process group is still its own.
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Some(group), Ok(None)) = (group, self.child.try_wait()) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn argument(key: &str, path: &Path) -> Result<String> {
    let path = path.to_str().context("temporary folder")?;
    ensure!(
        !path.contains([' ', ',']),
        "{path}: user-mode-linux takes no blank or comma in a path; set TMPDIR"
    );
    Ok(format!("{key}{path}"))
}

/// Makes a TAP in `netns` and a bridge from there to the cable: TAP - `br0` - `eth0` - `p{index}`.
///
/// The cable's end does what a NIC does before its wire. The vector driver of user-mode-linux
/// leaves checksums and segmentation to whoever takes the frame off the TAP (virtio_net_hdr), and
/// ethtool in the guest cannot change its mind; without this, unfinished frames would reach nodes.
fn plug(netns: &Netns, wire: &Wire, index: u8) -> Result<()> {
    wire.cable(netns, index)?;
    netns.run(&["ethtool", "-K", "eth0", "tx", "off"])?;
    netns.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
    netns.ip(&format!("tuntap add dev {TAP} mode tap"))?;
    let mtu = wire.mtu();
    for device in [TAP, "eth0"] {
        netns.ip(&format!("link set {device} mtu {mtu} master br0 up"))?;
    }
    netns.ip("link set br0 up")?;
    Ok(())
}
