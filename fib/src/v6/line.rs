//! A line: one cache line that tells apart up to 16 ranges of a stage's 16 bits.

use std::array;
use wide::{i8x16, i16x16};
use zerocopy::transmute;

use super::entry::Node;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU16, AtomicU64};

/// The most runs of a line.
pub(super) const RUNS: usize = 16;
/// In place of a raw value: the run leads to a node of the next stage.
const CHILD: u16 = 0x8000;
/// Ends are kept with the top bit inverted, because vector instructions compare signed numbers.
const SIGN: u16 = 0x8000;

/// A run is a range of keys with one value. Ends never change once readers can reach the line;
/// values do.
///
/// Not aligned to a cache line: what is aligned to more than 16 bytes the standard library zeroes
/// by writing, all 32 MiB of it. The ends and the first values are in one cache line even so.
#[derive(Debug)]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[repr(C, align(16))]
pub(super) struct Line {
    /// The last key of each run, ascending, four to a word, each xor [`SIGN`]. Behind the last
    /// run, more of its like.
    ends: [AtomicU64; RUNS / 4],
    /// A raw value, or `CHILD`.
    values: [AtomicU16; RUNS],
}

#[cfg(loom)]
impl crate::sync::Zeroed for Line {
    fn new_zeroed() -> Self {
        Self {
            ends: array::from_fn(|_| AtomicU64::new(0)),
            values: array::from_fn(|_| AtomicU16::new(0)),
        }
    }
}

impl Line {
    /// The run that `key` lies in, and its raw value; `None` if it leads to the next stage.
    #[inline]
    pub(super) fn find(&self, key: u16) -> (usize, Option<u16>) {
        let ends = i16x16::new(self.biased());
        let before = i16x16::splat((key ^ SIGN) as i16).simd_gt(ends);
        // One bit for each run that ends before the key: ones, as many as the run's number.
        let run = i8x16::from_i16x16_saturate(before)
            .to_bitmask()
            .trailing_ones() as usize
            % RUNS;
        let value = self.values[run].load(Acquire);
        (run, (value & CHILD == 0).then_some(value))
    }

    #[inline]
    fn biased(&self) -> [i16; RUNS] {
        let words: [u64; RUNS / 4] = array::from_fn(|i| self.ends[i].load(Relaxed));
        transmute!(words)
    }

    /// The last key of each run; the last run's is the greatest key there is.
    pub(super) fn ends(&self) -> [u16; RUNS] {
        self.biased().map(|end| end as u16 ^ SIGN)
    }

    /// The raw value of a run; `None` if it leads to the next stage.
    pub(super) fn raw(&self, run: usize) -> Option<u16> {
        let value = self.values[run].load(Relaxed);
        (value & CHILD == 0).then_some(value)
    }

    /// Gives a run a raw value, or, with `None`, the child that has been stored for it.
    pub(super) fn set_raw(&self, run: usize, raw: Option<u16>) {
        self.values[run].store(raw.unwrap_or(CHILD), Release);
    }

    /// Fills a line that no reader can reach with at most `RUNS` runs.
    pub(super) fn fill(&self, runs: &Runs) {
        let mut ends = [u16::MAX ^ SIGN; RUNS];
        let mut values = [CHILD; RUNS];
        let mut last = CHILD;
        for (i, (end, node)) in runs.list().iter().enumerate().take(RUNS) {
            last = match *node {
                Node::Leaf(raw) => raw,
                _ => CHILD,
            };
            values[i] = last;
            if i + 1 < runs.list().len() {
                ends[i] = end ^ SIGN;
            }
        }
        values[runs.list().len().min(RUNS)..].fill(last);
        let words: [u64; RUNS / 4] = transmute!(ends);
        for (word, value) in self.ends.iter().zip(words) {
            word.store(value, Relaxed);
        }
        for (to, value) in self.values.iter().zip(values) {
            to.store(value, Relaxed);
        }
    }
}

/// The most runs while a line is being cut: a prefix makes two new ends.
const MOST: usize = RUNS + 2;

/// A line's content on its way to another line or to a group.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    /// The first key.
    first: u16,
    len: usize,
    /// The last key of each run and what it has.
    runs: [(u16, Node); MOST],
}

impl Runs {
    /// The runs from key `first` to `last`, the last of which ends at `last` or beyond.
    pub(super) fn new(first: u16, last: u16, runs: impl Iterator<Item = (u16, Node)>) -> Self {
        let mut new = Self {
            first,
            len: 0,
            runs: [(last, Node::Leaf(0)); MOST],
        };
        for (end, node) in runs.skip_while(|(end, _)| *end < first) {
            new.runs[new.len] = (end.min(last), node);
            new.len += 1;
            if end >= last {
                break;
            }
        }
        new
    }

    /// One run.
    pub(super) fn one(first: u16, last: u16, node: Node) -> Self {
        Self::new(first, last, [(last, node)].into_iter())
    }

    /// The last key of each run and what it has.
    pub(super) fn list(&self) -> &[(u16, Node)] {
        &self.runs[..self.len]
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.list().iter().map(|(_, node)| *node)
    }

    /// What each key of `first` to `last` has.
    pub(super) fn each(&self) -> impl Iterator<Item = Node> + '_ {
        let mut from = usize::from(self.first);
        self.list().iter().flat_map(move |&(end, node)| {
            let count = usize::from(end) + 1 - from;
            from += count;
            std::iter::repeat_n(node, count)
        })
    }

    /// The part from `first` to `last`.
    pub(super) fn part(&self, first: u16, last: u16) -> Self {
        Self::new(first, last, self.list().iter().copied())
    }

    /// What `key` has.
    pub(super) fn get(&self, key: u16) -> Node {
        self.runs[self.position(key)].1
    }

    /// Gives the run that `key` lies in something else.
    pub(super) fn replace(&mut self, key: u16, node: Node) {
        let at = self.position(key);
        self.runs[at].1 = node;
    }

    fn position(&self, key: u16) -> usize {
        self.list().partition_point(|(end, _)| *end < key)
    }

    /// Makes a run begin at `first` and a run end at `last`. To be called once.
    pub(super) fn cut(&mut self, first: u16, last: u16) {
        if first > self.first {
            self.end_at(first - 1);
        }
        self.end_at(last);
    }

    fn end_at(&mut self, key: u16) {
        let at = self.position(key);
        if let Some(&(end, node)) = self.list().get(at)
            && end != key
            && self.len < MOST
        {
            self.runs.copy_within(at..self.len, at + 1);
            self.runs[at] = (key, node);
            self.len += 1;
        }
    }

    /// Joins runs with the same raw value, except where `wanted` says of the end between them that
    /// it is.
    pub(super) fn join(&mut self, wanted: impl Fn(u16) -> bool) {
        let mut kept = 0;
        for i in 0..self.len {
            let (end, node) = self.runs[i];
            let next = self.list().get(i + 1).map(|(_, next)| *next);
            let same = matches!(node, Node::Leaf(_)) && next == Some(node);
            if !same || wanted(end) {
                self.runs[kept] = (end, node);
                kept += 1;
            }
        }
        self.len = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::zeroed;

    fn runs(list: &[(u16, u16)]) -> Runs {
        let last = list[list.len() - 1].0;
        Runs::new(
            0,
            last,
            list.iter().map(|(end, raw)| (*end, Node::Leaf(*raw))),
        )
    }

    #[test]
    fn every_key_finds_its_run() {
        let [line] = *zeroed::<Line, 1>().unwrap();
        for count in 1..=RUNS as u16 {
            // Ends on both sides of the sign bit.
            let list: Vec<_> = (1..=count)
                .map(|i| (if i == count { u16::MAX } else { i * 4095 }, i))
                .collect();
            line.fill(&runs(&list));
            for key in 0..=u16::MAX {
                let (run, raw) = line.find(key);
                let wanted = list.iter().position(|(end, _)| key <= *end).unwrap();
                assert_eq!((run, raw), (wanted, Some(list[wanted].1)), "{count} {key}");
            }
        }
    }

    #[test]
    fn cutting_and_joining() {
        let mut cut = runs(&[(9, 1), (u16::MAX, 2)]);
        let ends = |runs: &Runs| -> Vec<u16> { runs.list().iter().map(|(end, _)| *end).collect() };
        cut.cut(4, 9);
        assert_eq!(ends(&cut), [3, 9, u16::MAX]);
        cut.cut(20, 29);
        assert_eq!(ends(&cut), [3, 9, 19, 29, u16::MAX]);
        assert_eq!(
            [3, 4, 10].map(|key| cut.get(key)),
            [1, 1, 2].map(Node::Leaf)
        );
        cut.join(|end| end == 19);
        assert_eq!(ends(&cut), [9, 19, u16::MAX]);
        assert_eq!(cut.each().count(), 1 << 16);
        assert_eq!(cut.part(5, 19).list().len(), 2);
        assert_eq!(cut.part(5, 19).each().count(), 15);
        assert_eq!(cut.part(10, 12).nodes().next(), Some(Node::Leaf(2)));
    }

    #[test]
    fn a_child_is_told_from_a_value() {
        let [line] = *zeroed::<Line, 1>().unwrap();
        let mut list = Runs::one(0, u16::MAX, Node::Leaf(5));
        list.cut(7, 7);
        list.replace(7, Node::Line(3));
        line.fill(&list);
        assert_eq!(line.find(6), (0, Some(5)));
        assert_eq!(line.find(7), (1, None));
        assert_eq!(line.find(8), (2, Some(5)));
        line.set_raw(1, Some(9));
        assert_eq!(line.find(7), (1, Some(9)));
        assert_eq!(line.ends()[2], u16::MAX);
    }
}
