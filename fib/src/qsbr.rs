//! Quiescent-state-based reclamation: when the writer may reuse what readers may be looking at.
//!
//! The writer numbers epochs. Whatever it unlinks it tags with the next epoch; a reader that holds
//! nothing publishes the epoch it has seen. Once every reader that is online has published the tag
//! or more, nobody can reach what was unlinked. A reader pays one load of a line that rarely
//! changes and, when it has changed, one store to a line of its own; no lookup pays anything.
//!
//! Source of the scheme: Desnoyers et al., "User-Level Implementations of Read-Copy Update",
//! IEEE TPDS 23(2), 2012, section 4.2 (QSBR).

use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::{AtomicU64, fence};

type Counter = Arc<CachePadded<AtomicU64>>;

/// Published by a reader that is registered but looks nothing up. Passes every epoch.
const OFFLINE: u64 = u64::MAX - 1;
/// Published by a reader that has been dropped. Passes every epoch.
const GONE: u64 = u64::MAX;

/// The writer's side: the epoch and all the readers.
#[derive(Debug)]
pub struct Domain {
    epoch: Counter,
    readers: Vec<Counter>,
    limit: usize,
    wait: Duration,
}

impl Domain {
    /// A domain for at most `limit` readers at a time, for which the writer waits up to `wait`.
    pub(crate) fn new(limit: usize, wait: Duration) -> Self {
        Self {
            epoch: Counter::default(),
            readers: Vec::new(),
            limit,
            wait,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A new reader, online; `None` if the limit is reached.
    pub(crate) fn register(&mut self) -> Option<Registration> {
        self.readers.retain(|reader| reader.load(Acquire) != GONE);
        if self.readers.len() >= self.limit {
            return None;
        }
        let seen: Counter = Arc::new(CachePadded::new(AtomicU64::new(self.epoch.load(Relaxed))));
        self.readers.push(Arc::clone(&seen));
        Some(Registration {
            epoch: Arc::clone(&self.epoch),
            seen,
            online: Cell::new(true),
        })
    }

    /// Starts the next epoch and returns it: the tag of all that was unlinked before the call.
    pub(crate) fn advance(&mut self) -> u64 {
        let next = self.epoch.load(Relaxed) + 1;
        // Release: a reader that publishes `next` has seen every store that unlinked something.
        self.epoch.store(next, Release);
        next
    }

    /// The greatest epoch that every reader has passed. What is tagged with it or less is free.
    pub(crate) fn passed(&self) -> u64 {
        // Pairs with the fence in `Registration::online`: either this sees the reader online, or
        // the reader sees what was unlinked before this call.
        fence(SeqCst);
        // Acquire: the reader's last looks at what it left behind happen before its reuse.
        self.readers
            .iter()
            .map(|reader| reader.load(Acquire))
            .min()
            .unwrap_or(GONE)
    }

    /// How long [`wait`](Self::wait) waits.
    pub(crate) fn patience(&self) -> Duration {
        self.wait
    }

    /// Waits until `done`, but not longer than the domain was made with, and says whether it was.
    pub(crate) fn wait(&self, mut done: impl FnMut() -> bool) -> bool {
        const SPINS: u32 = 100;
        let start = Instant::now();
        let mut spins = 0;
        loop {
            if done() {
                return true;
            }
            if start.elapsed() >= self.wait {
                return false;
            }
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                // The reader waited for may want this very core.
                thread::yield_now();
            }
        }
    }

    /// How many readers have not passed `epoch`.
    pub(crate) fn lagging(&self, epoch: u64) -> usize {
        fence(SeqCst);
        self.readers
            .iter()
            .filter(|reader| reader.load(Acquire) < epoch)
            .count()
    }
}

/// A reader's side. Not `Sync`: two threads must not speak for one reader.
#[derive(Debug)]
pub(crate) struct Registration {
    epoch: Counter,
    seen: Counter,
    online: Cell<bool>,
}

impl Registration {
    #[inline]
    pub(crate) fn quiescent(&self) {
        if !self.online.get() {
            return;
        }
        let epoch = self.epoch.load(Acquire);
        if self.seen.load(Relaxed) != epoch {
            self.seen.store(epoch, Release);
        }
    }

    pub(crate) fn offline(&self) {
        self.online.set(false);
        self.seen.store(OFFLINE, Release);
    }

    #[cold]
    pub(crate) fn online(&self) {
        if self.online.replace(true) {
            return;
        }
        // Release, as in `offline`: the writer may see this store and not the one before it, and
        // the looks before that must still happen before its reuse of what they looked at.
        self.seen.store(self.epoch.load(Acquire), Release);
        // No look at the table may be ordered before the store: see `Domain::passed`.
        fence(SeqCst);
    }

    #[inline]
    pub(crate) fn is_online(&self) -> bool {
        self.online.get()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.seen.store(GONE, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_passes_when_every_online_reader_was_quiescent() {
        let mut domain = Domain::new(2, Duration::ZERO);
        let (a, b) = (domain.register().unwrap(), domain.register().unwrap());
        let tag = domain.advance();
        assert!(domain.passed() < tag);
        assert_eq!(domain.lagging(tag), 2);
        a.quiescent();
        assert!(domain.passed() < tag);
        assert_eq!(domain.lagging(tag), 1);
        b.quiescent();
        assert!(domain.passed() >= tag);
        assert_eq!(domain.lagging(tag), 0);
    }

    #[test]
    fn offline_and_dropped_readers_hold_nothing_up() {
        let mut domain = Domain::new(2, Duration::ZERO);
        let (a, b) = (domain.register().unwrap(), domain.register().unwrap());
        a.offline();
        drop(b);
        let tag = domain.advance();
        assert!(domain.passed() >= tag);

        // Quiescent is not online: an offline reader stays out of the way.
        a.quiescent();
        let tag = domain.advance();
        assert!(domain.passed() >= tag);

        a.online();
        let tag = domain.advance();
        assert!(domain.passed() < tag);
        a.quiescent();
        assert!(domain.passed() >= tag);
    }

    #[test]
    fn the_limit_counts_living_readers() {
        let mut domain = Domain::new(1, Duration::ZERO);
        let a = domain.register().unwrap();
        assert!(domain.register().is_none());
        a.offline();
        assert!(domain.register().is_none());
        drop(a);
        assert!(domain.register().is_some());
    }

    #[test]
    fn a_new_reader_has_passed_what_came_before_it() {
        let mut domain = Domain::new(1, Duration::ZERO);
        let tag = domain.advance();
        let _reader = domain.register().unwrap();
        assert!(domain.passed() >= tag);
        let tag = domain.advance();
        assert!(domain.passed() < tag);
    }

    #[test]
    fn without_readers_everything_has_passed() {
        let mut domain = Domain::new(0, Duration::ZERO);
        assert!(domain.register().is_none());
        let tag = domain.advance();
        assert!(domain.passed() >= tag);
    }
}
