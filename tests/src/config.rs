//! Configuration files for the daemon.

use std::fmt::Write;
use std::path::Path;

use crate::node::Node;
use crate::pod::Mode;

/// What of the configuration tests choose; the rest keeps the daemon's defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// The switch's mode.
    pub mode: Mode,
    /// The CPU core of each worker.
    pub cores: Vec<usize>,
    /// Whether `eth0` is the uplink.
    pub uplink: bool,
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
            extra: String::new(),
        }
    }

    /// The file's text for this node and control socket: Flannel's VXLAN numbers, so that the
    /// kernel's peers understand.
    pub fn text(&self, node: &Node, socket: &Path) -> String {
        let mut text = format!(
            "mode = \"{mode}\"\n\
             socket = \"{socket}\"\n\
             [node]\n\
             address = \"{address}\"\n\
             pod_cidrs = [\"{cidr}\"]\n\
             cluster_cidrs = [\"10.244.0.0/16\"]\n\
             [gateway]\n\
             address = \"{gateway}\"\n\
             [workers]\n\
             cores = {cores:?}\n\
             [vxlan]\n\
             vni = {vni}\n\
             port = {port}\n",
            mode = self.mode.name(),
            socket = socket.display(),
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
        let _ = writeln!(text, "{}", self.extra);
        text
    }
}
