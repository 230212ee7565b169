//! A day of updates applied to our table, and the reader beside it.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Result;
use shunt_rib::Update;

use super::contest::BATCH_MAX;
use super::dpdk::Latency;
use super::family::{Family, Reader, Writer, index};

/// Updates between two looks at the clock.
const BURST: usize = 16;

#[inline]
fn apply<F: Family>(writer: &mut Writer<F>, update: &Update<F>) -> Result<()> {
    match *update {
        Update::Announce(net, hop) => writer.insert(net, index(hop))?,
        Update::Withdraw(net) => writer.remove(net)?,
    };
    Ok(())
}

/// Replays all updates; gives updates a second.
pub(super) fn replay<F: Family>(writer: &mut Writer<F>, updates: &[Update<F>]) -> Result<f64> {
    let start = Instant::now();
    for update in updates {
        apply(writer, update)?;
    }
    Ok(updates.len() as f64 / start.elapsed().as_secs_f64())
}

/// Replays the updates again and again, at `pace` updates a second or as fast as can be: the whole of
/// them, and until `time` is over. Gives the updates a second reached.
pub(super) fn churn<F: Family>(
    writer: &mut Writer<F>,
    updates: &[Update<F>],
    pace: Option<f64>,
    time: Duration,
) -> Result<f64> {
    let start = Instant::now();
    let mut done = 0;
    for burst in updates.chunks(BURST).cycle() {
        if let Some(pace) = pace {
            // To sleep would take longer than the pause is.
            let due = Duration::from_secs_f64(done as f64 / pace);
            while start.elapsed() < due {
                spin_loop();
            }
        }
        for update in burst {
            apply(writer, update)?;
        }
        done += burst.len();
        if done >= updates.len() && start.elapsed() >= time {
            break;
        }
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

/// Replays all updates and times each, with one reading of the clock an update, whose own time is
/// part of the figure.
pub(super) fn latency<F: Family>(writer: &mut Writer<F>, updates: &[Update<F>]) -> Result<Latency> {
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
pub(super) fn read<F: Family>(reader: &Reader<F>, addresses: &[F], stop: &AtomicBool) -> f64 {
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
pub(super) fn spin(time: Duration) {
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
    use super::super::lookups::build;
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
    fn a_paced_writer_keeps_its_pace_and_does_every_update() {
        let nets = ["10.0.0.0/8", "10.1.0.0/16"].map(|net| net.parse().unwrap());
        let updates: Vec<Update<u32>> = (0..200)
            .map(|n| Update::Announce(nets[n % 2], n as u16 + 1))
            .collect();
        let (mut writer, _) = build::<u32>(&[]).unwrap();
        let rate = churn(&mut writer, &updates, Some(1e4), Duration::ZERO).unwrap();
        // The last burst does not wait for its end.
        assert!(rate < 1.1e4, "{rate}");
        let hops: Vec<_> = writer.iter().map(|(_, hop)| hop.to_raw()).collect();
        assert_eq!(hops, [199, 200]);

        let time = Duration::from_millis(5);
        let start = Instant::now();
        assert!(churn(&mut writer, &updates, None, time).unwrap() > 0.0);
        assert!(start.elapsed() >= time);
    }

    #[test]
    fn a_reader_ends_when_told_but_not_before_a_pass() {
        let (mut writer, _) = build::<u32>(&[]).unwrap();
        let reader = writer.reader().unwrap();
        assert!(read(&reader, &[1u32; 4 * BATCH_MAX], &AtomicBool::new(true)) > 0.0);
    }
}
