//! What may come from a pod's port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use shunt_api::MacAddr;

/// The addresses that a pod may send from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// Its MAC addresses; empty for any that is no other's.
    pub macs: Vec<MacAddr>,
    /// Its IPv4 addresses.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses; link-local ones need not be named.
    pub v6: Vec<Ipv6Addr>,
    /// More IPv4 addresses that it may use.
    pub nets4: Vec<Ipv4Net>,
    /// More IPv6 addresses that it may use.
    pub nets6: Vec<Ipv6Net>,
    /// Its attachment named no address: those that it announces, and that are nobody else's, are
    /// its.
    pub learns: bool,
}

impl Guard {
    /// Whether the MAC address is the pod's.
    #[inline]
    pub fn has_mac(&self, mac: MacAddr) -> bool {
        self.macs.is_empty() || self.macs.contains(&mac)
    }

    /// Whether the IPv4 address was given to the pod.
    #[inline]
    pub fn has_v4(&self, address: Ipv4Addr) -> bool {
        self.v4.contains(&address) || self.nets4.iter().any(|net| net.contains(&address))
    }

    /// Whether the IPv6 address was given to the pod.
    #[inline]
    pub fn has_v6(&self, address: Ipv6Addr) -> bool {
        self.v6.contains(&address)
            || address.is_unicast_link_local()
            || self.nets6.iter().any(|net| net.contains(&address))
    }

    /// Whether the address was given to the pod.
    pub fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.has_v4(v4),
            IpAddr::V6(v6) => self.has_v6(v6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_allowed_and_link_local_addresses_are_the_pods() {
        let guard = Guard {
            macs: vec![MacAddr([2, 0, 0, 0, 0, 1])],
            v4: vec![Ipv4Addr::new(10, 244, 1, 11)],
            v6: vec!["fd00::b".parse().expect("an address")],
            nets4: vec!["10.9.0.0/24".parse().expect("a prefix")],
            nets6: vec!["fd09::/64".parse().expect("a prefix")],
            learns: false,
        };
        for (address, own) in [
            ("10.244.1.11", true),
            ("10.244.1.12", false),
            ("10.9.0.77", true),
            ("10.9.1.77", false),
            ("fd00::b", true),
            ("fd00::c", false),
            ("fd09::c", true),
            ("fe80::1234", true),
            ("2001:db8::1", false),
        ] {
            let parsed = address.parse().expect("an address");
            assert_eq!(guard.has(parsed), own, "{address}");
        }
        assert!(guard.has_mac(MacAddr([2, 0, 0, 0, 0, 1])));
        assert!(!guard.has_mac(MacAddr([2, 0, 0, 0, 0, 2])));
        assert!(Guard::default().has_mac(MacAddr([2, 0, 0, 0, 0, 2])));
    }
}
