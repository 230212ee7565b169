//! A day of updates, the writer alone.

use std::time::Duration;

use anyhow::Result;
use shunt_rib::{Route, Update, Updates, traffic};

use super::contest::{BATCH_MAX, Competitor, DpdkTable, Ours, Traffic, agree};
use super::dpdk::Latency;
use super::family::{Family, Kind, encode_addresses, encode_routes, encode_updates};
use super::lookups::build;
use super::replay::{latency, replay};
use super::{Run, SUITE, beside};
use crate::compare::Report;
use crate::core;
use crate::figures::{Better, Row, Series};

/// A peer too slow for the whole day replays as much as fits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Addresses of one pass of the reader.
const ADDRESSES: usize = 1 << 20;

/// Measures updates of a family.
///
/// # Errors
/// A table refuses an update, the peer fails, or the user interrupts.
pub(super) fn measure<F: Family>(
    run: &Run,
    routes: &[Route<F>],
    day: Updates<F>,
    report: &mut Report,
) -> Result<()> {
    let changing = day.clone().with_changing_hops();
    let addresses = traffic::table::<F>(routes, ADDRESSES, 1);
    run.dpdk
        .borrow()
        .file("routes", &encode_routes::<F>(routes))?;
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
            routes,
            updates: &day.updates,
            addresses: &addresses,
        };
        run.dpdk
            .borrow()
            .file("updates", &encode_updates::<F>(&day.updates))?;
        let alone = contest.alone(report)?;
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
    /// Million updates a second.
    pub(super) rates: Series,
    pub(super) latencies: Latencies,
    busy: Series,
}

impl<F: Family> Day<'_, F> {
    /// Ours and the first of DPDK's, in turns. Every replay begins with a table just built.
    fn alone(&self, report: &mut Report) -> Result<[Alone; 2]> {
        let [mut ours, mut theirs] = [Alone::default(), Alone::default()];
        let kind = F::DPDK[0];
        // Updates that the peer did in its time, the fewest of all rounds.
        let mut least = self.updates.len();
        for round in 1..=self.run.options.rounds {
            eprintln!("{}: alone, round {round}", self.name);
            self.run.interrupt.check()?;
            let before = core::Time::of(self.run.core)?;
            let (mut writer, _) = build::<F>(self.routes)?;
            ours.rates.push(replay(&mut writer, self.updates)? / 1e6);
            let (mut writer, _) = build::<F>(self.routes)?;
            ours.latencies.push(latency(&mut writer, self.updates)?);
            ours.busy
                .push(core::Time::of(self.run.core)?.busy_since(before));

            let before = core::Time::of(self.run.core)?;
            let mut dpdk = self.run.dpdk.borrow_mut();
            dpdk.build(kind.name, "routes", self.routes.len())?;
            let (replayed, rate) = dpdk.replay(kind.name, "updates", PATIENCE)?;
            theirs.rates.push(rate / 1e6);
            drop(dpdk);
            if round == 1 {
                self.agree(kind, replayed)?;
            }
            let mut dpdk = self.run.dpdk.borrow_mut();
            dpdk.free(kind.name)?;
            dpdk.build(kind.name, "routes", self.routes.len())?;
            let (timed, times) = dpdk.latency(kind.name, "updates", PATIENCE)?;
            theirs.latencies.push(times);
            dpdk.free(kind.name)?;
            theirs
                .busy
                .push(core::Time::of(self.run.core)?.busy_since(before));
            least = least.min(replayed).min(timed);
        }
        report
            .notes
            .extend(cut(&self.name, kind.label, least, self.updates.len()));
        Ok([ours, theirs])
    }

    /// Checks that the peer, after so many updates, answers as ours does after them.
    fn agree(&self, kind: Kind, replayed: usize) -> Result<()> {
        let (mut writer, _) = build::<F>(self.routes)?;
        replay(&mut writer, &self.updates[..replayed])?;
        let reader = writer.reader()?;
        // What changed, and what should not have.
        let changed = self.updates.iter().map(|update| F::first(update.net()));
        let mut addresses: Vec<F> = changed.chain(self.addresses.iter().copied()).collect();
        addresses.truncate(addresses.len() / BATCH_MAX * BATCH_MAX);
        let traffic = Traffic {
            name: format!("after {replayed} updates of the {}", self.name),
            addresses,
        };
        let dpdk = &self.run.dpdk;
        dpdk.borrow()
            .file("traffic", &encode_addresses(&traffic.addresses))?;
        dpdk.borrow_mut().traffic("traffic", F::ENCODED)?;
        let theirs = DpdkTable { dpdk, kind };
        let all: [&dyn Competitor<F>; 2] = [&Ours::<F, u64>::new(&reader), &theirs];
        agree(&traffic, BATCH_MAX, &all)
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
                extreme: what == ", longest",
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

/// A note, if the peer's time was over before the day was.
fn cut(name: &str, peer: &str, done: usize, all: usize) -> Option<String> {
    (done < all).then(|| {
        format!(
            "{name}: {peer} was stopped after {} s, with {:.0} % of the updates done; its figures \
             are of those",
            PATIENCE.as_secs(),
            done as f64 / all as f64 * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_did_not_do_the_day_is_noted() {
        assert_eq!(cut("IPv4 day of updates", "rte_fib", 10, 10), None);
        let note = cut("IPv4 day of updates", "rte_fib", 4, 10).unwrap();
        assert!(
            note.contains("rte_fib was stopped after 2 s, with 40 %"),
            "{note}"
        );
    }
}
