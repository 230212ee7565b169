//! What the short routes say of each block.

use zerocopy::FromZeros;

use crate::memory::{Footprint, TouchedPages};
use crate::prefix::Prefix;
use crate::{Address, FibError, NextHopIndex};

/// For each block, the longest route of 1 to `SPLIT` bits around it, so that a search from within
/// a block needs no search among the short routes.
///
/// A route of length 0, which would be written everywhere, is left to the caller.
#[derive(Debug)]
pub(super) struct Cover {
    /// 0, or the route's raw value above its length, which takes 8 bits. Zeroed memory comes from
    /// the system unallocated.
    words: Vec<u32>,
    pages: TouchedPages,
}

impl Cover {
    pub(super) fn new<A: Address>() -> Result<Self, FibError> {
        let blocks = 1 << A::SPLIT;
        let bytes = blocks * size_of::<u32>();
        let words = u32::new_vec_zeroed(blocks).map_err(|_| FibError::OutOfMemory {
            part: "cover of routes",
            bytes,
        })?;
        Ok(Self {
            words,
            pages: TouchedPages::new(bytes),
        })
    }

    /// The length and the next hop of the route around a block.
    #[inline]
    pub(super) fn of(&self, block: usize) -> Option<(u8, NextHopIndex)> {
        let word = *self.words.get(block)?;
        Some((word as u8, NextHopIndex::from_raw((word >> 8) as u16)?))
    }

    /// Notes a new or changed route.
    pub(super) fn insert<A: Address>(&mut self, prefix: Prefix<A>, hop: NextHopIndex) {
        let word = word(prefix, hop);
        for old in self.blocks(prefix) {
            // The same length is the same route.
            if *old as u8 <= prefix.len() {
                *old = word;
            }
        }
    }

    /// Notes that a route is gone; `around` is the longest around it now, but for length 0.
    pub(super) fn remove<A: Address>(
        &mut self,
        prefix: Prefix<A>,
        around: Option<(Prefix<A>, NextHopIndex)>,
    ) {
        let word = around.map_or(0, |(around, hop)| word(around, hop));
        for old in self.blocks(prefix) {
            if *old as u8 == prefix.len() {
                *old = word;
            }
        }
    }

    pub(super) fn footprint(&self) -> Footprint {
        self.pages.footprint()
    }

    fn blocks<A: Address>(&mut self, prefix: Prefix<A>) -> &mut [u32] {
        let first = super::number(prefix);
        let last = super::number(Prefix::host(prefix.last()));
        self.pages
            .touch(first * size_of::<u32>(), last * size_of::<u32>());
        &mut self.words[first..=last]
    }
}

fn word<A: Address>(prefix: Prefix<A>, hop: NextHopIndex) -> u32 {
    u32::from(hop.to_raw()) << 8 | u32::from(prefix.len())
}
