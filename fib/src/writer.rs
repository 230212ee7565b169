//! Updates.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::prefix::Prefix;
use crate::qsbr::Domain;
use crate::routes::{Route, Routes};
use crate::shared::Shared;
use crate::{Address, Family, FibError, FibReader, NextHopIndex, Value};

type Net<F> = <<F as Family>::Address as Address>::Net;
type Ip<F> = <<F as Family>::Address as Address>::Ip;

/// The one writer of a table, and the keeper of its routes.
///
/// A prefix with host bits set is taken truncated. `V` is what a route leads to; see [`Value`].
#[derive(Debug)]
pub struct FibWriter<F: Family, V = NextHopIndex> {
    shared: Arc<Shared<F>>,
    family: F,
    routes: Routes<F::Address>,
    readers: Domain,
    value: PhantomData<fn() -> V>,
}

impl<F: Family, V: Value> FibWriter<F, V> {
    /// An empty table.
    ///
    /// # Errors
    ///
    /// [`FibError::OutOfMemory`] if there is no address space for the table, and
    /// [`FibError::PoolTooLarge`] if the table is to have more of a part than there can be.
    pub fn new(config: F::Config) -> Result<Self, FibError> {
        let limits = F::reader_limits(&config);
        let (family, table) = F::new(&config)?;
        Ok(Self {
            shared: Arc::new(Shared::new(table)),
            family,
            routes: Routes::new()?,
            readers: Domain::new(limits.readers, limits.reclaim_wait),
            value: PhantomData,
        })
    }

    /// Registers a reader. It is online from now on, so make it when its thread is about to start.
    ///
    /// # Errors
    ///
    /// [`FibError::ReadersExhausted`] if the configured number of readers are registered.
    pub fn reader(&mut self) -> Result<FibReader<F, V>, FibError> {
        match self.readers.register() {
            Some(registration) => Ok(FibReader::new(Arc::clone(&self.shared), registration)),
            None => Err(FibError::ReadersExhausted {
                limit: self.readers.limit(),
            }),
        }
    }

    /// Adds or replaces a route, and returns the value that it had.
    ///
    /// # Errors
    ///
    /// [`FibError::PoolExhausted`] if the table needs another part for the prefix and none is free,
    /// even after waiting for readers that hold up retired ones. Nothing is changed then. Which
    /// prefixes need which parts is said in the family's module.
    pub fn insert(&mut self, net: Net<F>, value: V) -> Result<Option<V>, FibError> {
        let prefix = Prefix::from_net(net);
        let hop = value.into();
        if prefix != Prefix::ALL {
            let (table, routes) = (&self.shared.table, &self.routes);
            self.family
                .prepare(table, routes, prefix, &mut self.readers)?;
        }
        let old = self.routes.insert(prefix, hop);
        if old != Some(hop) {
            self.set(prefix, hop.to_raw());
        }
        Ok(old.map(V::from))
    }

    /// Removes a route, and returns the value that it had; `None` if there was no such route.
    ///
    /// # Errors
    ///
    /// None at present: a removal wants no room.
    pub fn remove(&mut self, net: Net<F>) -> Result<Option<V>, FibError> {
        let prefix = Prefix::from_net(net);
        let Some(old) = self.routes.remove(prefix) else {
            return Ok(None);
        };
        if prefix == Prefix::ALL {
            self.set(prefix, 0);
            return Ok(Some(V::from(old)));
        }
        // The table has nothing of the default route: what only that lies around is a miss there.
        let around = self
            .routes
            .longest_around(prefix)
            .filter(|(around, _)| *around != Prefix::ALL)
            .map(|(_, hop)| hop);
        if around != Some(old) {
            self.set(prefix, around.map_or(0, NextHopIndex::to_raw));
        }
        self.family
            .prune(&self.shared.table, &self.routes, prefix, &mut self.readers);
        Ok(Some(V::from(old)))
    }

    /// The value of exactly this prefix.
    pub fn get(&self, net: Net<F>) -> Option<V> {
        self.routes.get(Prefix::from_net(net)).map(V::from)
    }

    /// The longest route that `address` lies in. Searches the routes, not the readers' table.
    pub fn lookup(&self, address: Ip<F>) -> Option<(Net<F>, V)> {
        self.routes
            .longest(Prefix::host(address.into()))
            .map(public)
    }

    /// All routes, by address, then from the shorter to the longer.
    pub fn iter(&self) -> impl Iterator<Item = (Net<F>, V)> + '_ {
        self.routes.iter().map(public)
    }

    /// The routes that `net` lies in, with `net` itself, from the longest to the shortest.
    pub fn covering(&self, net: Net<F>) -> impl Iterator<Item = (Net<F>, V)> + '_ {
        self.routes.covering(Prefix::from_net(net)).map(public)
    }

    /// The routes that lie in `net`, with `net` itself, in the order of [`iter`](Self::iter).
    pub fn covered(&self, net: Net<F>) -> impl Iterator<Item = (Net<F>, V)> + '_ {
        self.routes.covered(Prefix::from_net(net)).map(public)
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
    pub fn memory(&self) -> F::Memory {
        self.family.memory(&self.routes)
    }

    /// Frees the retired parts of the table that no reader can be looking into any more, and
    /// returns how many. Does not wait. Insertions do this themselves; call it to see how many are
    /// in use.
    pub fn reclaim(&mut self) -> usize {
        self.family.reclaim(&self.readers)
    }

    /// Waits until no reader holds a result of before the call, and frees all retired parts.
    ///
    /// After this, a next hop that no route names any more can be given another meaning.
    ///
    /// # Errors
    ///
    /// [`FibError::ReadersLagging`] if that takes longer than the configured `reclaim_wait`.
    pub fn flush(&mut self) -> Result<(), FibError> {
        let tag = self.readers.advance();
        let done = self.readers.wait(|| self.readers.lagging(tag) == 0);
        self.reclaim();
        if done {
            Ok(())
        } else {
            Err(FibError::ReadersLagging {
                lagging: self.readers.lagging(tag),
                waited: self.readers.patience(),
            })
        }
    }

    /// The writer's side of the structure.
    pub(crate) fn family(&self) -> &F {
        &self.family
    }

    /// Gives the addresses of `prefix` that no longer route claims a raw value.
    fn set(&mut self, prefix: Prefix<F::Address>, raw: u16) {
        if prefix == Prefix::ALL {
            self.shared.set_default(raw);
            return;
        }
        if !self.routes.any_longer_inside(prefix) {
            // The common case, which needs no search.
            let (first, last) = (prefix.first(), prefix.last());
            self.family.set_range(&self.shared.table, first, last, raw);
            return;
        }
        for (first, last) in self.routes.unclaimed(prefix) {
            self.family.set_range(&self.shared.table, first, last, raw);
        }
    }
}

fn public<A: Address, V: Value>((prefix, hop): Route<A>) -> (A::Net, V) {
    (prefix.to_net(), hop.into())
}
