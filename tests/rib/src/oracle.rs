//! The simplest right answer.

use rustc_hash::FxHashMap;

use crate::{Address, Intervals, Route};

/// A longest-prefix match by a hash map for each prefix length.
#[derive(Debug, Clone)]
pub struct Oracle<A: Address> {
    by_len: Vec<FxHashMap<A, u16>>,
}

impl<A: Address> Oracle<A> {
    /// An oracle that knows `routes`. Of routes of the same prefix the last counts.
    pub fn new(routes: &[Route<A>]) -> Self {
        let mut oracle = Self {
            by_len: vec![FxHashMap::default(); usize::from(A::BITS) + 1],
        };
        for &(net, hop) in routes {
            oracle.insert(net, hop);
        }
        oracle
    }

    /// Adds or replaces a route, and returns the next hop that it had.
    pub fn insert(&mut self, net: A::Net, hop: u16) -> Option<u16> {
        self.by_len[usize::from(A::prefix_len(net))].insert(A::first(net), hop)
    }

    /// Removes a route, and returns the next hop that it had.
    pub fn remove(&mut self, net: A::Net) -> Option<u16> {
        self.by_len[usize::from(A::prefix_len(net))].remove(&A::first(net))
    }

    /// The next hop of exactly this prefix.
    pub fn get(&self, net: A::Net) -> Option<u16> {
        self.by_len[usize::from(A::prefix_len(net))]
            .get(&A::first(net))
            .copied()
    }

    /// The length and the next hop of the longest route that `address` lies in.
    pub fn lookup(&self, address: A) -> Option<(u8, u16)> {
        (0..=A::BITS).rev().find_map(|len| {
            let routes = &self.by_len[usize::from(len)];
            if routes.is_empty() {
                return None;
            }
            Some((len, *routes.get(&address.truncated(len))?))
        })
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.by_len.iter().map(FxHashMap::len).sum()
    }

    /// True if there are no routes.
    pub fn is_empty(&self) -> bool {
        self.by_len.iter().all(FxHashMap::is_empty)
    }

    /// All routes, by address, then from the shorter to the longer.
    pub fn routes(&self) -> Vec<Route<A>> {
        let mut all: Vec<_> = (0..=A::BITS)
            .zip(&self.by_len)
            .flat_map(|(len, routes)| routes.iter().map(move |(a, hop)| (a.net(len), *hop)))
            .collect();
        all.sort_unstable();
        all
    }

    /// The answers for the whole address space, for many lookups at a time.
    pub fn intervals(&self) -> Intervals<A> {
        Intervals::new(&self.routes())
    }
}

/// The addresses to compare when the route of a prefix has changed, in order: one before it, its
/// first, one in its middle, its last, and one after it. At the ends of the address space the
/// neighbour outside is the edge itself.
pub fn probes<A: Address>(net: A::Net) -> [A; 5] {
    let (first, last) = (A::first(net).to_bits(), A::last(net).to_bits());
    let end = u128::MAX >> (128 - u32::from(A::BITS));
    [
        first.saturating_sub(1),
        first,
        first + (last - first).div_ceil(2),
        last,
        last.saturating_add(1).min(end),
    ]
    .map(A::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> ipnet::Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_wins_until_it_is_removed() {
        let mut oracle = Oracle::<u32>::new(&[(net("0.0.0.0/0"), 1), (net("10.0.0.0/8"), 2)]);
        assert_eq!(oracle.insert(net("10.1.2.3/32"), 3), None);
        assert_eq!(oracle.insert(net("10.1.2.3/32"), 4), Some(3));
        assert_eq!(oracle.get(net("10.1.2.3/32")), Some(4));
        assert_eq!(oracle.get(net("10.1.2.3/31")), None);
        assert_eq!(oracle.len(), 3);
        assert_eq!(oracle.lookup(0x0a01_0203), Some((32, 4)));
        assert_eq!(oracle.lookup(0x0a01_0204), Some((8, 2)));
        assert_eq!(oracle.lookup(0x0b00_0000), Some((0, 1)));

        assert_eq!(oracle.remove(net("10.1.2.3/32")), Some(4));
        assert_eq!(oracle.remove(net("10.1.2.3/32")), None);
        assert_eq!(oracle.lookup(0x0a01_0203), Some((8, 2)));
        oracle.remove(net("0.0.0.0/0"));
        assert_eq!(oracle.lookup(0x0b00_0000), None);
        assert_eq!(oracle.routes(), [(net("10.0.0.0/8"), 2)]);
        oracle.remove(net("10.0.0.0/8"));
        assert!(oracle.is_empty());
    }

    #[test]
    fn routes_come_in_order() {
        let routes = [
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.0.0.0/32",
            "10.0.0.1/32",
            "11.0.0.0/8",
        ];
        let routes = routes.map(|text| (net(text), 1));
        let mut reversed = routes;
        reversed.reverse();
        assert_eq!(Oracle::<u32>::new(&reversed).routes(), routes);
    }

    #[test]
    fn ipv6_works_the_same() {
        let routes = [("::/0", 1), ("2001:db8::/32", 2), ("2001:db8::1/128", 3)]
            .map(|(text, hop)| (text.parse().unwrap(), hop));
        let oracle = Oracle::<u128>::new(&routes);
        assert_eq!(oracle.routes(), routes);
        let base = 0x2001_0db8_u128 << 96;
        assert_eq!(oracle.lookup(base + 1), Some((128, 3)));
        assert_eq!(oracle.lookup(base + 2), Some((32, 2)));
        assert_eq!(oracle.lookup(u128::MAX), Some((0, 1)));
    }

    #[test]
    fn probes_are_the_edges_and_the_middle() {
        assert_eq!(
            probes::<u32>(net("10.0.0.0/8")),
            [
                0x09ff_ffff,
                0x0a00_0000,
                0x0a80_0000,
                0x0aff_ffff,
                0x0b00_0000
            ]
        );
        assert_eq!(probes::<u32>(net("0.0.0.7/32")), [6, 7, 7, 7, 8]);
        assert_eq!(
            probes::<u32>(net("0.0.0.0/0")),
            [0, 0, 1 << 31, u32::MAX, u32::MAX]
        );
        let all = "::/0".parse().unwrap();
        assert_eq!(probes::<u128>(all), [0, 0, 1 << 127, u128::MAX, u128::MAX]);
        let end = u128::MAX.net(128);
        assert_eq!(probes::<u128>(end)[0], u128::MAX - 1);
        assert_eq!(probes::<u128>(end)[4], u128::MAX);
    }
}
