//! Each table of the file, with its keys, ranges and defaults.
//!
//! A key that is wrong or missing is reported and replaced by a harmless value, so that the rest
//! can be judged; a configuration with a problem is never handed out.

mod entries;
mod traffic;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use shunt_api::{DEFAULT_SOCKET, DEFAULT_STATE_DIR, MacAddr};
use toml::de::{DeTable, DeValue};

use super::error::Report;
use super::read::{Section, Text as _};
use super::*;

const FRAMES: RangeInclusive<u32> = 1..=8192;
/// Seconds: from ten, which a timer of one second tells well, to a week and a half.
const AGES: RangeInclusive<u32> = 10..=1_000_000;
const TTL: RangeInclusive<u8> = 1..=255;
const DEFAULT_TTL: u8 = 64;
const DEFAULT_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const DEFAULT_GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const DEFAULT_GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);

/// Stands for a required address or prefix that was reported as wrong or missing.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Reads the whole file.
pub(super) fn config<'a>(
    table: &'a DeTable<'a>,
    path: &Path,
    available: &[usize],
    report: &mut Report,
) -> Config {
    let root = Section::root(table);
    let modes = [("l3", Mode::L3), ("l2", Mode::L2)];
    let mode = root.choice("mode", &modes, report).unwrap_or_default();
    let socket = root.text::<String>("socket", report);
    let state_dir = root.text::<String>("state_dir", report);
    let node = node(root.section("node", report), report);
    let gateway = gateway(root.section("gateway", report), mode, &node, report);
    let workers = workers(root.section("workers", report), available, report);
    let memory = memory(root.section("memory", report), report);
    let ports = ports(root.section("ports", report), report);
    let uplink = uplink(root.section("uplink", report), report);
    let vxlan = vxlan(root.section("vxlan", report), &node, report);
    let ipip = ipip(root.section("ipip", report), report);
    let l2 = l2(root.section("l2", report), report);
    let neighbours = neighbours(root.section("neighbours", report), report);
    let host = traffic::host(root.section("host", report), report);
    let icmp = traffic::icmp(root.section("icmp", report), report);
    let flows = traffic::flows(root.section("flows", report), report);
    let mtu = traffic::mtu(root.section("mtu", report), report);
    let port = root.sections("port", report);
    let port = port
        .into_iter()
        .map(|section| entries::port_spec(section, report))
        .collect();
    let route = root.sections("route", report);
    let route = route
        .into_iter()
        .map(|section| entries::route_spec(section, report))
        .collect();
    root.finish(report);
    Config {
        path: path.to_owned(),
        mode,
        socket: socket.map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from),
        state_dir: state_dir.map_or_else(|| PathBuf::from(DEFAULT_STATE_DIR), PathBuf::from),
        node,
        gateway,
        workers,
        memory,
        ports,
        uplink,
        vxlan,
        ipip,
        l2,
        neighbours,
        host,
        icmp,
        flows,
        mtu,
        port,
        route,
    }
}

fn node(section: Section<'_>, report: &mut Report) -> NodeConfig {
    let address = section.required("address", report).unwrap_or(NOWHERE);
    let address6 = section.text("address6", report);
    let pod_cidrs: Option<Vec<IpNet>> = section.texts("pod_cidrs", report);
    let wanting = match &pod_cidrs {
        None => !section.has("pod_cidrs"),
        Some(list) => list.is_empty() && report.sound(&section.key("pod_cidrs")),
    };
    if wanting {
        let example = IpNet::EXAMPLE;
        let message = format!("missing: write this node's pods, as in pod_cidrs = [\"{example}\"]");
        report.fault(section.key("pod_cidrs"), message);
    }
    let cluster_cidrs = section.texts("cluster_cidrs", report).unwrap_or_default();
    section.finish(report);
    NodeConfig {
        address,
        address6,
        pod_cidrs: pod_cidrs.unwrap_or_default(),
        cluster_cidrs,
    }
}

fn gateway(
    section: Section<'_>,
    mode: Mode,
    node: &NodeConfig,
    report: &mut Report,
) -> GatewayConfig {
    let address = section.text("address", report);
    let address6 = section.text("address6", report);
    let mac = section.text("mac", report).unwrap_or(DEFAULT_GATEWAY_MAC);
    section.finish(report);
    let first_host = || {
        let cidrs = node.pod_cidrs.iter();
        let mut cidrs = cidrs.filter_map(|cidr| match cidr {
            IpNet::V4(cidr) => Some(cidr),
            IpNet::V6(_) => None,
        });
        cidrs.next().and_then(|cidr| cidr.hosts().next())
    };
    let default = || match mode {
        Mode::L3 => None,
        Mode::L2 => first_host(),
    };
    GatewayConfig {
        address: address.or_else(default).unwrap_or(DEFAULT_GATEWAY),
        address6: address6.unwrap_or(DEFAULT_GATEWAY6),
        mac,
    }
}

fn workers(section: Section<'_>, available: &[usize], report: &mut Report) -> WorkersConfig {
    let cores = section.numbers("cores", report);
    let batch = section.number("batch", 1..=256, "frames", report);
    section.finish(report);
    let last = || available.last().copied().into_iter().collect();
    WorkersConfig {
        cores: cores.unwrap_or_else(last),
        batch: batch.unwrap_or(64) as usize,
    }
}

fn memory(section: Section<'_>, report: &mut Report) -> MemoryConfig {
    let frames = section.number("frames", 1024..=16_777_216, "frames", report);
    let size = section.number("frame_size", 2048..=4096, "bytes", report);
    if size.is_some_and(|size| size != 2048 && size != 4096) {
        let message = "must be 2048 or 4096: AF_XDP takes no other chunk size from 2048 up";
        report.fault(section.key("frame_size"), message);
    }
    section.finish(report);
    MemoryConfig {
        frames: frames.unwrap_or(16_384),
        frame_size: size.unwrap_or(4096),
    }
}

fn ports(section: Section<'_>, report: &mut Report) -> PortsConfig {
    let (rx_frames, ring) = ring(&section, 64, 1024, report);
    let max = section.number("max", 1..=4096, "ports", report);
    let modes = [
        ("auto", XdpMode::Auto),
        ("native", XdpMode::Native),
        ("skb", XdpMode::Skb),
    ];
    let xdp = section.choice("xdp", &modes, report).unwrap_or_default();
    section.finish(report);
    PortsConfig {
        rx_frames,
        ring,
        max: max.unwrap_or(1024) as usize,
        xdp,
    }
}

fn uplink(section: Section<'_>, report: &mut Report) -> Option<UplinkConfig> {
    if !section.exists() {
        return None;
    }
    let device = section.required("device", report).unwrap_or_default();
    let (rx_frames, ring) = ring(&section, 2048, 2048, report);
    section.finish(report);
    Some(UplinkConfig {
        device,
        rx_frames,
        ring,
    })
}

/// `rx_frames` and `ring`, which belong together.
fn ring(section: &Section<'_>, rx_frames: u32, ring: u32, report: &mut Report) -> (u32, u32) {
    let given = section.number("rx_frames", FRAMES, "frames", report);
    let ring = match section.number("ring", 64..=8192u32, "entries", report) {
        Some(size) if size.is_power_of_two() => size,
        Some(size) => {
            let below = 1 << size.ilog2();
            let message = format!(
                "{size} is not a power of two, as the kernel's rings are: write {below} or {}",
                below * 2
            );
            report.fault(section.key("ring"), message);
            ring
        }
        None => ring,
    };
    // A smaller ring alone lowers the default, so that one key suffices.
    let rx_frames = given.unwrap_or(rx_frames.min(ring));
    if rx_frames > ring && report.sound(&section.key("ring")) {
        let message = format!(
            "{rx_frames} frames do not fit into a ring of {ring}: write {ring} or less, or raise \
             {}",
            section.key("ring")
        );
        report.fault(section.key("rx_frames"), message);
    }
    (rx_frames, ring)
}

fn vxlan(section: Section<'_>, node: &NodeConfig, report: &mut Report) -> VxlanConfig {
    let vni = section.number("vni", 0..=0xff_ffff, "24 bits", report);
    let port = section.number("port", 1..=u16::MAX, "a UDP port", report);
    let vtep_mac = section.text("vtep_mac", report);
    let udp_checksum = section.boolean("udp_checksum", report);
    let ttl = section.number("ttl", TTL, "hops", report);
    let dscp = dscp(&section, report);
    section.finish(report);
    VxlanConfig {
        vni: vni.unwrap_or(1),
        port: port.unwrap_or(8472),
        vtep_mac: vtep_mac.unwrap_or_else(|| shunt_api::vtep_mac(node.address)),
        udp_checksum: udp_checksum.unwrap_or(false),
        ttl: ttl.unwrap_or(DEFAULT_TTL),
        dscp,
    }
}

fn ipip(section: Section<'_>, report: &mut Report) -> IpipConfig {
    let ttl = section.number("ttl", TTL, "hops", report);
    let dscp = dscp(&section, report);
    section.finish(report);
    IpipConfig {
        ttl: ttl.unwrap_or(DEFAULT_TTL),
        dscp,
    }
}

fn dscp(section: &Section<'_>, report: &mut Report) -> Dscp {
    let Some(value) = section.value("dscp", report) else {
        return Dscp::default();
    };
    let dscp = match value.get_ref() {
        DeValue::String(word) if word == "copy" => Some(Dscp::Copy),
        DeValue::Integer(number) => u8::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| *number < 64)
            .map(Dscp::Fixed),
        _ => None,
    };
    dscp.unwrap_or_else(|| {
        let message = "must be \"copy\" (the inner packet's) or a number from 0 to 63";
        report.fault(section.key("dscp"), message);
        Dscp::default()
    })
}

fn l2(section: Section<'_>, report: &mut Report) -> L2Config {
    let ageing = section
        .number("ageing", AGES, "seconds", report)
        .unwrap_or(300);
    let max_macs = section
        .number("max_macs", 1..=1_048_576, "entries", report)
        .unwrap_or(16_384);
    let per_port = section.number("max_macs_per_port", 1..=1_048_576, "entries", report);
    let max_macs_per_port = per_port.unwrap_or(1024.min(max_macs));
    if max_macs_per_port > max_macs && report.sound(&section.key("max_macs")) {
        let message = format!(
            "{max_macs_per_port} is more than the {max_macs} of l2.max_macs: lower it, or raise \
             l2.max_macs"
        );
        report.fault(section.key("max_macs_per_port"), message);
    }
    let storm_limit = section.number("storm_limit", 1..=10_000_000, "frames per second", report);
    let snooping = section.boolean("snooping", report).unwrap_or(true);
    let querier = section.boolean("querier", report).unwrap_or(false);
    if querier && !snooping {
        let message = "true asks for memberships that nobody notes: remove it, or write snooping \
                       = true";
        report.fault(section.key("querier"), message);
    }
    section.finish(report);
    L2Config {
        ageing: Duration::from_secs(ageing.into()),
        max_macs: max_macs as usize,
        max_macs_per_port: max_macs_per_port as usize,
        storm_limit: storm_limit.unwrap_or(10_000),
        snooping,
        querier,
    }
}

fn neighbours(section: Section<'_>, report: &mut Report) -> NeighboursConfig {
    let queue = section
        .number("queue", 1..=4096, "frames", report)
        .unwrap_or(16);
    let total = section.number("total", 1..=65_536, "frames", report);
    let total = total.unwrap_or(256.max(queue));
    if queue > total && report.sound(&section.key("total")) {
        let message = format!(
            "{queue} is more than the {total} of neighbours.total: lower it, or raise \
             neighbours.total"
        );
        report.fault(section.key("queue"), message);
    }
    let timeout = section.number("timeout", 10..=60_000u32, "milliseconds", report);
    section.finish(report);
    NeighboursConfig {
        queue: queue as usize,
        total: total as usize,
        timeout: Duration::from_millis(timeout.unwrap_or(3000).into()),
    }
}
