//! The writer's own record of the routes: exact, longest and ordered access.

mod cover;
mod level;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::FromZeros;

use crate::memory::{Footprint, TouchedPages};
use crate::prefix::Prefix;
use crate::{Address, FibError, NextHopIndex};
use cover::Cover;
use level::{Block, Keys};

/// A route: a prefix and its next hop.
pub(crate) type Route<A> = (Prefix<A>, NextHopIndex);

/// All routes.
///
/// Routes no longer than [`Address::SPLIT`] are in one map, the longer ones in a small map for
/// each block of so many bits. A routing table has most of its routes in the small maps, and what
/// lies around a route mostly beside it.
#[derive(Debug)]
pub struct Routes<A: Address> {
    len: usize,
    short: BTreeMap<A, NextHopIndex>,
    cover: Cover,
    /// For each block, where its map is in `maps`, plus 1; 0 if it has none. Zeroed memory comes
    /// from the system unallocated.
    index: Vec<u32>,
    index_pages: TouchedPages,
    maps: Vec<Block<A>>,
    /// Empty maps.
    free: Vec<u32>,
    /// The blocks that have a map, for iteration in order.
    blocks: BTreeSet<u32>,
}

impl<A: Address> Routes<A> {
    pub(crate) fn new() -> Result<Self, FibError> {
        let blocks = 1 << A::SPLIT;
        let bytes = blocks * size_of::<u32>();
        let index = u32::new_vec_zeroed(blocks).map_err(|_| FibError::OutOfMemory {
            part: "index of routes",
            bytes,
        })?;
        Ok(Self {
            len: 0,
            short: BTreeMap::new(),
            cover: Cover::new::<A>()?,
            index,
            index_pages: TouchedPages::new(bytes),
            maps: Vec::new(),
            free: Vec::new(),
            blocks: BTreeSet::new(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// About what the record takes: the index, and nodes of B-trees, which are three quarters full.
    pub(crate) fn footprint(&self) -> Footprint {
        /// The capacity of a node of the standard library's B-tree.
        const NODE: usize = 11;
        let route = size_of::<A>() + size_of::<NextHopIndex>();
        // The last node of each map is half full.
        let nodes = self.len * route * 4 / 3 + self.blocks.len() * route * NODE / 2;
        let maps = self.maps.capacity() * size_of::<Block<A>>()
            + (self.free.capacity() + self.blocks.len()) * size_of::<u32>();
        let arrays = [self.index_pages.footprint(), self.cover.footprint()];
        arrays
            .into_iter()
            .chain([Footprint::all(nodes + maps)])
            .sum()
    }

    pub(crate) fn get(&self, prefix: Prefix<A>) -> Option<NextHopIndex> {
        let (map, keys) = self.level(prefix)?;
        map.get(&keys.key(prefix)).copied()
    }

    /// Adds or replaces a route, and returns the next hop that it had.
    pub(crate) fn insert(&mut self, prefix: Prefix<A>, hop: NextHopIndex) -> Option<NextHopIndex> {
        let old = if prefix.len() <= A::SPLIT {
            if prefix != Prefix::ALL {
                self.cover.insert(prefix, hop);
            }
            self.short.insert(Keys::SHORT.key(prefix), hop)
        } else {
            self.map_for(number(prefix)).insert(prefix, hop)
        };
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, prefix: Prefix<A>) -> Option<NextHopIndex> {
        let old = if prefix.len() <= A::SPLIT {
            let old = self.short.remove(&Keys::SHORT.key(prefix))?;
            if prefix != Prefix::ALL {
                let around = self.longest_around(prefix);
                let around = around.filter(|(around, _)| *around != Prefix::ALL);
                self.cover.remove(prefix, around);
            }
            old
        } else {
            let slot = self.slot(prefix)?;
            let map = self.maps.get_mut(slot)?;
            let old = map.remove(prefix)?;
            if map.is_empty() {
                self.free.push(slot as u32);
                self.blocks.remove(&(number(prefix) as u32));
                self.index[number(prefix)] = 0;
            }
            old
        };
        self.len -= 1;
        Some(old)
    }

    /// All routes, by address, then from the shorter to the longer.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Route<A>> + '_ {
        self.covered(Prefix::ALL)
    }

    /// The longest route that is `prefix` or lies around it.
    pub(crate) fn longest(&self, prefix: Prefix<A>) -> Option<Route<A>> {
        if prefix.len() <= A::SPLIT {
            return level::longest(&self.short, Keys::SHORT, prefix);
        }
        if let Some(found) = self.block(prefix).and_then(|routes| routes.longest(prefix)) {
            return Some(found);
        }
        match self.cover.of(number(prefix)) {
            Some((len, hop)) => Some((Prefix::of(prefix.first(), len), hop)),
            None => self.get(Prefix::ALL).map(|hop| (Prefix::ALL, hop)),
        }
    }

    /// The longest route around `prefix`, without `prefix` itself.
    pub(crate) fn longest_around(&self, prefix: Prefix<A>) -> Option<Route<A>> {
        self.longest(prefix.parent()?)
    }

    /// All routes around `prefix` and `prefix` itself, from the longest to the shortest.
    pub(crate) fn covering(&self, prefix: Prefix<A>) -> impl Iterator<Item = Route<A>> + '_ {
        std::iter::successors(self.longest(prefix), |found| self.longest_around(found.0))
    }

    /// `prefix` itself and all routes inside it, in order.
    pub(crate) fn covered(&self, prefix: Prefix<A>) -> impl Iterator<Item = Route<A>> + '_ {
        let narrow = (prefix.len() > A::SPLIT).then(|| self.level(prefix));
        let wide = narrow.is_none().then(|| self.merged(prefix));
        let narrow = narrow
            .flatten()
            .map(|(map, keys)| level::covered(map, keys, prefix));
        narrow
            .into_iter()
            .flatten()
            .chain(wide.into_iter().flatten())
    }

    /// True if there is a route inside `prefix`, not counting `prefix` itself.
    pub(crate) fn any_longer_inside(&self, prefix: Prefix<A>) -> bool {
        if prefix.len() <= A::SPLIT {
            return self.inside(prefix).next().is_some();
        }
        self.block(prefix)
            .is_some_and(|routes| routes.any_longer_inside(prefix))
    }

    /// The address ranges (first, last) of `prefix` that no route inside it claims, in order.
    pub(crate) fn unclaimed(&self, prefix: Prefix<A>) -> impl Iterator<Item = (A, A)> + '_ {
        // The first address not yet looked at; `None` after the last of all.
        let mut next = Some(prefix.first());
        self.inside(prefix)
            .map(Some)
            .chain(std::iter::once(None))
            .filter_map(move |claim| {
                let from = next?;
                let Some(claim) = claim else {
                    return (from <= prefix.last()).then(|| (from, prefix.last()));
                };
                // A route inside another claims nothing more: it ends before `from`.
                if claim.last() >= from {
                    next = claim.last().successor();
                }
                let last = claim.first().predecessor()?;
                (from <= last).then_some((from, last))
            })
    }

    /// The prefixes of the routes inside `prefix`, without itself, in order.
    fn inside(&self, prefix: Prefix<A>) -> impl Iterator<Item = Prefix<A>> + '_ {
        self.covered(prefix)
            .map(|(inner, _)| inner)
            .skip_while(move |inner| *inner == prefix)
    }

    /// The routes in a prefix not longer than `SPLIT`: the short ones, and between them those of
    /// the blocks.
    fn merged(&self, prefix: Prefix<A>) -> impl Iterator<Item = Route<A>> + '_ {
        let mut short = level::covered(&self.short, Keys::SHORT, prefix).peekable();
        let (first, last) = (number(prefix), number(Prefix::host(prefix.last())));
        let mut long = self
            .blocks
            .range(first as u32..=last as u32)
            .filter_map(|block| {
                let base = A::from_low(*block).left(A::BITS - A::SPLIT);
                self.level(Prefix::host(base))
            })
            .flat_map(|(map, keys)| level::all(map, keys))
            .peekable();
        std::iter::from_fn(move || match (short.peek(), long.peek()) {
            (Some(short_route), Some(long_route)) if long_route.0 < short_route.0 => long.next(),
            (Some(_), _) => short.next(),
            (None, _) => long.next(),
        })
    }

    /// The map that a route of `prefix` is in if there is one, and how its keys are made.
    #[inline]
    fn level(&self, prefix: Prefix<A>) -> Option<(&BTreeMap<A, NextHopIndex>, Keys<A>)> {
        if prefix.len() <= A::SPLIT {
            return Some((&self.short, Keys::SHORT));
        }
        Some((self.block(prefix)?.map(), Keys::of_block(prefix.first())))
    }

    /// The routes longer than `SPLIT` of the block that `prefix` begins in.
    #[inline]
    fn block(&self, prefix: Prefix<A>) -> Option<&Block<A>> {
        self.maps.get(self.slot(prefix)?)
    }

    #[inline]
    fn slot(&self, prefix: Prefix<A>) -> Option<usize> {
        (*self.index.get(number(prefix))? as usize).checked_sub(1)
    }

    /// The map of a block, which is given one if it has none.
    fn map_for(&mut self, block: usize) -> &mut Block<A> {
        let slot = match self.index[block] {
            0 => {
                let slot = match self.free.pop() {
                    Some(slot) => slot as usize,
                    None => {
                        self.maps.push(Block::default());
                        self.maps.len() - 1
                    }
                };
                // There are at most as many maps as blocks, which 24 bits number.
                self.index[block] = slot as u32 + 1;
                let byte = block * size_of::<u32>();
                self.index_pages.touch(byte, byte);
                self.blocks.insert(block as u32);
                slot
            }
            place => place as usize - 1,
        };
        &mut self.maps[slot]
    }
}

/// The number of the block of a prefix's first address.
#[inline]
fn number<A: Address>(prefix: Prefix<A>) -> usize {
    prefix.first().right(A::BITS - A::SPLIT).low() as usize
}
