//! What must not get through: each frame ends as the test says, and no table changes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shunt_api::StatsReport;

use crate::balance::drops_between;
use crate::daemon::Daemon;
use crate::frames::inject;
use crate::netns::Netns;

/// How many times each frame is sent.
pub const COPIES: u64 = 3;

/// A frame and what must become of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// For people.
    pub what: String,
    /// The frame.
    pub frame: Vec<u8>,
    /// The name of its drop; empty for one that passes.
    pub reason: &'static str,
    /// Whether its sender gets an ICMP error.
    pub answered: bool,
}

/// A frame that is dropped in silence.
pub fn case(what: &str, reason: &'static str, frame: Vec<u8>) -> Case {
    Case {
        what: what.to_owned(),
        frame,
        reason,
        answered: false,
    }
}

/// A frame that is dropped and whose sender is told.
pub fn answered(what: &str, reason: &'static str, frame: Vec<u8>) -> Case {
    Case {
        answered: true,
        ..case(what, reason, frame)
    }
}

/// The MAC table, neighbours, routes and flows, a line each, without ages. What is mirrored from
/// the node's kernel is left out: it changes by itself.
///
/// # Errors
/// When the daemon does not answer.
pub fn tables(daemon: &Daemon) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in daemon.fdb()? {
        lines.push(format!("fdb {} {}", entry.mac, entry.port));
    }
    for entry in daemon.neighbours()? {
        if entry.state != "kernel" {
            lines.push(format!("neighbour {entry:?}"));
        }
    }
    for route in daemon.routes()? {
        lines.push(format!(
            "route {} {:?} {} {:?} {} {:?}",
            route.prefix, route.to, route.origin, route.port, route.encap, route.mtu
        ));
    }
    for flow in daemon.flows()? {
        lines.push(format!(
            "flow {} {} {} {} {}",
            flow.protocol, flow.source, flow.source_port, flow.destination, flow.destination_port
        ));
    }
    lines.sort();
    Ok(lines)
}

/// Demands that the tables are as they were.
///
/// # Errors
/// When they differ; the message has the lines.
pub fn must_be_as_before(daemon: &Daemon, before: &[String]) -> Result<()> {
    let after = tables(daemon)?;
    let gone = before.iter().filter(|line| !after.contains(line));
    let new = after.iter().filter(|line| !before.contains(line));
    let changes: Vec<String> = gone
        .map(|line| format!("- {line}"))
        .chain(new.map(|line| format!("+ {line}")))
        .collect();
    ensure!(
        changes.is_empty(),
        "tables changed:\n{}",
        changes.join("\n")
    );
    Ok(())
}

/// Waits until `count` more frames than `before` were received and none is in flight.
///
/// # Errors
/// When fewer have come two seconds later.
pub fn received(daemon: &Daemon, before: &StatsReport, count: u64) -> Result<StatsReport> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let now = daemon.stats()?;
        let new = now.received - before.received;
        if new >= count && now.in_flight == 0 {
            return Ok(now);
        }
        ensure!(
            Instant::now() < deadline,
            "{new} of {count} frames received: {now:?}"
        );
        sleep(Duration::from_millis(5));
    }
}

/// Sends each frame of a silent switch's pod from `eth0` of `netns` and compares what became of it
/// with what should. Frames that pass may be answered by their receiver.
///
/// # Errors
/// When anything else happened, all that did.
pub fn refused(daemon: &Daemon, netns: &Netns, cases: &[Case]) -> Result<()> {
    let mut wrong = Vec::new();
    for case in cases {
        if let Err(error) = refused_one(daemon, netns, case) {
            wrong.push(format!("{}: {error:#}", case.what));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn refused_one(daemon: &Daemon, netns: &Netns, case: &Case) -> Result<()> {
    let state = tables(daemon)?;
    let before = daemon.stats()?;
    inject(netns, "eth0", &vec![case.frame.clone(); COPIES as usize])?;
    let after = received(daemon, &before, COPIES)?;
    let drops: Vec<_> = drops_between(&before, &after).into_iter().collect();
    if case.reason.is_empty() {
        ensure!(drops.is_empty(), "{drops:?} instead of passing");
        ensure!(
            after.transmitted >= before.transmitted + COPIES,
            "neither dropped nor sent: {before:?} {after:?}"
        );
    } else {
        ensure!(
            drops == [(case.reason.to_owned(), COPIES)],
            "{drops:?} instead of {}",
            case.reason
        );
        let errors = if case.answered { COPIES } else { 0 };
        let new = (
            after.transmitted - before.transmitted,
            after.generated - before.generated,
            after.consumed - before.consumed,
            after.icmp_sent - before.icmp_sent,
        );
        ensure!(
            new == (errors, errors, 0, errors),
            "(transmitted, generated, consumed, errors) {new:?} instead of {errors} errors"
        );
    }
    // What the control thread hears of, it hears of within this time.
    sleep(Duration::from_millis(30));
    must_be_as_before(daemon, &state)
}
