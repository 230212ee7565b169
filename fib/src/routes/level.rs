//! One ordered map of routes, whose keys are as wide as an address.

use std::collections::BTreeMap;

use super::Route;
use crate::prefix::Prefix;
use crate::{Address, NextHopIndex};

/// How a prefix becomes a key of the same order: the significant bits, then the length in the low
/// 8 bits.
///
/// A prefix of at most `SPLIT` bits has more than 8 low bits that are 0. In a map of one block all
/// prefixes begin with the same `SPLIT` bits, so these make room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<A> {
    /// What all the map's prefixes begin with.
    base: A,
    shift: u8,
}

impl<A: Address> Keys<A> {
    /// For routes no longer than `SPLIT`.
    pub(super) const SHORT: Self = Self {
        base: A::ZERO,
        shift: 0,
    };

    /// For longer routes, those of the block of `address`.
    #[inline]
    pub(super) fn of_block(address: A) -> Self {
        Self {
            base: Prefix::of(address, A::SPLIT).first(),
            shift: A::SPLIT,
        }
    }

    #[inline]
    pub(super) fn key(self, prefix: Prefix<A>) -> A {
        prefix.first().left(self.shift) | A::from_low(prefix.len().into())
    }

    #[inline]
    fn prefix(self, key: A) -> Prefix<A> {
        let bits = key & !A::from_low(0xff);
        Prefix::of(self.base | bits.right(self.shift), key.low() as u8)
    }

    #[inline]
    fn route(self, (&key, &hop): (&A, &NextHopIndex)) -> Route<A> {
        (self.prefix(key), hop)
    }

    /// The greatest key of what lies in `prefix`.
    #[inline]
    fn last(self, prefix: Prefix<A>) -> A {
        prefix.last().left(self.shift) | A::from_low(0xff)
    }
}

/// The routes longer than `SPLIT` of one block.
#[derive(Debug)]
pub(super) struct Block<A> {
    map: BTreeMap<A, NextHopIndex>,
    /// A bit for each length that a route has had since the map was empty, the shortest lowest:
    /// a search need not look for others.
    lens: A,
}

impl<A: Address> Default for Block<A> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            lens: A::ZERO,
        }
    }
}

impl<A: Address> Block<A> {
    pub(super) fn map(&self) -> &BTreeMap<A, NextHopIndex> {
        &self.map
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// True if there is a route inside `prefix`, not counting `prefix` itself.
    pub(super) fn any_longer_inside(&self, prefix: Prefix<A>) -> bool {
        let keys = Keys::of_block(prefix.first());
        self.lens.right(prefix.len() - A::SPLIT) != A::ZERO
            && covered(&self.map, keys, prefix).any(|(inner, _)| inner != prefix)
    }

    pub(super) fn insert(&mut self, prefix: Prefix<A>, hop: NextHopIndex) -> Option<NextHopIndex> {
        self.lens = self.lens | A::from_low(1).left(prefix.len() - A::SPLIT - 1);
        let key = Keys::of_block(prefix.first()).key(prefix);
        self.map.insert(key, hop)
    }

    pub(super) fn remove(&mut self, prefix: Prefix<A>) -> Option<NextHopIndex> {
        let key = Keys::of_block(prefix.first()).key(prefix);
        let old = self.map.remove(&key);
        if self.map.is_empty() {
            self.lens = A::ZERO;
        }
        old
    }

    /// The longest route that is `prefix` or lies around it, as [`longest`] finds it.
    pub(super) fn longest(&self, prefix: Prefix<A>) -> Option<Route<A>> {
        let keys = Keys::of_block(prefix.first());
        let mut len = prefix.len();
        while len > A::SPLIT {
            let lens = self.lens & A::MAX.right(A::BITS - (len - A::SPLIT));
            if lens == A::ZERO {
                return None;
            }
            let probe = Prefix::of(
                prefix.first(),
                A::SPLIT + A::BITS - lens.common_bits(A::ZERO),
            );
            let found = keys.route(self.map.range(..=keys.key(probe)).next_back()?);
            if found.0.contains(probe) {
                return Some(found);
            }
            len = probe.common(found.0).len();
        }
        None
    }
}

/// The longest route that is `prefix` or lies around it.
pub(super) fn longest<A: Address>(
    map: &BTreeMap<A, NextHopIndex>,
    keys: Keys<A>,
    prefix: Prefix<A>,
) -> Option<Route<A>> {
    let mut probe = prefix;
    loop {
        let found = keys.route(map.range(..=keys.key(probe)).next_back()?);
        if found.0.contains(probe) {
            return Some(found);
        }
        // What lies around `probe` stands before it, so before or at `found`, and therefore lies
        // around `found` too.
        probe = probe.common(found.0);
    }
}

/// `prefix` itself and all routes inside it, in order.
pub(super) fn covered<A: Address>(
    map: &BTreeMap<A, NextHopIndex>,
    keys: Keys<A>,
    prefix: Prefix<A>,
) -> impl Iterator<Item = Route<A>> + '_ {
    map.range(keys.key(prefix)..=keys.last(prefix))
        .map(move |entry| keys.route(entry))
}

/// All routes, in order.
pub(super) fn all<A: Address>(
    map: &BTreeMap<A, NextHopIndex>,
    keys: Keys<A>,
) -> impl Iterator<Item = Route<A>> + '_ {
    map.iter().map(move |entry| keys.route(entry))
}
