//! Judging values against each other, once every key has been read.
//!
//! A key that has a problem already is a stand-in by now: it is not judged further, nor is
//! anything judged by it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::hash::Hash;

use shunt_api::{PortSpec, RouteTarget};

use super::error::Report;
use super::spec::{Fault, canonical, device_name, list, node_address, station};
use super::{Config, Mode};

pub(super) fn check(config: &Config, available: &[usize], report: &mut Report) {
    pod_cidrs(config, report);
    cluster_cidrs(config, report);
    node(config, report);
    gateway(config, report);
    if let Some(message) = station(config.vxlan.vtep_mac) {
        report.fault("vxlan.vtep_mac", message);
    }
    cores(config, available, report);
    uplink(config, report);
    ports(config, report);
    frames(config, report);
    routes(config, report);
}

fn pod_cidrs(config: &Config, report: &mut Report) {
    const KEY: &str = "node.pod_cidrs";
    let cidrs = &config.node.pod_cidrs;
    for (i, cidr) in cidrs.iter().enumerate() {
        if let Some(message) = canonical(*cidr) {
            report.fault(KEY, message);
            continue;
        }
        let overlaps = |other: &&ipnet::IpNet| other.contains(cidr) || cidr.contains(*other);
        if let Some(other) = cidrs[..i].iter().find(overlaps) {
            report.fault(
                KEY,
                format!("{cidr} overlaps {other}: keep one, or correct it"),
            );
        }
        if config.mode == Mode::L2 && cidr.prefix_len() > 30 {
            report.fault(
                KEY,
                format!(
                    "{cidr} has no room for a gateway and a pod: in l2 mode write /30 or wider"
                ),
            );
        }
        let cluster = &config.node.cluster_cidrs;
        let inside = cluster.is_empty() || cluster.iter().any(|outer| outer.contains(cidr));
        if !inside && report.sound("node.cluster_cidrs") {
            let message = format!(
                "{cidr} lies outside {}: correct it, or extend node.cluster_cidrs",
                list(cluster)
            );
            report.fault(KEY, message);
        }
    }
}

fn cluster_cidrs(config: &Config, report: &mut Report) {
    for message in config
        .node
        .cluster_cidrs
        .iter()
        .filter_map(|cidr| canonical(*cidr))
    {
        report.fault("node.cluster_cidrs", message);
    }
}

fn node(config: &Config, report: &mut Report) {
    const KEY: &str = "node.address";
    if !report.sound(KEY) {
        return;
    }
    let address = config.node.address;
    if let Some(message) = node_address(address) {
        report.fault(KEY, message);
    } else if let Some(cidr) = config
        .node
        .pod_cidrs
        .iter()
        .find(|cidr| cidr.contains(&address))
    {
        let message = format!(
            "{address} lies in the pod CIDR {cidr}: write the node's address on the physical \
             network, or correct node.pod_cidrs"
        );
        report.fault(KEY, message);
    }
}

fn gateway(config: &Config, report: &mut Report) {
    const KEY: &str = "gateway.address";
    if let Some(message) = station(config.gateway.mac) {
        report.fault("gateway.mac", message);
    }
    if !report.sound(KEY) || !report.sound("node.pod_cidrs") {
        return;
    }
    let address = config.gateway.address;
    if let Some(message) = node_address(address) {
        report.fault(KEY, message);
        return;
    }
    if address == config.node.address {
        let message = format!("{address} is the node's (node.address): write another address");
        report.fault(KEY, message);
    }
    let cidrs = &config.node.pod_cidrs;
    let home = cidrs.iter().find(|cidr| cidr.contains(&address));
    match (config.mode, home) {
        (Mode::L2, None) => report.fault(
            KEY,
            format!(
                "{address} lies outside {}: in l2 mode write an address of the pods' subnet, or \
                 remove the key",
                list(cidrs)
            ),
        ),
        (Mode::L2, Some(cidr)) if address == cidr.network() || address == cidr.broadcast() => {
            let message =
                format!("{address} is the network or broadcast address of {cidr}: write another");
            report.fault(KEY, message);
        }
        (Mode::L3, Some(cidr)) => {
            if let Some(pod) = config
                .port
                .iter()
                .find(|port| port.addresses.contains(&address))
            {
                let message = format!(
                    "{address} lies in the pod CIDR {cidr} and port `{}` has it: write an address \
                     that no pod gets, such as 169.254.1.1",
                    pod.name
                );
                report.fault(KEY, message);
            }
        }
        _ => {}
    }
}

fn cores(config: &Config, available: &[usize], report: &mut Report) {
    const KEY: &str = "workers.cores";
    let cores = &config.workers.cores;
    if cores.is_empty() && report.sound(KEY) {
        let remedy = "name at least one core, as in [1], or remove the key for the last one";
        report.fault(KEY, format!("no core: {remedy}"));
    }
    for (i, core) in cores.iter().enumerate() {
        if cores[..i].contains(core) {
            report.fault(
                KEY,
                format!("core {core} is named twice: one worker per core"),
            );
        } else if !available.contains(core) {
            let have: Vec<String> = available.iter().map(usize::to_string).collect();
            let message = format!(
                "core {core} is not available here: choose among {}",
                have.join(", ")
            );
            report.fault(KEY, message);
        }
    }
}

fn uplink(config: &Config, report: &mut Report) {
    const KEY: &str = "uplink.device";
    if let Some(uplink) = &config.uplink
        && report.sound(KEY)
        && let Some(message) = device_name(&uplink.device)
    {
        report.fault(KEY, message);
    }
}

fn ports(config: &Config, report: &mut Report) {
    let (mut names, mut devices) = (Once::default(), Once::default());
    let (mut addresses, mut macs) = (Once::default(), Once::default());
    for (i, port) in config.port.iter().enumerate() {
        let at = Place {
            table: "port",
            number: i + 1,
        };
        let faults = config.check_port(port).into_iter().filter(|fault| {
            let by = match fault.field {
                "addresses" => report.sound("node.pod_cidrs") && report.sound("gateway.address"),
                "worker" => report.sound("workers.cores"),
                "rx_frames" => report.sound("ports.ring"),
                _ => true,
            };
            by && at.judged(fault.field, report)
        });
        at.faults(faults.collect(), report);
        let PortSpec {
            name,
            device,
            netns,
            addresses: own,
            mac,
            ..
        } = port;
        names.claim(name, &at, "name", name, report);
        devices.claim((netns, device), &at, "device", device, report);
        for address in own {
            addresses.claim(address, &at, "addresses", address, report);
        }
        if let Some(mac) = mac {
            macs.claim(mac, &at, "mac", mac, report);
        }
    }
    let wanted = config.port.len() + usize::from(config.uplink.is_some());
    if wanted > config.ports.max && report.sound("ports.max") {
        let message = format!(
            "{wanted} ports are configured, the uplink included: raise ports.max to {wanted} or \
             more"
        );
        report.fault("ports.max", message);
    }
}

/// Every port keeps frames with the kernel; they must exist.
fn frames(config: &Config, report: &mut Report) {
    let of_ports = config
        .port
        .iter()
        .map(|port| port.rx_frames.unwrap_or(config.ports.rx_frames));
    let of_uplink = config.uplink.as_ref().map(|uplink| uplink.rx_frames);
    let needed: u64 = of_ports.chain(of_uplink).map(u64::from).sum();
    if needed >= u64::from(config.memory.frames) && report.sound("memory.frames") {
        let message = format!(
            "{} frames are too few: the configured ports keep {needed} with the kernel and \
             forwarding needs more; raise memory.frames or lower rx_frames",
            config.memory.frames
        );
        report.fault("memory.frames", message);
    }
}

fn routes(config: &Config, report: &mut Report) {
    let mut prefixes = Once::default();
    for (i, route) in config.route.iter().enumerate() {
        let at = Place {
            table: "route",
            number: i + 1,
        };
        let faults = config.check_route(route).into_iter().filter(|fault| {
            let by = match fault.field {
                "prefix" => report.sound("node.pod_cidrs") && report.sound("node.cluster_cidrs"),
                "via" => report.sound("uplink") && report.sound("node.pod_cidrs"),
                _ => true,
            };
            by && at.judged(fault.field, report)
        });
        at.faults(faults.collect(), report);
        prefixes.claim(route.prefix, &at, "prefix", &route.prefix, report);
        if let RouteTarget::Port(name) = &route.to
            && !config.port.iter().any(|port| port.name == *name)
        {
            let message = format!(
                "there is no [[port]] named `{name}`: add it, or add the route once the port is \
                 attached, with `shunt route add`"
            );
            let field = "port";
            at.faults(vec![Fault { field, message }], report);
        }
    }
}

/// One of the tables `[[table]]`, counted from 1.
struct Place {
    table: &'static str,
    number: usize,
}

impl Place {
    fn key(&self, field: &str) -> String {
        format!("{}[{}].{field}", self.table, self.number)
    }

    /// Whether the field holds what the file says. Of a list, bad items were left out; a single
    /// bad value was replaced.
    fn judged(&self, field: &str, report: &Report) -> bool {
        field == "addresses" || report.sound(&self.key(field))
    }

    fn faults(&self, faults: Vec<Fault>, report: &mut Report) {
        for Fault { field, message } in faults {
            report.fault(self.key(field), message);
        }
    }
}

/// Things that only one table may claim.
struct Once<T>(HashMap<T, usize>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Once<T> {
    fn claim(
        &mut self,
        thing: T,
        at: &Place,
        field: &'static str,
        text: &dyn Display,
        report: &mut Report,
    ) {
        if !at.judged(field, report) {
            return;
        }
        match self.0.entry(thing) {
            Entry::Vacant(free) => {
                free.insert(at.number);
            }
            Entry::Occupied(first) => {
                let (table, first) = (at.table, first.get());
                let message = format!("{text} is that of {table}[{first}] too: give each its own");
                at.faults(vec![Fault { field, message }], report);
            }
        }
    }
}
