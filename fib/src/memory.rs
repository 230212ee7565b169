//! What a table takes of the machine's memory.

/// Bytes of one part of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Address space.
    pub reserved: usize,
    /// Memory: pages of 4 KiB that were ever written, which the system has had to provide.
    pub touched: usize,
}

impl Footprint {
    /// Bytes that are all reserved and all written.
    pub(crate) fn all(bytes: usize) -> Self {
        Self {
            reserved: bytes,
            touched: bytes,
        }
    }
}

impl std::iter::Sum for Footprint {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            reserved: sum.reserved + part.reserved,
            touched: sum.touched + part.touched,
        })
    }
}

const PAGE: usize = 4096;

/// Which pages of 4 KiB of a zeroed array have been written: a bit for each.
#[derive(Debug)]
pub(crate) struct TouchedPages {
    bytes: usize,
    words: Box<[u64]>,
}

impl TouchedPages {
    /// For an array of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            words: vec![0; bytes.div_ceil(PAGE).div_ceil(64)].into_boxed_slice(),
        }
    }

    /// Marks the pages with the bytes `first` to `last`.
    pub(crate) fn touch(&mut self, first: usize, last: usize) {
        for page in first / PAGE..=last / PAGE {
            if let Some(word) = self.words.get_mut(page / 64) {
                *word |= 1 << (page % 64);
            }
        }
    }

    pub(crate) fn footprint(&self) -> Footprint {
        let pages: usize = self.words.iter().map(|w| w.count_ones() as usize).sum();
        Footprint {
            reserved: self.bytes,
            touched: pages * PAGE,
        }
    }

    /// `bytes` in whole pages.
    pub(crate) fn whole(bytes: usize) -> usize {
        bytes.next_multiple_of(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_once() {
        let mut pages = TouchedPages::new(32 << 20);
        assert_eq!(pages.footprint().touched, 0);
        pages.touch(0, 1);
        pages.touch(2, PAGE - 1);
        assert_eq!(pages.footprint().touched, PAGE);
        pages.touch(PAGE - 1, PAGE);
        assert_eq!(pages.footprint().touched, 2 * PAGE);
        pages.touch(0, (32 << 20) - 1);
        assert_eq!(pages.footprint(), Footprint::all(32 << 20));
        assert_eq!(TouchedPages::whole(513), PAGE);
    }
}
