//! A day of updates beside a reader at full speed: what the writer reaches, and what the reader
//! loses.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::family::{Family, Writer};
use super::lookups::build;
use super::replay::{churn, latency, read, spin};
use super::updates::{Alone, Day, Latencies};
use super::{SUITE, asked};
use crate::compare::Report;
use crate::core;
use crate::figures::{Better, Row, Series};

/// Updates a second asked for beside a reader, in millions; the reader's loss is measured at it.
const RATE: f64 = 4.0;
/// Microseconds that 99 % of the updates may take.
const P99: f64 = 1.0;
/// What a reader keeps of its rate.
const KEPT: f64 = 0.95;
/// The least time that a reader's rate is measured for.
const SAMPLE: Duration = Duration::from_millis(300);

/// Our writer beside a reader; a value a round.
#[derive(Default)]
struct Beside {
    /// Million updates a second, at the writer's full rate and paced.
    rates: [Series; 2],
    latencies: Latencies,
    /// Million lookups a second, while the writer works at its full rate and paced.
    reader: [Series; 2],
    /// The same beside each, while the writer's core is busy with nothing: the mean of before and
    /// after, on the same table.
    undisturbed: [Series; 2],
    /// The share that the reader keeps while the paced writer works on a table that nobody reads.
    elsewhere: Series,
    /// Busy share of both cores, summed: with the writer at its full rate, paced, and spinning.
    busy: [Series; 3],
}

/// Measures all rounds, and gives their rows.
///
/// # Errors
/// Our table refuses an update, a thread panics, or the user interrupts.
pub(super) fn measure<F: Family>(
    day: &Day<'_, F>,
    alone: &Alone,
    report: &mut Report,
) -> Result<()> {
    let mut beside = Beside::default();
    for round in 1..=day.run.options.rounds {
        eprintln!("{}: beside a reader, round {round}", day.name);
        day.run.interrupt.check()?;
        beside.round(day)?;
    }
    rows(day, alone, &beside, report);
    Ok(())
}

impl Beside {
    fn round<F: Family>(&mut self, day: &Day<'_, F>) -> Result<()> {
        let (mut writer, _) = build::<F>(day.routes)?;
        let mut spinning = |writer: &mut Writer<F>| -> Result<f64> {
            let ((), reader, busy) = with_reader(day, writer, |_| {
                spin(SAMPLE);
                Ok(())
            })?;
            self.busy[2].push(busy);
            Ok(reader / 1e6)
        };
        let paces = [None, Some(RATE * 1e6)];
        let mut before = spinning(&mut writer)?;
        let mut found = Vec::new();
        for pace in paces {
            let (rate, reader, busy) =
                with_reader(day, &mut writer, |w| churn(w, day.updates, pace, SAMPLE))?;
            let after = spinning(&mut writer)?;
            found.push((rate / 1e6, reader / 1e6, busy, f64::midpoint(before, after)));
            before = after;
        }
        for (place, (rate, reader, busy, undisturbed)) in found.into_iter().enumerate() {
            self.rates[place].push(rate);
            self.reader[place].push(reader);
            self.busy[place].push(busy);
            self.undisturbed[place].push(undisturbed);
        }

        let (mut other, _) = build::<F>(day.routes)?;
        let (_, reader, _) = with_reader(day, &mut writer, |_| {
            churn(&mut other, day.updates, paces[1], SAMPLE)
        })?;
        self.elsewhere.push(reader / 1e6 / before);

        let (mut writer, _) = build::<F>(day.routes)?;
        let (times, ..) = with_reader(day, &mut writer, |w| latency(w, day.updates))?;
        self.latencies.push(times);
        Ok(())
    }
}

/// Runs `work` on the writer's core while a reader looks addresses up on its own. Gives what the
/// work gives, the reader's lookups a second, and the busy shares of both cores, summed.
fn with_reader<F: Family, T: Send>(
    day: &Day<'_, F>,
    writer: &mut Writer<F>,
    work: impl FnOnce(&mut Writer<F>) -> Result<T> + Send,
) -> Result<(T, f64, f64)> {
    let cores = [day.run.core, day.run.writer_core];
    let reader = writer.reader()?;
    let busy = [core::Time::of(cores[0])?, core::Time::of(cores[1])?];
    let addresses = day.addresses;
    let (rate, done) = side_by_side(
        move |ready, stop| {
            core::pin(cores[0])?;
            // Brings the table into the caches.
            read(&reader, addresses, &AtomicBool::new(true));
            ready.send(())?;
            Ok(read(&reader, addresses, stop))
        },
        || core::pin(cores[1]),
        || work(writer),
    )?;
    let mut sum = 0.0;
    for (core, earlier) in cores.into_iter().zip(busy) {
        sum += core::Time::of(core)?.busy_since(earlier);
    }
    Ok((done, rate, sum))
}

/// Sets the flag when it goes, also by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Two threads. `reading` says when it is ready, and ends by the flag; `writing` prepares, begins
/// when both are ready, and sets the flag however it ends. Neither waits for one that is gone.
///
/// # Errors
/// One of them fails or panics.
fn side_by_side<R: Send, W: Send>(
    reading: impl FnOnce(SyncSender<()>, &AtomicBool) -> Result<R> + Send,
    prepare: impl FnOnce() -> Result<()> + Send,
    writing: impl FnOnce() -> Result<W> + Send,
) -> Result<(R, W)> {
    let stop = &AtomicBool::new(false);
    // Of no capacity: the reader, too, waits for the writer.
    let (ready, is_ready) = sync_channel(0);
    let (read, written) = thread::scope(|scope| {
        let reading = scope.spawn(move || reading(ready, stop));
        let writing = scope.spawn(move || {
            let _stop = Stop(stop);
            prepare()?;
            let begin = is_ready.recv();
            drop(is_ready);
            begin.context("the reader ended before it began")?;
            writing()
        });
        (reading.join(), writing.join())
    });
    let died = |who| move |_| anyhow!("the {who}'s thread of the measurement has panicked");
    let (read, written) = match (
        read.map_err(died("reader")),
        written.map_err(died("writer")),
    ) {
        // A panic is the cause of the other's error.
        (Err(error), _) | (_, Err(error)) => return Err(error),
        (Ok(read), Ok(written)) => (read, written),
    };
    match (read, written) {
        (Ok(read), Ok(written)) => Ok((read, written)),
        // The writer waits in vain for a reader that fails, and the other way round.
        (Err(error), Err(other)) => Err(error.context(other)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn rows<F: Family>(day: &Day<'_, F>, alone: &Alone, beside: &Beside, report: &mut Report) {
    let case = |what: &str| format!("{}, beside a reader{what}", day.name);
    let Latencies { p50, p99, max } = &beside.latencies;
    let [full, paced, spinning] = &beside.busy;
    let asked_for = |case: &str, unit, ours, number, better, limit| Row {
        cpu_ours: full.median(),
        limited_by: limit,
        ..asked([case, unit], ours, number, better)
    };
    let reader = |what: &str, place: usize, target| {
        Row::paired(
            [
                SUITE.name,
                &case(&format!(", the reader's rate at {what}")),
                "itself, no updates",
                "M lookups/s",
            ],
            (&beside.reader[place], &beside.undisturbed[place]),
            Better::Higher,
            target,
        )
    };
    // A limit is what misses the target by itself.
    let limit = |misses: bool, text: &dyn Fn() -> String| misses.then(text);
    let alone_p99 = alone.latencies.p99.median();
    let elsewhere = beside.elsewhere.median();
    report.notes.push(format!(
        "{}: p50 {:.2} us, longest {:.0} us, each with the clock's own time",
        case(""),
        p50.median(),
        max.median()
    ));
    let reached = beside.rates[1].median();
    // A writer that is now and then behind catches up at once.
    if reached < 0.99 * RATE {
        report.notes.push(format!(
            "{}: the writer reached {reached:.2} instead of {RATE} M updates/s where the reader's \
             loss at that rate was measured",
            day.name
        ));
    }
    let rows = [
        asked_for(
            &case(""),
            "M updates/s",
            &beside.rates[0],
            RATE,
            Better::Higher,
            limit(alone.rates.median() < RATE, &|| {
                format!("the writer alone: {:.1} M/s", alone.rates.median())
            }),
        ),
        asked_for(
            &case(", p99"),
            "us",
            p99,
            P99,
            Better::Lower,
            limit(alone_p99 > P99, &|| {
                format!("the writer alone: p99 {alone_p99:.2} us")
            }),
        ),
        Row {
            cpu_ours: paced.median(),
            cpu_theirs: spinning.median(),
            limited_by: limit(elsewhere < KEPT, &|| {
                format!("the same updates to a table that nobody reads leave {elsewhere:.2} of it")
            }),
            ..reader(&format!("{RATE} M updates/s"), 1, Some(KEPT))
        },
        Row {
            cpu_ours: full.median(),
            cpu_theirs: spinning.median(),
            ..reader("the writer's full rate", 0, None)
        },
    ];
    report.rows.extend(rows.map(|row| Row {
        placement: format!(
            "reader on core {}, writer on core {}; {}",
            day.run.core, day.run.writer_core, day.run.pages
        ),
        limited_by: row.limited_by.clone().filter(|_| !row.met),
        ..row
    }));
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn until(stop: &AtomicBool) {
        while !stop.load(Relaxed) {
            thread::yield_now();
        }
    }

    fn patient(ready: SyncSender<()>, stop: &AtomicBool) -> Result<u8> {
        ready.send(())?;
        until(stop);
        Ok(1)
    }

    #[test]
    fn both_results_are_given() {
        let both = side_by_side(patient, || Ok(()), || Ok(2)).unwrap();
        assert_eq!(both, (1, 2));
    }

    #[test]
    fn a_writer_that_panics_or_fails_stops_the_reader() {
        let panics = side_by_side(
            patient,
            || Ok(()),
            || -> Result<()> { panic!("on purpose") },
        );
        assert!(panics.unwrap_err().to_string().contains("writer's thread"));
        let fails = side_by_side(patient, || Ok(()), || -> Result<()> { bail!("full") });
        assert_eq!(fails.unwrap_err().to_string(), "full");
        // Before the reader is ready, too: it finds nobody there.
        let early = side_by_side(patient, || bail!("no such core"), || Ok(()));
        assert!(format!("{:#}", early.unwrap_err()).contains("no such core"));
    }

    #[test]
    fn a_reader_that_panics_or_fails_before_it_is_ready_leaves_no_writer_waiting() {
        let panics = side_by_side(
            |_ready, _| -> Result<()> { panic!("on purpose") },
            || Ok(()),
            || Ok(()),
        );
        assert!(panics.unwrap_err().to_string().contains("reader's thread"));
        let fails = side_by_side(
            |_ready, _| -> Result<()> { bail!("no such core") },
            || Ok(()),
            || Ok(()),
        );
        assert!(format!("{:#}", fails.unwrap_err()).contains("no such core"));
    }
}
