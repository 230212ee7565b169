//! The two levels that readers look into.

use wide::i16x8;

use crate::bits::{self, places};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU16, fence, size, zeroed};
use crate::{FibError, RawWidth};

/// Marks a first-level entry as the number of a group.
const GROUP: u16 = 0x8000;
/// One entry for each /24.
const FIRST: usize = size(1 << 24, 2);
/// Entries of a group. In a model two: that of the first address, and that of all others.
const CELLS: usize = size(256, 2);
/// One entry for each address of each group that can be numbered.
const SECOND: usize = size(GROUP as usize, 2) * CELLS;

/// Addresses whose groups are walked at a time: a word has a bit for each.
const CHUNK: usize = u64::BITS as usize;
/// Fewer addresses than this are faster looked up one by one.
const FEW: usize = size(12, 1);

/// Entries are "raw": 0 is no route, 1 to 32,767 a next hop's index plus 1; in the first level
/// also `GROUP` plus a group's number.
///
/// The levels are arrays, not slices, so that the compiler sees every index in bounds.
#[derive(Debug)]
pub struct Table {
    first: Box<[AtomicU16; FIRST]>,
    second: Box<[AtomicU16; SECOND]>,
}

/// What a /24 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// One raw value for all its addresses.
    Direct(u16),
    /// A group.
    Group(u16),
}

impl Table {
    pub(super) const FIRST_BYTES: usize = FIRST * size_of::<AtomicU16>();
    pub(super) const SECOND_BYTES: usize = SECOND * size_of::<AtomicU16>();

    /// An empty table. Zeroed memory comes from the system unallocated, so this touches nothing.
    pub(super) fn new() -> Result<Self, FibError> {
        let no_memory = |part, bytes| FibError::OutOfMemory { part, bytes };
        Ok(Self {
            first: zeroed().ok_or(no_memory("first level", Self::FIRST_BYTES))?,
            second: zeroed().ok_or(no_memory("second level", Self::SECOND_BYTES))?,
        })
    }

    /// The raw value of one address.
    #[inline]
    pub(super) fn lookup(&self, address: u32) -> u16 {
        let entry = self.first[slot_of(address)].load(Acquire);
        if entry & GROUP == 0 {
            entry
        } else {
            self.second[cell(entry, address)].load(Acquire)
        }
    }

    /// The raw values of many addresses; see [`FibReader::lookup_batch`](crate::FibReader). In two
    /// passes: one over the first level, and one over the groups that it named, if any.
    ///
    /// The loads of a pass do not wait for each other, so that their cache misses overlap. One
    /// acquire fence after a pass does for all its loads what an acquire load would do for each.
    #[inline]
    pub(super) fn lookup_batch<R: RawWidth>(&self, addresses: &[u32], raw: &mut [R]) {
        let count = addresses.len().min(raw.len());
        let (addresses, raw) = (&addresses[..count], &mut raw[..count]);
        if count < FEW {
            for (address, raw) in addresses.iter().zip(raw) {
                *raw = R::from_raw(self.lookup(*address));
            }
            return;
        }
        // A load and a store for each address and nothing else, several a turn: so much the more
        // cache misses a core finds to begin while it waits. Whether an entry names a group is
        // found afterwards, in vectors.
        const TURN: usize = 8;
        let (turns, rest) = addresses.as_chunks::<TURN>();
        let (raw_turns, raw_rest) = raw.as_chunks_mut::<TURN>();
        for (addresses, raw) in turns.iter().zip(raw_turns) {
            for (address, raw) in addresses.iter().zip(raw) {
                *raw = R::from_raw(self.first[slot_of(*address)].load(Relaxed));
            }
        }
        for (address, raw) in rest.iter().zip(raw_rest) {
            *raw = R::from_raw(self.first[slot_of(*address)].load(Relaxed));
        }
        fence(Acquire);
        let any = raw.iter().fold(R::from_raw(0), |any, raw| any | *raw);
        if any.to_raw() & GROUP != 0 {
            self.walk_groups(addresses, raw);
        }
    }

    /// The second pass of a lookup: replaces what names a group by the group's value for the
    /// address. Not inlined, so that the first pass has the registers for itself.
    #[inline(never)]
    fn walk_groups<R: RawWidth>(&self, addresses: &[u32], raw: &mut [R]) {
        for (addresses, raw) in addresses.chunks(CHUNK).zip(raw.chunks_mut(CHUNK)) {
            let groups = which_are_groups(raw);
            if groups.count_ones() as usize == raw.len() {
                for (address, raw) in addresses.iter().zip(raw) {
                    *raw = self.second_level(*raw, *address);
                }
                continue;
            }
            // Which addresses have a group is hard to predict, so nothing branches on it.
            for place in places(groups) {
                if let (Some(address), Some(raw)) = (addresses.get(place), raw.get_mut(place)) {
                    *raw = self.second_level(*raw, *address);
                }
            }
        }
        fence(Acquire);
    }

    /// What the group that `entry` names has for an address.
    #[inline]
    fn second_level<R: RawWidth>(&self, entry: R, address: u32) -> R {
        R::from_raw(self.second[cell(entry.to_raw(), address)].load(Relaxed))
    }

    /// The value of the first address of a group. For the writer's thread.
    pub(super) fn first_in_group(&self, group: u16) -> u16 {
        self.second[cell(group, 0)].load(Relaxed)
    }

    /// What the /24 of `address` has. For the writer's thread.
    pub(super) fn entry(&self, address: u32) -> Entry {
        match self.first[slot_of(address)].load(Relaxed) {
            entry if entry & GROUP == 0 => Entry::Direct(entry),
            entry => Entry::Group(entry & !GROUP),
        }
    }

    /// Gives the /24 of `address` one value. A group that it had is unlinked by this.
    pub(super) fn set_direct(&self, address: u32, raw: u16) {
        self.first[slot_of(address)].store(raw, Release);
    }

    /// Publishes a group, which must have been filled, as what the /24 of `address` has.
    pub(super) fn set_group(&self, address: u32, group: u16) {
        self.first[slot_of(address)].store(GROUP | group, Release);
    }

    /// Fills a group that no reader can reach.
    pub(super) fn fill_group(&self, group: u16, raw: u16) {
        let start = cell(group, 0);
        for entry in &self.second[start..start + CELLS] {
            entry.store(raw, Relaxed);
        }
    }

    /// Gives the addresses `first` to `last`, which lie in one /24, a value in `group`.
    pub(super) fn set_in_group(&self, group: u16, first: u32, last: u32, raw: u16) {
        for entry in &self.second[cell(group, first)..=cell(group, last)] {
            entry.store(raw, Release);
        }
    }

    /// Gives the addresses `first` to `last` a value. Where the range ends within a /24, that /24
    /// must have a group.
    pub(super) fn set_range(&self, first: u32, last: u32, raw: u16) {
        let (first_slot, last_slot) = (first >> 8, last >> 8);
        for slot in first_slot..=last_slot {
            let from = first.max(slot << 8);
            let to = last.min(slot << 8 | 0xff);
            if to - from == 0xff {
                self.set_direct(from, raw);
            } else if let Entry::Group(group) = self.entry(from) {
                self.set_in_group(group, from, to, raw);
            } else {
                debug_assert!(false, "a part of a /24 without a group was to be set");
            }
        }
    }
}

/// A bit for each of up to 64 first-level entries that names a group, from the lowest.
#[inline]
fn which_are_groups<R: RawWidth>(entries: &[R]) -> u64 {
    bits::which(entries, R::from_raw(0), |eight| {
        i16x8::new(eight.map(|entry| entry.to_raw() as i16)).to_bitmask()
    })
}

/// The first-level index of an address.
#[inline]
fn slot_of(address: u32) -> usize {
    (address >> 8) as usize
}

/// The second-level index of an address in the group that `entry` names, with or without `GROUP`.
#[inline]
fn cell(entry: u16, address: u32) -> usize {
    usize::from(entry & !GROUP) * CELLS + (address & 0xff).min(CELLS as u32 - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_both_levels() {
        let table = Table::new().unwrap();
        assert_eq!(table.lookup(0), 0);
        assert_eq!(table.lookup(u32::MAX), 0);
        table.set_direct(0, 1);
        let group = crate::Fib4Config::MAX_GROUPS - 1;
        table.fill_group(group, 2);
        table.set_in_group(group, u32::MAX, u32::MAX, 0x7fff);
        table.set_group(u32::MAX, group);
        assert_eq!([0, 0xff, 0x100].map(|a| table.lookup(a)), [1, 1, 0]);
        assert_eq!(
            [u32::MAX, u32::MAX - 1, u32::MAX - 255, u32::MAX - 256].map(|a| table.lookup(a)),
            [0x7fff, 2, 2, 0]
        );
    }

    #[test]
    fn a_range_sets_whole_and_partial_slots() {
        let table = Table::new().unwrap();
        table.set_group(0x100, 0);
        table.set_group(0x400, 1);
        table.set_range(0x180, 0x40f, 9);
        for (address, raw) in [
            (0x17f, 0),
            (0x180, 9),
            (0x1ff, 9),
            (0x200, 9),
            (0x3ff, 9),
            (0x40f, 9),
            (0x410, 0),
        ] {
            assert_eq!(table.lookup(address), raw, "{address:#x}");
        }
        assert_eq!(table.entry(0x100), Entry::Group(0));
        assert_eq!(table.entry(0x200), Entry::Direct(9));
    }
}
