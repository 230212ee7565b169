//! The simplest right answer: a hash map for each prefix length.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use shunt_fib::NextHopIndex;

pub(crate) fn net(address: u32, len: u8) -> Ipv4Net {
    Ipv4Net::new(address.into(), len).unwrap().trunc()
}

pub(crate) fn hop(index: u16) -> NextHopIndex {
    NextHopIndex::new(index).unwrap()
}

pub(crate) struct Oracle {
    by_len: [HashMap<Ipv4Addr, NextHopIndex>; 33],
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            by_len: std::array::from_fn(|_| HashMap::new()),
        }
    }

    fn of(&self, net: Ipv4Net) -> &HashMap<Ipv4Addr, NextHopIndex> {
        &self.by_len[usize::from(net.prefix_len())]
    }

    fn of_mut(&mut self, net: Ipv4Net) -> &mut HashMap<Ipv4Addr, NextHopIndex> {
        &mut self.by_len[usize::from(net.prefix_len())]
    }

    pub(crate) fn insert(&mut self, net: Ipv4Net, hop: NextHopIndex) -> Option<NextHopIndex> {
        self.of_mut(net).insert(net.network(), hop)
    }

    pub(crate) fn remove(&mut self, net: Ipv4Net) -> Option<NextHopIndex> {
        self.of_mut(net).remove(&net.network())
    }

    pub(crate) fn get(&self, net: Ipv4Net) -> Option<NextHopIndex> {
        self.of(net).get(&net.network()).copied()
    }

    /// Every route around `inner`, from the longest to the shortest.
    pub(crate) fn covering(&self, inner: Ipv4Net) -> Vec<(Ipv4Net, NextHopIndex)> {
        (0..=inner.prefix_len())
            .rev()
            .map(|len| net(inner.network().into(), len))
            .filter_map(|outer| Some((outer, self.get(outer)?)))
            .collect()
    }

    pub(crate) fn lookup(&self, address: u32) -> Option<(Ipv4Net, NextHopIndex)> {
        self.covering(net(address, 32)).first().copied()
    }

    /// All routes, by address, then by length.
    pub(crate) fn routes(&self) -> Vec<(Ipv4Net, NextHopIndex)> {
        let mut all: Vec<_> = (0..=32)
            .flat_map(|len| {
                self.by_len[usize::from(len)]
                    .iter()
                    .map(move |(a, h)| (net(u32::from(*a), len), *h))
            })
            .collect();
        all.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
        all
    }

    /// The /24s that hold routes longer than /24: each needs a second-level group.
    pub(crate) fn long_slots(&self) -> BTreeSet<u32> {
        self.by_len[25..]
            .iter()
            .flat_map(|map| map.keys())
            .map(|a| u32::from(*a) >> 8)
            .collect()
    }
}

/// Both edges of a prefix, and the addresses one beyond.
pub(crate) fn edges(net: Ipv4Net) -> [u32; 4] {
    let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
    [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
}
