//! Batches of every length, in every width.

use std::fmt::Debug;
use std::time::Duration;

use shunt_fib::{FibReader, RawWidth};
use shunt_rib::Oracle;

use super::{Tested, at, hop, host, net};

/// What stands behind the results and must stay.
const UNWRITTEN: u16 = 0xdead;

/// Marsaglia's xorshift: the same addresses at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32 % bound
    }
}

/// Compares a batch with what the oracle has for each address.
fn check<F: Tested, R: RawWidth + Debug>(
    reader: &FibReader<F>,
    addresses: &[F::Address],
    expected: &[u16],
) {
    let len = addresses.len();
    let mut raw = vec![R::from_raw(UNWRITTEN); len + 1];
    reader.lookup_batch(addresses, &mut raw[..len]);
    for (i, (raw, expected)) in raw.iter().zip(expected).enumerate() {
        let address = addresses[i];
        assert_eq!(*raw, R::from_raw(*expected), "{address:x?}, {i} of {len}");
    }
    assert_eq!(raw[len], R::from_raw(UNWRITTEN), "written beyond {len}");
    // With more room than addresses.
    raw.fill(R::from_raw(UNWRITTEN));
    reader.lookup_batch(addresses, &mut raw);
    assert!(
        raw.iter()
            .zip(expected)
            .all(|(raw, expected)| *raw == R::from_raw(*expected))
    );
    assert_eq!(raw[len], R::from_raw(UNWRITTEN), "written beyond {len}");
}

pub(crate) fn batches_of_every_length<F: Tested>() {
    let mut random = Random(2);
    let mut writer = F::writer(1024, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    let mut oracle = Oracle::<F::Address>::new(&[]);
    let mut routes = vec![(net::<F>(0x0a00_8000, 17), 9)];
    for index in 0..400 {
        let top = 0x0a00_0000 | random.below(1 << 16);
        let len = 25 + random.below(8) as u8;
        routes.push((net::<F>(top, len), 10 + index));
        // In IPv6, some of the routes are longer than the first stage.
        routes.push((host::<F>(0x0a00_0000 | random.below(1 << 16)), 1000 + index));
    }
    for (net, index) in routes {
        writer.insert(net, hop(index)).unwrap();
        oracle.insert(net, index);
    }
    for default in [None, Some(7), None] {
        match default {
            Some(index) => {
                writer.insert(net::<F>(0, 0), hop(index)).unwrap();
                oracle.insert(net::<F>(0, 0), index);
            }
            None => {
                writer.remove(net::<F>(0, 0)).unwrap();
                oracle.remove(net::<F>(0, 0));
            }
        }
        // Hits and misses; near the routes, all of them in a part of the table's levels, and far.
        for spread in [8, 16, 17] {
            for len in (0..=200).chain([255, 256, 257, 600]) {
                let tops = (0..len).map(|_| 0x0a00_0000 | random.below(1 << spread));
                let addresses: Vec<F::Address> = tops.map(at::<F>).collect();
                let expected: Vec<u16> = addresses
                    .iter()
                    .map(|address| oracle.lookup(*address).map_or(0, |(_, hop)| hop + 1))
                    .collect();
                check::<F, u16>(&reader, &addresses, &expected);
                check::<F, u32>(&reader, &addresses, &expected);
                check::<F, u64>(&reader, &addresses, &expected);
            }
        }
    }
}

pub(crate) fn batches_of_unequal_lengths_take_the_shorter<F: Tested>() {
    let mut writer = F::writer(2, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    writer.insert(host::<F>(0x0a00_0000), hop(1)).unwrap();
    writer.insert(net::<F>(0x0a00_0100, 24), hop(2)).unwrap();
    let (long, short) = (at::<F>(0x0a00_0000), at::<F>(0x0a00_0100));
    for count in 0..=200 {
        let addresses: Vec<F::Address> = [long, short].into_iter().cycle().take(count).collect();
        let expected = [2_u16, 3].into_iter().cycle();
        let mut raw = vec![7_u16; count + 3];
        reader.lookup_batch(&addresses, &mut raw);
        assert!(
            raw.iter()
                .copied()
                .eq(expected.clone().take(count).chain([7; 3]))
        );
        let mut raw = vec![7_u16; count.saturating_sub(1)];
        reader.lookup_batch(&addresses, &mut raw);
        assert!(raw.iter().copied().eq(expected.take(raw.len())));
    }
}
