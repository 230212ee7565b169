//! Which parts of a structure are free, in use, or retired: a pool of numbered slots.

use std::collections::VecDeque;

use crate::FibError;
use crate::qsbr::Domain;

/// How many slots a pool has, and what they are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// The configured number.
    pub limit: u32,
    /// Are part of what readers look into.
    pub used: u32,
    /// Are no part of it any more, and wait for the readers to let go of them.
    pub retired: u32,
    /// Have been in use at some time: the most there were at once, counting retired ones.
    pub touched: u32,
}

/// Hands slots out. Every slot below `touched` is in use, free or retired.
#[derive(Debug)]
pub(crate) struct Pool {
    /// What the configuration calls the limit.
    name: &'static str,
    limit: u32,
    touched: u32,
    free: Vec<u32>,
    /// In the order of their tags: the epoch that every reader must have passed, and the slot.
    retired: VecDeque<(u64, u32)>,
}

impl Pool {
    /// A pool of `limit` slots, which the configuration's key `name` sets.
    pub(crate) fn new(name: &'static str, limit: u32) -> Self {
        Self {
            name,
            limit,
            touched: 0,
            free: Vec::new(),
            retired: VecDeque::new(),
        }
    }

    /// A slot that no reader can reach. Waits for `readers` if only they stand in the way.
    pub(crate) fn take(&mut self, readers: &Domain) -> Result<u32, FibError> {
        // Before a slot that was never touched: churn must not spread over all of the memory.
        if self.free.is_empty() {
            self.reclaim(readers);
        }
        if let Some(slot) = self.take_now() {
            return Ok(slot);
        }
        let oldest = self.retired.front().map(|(tag, _)| *tag);
        if oldest.is_some() && readers.wait(|| self.reclaim(readers) > 0) {
            return self.take_now().ok_or_else(|| self.exhausted(0));
        }
        Err(self.exhausted(oldest.map_or(0, |tag| readers.lagging(tag))))
    }

    /// A slot, a free one rather than one never touched.
    fn take_now(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let next = self.touched;
            (next < self.limit).then(|| {
                self.touched += 1;
                next
            })
        })
    }

    /// Gives back a slot that no reader has ever been able to reach.
    pub(crate) fn put_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Retires a slot that readers can no longer find, until they have passed epoch `tag`. Tags
    /// never decrease from one call to the next.
    pub(crate) fn retire(&mut self, slot: u32, tag: u64) {
        self.retired.push_back((tag, slot));
    }

    /// Frees the retired slots that no reader can be looking into, and says how many.
    pub(crate) fn reclaim(&mut self, readers: &Domain) -> usize {
        if self.retired.is_empty() {
            return 0;
        }
        let passed = readers.passed();
        let freed = self.retired.partition_point(|(tag, _)| *tag <= passed);
        self.free
            .extend(self.retired.drain(..freed).map(|(_, slot)| slot));
        freed
    }

    pub(crate) fn usage(&self) -> PoolUse {
        // Both are at most `touched`, which is a u32.
        let [free, retired] = [self.free.len(), self.retired.len()].map(|n| n as u32);
        PoolUse {
            limit: self.limit,
            used: self.touched - free - retired,
            retired,
            touched: self.touched,
        }
    }

    /// Bytes of heap that the bookkeeping holds.
    pub(crate) fn bytes(&self) -> usize {
        self.free.capacity() * size_of::<u32>() + self.retired.capacity() * size_of::<(u64, u32)>()
    }

    fn exhausted(&self, lagging: usize) -> FibError {
        let usage = self.usage();
        FibError::PoolExhausted {
            pool: self.name,
            limit: usage.limit,
            used: usage.used,
            held: usage.retired,
            lagging,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_slot_goes_round() {
        let mut readers = Domain::new(1, Duration::ZERO);
        let reader = readers.register().unwrap();
        let mut pool = Pool::new("slots", 2);
        assert_eq!((pool.take(&readers), pool.take(&readers)), (Ok(0), Ok(1)));
        let error = |used, held, lagging| {
            Err(FibError::PoolExhausted {
                pool: "slots",
                limit: 2,
                used,
                held,
                lagging,
            })
        };
        assert_eq!(pool.take(&readers), error(2, 0, 0));
        pool.retire(0, readers.advance());
        let usage = |used, retired| PoolUse {
            limit: 2,
            used,
            retired,
            touched: 2,
        };
        assert_eq!(pool.usage(), usage(1, 1));
        assert_eq!(pool.reclaim(&readers), 0);
        assert_eq!(pool.take(&readers), error(1, 1, 1));
        reader.quiescent();
        assert_eq!(pool.reclaim(&readers), 1);
        assert_eq!(pool.take(&readers), Ok(0));
        assert_eq!(pool.usage(), usage(2, 0));
        pool.put_back(1);
        assert_eq!(pool.usage(), usage(1, 0));
        assert_eq!(pool.take(&readers), Ok(1));
    }

    #[test]
    fn no_slots_at_all() {
        let readers = Domain::new(0, Duration::ZERO);
        assert!(Pool::new("slots", 0).take(&readers).is_err());
    }
}
