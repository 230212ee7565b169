//! `[host]`, `[icmp]`, `[flows]` and `[mtu]`: traffic beyond that between pods.

use std::time::Duration;

use super::super::error::Report;
use super::super::read::Section;
use super::super::{FlowsConfig, HostConfig, IcmpConfig, MtuConfig};
use super::AGES;

pub(super) fn host(section: Section<'_>, report: &mut Report) -> Option<HostConfig> {
    if !section.exists() {
        return None;
    }
    let device = section.text("device", report);
    let masquerade = section.boolean("masquerade", report);
    let non_masquerade_cidrs = section.texts("non_masquerade_cidrs", report);
    let keep = section.boolean("keep", report);
    section.finish(report);
    Some(HostConfig {
        device: device.unwrap_or_else(|| "shunt0".to_owned()),
        masquerade: masquerade.unwrap_or(true),
        non_masquerade_cidrs: non_masquerade_cidrs.unwrap_or_default(),
        keep: keep.unwrap_or(false),
    })
}

pub(super) fn icmp(section: Section<'_>, report: &mut Report) -> IcmpConfig {
    let unreachable = section.boolean("unreachable", report);
    let rate = section.number("rate", 1..=100_000, "errors per second", report);
    section.finish(report);
    IcmpConfig {
        unreachable: unreachable.unwrap_or(true),
        rate: rate.unwrap_or(1000),
    }
}

pub(super) fn flows(section: Section<'_>, report: &mut Report) -> FlowsConfig {
    let max = section.number("max", 1024..=4_194_304u32, "flows", report);
    let mut age = |key, default: u32| {
        let seconds = section.number(key, AGES, "seconds", report);
        Duration::from_secs(seconds.unwrap_or(default).into())
    };
    let tcp_idle = age("tcp_idle", 86_400);
    let tcp_transient = age("tcp_transient", 120);
    let idle = age("idle", 180);
    section.finish(report);
    FlowsConfig {
        max: max.unwrap_or(65_536) as usize,
        tcp_idle,
        tcp_transient,
        idle,
    }
}

pub(super) fn mtu(section: Section<'_>, report: &mut Report) -> MtuConfig {
    let remote = section.number("remote", 576..=65_535, "bytes", report);
    let clamp_mss = section.boolean("clamp_mss", report);
    section.finish(report);
    MtuConfig {
        remote,
        clamp_mss: clamp_mss.unwrap_or(false),
    }
}
