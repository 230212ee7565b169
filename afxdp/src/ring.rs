//! Single-producer single-consumer rings in memory shared with the kernel.
//!
//! Layout and protocol: `struct xdp_ring` in `net/xdp/xsk_queue.h` and
//! `Documentation/networking/af_xdp.rst`. The producer and consumer indices run freely over `u32`
//! and are masked on access. The other side is not trusted: an index that claims more entries than
//! the ring has makes the ring *broken*, which reads as full or empty, never out of bounds.

use std::marker::PhantomData;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::Error;
use crate::sys::memory::Mapping;

/// `XDP_RING_NEED_WAKEUP` of `include/uapi/linux/if_xdp.h`.
const NEED_WAKEUP: u32 = 1;

/// `XDP_PKT_CONTD`: the packet continues in the next descriptor.
pub const XDP_PKT_CONTD: u32 = 1;

/// `struct xdp_desc` of `include/uapi/linux/if_xdp.h`: a place in the UMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Byte offset in the UMEM.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// Flags, see [`XDP_PKT_CONTD`].
    pub options: u32,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u64 {}
    impl Sealed for super::Descriptor {}
}

/// What a ring carries: `u64` (fill and completion: byte offsets in the UMEM) or [`Descriptor`]
/// (RX and TX).
pub trait Entry: sealed::Sealed + Copy {
    /// Size in 64-bit words.
    const WORDS: usize;
    /// Reads the entry from its `WORDS` words.
    fn load(words: &[AtomicU64]) -> Self;
    /// Writes the entry to its `WORDS` words.
    fn store(self, words: &[AtomicU64]);
}

impl Entry for u64 {
    const WORDS: usize = 1;

    #[inline]
    fn load(words: &[AtomicU64]) -> Self {
        words
            .first()
            .map_or(u64::MAX, |word| word.load(Ordering::Relaxed))
    }

    #[inline]
    fn store(self, words: &[AtomicU64]) {
        if let [word] = words {
            word.store(self, Ordering::Relaxed);
        }
    }
}

impl Entry for Descriptor {
    const WORDS: usize = 2;

    #[inline]
    fn load(words: &[AtomicU64]) -> Self {
        let [addr, rest] = words else {
            return Self {
                addr: u64::MAX,
                len: 0,
                options: 0,
            };
        };
        let [a, b, c, d, e, f, g, h] = rest.load(Ordering::Relaxed).to_ne_bytes();
        Self {
            addr: addr.load(Ordering::Relaxed),
            len: u32::from_ne_bytes([a, b, c, d]),
            options: u32::from_ne_bytes([e, f, g, h]),
        }
    }

    #[inline]
    fn store(self, words: &[AtomicU64]) {
        if let [addr, rest] = words {
            let ([a, b, c, d], [e, f, g, h]) = (self.len.to_ne_bytes(), self.options.to_ne_bytes());
            addr.store(self.addr, Ordering::Relaxed);
            rest.store(
                u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
                Ordering::Relaxed,
            );
        }
    }
}

/// Byte offsets of a ring's parts in its mapping (`struct xdp_ring_offset`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) producer: usize,
    pub(crate) consumer: usize,
    pub(crate) flags: usize,
    pub(crate) entries: usize,
}

impl Layout {
    /// Bytes a mapping needs for `size` entries.
    pub(crate) fn bytes<T: Entry>(&self, size: u32) -> usize {
        self.entries + size as usize * T::WORDS * 8
    }
}

/// A ring within a mapping: bounds and alignment were checked when it was made.
struct Ring<T> {
    memory: Arc<Mapping>,
    layout: Layout,
    size: u32,
    entry: PhantomData<T>,
}

impl<T: Entry> Ring<T> {
    fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Result<Self, Error> {
        let fits = |offset: usize, len: usize, align: usize| {
            offset.is_multiple_of(align)
                && offset
                    .checked_add(len)
                    .is_some_and(|end| end <= memory.len())
        };
        let indices = [layout.producer, layout.consumer, layout.flags];
        if !size.is_power_of_two()
            || !indices.iter().all(|&offset| fits(offset, 4, 4))
            || !fits(layout.entries, size as usize * T::WORDS * 8, 8)
        {
            return Err(Error::Config(format!(
                "a ring of {size} entries does not fit its memory"
            )));
        }
        Ok(Self {
            memory,
            layout,
            size,
            entry: PhantomData,
        })
    }

    #[inline]
    fn index(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `new` checked that four aligned bytes at the three offsets lie in the mapping,
        // which lives as long as `self`; all sides access them as atomics only.
        unsafe {
            &*self
                .memory
                .address()
                .as_ptr()
                .add(offset)
                .cast::<AtomicU32>()
        }
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        self.index(self.layout.producer)
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        self.index(self.layout.consumer)
    }

    #[inline]
    fn needs_wakeup(&self) -> bool {
        self.index(self.layout.flags).load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    #[inline]
    fn words(&self, index: u32) -> &[AtomicU64] {
        let start = (index & (self.size - 1)) as usize * T::WORDS;
        // SAFETY: `new` checked that `size * WORDS` aligned words lie in the mapping, which lives
        // as long as `self`; the masked index is below `size`. Entries are accessed as atomics, so
        // a peer that breaks the protocol yields wrong values, not a data race.
        unsafe {
            let first = self.memory.address().as_ptr().add(self.layout.entries);
            slice::from_raw_parts(first.cast::<AtomicU64>().add(start), T::WORDS)
        }
    }
}

/// The side that writes entries (fill and TX ring of a socket).
pub struct Producer<T> {
    ring: Ring<T>,
    produced: u32,
    submitted: u32,
    consumed: u32,
    broken: bool,
}

impl<T: Entry> Producer<T> {
    pub(crate) fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Result<Self, Error> {
        let ring = Ring::new(memory, layout, size)?;
        let produced = ring.producer().load(Ordering::Relaxed);
        let consumed = ring.consumer().load(Ordering::Acquire);
        Ok(Self {
            ring,
            produced,
            submitted: produced,
            consumed,
            broken: false,
        })
    }

    /// Free slots, looking at the consumer's index only when fewer than `want` are known to be free.
    #[inline]
    pub fn free(&mut self, want: u32) -> u32 {
        let known = self.ring.size - self.produced.wrapping_sub(self.consumed);
        if known >= want {
            return known;
        }
        let consumed = self.ring.consumer().load(Ordering::Acquire);
        let used = self.produced.wrapping_sub(consumed);
        if used > self.ring.size {
            self.broken = true;
            return 0;
        }
        self.consumed = consumed;
        self.ring.size - used
    }

    /// Writes an entry, not yet visible to the consumer. False (and nothing done) when full.
    #[inline]
    #[must_use = "false says that the entry was not written"]
    pub fn push(&mut self, entry: T) -> bool {
        if self.free(1) == 0 {
            return false;
        }
        entry.store(self.ring.words(self.produced));
        self.produced = self.produced.wrapping_add(1);
        true
    }

    /// Makes the pushed entries visible to the consumer.
    #[inline]
    pub fn submit(&mut self) {
        if self.submitted != self.produced {
            self.ring.producer().store(self.produced, Ordering::Release);
            self.submitted = self.produced;
        }
    }

    /// Entries submitted (or pushed) that the consumer has not taken yet.
    #[inline]
    pub fn pending(&mut self) -> u32 {
        self.ring.size - self.free(self.ring.size).min(self.ring.size)
    }

    /// Raises the kernel's flag of [`Producer::needs_wakeup`].
    #[cfg(test)]
    pub(crate) fn want_wakeup(&self) {
        let flags = self.ring.index(self.ring.layout.flags);
        flags.store(NEED_WAKEUP, Ordering::Relaxed);
    }

    /// Sets the index the other side writes.
    #[cfg(test)]
    pub(crate) fn set_consumer(&self, index: u32) {
        self.ring.consumer().store(index, Ordering::Relaxed);
    }

    /// True when the kernel wants to be woken to take entries (`XDP_RING_NEED_WAKEUP`).
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }

    /// True once the consumer's index was out of range.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

/// The side that reads entries (RX and completion ring of a socket).
pub struct Consumer<T> {
    ring: Ring<T>,
    produced: u32,
    consumed: u32,
    released: u32,
    broken: bool,
}

impl<T: Entry> Consumer<T> {
    pub(crate) fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Result<Self, Error> {
        let ring = Ring::new(memory, layout, size)?;
        let consumed = ring.consumer().load(Ordering::Relaxed);
        Ok(Self {
            ring,
            produced: consumed,
            consumed,
            released: consumed,
            broken: false,
        })
    }

    /// Entries to be read, looking at the producer's index only when fewer than `want` are known.
    #[inline]
    pub fn available(&mut self, want: u32) -> u32 {
        let known = self.produced.wrapping_sub(self.consumed);
        if known >= want {
            return known;
        }
        let produced = self.ring.producer().load(Ordering::Acquire);
        let entries = produced.wrapping_sub(self.consumed);
        if entries > self.ring.size {
            self.broken = true;
            return 0;
        }
        self.produced = produced;
        entries
    }

    /// Reads the next entry; its slot stays taken until [`Consumer::release`].
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.available(1) == 0 {
            return None;
        }
        let entry = T::load(self.ring.words(self.consumed));
        self.consumed = self.consumed.wrapping_add(1);
        Some(entry)
    }

    /// Sets the index the other side writes.
    #[cfg(test)]
    pub(crate) fn set_producer(&self, index: u32) {
        self.ring.producer().store(index, Ordering::Relaxed);
    }

    /// Gives the slots of the entries read back to the producer.
    #[inline]
    pub fn release(&mut self) {
        if self.released != self.consumed {
            self.ring.consumer().store(self.consumed, Ordering::Release);
            self.released = self.consumed;
        }
    }

    /// True once the producer's index was out of range.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

/// Both sides of a ring of `size` entries (a power of two) over plain memory.
///
/// # Errors
/// [`Error::Config`] when `size` is no power of two, [`Error::Memory`].
pub fn pair<T: Entry>(size: u32) -> Result<(Producer<T>, Consumer<T>), Error> {
    let (memory, layout) = plain::<T>(size)?;
    Ok((
        Producer::new(memory.clone(), layout, size)?,
        Consumer::new(memory, layout, size)?,
    ))
}

fn plain<T: Entry>(size: u32) -> Result<(Arc<Mapping>, Layout), Error> {
    let layout = Layout {
        producer: 0,
        consumer: 64,
        flags: 128,
        entries: 192,
    };
    let bytes = layout.bytes::<T>(size);
    let memory = Mapping::anonymous(bytes).map_err(|source| Error::Memory { bytes, source })?;
    Ok((Arc::new(memory), layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring whose indices start at `start`, as one that has been in use.
    fn pair_from<T: Entry>(size: u32, start: u32) -> (Producer<T>, Consumer<T>) {
        let (memory, layout) = plain::<T>(size).unwrap();
        let ring = Ring::<T>::new(memory.clone(), layout, size).unwrap();
        ring.producer().store(start, Ordering::Relaxed);
        ring.consumer().store(start, Ordering::Relaxed);
        (
            Producer::new(memory.clone(), layout, size).unwrap(),
            Consumer::new(memory, layout, size).unwrap(),
        )
    }

    #[test]
    fn entries_are_seen_after_submit_and_slots_after_release() {
        let (mut producer, mut consumer) = pair::<u64>(4).unwrap();
        for value in 10..14 {
            assert!(producer.push(value));
        }
        assert!(!producer.push(14));
        assert_eq!(consumer.pop(), None);
        producer.submit();
        assert_eq!(producer.pending(), 4);
        assert_eq!(consumer.available(4), 4);
        assert_eq!((consumer.pop(), consumer.pop()), (Some(10), Some(11)));
        assert!(!producer.push(14));
        consumer.release();
        assert_eq!(producer.free(4), 2);
        assert!(producer.push(14) && producer.push(15) && !producer.push(16));
    }

    #[test]
    fn indices_wrap_around() {
        let (mut producer, mut consumer) = pair_from::<Descriptor>(8, u32::MAX - 2);
        for round in 0..20u32 {
            let sent = [0, 1, 2, 3, 4].map(|i| Descriptor {
                addr: u64::from(round) << 40 | i,
                len: round + i as u32,
                options: (i & 1) as u32,
            });
            for descriptor in sent {
                assert!(producer.push(descriptor));
            }
            producer.submit();
            assert_eq!(producer.pending(), 5);
            for descriptor in sent {
                assert_eq!(consumer.pop(), Some(descriptor));
            }
            assert_eq!(consumer.pop(), None);
            consumer.release();
            assert_eq!(producer.pending(), 0);
        }
        assert!(!producer.is_broken() && !consumer.is_broken());
    }

    #[test]
    fn a_consumer_does_not_believe_a_wild_producer() {
        for start in [0, 5, u32::MAX - 1] {
            for lie in [9, 1 << 20, u32::MAX] {
                let (_producer, mut consumer) = pair_from::<u64>(8, start);
                let index = start.wrapping_add(lie);
                consumer.set_producer(index);
                assert_eq!(consumer.available(1), 0);
                assert_eq!(consumer.pop(), None);
                assert!(consumer.is_broken());
            }
        }
    }

    #[test]
    fn a_producer_does_not_believe_a_wild_consumer() {
        for start in [0, 5, u32::MAX - 1] {
            for lie in [9, 1 << 20, u32::MAX] {
                let (mut producer, _consumer) = pair_from::<u64>(8, start);
                let index = start.wrapping_add(lie);
                producer.set_consumer(index);
                // Eight slots were free at the start; it asks for news when those are used.
                assert_eq!((0..20).filter(|&value| producer.push(value)).count(), 8);
                assert_eq!(producer.free(1), 0);
                assert!(producer.is_broken());
            }
        }
    }

    #[test]
    fn the_wake_up_flag_is_read() {
        let (producer, _consumer) = pair::<u64>(2).unwrap();
        assert!(!producer.needs_wakeup());
        producer.want_wakeup();
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn odd_sizes_and_layouts_are_refused() {
        assert!(matches!(pair::<u64>(3), Err(Error::Config(_))));
        let (memory, layout) = plain::<u64>(8).unwrap();
        for bad in [
            Layout {
                producer: 2,
                ..layout
            },
            Layout {
                flags: usize::MAX - 3,
                ..layout
            },
            Layout {
                entries: 4,
                ..layout
            },
            Layout {
                entries: 4096,
                ..layout
            },
        ] {
            assert!(
                Producer::<u64>::new(memory.clone(), bad, 8).is_err(),
                "{bad:?}"
            );
        }
        assert!(Consumer::<u64>::new(memory, layout, 1 << 20).is_err());
    }

    #[test]
    fn threads_exchange_entries_in_order() {
        let (mut producer, mut consumer) = pair::<Descriptor>(64).unwrap();
        let entry = |n: u32| Descriptor {
            addr: u64::from(n) << 12,
            len: n,
            options: !n,
        };
        let sender = std::thread::spawn(move || {
            for n in 0..100_000 {
                while !producer.push(entry(n)) {
                    producer.submit();
                    std::thread::yield_now();
                }
                if n % 7 == 0 {
                    producer.submit();
                }
            }
            producer.submit();
        });
        for n in 0..100_000 {
            loop {
                if let Some(got) = consumer.pop() {
                    assert_eq!(got, entry(n));
                    break;
                }
                consumer.release();
                std::thread::yield_now();
            }
        }
        sender.join().unwrap();
    }
}
