//! What makes one port valid, in the file and over the socket alike; [`route`] says it of routes.

mod route;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use shunt_api::{MacAddr, PortKind, PortSpec, RateLimit};

use super::forms::{canonical, device_name, host_peer, list, port_name, station};
use super::{Config, Mode};

/// The names under which the control thread attaches the uplink and the host port.
const UPLINK_PORT: &str = "uplink";
const HOST_PORT: &str = "host";

/// Something wrong with one field of a port or route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Fault {
    /// The field as the file calls it, as in `mac`.
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
            allowed_addresses,
            allowed_macs,
            unguarded,
            ingress,
            egress,
        } = port;
        if let Some(message) = port_name(name).or_else(|| self.reserved_name(name)) {
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
        if netns.is_none()
            && let Some(message) = self.reserved_device(device)
        {
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
        if let Some(message) = mac.and_then(|mac| self.pod_mac(mac)) {
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
        for prefix in allowed_addresses {
            if let Some(message) = self.allowed_address(*prefix) {
                fault("allowed_addresses", message);
            }
        }
        for mac in allowed_macs {
            if let Some(message) = self.pod_mac(*mac) {
                fault("allowed_macs", message);
            }
        }
        if *unguarded && !(allowed_addresses.is_empty() && allowed_macs.is_empty()) {
            let message = "without its guard the port may send from any address: remove \
                           allowed_addresses and allowed_macs, or leave the guard on";
            fault("guard", message.to_owned());
        }
        for (limit, rate, burst) in [
            (ingress, "ingress_rate", "ingress_burst"),
            (egress, "egress_rate", "egress_burst"),
        ] {
            let Some(limit) = limit else { continue };
            if let Some(message) = unfit_rate(limit) {
                fault(rate, message);
            }
            if let Some(message) = unfit_burst(limit) {
                fault(burst, message);
            }
        }
        faults
    }

    /// The names of the switch's own ports.
    fn reserved_name(&self, name: &str) -> Option<String> {
        let table = match name {
            UPLINK_PORT if self.uplink.is_some() => "uplink",
            HOST_PORT if self.host.is_some() => "host",
            _ => return None,
        };
        Some(format!(
            "`{name}` is the switch's own port to [{table}]: write another"
        ))
    }

    /// The devices of the switch's own ports, all in the daemon's namespace.
    fn reserved_device(&self, device: &str) -> Option<String> {
        if self.uplink.as_ref().is_some_and(|up| up.device == *device) {
            return Some(format!(
                "`{device}` is the uplink's device: give the port a device of its own"
            ));
        }
        let host = &self.host.as_ref()?.device;
        (device == host || device == host_peer(host)).then(|| {
            format!(
                "`{device}` is the host port's (host.device): give the port a device of its own"
            )
        })
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
        if self.mode == Mode::L2 && names_subnet(address, cidr) {
            let names = match cidr {
                IpNet::V4(_) => "network or broadcast address",
                IpNet::V6(_) => "routers' anycast address",
            };
            return Some(format!(
                "{address} is the {names} of {cidr}: give the pod another"
            ));
        }
        None
    }

    fn pod_mac(&self, mac: MacAddr) -> Option<String> {
        station(mac).or_else(|| {
            (mac == self.gateway.mac)
                .then(|| format!("{mac} is the gateway's: give the pod another"))
        })
    }

    fn allowed_address(&self, prefix: IpNet) -> Option<String> {
        if prefix.prefix_len() == 0 {
            return Some(format!(
                "{prefix} is every address: to let the pod send from any, turn its guard off \
                 (guard = false, or --no-guard)"
            ));
        }
        if let Some(message) = canonical(prefix) {
            return Some(message);
        }
        let own = [
            (Some(IpAddr::V4(self.gateway.address)), "the gateway's"),
            (Some(self.node.address), "this node's (node.address)"),
            (
                self.node.address6.map(IpAddr::V6),
                "this node's (node.address6)",
            ),
        ];
        let (address, whose) = own
            .into_iter()
            .find(|(address, _)| *address == Some(prefix.addr()))?;
        let host = prefix.prefix_len() == prefix.max_prefix_len();
        address
            .filter(|_| host)
            .map(|address| format!("{address} is {whose}: a pod may not send from it; remove it"))
    }
}

/// Whether the address stands for the subnet: for IPv4 the network and the broadcast address, for
/// IPv6 the subnet-router anycast address (RFC 4291, 2.6.1), which a /127 (RFC 6164) and a single
/// address lack.
fn names_subnet(address: IpAddr, cidr: &IpNet) -> bool {
    match cidr {
        IpNet::V4(_) => address == cidr.network() || address == cidr.broadcast(),
        IpNet::V6(v6) => v6.prefix_len() < 127 && address == cidr.network(),
    }
}

fn unfit_rate(limit: &RateLimit) -> Option<String> {
    let (low, high) = RateLimit::RATES.into_inner();
    (!RateLimit::RATES.contains(&limit.rate)).then(|| {
        format!(
            "{} bit/s will not do: write a rate from {low} (8kbit) to {high} (1000Gbit), or remove \
             it for no limit",
            limit.rate
        )
    })
}

fn unfit_burst(limit: &RateLimit) -> Option<String> {
    let (low, high) = RateLimit::BURSTS.into_inner();
    (!RateLimit::BURSTS.contains(&limit.burst)).then(|| {
        format!(
            "{} bits will not do: write a burst from {low} (one frame of 9018 bytes) to {high} \
             (1000Gbit), or remove it for the default",
            limit.burst
        )
    })
}
