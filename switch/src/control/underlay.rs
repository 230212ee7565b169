//! The physical network: how remote nodes are reached, mirrored from the kernel's routes and
//! neighbour table.
//!
//! The kernel owns the node's addresses, so it is the kernel that answers and asks by ARP and NDP
//! there; what it does not know yet it is made to find out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_api::MacAddr;

use crate::netlink::{Neighbour, NeighbourState, Netlink, RouteAnswer};

/// Between two requests to the kernel for the same neighbour.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How the kernel would reach a remote node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    /// The first hop: the node itself when it is on-link, a router otherwise, maybe one with a
    /// link-local address or one of the other family (RFC 8950).
    pub(crate) first_hop: IpAddr,
    pub(crate) on_link: bool,
    /// The route's MTU in bytes, if it has one of its own.
    pub(crate) mtu: Option<u32>,
}

/// What is known of the underlay.
pub(crate) struct Mirror {
    ifindex: u32,
    neighbours: HashMap<IpAddr, Neighbour>,
    paths: HashMap<IpAddr, Option<Path>>,
    asked: HashMap<IpAddr, Instant>,
}

impl Mirror {
    /// Reads the kernel's neighbours on the uplink. Subscribe to changes before.
    pub(crate) fn new(ifindex: u32, netlink: &mut Netlink) -> Self {
        let mut mirror = Self {
            ifindex,
            neighbours: HashMap::new(),
            paths: HashMap::new(),
            asked: HashMap::new(),
        };
        mirror.reload(netlink);
        mirror
    }

    /// Reads everything anew, after changes may have been missed.
    pub(crate) fn reload(&mut self, netlink: &mut Netlink) {
        self.paths.clear();
        match netlink.neighbours(self.ifindex) {
            Ok(neighbours) => {
                self.neighbours.clear();
                for neighbour in neighbours {
                    self.note(neighbour);
                }
            }
            Err(error) => log::warn!("the kernel's neighbours cannot be read: {error}"),
        }
    }

    /// Takes over a neighbour's change; true if it is one of ours.
    pub(crate) fn note(&mut self, neighbour: Neighbour) -> bool {
        // The kernel lists the groups that it has sent to; they need no resolution.
        if neighbour.ifindex != self.ifindex || neighbour.address.is_multicast() {
            return false;
        }
        self.neighbours.insert(neighbour.address, neighbour);
        true
    }

    /// The kernel has forgotten a neighbour; true if it was one of ours.
    pub(crate) fn forget(&mut self, ifindex: u32, address: IpAddr) -> bool {
        ifindex == self.ifindex && self.neighbours.remove(&address).is_some()
    }

    /// The kernel's routes have changed.
    pub(crate) fn routes_changed(&mut self) {
        self.paths.clear();
    }

    /// How `node` is reached over the uplink; `None` if it is not.
    pub(crate) fn path(&mut self, node: IpAddr, netlink: &mut Netlink) -> Option<Path> {
        if let Some(path) = self.paths.get(&node) {
            return *path;
        }
        let path = match netlink.route_to(node) {
            Ok(RouteAnswer::Via {
                ifindex,
                gateway,
                mtu,
                ..
            }) if ifindex == self.ifindex => match gateway {
                None => Some(Path {
                    first_hop: node,
                    on_link: true,
                    mtu,
                }),
                Some(router) => Some(Path {
                    first_hop: router,
                    on_link: false,
                    mtu,
                }),
            },
            Ok(_) => None,
            // Not remembered: the next tick tries again.
            Err(error) => {
                log::warn!("the kernel's route to {node} cannot be read: {error}");
                return None;
            }
        };
        self.paths.insert(node, path);
        path
    }

    /// The link-layer address of a first hop, if the kernel knows it.
    pub(crate) fn mac(&self, first_hop: IpAddr) -> Option<MacAddr> {
        let neighbour = self.neighbours.get(&first_hop)?;
        neighbour.mac.filter(|_| neighbour.usable())
    }

    /// Makes the kernel find a first hop's link-layer address, or confirm it when it has grown
    /// stale: the kernel does not see our traffic.
    pub(crate) fn ask(&mut self, first_hop: IpAddr, netlink: &mut Netlink, now: Instant) {
        let unsettled = |n: &Neighbour| {
            matches!(
                n.state,
                NeighbourState::Stale | NeighbourState::Incomplete | NeighbourState::Failed
            )
        };
        if !self.neighbours.get(&first_hop).is_none_or(unsettled) {
            return;
        }
        if self
            .asked
            .get(&first_hop)
            .is_some_and(|last| now - *last < ASK_AGAIN)
        {
            return;
        }
        self.asked.insert(first_hop, now);
        if let Err(error) = netlink.resolve(self.ifindex, first_hop) {
            log::debug!("the kernel does not resolve {first_hop}: {error}");
        }
    }

    /// All neighbours on the uplink.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = (&IpAddr, &Neighbour)> {
        self.neighbours.iter()
    }
}
