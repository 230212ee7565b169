//! The peers among Rust's crates. They look addresses up one by one.

use std::net::{Ipv4Addr, Ipv6Addr};

use ip_network_table_deps_treebitmap::IpLookupTable;
use poptrie::Poptrie;
use prefix_trie::PrefixMap;
use shunt_rib::Address;

/// A table of a crate.
pub(super) trait CrateTable<A> {
    /// The crate's name.
    const NAME: &'static str;

    /// Builds a table, in the fastest way that the crate has.
    fn build(routes: &[(A, u8, u16)]) -> Self;

    /// Adds or replaces a route.
    fn insert(&mut self, address: A, len: u8, hop: u16);

    /// The hop of the longest prefix, 0 without one.
    fn lookup(&self, address: A) -> u16;
}

/// The crates' tables for a family.
pub(super) trait CratePeers: Address {
    /// Of `ip_network_table-deps-treebitmap`, the kept fork of `treebitmap`.
    type Treebitmap: CrateTable<Self>;
    /// Of `prefix-trie`.
    type PrefixTrie: CrateTable<Self>;
    /// Of `poptrie`.
    type Poptrie: CrateTable<Self>;
}

macro_rules! peers {
    ($address:ty, $ip:ty) => {
        impl CratePeers for $address {
            type Treebitmap = IpLookupTable<$ip, u16>;
            type PrefixTrie = PrefixMap<($address, u8), u16>;
            type Poptrie = Poptrie<($address, u8), u16>;
        }

        impl CrateTable<$address> for IpLookupTable<$ip, u16> {
            const NAME: &'static str = "treebitmap";

            fn build(routes: &[($address, u8, u16)]) -> Self {
                let mut table = Self::with_capacity(routes.len());
                for &(address, len, hop) in routes {
                    CrateTable::insert(&mut table, address, len, hop);
                }
                table
            }

            fn insert(&mut self, address: $address, len: u8, hop: u16) {
                self.insert(address.into(), len.into(), hop);
            }

            #[inline]
            fn lookup(&self, address: $address) -> u16 {
                self.longest_match(address.into())
                    .map_or(0, |(_, _, hop)| *hop)
            }
        }

        impl CrateTable<$address> for PrefixMap<($address, u8), u16> {
            const NAME: &'static str = "prefix-trie";

            fn build(routes: &[($address, u8, u16)]) -> Self {
                let mut table = Self::new();
                for &(address, len, hop) in routes {
                    CrateTable::insert(&mut table, address, len, hop);
                }
                table
            }

            fn insert(&mut self, address: $address, len: u8, hop: u16) {
                self.insert((address, len), hop);
            }

            #[inline]
            fn lookup(&self, address: $address) -> u16 {
                self.get_lpm(&(address, <$address as Address>::BITS))
                    .map_or(0, |(_, hop)| *hop)
            }
        }

        impl CrateTable<$address> for Poptrie<($address, u8), u16> {
            const NAME: &'static str = "poptrie";

            fn build(routes: &[($address, u8, u16)]) -> Self {
                // One by one, each would move all that is there.
                let routes = routes
                    .iter()
                    .map(|&(address, len, hop)| ((address, len), hop));
                routes.collect()
            }

            fn insert(&mut self, address: $address, len: u8, hop: u16) {
                self.insert((address, len), hop);
            }

            #[inline]
            fn lookup(&self, address: $address) -> u16 {
                self.lookup(address).copied().unwrap_or(0)
            }
        }
    };
}

peers!(u32, Ipv4Addr);
peers!(u128, Ipv6Addr);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<A: Address, T: CrateTable<A>>(routes: &[(A, u8, u16)], answers: &[(A, u16)]) {
        let mut table = T::build(&routes[1..]);
        let (address, len, hop) = routes[0];
        table.insert(address, len, hop);
        for &(address, hop) in answers {
            assert_eq!(table.lookup(address), hop, "{} {address:?}", T::NAME);
        }
    }

    fn check_all<A: CratePeers>(routes: &[(A, u8, u16)], answers: &[(A, u16)]) {
        check::<A, A::Treebitmap>(routes, answers);
        check::<A, A::PrefixTrie>(routes, answers);
        check::<A, A::Poptrie>(routes, answers);
    }

    #[test]
    fn every_crate_finds_the_longest() {
        check_all::<u32>(
            &[
                (0x0a01_0000, 16, 3),
                (0x0a00_0000, 8, 2),
                (0x0a01_0203, 32, 4),
            ],
            &[
                (0x0a02_0000, 2),
                (0x0a01_0000, 3),
                (0x0a01_0203, 4),
                (0x0b00_0000, 0),
            ],
        );
        let base = 0x2001_0db8_u128 << 96;
        check_all::<u128>(
            &[(base | 1 << 80, 48, 3), (base, 32, 2), (base | 7, 128, 4)],
            &[
                (base | 8, 2),
                (base | 1 << 80 | 5, 3),
                (base | 7, 4),
                (0, 0),
            ],
        );
    }
}
