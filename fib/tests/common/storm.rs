//! Readers that check every answer while the writer changes the table.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shunt_fib::{FibReader, FibWriter, NextHopIndex};

use super::Tested;

/// Addresses of a batch.
const BATCH: usize = 512;

/// Batches with the same addresses: to draw addresses and to check answers takes much longer than
/// to look up, and only what happens during a lookup counts.
const SAME: u64 = 16;

/// What the readers of a storm ask, and which answers are right.
pub(crate) trait Scene<F: Tested>: Sync {
    /// An address to look up, drawn with 64 random bits.
    fn address(&self, random: u64) -> F::Address;

    /// True if the address has this next hop at some time of the storm.
    fn allows(&self, address: F::Address, hop: Option<u16>) -> bool;
}

/// Stops readers, also when an assertion fails beside them: a scope waits for its threads.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Changes the table, a `turn` after the other with its number, for as long as `time`, beside two
/// readers. Returns the number of turns.
///
/// # Panics
///
/// If a reader finds an answer that the scene does not allow, or found few at all.
pub(crate) fn storm<F: Tested>(
    writer: &mut FibWriter<F>,
    scene: &impl Scene<F>,
    time: Duration,
    mut turn: impl FnMut(&mut FibWriter<F>, u32),
) -> u32 {
    let readers = [writer.reader().unwrap(), writer.reader().unwrap()];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        let threads = readers.map(|reader| {
            seed += 1;
            let stop = &stop;
            scope.spawn(move || read(&reader, scene, seed, stop))
        });
        let start = Instant::now();
        let mut turns = 0;
        while start.elapsed() < time && !threads.iter().any(|thread| thread.is_finished()) {
            turn(writer, turns);
            turns += 1;
        }
        drop(stopping);
        // All that was found wrong comes before what that cut short.
        for batches in threads.map(|thread| thread.join().unwrap().unwrap()) {
            assert!(batches > 100, "only {batches} batches were looked up");
        }
        turns
    })
}

/// Looks up until told to stop; returns the number of batches, or what was wrong.
fn read<F: Tested>(
    reader: &FibReader<F>,
    scene: &impl Scene<F>,
    seed: u64,
    stop: &AtomicBool,
) -> Result<u64, String> {
    let mut state = seed;
    let mut addresses = [<F::Address as shunt_fib::Address>::ZERO; BATCH];
    let (mut raw, mut checked) = ([0u16; BATCH], [0u16; BATCH]);
    let mut batches = 0;
    while !stop.load(Ordering::Relaxed) {
        if batches % SAME == 0 {
            for address in &mut addresses {
                // Xorshift64 (Marsaglia 2003).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *address = scene.address(state);
            }
            // Not an answer, so that every first answer is checked.
            checked = [u16::MAX; BATCH];
        }
        for how in ["batch", "single"] {
            if how == "batch" {
                reader.lookup_batch(&addresses, &mut raw);
            } else {
                raw = addresses.map(|address| {
                    let found = reader.lookup(address.into());
                    found.map_or(0, NextHopIndex::to_raw)
                });
            }
            if raw == checked {
                continue;
            }
            for ((&address, &raw), &checked) in addresses.iter().zip(&raw).zip(&checked) {
                if raw == checked {
                    continue;
                }
                let found = NextHopIndex::from_raw(raw).map(NextHopIndex::get);
                if !scene.allows(address, found) {
                    let ip: <F::Address as shunt_fib::Address>::Ip = address.into();
                    return Err(format!("{ip:?} gave {found:?} ({raw}) in a {how} lookup"));
                }
            }
            checked = raw;
        }
        batches += 1;
        match batches % 64 {
            0 => {
                reader.offline();
                thread::yield_now();
                reader.online();
            }
            // Leaves the way back online to the next lookup.
            32 => reader.offline(),
            // Lags behind.
            40..56 => (),
            _ => reader.quiescent(),
        }
    }
    Ok(batches)
}
