//! The IPv4 table against a per-length hash map, address by address.

use std::collections::BTreeSet;
use std::time::Duration;

use super::oracle::{Oracle, edges, hop, net};
use ipnet::Ipv4Net;
use proptest::prelude::*;
use shunt_fib::{Fib4Config, Fib4Reader, Fib4Writer, FibError, NextHopIndex};

/// Table and oracle side by side, and every address worth asking about so far.
struct Pair {
    writer: Fib4Writer,
    reader: Fib4Reader,
    oracle: Oracle,
    touched: BTreeSet<u32>,
}

impl Pair {
    fn new(groups: u16) -> Self {
        let mut writer = Fib4Writer::new(Fib4Config {
            groups,
            readers: 1,
            reclaim_wait: Duration::ZERO,
        })
        .unwrap();
        let reader = writer.reader().unwrap();
        Self {
            writer,
            reader,
            oracle: Oracle::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Inserts, and returns false if the table had no group. That must be so exactly when it has
    /// to be, and must change nothing.
    fn insert(&mut self, net: Ipv4Net, hop: NextHopIndex) -> bool {
        self.touched.extend(edges(net));
        let slot = u32::from(net.network()) >> 8;
        let needs_group = net.prefix_len() > 24 && !self.oracle.long_slots().contains(&slot);
        self.writer.reclaim();
        let before = self.writer.groups();
        let must_fail = needs_group && before.used + before.retired == before.limit;
        match self.writer.insert(net, hop) {
            Ok(old) => {
                assert!(!must_fail, "{net} was inserted without a group");
                assert_eq!(old, self.oracle.insert(net, hop), "replaced value of {net}");
                true
            }
            Err(error) => {
                assert!(must_fail, "{net}: {error}");
                let lagging = usize::from(before.retired > 0);
                let (limit, used, held) = (before.limit, before.used, before.retired);
                assert_eq!(
                    error,
                    FibError::PoolExhausted {
                        pool: "groups",
                        limit,
                        used,
                        held,
                        lagging
                    }
                );
                assert_eq!(self.writer.groups(), before);
                false
            }
        }
    }

    /// Inserts where groups cannot run out.
    fn insert_with_room(&mut self, net: Ipv4Net, hop: NextHopIndex) {
        self.touched.extend(edges(net));
        assert_eq!(
            self.writer.insert(net, hop),
            Ok(self.oracle.insert(net, hop)),
            "{net}"
        );
    }

    fn remove(&mut self, net: Ipv4Net) {
        self.touched.extend(edges(net));
        assert_eq!(
            self.writer.remove(net).unwrap(),
            self.oracle.remove(net),
            "removed {net}"
        );
    }

    /// Compares every touched address, in all the ways of looking it up.
    fn check_addresses(&self) {
        let addresses: Vec<u32> = self.touched.iter().copied().collect();
        let mut raw = vec![0xdeadu16; addresses.len()];
        self.reader.lookup_batch(&addresses, &mut raw);
        for (&address, &raw) in addresses.iter().zip(&raw) {
            let expected = self.oracle.lookup(address);
            let ip = address.into();
            assert_eq!(
                self.reader.lookup(ip),
                expected.map(|(_, hop)| hop),
                "lookup of {ip}"
            );
            assert_eq!(
                raw,
                expected.map_or(0, |(_, hop)| hop.get() + 1),
                "batch lookup of {ip}"
            );
            assert_eq!(
                self.writer.lookup(ip),
                expected,
                "the writer's lookup of {ip}"
            );
        }
    }

    /// Compares the writer's record of routes.
    fn check_routes(&self) {
        let routes = self.oracle.routes();
        assert_eq!(self.writer.iter().collect::<Vec<_>>(), routes);
        assert_eq!(self.writer.len(), routes.len());
        assert_eq!(self.writer.is_empty(), routes.is_empty());
        assert_eq!(
            self.writer.groups().used as usize,
            self.oracle.long_slots().len()
        );
    }

    /// Compares what is said of one prefix, in the table or not.
    fn check_prefix(&self, net: Ipv4Net) {
        assert_eq!(self.writer.get(net), self.oracle.get(net));
        assert_eq!(
            self.writer.covering(net).collect::<Vec<_>>(),
            self.oracle.covering(net)
        );
        let mut inside = self.oracle.routes();
        inside.retain(|(inner, _)| net.contains(inner));
        assert_eq!(self.writer.covered(net).collect::<Vec<_>>(), inside);
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(Ipv4Net, NextHopIndex),
    /// Gives a route that is there (which one modulo their number) another next hop.
    Replace(usize, NextHopIndex),
    Remove(Ipv4Net),
    /// Removes a route that is there.
    RemoveExisting(usize),
    Quiescent,
}

/// Prefixes that meet: few places, both ends of the address space, all lengths, mostly those
/// about the border of the levels.
fn clustered() -> impl Strategy<Value = Ipv4Net> {
    let place = prop::sample::select(vec![0, 0x0a00_0000, 0x0a00_0300, 0x0aff_ff00, 0xffff_fc00]);
    let within = prop_oneof![0..0x400u32, any::<u8>().prop_map(u32::from), Just(0)];
    let len = prop_oneof![
        1 => 0..12u8,
        4 => 12..22u8,
        10 => 22..=26u8,
        10 => 27..=32u8,
    ];
    (place, within, len).prop_map(|(place, within, len)| net(place | within, len))
}

fn any_hop() -> impl Strategy<Value = NextHopIndex> {
    // Few values, so that neighbours and covering routes often have the same one.
    prop_oneof![0..4u16, Just(NextHopIndex::MAX.get())].prop_map(hop)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (clustered(), any_hop()).prop_map(|(net, hop)| Op::Insert(net, hop)),
        2 => (any::<usize>(), any_hop()).prop_map(|(which, hop)| Op::Replace(which, hop)),
        1 => clustered().prop_map(Op::Remove),
        4 => any::<usize>().prop_map(Op::RemoveExisting),
        2 => Just(Op::Quiescent),
    ];
    prop::collection::vec(op, 1..80)
}

fn run(groups: u16, ops: Vec<Op>) {
    let mut pair = Pair::new(groups);
    for op in ops {
        let existing = |which: usize| {
            let routes = pair.oracle.routes();
            routes.get(which % routes.len().max(1)).map(|(net, _)| *net)
        };
        let net = match op {
            Op::Insert(net, _) | Op::Remove(net) => Some(net),
            Op::Replace(which, _) | Op::RemoveExisting(which) => existing(which),
            Op::Quiescent => None,
        };
        match (op, net) {
            (Op::Insert(..) | Op::Replace(..), None)
            | (Op::Remove(_) | Op::RemoveExisting(_), None) => {}
            (Op::Insert(_, hop) | Op::Replace(_, hop), Some(net)) => {
                pair.insert(net, hop);
            }
            (Op::Remove(_) | Op::RemoveExisting(_), Some(net)) => pair.remove(net),
            (Op::Quiescent, _) => pair.reader.quiescent(),
        }
        pair.check_addresses();
        pair.check_routes();
        net.inspect(|net| pair.check_prefix(*net));
    }
    // Back to empty: nothing may be left of what was.
    for (net, _) in pair.oracle.routes() {
        pair.remove(net);
    }
    pair.check_addresses();
    pair.check_routes();
    pair.reader.quiescent();
    pair.writer.reclaim();
    assert_eq!(
        (pair.writer.groups().used, pair.writer.groups().retired),
        (0, 0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn random_updates_with_groups_to_spare(ops in ops()) {
        run(64, ops);
    }

    #[test]
    fn random_updates_with_few_groups(ops in ops()) {
        run(3, ops);
    }
}

/// A small generator of its own (SplitMix64), so that the same routes come every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn net(&mut self, len: u8) -> Ipv4Net {
        net(self.next() as u32, len)
    }

    fn hop(&mut self) -> NextHopIndex {
        hop(self.below(u64::from(NextHopIndex::MAX.get()) + 1) as u16)
    }
}

#[test]
fn thousands_of_routes_of_every_length() {
    let mut random = Random(1);
    let mut pair = Pair::new(Fib4Config::MAX_GROUPS);
    // Long and short mixed, so that short ones come over long ones already there.
    for round in 0..6000 {
        let len = if round % 500 == 499 {
            random.below(8)
        } else {
            8 + random.below(25)
        };
        let net = random.net(len as u8);
        let hop = random.hop();
        pair.insert_with_room(net, hop);
    }
    pair.check_addresses();
    pair.check_routes();
    for (net, _) in pair.oracle.routes() {
        if random.below(2) == 0 {
            pair.remove(net);
        }
    }
    pair.check_addresses();
    pair.check_routes();
    for (net, _) in pair.oracle.routes() {
        pair.remove(net);
    }
    pair.check_addresses();
    assert!(pair.writer.is_empty());
}

#[test]
fn a_default_route_lies_under_everything() {
    let mut pair = Pair::new(8);
    for (text, index) in [
        ("10.0.0.0/8", 1),
        ("10.1.2.128/25", 2),
        ("255.255.255.255/32", 3),
    ] {
        pair.insert(text.parse().unwrap(), hop(index));
    }
    let default = net(0, 0);
    for index in [4, 5] {
        pair.insert(default, hop(index));
        pair.check_addresses();
        pair.check_prefix(default);
    }
    // Every /24, not only those of the edges.
    let step = 251;
    for address in (0..=u32::MAX).step_by(step * 256) {
        let expected = pair.oracle.lookup(address).map(|(_, hop)| hop);
        assert_eq!(pair.reader.lookup(address.into()), expected, "{address:#x}");
    }
    pair.remove("10.0.0.0/8".parse().unwrap());
    pair.check_addresses();
    pair.remove(default);
    pair.check_addresses();
    for address in (0..=u32::MAX).step_by(step * 256) {
        let expected = pair.oracle.lookup(address).map(|(_, hop)| hop);
        assert_eq!(pair.reader.lookup(address.into()), expected, "{address:#x}");
    }
}

#[test]
fn host_bits_are_truncated() {
    let mut pair = Pair::new(1);
    let given: Ipv4Net = "10.1.2.3/24".parse().unwrap();
    assert_eq!(pair.writer.insert(given, hop(1)), Ok(None));
    pair.oracle.insert(given.trunc(), hop(1));
    pair.touched.extend(edges(given));
    pair.check_addresses();
    pair.check_routes();
    assert_eq!(pair.writer.get(given), Some(hop(1)));
    assert_eq!(pair.writer.covered(given).count(), 1);
    assert_eq!(pair.writer.covering(given).count(), 1);
    assert_eq!(
        pair.writer.remove("10.1.2.9/24".parse().unwrap()),
        Ok(Some(hop(1)))
    );
    assert!(pair.writer.is_empty());
}

#[test]
fn a_small_table_takes_little_memory() {
    let mut pair = Pair::new(Fib4Config::MAX_GROUPS);
    assert_eq!(pair.writer.memory().total().touched, 0);
    for pod in 0..200 {
        pair.insert(net(0x0a00_0100 + pod, 32), hop(pod as u16));
    }
    for node in 0..100 {
        pair.insert(net(0x0a01_0000 + (node << 8), 24), hop(300 + node as u16));
    }
    let memory = pair.writer.memory();
    assert_eq!(memory.first_level.touched, 4096);
    assert_eq!(memory.second_level.touched, 4096);
    assert!(memory.total().touched < 64 << 10, "{memory:?}");
    // Pods that come and go do not spread over the second level.
    for _ in 0..100 {
        for pod in 0..2 {
            let net = net(0x0a02_0000 + (pod << 8), 32);
            pair.insert_with_room(net, hop(1));
            pair.remove(net);
            pair.reader.quiescent();
        }
    }
    assert_eq!(pair.writer.groups().touched, 2);
}
