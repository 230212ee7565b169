//! Builds of the full table, and a day of updates: alone, and beside a reader at full speed.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use shunt_rib::{Route, Table, Update, Updates, traffic};

use super::dpdk::Latency;
use super::family::{Family, Writer, encode_routes, encode_updates};
use super::lookups::build;
use super::replay::{latency, read, replay, spin};
use super::{Run, SUITE, asked};
use crate::compare::Report;
use crate::core;
use crate::figures::{Better, Row, Series};

/// Updates a second asked for beside a reader, in millions.
const RATE: f64 = 4.0;
/// Microseconds that 99 % of the updates may take.
const P99: f64 = 1.0;
/// What a reader keeps of its rate.
const KEPT: f64 = 0.95;
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
        let beside = contest.beside()?;
        contest.rows_beside(&alone[0], &beside, report);
    }
    Ok(())
}

/// A day of updates to the full table.
struct Day<'a, F: Family> {
    run: &'a Run<'a>,
    name: String,
    routes: &'a [Route<F>],
    updates: &'a [Update<F>],
    addresses: &'a [F],
}

/// Times of single updates, in microseconds; a value a round.
#[derive(Default)]
struct Latencies {
    p50: Series,
    p99: Series,
    max: Series,
}

impl Latencies {
    fn push(&mut self, latency: Latency) {
        self.p50.push(latency.p50 / 1e3);
        self.p99.push(latency.p99 / 1e3);
        self.max.push(latency.max / 1e3);
    }
}

/// A writer with nobody beside it.
#[derive(Default)]
struct Alone {
    /// Seconds.
    builds: Series,
    /// Million updates a second.
    rates: Series,
    latencies: Latencies,
    busy: Series,
}

/// Our writer beside a reader.
#[derive(Default)]
struct Beside {
    rates: Series,
    latencies: Latencies,
    /// Million lookups a second, while the writer replays.
    reader: Series,
    /// The same, while the writer's core is busy with nothing.
    undisturbed: Series,
    /// The same, while the writer replays the same updates to a table that nobody reads.
    elsewhere: Series,
    /// Busy share of both cores, summed.
    busy: [Series; 2],
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

    /// Our writer replays while a reader works at full speed, in turns with a writer's thread that
    /// works on nothing, or on another table.
    fn beside(&self) -> Result<Beside> {
        let mut beside = Beside::default();
        for round in 1..=self.run.options.rounds {
            eprintln!("{}: beside a reader, round {round}", self.name);
            self.run.interrupt.check()?;
            let (mut writer, _) = build::<F>(self.routes)?;
            let updates = self.updates;
            let (rate, reader, busy) = self.with_reader(&mut writer, |w| replay(w, updates))?;
            let time = Duration::from_secs_f64(updates.len() as f64 / rate);
            beside.rates.push(rate / 1e6);
            beside.reader.push(reader / 1e6);
            beside.busy[0].push(busy);

            let (mut writer, _) = build::<F>(self.routes)?;
            let ((), reader, busy) = self.with_reader(&mut writer, |_| {
                spin(time);
                Ok(())
            })?;
            beside.undisturbed.push(reader / 1e6);
            beside.busy[1].push(busy);

            let (mut other, _) = build::<F>(self.routes)?;
            let (_, reader, _) = self.with_reader(&mut writer, |_| replay(&mut other, updates))?;
            beside.elsewhere.push(reader / 1e6);

            let (times, ..) = self.with_reader(&mut writer, |w| latency(w, updates))?;
            beside.latencies.push(times);
        }
        Ok(beside)
    }

    /// Runs `work` on the writer's core while a reader looks addresses up on its own. Gives what
    /// the work gives, the reader's lookups a second, and the busy shares of both cores, summed.
    fn with_reader<T: Send>(
        &self,
        writer: &mut Writer<F>,
        work: impl FnOnce(&mut Writer<F>) -> Result<T> + Send,
    ) -> Result<(T, f64, f64)> {
        let cores = [self.run.core, self.run.writer_core];
        let reader = writer.reader()?;
        let (start, stop) = (Barrier::new(2), AtomicBool::new(false));
        let (start, stop, addresses) = (&start, &stop, self.addresses);
        let busy = [core::Time::of(cores[0])?, core::Time::of(cores[1])?];
        let (rate, done) = thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let pinned = core::pin(cores[0]);
                read(&reader, addresses, &AtomicBool::new(true));
                start.wait();
                pinned.map(|()| read(&reader, addresses, stop))
            });
            let writing = scope.spawn(move || {
                let pinned = core::pin(cores[1]);
                start.wait();
                let done = pinned.and_then(|()| work(writer));
                stop.store(true, Relaxed);
                done
            });
            (reading.join(), writing.join())
        });
        let died = |_| anyhow!("a thread of the measurement has panicked");
        let (rate, done) = (rate.map_err(died)??, done.map_err(died)??);
        let mut sum = 0.0;
        for (core, earlier) in cores.into_iter().zip(busy) {
            sum += core::Time::of(core)?.busy_since(earlier);
        }
        Ok((done, rate, sum))
    }

    fn rows_beside(&self, alone: &Alone, beside: &Beside, report: &mut Report) {
        let case = |what: &str| format!("{}, beside a reader{what}", self.name);
        let Latencies { p50, p99, max } = &beside.latencies;
        let [with, without] = &beside.busy;
        let asked_for = |case: &str, unit, ours, number, better, limit| Row {
            cpu_ours: with.median(),
            limited_by: Some(limit),
            ..asked([case, unit], ours, number, better)
        };
        let keeps = |series: &Series| series.median() / beside.undisturbed.median();
        let rows = [
            asked_for(
                &case(""),
                "M updates/s",
                &beside.rates,
                RATE,
                Better::Higher,
                format!("the writer alone: {:.1} M/s", alone.rates.median()),
            ),
            asked_for(
                &case(", p99"),
                "us",
                p99,
                P99,
                Better::Lower,
                format!(
                    "the writer alone: p99 {:.2} us; beside a reader: p50 {:.2} us, longest \
                     {:.0} us; each with the clock's own time",
                    alone.latencies.p99.median(),
                    p50.median(),
                    max.median()
                ),
            ),
            Row {
                cpu_ours: with.median(),
                cpu_theirs: without.median(),
                limited_by: Some(format!(
                    "the same updates to a table that nobody reads leave {:.2} of the rate",
                    keeps(&beside.elsewhere)
                )),
                ..Row::compare(
                    [
                        SUITE.name,
                        &format!("{}, the reader's rate meanwhile", self.name),
                        "itself, no updates",
                        "M lookups/s",
                    ],
                    (&beside.reader, &beside.undisturbed),
                    Better::Higher,
                    Some(KEPT),
                )
            },
        ];
        report.rows.extend(rows.map(|row| Row {
            placement: format!(
                "reader on core {}, writer on core {}; {}",
                self.run.core, self.run.writer_core, self.run.pages
            ),
            limited_by: row.limited_by.clone().filter(|_| !row.met),
            ..row
        }));
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
