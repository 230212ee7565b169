//! Builds of the full table, and a day of updates: alone, and beside a reader at full speed.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use shunt_rib::{Route, Table, Update, Updates, traffic};

use super::contest::BATCH_MAX;
use super::dpdk::Latency;
use super::family::{Family, Reader, Writer, encode_routes, encode_updates, index};
use super::lookups::build;
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
        let contest = Day::<F> {
            run,
            name: format!("{} {name}", F::NAME),
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
        contest.rows_beside(&beside, report);
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
    /// works on nothing.
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

    fn rows_beside(&self, beside: &Beside, report: &mut Report) {
        let placement = format!(
            "reader on core {}, writer on core {}; {}",
            self.run.core, self.run.writer_core, self.run.pages
        );
        let case = |what: &str| format!("{}, beside a reader{what}", self.name);
        let Latencies { p50, p99, max } = &beside.latencies;
        let timed = "each update timed, the clock's own time included";
        let fixed = [
            asked(
                [&case(""), "M updates/s"],
                &beside.rates,
                RATE,
                Better::Higher,
            ),
            asked([&case(", p99"), "us"], p99, P99, Better::Lower),
        ];
        for row in fixed {
            report.rows.push(Row {
                placement: placement.clone(),
                cpu_ours: beside.busy[0].median(),
                limited_by: (!row.met && row.unit == "us").then(|| {
                    let [p50, max] = [p50, max].map(Series::median);
                    format!("p50 {p50:.2} us, longest {max:.0} us; {timed}")
                }),
                ..row
            });
        }
        let [with, without] = &beside.busy;
        report.rows.push(Row {
            placement,
            cpu_ours: with.median(),
            cpu_theirs: without.median(),
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
        });
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

#[inline]
fn apply<F: Family>(writer: &mut Writer<F>, update: &Update<F>) -> Result<()> {
    match *update {
        Update::Announce(net, hop) => writer.insert(net, index(hop))?,
        Update::Withdraw(net) => writer.remove(net)?,
    };
    Ok(())
}

/// Replays all updates; gives updates a second.
fn replay<F: Family>(writer: &mut Writer<F>, updates: &[Update<F>]) -> Result<f64> {
    let start = Instant::now();
    for update in updates {
        apply(writer, update)?;
    }
    Ok(updates.len() as f64 / start.elapsed().as_secs_f64())
}

/// Replays all updates and times each, with one reading of the clock an update, whose own time is
/// part of the figure.
fn latency<F: Family>(writer: &mut Writer<F>, updates: &[Update<F>]) -> Result<Latency> {
    let mut times = vec![0; updates.len()];
    // Their pages are to be there.
    black_box(times.as_mut_slice()).fill(1);
    let mut before = Instant::now();
    for (update, time) in updates.iter().zip(&mut times) {
        apply(writer, update)?;
        let after = Instant::now();
        *time = u32::try_from((after - before).as_nanos()).unwrap_or(u32::MAX);
        before = after;
    }
    Ok(percentiles(times))
}

/// By nearest rank, as in `peers/fib_dpdk.c`; zeros of no times.
fn percentiles(mut times: Vec<u32>) -> Latency {
    times.sort_unstable();
    let n = times.len();
    let at = |place: usize| times.get(place).copied().unwrap_or(0).into();
    Latency {
        p50: at(n / 2),
        p99: at(n * 99 / 100),
        max: at(n.saturating_sub(1)),
    }
}

/// Looks all addresses up again and again until `stop`, whole passes, quiescent after each batch,
/// as a worker is. Gives lookups a second.
fn read<F: Family>(reader: &Reader<F>, addresses: &[F], stop: &AtomicBool) -> f64 {
    let mut raw = [0u64; BATCH_MAX];
    let start = Instant::now();
    let mut done = 0;
    'all: loop {
        for batch in addresses.chunks_exact(BATCH_MAX) {
            reader.lookup_batch(batch, &mut raw);
            black_box(&mut raw);
            reader.quiescent();
            done += batch.len();
            if stop.load(Relaxed) && done >= addresses.len() {
                break 'all;
            }
        }
    }
    done as f64 / start.elapsed().as_secs_f64()
}

/// Keeps the core busy without touching memory.
fn spin(time: Duration) {
    let start = Instant::now();
    let mut n = 1u64;
    while start.elapsed() < time {
        for _ in 0..1000 {
            n = black_box(n.wrapping_mul(0x5851_f42d_4c95_7f2d));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times = (1..=1000).rev().collect();
        let latency = percentiles(times);
        assert_eq!(
            (latency.p50, latency.p99, latency.max),
            (501.0, 991.0, 1000.0)
        );
        assert_eq!(percentiles(vec![7]).p99, 7.0);
        assert_eq!(percentiles(Vec::new()).max, 0.0);
    }

    #[test]
    fn a_replay_leaves_what_the_updates_say() {
        let [a, b] = ["10.0.0.0/8", "10.1.0.0/16"].map(|net| net.parse().unwrap());
        let (mut writer, _) = build::<u32>(&[(a, 1)]).unwrap();
        let updates: [Update<u32>; 4] = [
            Update::Announce(b, 2),
            Update::Withdraw(a),
            Update::Withdraw(a),
            Update::Announce(a, 3),
        ];
        assert!(replay(&mut writer, &updates).unwrap() > 0.0);
        let routes: Vec<_> = writer
            .iter()
            .map(|(net, hop)| (net, hop.to_raw()))
            .collect();
        assert_eq!(routes, [(a, 3), (b, 2)]);
        assert!(latency(&mut writer, &updates).unwrap().max > 0.0);
    }

    #[test]
    fn a_reader_ends_when_told_but_not_before_a_pass() {
        let (mut writer, _) = build::<u32>(&[]).unwrap();
        let reader = writer.reader().unwrap();
        assert!(read(&reader, &[1; 4 * BATCH_MAX], &AtomicBool::new(true)) > 0.0);
    }
}
