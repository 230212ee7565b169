//! `shunt stats`: the totals, the balance, drops by reason, ports.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use comfy_table::CellAlignment;
use shunt_api::StatsReport;

use super::{finish, table};

/// `meanings` explains drop reasons by name.
pub(in super::super) fn stats(report: &StatsReport, meanings: &HashMap<String, String>) -> String {
    [
        totals(report),
        balance(report),
        drops(report, meanings),
        ports(report),
    ]
    .join("\n\n")
}

fn totals(report: &StatsReport) -> String {
    let mut table = table(["FRAMES", "COUNT", "MEANING"]);
    for (name, count, meaning) in [
        ("received", report.received, "handed in by ports"),
        (
            "generated",
            report.generated,
            "made by the switch: ARP, NDP, ICMP errors, copies to flood",
        ),
        ("ICMP errors", report.icmp_sent, "of the generated"),
        (
            "ICMP limited",
            report.icmp_limited,
            "errors not sent because of icmp.rate",
        ),
        (
            "flows refused",
            report.flows_refused,
            "service connections beyond flows.max",
        ),
        ("transmitted", report.transmitted, "taken by ports"),
        ("dropped", dropped(report), "see below"),
        ("consumed", report.consumed, "meant for the switch itself"),
        ("in flight", report.in_flight, "inside the switch now"),
        ("pool free", report.pool_free, "nobody holds them now"),
        ("pool total", report.pool_total, "all there are"),
    ] {
        table.add_row([name, &count.to_string(), meaning]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(table)
}

/// The invariant of [`StatsReport`], with numbers.
fn balance(report: &StatsReport) -> String {
    let drops = dropped(report);
    let into = report.received.saturating_add(report.generated);
    let parts = [report.transmitted, drops, report.consumed, report.in_flight];
    let out = parts
        .iter()
        .fold(0, |sum: u64, part| sum.saturating_add(*part));
    let verdict = match into.abs_diff(out) {
        0 => "balanced".to_owned(),
        off => format!("off by {off}: please report this"),
    };
    format!(
        "received + generated = transmitted + drops + consumed + in flight: {verdict}\n\
         {} + {} = {} + {drops} + {} + {}",
        report.received, report.generated, report.transmitted, report.consumed, report.in_flight
    )
}

/// By reason, the most frequent first, with the ports it happened at.
fn drops(report: &StatsReport, meanings: &HashMap<String, String>) -> String {
    let mut reasons: Vec<_> = report
        .drops
        .iter()
        .filter(|(_, count)| **count > 0)
        .collect();
    if reasons.is_empty() {
        return "no drops".to_owned();
    }
    reasons.sort_by_key(|(_, count)| Reverse(**count));
    let mut table = table(["DROP REASON", "FRAMES", "AT PORTS", "MEANING"]);
    for (reason, count) in reasons {
        let mut at: Vec<(u64, &str)> = report
            .ports
            .iter()
            .filter_map(|port| Some((*port.drops.get(reason)?, port.name.as_str())))
            .filter(|(count, _)| *count > 0)
            .collect();
        at.sort_by_key(|(count, _)| Reverse(*count));
        let at: Vec<String> = at
            .iter()
            .map(|(count, port)| format!("{port} {count}"))
            .collect();
        let meaning = meanings.get(reason).map_or("-", String::as_str);
        let at = if at.is_empty() {
            "-".to_owned()
        } else {
            at.join(", ")
        };
        table.add_row([reason, &count.to_string(), &at, meaning]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(table)
}

fn ports(report: &StatsReport) -> String {
    if report.ports.is_empty() {
        return "no ports: attach one with `shunt port add`".to_owned();
    }
    let header = [
        "PORT",
        "RX PACKETS",
        "RX BYTES",
        "TX PACKETS",
        "TX BYTES",
        "DROPS",
        "BY THE KERNEL",
    ];
    let mut table = table(header);
    for port in &report.ports {
        table.add_row([
            port.name.clone(),
            port.rx_packets.to_string(),
            port.rx_bytes.to_string(),
            port.tx_packets.to_string(),
            port.tx_bytes.to_string(),
            sum(&port.drops).to_string(),
            named(&port.kernel),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(table)
}

/// Those of the kernel's counters that are not zero.
fn named(counters: &BTreeMap<String, u64>) -> String {
    let counted = counters.iter().filter(|(_, count)| **count > 0);
    let texts: Vec<String> = counted
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(", ")
    }
}

fn dropped(report: &StatsReport) -> u64 {
    sum(&report.drops)
}

/// Saturating: the numbers come over a socket.
fn sum(counters: &BTreeMap<String, u64>) -> u64 {
    counters
        .values()
        .fold(0, |sum, count| sum.saturating_add(*count))
}
