//! The writer's side of an IPv6 table.

use super::entry::Node;
use super::grow::{Growth, has_edges};
use super::place::{Place, below, cell, directory, key, stage_of};
use super::table::{DIRECTORY_LEN, Table};
use super::{Fib6Config, Fib6Memory};
use crate::family::{ReaderLimits, sealed};
use crate::memory::{Footprint, TouchedPages};
use crate::pool::Pool;
use crate::prefix::Prefix;
use crate::qsbr::Domain;
use crate::routes::Routes;
use crate::{Family, FibError, RawWidth};

/// IPv6. Its value is the writer's record of groups, lines and touched memory.
#[derive(Debug)]
pub struct V6 {
    pub(super) groups: Pool,
    pub(super) lines: Pool,
    directory: TouchedPages,
    /// Of the cells, those of raw values' and lines' own.
    own_cells: TouchedPages,
    children: TouchedPages,
}

impl V6 {
    /// Publishes `node`, whose content is complete, as what the addresses of `place` have;
    /// `depth` bits of the address lead there.
    pub(super) fn store(&mut self, table: &Table, place: Place, depth: u8, node: Node) {
        const ENTRY: usize = size_of::<u32>();
        match place {
            Place::Directory(slot) => {
                let byte = slot as usize * ENTRY;
                self.directory.touch(byte, byte + ENTRY - 1);
            }
            Place::Run(line, _) if !matches!(node, Node::Leaf(_)) => self.touch_children(line),
            _ => (),
        }
        table.store(place, depth, node);
    }

    /// Gives a raw value or a line, before it is stored anywhere, the cell of its own.
    pub(super) fn own_cell(&mut self, table: &Table, node: Node) {
        let byte = table.own_cell(node) * size_of::<u32>();
        self.own_cells.touch(byte, byte);
    }

    /// Notes that children of a line have been written.
    pub(super) fn touch_children(&mut self, line: u32) {
        let first = line as usize * Table::CHILDREN_BYTES;
        self.children
            .touch(first, first + Table::CHILDREN_BYTES - 1);
    }

    /// Retires a node that readers can no longer find.
    pub(super) fn retire(&mut self, node: Node, readers: &mut Domain) {
        match node {
            Node::Leaf(_) => (),
            Node::Group(group) => self.groups.retire(group, readers.advance()),
            Node::Line(line) => self.lines.retire(line, readers.advance()),
        }
    }

    /// Gives the addresses `first` to `last`, which lie in what `place` stands for and end where
    /// runs and cells end, a raw value.
    fn set(&mut self, table: &Table, place: Place, depth: u8, (first, last): Range, raw: u16) {
        match table.load(place) {
            Node::Leaf(_) => {
                let whole = Prefix::of(first, depth);
                debug_assert!(
                    matches!(place, Place::Run(..))
                        || (whole.first(), whole.last()) == (first, last),
                    "a part of what {place:?} stands for was to be set"
                );
                self.store(table, place, depth, Node::Leaf(raw));
            }
            Node::Group(group) => {
                let shift = 120 - depth;
                for byte in first >> shift..=last >> shift {
                    let within = clip(byte << shift, depth + 8, (first, last));
                    self.set(table, cell(group, within.0, depth), depth + 8, within, raw);
                }
            }
            Node::Line(line) => {
                let start = stage_of(depth);
                let ends = table.ends(line);
                let first_run = table.run_of(line, key(first, start));
                let last_run = table.run_of(line, key(last, start));
                for run in first_run..=last_run {
                    let from = match run == first_run {
                        true => first,
                        false => after(first, start, ends[run - 1]),
                    };
                    // Counts for a run with a child, which is a single key.
                    let within = clip(from, start + 16, (first, last));
                    self.set(table, Place::Run(line, run), start + 16, within, raw);
                }
            }
        }
    }
}

type Range = (u128, u128);

/// The first address behind key `end` of the stage that begins after `start` bits of `address`.
fn after(address: u128, start: u8, end: u16) -> u128 {
    Prefix::of(address, start).first() | (u128::from(end) + 1) << (112 - start)
}

/// The part of a range that lies in the block of `len` bits at `address`.
fn clip(address: u128, len: u8, (first, last): Range) -> Range {
    let block = Prefix::of(address, len);
    (first.max(block.first()), last.min(block.last()))
}

impl sealed::Sealed for V6 {}

impl Family for V6 {
    type Address = u128;
    type Config = Fib6Config;
    type Memory = Fib6Memory;
    type Table = Table;

    fn new(config: &Fib6Config) -> Result<(Self, Table), FibError> {
        for (part, asked, limit) in [
            ("groups", config.groups, Fib6Config::MAX_GROUPS),
            ("lines", config.lines, Fib6Config::MAX_LINES),
        ] {
            if asked > limit {
                return Err(FibError::PoolTooLarge {
                    pool: part,
                    asked,
                    limit,
                });
            }
        }
        let family = Self {
            groups: Pool::new("groups", config.groups),
            lines: Pool::new("lines", config.lines),
            directory: TouchedPages::new(Table::DIRECTORY_BYTES),
            own_cells: TouchedPages::new(Table::CELLS_BYTES),
            children: TouchedPages::new(Table::ALL_CHILDREN_BYTES),
        };
        Ok((family, Table::new()?))
    }

    fn reader_limits(config: &Fib6Config) -> ReaderLimits {
        ReaderLimits {
            readers: config.readers,
            reclaim_wait: config.reclaim_wait,
        }
    }

    #[inline]
    fn lookup(table: &Table, address: u128) -> u16 {
        table.lookup(address)
    }

    #[inline]
    fn lookup_batch<R: RawWidth>(table: &Table, addresses: &[u128], raw: &mut [R]) {
        table.lookup_batch(addresses, raw);
    }

    /// Goes down to where `prefix` ends or to the first node that cannot tell it from what is
    /// beside it. That one is replaced, by one publication, with all that hangs below it.
    fn prepare(
        &mut self,
        table: &Table,
        routes: &Routes<u128>,
        prefix: Prefix<u128>,
        readers: &mut Domain,
    ) -> Result<(), FibError> {
        let (mut place, mut depth) = (directory(prefix.first()), DIRECTORY_LEN);
        while depth < prefix.len() {
            let old = table.load(place);
            let tells = match old {
                Node::Leaf(_) => false,
                Node::Group(_) => true,
                Node::Line(line) => has_edges(table, line, prefix, depth),
            };
            match below(table, old, prefix.first(), depth) {
                Some(next) if tells => (place, depth) = next,
                _ => {
                    let growth = Growth::new(table, routes, prefix, readers);
                    let new = self.grown(growth, old, depth)?;
                    self.store(table, place, depth, new);
                    self.retire(old, readers);
                    break;
                }
            }
        }
        Ok(())
    }

    fn set_range(&mut self, table: &Table, first: u128, last: u128, raw: u16) {
        self.own_cell(table, Node::Leaf(raw));
        let slots = (first >> 104) as u32..=(last >> 104) as u32;
        for slot in slots {
            let block = u128::from(slot) << 104;
            let within = clip(block, DIRECTORY_LEN, (first, last));
            self.set(table, directory(block), DIRECTORY_LEN, within, raw);
        }
    }

    fn prune(
        &mut self,
        table: &Table,
        routes: &Routes<u128>,
        prefix: Prefix<u128>,
        readers: &mut Domain,
    ) {
        let first = prefix.first();
        let mut path = Vec::with_capacity(usize::from(u128::BITS as u8 / 8));
        let (mut place, mut depth) = (directory(first), DIRECTORY_LEN);
        while depth < prefix.len() {
            let node = table.load(place);
            let Some(next) = below(table, node, first, depth) else {
                break;
            };
            path.push((place, depth, node));
            (place, depth) = next;
        }
        // From the bottom: what has no route longer than itself inside has one value throughout.
        for (place, depth, node) in path.into_iter().rev() {
            if routes.any_longer_inside(Prefix::of(first, depth)) {
                break;
            }
            self.store(table, place, depth, Node::Leaf(table.lookup(first)));
            self.retire(node, readers);
        }
    }

    fn reclaim(&mut self, readers: &Domain) -> usize {
        self.groups.reclaim(readers) + self.lines.reclaim(readers)
    }

    fn memory(&self, routes: &Routes<u128>) -> Fib6Memory {
        let pool = |pool: &Pool, reserved, each| Footprint {
            reserved,
            touched: TouchedPages::whole(pool.usage().touched as usize * each),
        };
        Fib6Memory {
            directory: self.directory.footprint(),
            groups: Footprint {
                reserved: Table::CELLS_BYTES,
                touched: pool(&self.groups, 0, Table::GROUP_BYTES).touched
                    + self.own_cells.footprint().touched,
            },
            lines: [
                pool(&self.lines, Table::LINES_BYTES, Table::LINE_BYTES),
                self.children.footprint(),
            ]
            .into_iter()
            .sum(),
            routes: [
                routes.footprint(),
                Footprint::all(self.groups.bytes() + self.lines.bytes()),
            ]
            .into_iter()
            .sum(),
        }
    }
}
