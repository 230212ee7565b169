//! A day of updates, the writer alone.

use std::time::Duration;

use anyhow::Result;
use shunt_rib::{Route, Table, Update, Updates, traffic};

use super::dpdk::Latency;
use super::family::{Family, encode_routes, encode_updates};
use super::lookups::build;
use super::replay::{latency, replay};
use super::{Run, SUITE, asked, beside};
use crate::compare::Report;
use crate::core;
use crate::figures::{Better, Row, Series};

/// A peer too slow for the whole day replays as much as fits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Addresses of one pass of the reader.
const ADDRESSES: usize = 1 << 20;

/// Measures builds and updates of a family.
///
/// # Errors
/// A table refuses an update, the peer fails, or the user interrupts.
pub(super) fn measure<F: Family>(run: &Run, table: &Table<F>, report: &mut Report) -> Result<()> {
    let day = Updates::<F>::load(table)?;
    let changing = day.clone().with_changing_hops();
    let addresses = traffic::table::<F>(&table.routes, ADDRESSES, 1);
    run.dpdk
        .borrow()
        .file("routes", &encode_routes::<F>(&table.routes))?;
    for (name, day) in [
        ("day of updates", day),
        ("day of updates, each a new hop", changing),
    ] {
        let case = format!("{} {name}", F::NAME);
        if !run.options.want(&case) {
            continue;
        }
        let contest = Day::<F> {
            run,
            name: case,
            routes: &table.routes,
            updates: &day.updates,
            addresses: &addresses,
        };
        run.dpdk
            .borrow()
            .file("updates", &encode_updates::<F>(&day.updates))?;
        let alone = contest.alone()?;
        if name == "day of updates" {
            builds::<F>(run, &alone, report);
        }
        contest.rows_alone(&alone, report);
        beside::measure(&contest, &alone[0], report)?;
    }
    Ok(())
}

/// A day of updates to the full table.
pub(super) struct Day<'a, F: Family> {
    pub(super) run: &'a Run<'a>,
    pub(super) name: String,
    pub(super) routes: &'a [Route<F>],
    pub(super) updates: &'a [Update<F>],
    pub(super) addresses: &'a [F],
}

/// Times of single updates, in microseconds; a value a round.
#[derive(Default)]
pub(super) struct Latencies {
    pub(super) p50: Series,
    pub(super) p99: Series,
    pub(super) max: Series,
}

impl Latencies {
    pub(super) fn push(&mut self, latency: Latency) {
        self.p50.push(latency.p50 / 1e3);
        self.p99.push(latency.p99 / 1e3);
        self.max.push(latency.max / 1e3);
    }
}

/// A writer with nobody beside it.
#[derive(Default)]
pub(super) struct Alone {
    /// Seconds.
    builds: Series,
    /// Million updates a second.
    pub(super) rates: Series,
    pub(super) latencies: Latencies,
    busy: Series,
}

impl<F: Family> Day<'_, F> {
    /// Ours and the first of DPDK's, in turns. Every replay begins with a table just built.
    fn alone(&self) -> Result<[Alone; 2]> {
        let [mut ours, mut theirs] = [Alone::default(), Alone::default()];
        let kind = F::DPDK[0].name;
        for round in 1..=self.run.options.rounds {
            eprintln!("{}: alone, round {round}", self.name);
            self.run.interrupt.check()?;
            let before = core::Time::of(self.run.core)?;
            for each in [false, true] {
                let (mut writer, seconds) = build::<F>(self.routes)?;
                ours.builds.push(seconds);
                if each {
                    ours.latencies.push(latency(&mut writer, self.updates)?);
                } else {
                    ours.rates.push(replay(&mut writer, self.updates)? / 1e6);
                }
            }
            ours.busy
                .push(core::Time::of(self.run.core)?.busy_since(before));

            let before = core::Time::of(self.run.core)?;
            for each in [false, true] {
                let mut dpdk = self.run.dpdk.borrow_mut();
                theirs
                    .builds
                    .push(dpdk.build(kind, "routes", self.routes.len())?.seconds);
                if each {
                    theirs
                        .latencies
                        .push(dpdk.latency(kind, "updates", PATIENCE)?);
                } else {
                    theirs
                        .rates
                        .push(dpdk.replay(kind, "updates", PATIENCE)? / 1e6);
                }
                dpdk.free(kind)?;
            }
            theirs
                .busy
                .push(core::Time::of(self.run.core)?.busy_since(before));
        }
        Ok([ours, theirs])
    }

    fn rows_alone(&self, [ours, theirs]: &[Alone; 2], report: &mut Report) {
        let pairs = [
            (
                "",
                "M updates/s",
                &ours.rates,
                &theirs.rates,
                Better::Higher,
            ),
            (
                ", p50",
                "us",
                &ours.latencies.p50,
                &theirs.latencies.p50,
                Better::Lower,
            ),
            (
                ", p99",
                "us",
                &ours.latencies.p99,
                &theirs.latencies.p99,
                Better::Lower,
            ),
            (
                ", longest",
                "us",
                &ours.latencies.max,
                &theirs.latencies.max,
                Better::Lower,
            ),
        ];
        for (what, unit, ours_series, theirs_series, better) in pairs {
            let case = format!("{}, writer alone{what}", self.name);
            report.rows.push(Row {
                placement: self.run.placement(),
                cpu_ours: ours.busy.median(),
                cpu_theirs: theirs.busy.median(),
                ..Row::compare(
                    [SUITE.name, &case, F::DPDK[0].label, unit],
                    (ours_series, theirs_series),
                    better,
                    None,
                )
            });
        }
    }
}

/// Rows for builds of the full table.
fn builds<F: Family>(run: &Run, [ours, theirs]: &[Alone; 2], report: &mut Report) {
    let case = format!("{} full table, build", F::NAME);
    let mut rows = vec![Row::compare(
        [SUITE.name, &case, F::DPDK[0].label, "s"],
        (&ours.builds, &theirs.builds),
        Better::Lower,
        None,
    )];
    if let Some(seconds) = F::BUILD_TARGET {
        rows.push(asked([&case, "s"], &ours.builds, seconds, Better::Lower));
    }
    for row in rows {
        report.rows.push(Row {
            placement: run.placement(),
            cpu_ours: ours.busy.median(),
            cpu_theirs: theirs.busy.median(),
            ..row
        });
    }
}
