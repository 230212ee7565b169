//! Configuration files for the daemon.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::family::Family;
use crate::node::{Node, pod_network6};
use crate::pod::Mode;

/// The node's end of its host port.
pub const HOST_DEVICE: &str = "shunt0";

/// What of the configuration tests choose; the rest keeps the daemon's defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// The switch's mode.
    pub mode: Mode,
    /// The CPU core of each worker.
    pub cores: Vec<usize>,
    /// Whether `eth0` is the uplink.
    pub uplink: bool,
    /// Whether IPv6 is configured besides IPv4.
    pub dual: bool,
    /// The host port `shunt0`, with these lines in its table.
    pub host: Option<String>,
    /// Where the daemon keeps its attachments; a folder `state` beside the control socket when
    /// absent, so that no two daemons share one.
    pub state_dir: Option<PathBuf>,
    /// Lines appended as they are, for example `[l2]\nageing = 10`.
    pub extra: String,
}

impl Config {
    /// A switch with one worker on `core` and `eth0` as uplink.
    pub fn new(mode: Mode, core: usize) -> Self {
        Self {
            mode,
            cores: vec![core],
            uplink: true,
            dual: false,
            host: None,
            state_dir: None,
            extra: String::new(),
        }
    }

    /// Where the daemon with this control socket keeps its attachments.
    pub fn state_dir(&self, socket: &Path) -> PathBuf {
        let beside = || socket.with_file_name("state");
        self.state_dir.clone().unwrap_or_else(beside)
    }

    /// The file's text for this node and control socket: Flannel's VXLAN numbers, so that the
    /// kernel's peers understand.
    pub fn text(&self, node: &Node, socket: &Path) -> String {
        let (mut address6, mut cidr6, mut cluster6) = (String::new(), String::new(), "");
        if self.dual {
            address6 = format!("address6 = \"{}\"\n", node.underlay(Family::V6));
            cidr6 = format!(", \"{}/64\"", pod_network6(node.index));
            cluster6 = ", \"fd00:10:244::/48\"";
        }
        let mut text = format!(
            "mode = \"{mode}\"\n\
             socket = \"{socket}\"\n\
             state_dir = \"{state_dir}\"\n\
             [node]\n\
             address = \"{address}\"\n\
             {address6}\
             pod_cidrs = [\"{cidr}\"{cidr6}]\n\
             cluster_cidrs = [\"10.244.0.0/16\"{cluster6}]\n\
             [gateway]\n\
             address = \"{gateway}\"\n\
             [workers]\n\
             cores = {cores:?}\n\
             [vxlan]\n\
             vni = {vni}\n\
             port = {port}\n",
            mode = self.mode.name(),
            socket = socket.display(),
            state_dir = self.state_dir(socket).display(),
            address = node.address,
            cidr = node.pod_cidr,
            gateway = node.gateway(self.mode),
            cores = self.cores,
            vni = crate::flannel::VNI,
            port = crate::flannel::PORT,
        );
        if self.uplink {
            text.push_str("[uplink]\ndevice = \"eth0\"\n");
        }
        // Writing to a String cannot fail.
        if let Some(lines) = &self.host {
            let _ = write!(text, "[host]\ndevice = \"{HOST_DEVICE}\"\n{lines}");
        }
        let _ = writeln!(text, "{}", self.extra);
        text
    }
}
