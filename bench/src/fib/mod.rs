//! The suite `fib`: our longest-prefix match beside DPDK's tables and Rust crates.
//!
//! All tables hold the same routes and look the same addresses up, in turns, on one core. Ours and
//! the crates' run in this process, DPDK's in another that sleeps meanwhile (`bench/peers`). Each
//! pair writes results of the same width, and the checksums of all answers are compared before
//! each size of batch is timed, and after a replay of updates. Each takes addresses as its
//! interface wants them: DPDK's IPv6 tables as bytes in network order, ours as integers.
//!
//! - `lookups`: rates by set of routes, kind of traffic and size of the batch; memory.
//! - `builds`: builds of the full table.
//! - `updates`: a day of updates (`replay`), the writer alone; `beside`: and beside a reader.
//! - `contest`: who takes part, and the turns. `family`, `crates`, `dpdk`: who they are.
//! - `checksum`, `pages`: the same answers, in the same pages.

mod beside;
mod builds;
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
use shunt_rib::{Route, Table, Updates};

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
    /// Whether those are huge.
    huge: bool,
}

/// The routes of a family and their updates.
struct Data<F: Family> {
    table: Table<F>,
    day: Updates<F>,
}

impl<F: Family> Data<F> {
    /// `None` if the user wants no case of the family.
    fn load(options: &Options) -> Result<Option<Self>> {
        if !options.want(F::NAME) {
            return Ok(None);
        }
        eprintln!("{}: loading the table and its updates", F::NAME);
        let table = Table::<F>::load_real()?;
        let day = Updates::load(&table)?;
        Ok(Some(Self { table, day }))
    }
}

fn run(options: &Options, interrupt: &Interrupt) -> Result<Report> {
    let pages = Pages::set(options.huge_pages)?;
    // Before any peer is installed or built: without data that would be for nothing.
    let (v4, v6) = (Data::<u32>::load(options)?, Data::<u128>::load(options)?);
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
        huge: pages.huge(),
    };
    core::pin(core)?;
    let mut report = Report::default();
    let version = run.dpdk.borrow().version().to_owned();
    report.notes.push(format!(
        "{version} in a process of its own, AVX512 lookups; {}, the kernel's setting being {:?}",
        pages.kind(),
        pages.setting()
    ));
    if let Some(data) = v4 {
        run.family(data, &mut report)?;
    }
    if let Some(data) = v6 {
        report.notes.push(
            "DPDK's IPv6 tables take addresses as bytes in network order and rearrange them \
             inside, which is part of their figures; ours take integers"
                .to_owned(),
        );
        run.family(data, &mut report)?;
    }
    Ok(report)
}

impl Run<'_> {
    fn family<F: Family>(&self, data: Data<F>, report: &mut Report) -> Result<()> {
        let Data { table, day } = data;
        report.notes.push(format!(
            "{} full table: {} routes, {}",
            F::NAME,
            table.routes.len(),
            table.source
        ));
        lookups::measure::<F>(self, &table.routes, report)?;
        builds::measure::<F>(self, &table.routes, report)?;
        updates::measure::<F>(self, &table.routes, day, report)
    }

    /// Where and in what pages single-core figures are measured.
    fn placement(&self) -> String {
        format!("core {}, in turns; {}", self.core, self.pages)
    }

    /// Notes how much of the memory lies in huge pages, where it should.
    fn note_huge_pages(&self, report: &mut Report) -> Result<()> {
        if self.huge {
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
    Row::asked([SUITE.name, case, unit], ours, number, better)
}
