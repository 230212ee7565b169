//! IPv6: a multi-bit trie of a directory, then stages of lines and groups.
//!
//! | bits of the address | are looked up in |
//! |---|---|
//! | 0 to 23 | the directory: one 32-bit entry for each /24 |
//! | 24 to 31 | a *group*: 256 entries, one for each value of the byte |
//! | 32 to 47, and so on to 127 | a *stage*: what a table has there is mostly sparse, sometimes dense |
//!
//! A stage is one *line* where that suffices: one cache line with up to 16 ranges of the stage's
//! 16 bits, each with its value, found by one vector comparison. Where there are more ranges, it
//! is a group by the first byte, with lines, or groups by the second byte, below. So most of the
//! Internet's routes are found in three or four cache lines, and a cluster's hosts in one for
//! each stage. An entry is 0 (no route), a next hop (its index plus 1), or names a group or line.
//!
//! Multi-bit tries with values pushed to the leaves: Srinivasan, Varghese, "Fast Address Lookups
//! Using Controlled Prefix Expansion", ACM TOCS 17(1), 1999. Nodes that adapt to how many entries
//! they have: Leis, Kemper, Neumann, "The Adaptive Radix Tree", ICDE 2013.
//!
//! # Memory
//!
//! The table reserves 256 MiB of address space (64 MiB for the directory, 128 MiB for groups and
//! own cells, 64 MiB for lines and their children), and the writer's record of routes 128 MiB. All
//! of it comes zeroed from the system: a page in which nothing was ever written stays unallocated
//! (unless the process has freed that much memory before and the allocator gives it out again).
//! A few pods' routes touch a few pages of 4 KiB, and a default route none, since it is held apart
//! from the table. A short prefix touches its part of the directory and as much of the record:
//! fd00::/8 takes 512 KiB, 2000::/3 takes 16 MiB.
//!
//! # What is atomic, and what is not
//!
//! A lookup of one address is atomic: it gives what the table held for that address before or
//! after each update, never a mixture and never another address's value. Whatever the writer's
//! thread did before an update (such as filling in the next hop that the index names) is visible
//! to a reader that gets the updated value.
//!
//! An update of a prefix is not atomic as a whole: it writes one entry or range after another, in
//! address order, while readers go on. For a moment, addresses at the beginning of a wide prefix
//! have the new value and those at its end the old one, and a batch may see some of each. A /16
//! takes 256 writes, and as many more as there are gaps between longer routes in it. A prefix that
//! is one entry or one range, as most are, is one write. The default route, too, changes for all
//! addresses at once, and no batch sees two of it.
//!
//! # Groups and lines, and the readers' part
//!
//! Values change in place. Ranges do not: a line that cannot tell a new prefix from what is beside
//! it is replaced by a new one, or by a group, published with a single write when all that hangs
//! below it is there. So [`Fib6Writer::insert`] of a prefix longer than /24 may want groups and
//! lines, and a removal never fails. A group or line exists exactly as long as a route longer than
//! the bits that lead to it lies in it; a stage that has become groups stays so until its last
//! route goes. Ends of ranges that no route has any more go when their line would become too long.
//!
//! What was replaced or given up may still be in a reader's hands. It is retired, and used again
//! only after every reader has called [`Fib6Reader::quiescent`] or is
//! [offline](Fib6Reader::offline). When all are taken and some are retired, the writer waits for
//! the readers up to [`Fib6Config::reclaim_wait`], then refuses the insertion with
//! [`FibError::PoolExhausted`](crate::FibError::PoolExhausted) and changes nothing. The table
//! never grows beyond what was configured.

mod entry;
mod family;
mod grow;
mod line;
mod place;
mod table;

use std::time::Duration;

pub use family::V6;

use crate::{FibReader, FibWriter, Footprint, NextHopIndex, PoolUse, Value};

/// The one writer of an IPv6 table. Inserting a prefix longer than /24 may need groups and lines.
pub type Fib6Writer<V = NextHopIndex> = FibWriter<V6, V>;

/// A reader of an IPv6 table.
pub type Fib6Reader<V = NextHopIndex> = FibReader<V6, V>;

impl<V: Value> Fib6Writer<V> {
    /// What the groups are doing.
    pub fn groups(&self) -> PoolUse {
        self.family().groups.usage()
    }

    /// What the lines are doing.
    pub fn lines(&self) -> PoolUse {
        self.family().lines.usage()
    }
}

/// The limits of an IPv6 table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fib6Config {
    /// Groups, 1 KiB each; at most [`Fib6Config::MAX_GROUPS`].
    pub groups: u32,
    /// Lines, 68 bytes each with their own cell, and 64 more for those from which routes go on to the next stage; at
    /// most [`Fib6Config::MAX_LINES`]. Some are to spare: an insertion that replaces a line takes
    /// a new one before the readers have let go of the old.
    pub lines: u32,
    /// The most readers registered at a time.
    pub readers: usize,
    /// How long an insertion or a flush waits for readers to become quiescent. Longer than the
    /// slowest turn of a reader's poll loop, short enough for the thread of the writer.
    pub reclaim_wait: Duration,
}

impl Fib6Config {
    /// The most groups, 65,408: as many as an entry can number.
    pub const MAX_GROUPS: u32 = entry::MAX_GROUPS;
    /// The most lines, 524,288.
    pub const MAX_LINES: u32 = entry::MAX_LINES;
}

impl Default for Fib6Config {
    /// All the groups and lines there can be (unused ones take no memory), 64 readers, 10 ms.
    fn default() -> Self {
        Self {
            groups: Self::MAX_GROUPS,
            lines: Self::MAX_LINES,
            readers: 64,
            reclaim_wait: Duration::from_millis(10),
        }
    }
}

/// What an IPv6 table takes, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fib6Memory {
    /// The directory, shared with the readers.
    pub directory: Footprint,
    /// The groups, shared with the readers.
    pub groups: Footprint,
    /// The lines, shared with the readers.
    pub lines: Footprint,
    /// The writer's own record of routes, groups and lines; an estimate.
    pub routes: Footprint,
}

impl Fib6Memory {
    /// All parts together.
    pub fn total(&self) -> Footprint {
        [self.directory, self.groups, self.lines, self.routes]
            .into_iter()
            .sum()
    }
}
