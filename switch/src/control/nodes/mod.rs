//! The routes to nodes that the switch makes itself.
//!
//! To this node's own addresses, and out of the cluster: while the node's stack is joined. To the
//! address of every remote node that a route names: its stack answers with errors, and its own
//! processes talk to pods, from there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use shunt_api::{Encap, MacAddr};
use shunt_encap::IpFamily;

use super::rib::{HopKey, Origin, Rib, RibError, Route};

/// Which of them there ought to be. A route that a user has asked for stands before any of them;
/// that is for the caller.
pub(crate) struct NodeRoutes {
    /// This node's addresses.
    own: Vec<IpAddr>,
    /// Whether the node's stack is joined.
    joined: bool,
    /// The users' routes to remote nodes.
    users: BTreeMap<IpNet, IpAddr>,
    /// The same by node, with how packets travel there.
    vias: BTreeMap<IpAddr, BTreeMap<IpNet, (Encap, MacAddr)>>,
}

impl NodeRoutes {
    pub(crate) fn new(own: Vec<IpAddr>) -> Self {
        Self {
            own,
            joined: false,
            users: BTreeMap::new(),
            vias: BTreeMap::new(),
        }
    }

    /// The node's stack is joined, or no longer. Returns the prefixes to look at again.
    pub(crate) fn join(&mut self, joined: bool) -> Vec<IpNet> {
        self.joined = joined;
        let own = self.own.iter().map(|address| IpNet::from(*address));
        own.chain([default_route(IpFamily::V4), default_route(IpFamily::V6)])
            .collect()
    }

    /// Whether the node's stack is joined.
    pub(crate) fn joined(&self) -> bool {
        self.joined
    }

    /// A user's route leads there now, or is gone. Returns the prefixes to look at again.
    pub(crate) fn note(&mut self, prefix: IpNet, key: Option<HopKey>) -> Vec<IpNet> {
        let prefix = prefix.trunc();
        let mut changed = Vec::new();
        if let Some(via) = self.users.remove(&prefix) {
            if let Some(routes) = self.vias.get_mut(&via) {
                routes.remove(&prefix);
                if routes.is_empty() {
                    self.vias.remove(&via);
                }
            }
            changed.push(IpNet::from(via));
        }
        if let Some(HopKey::Node {
            via,
            encap,
            vtep_mac,
            ..
        }) = key
        {
            self.users.insert(prefix, via);
            let routes = self.vias.entry(via).or_default();
            routes.insert(prefix, (encap, vtep_mac));
            changed.push(IpNet::from(via));
            changed.dedup();
        }
        changed
    }

    /// The remote nodes that routes name.
    pub(crate) fn vias(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.vias.keys().copied()
    }

    /// Whether a route names this remote node.
    pub(crate) fn names(&self, via: IpAddr) -> bool {
        self.vias.contains_key(&via)
    }

    /// Where the switch's own route for exactly this prefix leads, if there ought to be one.
    pub(crate) fn wanted(&self, prefix: IpNet) -> Option<HopKey> {
        let address = prefix.addr();
        let inner = IpFamily::of(address);
        if self.joined && prefix == default_route(inner) {
            return Some(HopKey::Outside(inner));
        }
        if prefix.prefix_len() != prefix.max_prefix_len() {
            return None;
        }
        if self.own.contains(&address) {
            return self.joined.then_some(HopKey::Host(inner));
        }
        // Routes may name a node with different encapsulations: the first one's stands.
        let (_, (encap, vtep_mac)) = self.vias.get(&address)?.first_key_value()?;
        Some(HopKey::Node {
            via: address,
            encap: *encap,
            vtep_mac: *vtep_mac,
            inner,
        })
    }
}

impl NodeRoutes {
    /// Makes the switch's own routes in `rib` what they ought to be, at these prefixes; what others
    /// have there stands. True when something has changed.
    pub(crate) fn settle(&self, rib: &mut Rib, prefixes: &[IpNet]) -> Result<bool, RibError> {
        let mut changed = false;
        for prefix in prefixes {
            let wanted = self.wanted(*prefix);
            let has = match rib.get(prefix) {
                Some(route) if route.origin != Origin::Node => continue,
                other => other.map(|route| route.key),
            };
            match wanted {
                _ if wanted == has => continue,
                Some(key) => rib.add(*prefix, Route::own(key, Origin::Node))?,
                None => drop(rib.remove(*prefix)?),
            }
            changed = true;
        }
        Ok(changed)
    }

    /// Takes a route away from `rib` and returns it. One of the switch's own that it stood before
    /// takes its place at once: no packet falls through to a shorter prefix.
    pub(crate) fn withdraw(&self, rib: &mut Rib, prefix: IpNet) -> Result<Option<Route>, RibError> {
        match self.wanted(prefix) {
            Some(key) => {
                let old = rib.get(&prefix).cloned();
                rib.add(prefix, Route::own(key, Origin::Node))?;
                Ok(old)
            }
            None => rib.remove(prefix),
        }
    }
}

/// Whether a user's route may take the place of this one: another of a user, or what the switch
/// assumes for lack of one.
pub(crate) fn gives_way(route: &Route) -> bool {
    route.is_users() || route.origin == Origin::Node && !matches!(route.key, HopKey::Host(_))
}

/// The prefix of all addresses.
pub(crate) fn default_route(family: IpFamily) -> IpNet {
    let unspecified: IpAddr = match family {
        IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
        IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new_assert(unspecified, 0)
}

#[cfg(test)]
mod tests;
