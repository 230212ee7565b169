//! The IPv4 table with readers beside the writer: what they see, and what they hold up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::oracle::{hop, net};
use ipnet::Ipv4Net;
use shunt_fib::{Fib4Config, Fib4Reader, Fib4Writer, FibError, NextHopIndex, PoolUse};

fn writer(groups: u16, readers: usize, reclaim_wait: Duration) -> Fib4Writer {
    Fib4Writer::new(Fib4Config {
        groups,
        readers,
        reclaim_wait,
    })
    .unwrap()
}

/// Inserts and removes a host route in the `n`-th /24, which uses up one group.
fn churn(writer: &mut Fib4Writer, n: u32) -> Result<(), FibError> {
    let host = net(0x0a00_0000 | n << 8, 32);
    writer.insert(host, hop(1))?;
    assert_eq!(writer.remove(host), Ok(Some(hop(1))));
    Ok(())
}

#[test]
fn groups_run_out_and_come_back() {
    let mut writer = writer(3, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    let host = |slot: u32, host: u32| net(slot << 8 | host, 32);
    for slot in 0..3 {
        writer.insert(host(slot, 1), hop(slot as u16)).unwrap();
    }
    let before = writer.memory();
    let error = writer.insert(host(3, 1), hop(3)).unwrap_err();
    assert_eq!(
        error,
        FibError::PoolExhausted {
            pool: "groups",
            limit: 3,
            used: 3,
            held: 0,
            lagging: 0
        }
    );
    assert!(error.to_string().contains("raise `groups`"));

    // Nothing has changed, and what needs no new group still goes in.
    assert_eq!(writer.memory(), before);
    assert_eq!(writer.get(host(3, 1)), None);
    assert_eq!(writer.len(), 3);
    assert_eq!(reader.lookup(0x301.into()), None);
    assert_eq!(writer.insert(host(2, 2), hop(4)), Ok(None));
    assert_eq!(writer.insert(host(2, 1), hop(5)), Ok(Some(hop(2))));
    assert_eq!(writer.insert(net(0x300, 24), hop(6)), Ok(None));

    // A /24 gives its group back with the last of its longer routes.
    writer.remove(host(2, 1)).unwrap();
    reader.quiescent();
    assert!(writer.insert(host(3, 1), hop(3)).is_err());
    writer.remove(host(2, 2)).unwrap();
    reader.quiescent();
    assert_eq!(writer.insert(host(3, 1), hop(3)), Ok(None));
    assert_eq!(
        [0x001, 0x101, 0x201, 0x202, 0x300, 0x301, 0x302].map(|a: u32| reader.lookup(a.into())),
        [Some(0), Some(1), None, None, Some(6), Some(3), Some(6)].map(|index| index.map(hop))
    );
}

#[test]
fn a_table_without_groups_takes_prefixes_up_to_24() {
    let mut writer = writer(0, 0, Duration::from_secs(60));
    let start = Instant::now();
    let error = writer.insert(net(0, 25), hop(1)).unwrap_err();
    assert_eq!(
        error,
        FibError::PoolExhausted {
            pool: "groups",
            limit: 0,
            used: 0,
            held: 0,
            lagging: 0
        }
    );
    // There was nobody to wait for.
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(writer.insert(net(0, 24), hop(1)), Ok(None));
}

#[test]
fn a_reader_that_is_never_quiescent_ends_in_an_error() {
    let wait = Duration::from_millis(20);
    let mut writer = writer(4, 1, wait);
    let reader = writer.reader().unwrap();
    for n in 0..4 {
        churn(&mut writer, n).unwrap();
    }
    let before = (writer.memory(), writer.groups());
    for n in 4..8 {
        let start = Instant::now();
        let error = churn(&mut writer, n).unwrap_err();
        assert!(start.elapsed() >= wait);
        assert_eq!(
            error,
            FibError::PoolExhausted {
                pool: "groups",
                limit: 4,
                used: 0,
                held: 4,
                lagging: 1
            }
        );
        assert!(error.to_string().contains("quiescent()"));
        assert_eq!((writer.memory(), writer.groups()), before);
        assert_eq!(reader.lookup((0x0a00_0000 | n << 8).into()), None);
    }
    assert_eq!(writer.reclaim(), 0);

    reader.quiescent();
    assert_eq!(writer.reclaim(), 4);
    assert_eq!(
        writer.groups(),
        PoolUse {
            limit: 4,
            used: 0,
            retired: 0,
            touched: 4
        }
    );
    churn(&mut writer, 8).unwrap();
}

#[test]
fn the_writer_waits_for_a_reader_that_comes() {
    let mut writer = writer(1, 1, Duration::from_secs(60));
    let reader = writer.reader().unwrap();
    churn(&mut writer, 0).unwrap();
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        reader.quiescent();
        reader
    });
    let start = Instant::now();
    churn(&mut writer, 1).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(10));
    late.join().unwrap();
}

#[test]
fn an_offline_reader_holds_nothing_up() {
    let mut writer = writer(1, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    writer.insert(net(0x0b00_0000, 8), hop(7)).unwrap();
    reader.offline();
    for n in 0..100 {
        churn(&mut writer, n).unwrap();
    }
    // Quiescent is not online.
    reader.quiescent();
    churn(&mut writer, 100).unwrap();
    churn(&mut writer, 101).unwrap();

    // A lookup is: the reader is waited for again.
    assert_eq!(reader.lookup(0x0b00_0001.into()), Some(hop(7)));
    churn(&mut writer, 102).unwrap();
    assert!(churn(&mut writer, 103).is_err());
    reader.offline();
    churn(&mut writer, 104).unwrap();

    let mut raw = [0u16];
    reader.lookup_batch(&[0x0b00_0001], &mut raw);
    assert_eq!(raw, [8]);
    churn(&mut writer, 105).unwrap();
    assert!(churn(&mut writer, 106).is_err());
    reader.offline();
    reader.online();
    assert!(churn(&mut writer, 107).is_ok());
    assert!(churn(&mut writer, 108).is_err());
}

#[test]
fn readers_are_counted_while_they_live() {
    let mut writer = writer(1, 2, Duration::ZERO);
    let (first, second) = (writer.reader().unwrap(), writer.reader().unwrap());
    assert_eq!(
        writer.reader().unwrap_err(),
        FibError::ReadersExhausted { limit: 2 }
    );
    churn(&mut writer, 0).unwrap();
    drop(first);
    assert!(churn(&mut writer, 1).is_err());
    thread::spawn(move || drop(second)).join().unwrap();
    churn(&mut writer, 1).unwrap();
    let again = (writer.reader().unwrap(), writer.reader().unwrap());
    assert!(writer.reader().is_err());
    drop(again);
}

#[test]
fn a_flush_waits_for_every_online_reader() {
    let wait = Duration::from_millis(5);
    let mut writer = writer(2, 3, wait);
    writer.flush().unwrap();
    let (a, b) = (writer.reader().unwrap(), writer.reader().unwrap());
    assert_eq!(
        writer.flush(),
        Err(FibError::ReadersLagging {
            lagging: 2,
            waited: wait
        })
    );
    b.offline();
    churn(&mut writer, 0).unwrap();
    assert_eq!(
        writer.flush(),
        Err(FibError::ReadersLagging {
            lagging: 1,
            waited: wait
        })
    );
    // What was quiescent before a flush does not count for it.
    a.quiescent();
    assert!(writer.flush().is_err());
    assert_eq!(writer.groups().retired, 0);
    a.offline();
    writer.flush().unwrap();
}

#[test]
fn readers_outlive_the_writer() {
    let mut writer = writer(1, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    writer.insert(net(0x0a00_0001, 32), hop(3)).unwrap();
    drop(writer);
    assert_eq!(reader.lookup(0x0a00_0001.into()), Some(hop(3)));
    reader.quiescent();
}

#[test]
fn too_many_groups_are_refused() {
    let config = Fib4Config {
        groups: Fib4Config::MAX_GROUPS + 1,
        ..Fib4Config::default()
    };
    let error = Fib4Writer::<NextHopIndex>::new(config).unwrap_err();
    assert_eq!(
        error,
        FibError::PoolTooLarge {
            pool: "groups",
            asked: 32_769,
            limit: 32_768
        }
    );
}

#[test]
fn all_groups_can_be_in_use() {
    let mut writer = writer(Fib4Config::MAX_GROUPS, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    let slots = u32::from(Fib4Config::MAX_GROUPS);
    let value = |slot: u32| hop((slot % 32_767) as u16);
    for slot in 0..slots {
        writer
            .insert(net(slot << 8 | 255, 32), value(slot))
            .unwrap();
    }
    assert!(writer.insert(net(slots << 8, 32), hop(0)).is_err());
    for slot in 0..slots {
        assert_eq!(reader.lookup((slot << 8 | 255).into()), Some(value(slot)));
        assert_eq!(reader.lookup((slot << 8 | 254).into()), None);
    }
    assert_eq!(writer.memory().second_level.touched, 16 << 20);
}

/// What the readers of the storm look at: /24s under one /16, all of which come and go.
pub(crate) mod storm {
    use super::*;

    pub(super) const SLOTS: u32 = 64;
    /// /24s with longer routes at a time.
    pub(super) const LIVE: u32 = 6;
    /// Few to spare, so that every group is soon used again for another /24.
    pub(super) const GROUPS: u16 = 8;

    pub(super) const BASE: [u16; 2] = [1, 2];

    pub(super) fn base() -> Ipv4Net {
        net(0x0a00_0000, 16)
    }

    /// The upper half of a /24, and one address of the lower half.
    pub(super) fn routes(slot: u32) -> [(Ipv4Net, NextHopIndex); 2] {
        let start = 0x0a00_0000 | slot << 8;
        [
            (net(start | 128, 25), hop(100 + slot as u16)),
            (net(start | 5, 32), hop(200 + slot as u16)),
        ]
    }

    /// The values an address may have at any time: that of the /16, or its own /24's.
    pub(super) fn allows(address: u32, value: Option<NextHopIndex>) -> bool {
        let Some(value) = value.map(NextHopIndex::get) else {
            return false;
        };
        let slot = (address >> 8 & 0xff) as u16;
        BASE.contains(&value)
            || address & 0x80 != 0 && value == 100 + slot
            || address & 0xff == 5 && value == 200 + slot
    }

    pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Looks up until told to stop; returns the number of batches, or what was wrong.
    pub(super) fn read(reader: &Fib4Reader, seed: u32, stop: &AtomicBool) -> Result<u64, String> {
        let mut state = seed;
        let mut addresses = [0u32; 512];
        let mut raw = [0u16; 512];
        let mut batches = 0;
        while !stop.load(Ordering::Relaxed) {
            for address in &mut addresses {
                // Xorshift32 (Marsaglia 2003).
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                let low = if state & 0x300 == 0 { 5 } else { state & 0xff };
                *address = 0x0a00_0000 | ((state >> 16) % SLOTS) << 8 | low;
            }
            reader.lookup_batch(&addresses, &mut raw);
            let single = addresses.map(|address| reader.lookup(address.into()));
            for ((&address, &raw), single) in addresses.iter().zip(&raw).zip(single) {
                for value in [NextHopIndex::from_raw(raw), single] {
                    if !allows(address, value) {
                        return Err(format!("{address:#010x} gave {value:?}"));
                    }
                }
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
                _ => reader.quiescent(),
            }
        }
        Ok(batches)
    }
}

#[test]
fn readers_see_old_or_new_while_the_writer_churns() {
    use storm::*;

    let mut writer = writer(GROUPS, 2, Duration::from_secs(20));
    writer.insert(base(), hop(BASE[0])).unwrap();
    let readers = [writer.reader().unwrap(), writer.reader().unwrap()];
    let stop = AtomicBool::new(false);

    thread::scope(|scope| {
        // Also when an assertion fails here: the scope waits for its threads.
        let stopping = StopOnDrop(&stop);
        let threads = readers.map(|reader| {
            let stop = &stop;
            scope.spawn(move || read(&reader, 0x9e37_79b9, stop))
        });
        let start = Instant::now();
        let mut turns = 0u32;
        while start.elapsed() < Duration::from_millis(1200)
            && !threads.iter().any(|t| t.is_finished())
        {
            for (net, hop) in routes(turns % SLOTS) {
                writer.insert(net, hop).unwrap();
            }
            if turns >= LIVE {
                for (net, hop) in routes((turns - LIVE) % SLOTS) {
                    assert_eq!(writer.remove(net), Ok(Some(hop)));
                }
            }
            if turns.is_multiple_of(16) {
                writer
                    .insert(base(), hop(BASE[turns as usize / 16 % 2]))
                    .unwrap();
            }
            turns += 1;
        }
        drop(stopping);
        for thread in threads {
            let batches = thread.join().unwrap().unwrap();
            assert!(batches > 100, "only {batches} batches were looked up");
        }
        assert!(
            turns > 10 * u32::from(GROUPS),
            "groups were hardly used again: {turns} turns"
        );
    });

    let reader = writer.reader().unwrap();
    for address in 0x0a00_0000..0x0a01_0000u32 {
        let expected = writer.lookup(address.into()).map(|(_, hop)| hop);
        assert_eq!(reader.lookup(address.into()), expected, "{address:#010x}");
    }
}
