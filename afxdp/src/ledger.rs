//! What a socket has given to the kernel, so that no chunk is lost and none is believed twice.

use std::sync::Arc;

use crate::frame::Frame;
use crate::pool::Pool;
use crate::umem::Umem;

/// Which chunks the kernel holds for one direction: one bit per chunk of the UMEM.
pub(crate) struct Ledger {
    bits: Box<[u64]>,
    held: usize,
}

impl Ledger {
    fn new(chunks: usize) -> Self {
        Self {
            bits: vec![0; chunks.div_ceil(64)].into(),
            held: 0,
        }
    }

    /// The caller's chunk goes to the kernel.
    #[inline]
    pub(crate) fn give(&mut self, chunk: u32) {
        if let Some(word) = self.bits.get_mut(chunk as usize / 64) {
            *word |= 1 << (chunk % 64);
            self.held += 1;
        }
    }

    /// The kernel returned a chunk: true when it had it, which makes the caller its owner.
    #[must_use]
    #[inline]
    pub(crate) fn take(&mut self, chunk: u32) -> bool {
        let bit = 1 << (chunk % 64);
        match self.bits.get_mut(chunk as usize / 64) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.held -= 1;
                true
            }
            _ => false,
        }
    }

    /// Number of chunks the kernel holds.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes back all chunks the kernel holds; they are the caller's.
    fn drain(&mut self) -> Vec<u32> {
        let mut chunks = Vec::with_capacity(self.held);
        for (index, word) in self.bits.iter_mut().enumerate() {
            while *word != 0 {
                chunks.push(index as u32 * 64 + word.trailing_zeros());
                *word &= *word - 1;
            }
        }
        self.held = 0;
        chunks
    }
}

/// A multi-buffer frame of which the kernel has not delivered the end yet.
pub(crate) struct Partial {
    pub(crate) frame: Frame,
    pub(crate) last: u32,
}

/// The chunks of a socket: those the kernel holds for receiving and for transmitting, and those of
/// an unfinished frame. The two are apart, so that a completion is believed only of a chunk that
/// was sent, and a received descriptor only of one that was given to be filled. What is left
/// goes to the depot when this is dropped, which must be after the socket was closed.
pub(crate) struct Holdings {
    pub(crate) umem: Arc<Umem>,
    pub(crate) filling: Ledger,
    pub(crate) sending: Ledger,
    pub(crate) partial: Option<Partial>,
    /// Chunks lent by the UMEM for a busy time, of those that the kernel holds for receiving.
    pub(crate) borrowed: usize,
}

impl Holdings {
    pub(crate) fn new(umem: &Arc<Umem>) -> Self {
        Self {
            umem: umem.clone(),
            filling: Ledger::new(umem.chunks()),
            sending: Ledger::new(umem.chunks()),
            partial: None,
            borrowed: 0,
        }
    }

    /// Chunks outside of pools and frames.
    pub(crate) fn held(&self) -> usize {
        let partial = self.partial.as_ref().map_or(0, |p| p.frame.segments());
        self.filling.held() + self.sending.held() + partial
    }

    /// Takes everything back, into the depot when `pool` is of another UMEM. Returns the number of
    /// chunks the kernel held.
    pub(crate) fn reclaim(mut self, pool: &mut Pool) -> usize {
        if pool.umem().tag() == self.umem.tag() {
            self.give_back(pool)
        } else {
            let umem = self.umem.clone();
            self.give_back(&mut Pool::new(&umem))
        }
    }

    fn give_back(&mut self, pool: &mut Pool) -> usize {
        if let Some(partial) = self.partial.take() {
            pool.free(partial.frame);
        }
        let mut count = 0;
        for ledger in [&mut self.filling, &mut self.sending] {
            for chunk in ledger.drain() {
                pool.free_chunk(chunk);
                count += 1;
            }
        }
        count
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        let umem = self.umem.clone();
        self.give_back(&mut Pool::new(&umem));
        umem.repay(self.borrowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UmemConfig;

    #[test]
    fn a_chunk_is_taken_once() {
        let mut ledger = Ledger::new(130);
        for chunk in [0, 63, 64, 129] {
            ledger.give(chunk);
        }
        assert_eq!(ledger.held(), 4);
        assert!(ledger.take(64));
        assert!(!ledger.take(64));
        assert!(!ledger.take(1));
        assert!(!ledger.take(u32::MAX));
        assert_eq!(ledger.drain(), [0, 63, 129]);
        assert_eq!(ledger.held(), 0);
    }

    #[test]
    fn dropped_holdings_return_to_the_depot() {
        let config = UmemConfig {
            chunk_size: 2048,
            chunks: 32,
            headroom: 0,
        };
        let umem = Umem::new(config).unwrap();
        let mut pool = Pool::new(&umem);
        let mut holdings = Holdings::new(&umem);
        for _ in 0..5 {
            holdings.filling.give(pool.alloc_chunk().unwrap());
            holdings.sending.give(pool.alloc_chunk().unwrap());
        }
        let frame = pool.alloc().unwrap();
        holdings.partial = Some(Partial { frame, last: 0 });
        drop(pool);
        assert_eq!(umem.available(), 21);
        drop(holdings);
        assert_eq!(umem.available(), 32);
    }
}
