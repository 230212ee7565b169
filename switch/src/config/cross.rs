//! Judging values against each other, once every key has been read.
//!
//! A key that has a problem already is a stand-in by now: it is not judged further, nor is
//! anything judged by it.

mod claims;

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::{DEFAULT_STATE_DIR, PortSpec, RouteTarget};

use super::error::Report;
use super::forms::{
    canonical, device_name, host_device_name, host_peer, list, node_address, station,
};
use super::spec::Fault;
use super::{Config, Mode};
use claims::{Once, Place};

pub(super) fn check(config: &Config, available: &[usize], report: &mut Report) {
    state_dir(config, report);
    pod_cidrs(config, report);
    cluster_cidrs(config, report);
    node(config, report);
    gateway(config, report);
    if let Some(message) = station(config.vxlan.vtep_mac) {
        report.fault("vxlan.vtep_mac", message);
    }
    cores(config, available, report);
    uplink(config, report);
    host(config, report);
    mtu(config, report);
    ports(config, report);
    frames(config, report);
    routes(config, report);
}

fn state_dir(config: &Config, report: &mut Report) {
    if !config.state_dir.is_absolute() {
        let message = format!(
            "\"{}\" depends on where the switch is started: write an absolute path, such as \
             {DEFAULT_STATE_DIR}",
            config.state_dir.display()
        );
        report.fault("state_dir", message);
    }
}

fn pod_cidrs(config: &Config, report: &mut Report) {
    const KEY: &str = "node.pod_cidrs";
    let cidrs = &config.node.pod_cidrs;
    for (i, cidr) in cidrs.iter().enumerate() {
        if let Some(message) = canonical(*cidr) {
            report.fault(KEY, message);
            continue;
        }
        let overlaps = |other: &&IpNet| other.contains(cidr) || cidr.contains(*other);
        if let Some(other) = cidrs[..i].iter().find(overlaps) {
            report.fault(
                KEY,
                format!("{cidr} overlaps {other}: keep one, or correct it"),
            );
        }
        // The IPv6 gateway is link-local and takes no room.
        if config.mode == Mode::L2 && cidr.addr().is_ipv4() && cidr.prefix_len() > 30 {
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
    const KEY6: &str = "node.address6";
    let address = config.node.address;
    if report.sound(KEY)
        && let Some(message) = underlay_address(config, address)
    {
        report.fault(KEY, message);
    }
    let Some(address6) = config.node.address6 else {
        return;
    };
    if let Some(message) = underlay_address(config, IpAddr::V6(address6)) {
        report.fault(KEY6, message);
    } else if address.is_ipv6() && report.sound(KEY) {
        let message = format!(
            "node.address is IPv6 already: remove {address6} here, or write the node's IPv4 \
             address as node.address"
        );
        report.fault(KEY6, message);
    }
}

/// What keeps this from being the node's address on the physical network, if anything does.
fn underlay_address(config: &Config, address: IpAddr) -> Option<String> {
    node_address(address).or_else(|| {
        let cidrs = &config.node.pod_cidrs;
        let cidr = cidrs.iter().find(|cidr| cidr.contains(&address))?;
        Some(format!(
            "{address} lies in the pod CIDR {cidr}: write the node's address on the physical \
             network, or correct node.pod_cidrs"
        ))
    })
}

fn gateway(config: &Config, report: &mut Report) {
    const KEY: &str = "gateway.address";
    if let Some(message) = station(config.gateway.mac) {
        report.fault("gateway.mac", message);
    }
    let address6 = config.gateway.address6;
    if !address6.is_unicast_link_local() {
        let message = format!(
            "{address6} is not link-local: routers give their link-local address (RFC 4861, \
             4.2); write one of fe80::/10 such as fe80::1"
        );
        report.fault("gateway.address6", message);
    }
    if !report.sound(KEY) || !report.sound("node.pod_cidrs") {
        return;
    }
    let address = IpAddr::V4(config.gateway.address);
    if let Some(message) = node_address(address) {
        report.fault(KEY, message);
        return;
    }
    if address == config.node.address {
        let message = format!("{address} is the node's (node.address): write another address");
        report.fault(KEY, message);
    }
    let cidrs = &config.node.pod_cidrs;
    let cidrs4: Vec<IpNet> = cidrs
        .iter()
        .copied()
        .filter(|cidr| cidr.addr().is_ipv4())
        .collect();
    let home = cidrs4.iter().find(|cidr| cidr.contains(&address));
    match (config.mode, home) {
        (Mode::L2, None) if !cidrs4.is_empty() => report.fault(
            KEY,
            format!(
                "{address} lies outside {}: in l2 mode write an address of the pods' subnet, or \
                 remove the key",
                list(&cidrs4)
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

fn host(config: &Config, report: &mut Report) {
    const KEY: &str = "host.device";
    let Some(host) = &config.host else { return };
    for message in host
        .non_masquerade_cidrs
        .iter()
        .filter_map(|cidr| canonical(*cidr))
    {
        report.fault("host.non_masquerade_cidrs", message);
    }
    if !report.sound(KEY) {
        return;
    }
    let device = &host.device;
    if let Some(message) = host_device_name(device) {
        report.fault(KEY, message);
    } else if let Some(uplink) = &config.uplink
        && (uplink.device == *device || uplink.device == host_peer(device))
    {
        let message = format!(
            "`{device}` and its other end `{}` are made by the switch, and `{}` is the uplink's \
             (uplink.device): write another name, such as shunt0",
            host_peer(device),
            uplink.device
        );
        report.fault(KEY, message);
    }
}

fn mtu(config: &Config, report: &mut Report) {
    /// The least that every IPv6 link takes (RFC 8200, 5), in bytes.
    const LEAST_IPV6: u32 = 1280;
    let cidr6 = config
        .node
        .pod_cidrs
        .iter()
        .find(|cidr| cidr.addr().is_ipv6());
    if let Some((remote, cidr)) = config.mtu.remote.zip(cidr6)
        && remote < LEAST_IPV6
    {
        let message = format!(
            "{remote} bytes are too few for the IPv6 pods of {cidr}: write {LEAST_IPV6} or more"
        );
        report.fault("mtu.remote", message);
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
    let own = usize::from(config.uplink.is_some()) + usize::from(config.host.is_some());
    let wanted = config.port.len() + own;
    if wanted > config.ports.max && report.sound("ports.max") {
        let message = format!(
            "{wanted} ports are configured, the uplink and the host port included: raise ports.max \
             to {wanted} or more"
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
    let of_host = config.host.as_ref().map(|_| config.ports.host_rx_frames());
    let needed: u64 = of_ports
        .chain(of_uplink)
        .chain(of_host)
        .map(u64::from)
        .sum();
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
                "via" => {
                    let keys = ["uplink", "node.pod_cidrs", "node.address", "node.address6"];
                    keys.into_iter().all(|key| report.sound(key))
                }
                "encap" => at.judged("prefix", report) && at.judged("via", report),
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
