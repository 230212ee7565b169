//! What readers look into: directory, groups and lines.

use super::entry::{CELLS, Entry, MAX_LINES, Node, first_cell};
use super::line::{Line, RUNS, Runs};
use super::place::Place;
use crate::bits::places;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU32, fence, size, zeroed};
use crate::{FibError, RawWidth};
use std::array;

/// One entry for each /24.
const DIRECTORY: usize = size(1 << 24, 2);
const LINES: usize = MAX_LINES as usize;
/// Entries of a group.
pub(super) const GROUP: usize = 256;
/// Bits that the directory takes.
pub(super) const DIRECTORY_LEN: u8 = 24;
/// Where the first stage begins; each takes 16 bits.
pub(super) const FIRST_STAGE: u8 = 32;
/// Addresses that a batch takes through the levels together: so many cache misses can overlap as
/// a core has room for, what is known of them stays in its first-level cache, and a word has a bit
/// for each.
const CHUNK: usize = u64::BITS as usize;
/// Fewer addresses than this are faster looked up one by one.
const FEW: usize = size(6, 1);

/// The arrays are of fixed size, not slices, so that the compiler sees every index in bounds.
#[derive(Debug)]
pub struct Table {
    directory: Box<[AtomicU32; DIRECTORY]>,
    cells: Box<[AtomicU32; CELLS]>,
    lines: Box<[Line; LINES]>,
    /// For each run of each line, the node of the next stage, where the run has one.
    children: Box<[AtomicU32; LINES * RUNS]>,
}

impl Table {
    pub(super) const DIRECTORY_BYTES: usize = DIRECTORY * size_of::<AtomicU32>();
    pub(super) const GROUP_BYTES: usize = GROUP * size_of::<AtomicU32>();
    pub(super) const CELLS_BYTES: usize = CELLS * size_of::<AtomicU32>();
    pub(super) const LINE_BYTES: usize = size_of::<Line>();
    pub(super) const LINES_BYTES: usize = LINES * Self::LINE_BYTES;
    /// Of one line.
    pub(super) const CHILDREN_BYTES: usize = RUNS * size_of::<AtomicU32>();
    pub(super) const ALL_CHILDREN_BYTES: usize = LINES * Self::CHILDREN_BYTES;

    /// An empty table. Zeroed memory comes from the system unallocated, so this touches nothing.
    pub(super) fn new() -> Result<Self, FibError> {
        let no_memory = |part, bytes| FibError::OutOfMemory { part, bytes };
        Ok(Self {
            directory: zeroed().ok_or(no_memory("directory", Self::DIRECTORY_BYTES))?,
            cells: zeroed().ok_or(no_memory("groups", Self::CELLS_BYTES))?,
            lines: zeroed().ok_or(no_memory("lines", Self::LINES_BYTES))?,
            children: zeroed().ok_or(no_memory("lines' children", Self::ALL_CHILDREN_BYTES))?,
        })
    }

    /// The raw value of one address.
    #[inline]
    pub(super) fn lookup(&self, address: u128) -> u16 {
        let mut entry = Entry::load(&self.directory[slot_of(address)], Acquire);
        if entry.is_group() {
            entry = self.cell(entry, (address >> 96) as u8);
        }
        let mut shift = 80;
        while entry.is_node() {
            let key = (address >> shift) as u16;
            let [high, low] = key.to_be_bytes();
            if entry.is_group() {
                entry = self.cell(entry, high);
            }
            if entry.is_line() {
                entry = self.run(entry, key);
            } else if entry.is_group() {
                entry = self.cell(entry, low);
            }
            entry = entry.promoted();
            // A node of a stage beyond the last is never stored.
            shift = u32::saturating_sub(shift, 16);
        }
        entry.raw()
    }

    /// The raw values of many addresses; see [`FibReader::lookup_batch`](crate::FibReader).
    #[inline]
    pub(super) fn lookup_batch<R: RawWidth>(&self, addresses: &[u128], raw: &mut [R]) {
        if addresses.len() < FEW {
            for (raw, &address) in raw.iter_mut().zip(addresses) {
                *raw = R::from_raw(self.lookup(address));
            }
            return;
        }
        for (addresses, raw) in addresses.chunks(CHUNK).zip(raw.chunks_mut(CHUNK)) {
            self.lookup_chunk(addresses, raw);
        }
    }

    /// Takes at most `CHUNK` addresses through the levels, one level after the other.
    ///
    /// The loads of a pass do not wait for each other, so that their cache misses overlap; an
    /// acquire fence after a pass does for all its loads what an acquire load would do for each.
    /// No pass branches on what one address has: the branches would be mispredicted.
    #[inline]
    fn lookup_chunk<R: RawWidth>(&self, addresses: &[u128], raw: &mut [R]) {
        let mut entries = [Entry::NONE; CHUNK];
        let mut words = [0; CHUNK];
        let count = addresses.len().min(raw.len()).min(CHUNK);
        let (entries, words) = (&mut entries[..count], &mut words[..count]);
        for ((entry, word), &address) in entries.iter_mut().zip(&mut *words).zip(addresses) {
            *entry = Entry::load(&self.directory[slot_of(address)], Relaxed);
            // Bits 24 to 55 of the address: the group's byte, and the first stage's two.
            *word = (address >> 72) as u32;
        }
        fence(Acquire);
        let mut all = Entry::all(entries);
        if all.is_group() {
            all = self.step::<24>(entries, words);
        }
        if all.is_node() && self.stage::<16, 8>(all, entries, words).is_deeper() {
            self.deeper_stages(entries, addresses);
        }
        for (raw, entry) in raw.iter_mut().zip(entries) {
            *raw = R::from_raw(entry.raw());
        }
    }

    /// The stages behind the first, where only few entries may lead: few of the Internet's, but all
    /// of a cluster's.
    #[inline(never)]
    fn deeper_stages(&self, entries: &mut [Entry], addresses: &[u128]) {
        let deeper = Entry::which_are_deeper(entries);
        if deeper.count_ones() as usize * 2 > entries.len() {
            return self.later_stages(entries, addresses);
        }
        let mut some = [Entry::NONE; CHUNK];
        let mut their_addresses = [0; CHUNK];
        let mut count = 0;
        for place in places(deeper) {
            if let (Some(entry), Some(address)) = (entries.get(place), addresses.get(place)) {
                some[count % CHUNK] = *entry;
                their_addresses[count % CHUNK] = *address;
                count += 1;
            }
        }
        let some = &mut some[..count.min(CHUNK)];
        self.later_stages(some, &their_addresses);
        for (place, entry) in places(deeper).zip(some) {
            if let Some(to) = entries.get_mut(place) {
                *to = *entry;
            }
        }
    }

    fn later_stages(&self, entries: &mut [Entry], addresses: &[u128]) {
        let mut words = [0; CHUNK];
        let words = &mut words[..entries.len().min(CHUNK)];
        for shift in [64, 48, 32, 16, 0] {
            // A variable shift of 128 bits is slow.
            if shift == 64 {
                for (word, address) in words.iter_mut().zip(addresses) {
                    *word = u32::from((address >> 64) as u16);
                }
            } else {
                for (word, address) in words.iter_mut().zip(addresses) {
                    *word = u32::from((*address as u64 >> shift) as u16);
                }
            }
            for entry in &mut *entries {
                *entry = entry.promoted();
            }
            let all = Entry::all(entries);
            if !self.stage::<8, 0>(all, entries, words).is_deeper() {
                break;
            }
        }
    }

    /// Takes the entries that are nodes, which `all` or-ed tell of, through a stage whose two
    /// bytes are `HIGH` and `LOW` bits up in `words`. Returns what was found, or-ed.
    #[inline]
    fn stage<const HIGH: u32, const LOW: u32>(
        &self,
        mut all: Entry,
        entries: &mut [Entry],
        words: &[u32],
    ) -> Entry {
        if all.is_group() {
            all = self.step::<HIGH>(entries, words);
        }
        // Lines take many instructions, so only those that have one go there.
        let lines = Entry::which_are_lines(entries);
        let mut found = Entry::NONE;
        if all.is_group() {
            found = self.step::<LOW>(entries, words);
        }
        for place in places(lines) {
            if let (Some(entry), Some(&word)) = (entries.get_mut(place), words.get(place)) {
                *entry = self.run(*entry, (word >> LOW) as u16);
                found = found.or(*entry);
            }
        }
        fence(Acquire);
        found
    }

    /// Takes every entry that is a group to what the group has for the byte `SHIFT` bits up in its
    /// word, and every other to itself. None of them may be ready for the next stage. Returns all entries or-ed.
    #[inline]
    fn step<const SHIFT: u32>(&self, entries: &mut [Entry], words: &[u32]) -> Entry {
        // Two loops, because the compiler makes vectors of the first.
        for (entry, word) in entries.iter_mut().zip(words) {
            entry.advance(word >> SHIFT);
        }
        for entry in &mut *entries {
            *entry = Entry::load(&self.cells[entry.cell()], Relaxed);
        }
        fence(Acquire);
        Entry::all(entries)
    }

    #[inline]
    fn cell(&self, group: Entry, byte: u8) -> Entry {
        let mut at = group;
        at.advance(byte.into());
        Entry::load(&self.cells[at.cell()], Acquire)
    }

    /// What a line has for a key.
    #[inline]
    fn run(&self, line: Entry, key: u16) -> Entry {
        let number = line.line() % LINES;
        let (run, raw) = self.lines[number].find(key);
        match raw {
            Some(raw) => Entry::leaf(raw),
            None => Entry::load(&self.children[number * RUNS + run], Acquire),
        }
    }
}

/// For the writer's thread.
impl Table {
    pub(super) fn load(&self, place: Place) -> Node {
        match place {
            Place::Directory(slot) => Entry::load(&self.directory[slot as usize], Relaxed).node(),
            Place::Cell(cell) => Entry::load(&self.cells[cell as usize], Relaxed).node(),
            Place::Run(line, run) => match self.lines[line as usize].raw(run) {
                Some(raw) => Node::Leaf(raw),
                None => Entry::load(&self.children[line as usize * RUNS + run], Relaxed).node(),
            },
        }
    }

    /// Publishes `node`, whose content is complete, as what the addresses of `place` have.
    /// `depth` is the number of address bits that lead there.
    pub(super) fn store(&self, place: Place, depth: u8, node: Node) {
        let entry = Entry::new(node, depth);
        match place {
            Place::Directory(slot) => entry.store(&self.directory[slot as usize], Release),
            Place::Cell(cell) => entry.store(&self.cells[cell as usize], Release),
            Place::Run(line, run) => {
                if let Node::Leaf(raw) = node {
                    self.lines[line as usize].set_raw(run, Some(raw));
                } else {
                    entry.store(&self.children[line as usize * RUNS + run], Release);
                    self.lines[line as usize].set_raw(run, None);
                }
            }
        }
    }

    /// Fills a group that no reader can reach; `nodes` in the order of the byte.
    pub(super) fn fill_group(&self, group: u32, depth: u8, nodes: impl Iterator<Item = Node>) {
        let first = first_cell(group) as usize;
        for (cell, node) in self.cells[first..first + GROUP].iter().zip(nodes) {
            Entry::new(node, depth).store(cell, Relaxed);
        }
    }

    /// Fills a line that no reader can reach; `depth` is where its children are.
    pub(super) fn fill_line(&self, line: u32, depth: u8, runs: &Runs) {
        for (run, node) in runs.nodes().enumerate() {
            if !matches!(node, Node::Leaf(_)) {
                let child = &self.children[line as usize * RUNS + run];
                Entry::new(node, depth).store(child, Relaxed);
            }
        }
        self.lines[line as usize].fill(runs);
    }

    /// Writes the cell of its own for a raw value or a line, and returns its index.
    pub(super) fn own_cell(&self, node: Node) -> usize {
        let entry = Entry::new(node, FIRST_STAGE);
        let cell = entry.cell();
        entry.store(&self.cells[cell], Relaxed);
        cell
    }

    /// The last key of each run of a line.
    pub(super) fn ends(&self, line: u32) -> [u16; RUNS] {
        self.lines[line as usize].ends()
    }

    /// What a line has from `first` to `last`, of which every key is in one of its runs.
    pub(super) fn runs(&self, line: u32, first: u16, last: u16) -> Runs {
        let ends = self.ends(line);
        let nodes: [Node; RUNS] = array::from_fn(|run| self.load(Place::Run(line, run)));
        Runs::new(first, last, ends.into_iter().zip(nodes))
    }

    /// The number of the run of a line that `key` lies in.
    pub(super) fn run_of(&self, line: u32, key: u16) -> usize {
        self.lines[line as usize].find(key).0
    }
}

/// The directory's index of an address.
#[inline]
fn slot_of(address: u128) -> usize {
    (address >> 104) as usize
}
