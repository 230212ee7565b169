//! Answers as tables for people. Columns without a value hold `-`.

mod stats;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use comfy_table::{Table, presets};
use shunt_api::{
    Attachment, FdbEntry, FlowEntry, NeighbourEntry, PodInfo, PortInfo, PortKind, PortRole,
};
use shunt_api::{RouteInfo, RouteLookup, RouteTarget, StatusReport};

pub(super) use stats::stats;

pub(super) fn ports(ports: &[PortInfo]) -> String {
    if ports.is_empty() {
        return "no ports: attach one with `shunt port add`".to_owned();
    }
    let mut table = table([
        "NAME",
        "ROLE",
        "KIND",
        "DEVICE",
        "WORKER",
        "XDP",
        "MTU",
        "MAC",
        "ADDRESSES",
        "STATE",
    ]);
    for port in ports {
        table.add_row([
            port.name.clone(),
            match port.role {
                PortRole::Pod => "pod".to_owned(),
                PortRole::Uplink => "uplink".to_owned(),
                PortRole::Host => "host".to_owned(),
            },
            match port.kind {
                PortKind::Afxdp => "afxdp".to_owned(),
                PortKind::Tap => "tap".to_owned(),
                PortKind::Memory => "memory".to_owned(),
            },
            port.device.clone(),
            port.worker.to_string(),
            port.xdp.clone(),
            port.mtu.to_string(),
            or_dash(port.mac),
            list(&port.addresses),
            port.state.clone(),
        ]);
    }
    finish(table)
}

/// A container's id is shown by its first twelve characters, as runtimes do.
pub(super) fn pods(pods: &[PodInfo]) -> String {
    const SHOWN: usize = 12;
    if pods.is_empty() {
        return "no pods: a container runtime attaches them by the CNI plugin shunt-cni".to_owned();
    }
    let mut table = table([
        "NETWORK",
        "CONTAINER",
        "INTERFACE",
        "POD",
        "PORT",
        "ADDRESSES",
        "MAC",
        "STATE",
    ]);
    for pod in pods {
        table.add_row([
            pod.key.network.clone(),
            pod.key.container_id.chars().take(SHOWN).collect(),
            pod.key.ifname.clone(),
            or_dash(pod.pod.as_ref()),
            pod.port.clone(),
            list(&pod.addresses),
            pod.mac.to_string(),
            pod.state.clone(),
        ]);
    }
    finish(table)
}

/// What a pod has to be told, in the words of ip-link(8) and ip-route(8).
pub(super) fn attachment(told: &Attachment) -> String {
    let mut table = table([]);
    table.add_row(["MTU".to_owned(), told.mtu.to_string()]);
    let routes = told.routes.iter().map(|route| {
        let text = format!("{} mtu {}", route.prefix, route.mtu);
        ("route", text)
    });
    let gateways = told
        .gateways
        .iter()
        .map(|gateway| ("gateway", format!("{gateway} at {}", told.gateway_mac)));
    for (name, value) in routes.chain(gateways) {
        table.add_row([name, &value]);
    }
    finish(table)
}

pub(super) fn routes(routes: &[RouteInfo]) -> String {
    if routes.is_empty() {
        return "no routes: install one with `shunt route add`".to_owned();
    }
    let mut table = table([
        "PREFIX",
        "TO",
        "ENCAP",
        "PORT",
        "NEIGHBOUR",
        "MTU",
        "ORIGIN",
        "STATE",
    ]);
    for route in routes {
        table.add_row([
            route.prefix.to_string(),
            match &route.to {
                Some(RouteTarget::Node { via, .. }) => format!("node {via}"),
                Some(RouteTarget::Port(name)) => format!("port {name}"),
                Some(RouteTarget::Blackhole) => "blackhole".to_owned(),
                None => "-".to_owned(),
            },
            route.encap.clone(),
            or_dash(route.port.as_ref()),
            or_dash(route.neighbour),
            or_dash(route.mtu),
            route.origin.clone(),
            route.state.clone(),
        ]);
    }
    finish(table)
}

/// The route in use, then those around it, then those inside.
pub(super) fn route(found: &RouteLookup) -> String {
    let prefix = found.prefix;
    let mut parts = vec![match &found.route {
        Some(route) => routes(std::slice::from_ref(route)),
        None => format!("no route covers all of {prefix}"),
    }];
    if !found.covering.is_empty() {
        parts.push(format!("also covered by:\n{}", routes(&found.covering)));
    }
    if let Some(covered) = &found.covered {
        let more = match covered.more {
            0 => String::new(),
            more => format!("{more} more: raise --limit to see them"),
        };
        let listed = match covered.routes.as_slice() {
            [] if covered.more == 0 => format!("no routes inside {prefix}"),
            [] => format!("inside {prefix}: {more}"),
            inside => {
                let text = format!("inside {prefix}:\n{}\n{more}", routes(inside));
                text.trim_end().to_owned()
            }
        };
        parts.push(listed);
    }
    parts.join("\n\n")
}

pub(super) fn fdb(entries: &[FdbEntry]) -> String {
    if entries.is_empty() {
        return "no stations: the MAC table fills in l2 mode as pods send".to_owned();
    }
    let mut table = table(["MAC", "PORT", "LAST SEEN"]);
    for entry in entries {
        let age = entry
            .age
            .map_or_else(|| "static".to_owned(), |age| format!("{age} s ago"));
        table.add_row([entry.mac.to_string(), entry.port.clone(), age]);
    }
    finish(table)
}

pub(super) fn neighbours(entries: &[NeighbourEntry]) -> String {
    if entries.is_empty() {
        return "no neighbours: they appear with ports and routes".to_owned();
    }
    let mut table = table(["ADDRESS", "MAC", "PORT", "STATE"]);
    for entry in entries {
        let (address, mac) = (entry.address.to_string(), or_dash(entry.mac));
        table.add_row([address, mac, entry.port.clone(), entry.state.clone()]);
    }
    finish(table)
}

pub(super) fn flows(flows: &[FlowEntry]) -> String {
    if flows.is_empty() {
        return "no flows: they appear as pods use services".to_owned();
    }
    let mut table = table([
        "PROTOCOL",
        "SOURCE",
        "DESTINATION",
        "STATE",
        "IDLE",
        "EXPIRES IN",
    ]);
    for flow in flows {
        table.add_row([
            protocol(flow.protocol),
            endpoint(flow.source, flow.source_port),
            endpoint(flow.destination, flow.destination_port),
            flow.state.clone(),
            format!("{} s", flow.idle),
            format!("{} s", flow.expires_in),
        ]);
    }
    finish(table)
}

/// An address with its port, if any.
fn endpoint(address: IpAddr, port: u16) -> String {
    match port {
        0 => address.to_string(),
        port => SocketAddr::new(address, port).to_string(),
    }
}

/// The protocols that services are made of, by name (IANA, "Assigned Internet Protocol Numbers").
fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn status(report: &StatusReport) -> String {
    let mut table = table([]);
    for (name, value) in [
        ("version", report.version.clone()),
        ("process", report.pid.to_string()),
        ("up", duration(report.uptime)),
        ("mode", report.mode.clone()),
        ("node", report.node.to_string()),
        ("node IPv6", or_dash(report.node6)),
        ("pod CIDRs", list(&report.pod_cidrs)),
        (
            "gateway",
            format!("{} at {}", report.gateway, report.gateway_mac),
        ),
        ("gateway IPv6", report.gateway6.to_string()),
        ("VTEP MAC", report.vtep_mac.to_string()),
        ("workers on cores", list(&report.cores)),
    ] {
        table.add_row([name, &value]);
    }
    finish(table)
}

/// An empty table without borders, whose columns are set apart by two spaces.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if N > 0 {
        table.set_header(header);
    }
    table
}

fn finish(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn list(values: &[impl Display]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// Seconds as days, hours, minutes and seconds, from the largest that is not zero.
fn duration(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts
        .iter()
        .position(|(count, _)| *count > 0)
        .unwrap_or(parts.len() - 1);
    let texts: Vec<String> = parts[first..]
        .iter()
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    texts.join(" ")
}
