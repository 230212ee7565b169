//! Routes of both address families, and the next-hop slots they share.
//!
//! Each family has a FIB of its own, which maps an address to the number of a slot; the slots are
//! common to both, shared by all routes that lead the same way. The order of publication keeps
//! workers from ever meeting a number they do not know: a slot is in every worker's snapshot before
//! a FIB names it, and the FIB has forgotten it before it is reused.

mod key;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shunt_api::RouteTarget;
use shunt_fib::{Fib4Writer, Fib6Writer, FibError, NextHopIndex};

use crate::tables::PortId;

pub(crate) use key::{HopKey, Origin};

/// A route.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    pub(crate) key: HopKey,
    pub(crate) origin: Origin,
    /// As it was asked for; `None` for what the switch made.
    pub(crate) target: Option<RouteTarget>,
}

impl Route {
    /// One that the switch makes.
    pub(crate) fn own(key: HopKey, origin: Origin) -> Self {
        Self {
            key,
            origin,
            target: None,
        }
    }

    /// Whether a user has asked for it.
    pub(crate) fn is_users(&self) -> bool {
        matches!(self.origin, Origin::Config | Origin::Api)
    }
}

/// A route could not be installed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RibError {
    #[error("all {} next hops are in use: remove routes first", NextHopIndex::MAX.get() as u32 + 1)]
    HopsExhausted,
    #[error("the FIB refused {0}: {1}")]
    Fib(IpNet, FibError),
}

/// What [`Rib::install`] did.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    /// Whether the FIB has changed.
    pub(crate) any: bool,
    /// What it refused.
    pub(crate) refused: Vec<RibError>,
}

struct Slot {
    key: HopKey,
    users: usize,
}

/// The routing table and its next-hop slots.
pub(crate) struct Rib {
    fib4: Fib4Writer,
    fib6: Fib6Writer,
    /// Those of IPv4 come first.
    routes: BTreeMap<IpNet, Route>,
    slots: Vec<Option<Slot>>,
    by_key: HashMap<HopKey, u16>,
    free: Vec<u16>,
    /// Released since the last publication: not free until workers have passed it.
    released: Vec<u16>,
    /// Routes whose slot is not published yet.
    waiting: Vec<IpNet>,
    /// Replaced routes, which the FIB names until the new ones are installed.
    replaced: Vec<(IpNet, Route)>,
    /// Keys that keep a slot without a route.
    held: Vec<HopKey>,
}

impl Rib {
    pub(crate) fn new(fib4: Fib4Writer, fib6: Fib6Writer) -> Self {
        Self {
            fib4,
            fib6,
            routes: BTreeMap::new(),
            slots: Vec::new(),
            by_key: HashMap::new(),
            free: Vec::new(),
            released: Vec::new(),
            waiting: Vec::new(),
            replaced: Vec::new(),
            held: Vec::new(),
        }
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&Route> {
        self.routes.get(&prefix.trunc())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpNet, &Route)> {
        self.routes.iter()
    }

    /// The route that `address` takes.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<(IpNet, &Route)> {
        let prefix = match address {
            IpAddr::V4(v4) => IpNet::V4(self.fib4.lookup(v4)?.0),
            IpAddr::V6(v6) => IpNet::V6(self.fib6.lookup(v6)?.0),
        };
        Some((prefix, self.routes.get(&prefix)?))
    }

    /// The routes that cover all of `prefix`, its own included, from the longest, which is the one
    /// in use, to the shortest. As the FIB has them, so without those not installed yet.
    pub(crate) fn covering(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, &Route)> {
        let (v4, v6) = split(prefix);
        let v4 = v4.map(|net| self.fib4.covering(net));
        let v6 = v6.map(|net| self.fib6.covering(net));
        self.named(v4, v6)
    }

    /// The routes inside `prefix`, without its own, by address, then from the shorter to the
    /// longer. As the FIB has them.
    pub(crate) fn inside(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, &Route)> {
        let (v4, v6) = split(prefix);
        let v4 = v4.map(|net| self.fib4.covered(net));
        let v6 = v6.map(|net| self.fib6.covered(net));
        let prefix = prefix.trunc();
        self.named(v4, v6)
            .filter(move |(inside, _)| *inside != prefix)
    }

    /// The FIBs' routes as they are here.
    fn named(
        &self,
        v4: Option<impl Iterator<Item = (Ipv4Net, NextHopIndex)>>,
        v6: Option<impl Iterator<Item = (Ipv6Net, NextHopIndex)>>,
    ) -> impl Iterator<Item = (IpNet, &Route)> {
        let v4 = v4.into_iter().flatten().map(|(net, _)| IpNet::V4(net));
        let v6 = v6.into_iter().flatten().map(|(net, _)| IpNet::V6(net));
        v4.chain(v6)
            .filter_map(|prefix| Some((prefix, self.routes.get(&prefix)?)))
    }

    /// The prefixes that lead to a local port.
    pub(crate) fn through(&self, port: PortId) -> Vec<IpNet> {
        let leads = |key: HopKey| match key {
            HopKey::Pod { port: to, .. } | HopKey::Port { port: to, .. } => to == port,
            _ => false,
        };
        self.routes
            .iter()
            .filter(|(_, route)| leads(route.key))
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    /// The keys of all slots, by slot.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Option<HopKey>> + '_ {
        self.slots
            .iter()
            .map(|slot| slot.as_ref().map(|slot| slot.key))
    }

    /// The slot of a key, while something uses it.
    pub(crate) fn slot(&self, key: HopKey) -> Option<u16> {
        self.by_key.get(&key).copied()
    }

    /// Gives a key a slot that it keeps without a route, until [`Self::let_go`].
    pub(crate) fn hold(&mut self, key: HopKey) -> Result<(), RibError> {
        if !self.held.contains(&key) {
            self.acquire(key)?;
            self.held.push(key);
        }
        Ok(())
    }

    /// Ends [`Self::hold`].
    pub(crate) fn let_go(&mut self, key: HopKey) {
        if let Some(at) = self.held.iter().position(|held| *held == key) {
            self.held.swap_remove(at);
            self.release(key);
        }
    }

    /// Adds or replaces a route; it takes effect with the next [`Self::install`].
    pub(crate) fn add(&mut self, prefix: IpNet, route: Route) -> Result<(), RibError> {
        let prefix = prefix.trunc();
        self.acquire(route.key)?;
        if let Some(old) = self.routes.insert(prefix, route) {
            self.replaced.push((prefix, old));
        }
        self.waiting.push(prefix);
        Ok(())
    }

    /// Removes a route at once.
    pub(crate) fn remove(&mut self, prefix: IpNet) -> Result<Option<Route>, RibError> {
        let prefix = prefix.trunc();
        if !self.routes.contains_key(&prefix) {
            return Ok(None);
        }
        match prefix {
            IpNet::V4(net) => self.fib4.remove(net),
            IpNet::V6(net) => self.fib6.remove(net),
        }
        .map_err(|error| RibError::Fib(prefix, error))?;
        let route = self.routes.remove(&prefix);
        if let Some(route) = &route {
            self.release(route.key);
        }
        Ok(route)
    }

    /// Call once every worker has the snapshot made after the last [`Self::add`]: the FIB gets the
    /// new routes. Those it refuses are as they were before.
    pub(crate) fn install(&mut self) -> Installed {
        self.free.append(&mut self.released);
        let mut installed = Installed::default();
        for prefix in std::mem::take(&mut self.waiting) {
            let Some(route) = self.routes.get(&prefix) else {
                continue;
            };
            let Some(hop) = self
                .by_key
                .get(&route.key)
                .copied()
                .and_then(NextHopIndex::new)
            else {
                continue;
            };
            let inserted = match prefix {
                IpNet::V4(net) => self.fib4.insert(net, hop),
                IpNet::V6(net) => self.fib6.insert(net, hop),
            };
            match inserted {
                Ok(_) => installed.any = true,
                Err(error) => {
                    installed.refused.push(RibError::Fib(prefix, error));
                    self.put_back(prefix);
                }
            }
        }
        for (_, old) in std::mem::take(&mut self.replaced) {
            self.release(old.key);
        }
        installed
    }

    /// After the FIB has refused a prefix: the route that it still names, or none.
    fn put_back(&mut self, prefix: IpNet) {
        let named = self.replaced.iter().position(|(of, _)| *of == prefix);
        let old = named.map(|at| self.replaced.remove(at).1);
        let refused = match old {
            Some(old) => self.routes.insert(prefix, old),
            None => self.routes.remove(&prefix),
        };
        if let Some(refused) = refused {
            self.release(refused.key);
        }
    }

    /// True when [`Self::install`] has work.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.waiting.is_empty() || !self.released.is_empty()
    }

    fn acquire(&mut self, key: HopKey) -> Result<(), RibError> {
        if let Some(slot) = self
            .by_key
            .get(&key)
            .and_then(|hop| self.slots.get_mut(usize::from(*hop)))
        {
            if let Some(slot) = slot {
                slot.users += 1;
            }
            return Ok(());
        }
        let hop = match self.free.pop() {
            Some(hop) => hop,
            None => {
                let hop = u16::try_from(self.slots.len()).map_err(|_| RibError::HopsExhausted)?;
                NextHopIndex::new(hop).ok_or(RibError::HopsExhausted)?;
                self.slots.push(None);
                hop
            }
        };
        self.slots[usize::from(hop)] = Some(Slot { key, users: 1 });
        self.by_key.insert(key, hop);
        Ok(())
    }

    fn release(&mut self, key: HopKey) {
        let Some(hop) = self.by_key.get(&key).copied() else {
            return;
        };
        let Some(Some(slot)) = self.slots.get_mut(usize::from(hop)) else {
            return;
        };
        slot.users -= 1;
        if slot.users == 0 {
            self.slots[usize::from(hop)] = None;
            self.by_key.remove(&key);
            self.released.push(hop);
        }
    }
}

/// The prefix by family, its host bits cleared.
fn split(prefix: IpNet) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
    match prefix.trunc() {
        IpNet::V4(net) => (Some(net), None),
        IpNet::V6(net) => (None, Some(net)),
    }
}

#[cfg(test)]
mod tests;
