//! The MAC table of an L2 domain: lock-free readers, one writer.
//!
//! A slot is one `u64`, `MAC << 16 | port`, so a reader sees an old or a new entry and never half
//! of one. A MAC may live in either of two buckets of eight slots (one cache line each). Beside
//! each slot stands the second in which its MAC was last seen; workers write only that.
//!
//! The writer (the control thread) is the only one that adds, moves and removes entries.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shunt_api::MacAddr;

use super::PortId;

const SLOTS: usize = 8;
const EMPTY: u64 = 0;
/// Stands for "seen" in entries that never age and never move.
const STATIC: u32 = u32::MAX;

/// One cache line of slots.
#[repr(align(64))]
struct Bucket([AtomicU64; SLOTS]);

/// A MAC table. All methods may be called from any thread; those that write only from one.
pub struct Fdb {
    buckets: Box<[Bucket]>,
    seen: Box<[AtomicU32]>,
    mask: usize,
    /// Random: a station cannot choose MACs that fill another's buckets.
    secret: [u64; 2],
}

/// An entry, as the control thread lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbRow {
    /// The station.
    pub mac: MacAddr,
    /// The port behind which it was last seen.
    pub port: PortId,
    /// The second of the switch's clock in which it was last seen; `None` for a static entry.
    pub seen: Option<u32>,
}

/// What [`Fdb::learn`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// A new station.
    New,
    /// Known behind this port already.
    Known,
    /// Moved here from this port.
    Moved(PortId),
    /// Pinned to another port by a static entry.
    Pinned(PortId),
    /// The table has no room.
    Full,
}

#[inline]
fn key(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

impl Fdb {
    /// A table for up to `limit` stations.
    pub fn new(limit: usize) -> Self {
        // Twice the room: with two buckets to choose from, a bucket then practically never
        // overflows before the limit is reached.
        let buckets = (limit.max(SLOTS) * 2 / SLOTS).next_power_of_two();
        Self {
            buckets: (0..buckets)
                .map(|_| Bucket(std::array::from_fn(|_| AtomicU64::new(EMPTY))))
                .collect(),
            seen: (0..buckets * SLOTS).map(|_| AtomicU32::new(0)).collect(),
            mask: buckets - 1,
            secret: std::array::from_fn(|n| RandomState::new().hash_one(n)),
        }
    }

    /// The two buckets, different ones, in which `key` may be.
    #[inline]
    fn candidates(&self, key: u64) -> [usize; 2] {
        // Two rounds: one multiplication alone piles up MACs that are numbered in a row.
        let mut hash = (key ^ self.secret[0]).wrapping_mul(self.secret[1] | 1);
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (hash >> 40) as usize & self.mask;
        [first, first ^ ((hash >> 16) as usize & self.mask | 1)]
    }

    #[inline]
    fn find(&self, key: u64) -> Option<(usize, u64)> {
        for bucket in self.candidates(key) {
            let Some(slots) = self.buckets.get(bucket) else {
                continue;
            };
            for (slot, entry) in slots.0.iter().enumerate() {
                let entry = entry.load(Ordering::Relaxed);
                if entry >> 16 == key && entry != EMPTY {
                    return Some((bucket * SLOTS + slot, entry));
                }
            }
        }
        None
    }

    #[inline]
    fn slot(&self, index: usize) -> &AtomicU64 {
        &self.buckets[index / SLOTS].0[index % SLOTS]
    }

    /// The port behind which `mac` is.
    #[inline]
    pub fn lookup(&self, mac: MacAddr) -> Option<PortId> {
        self.find(key(mac)).map(|(_, entry)| PortId(entry as u16))
    }

    /// Whether `mac` is pinned to a port.
    pub fn is_static(&self, mac: MacAddr) -> bool {
        self.find(key(mac))
            .is_some_and(|(index, _)| self.seen[index].load(Ordering::Relaxed) == STATIC)
    }

    /// Marks `mac` as seen at second `now` and tells behind which port it is known.
    #[inline]
    pub fn refresh(&self, mac: MacAddr, now: u32) -> Option<PortId> {
        let (index, entry) = self.find(key(mac))?;
        let seen = &self.seen[index];
        // Written once a second at most, so the line stays shared between the cores.
        let last = seen.load(Ordering::Relaxed);
        if last != now && last != STATIC {
            // Not over what the writer has put there meanwhile, such as a pin.
            let _ = seen.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        }
        Some(PortId(entry as u16))
    }

    /// Writer: notes that `mac` was seen behind `port` at second `now`.
    pub fn learn(&self, mac: MacAddr, port: PortId, now: u32) -> Learned {
        let key = key(mac);
        let entry = key << 16 | u64::from(port.0);
        if let Some((index, old)) = self.find(key) {
            if old == entry {
                self.refresh(mac, now);
                return Learned::Known;
            }
            if self.seen[index].load(Ordering::Relaxed) == STATIC {
                return Learned::Pinned(PortId(old as u16));
            }
            self.seen[index].store(now, Ordering::Relaxed);
            self.slot(index).store(entry, Ordering::Relaxed);
            return Learned::Moved(PortId(old as u16));
        }
        self.insert(key, entry, now)
    }

    /// Writer: pins `mac` to `port`: it does not age and does not move.
    pub fn pin(&self, mac: MacAddr, port: PortId) -> Learned {
        let key = key(mac);
        let entry = key << 16 | u64::from(port.0);
        match self.find(key) {
            None => self.insert(key, entry, STATIC),
            Some((index, old)) => {
                self.slot(index).store(entry, Ordering::Relaxed);
                self.seen[index].store(STATIC, Ordering::Relaxed);
                let old = PortId(old as u16);
                if old == port {
                    Learned::Known
                } else {
                    Learned::Moved(old)
                }
            }
        }
    }

    fn used(&self, bucket: usize) -> usize {
        let slots = self.buckets[bucket].0.iter();
        slots
            .filter(|slot| slot.load(Ordering::Relaxed) != EMPTY)
            .count()
    }

    fn insert(&self, key: u64, entry: u64, seen: u32) -> Learned {
        // The emptier of the two: that keeps both from filling up long before the table does.
        let bucket = self
            .candidates(key)
            .into_iter()
            .min_by_key(|bucket| self.used(*bucket));
        let free = bucket.and_then(|bucket| {
            let slots = &self.buckets[bucket].0;
            let free = slots
                .iter()
                .position(|s| s.load(Ordering::Relaxed) == EMPTY)?;
            Some(bucket * SLOTS + free)
        });
        let Some(index) = free else {
            return Learned::Full;
        };
        self.seen[index].store(seen, Ordering::Relaxed);
        self.slot(index).store(entry, Ordering::Relaxed);
        Learned::New
    }

    /// Writer: removes every entry for which `gone` is true and returns them.
    pub fn remove_if(&self, mut gone: impl FnMut(&FdbRow) -> bool) -> Vec<FdbRow> {
        let rows: Vec<_> = self.rows().filter(|(_, row)| gone(row)).collect();
        for (index, _) in &rows {
            self.slot(*index).store(EMPTY, Ordering::Relaxed);
        }
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Every entry, in no order.
    pub fn list(&self) -> Vec<FdbRow> {
        self.rows().map(|(_, row)| row).collect()
    }

    fn rows(&self) -> impl Iterator<Item = (usize, FdbRow)> + '_ {
        (0..self.seen.len()).filter_map(|index| {
            let entry = self.slot(index).load(Ordering::Relaxed);
            if entry == EMPTY {
                return None;
            }
            let [_, _, a, b, c, d, e, f] = (entry >> 16).to_be_bytes();
            Some((
                index,
                FdbRow {
                    mac: MacAddr([a, b, c, d, e, f]),
                    port: PortId(entry as u16),
                    seen: Some(self.seen[index].load(Ordering::Relaxed))
                        .filter(|seen| *seen != STATIC),
                },
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u64) -> MacAddr {
        let b = n.to_be_bytes();
        MacAddr([0x02, b[3], b[4], b[5], b[6], b[7]])
    }

    #[test]
    fn learns_moves_and_forgets() {
        let fdb = Fdb::new(16);
        assert_eq!(fdb.lookup(mac(1)), None);
        assert_eq!(fdb.learn(mac(1), PortId(0), 5), Learned::New);
        assert_eq!(fdb.learn(mac(1), PortId(0), 6), Learned::Known);
        assert_eq!(fdb.lookup(mac(1)), Some(PortId(0)));
        assert_eq!(fdb.learn(mac(1), PortId(7), 7), Learned::Moved(PortId(0)));
        assert_eq!(fdb.refresh(mac(1), 9), Some(PortId(7)));
        assert_eq!(
            fdb.list(),
            [FdbRow {
                mac: mac(1),
                port: PortId(7),
                seen: Some(9)
            }]
        );
        assert_eq!(fdb.remove_if(|row| row.seen < Some(9)), []);
        assert_eq!(fdb.remove_if(|row| row.port == PortId(7)).len(), 1);
        assert_eq!(fdb.lookup(mac(1)), None);
    }

    #[test]
    fn a_pinned_station_neither_ages_nor_moves() {
        let fdb = Fdb::new(16);
        assert_eq!(fdb.pin(mac(1), PortId(3)), Learned::New);
        assert_eq!(fdb.learn(mac(1), PortId(4), 9), Learned::Pinned(PortId(3)));
        assert_eq!(fdb.refresh(mac(1), 9), Some(PortId(3)));
        assert_eq!(
            fdb.list(),
            [FdbRow {
                mac: mac(1),
                port: PortId(3),
                seen: None
            }]
        );
    }

    #[test]
    fn takes_its_limit_without_overflow() {
        for limit in [8, 1024, 65_536] {
            let fdb = Fdb::new(limit);
            for n in 0..limit as u64 {
                assert_eq!(
                    fdb.learn(mac(n), PortId(n as u16 & 0xff), 1),
                    Learned::New,
                    "{n} of {limit}"
                );
            }
            for n in 0..limit as u64 {
                assert_eq!(fdb.lookup(mac(n)), Some(PortId(n as u16 & 0xff)));
            }
            assert_eq!(fdb.list().len(), limit);
        }
    }

    #[test]
    fn takes_its_limit_whatever_the_secret_and_the_numbering() {
        let steps = [1, 2, 8, 0x100, 0x1_0000, 0x9_e377];
        for (round, step) in steps.into_iter().cycle().take(300).enumerate() {
            let fdb = Fdb::new(1024);
            for n in 0..1024 {
                let learned = fdb.learn(mac(n * step), PortId(1), 1);
                assert_eq!(
                    learned,
                    Learned::New,
                    "{n} of round {round}, step {step:#x}"
                );
            }
        }
    }

    #[test]
    fn a_full_pair_of_buckets_is_reported_and_leaves_the_rest_alone() {
        let fdb = Fdb::new(8);
        let mut stored = Vec::new();
        let mut full = 0;
        for n in 0..64 {
            match fdb.learn(mac(n), PortId(1), 1) {
                Learned::New => stored.push(n),
                Learned::Full => full += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            stored.len(),
            16,
            "every slot is used before a MAC is refused"
        );
        assert_eq!(full, 48);
        assert!(
            stored
                .iter()
                .all(|n| fdb.lookup(mac(*n)) == Some(PortId(1)))
        );
    }

    #[test]
    fn readers_see_an_old_or_a_new_port_and_never_another() {
        use std::sync::atomic::AtomicBool;
        let fdb = Fdb::new(1024);
        for n in 0..512 {
            fdb.learn(mac(n), PortId(1), 1);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut looked = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    for n in 0..512 {
                        let port = fdb.lookup(mac(n));
                        assert!(matches!(port, Some(PortId(1 | 2))), "{port:?}");
                        looked += 1;
                    }
                }
                looked
            });
            for round in 0..200u32 {
                for n in 0..512 {
                    fdb.learn(mac(n), PortId(1 + (round & 1) as u16), round);
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert!(reader.join().is_ok());
        });
    }
}
