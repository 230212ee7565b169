//! The 32 bits of an entry.

use std::sync::atomic::{AtomicU32, Ordering};

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
/// | 0 to 23 | of a group, its number times 256; of a line, its number; else a raw value |
///
/// A pass over a batch leaves alone what is ready for the next stage, because its bits are others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

const GROUP: u32 = 1 << 31;
const LINE: u32 = 1 << 30;
/// How far the bits of the next stage lie below those of this one.
const NEXT: u32 = 2;
const DEEPER: u32 = (GROUP | LINE) >> NEXT;
const NUMBER: u32 = 0x00ff_ffff;

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
            Node::Group(number) => Self(GROUP >> next | number << 8),
            Node::Line(number) => Self(LINE >> next | number),
        }
    }

    #[inline]
    pub(super) fn leaf(raw: u16) -> Self {
        Self(raw.into())
    }

    pub(super) fn node(self) -> Node {
        let now = self.promoted();
        if now.is_group() {
            Node::Group((now.0 & NUMBER) >> 8)
        } else if now.is_line() {
            Node::Line(now.0 & NUMBER)
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

    /// For a group, the cell of `byte`, counted through all groups; for anything else 0, without
    /// a branch.
    #[inline]
    pub(super) fn cell_or_zero(self, byte: u8) -> usize {
        let if_group = (self.0 as i32 >> 31) as u32;
        ((self.0 | u32::from(byte)) & NUMBER & if_group) as usize
    }

    /// The number of a line.
    #[inline]
    pub(super) fn line(self) -> usize {
        (self.0 & NUMBER) as usize
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
            Node::Group(0xffff),
            Node::Line(0x7_ffff),
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
    fn a_cell_of_a_group_and_of_nothing() {
        let group = Entry::new(Node::Group(0xffff), 32);
        assert_eq!(group.cell_or_zero(0xfe), 0xff_fffe);
        for other in [Node::Leaf(7), Node::Line(9)] {
            assert_eq!(Entry::new(other, 32).cell_or_zero(0xfe), 0);
        }
    }
}
