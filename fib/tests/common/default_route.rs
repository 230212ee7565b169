//! The default route, which is held apart from the table, beside readers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shunt_fib::{FibReader, NextHopIndex};

use super::storm::StopOnDrop;
use super::{Tested, at, hop, host, net};

const A: u16 = 1;
const B: u16 = 2;
const LONG: [u16; 2] = [3, 4];
/// The route that comes and goes: 64 /24s, so that a batch takes longer than its removal.
const WIDE: (u32, u8) = (0x0a00_0000, 18);
/// And one address, which has a group.
const HOST: u32 = 0x0b00_0005;

/// What readers may see: the longer routes are missing only while the default is B.
fn allows(top: u32, value: Option<NextHopIndex>) -> bool {
    let inside = top == HOST || top >> (32 - WIDE.1) == WIDE.0 >> (32 - WIDE.1);
    let Some(value) = value.map(NextHopIndex::get) else {
        return false;
    };
    match value {
        B => true,
        A => !inside,
        _ => inside && LONG.contains(&value),
    }
}

/// Looks up until told to stop, and counts itself in `content` once it has seen both defaults.
/// Returns what was wrong.
fn read<F: Tested>(
    reader: &FibReader<F>,
    content: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<(), String> {
    let tops: [u32; 512] = std::array::from_fn(|n| {
        let n = n as u32;
        [WIDE.0 | n << 5, HOST, n << 20 | 1][n as usize % 3]
    });
    let outside = 2;
    let addresses = tops.map(at::<F>);
    let mut raw = [0u16; 512];
    let mut seen = [false; 2];
    while !stop.load(Ordering::Relaxed) {
        reader.lookup_batch(&addresses, &mut raw);
        let single = addresses.map(|address| reader.lookup(address.into()));
        for ((&top, &raw), single) in tops.iter().zip(&raw).zip(single) {
            for value in [NextHopIndex::from_raw(raw), single] {
                if !allows(top, value) {
                    return Err(format!("{top:#010x} gave {value:?}"));
                }
            }
        }
        // The default is one and the same for all of a batch.
        let default = raw[outside];
        if raw.iter().skip(outside).step_by(3).any(|r| *r != default) {
            return Err("a batch has seen two default routes".into());
        }
        let before = seen;
        seen[usize::from(default - A - 1)] = true;
        if before != seen && seen == [true; 2] {
            content.fetch_add(1, Ordering::Relaxed);
        }
        reader.quiescent();
    }
    Ok(())
}

pub(crate) fn no_reader_takes_an_old_default_for_a_newer_miss<F: Tested>() {
    let mut writer = F::writer(32_768, 2, Duration::from_secs(20));
    let default = net::<F>(0, 0);
    let longer = [net::<F>(WIDE.0, WIDE.1), host::<F>(HOST)];
    for net in longer {
        writer.insert(net, hop(LONG[0])).unwrap();
    }
    writer.insert(default, hop(A)).unwrap();
    let readers = [writer.reader().unwrap(), writer.reader().unwrap()];
    let (content, stop) = (AtomicUsize::new(0), AtomicBool::new(false));

    thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let threads = readers.map(|reader| {
            let (content, stop) = (&content, &stop);
            scope.spawn(move || read(&reader, content, stop))
        });
        let start = Instant::now();
        let mut cycles = 0_u32;
        // On a busy machine a reader may take its time.
        let enough = || match content.load(Ordering::Relaxed) {
            2 => Duration::from_millis(800),
            _ => Duration::from_secs(60),
        };
        while start.elapsed() < enough() && !threads.iter().any(|t| t.is_finished()) {
            assert_eq!(writer.insert(default, hop(B)), Ok(Some(hop(A))));
            for net in longer {
                assert_eq!(writer.remove(net), Ok(Some(hop(LONG[0]))));
            }
            for net in longer {
                assert_eq!(writer.insert(net, hop(LONG[1])), Ok(None));
            }
            assert_eq!(writer.insert(default, hop(A)), Ok(Some(hop(B))));
            for net in longer {
                let old = writer.insert(net, hop(LONG[0]));
                assert_eq!(old, Ok(Some(hop(LONG[1]))));
            }
            cycles += 1;
            if cycles.is_multiple_of(8) {
                // Or hardly a batch would fall into the time of A.
                thread::sleep(Duration::from_micros(100));
            }
        }
        drop(stopping);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
        assert_eq!(content.load(Ordering::Relaxed), 2);
    });
}

pub(crate) fn a_default_route_comes_and_goes_like_another<F: Tested>() {
    let mut writer = F::writer(64, 1, Duration::from_secs(20));
    let reader = writer.reader().unwrap();
    let default = net::<F>(0, 0);
    let ten = net::<F>(0x0a00_0000, 8);
    let inside = at::<F>(0x0a00_0001).into();
    let outside = at::<F>(0x0c00_0001).into();
    assert_eq!(writer.remove(default), Ok(None));
    assert_eq!(writer.insert(default, hop(A)), Ok(None));
    assert_eq!(F::shared_bytes(&writer), 0);

    // A route with the default's own value is in the table all the same.
    writer.insert(ten, hop(A)).unwrap();
    assert_eq!(writer.insert(default, hop(B)), Ok(Some(hop(A))));
    assert_eq!(reader.lookup(inside), Some(hop(A)));
    assert_eq!(reader.lookup(outside), Some(hop(B)));
    // And it leaves the table when only the default, of the same value, lies around it.
    writer.insert(default, hop(A)).unwrap();
    writer.remove(ten).unwrap();
    assert_eq!(writer.lookup(inside), Some((default, hop(A))));
    assert_eq!(writer.remove(default), Ok(Some(hop(A))));
    assert_eq!(reader.lookup(inside), None);
    assert_eq!(reader.lookup(outside), None);
    assert!(writer.is_empty());
}
