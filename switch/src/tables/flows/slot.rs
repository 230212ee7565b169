//! A slot: one word that says what is in it, and the key beside it.
//!
//! Every change is one compare-exchange on the word, so two threads never both change an entry.
//! A slot goes free -> claimed -> live -> free, or live -> claimed when one entry replaces
//! another. The key is written only while the slot is claimed, and each claim counts up the
//! word's version: whoever reads a live word, the key, and the same version again, has read that
//! entry's key (a sequence lock whose readers never wait, but count a changed slot as no match).
//!
//! The version has 16 bits. A reader would have to sleep between its two looks at the word while
//! the slot is filled exactly 65,536 times, or a multiple, the last time with a key of the same
//! fingerprint; then it takes one packet for another flow's.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::key::Packed;
use super::phase::Phase;

const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const PHASE_BITS: u32 = 4;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;
/// Bits of the hash that a word repeats.
pub(super) const FINGERPRINT_BITS: u32 = 12;
const VERSION_AT: u32 = PHASE_BITS + FINGERPRINT_BITS;
const SEEN_AT: u32 = 32;

/// `seen << 32 | version << 16 | fingerprint << 4 | phase`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word(u64);

impl Word {
    #[inline]
    pub(super) fn is_free(self) -> bool {
        self.0 & PHASE_MASK == FREE
    }

    /// The entry's phase; `None` while there is no entry.
    #[inline]
    pub(super) fn phase(self) -> Option<Phase> {
        Phase::from_bits(self.0 & PHASE_MASK)
    }

    #[inline]
    pub(super) fn fingerprint(self) -> u64 {
        (self.0 as u32 >> PHASE_BITS) as u64 & ((1 << FINGERPRINT_BITS) - 1)
    }

    /// The second of the last packet.
    #[inline]
    pub(super) fn seen(self) -> u32 {
        (self.0 >> SEEN_AT) as u32
    }

    /// Seconds without a packet.
    #[inline]
    pub(super) fn idle(self, now: u32) -> u32 {
        now.saturating_sub(self.seen())
    }

    /// The same entry after a packet at second `now`. The clock of two workers may differ by one,
    /// and `seen` does not go back.
    #[inline]
    pub(super) fn after(self, phase: Phase, now: u32) -> Self {
        let seen = u64::from(self.seen().max(now));
        let rest = self.0 & u64::from(u32::MAX) & !PHASE_MASK;
        Self(seen << SEEN_AT | rest | phase as u64)
    }

    /// The slot without the entry.
    fn freed(self) -> Self {
        Self(self.0 & !PHASE_MASK | FREE)
    }

    fn claimed(self) -> Self {
        let version = (self.0 >> VERSION_AT) as u16;
        Self(u64::from(version.wrapping_add(1)) << VERSION_AT | CLAIMED)
    }

    fn live(self, fingerprint: u64, phase: Phase, now: u32) -> Self {
        let version = self.0 & u64::from(u16::MAX) << VERSION_AT;
        Self(u64::from(now) << SEEN_AT | version | fingerprint << PHASE_BITS | phase as u64)
    }

    /// Both are words of one entry, at two times.
    #[inline]
    pub(super) fn same_entry(self, other: Self) -> bool {
        self.phase().is_some()
            && other.phase().is_some()
            && (self.0 ^ other.0) as u32 >> PHASE_BITS == 0
    }
}

const SLOTS: usize = 8;

/// The words share a cache line; a key is read when its word fits.
#[repr(align(64))]
#[derive(Default)]
pub(super) struct Bucket {
    words: [AtomicU64; SLOTS],
    keys: [[AtomicU64; 5]; SLOTS],
}

impl Bucket {
    pub(super) const SLOTS: usize = SLOTS;

    #[inline]
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        let both = self.words.iter().zip(&self.keys);
        both.map(|(word, key)| Slot { word, key })
    }

    pub(super) fn free(&self) -> usize {
        self.slots().filter(|slot| slot.load().is_free()).count()
    }
}

/// A slot of a bucket.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    word: &'a AtomicU64,
    key: &'a [AtomicU64; 5],
}

impl Slot<'_> {
    #[inline]
    pub(super) fn load(self) -> Word {
        // Acquire: the key that was there when the word was written.
        Word(self.word.load(Ordering::Acquire))
    }

    /// The key of the entry whose word was read as `word`, unless the entry is gone.
    #[inline]
    pub(super) fn key(self, word: Word) -> Option<Packed> {
        let key = Packed(self.key.each_ref().map(|part| part.load(Ordering::Relaxed)));
        // With the fence in `fill`: whoever has read a part of a later key reads that key's word
        // too.
        fence(Ordering::Acquire);
        let again = Word(self.word.load(Ordering::Relaxed));
        word.same_entry(again).then_some(key)
    }

    /// Puts `new` in the place of `old`; the word found there instead, if it has changed.
    #[inline]
    pub(super) fn swap(self, old: Word, new: Word) -> Result<(), Word> {
        // Relaxed: a chain of such changes continues the release of the key by `fill`.
        self.word
            .compare_exchange(old.0, new.0, Ordering::Relaxed, Ordering::Relaxed)
            .map(drop)
            .map_err(Word)
    }

    /// Removes the entry, unless something has happened to it since `old` was read.
    pub(super) fn free(self, old: Word) -> bool {
        self.swap(old, old.freed()).is_ok()
    }

    /// Puts an entry into the slot, which was read as `old` (free, or an entry to replace),
    /// unless something has happened to it since.
    pub(super) fn fill(
        self,
        old: Word,
        key: Packed,
        fingerprint: u64,
        phase: Phase,
        now: u32,
    ) -> bool {
        let claimed = old.claimed();
        // Claimed is another thread's.
        let ours_to_take = old.is_free() || old.phase().is_some();
        if !ours_to_take || self.swap(old, claimed).is_err() {
            return false;
        }
        fence(Ordering::Release);
        for (cell, part) in self.key.iter().zip(key.0) {
            cell.store(part, Ordering::Relaxed);
        }
        let live = claimed.live(fingerprint, phase, now);
        self.word.store(live.0, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use super::*;

    fn slot(bucket: &Bucket) -> Slot<'_> {
        match bucket.slots().next() {
            Some(slot) => slot,
            None => panic!("a bucket without slots"),
        }
    }

    #[test]
    fn a_slot_is_filled_refreshed_replaced_and_freed() {
        let bucket = Bucket::default();
        let slot = slot(&bucket);
        let (one, two) = (Packed([1; 5]), Packed([2; 5]));
        let empty = slot.load();
        assert!(empty.is_free() && empty.phase().is_none());
        assert!(slot.fill(empty, one, 0xabc, Phase::Opening, 7));
        assert!(!slot.fill(empty, two, 0xabc, Phase::Opening, 7));

        let first = slot.load();
        assert_eq!(first.phase(), Some(Phase::Opening));
        assert_eq!((first.fingerprint(), first.seen()), (0xabc, 7));
        assert_eq!(slot.key(first), Some(one));

        let later = first.after(Phase::Established, 9);
        assert_eq!(slot.swap(first, later), Ok(()));
        assert_eq!(slot.swap(first, later), Err(later));
        assert!(first.same_entry(later));
        assert_eq!((later.fingerprint(), later.seen()), (0xabc, 9));
        assert_eq!(later.after(Phase::Closed, 8).seen(), 9);
        assert_eq!((later.idle(12), later.idle(3)), (3, 0));
        assert_eq!(slot.key(first), Some(one), "the same entry, refreshed");

        assert!(!slot.free(first), "it was seen since");
        assert!(slot.fill(later, two, 0xabc, Phase::Established, 9));
        assert_eq!(slot.key(later), None, "another entry");
        let second = slot.load();
        assert!(!second.same_entry(later));
        assert_eq!(slot.key(second), Some(two));
        assert!(slot.free(second));
        assert_eq!(slot.key(second), None);
        assert_eq!(bucket.free(), Bucket::SLOTS);
    }

    #[test]
    fn versions_wrap_around() {
        let bucket = Bucket::default();
        let slot = slot(&bucket);
        for n in 0..70_000 {
            let old = slot.load();
            assert!(slot.fill(old, Packed([n; 5]), n & 0xfff, Phase::Closed, u32::MAX));
            let word = slot.load();
            assert_eq!(slot.key(word), Some(Packed([n; 5])));
            assert_eq!((word.fingerprint(), word.seen()), (n & 0xfff, u32::MAX));
        }
    }

    #[test]
    fn readers_never_see_half_a_key() {
        let bucket = Bucket::default();
        let slot = slot(&bucket);
        let stop = AtomicBool::new(false);
        let (whole, freed) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let read = || {
                while !stop.load(Ordering::Relaxed) {
                    let word = slot.load();
                    if word.phase().is_none() {
                        continue;
                    }
                    if let Some(Packed([first, rest @ ..])) = slot.key(word) {
                        assert!(rest.iter().all(|part| *part == first), "{first} {rest:?}");
                        // The word belongs to the key, and it takes refreshes meanwhile.
                        assert_eq!(word.fingerprint(), first & 0xfff);
                        let _ = slot.swap(word, word.after(Phase::Established, 2));
                        whole.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            let readers = [scope.spawn(read), scope.spawn(read)];
            let ager = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let word = slot.load();
                    if word.phase().is_some() && slot.free(word) {
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                    std::hint::spin_loop();
                }
            });
            // Until the others have had their turns too: there may be fewer cores than threads.
            let begin = Instant::now();
            let enough = || {
                let few = whole
                    .load(Ordering::Relaxed)
                    .min(freed.load(Ordering::Relaxed))
                    < 1000;
                !few || begin.elapsed() > Duration::from_secs(30)
            };
            let mut n = 0u64;
            while n < 300_000 || !enough() {
                // Retried: readers refresh and the ager frees.
                while !slot.fill(slot.load(), Packed([n; 5]), n & 0xfff, Phase::Opening, 1) {}
                n += 1;
            }
            stop.store(true, Ordering::Relaxed);
            assert!(ager.join().is_ok());
            for reader in readers {
                assert!(reader.join().is_ok());
            }
        });
        assert!(whole.into_inner() >= 1000 && freed.into_inner() >= 1000);
    }
}
