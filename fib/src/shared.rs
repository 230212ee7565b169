//! What readers share with the writer: the family's table, and the default route beside it.

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU64, fence};
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
        loop {
            let before = self.default.load(Acquire);
            let raw = F::lookup(&self.table, address);
            if self.is_still(before) {
                return if raw == 0 { before as u16 } else { raw };
            }
        }
    }

    /// The raw values of as many addresses as both slices have.
    #[inline]
    pub(crate) fn lookup_batch<R: RawWidth>(&self, addresses: &[F::Address], raw: &mut [R]) {
        let mut default = self.default.load(Acquire);
        F::lookup_batch(&self.table, addresses, raw);
        if !self.is_still(default) {
            default = self.lookup_again(addresses, raw);
        }
        if default as u16 != 0 {
            let count = addresses.len().min(raw.len());
            let (miss, default) = (R::from_raw(0), R::from_raw(default as u16));
            for raw in &mut raw[..count] {
                *raw = if *raw == miss { default } else { *raw };
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn lookup_again<R: RawWidth>(&self, addresses: &[F::Address], raw: &mut [R]) -> u64 {
        let count = addresses.len().min(raw.len());
        loop {
            if !raw[..count].contains(&R::from_raw(0)) {
                // No answer depends on the word.
                return 0;
            }
            let before = self.default.load(Acquire);
            F::lookup_batch(&self.table, addresses, raw);
            if self.is_still(before) {
                return before;
            }
        }
    }

    /// True if the default's word has not changed from a load until after the looks since.
    #[inline]
    fn is_still(&self, before: u64) -> bool {
        // The looks come before this load, as the acquire load before them comes before them.
        fence(Acquire);
        self.default.load(Relaxed) == before
    }
}
