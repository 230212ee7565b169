//! IPv6: a directory, then stages of lines and groups.

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
    /// Lines, 64 bytes each, and 64 more where routes end in different stages; at most
    /// [`Fib6Config::MAX_LINES`].
    pub lines: u32,
    /// The most readers registered at a time.
    pub readers: usize,
    /// How long an insertion or a flush waits for readers to become quiescent. Longer than the
    /// slowest turn of a reader's poll loop, short enough for the thread of the writer.
    pub reclaim_wait: Duration,
}

impl Fib6Config {
    /// The most groups: as many as an entry can number.
    pub const MAX_GROUPS: u32 = 1 << 16;
    /// The most lines.
    pub const MAX_LINES: u32 = 1 << 19;
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
