//! Routes, and the next-hop slots they share.
//!
//! The FIB maps an address to the number of a slot; slots are shared by all routes that lead the
//! same way. The order of publication keeps workers from ever meeting a number they do not know:
//! a slot is in every worker's snapshot before the FIB names it, and the FIB has forgotten it
//! before it is reused.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use shunt_api::{Encap, MacAddr, RouteTarget};
use shunt_fib::{Fib4Writer, FibError, NextHopIndex};

use crate::tables::PortId;

/// What a slot stands for: routes with equal keys share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HopKey {
    /// A pod of this node.
    Pod { port: PortId, address: Ipv4Addr },
    /// A pod that routes for others.
    Port(PortId),
    /// A remote node.
    Node {
        via: Ipv4Addr,
        encap: Encap,
        vtep_mac: MacAddr,
    },
    /// Hosts of a local subnet that are asked for when needed.
    Connected,
    /// The gateway's own address.
    Gateway,
    /// Nowhere.
    Blackhole,
}

/// Who made a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Config,
    Api,
    /// Bound to a pod at its attachment.
    Pod,
    /// From a pod's ARP.
    Learned,
    Connected,
    Gateway,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Api => "api",
            Self::Pod => "pod",
            Self::Learned => "learned",
            Self::Connected => "connected",
            Self::Gateway => "gateway",
        }
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    pub(crate) key: HopKey,
    pub(crate) origin: Origin,
    /// As it was asked for; `None` for what the switch made.
    pub(crate) target: Option<RouteTarget>,
}

/// A route could not be installed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RibError {
    #[error("all {} next hops are in use: remove routes first", NextHopIndex::MAX.get() as u32 + 1)]
    HopsExhausted,
    #[error("the FIB refused {0}: {1}")]
    Fib(Ipv4Net, FibError),
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
    fib: Fib4Writer,
    routes: BTreeMap<Ipv4Net, Route>,
    slots: Vec<Option<Slot>>,
    by_key: HashMap<HopKey, u16>,
    free: Vec<u16>,
    /// Released since the last publication: not free until workers have passed it.
    released: Vec<u16>,
    /// Routes whose slot is not published yet.
    waiting: Vec<Ipv4Net>,
    /// Keys of replaced routes, which the FIB names until the new ones are installed.
    replaced: Vec<HopKey>,
}

impl Rib {
    pub(crate) fn new(fib: Fib4Writer) -> Self {
        Self {
            fib,
            routes: BTreeMap::new(),
            slots: Vec::new(),
            by_key: HashMap::new(),
            free: Vec::new(),
            released: Vec::new(),
            waiting: Vec::new(),
            replaced: Vec::new(),
        }
    }

    pub(crate) fn get(&self, prefix: &Ipv4Net) -> Option<&Route> {
        self.routes.get(&prefix.trunc())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Ipv4Net, &Route)> {
        self.routes.iter()
    }

    /// The route that `address` takes.
    pub(crate) fn lookup(&self, address: Ipv4Addr) -> Option<(Ipv4Net, &Route)> {
        let (prefix, _) = self.fib.lookup(address)?;
        Some((prefix, self.routes.get(&prefix)?))
    }

    /// The routes that cover all of `prefix`, its own included, from the longest, which is the one
    /// in use, to the shortest. As the FIB has them, so without those not installed yet.
    pub(crate) fn covering(&self, prefix: Ipv4Net) -> impl Iterator<Item = (Ipv4Net, &Route)> {
        self.named(self.fib.covering(prefix.trunc()))
    }

    /// The routes inside `prefix`, without its own, by address, then from the shorter to the
    /// longer. As the FIB has them.
    pub(crate) fn inside(&self, prefix: Ipv4Net) -> impl Iterator<Item = (Ipv4Net, &Route)> {
        let prefix = prefix.trunc();
        self.named(self.fib.covered(prefix))
            .filter(move |(inside, _)| *inside != prefix)
    }

    /// The FIB's routes as they are here.
    fn named(
        &self,
        found: impl Iterator<Item = (Ipv4Net, NextHopIndex)>,
    ) -> impl Iterator<Item = (Ipv4Net, &Route)> {
        found.filter_map(|(prefix, _)| Some((prefix, self.routes.get(&prefix)?)))
    }

    /// The prefixes that lead to a local port.
    pub(crate) fn through(&self, port: PortId) -> Vec<Ipv4Net> {
        let leads = |key: HopKey| match key {
            HopKey::Pod { port: to, .. } | HopKey::Port(to) => to == port,
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

    /// Adds or replaces a route; it takes effect with the next [`Self::install`].
    pub(crate) fn add(&mut self, prefix: Ipv4Net, route: Route) -> Result<(), RibError> {
        let prefix = prefix.trunc();
        self.acquire(route.key)?;
        if let Some(old) = self.routes.insert(prefix, route) {
            self.replaced.push(old.key);
        }
        self.waiting.push(prefix);
        Ok(())
    }

    /// Removes a route at once.
    pub(crate) fn remove(&mut self, prefix: Ipv4Net) -> Result<Option<Route>, RibError> {
        let prefix = prefix.trunc();
        if !self.routes.contains_key(&prefix) {
            return Ok(None);
        }
        self.fib
            .remove(prefix)
            .map_err(|error| RibError::Fib(prefix, error))?;
        let route = self.routes.remove(&prefix);
        if let Some(route) = &route {
            self.release(route.key);
        }
        Ok(route)
    }

    /// Call once every worker has the snapshot made after the last [`Self::add`]: the FIB gets the
    /// new routes. Those it refuses are removed again.
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
            match self.fib.insert(prefix, hop) {
                Ok(_) => installed.any = true,
                Err(error) => {
                    installed.refused.push(RibError::Fib(prefix, error));
                    if let Some(route) = self.routes.remove(&prefix) {
                        self.release(route.key);
                    }
                }
            }
        }
        for key in std::mem::take(&mut self.replaced) {
            self.release(key);
        }
        installed
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

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_fib::Fib4Config;

    fn rib() -> Rib {
        Rib::new(
            Fib4Writer::new(Fib4Config {
                groups: 2,
                ..Fib4Config::default()
            })
            .expect("a FIB"),
        )
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a prefix")
    }

    fn node(n: u8) -> HopKey {
        HopKey::Node {
            via: Ipv4Addr::new(192, 168, 0, n),
            encap: Encap::Direct,
            vtep_mac: MacAddr::default(),
        }
    }

    fn route(key: HopKey) -> Route {
        Route {
            key,
            origin: Origin::Api,
            target: None,
        }
    }

    fn slot_of(rib: &Rib, key: HopKey) -> Option<usize> {
        rib.keys().position(|slot| slot == Some(key))
    }

    #[test]
    fn routes_that_lead_the_same_way_share_a_slot() {
        let mut rib = rib();
        rib.add(net("10.1.0.0/16"), route(node(1))).expect("added");
        rib.add(net("10.2.0.0/16"), route(node(1))).expect("added");
        rib.add(net("10.3.0.0/16"), route(node(2))).expect("added");
        assert!(rib.install().refused.is_empty());
        assert_eq!(rib.keys().flatten().count(), 2);
        rib.remove(net("10.1.0.0/16")).expect("removed");
        assert!(slot_of(&rib, node(1)).is_some(), "still used");
        rib.remove(net("10.2.0.0/16")).expect("removed");
        assert_eq!(slot_of(&rib, node(1)), None);
        assert_eq!(
            rib.lookup([10, 3, 0, 1].into()).map(|(prefix, _)| prefix),
            Some(net("10.3.0.0/16"))
        );
        assert_eq!(rib.lookup([10, 1, 0, 1].into()), None);
    }

    #[test]
    fn the_fib_names_no_slot_before_it_is_published() {
        let mut rib = rib();
        rib.add(net("10.1.0.0/16"), route(node(1))).expect("added");
        assert!(rib.is_dirty());
        assert_eq!(rib.lookup([10, 1, 0, 1].into()), None);
        assert!(rib.install().refused.is_empty());
        assert!(rib.lookup([10, 1, 0, 1].into()).is_some());
        assert!(!rib.is_dirty());
    }

    #[test]
    fn a_slot_is_not_reused_before_the_workers_have_passed() {
        let mut rib = rib();
        rib.add(net("10.1.0.0/16"), route(node(1))).expect("added");
        rib.install();
        let slot = slot_of(&rib, node(1)).expect("a slot");
        rib.remove(net("10.1.0.0/16")).expect("removed");
        rib.add(net("10.2.0.0/16"), route(node(2))).expect("added");
        assert_ne!(slot_of(&rib, node(2)), Some(slot));
        rib.install();
        rib.add(net("10.3.0.0/16"), route(node(3))).expect("added");
        assert_eq!(slot_of(&rib, node(3)), Some(slot));
    }

    #[test]
    fn a_replaced_route_keeps_its_old_slot_until_the_fib_has_the_new_one() {
        let mut rib = rib();
        rib.add(net("10.1.0.0/16"), route(node(1))).expect("added");
        rib.install();
        rib.add(net("10.1.0.0/16"), route(node(2))).expect("added");
        assert!(slot_of(&rib, node(1)).is_some());
        rib.install();
        assert_eq!(slot_of(&rib, node(1)), None);
        assert!(rib.is_dirty(), "another snapshot frees the slot");
        rib.install();
        assert!(!rib.is_dirty());
    }

    #[test]
    fn what_the_fib_refuses_is_not_in_the_rib_either() {
        let mut rib = rib();
        for n in 0..3 {
            rib.add(net(&format!("10.1.{n}.1/32")), route(node(1)))
                .expect("added");
        }
        // Two second-level groups, three /24 with host routes.
        let refused = rib.install().refused;
        assert_eq!(refused.len(), 1);
        assert!(
            refused[0].to_string().contains("10.1.2.1/32"),
            "{}",
            refused[0]
        );
        assert_eq!(rib.iter().count(), 2);
        assert!(rib.lookup([10, 1, 1, 1].into()).is_some());
    }
}
