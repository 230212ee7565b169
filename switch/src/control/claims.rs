//! Addresses that pods say are theirs.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::{MacAddr, PortSpec};

use super::daemon::Daemon;
use super::pods::{Binding, MAX_LEARNED};
use super::rib::{Origin, Route};
use crate::tables::{PortId, Role};

/// On what ground a port may have an address that its attachment did not give it; the higher one
/// wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ground {
    /// Its attachment names no address, so it may have any of this node's pods' that nobody else
    /// was given.
    Unnamed,
    /// Its attachment allows it.
    Allowed,
}

/// The ground on which a port of this attachment may have `address`. One whose attachment names
/// addresses has no others than it allows.
pub(super) fn ground(spec: &PortSpec, address: IpAddr) -> Option<Ground> {
    let mut allowed = spec.allowed_addresses.iter();
    if allowed.any(|net| net.contains(&address)) {
        return Some(Ground::Allowed);
    }
    spec.addresses.is_empty().then_some(Ground::Unnamed)
}

/// Whether an address can be that of one pod beyond its own link.
fn is_routable(address: IpAddr) -> bool {
    let odd = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !odd && match address {
        IpAddr::V4(v4) => !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

impl Daemon {
    /// A pod said in ARP or NDP that `address` is at `mac`. Believed only of an address that the
    /// pod may have and that nobody else was given, by attachment or by a route.
    pub(super) fn binding(&mut self, address: IpAddr, mac: MacAddr, port: PortId) {
        if !is_routable(address)
            || self
                .ports
                .by_id(port)
                .is_none_or(|record| record.role != Role::Pod)
        {
            return;
        }
        let known = self.bindings.get(address).copied();
        let new = match known {
            None if !self.may_learn(port, address) => return,
            None => Binding {
                port,
                mac: Some(mac),
                address_given: false,
                mac_given: false,
            },
            // What the attachment said stands, whoever says otherwise.
            Some(old) if old.mac_given || (old.address_given && old.port != port) => return,
            Some(old) if old.port != port && !self.may_learn(port, address) => return,
            Some(old) => Binding {
                port,
                mac: Some(mac),
                ..old
            },
        };
        if known == Some(new) {
            return;
        }
        self.bindings.insert(address, new);
        let origin = if new.address_given {
            Origin::Pod
        } else {
            Origin::Learned
        };
        let bound = self
            .bind_route(address, port, origin)
            .and_then(|()| self.commit());
        if let Err(error) = bound {
            log::error!("{address} is not learned: {error}");
            if !new.address_given {
                self.bindings.remove(address);
            }
        }
    }

    /// Whether `address` may be learned from a port, or moves there from the port that has it.
    pub(super) fn may_learn(&self, port: PortId, address: IpAddr) -> bool {
        let ground_of = |id| {
            let record = self.ports.by_id(id)?;
            ground(&record.spec, address)
        };
        let Some(ground) = ground_of(port) else {
            return false;
        };
        let free = match self.bindings.get(address) {
            Some(binding) if binding.address_given => false,
            // From one port to another that may have it on no lesser ground.
            Some(binding) => ground_of(binding.port) <= Some(ground),
            None => match ground {
                Ground::Unnamed => {
                    let connected = |(_, route): (_, &Route)| route.origin == Origin::Connected;
                    self.rib.lookup(address).is_some_and(connected)
                }
                // The node's own address has a route only while the node's stack is joined.
                Ground::Allowed => {
                    let own = self.own_addresses().any(|own| own == address);
                    !own && self.rib.get(&IpNet::from(address)).is_none()
                }
            },
        };
        free && self.bindings.learned(port) < MAX_LEARNED
    }

    /// A station has moved: learned addresses with its MAC move along, where they may.
    pub(super) fn move_station(&mut self, mac: MacAddr, from: PortId, to: PortId) {
        for address in self.bindings.learned_at(mac, from) {
            if !self.may_learn(to, address) {
                continue;
            }
            self.bindings.move_to(address, to);
            if let Err(error) = self.bind_route(address, to, Origin::Learned) {
                log::error!("{address}: {error}");
            }
        }
    }

    /// A pod asks for, or claims, what another one has.
    pub(super) fn conflict(&mut self, address: IpAddr, mac: MacAddr, port: PortId) {
        if !self.conflicts.is_news(address, port, self.clock.now()) {
            return;
        }
        let holder = self.bindings.get(address).map(|binding| binding.port);
        let holder = holder.map_or_else(
            || "not its own".to_owned(),
            |holder| format!("that of port {}", self.port_name(holder)),
        );
        log::warn!(
            "port {}: {mac} claims {address}, which is {holder}",
            self.port_name(port)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_port_with_addresses_learns_only_what_it_is_allowed() {
        let allowed = vec!["10.9.0.0/24".parse().expect("a prefix")];
        let mut spec = PortSpec {
            addresses: vec![address("10.244.1.7")],
            allowed_addresses: allowed,
            ..PortSpec::default()
        };
        assert_eq!(ground(&spec, address("10.244.1.8")), None);
        assert_eq!(ground(&spec, address("fd00::8")), None);
        assert_eq!(ground(&spec, address("10.9.0.1")), Some(Ground::Allowed));
        spec.addresses.clear();
        assert_eq!(ground(&spec, address("10.244.1.8")), Some(Ground::Unnamed));
        assert_eq!(ground(&spec, address("10.9.0.1")), Some(Ground::Allowed));
    }

    #[test]
    fn an_address_that_is_allowed_does_not_go_to_a_port_that_just_names_none() {
        // Of the holder, `None` when its port is gone, and of the claimant.
        for (holder, claimant, moves) in [
            (Some(Ground::Allowed), Ground::Allowed, true),
            (Some(Ground::Unnamed), Ground::Unnamed, true),
            (Some(Ground::Unnamed), Ground::Allowed, true),
            (Some(Ground::Allowed), Ground::Unnamed, false),
            (None, Ground::Unnamed, true),
        ] {
            assert_eq!(holder <= Some(claimant), moves, "{holder:?} {claimant:?}");
        }
    }

    #[test]
    fn only_addresses_of_one_pod_are_routable() {
        for (text, routable) in [
            ("10.244.1.7", true),
            ("fd00::7", true),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("127.0.0.1", false),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
            ("fe80::7", false),
        ] {
            assert_eq!(is_routable(address(text)), routable, "{text}");
        }
    }
}
