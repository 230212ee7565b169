//! What makes one port or one route valid, in the file and over the socket alike.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use shunt_api::{Encap, MacAddr, PortKind, PortSpec, RouteSpec, RouteTarget};

use super::{Config, Mode};

/// `IFNAMSIZ` (include/uapi/linux/if.h) without the terminating zero.
const MAX_DEVICE_NAME: usize = 15;
const MAX_PORT_NAME: usize = 32;
/// The name under which the control thread attaches the uplink.
const UPLINK_PORT: &str = "uplink";

/// Something wrong with one field of a port or route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Fault {
    /// The field, as in `mac`.
    pub field: &'static str,
    /// What is wrong and what to do instead.
    pub message: String,
}

/// The path of a network namespace given by name (as `ip netns` has it) or by path.
pub fn netns_path(netns: &str) -> PathBuf {
    if netns.contains('/') {
        netns.into()
    } else {
        Path::new("/run/netns").join(netns)
    }
}

impl Config {
    /// Judges a port by itself: its form, and how it fits this configuration. Whether another
    /// port holds its name, device or addresses is for the caller.
    pub fn check_port(&self, port: &PortSpec) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field, message| faults.push(Fault { field, message });
        let PortSpec {
            name,
            kind,
            device,
            netns,
            addresses,
            mac,
            worker,
            rx_frames,
        } = port;
        if let Some(message) = port_name(name) {
            fault("name", message);
        } else if name == UPLINK_PORT && self.uplink.is_some() {
            let message = format!("`{name}` is the switch's own port to [uplink]: write another");
            fault("name", message);
        }
        if let Some(message) = device_name(device) {
            fault("device", message);
        }
        if *kind == PortKind::Memory {
            fault(
                "kind",
                "memory ports exist only inside a process: use afxdp or tap".to_owned(),
            );
        }
        if self.uplink.as_ref().is_some_and(|up| up.device == *device) && netns.is_none() {
            let message =
                format!("`{device}` is the uplink's device: give the port a device of its own");
            fault("device", message);
        }
        if netns.is_some() && *kind != PortKind::Tap {
            let message = "only a tap port is made inside a namespace: remove netns, or set kind \
                           to tap";
            fault("netns", message.to_owned());
        }
        for address in addresses {
            if let Some(message) = self.pod_address(*address) {
                fault("addresses", message);
            }
        }
        if let Some(message) = mac.and_then(station) {
            fault("mac", message);
        } else if *mac == Some(self.gateway.mac) {
            let message = format!(
                "{} is the gateway's: give the pod another",
                self.gateway.mac
            );
            fault("mac", message);
        }
        let workers = self.workers.cores.len();
        if let Some(worker) = worker
            && *worker >= workers
        {
            let message = format!(
                "there is no worker {worker}: workers.cores names {workers}, counted from 0"
            );
            fault("worker", message);
        }
        if let Some(frames) = rx_frames
            && (*frames == 0 || *frames > self.ports.ring)
        {
            let message = format!(
                "{frames} does not fit: write 1 to {} frames, or raise ports.ring",
                self.ports.ring
            );
            fault("rx_frames", message);
        }
        faults
    }

    /// Judges a route by itself: its form, and how it fits this configuration. Whether the port
    /// it names exists is for the caller.
    pub fn check_route(&self, route: &RouteSpec) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field, message| faults.push(Fault { field, message });
        let RouteSpec { prefix, to } = route;
        if let Some(message) = canonical(*prefix) {
            fault("prefix", message);
        }
        match to {
            RouteTarget::Node {
                via,
                encap,
                vtep_mac,
            } => {
                if let Some(own) = self.node.pod_cidrs.iter().find(|own| own.contains(prefix)) {
                    let message = format!(
                        "{prefix} lies in this node's own pod CIDR {own}: a remote node cannot \
                         have it; correct prefix or node.pod_cidrs"
                    );
                    fault("prefix", message);
                }
                let cluster = &self.node.cluster_cidrs;
                if !cluster.is_empty() && !cluster.iter().any(|cidr| cidr.contains(prefix)) {
                    let message = format!(
                        "{prefix} lies outside {}: correct it, or extend node.cluster_cidrs",
                        list(cluster)
                    );
                    fault("prefix", message);
                }
                if let Some(message) = self.remote_node(*via) {
                    fault("via", message);
                }
                if self.uplink.is_none() {
                    let message = "there is no uplink to reach another node by: add the table \
                                   [uplink] with its device";
                    fault("via", message.to_owned());
                }
                if let Some(message) = vtep_mac.and_then(station) {
                    fault("vtep_mac", message);
                }
                if vtep_mac.is_some() && !matches!(encap, Encap::Vxlan | Encap::CrossSubnetVxlan) {
                    let message = "only VXLAN has VTEPs: remove it, or use vxlan as encap";
                    fault("vtep_mac", message.to_owned());
                }
            }
            RouteTarget::Port(name) => {
                if let Some(message) = port_name(name) {
                    fault("port", message);
                }
            }
            RouteTarget::Blackhole => {}
        }
        faults
    }

    fn pod_address(&self, address: IpAddr) -> Option<String> {
        let inside = |cidr: &&IpNet| cidr.contains(&address);
        let Some(cidr) = self.node.pod_cidrs.iter().find(inside) else {
            return Some(format!(
                "{address} lies outside {}: give the pod an address inside, or extend \
                 node.pod_cidrs",
                list(&self.node.pod_cidrs)
            ));
        };
        if address == self.gateway.address {
            return Some(format!("{address} is the gateway's: give the pod another"));
        }
        if self.mode == Mode::L2 && (address == cidr.network() || address == cidr.broadcast()) {
            return Some(format!(
                "{address} is the network or broadcast address of {cidr}: give the pod another"
            ));
        }
        None
    }

    fn remote_node(&self, via: IpAddr) -> Option<String> {
        if let Some(message) = node_address(via) {
            return Some(message);
        }
        if via == self.node.address {
            return Some(format!(
                "{via} is this node itself (node.address): name the remote node's address"
            ));
        }
        let cidr = self
            .node
            .pod_cidrs
            .iter()
            .find(|cidr| cidr.contains(&via))?;
        Some(format!(
            "{via} lies in the pod CIDR {cidr}: name the remote node's underlay address"
        ))
    }
}

/// What keeps this from being the address of a node, if anything does.
pub(super) fn node_address(address: IpAddr) -> Option<String> {
    let IpAddr::V4(v4) = address else {
        return Some(format!("{address}: {NO_IPV6}, as in 192.168.50.1"));
    };
    let unfit = v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast();
    unfit.then(|| {
        format!("{address} is not the address of one host: write one such as 192.168.50.1")
    })
}

/// What keeps this from being a prefix of unicast IPv4 addresses, if anything does.
pub(super) fn canonical(prefix: IpNet) -> Option<String> {
    if prefix.addr().is_ipv6() {
        return Some(format!("{prefix}: {NO_IPV6}, as in 10.244.1.0/24"));
    }
    if prefix != prefix.trunc() {
        return Some(format!(
            "{prefix} has bits set beyond its length: write {}",
            prefix.trunc()
        ));
    }
    let address = prefix.addr();
    let unfit = address.is_multicast() || address.is_loopback();
    unfit.then(|| format!("{prefix} is not a prefix of unicast addresses: write another"))
}

const NO_IPV6: &str = "IPv6 is not supported by this version: write IPv4";

/// What keeps this from being the MAC address of one station, if anything does.
pub(super) fn station(mac: MacAddr) -> Option<String> {
    let remedy = "write a unicast address, as in 02:00:00:00:00:01";
    if mac.is_multicast() {
        Some(format!("{mac} is a multicast address: {remedy}"))
    } else if mac.is_zero() {
        Some(format!("{mac} names no station: {remedy}"))
    } else {
        None
    }
}

/// What keeps this from being the name of a port, if anything does.
fn port_name(name: &str) -> Option<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let good = (1..=MAX_PORT_NAME).contains(&name.len()) && name.bytes().all(fits);
    (!good).then(|| {
        format!("\"{name}\" is no port name: write 1 to {MAX_PORT_NAME} of A-Z a-z 0-9 _ . -")
    })
}

/// What keeps this from being the name of a kernel interface (`dev_valid_name`,
/// net/core/dev.c), if anything does.
pub(super) fn device_name(name: &str) -> Option<String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    let good = (1..=MAX_DEVICE_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(bad);
    (!good).then(|| {
        format!(
            "\"{name}\" is no interface name: write 1 to {MAX_DEVICE_NAME} bytes without spaces, \
             `/` or `:`, as `ip link` shows them"
        )
    })
}

/// Prefixes, for people.
pub(super) fn list(cidrs: &[IpNet]) -> String {
    let texts: Vec<String> = cidrs.iter().map(IpNet::to_string).collect();
    texts.join(", ")
}
