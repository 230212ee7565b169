//! `[[port]]` and `[[route]]`.

use ipnet::IpNet;
use shunt_api::{Encap, PortKind, PortSpec, RateLimit, RouteSpec, RouteTarget};

use super::super::error::Report;
use super::super::parse::rate_limit;
use super::super::read::{AddressOrPrefix, Section};
use super::super::spec::netns_path;
use super::{FRAMES, NOWHERE};

/// One `[[port]]`.
pub(super) fn port_spec(section: Section<'_>, report: &mut Report) -> PortSpec {
    let kinds = [("afxdp", PortKind::Afxdp), ("tap", PortKind::Tap)];
    let name = section.required("name", report).unwrap_or_default();
    let kind = section
        .choice("kind", &kinds, report)
        .unwrap_or(PortKind::Afxdp);
    let device = section.required("device", report).unwrap_or_default();
    let netns = section.text::<String>("netns", report);
    let addresses = section.texts("addresses", report).unwrap_or_default();
    let mac = section.text("mac", report);
    let worker = section.number("worker", 0..=1023, "a worker's index", report);
    let rx_frames = section.number("rx_frames", FRAMES, "frames", report);
    let allowed_addresses: Vec<AddressOrPrefix> = section
        .texts("allowed_addresses", report)
        .unwrap_or_default();
    let allowed_macs = section.texts("allowed_macs", report).unwrap_or_default();
    let guard = section.boolean("guard", report).unwrap_or(true);
    let ingress = limit(&section, "ingress_rate", "ingress_burst", report);
    let egress = limit(&section, "egress_rate", "egress_burst", report);
    section.finish(report);
    PortSpec {
        name,
        kind,
        device,
        netns: netns.map(|netns| netns_path(&netns)),
        addresses,
        mac,
        worker: worker.map(|worker: u32| worker as usize),
        rx_frames,
        allowed_addresses: allowed_addresses.into_iter().map(|it| it.0).collect(),
        allowed_macs,
        unguarded: !guard,
        ingress,
        egress,
    }
}

/// A rate and its burst, which means nothing alone.
fn limit(
    section: &Section<'_>,
    rate: &'static str,
    burst: &'static str,
    report: &mut Report,
) -> Option<RateLimit> {
    let (given, bits) = (section.bits(rate, report), section.bits(burst, report));
    if section.has(burst) && !section.has(rate) {
        let message = format!("is a burst of no rate: write {rate} too, or remove it");
        report.fault(section.key(burst), message);
    }
    given.map(|rate| rate_limit(rate, bits))
}

/// One `[[route]]`.
pub(super) fn route_spec(section: Section<'_>, report: &mut Report) -> RouteSpec {
    let prefix = section.required("prefix", report);
    let via = section.text("via", report);
    let encaps = [
        ("vxlan", Encap::Vxlan),
        ("ipip", Encap::Ipip),
        ("direct", Encap::Direct),
        ("cross-subnet-vxlan", Encap::CrossSubnetVxlan),
        ("cross-subnet-ipip", Encap::CrossSubnetIpip),
    ];
    let encap = section.choice("encap", &encaps, report);
    let vtep_mac = section.text("vtep_mac", report);
    let port = section.text::<String>("port", report);
    let blackhole = section.boolean("blackhole", report);

    let said = ["via", "port", "blackhole"]
        .into_iter()
        .filter(|key| section.has(key))
        .count();
    if said != 1 {
        report.fault(
            section.key("via"),
            "a route leads to exactly one thing: write one of via = \"192.168.50.2\" (with \
             encap), port = \"pod1\" or blackhole = true",
        );
    } else if section.has("via") {
        if !section.has("encap") {
            let message = "missing: write encap = \"vxlan\", \"ipip\", \"direct\", \
                           \"cross-subnet-vxlan\" or \"cross-subnet-ipip\"";
            report.fault(section.key("encap"), message);
        }
    } else {
        for key in ["encap", "vtep_mac"]
            .into_iter()
            .filter(|key| section.has(key))
        {
            report.fault(
                section.key(key),
                "belongs to a route with via: remove it here",
            );
        }
        if blackhole == Some(false) {
            let message = "false says nothing: write blackhole = true, or remove the route";
            report.fault(section.key("blackhole"), message);
        }
    }
    section.finish(report);

    let to = match (port, via) {
        (Some(port), _) => RouteTarget::Port(port),
        (None, Some(via)) => RouteTarget::Node {
            via,
            encap: encap.unwrap_or(Encap::Vxlan),
            vtep_mac,
        },
        (None, None) => RouteTarget::Blackhole,
    };
    let nowhere = IpNet::from(NOWHERE);
    RouteSpec {
        prefix: prefix.unwrap_or(nowhere),
        to,
    }
}
