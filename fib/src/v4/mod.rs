//! IPv4: a DIR-24-8 table.
//!
//! The first level has one 16-bit entry for each /24 of the address space. An entry is 0 (no
//! route), a next hop (its index plus 1), or, with the top bit set, the number of a second-level
//! group: 256 entries, one for each address of that /24. So a lookup is one load, or two where
//! routes longer than /24 exist. Source: Gupta, Lin, McKeown, "Routing Lookups in Hardware at
//! Memory Access Speeds", INFOCOM 1998.
//!
//! # Memory
//!
//! The table reserves 48 MiB of address space (32 MiB for the first level, 16 MiB for the second)
//! that comes zeroed from the system, and 0 means "no route": a page in which no route was ever
//! written stays unallocated. A few pods' routes touch a few pages of 4 KiB, and a default route
//! none, since it is held apart from the table. Where the system gives huge pages unasked
//! (transparent huge pages set to `always`), each first touch takes 2 MiB instead.
//!
//! # What is atomic, and what is not
//!
//! A lookup of one address is atomic: it gives what the table held for that address before or
//! after each update, never a mixture and never another address's value. Whatever the writer's
//! thread did before an update (such as filling in the next hop that the index names) is visible
//! to a reader that gets the updated value.
//!
//! An update of a prefix is not atomic as a whole: it writes one entry after another, in address
//! order, while readers go on. For a moment, addresses at the beginning of a wide prefix have the
//! new value and those at its end the old one, and a batch may see some of each. A /8 takes 65,536
//! writes, tens of microseconds. A /24 with no longer route in it is one write, and so is a single
//! address. The default route, too, changes for all addresses at once, and no batch sees two of
//! it.
//!
//! # Groups, and the readers' part
//!
//! A /24 has a second-level group exactly as long as a route longer than /24 lies in it; with the
//! last of those the group collapses into the first level. Therefore only [`Fib4Writer::insert`]
//! of a prefix longer than /24 can want a group, and a removal never fails.
//!
//! A group that collapsed may still be in a reader's hands. It is retired, and used again only
//! after every reader has called [`Fib4Reader::quiescent`] or is [offline](Fib4Reader::offline).
//! When all groups are taken and some are retired, the writer waits for the readers up to
//! [`Fib4Config::reclaim_wait`], then refuses the insertion with
//! [`FibError::PoolExhausted`](crate::FibError::PoolExhausted) and changes nothing. The table
//! never grows beyond what was configured.

mod family;
mod table;

use std::time::Duration;

pub use family::V4;

use crate::{FibReader, FibWriter, Footprint, NextHopIndex, PoolUse, Value};

/// The one writer of an IPv4 table. Inserting a prefix longer than /24, the first such in its /24,
/// needs a group.
pub type Fib4Writer<V = NextHopIndex> = FibWriter<V4, V>;

/// A reader of an IPv4 table.
pub type Fib4Reader<V = NextHopIndex> = FibReader<V4, V>;

impl<V: Value> Fib4Writer<V> {
    /// What the second-level groups are doing.
    pub fn groups(&self) -> PoolUse {
        self.family().groups()
    }
}

/// The limits of an IPv4 table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fib4Config {
    /// Second-level groups, 512 bytes each: the most /24s that can hold routes longer than /24 at
    /// a time, with some to spare for those that readers hold up. At most
    /// [`Fib4Config::MAX_GROUPS`].
    pub groups: u16,
    /// The most readers registered at a time.
    pub readers: usize,
    /// How long an insertion or a flush waits for readers to become quiescent. Longer than the
    /// slowest turn of a reader's poll loop, short enough for the thread of the writer.
    pub reclaim_wait: Duration,
}

impl Fib4Config {
    /// The most second-level groups: as many as the 15 bits of an entry can number.
    pub const MAX_GROUPS: u16 = 32_768;
}

impl Default for Fib4Config {
    /// All the groups there can be (unused ones take no memory), 64 readers, 10 ms.
    fn default() -> Self {
        Self {
            groups: Self::MAX_GROUPS,
            readers: 64,
            reclaim_wait: Duration::from_millis(10),
        }
    }
}

/// What an IPv4 table takes, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fib4Memory {
    /// The first level, shared with the readers.
    pub first_level: Footprint,
    /// The second-level groups, shared with the readers.
    pub second_level: Footprint,
    /// The writer's own record of routes and groups; an estimate.
    pub routes: Footprint,
}

impl Fib4Memory {
    /// All parts together.
    pub fn total(&self) -> Footprint {
        [self.first_level, self.second_level, self.routes]
            .into_iter()
            .sum()
    }
}
