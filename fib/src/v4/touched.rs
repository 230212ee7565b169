//! Which pages of the first level have been written.

const PAGE: usize = 4096;
/// Entries of a page, each for a /24.
const SLOTS_PER_PAGE_BITS: u32 = 11;

/// A bit for each page of 4 KiB.
#[derive(Debug)]
pub(super) struct TouchedPages {
    words: Box<[u64]>,
}

impl TouchedPages {
    /// For a first level of `bytes`, a multiple of 4 KiB.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            words: vec![0; bytes.div_ceil(PAGE).div_ceil(64)].into_boxed_slice(),
        }
    }

    /// Marks the pages with the entries of the addresses `first` to `last`.
    pub(super) fn touch_slots(&mut self, first: u32, last: u32) {
        let page = |address: u32| (address >> 8 >> SLOTS_PER_PAGE_BITS) as usize;
        for page in page(first)..=page(last) {
            if let Some(word) = self.words.get_mut(page / 64) {
                *word |= 1 << (page % 64);
            }
        }
    }

    /// Bytes of the marked pages.
    pub(super) fn bytes(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum::<usize>()
            * PAGE
    }

    /// `bytes` in whole pages.
    pub(super) fn whole(bytes: usize) -> usize {
        bytes.next_multiple_of(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_once() {
        let mut pages = TouchedPages::new(32 << 20);
        assert_eq!(pages.bytes(), 0);
        pages.touch_slots(0, 0xff);
        pages.touch_slots(0x100, 0x7_ffff);
        assert_eq!(pages.bytes(), PAGE);
        pages.touch_slots(0x7_ffff, 0x8_0000);
        assert_eq!(pages.bytes(), 2 * PAGE);
        pages.touch_slots(0, u32::MAX);
        assert_eq!(pages.bytes(), 32 << 20);
        assert_eq!(TouchedPages::whole(513), PAGE);
    }
}
