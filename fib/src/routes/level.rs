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

/// The longest route that is `prefix` or lies around it, where all have `min` bits or more.
pub(super) fn longest<A: Address>(
    map: &BTreeMap<A, NextHopIndex>,
    keys: Keys<A>,
    prefix: Prefix<A>,
    min: u8,
) -> Option<Route<A>> {
    let mut probe = prefix;
    while probe.len() >= min {
        let found = keys.route(map.range(..=keys.key(probe)).next_back()?);
        if found.0.contains(probe) {
            return Some(found);
        }
        // What lies around `probe` stands before it, so before or at `found`, and therefore lies
        // around `found` too.
        probe = probe.common(found.0);
    }
    None
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
