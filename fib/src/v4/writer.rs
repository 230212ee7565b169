//! Updates.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;

use super::groups::{GroupUse, Groups};
use super::prefix::Prefix;
use super::routes::{Route, Routes};
use super::table::{Entry, Table};
use super::touched::TouchedPages;
use super::{Fib4Config, Fib4Reader};
use crate::qsbr::Domain;
use crate::{FibError, NextHopIndex};

/// The one writer of an IPv4 table, and the keeper of its routes.
///
/// A prefix with host bits set is taken truncated, as by [`Ipv4Net::trunc`].
#[derive(Debug)]
pub struct Fib4Writer {
    table: Arc<Table>,
    routes: Routes,
    groups: Groups,
    first_level: TouchedPages,
    readers: Domain,
    reclaim_wait: Duration,
}

/// Bytes of one part of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Address space.
    pub reserved: usize,
    /// Memory: pages of 4 KiB that were ever written, which the system has had to provide.
    pub touched: usize,
}

/// What a table takes, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fib4Memory {
    /// The first level, shared with the readers.
    pub first_level: Footprint,
    /// The second-level groups, shared with the readers.
    pub second_level: Footprint,
    /// The writer's own record of routes and groups; an estimate.
    pub routes: Footprint,
}

impl Fib4Memory {
    /// All parts together.
    pub fn total(&self) -> Footprint {
        let parts = [self.first_level, self.second_level, self.routes];
        Footprint {
            reserved: parts.iter().map(|part| part.reserved).sum(),
            touched: parts.iter().map(|part| part.touched).sum(),
        }
    }
}

impl Fib4Writer {
    /// An empty table.
    ///
    /// # Errors
    ///
    /// [`FibError::TooManyGroups`] if `config.groups` is above [`Fib4Config::MAX_GROUPS`], and
    /// [`FibError::OutOfMemory`] if there is no address space for the table.
    pub fn new(config: Fib4Config) -> Result<Self, FibError> {
        let Fib4Config {
            groups,
            readers,
            reclaim_wait,
        } = config;
        if groups > Fib4Config::MAX_GROUPS {
            return Err(FibError::TooManyGroups {
                asked: groups,
                limit: Fib4Config::MAX_GROUPS,
            });
        }
        Ok(Self {
            table: Arc::new(Table::new()?),
            routes: Routes::default(),
            groups: Groups::new(groups),
            first_level: TouchedPages::new(Table::FIRST_BYTES),
            readers: Domain::new(readers),
            reclaim_wait,
        })
    }

    /// Registers a reader. It is online from now on, so make it when its thread is about to start.
    ///
    /// # Errors
    ///
    /// [`FibError::ReadersExhausted`] if the configured number of readers are registered.
    pub fn reader(&mut self) -> Result<Fib4Reader, FibError> {
        match self.readers.register() {
            Some(registration) => Ok(Fib4Reader::new(Arc::clone(&self.table), registration)),
            None => Err(FibError::ReadersExhausted {
                limit: self.readers.limit(),
            }),
        }
    }

    /// Adds or replaces a route, and returns the next hop that it had.
    ///
    /// # Errors
    ///
    /// [`FibError::GroupsExhausted`] if the prefix is longer than /24, the first such in its /24,
    /// and no second-level group is free, even after waiting up to
    /// [`Fib4Config::reclaim_wait`] for readers that hold up retired ones. Nothing is changed then.
    pub fn insert(
        &mut self,
        net: Ipv4Net,
        hop: NextHopIndex,
    ) -> Result<Option<NextHopIndex>, FibError> {
        let prefix = Prefix::from(net);
        if prefix.len() > 24 {
            return self.insert_long(prefix, hop);
        }
        let old = self.routes.insert(prefix, hop);
        if old != Some(hop) {
            self.set(prefix, hop.to_raw());
        }
        Ok(old)
    }

    fn insert_long(
        &mut self,
        prefix: Prefix,
        hop: NextHopIndex,
    ) -> Result<Option<NextHopIndex>, FibError> {
        match self.table.entry(prefix.first()) {
            Entry::Group(group) => {
                let old = self.routes.insert(prefix, hop);
                if old.is_none() {
                    self.groups.add_route(group);
                }
                if old != Some(hop) {
                    self.set(prefix, hop.to_raw());
                }
                Ok(old)
            }
            Entry::Direct(around) => {
                let group = self.take_group()?;
                self.table.fill_group(group, around);
                self.table
                    .set_in_group(group, prefix.first(), prefix.last(), hop.to_raw());
                self.table.set_group(prefix.first(), group);
                self.first_level.touch_slots(prefix.first(), prefix.last());
                self.groups.add_route(group);
                Ok(self.routes.insert(prefix, hop))
            }
        }
    }

    /// Removes a route, and returns the next hop that it had; `None` if there was no such route.
    ///
    /// # Errors
    ///
    /// None at present: a removal wants no group.
    pub fn remove(&mut self, net: Ipv4Net) -> Result<Option<NextHopIndex>, FibError> {
        let prefix = Prefix::from(net);
        let Some(old) = self.routes.remove(prefix) else {
            return Ok(None);
        };
        let around = self.routes.longest_around(prefix).map(|(_, hop)| hop);
        if prefix.len() > 24
            && let Entry::Group(group) = self.table.entry(prefix.first())
            && self.groups.remove_route(group)
        {
            // Nothing longer than /24 is left here, so what lies around the prefix lies around
            // the whole /24. The group keeps its old values for those who are looking into it.
            self.table.set_direct(prefix.first(), raw_of(around));
            self.groups.retire(group, self.readers.advance());
        } else if around != Some(old) {
            self.set(prefix, raw_of(around));
        }
        Ok(Some(old))
    }

    /// The next hop of exactly this prefix.
    pub fn get(&self, net: Ipv4Net) -> Option<NextHopIndex> {
        self.routes.get(net.into())
    }

    /// The longest route that `address` lies in. Searches the routes, not the readers' table.
    pub fn lookup(&self, address: Ipv4Addr) -> Option<(Ipv4Net, NextHopIndex)> {
        self.routes
            .longest(Prefix::of(address.into(), 32))
            .map(public)
    }

    /// All routes, by address, then from the shorter to the longer.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Net, NextHopIndex)> + '_ {
        self.routes.iter().map(public)
    }

    /// The routes that `net` lies in, with `net` itself, from the longest to the shortest.
    pub fn covering(&self, net: Ipv4Net) -> impl Iterator<Item = (Ipv4Net, NextHopIndex)> + '_ {
        self.routes.covering(net.into()).map(public)
    }

    /// The routes that lie in `net`, with `net` itself, in the order of [`iter`](Self::iter).
    pub fn covered(&self, net: Ipv4Net) -> impl Iterator<Item = (Ipv4Net, NextHopIndex)> + '_ {
        self.routes.covered(net.into()).map(public)
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True if there are no routes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes the table takes.
    pub fn memory(&self) -> Fib4Memory {
        let own = self.routes.bytes() + self.groups.bytes();
        Fib4Memory {
            first_level: Footprint {
                reserved: Table::FIRST_BYTES,
                touched: self.first_level.bytes(),
            },
            second_level: Footprint {
                reserved: Table::SECOND_BYTES,
                touched: TouchedPages::whole(usize::from(self.groups.usage().touched) * 512),
            },
            routes: Footprint {
                reserved: own,
                touched: own,
            },
        }
    }

    /// What the second-level groups are doing.
    pub fn groups(&self) -> GroupUse {
        self.groups.usage()
    }

    /// Frees the retired groups that no reader can be looking into any more, and returns how many.
    /// Does not wait. Insertions do this themselves; call it to see [`groups`](Self::groups) up to
    /// date.
    pub fn reclaim(&mut self) -> usize {
        match self.groups.oldest_tag() {
            Some(_) => self.groups.reclaim(self.readers.passed()),
            None => 0,
        }
    }

    /// Waits until no reader holds a result of before the call, and frees all retired groups.
    ///
    /// After this, a next hop that no route names any more can be given another meaning.
    ///
    /// # Errors
    ///
    /// [`FibError::ReadersLagging`] if that takes longer than [`Fib4Config::reclaim_wait`].
    pub fn flush(&mut self) -> Result<(), FibError> {
        let tag = self.readers.advance();
        let done = self.wait(|writer| writer.readers.lagging(tag) == 0);
        self.reclaim();
        if done {
            Ok(())
        } else {
            let lagging = self.readers.lagging(tag);
            Err(FibError::ReadersLagging {
                lagging,
                waited: self.reclaim_wait,
            })
        }
    }

    /// A group that no reader can reach.
    fn take_group(&mut self) -> Result<u16, FibError> {
        // Before a group that was never touched: churn must not spread over all of the memory.
        if !self.groups.has_free() {
            self.reclaim();
        }
        if let Some(group) = self.groups.take() {
            return Ok(group);
        }
        if let Some(tag) = self.groups.oldest_tag() {
            if self.wait(|writer| writer.reclaim() > 0)
                && let Some(group) = self.groups.take()
            {
                return Ok(group);
            }
            return Err(self.exhausted(self.readers.lagging(tag)));
        }
        Err(self.exhausted(0))
    }

    fn exhausted(&self, lagging: usize) -> FibError {
        let GroupUse {
            limit,
            used,
            retired,
            ..
        } = self.groups.usage();
        FibError::GroupsExhausted {
            limit,
            used,
            held: retired,
            lagging,
        }
    }

    /// Waits up to `reclaim_wait` until `done`, and says whether it was.
    fn wait(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        const SPINS: u32 = 100;
        let start = Instant::now();
        let mut spins = 0;
        loop {
            if done(self) {
                return true;
            }
            if start.elapsed() >= self.reclaim_wait {
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

    /// Gives the addresses of `prefix` that no longer route claims a raw value.
    fn set(&mut self, prefix: Prefix, raw: u16) {
        for (first, last) in self.routes.unclaimed(prefix) {
            self.table.set_range(first, last, raw);
        }
        self.first_level.touch_slots(prefix.first(), prefix.last());
    }
}

fn public((prefix, hop): Route) -> (Ipv4Net, NextHopIndex) {
    (prefix.into(), hop)
}

fn raw_of(hop: Option<NextHopIndex>) -> u16 {
    hop.map_or(0, NextHopIndex::to_raw)
}
