//! The 32 bits of an entry.

use wide::i32x8;

use crate::bits;
use crate::sync::{AtomicU32, Ordering, size};

/// What the addresses of an entry have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// One raw value for all of them.
    Leaf(u16),
    /// The number of a group, which tells them apart by their next byte.
    Group(u32),
    /// The number of a line, which tells them apart by what is left of the stage's 16 bits.
    Line(u32),
}

/// A [`Node`] as readers find it.
///
/// | bits | |
/// |---|---|
/// | 31 | a group of this stage |
/// | 30 | a line of this stage |
/// | 29 | a group of the next stage |
/// | 28 | a line of the next stage |
/// | 0 to 24 | a cell: of a group, its first; of a line or a raw value, its own |
///
/// Every line and every raw value has a cell of its own that leads back to it. So a pass over a
/// batch takes all entries one step further without asking which are groups: the others stay what
/// they are. What is ready for the next stage has other bits, so that a pass can end with entries of
/// both kinds; before the next pass all are [promoted](Self::promoted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

const GROUP: u32 = 1 << 31;
const LINE: u32 = 1 << 30;
/// How far the bits of the next stage lie below those of this one.
const NEXT: u32 = 2;
const DEEPER: u32 = (GROUP | LINE) >> NEXT;

/// The raw values' own cells come first, as many as there can be; then the groups.
const GROUPS_AT: u32 = size(1 << 15, 256) as u32;
/// Then the lines' own.
const LINES_AT: u32 = size(1 << 24, 512) as u32;
/// All of them: a power of two.
pub(super) const CELLS: usize = size(1 << 25, 1024);
/// The most groups that there are cells for.
pub(super) const MAX_GROUPS: u32 = (LINES_AT - GROUPS_AT) / 256;
/// The most lines.
pub(super) const MAX_LINES: u32 = size(1 << 19, 8) as u32;

/// The first of a group's 256 cells.
pub(super) fn first_cell(group: u32) -> u32 {
    GROUPS_AT + group * 256
}

impl Entry {
    /// No route.
    pub(super) const NONE: Self = Self(0);

    /// The entry of a node that `depth` bits of the address lead to: from 48 on, a depth of whole
    /// 16 bits is where the next stage begins.
    pub(super) fn new(node: Node, depth: u8) -> Self {
        let next = match depth >= 48 && depth.is_multiple_of(16) {
            true => NEXT,
            false => 0,
        };
        match node {
            Node::Leaf(raw) => Self::leaf(raw),
            Node::Group(number) => Self(GROUP >> next | first_cell(number)),
            Node::Line(number) => Self(LINE >> next | LINES_AT | number),
        }
    }

    #[inline]
    pub(super) fn leaf(raw: u16) -> Self {
        Self(raw.into())
    }

    pub(super) fn node(self) -> Node {
        let now = self.promoted();
        if now.is_group() {
            Node::Group((now.cell() as u32 - GROUPS_AT) / 256)
        } else if now.is_line() {
            Node::Line(now.line() as u32)
        } else {
            Node::Leaf(now.raw())
        }
    }

    #[inline]
    pub(super) fn load(from: &AtomicU32, order: Ordering) -> Self {
        Self(from.load(order))
    }

    #[inline]
    pub(super) fn store(self, to: &AtomicU32, order: Ordering) {
        to.store(self.0, order);
    }

    /// The kinds of both; the number is of no use.
    #[inline]
    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kinds of all; the number is of no use.
    #[inline]
    pub(super) fn all(entries: &[Self]) -> Self {
        entries.iter().fold(Self::NONE, |all, entry| all.or(*entry))
    }

    /// A bit for each of up to 64 entries that is a line of this stage, from the lowest.
    #[inline]
    pub(super) fn which_are_lines(entries: &[Self]) -> u64 {
        Self::which(entries, |kinds| kinds << (GROUP / LINE).trailing_zeros())
    }

    /// A bit for each of up to 64 entries that is a node of the next stage, from the lowest.
    #[inline]
    pub(super) fn which_are_deeper(entries: &[Self]) -> u64 {
        Self::which(entries, |kinds| kinds << NEXT | kinds << (NEXT + 1))
    }

    /// A bit for each entry of which `kind` leaves the top bit set.
    #[inline]
    fn which(entries: &[Self], kind: impl Fn(i32x8) -> i32x8) -> u64 {
        bits::which(entries, Self::NONE, |eight| {
            kind(i32x8::new(eight.map(|entry| entry.0 as i32))).to_bitmask()
        })
    }

    #[inline]
    pub(super) fn is_group(self) -> bool {
        (self.0 as i32) < 0
    }

    #[inline]
    pub(super) fn is_line(self) -> bool {
        self.0 & LINE != 0
    }

    /// A group or a line of this stage.
    #[inline]
    pub(super) fn is_node(self) -> bool {
        self.0 & (GROUP | LINE) != 0
    }

    /// A group or a line of the next stage.
    #[inline]
    pub(super) fn is_deeper(self) -> bool {
        self.0 & DEEPER != 0
    }

    /// The same when the next stage has become this one.
    #[inline]
    pub(super) fn promoted(self) -> Self {
        Self(self.0 & !DEEPER | (self.0 & DEEPER) << NEXT)
    }

    /// Moves on to the cell of a byte, the low one of `byte`, if this is a group.
    #[inline]
    pub(super) fn advance(&mut self, byte: u32) {
        let if_group = (self.0 as i32 >> 31) as u32;
        self.0 |= byte & 0xff & if_group;
    }

    /// The index of the cell: a group's first or the one advanced to, or anything else's own.
    #[inline]
    pub(super) fn cell(self) -> usize {
        self.0 as usize % CELLS
    }

    /// The number of a line.
    #[inline]
    pub(super) fn line(self) -> usize {
        (self.0 & (MAX_LINES - 1)) as usize
    }

    /// The raw value of a leaf.
    #[inline]
    pub(super) fn raw(self) -> u16 {
        self.0 as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_come_back_at_every_depth() {
        for node in [
            Node::Leaf(0),
            Node::Leaf(0x7fff),
            Node::Group(MAX_GROUPS - 1),
            Node::Line(MAX_LINES - 1),
        ] {
            for depth in [24, 32, 40, 48, 56, 64, 112, 120] {
                let entry = Entry::new(node, depth);
                assert_eq!(entry.node(), node, "{depth}");
                let deeper =
                    depth >= 48 && depth.is_multiple_of(16) && !matches!(node, Node::Leaf(_));
                assert_eq!(entry.is_deeper(), deeper, "{node:?} {depth}");
                assert!(!(entry.is_deeper() && entry.is_node()));
                assert_eq!(entry.promoted().is_node(), !matches!(node, Node::Leaf(_)));
            }
        }
    }

    #[test]
    fn a_groups_cells_and_everything_elses_own() {
        let cell = |node, byte| {
            let mut entry = Entry::new(node, 32);
            entry.advance(byte);
            entry.cell()
        };
        let lines_at = LINES_AT as usize;
        assert_eq!(cell(Node::Group(MAX_GROUPS - 1), 0x1fe), lines_at - 2);
        assert_eq!(cell(Node::Leaf(7), 0xfe), 7);
        let last = MAX_LINES - 1;
        assert_eq!(cell(Node::Line(last), 0xfe), lines_at + last as usize);
        assert_eq!(first_cell(MAX_GROUPS), LINES_AT);
    }
}
