//! The default route, which is held apart from the table, beside readers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::oracle::{hop, net};
use super::readers::storm::StopOnDrop;
use shunt_fib::{Fib4Config, Fib4Reader, Fib4Writer, NextHopIndex};

const A: u16 = 1;
const B: u16 = 2;
const LONG: [u16; 2] = [3, 4];
/// The route that comes and goes: 64 /24s, so that a batch takes longer than its removal, and one
/// address with a group.
const LONGER: [(u32, u8); 2] = [(0x0a00_0000, 18), (0x0b00_0005, 32)];

/// What readers may see: the longer routes are missing only while the default is B.
fn allows(address: u32, value: Option<NextHopIndex>) -> bool {
    let inside = LONGER
        .iter()
        .any(|&(base, len)| net(address, len) == net(base, len));
    let Some(value) = value.map(NextHopIndex::get) else {
        return false;
    };
    match value {
        B => true,
        A => !inside,
        _ => inside && LONG.contains(&value),
    }
}

/// Looks up until told to stop; returns whether both defaults were seen, or what was wrong.
fn read(reader: &Fib4Reader, stop: &AtomicBool) -> Result<[bool; 2], String> {
    let addresses: [u32; 512] = std::array::from_fn(|n| {
        let n = n as u32;
        [0x0a00_0000 | n << 5, 0x0b00_0005, n << 20 | 1][n as usize % 3]
    });
    let outside = 2;
    let mut raw = [0u16; 512];
    let mut seen = [false; 2];
    while !stop.load(Ordering::Relaxed) {
        reader.lookup_batch(&addresses, &mut raw);
        let single = addresses.map(|address| reader.lookup(address.into()));
        for ((&address, &raw), single) in addresses.iter().zip(&raw).zip(single) {
            for value in [NextHopIndex::from_raw(raw), single] {
                if !allows(address, value) {
                    return Err(format!("{address:#010x} gave {value:?}"));
                }
            }
        }
        // The default is one and the same for all of a batch.
        let default = raw[outside];
        if raw.iter().skip(outside).step_by(3).any(|r| *r != default) {
            return Err("a batch has seen two default routes".into());
        }
        seen[usize::from(default - A - 1)] = true;
        reader.quiescent();
    }
    Ok(seen)
}

#[test]
fn no_reader_takes_an_old_default_for_a_newer_miss() {
    let mut writer = Fib4Writer::new(Fib4Config {
        reclaim_wait: Duration::from_secs(20),
        ..Fib4Config::default()
    })
    .unwrap();
    let default = net(0, 0);
    for (base, len) in LONGER {
        writer.insert(net(base, len), hop(LONG[0])).unwrap();
    }
    writer.insert(default, hop(A)).unwrap();
    let readers = [writer.reader().unwrap(), writer.reader().unwrap()];
    let stop = AtomicBool::new(false);

    thread::scope(|scope| {
        // Also when an assertion fails here: the scope waits for its threads.
        let stopping = StopOnDrop(&stop);
        let threads = readers.map(|reader| {
            let stop = &stop;
            scope.spawn(move || read(&reader, stop))
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(800)
            && !threads.iter().any(|t| t.is_finished())
        {
            assert_eq!(writer.insert(default, hop(B)), Ok(Some(hop(A))));
            for (base, len) in LONGER {
                assert_eq!(writer.remove(net(base, len)), Ok(Some(hop(LONG[0]))));
            }
            for (base, len) in LONGER {
                assert_eq!(writer.insert(net(base, len), hop(LONG[1])), Ok(None));
            }
            assert_eq!(writer.insert(default, hop(A)), Ok(Some(hop(B))));
            for (base, len) in LONGER {
                let old = writer.insert(net(base, len), hop(LONG[0]));
                assert_eq!(old, Ok(Some(hop(LONG[1]))));
            }
        }
        drop(stopping);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok([true; 2]));
        }
    });
}

#[test]
fn a_default_route_comes_and_goes_like_another() {
    let mut writer = Fib4Writer::new(Fib4Config::default()).unwrap();
    let reader = writer.reader().unwrap();
    let default = net(0, 0);
    let (inside, outside) = (0x0a00_0001.into(), 0x0c00_0001.into());
    assert_eq!(writer.remove(default), Ok(None));
    assert_eq!(writer.insert(default, hop(A)), Ok(None));
    assert_eq!(writer.memory().first_level.touched, 0);

    // A route with the default's own value is in the table all the same.
    writer.insert(net(0x0a00_0000, 8), hop(A)).unwrap();
    assert_eq!(writer.insert(default, hop(B)), Ok(Some(hop(A))));
    assert_eq!(reader.lookup(inside), Some(hop(A)));
    assert_eq!(reader.lookup(outside), Some(hop(B)));
    // And it leaves the table when only the default, of the same value, lies around it.
    writer.insert(default, hop(A)).unwrap();
    writer.remove(net(0x0a00_0000, 8)).unwrap();
    assert_eq!(writer.lookup(inside), Some((default, hop(A))));
    assert_eq!(writer.remove(default), Ok(Some(hop(A))));
    assert_eq!(reader.lookup(inside), None);
    assert_eq!(reader.lookup(outside), None);
    assert!(writer.is_empty());
}
