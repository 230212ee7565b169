//! The suite `fib`: our longest-prefix match beside DPDK's tables and Rust crates.
//!
//! All tables hold the same routes and look the same addresses up, in turns, on one core. Ours and
//! the crates' run in this process, DPDK's in another that sleeps meanwhile (`bench/peers`). Each
//! pair writes results of the same width, and the checksums of all answers are compared before
//! anything is timed. Each takes addresses as its interface wants them: DPDK's IPv6 tables as
//! bytes in network order, ours as integers.
//!
//! - `lookups`: rates by set of routes, kind of traffic and size of the batch; memory.
//! - `updates`: builds; a day of updates, alone and beside a reader (`replay`).
//! - `contest`: who takes part, and the turns. `family`, `crates`, `dpdk`: who they are.
//! - `checksum`, `pages`: the same answers, in the same pages.

mod beside;
mod checksum;
mod contest;
mod crates;
mod dpdk;
mod family;
mod lookups;
mod pages;
mod replay;
mod updates;

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result};
use shunt_rib::{Route, Table};

use self::dpdk::Dpdk;
use self::family::Family;
use self::pages::{Pages, huge_bytes};
use crate::compare::{Options, Report, Suite};
use crate::core;
use crate::figures::{Better, Row, Series};
use crate::interrupt::Interrupt;

/// This suite.
pub const SUITE: Suite = Suite {
    name: "fib",
    about: "longest-prefix match: DPDK's rte_fib and rte_lpm, and three crates",
    run,
};

/// Time of one measurement; whole passes over the traffic are made.
const TIME: Duration = Duration::from_millis(150);

/// What all parts of a run share.
struct Run<'a> {
    options: &'a Options,
    interrupt: &'a Interrupt,
    dpdk: RefCell<Dpdk>,
    /// Where tables are looked into.
    core: usize,
    /// Where our writer works beside a reader.
    writer_core: usize,
    pages: &'static str,
}

fn run(options: &Options, interrupt: &Interrupt) -> Result<Report> {
    let pages = Pages::set(options.huge_pages)?;
    let core = core::last();
    let writer_core = core::others(core)
        .next()
        .context("the suite fib takes two cores: one for the reader, one for the writer")?;
    let run = Run {
        options,
        interrupt,
        dpdk: RefCell::new(Dpdk::start(core, interrupt)?),
        core,
        writer_core,
        pages: pages.kind(),
    };
    core::pin(core)?;
    let mut report = Report::default();
    let version = run.dpdk.borrow().version().to_owned();
    report.notes.push(format!(
        "{version} in a process of its own, AVX512 lookups; {}, the kernel's setting being {:?}",
        pages.kind(),
        pages.setting()
    ));
    run.family::<u32>(&mut report)?;
    run.family::<u128>(&mut report)?;
    Ok(report)
}

impl Run<'_> {
    fn family<F: Family>(&self, report: &mut Report) -> Result<()> {
        if !self.options.want(F::NAME) {
            return Ok(());
        }
        eprintln!("{}: loading the table and its updates", F::NAME);
        let table = Table::<F>::load_real()?;
        report.notes.push(format!(
            "{} full table: {} routes, {}",
            F::NAME,
            table.routes.len(),
            table.source
        ));
        lookups::measure::<F>(self, &table.routes, report)?;
        updates::measure(self, &table, report)
    }

    /// Where and in what pages single-core figures are measured.
    fn placement(&self) -> String {
        format!("core {}, in turns; {}", self.core, self.pages)
    }

    /// Notes how much of the memory lies in huge pages, where that was asked for.
    fn note_huge_pages(&self, report: &mut Report) -> Result<()> {
        if self.options.huge_pages {
            let mib = |process| huge_bytes(process).map(|bytes| bytes >> 20);
            report.notes.push(format!(
                "in huge pages: {} MiB of this process, {} MiB of DPDK's",
                mib(std::process::id())?,
                mib(self.dpdk.borrow().id())?
            ));
        }
        Ok(())
    }
}

/// Routes as the crates' tables are built from.
fn flat<F: Family>(routes: &[Route<F>]) -> Vec<(F, u8, u16)> {
    routes
        .iter()
        .map(|&(net, hop)| (F::first(net), F::prefix_len(net), hop))
        .collect()
}

/// A series of one value.
fn once(value: f64) -> Series {
    let mut series = Series::default();
    series.push(value);
    series
}

/// A row against a number asked for instead of a peer.
fn asked([case, unit]: [&str; 2], ours: &Series, number: f64, better: Better) -> Row {
    let peer = format!("asked for: {number} {unit}");
    Row {
        rounds: ours.rounds(),
        ..Row::compare(
            [SUITE.name, case, &peer, unit],
            (ours, &once(number)),
            better,
            Some(1.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_asked_for_is_the_target() {
        let mut ours = once(3.0);
        ours.push(5.0);
        let row = asked(["updates", "M/s"], &ours, 4.0, Better::Higher);
        assert!(row.met && row.ratio == 1.0 && row.rounds == 2);
        assert_eq!(row.peer, "asked for: 4 M/s");
        let row = asked(["p99", "us"], &ours, 1.0, Better::Lower);
        assert!(!row.met);
    }
}
