//! What readers share with the writer: the family's table, and the default route beside it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use crate::{Family, RawWidth};

/// The route of length 0 is not written into the table, where it would take an entry for every
/// address that no other route has. It is one word, which stands in for the misses.
///
/// A lookup reads this word and the table, and its answer must be one that an address had at one
/// time. That is not so without a second look at the word: with the default route A and a route X,
/// the default becomes B, then X is removed; a reader that has seen A before and the miss after
/// would answer A, which no address of X ever had. Therefore a lookup is done again if the word
/// has changed meanwhile. A change back to A would not show, so the word has a version.
#[derive(Debug)]
pub(crate) struct Shared<F: Family> {
    pub(crate) table: F::Table,
    /// The number of changes so far in the upper 48 bits, the raw value in the lower 16.
    default: AtomicU64,
}

impl<F: Family> Shared<F> {
    pub(crate) fn new(table: F::Table) -> Self {
        Self {
            table,
            default: AtomicU64::new(0),
        }
    }

    /// Gives all addresses without another route a raw value at once. For the writer's thread.
    pub(crate) fn set_default(&self, raw: u16) {
        let version = (self.default.load(Relaxed) >> 16) + 1;
        self.default.store(version << 16 | u64::from(raw), Release);
    }

    /// The raw value of one address.
    #[inline]
    pub(crate) fn lookup(&self, address: F::Address) -> u16 {
        let (raw, default) = self.under_one_default(|| F::lookup(&self.table, address));
        if raw == 0 { default } else { raw }
    }

    /// The raw values of as many addresses as both slices have.
    #[inline]
    pub(crate) fn lookup_batch<R: RawWidth>(&self, addresses: &[F::Address], raw: &mut [R]) {
        let count = addresses.len().min(raw.len());
        let (addresses, raw) = (&addresses[..count], &mut raw[..count]);
        let ((), default) = self.under_one_default(|| F::lookup_batch(&self.table, addresses, raw));
        if default != 0 {
            let (miss, default) = (R::from_raw(0), R::from_raw(default));
            for raw in raw {
                *raw = if *raw == miss { default } else { *raw };
            }
        }
    }

    /// Looks into the table until the default route has not changed from before to after, and
    /// returns what was found and the default's raw value.
    #[inline]
    fn under_one_default<T>(&self, mut look: impl FnMut() -> T) -> (T, u16) {
        // Acquire: the table is looked at after the word. The fence: and before it again.
        let mut word = self.default.load(Acquire);
        loop {
            let found = look();
            fence(Acquire);
            let now = self.default.load(Acquire);
            if now == word {
                return (found, word as u16);
            }
            word = now;
        }
    }
}
