//! Table and oracle side by side.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::Ipv6Net;
use shunt_fib::{Fib6Config, Fib6Reader, Fib6Writer, FibError, NextHopIndex};
use shunt_rib::{Oracle, probes};

pub(crate) fn net(address: u128, len: u8) -> Ipv6Net {
    Ipv6Net::new(address.into(), len).unwrap().trunc()
}

pub(crate) fn parse(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn hop(index: u16) -> NextHopIndex {
    NextHopIndex::new(index).unwrap()
}

/// Table and oracle, and every address worth asking about so far.
pub(crate) struct Pair {
    pub(crate) writer: Fib6Writer,
    pub(crate) reader: Fib6Reader,
    oracle: Oracle<u128>,
    touched: BTreeSet<u128>,
}

impl Pair {
    /// A table with as many groups and lines as can be.
    pub(crate) fn new() -> Self {
        Self::with_pools(Fib6Config::MAX_GROUPS, Fib6Config::MAX_LINES)
    }

    pub(crate) fn with_pools(groups: u32, lines: u32) -> Self {
        let mut writer = Fib6Writer::new(Fib6Config {
            groups,
            lines,
            readers: 1,
            reclaim_wait: Duration::ZERO,
        })
        .unwrap();
        let reader = writer.reader().unwrap();
        Self {
            writer,
            reader,
            oracle: Oracle::new(&[]),
            touched: BTreeSet::new(),
        }
    }

    /// Inserts where no pool can run out.
    pub(crate) fn insert(&mut self, net: Ipv6Net, index: u16) {
        self.try_insert(net, index).unwrap();
    }

    /// Inserts; when that fails, the number of parts in use must be what it was.
    pub(crate) fn try_insert(&mut self, net: Ipv6Net, index: u16) -> Result<(), FibError> {
        self.touched.extend(probes::<u128>(net));
        self.reader.quiescent();
        self.writer.reclaim();
        let before = self.used();
        let old = self.writer.insert(net, hop(index)).inspect_err(|_| {
            assert_eq!(self.used(), before, "{net} was refused");
        })?;
        assert_eq!(
            old.map(NextHopIndex::get),
            self.oracle.insert(net, index),
            "{net}"
        );
        Ok(())
    }

    pub(crate) fn remove(&mut self, net: Ipv6Net) {
        self.touched.extend(probes::<u128>(net));
        self.reader.quiescent();
        let old = self.writer.remove(net).unwrap();
        assert_eq!(old.map(NextHopIndex::get), self.oracle.remove(net), "{net}");
    }

    /// Removes all routes, after which nothing may be in use.
    pub(crate) fn remove_all(&mut self) {
        for (net, _) in self.oracle.routes() {
            self.remove(net);
        }
        self.check();
        assert_eq!(self.used(), (0, 0));
        assert!(self.writer.is_empty());
    }

    /// Groups and lines in use.
    pub(crate) fn used(&self) -> (u32, u32) {
        (self.writer.groups().used, self.writer.lines().used)
    }

    /// Compares every touched address in all the ways of looking it up, and the routes.
    pub(crate) fn check(&self) {
        let addresses: Vec<u128> = self.touched.iter().copied().collect();
        let mut raw = vec![0xdead_u32; addresses.len()];
        self.reader.lookup_batch(&addresses, &mut raw);
        for (&address, &raw) in addresses.iter().zip(&raw) {
            let expected = self.oracle.lookup(address);
            let ip = address.into();
            let wanted = expected.map(|(_, index)| hop(index));
            assert_eq!(self.reader.lookup(ip), wanted, "lookup of {ip}");
            assert_eq!(
                raw,
                expected.map_or(0, |(_, index)| u32::from(index) + 1),
                "batch lookup of {ip}"
            );
            let own = self.writer.lookup(ip);
            let own = own.map(|(net, index)| (net.prefix_len(), index.get()));
            assert_eq!(own, expected, "the writer's lookup of {ip}");
        }
        let routes = self.writer.iter().map(|(net, index)| (net, index.get()));
        assert_eq!(routes.collect::<Vec<_>>(), self.oracle.routes());
        assert_eq!(self.writer.len(), self.oracle.len());
    }
}
