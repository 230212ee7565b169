//! Tables and updates of the make-up of the real ones.
//!
//! What shapes a table of prefixes for longest-prefix match: how many there are of each length,
//! how many lie inside others, how many stand side by side, and how much of the address space they
//! are scattered over. The figures here were counted in the real tables of 2026-05-11.

use rand::distr::weighted::WeightedIndex;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rustc_hash::FxHashSet;

use crate::traffic::host;
use crate::{Address, Random, Route, Update, hop_of};

/// The make-up of a family's table and updates.
#[derive(Debug)]
pub struct Shape {
    /// Routes of each length, in order of length.
    lengths: &'static [(u8, u32)],
    /// The parts of the address space in use: the first and last value of an address's first 12
    /// bits, and the share of the allocations in it, in any unit.
    parts: &'static [(u128, u128, u32)],
    /// Length and number of allocations: blocks that all routes as long or longer lie in.
    allocations: (u8, usize),
    /// The share of routes that are the right neighbour of one as long.
    adjacent: f64,
    /// Of the others, the share that lies inside a shorter one.
    inside: f64,
    updates: UpdateShape,
}

#[derive(Debug)]
struct UpdateShape {
    announcements: u32,
    withdrawals: u32,
    /// Distinct prefixes, and how many of those the table lacks.
    prefixes: usize,
    absent: usize,
    /// Of Zipf's law for the prefixes' shares of the updates.
    exponent: f64,
}

pub(crate) static IPV4: Shape = Shape {
    lengths: &[
        (8, 16),
        (9, 14),
        (10, 39),
        (11, 95),
        (12, 297),
        (13, 584),
        (14, 1_201),
        (15, 2_129),
        (16, 13_635),
        (17, 8_347),
        (18, 13_387),
        (19, 25_516),
        (20, 45_627),
        (21, 52_463),
        (22, 113_741),
        (23, 107_869),
        (24, 657_365),
    ],
    // Unicast, without 10.0.0.0/8 and 127.0.0.0/8.
    parts: &[(0x010, 0x09f, 9), (0x0b0, 0x7ef, 116), (0x800, 0xdff, 96)],
    allocations: (16, 34_290),
    adjacent: 0.63,
    inside: 0.5,
    updates: UpdateShape {
        announcements: 1_355_568,
        withdrawals: 37_853,
        prefixes: 134_867,
        absent: 3_845,
        exponent: 0.8,
    },
};

pub(crate) static IPV6: Shape = Shape {
    lengths: &[
        (16, 1),
        (19, 1),
        (20, 14),
        (21, 3),
        (22, 6),
        (23, 6),
        (24, 42),
        (25, 12),
        (26, 17),
        (27, 18),
        (28, 161),
        (29, 5_435),
        (30, 827),
        (31, 341),
        (32, 26_740),
        (33, 5_407),
        (34, 5_197),
        (35, 1_837),
        (36, 9_424),
        (37, 1_208),
        (38, 2_677),
        (39, 1_829),
        (40, 23_096),
        (41, 1_697),
        (42, 2_924),
        (43, 1_453),
        (44, 24_860),
        (45, 4_511),
        (46, 5_640),
        (47, 8_925),
        (48, 111_866),
    ],
    // The routes in each /12 of the registries.
    parts: &[
        (0x200, 0x200, 25_699),
        (0x240, 0x240, 77_887),
        (0x260, 0x260, 31_417),
        (0x261, 0x261, 430),
        (0x262, 0x262, 2_925),
        (0x280, 0x280, 49_728),
        (0x2a0, 0x2a0, 45_456),
        (0x2a1, 0x2a1, 8_658),
        (0x2c0, 0x2c0, 3_922),
    ],
    allocations: (24, 8_079),
    adjacent: 0.56,
    inside: 0.56,
    updates: UpdateShape {
        announcements: 1_210_274,
        withdrawals: 27_961,
        prefixes: 40_573,
        absent: 5_173,
        exponent: 0.95,
    },
};

const SEED: u64 = 20_260_511;

/// The routes, sorted.
pub(crate) fn routes<A: Address>() -> Vec<Route<A>> {
    let shape = A::shape();
    let mut random = Random::seed_from_u64(SEED);
    let allocations = allocations::<A>(&mut random);
    let mut nets: Vec<A::Net> = Vec::new();
    let mut taken = FxHashSet::default();
    for &(len, count) in shape.lengths {
        let shorter = nets.len();
        let wanted = shorter + count as usize;
        let mut neighbour = None;
        while nets.len() < wanted {
            let place = match neighbour.take() {
                Some(right) if random.random_bool(shape.adjacent) => right,
                _ if shorter > 0 && random.random_bool(shape.inside) => {
                    let outer = nets[random.random_range(0..shorter)];
                    host::<A>(&mut random, outer)
                }
                _ => free_place(&mut random, &allocations, &taken, len),
            };
            let net = place.net(len);
            if taken.insert(net) {
                nets.push(net);
                neighbour = right_of::<A>(net);
            }
        }
    }
    nets.sort_unstable();
    nets.into_iter()
        .map(|net| (net, hop_of(&net.to_string())))
        .collect()
}

/// A place in a random allocation and, unless that is hard to find, in no route shorter than `len`.
fn free_place<A: Address>(
    random: &mut Random,
    allocations: &[A::Net],
    taken: &FxHashSet<A::Net>,
    len: u8,
) -> A {
    let mut place = || {
        let block = allocations.choose(random).expect("there are allocations");
        host::<A>(random, *block)
    };
    let shortest = A::shape().lengths[0].0;
    let is_free = |place: &A| !(shortest..len).any(|outer| taken.contains(&place.net(outer)));
    for _ in 0..20 {
        let place = place();
        if is_free(&place) {
            return place;
        }
    }
    place()
}

fn allocations<A: Address>(random: &mut Random) -> Vec<A::Net> {
    let shape = A::shape();
    let (len, count) = shape.allocations;
    let shares = WeightedIndex::new(shape.parts.iter().map(|(.., share)| share))
        .expect("the shares are constants greater than 0");
    let mut blocks = FxHashSet::default();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let (first, last, _) = shape.parts[shares.sample(random)];
        let part = A::from_bits(random.random_range(first..=last) << (A::BITS - 12)).net(12);
        let block = host::<A>(random, part).net(len);
        if blocks.insert(block) {
            all.push(block);
        }
    }
    all
}

/// The first address after a prefix, if it is in use: not beyond the unicast space.
fn right_of<A: Address>(net: A::Net) -> Option<A> {
    let next = A::last(net).to_bits() + 1;
    let top = next >> (A::BITS - 12);
    let used = |(first, last, _): &(u128, u128, u32)| (*first..=*last).contains(&top);
    A::shape()
        .parts
        .iter()
        .any(used)
        .then(|| A::from_bits(next))
}

/// A day of updates of `routes`, of which there are some.
pub(crate) fn updates<A: Address>(routes: &[Route<A>]) -> Vec<Update<A>> {
    let shape = &A::shape().updates;
    let mut random = Random::seed_from_u64(!SEED);
    let changing = changing::<A>(&mut random, routes);
    let ranks = Zipf::new(changing.len() as f64, shape.exponent)
        .expect("the law is defined for these constants");
    let all = shape.announcements + shape.withdrawals;
    (0..all)
        .map(|_| {
            let (net, hop) = changing[ranks.sample(&mut random) as usize - 1];
            if random.random_ratio(shape.withdrawals, all) {
                Update::Withdraw(net)
            } else {
                Update::Announce(net, hop)
            }
        })
        .collect()
}

/// The routes that change, in random order: some of `routes`, and some that are as long as one of
/// those and lie inside another.
fn changing<A: Address>(random: &mut Random, routes: &[Route<A>]) -> Vec<Route<A>> {
    let shape = &A::shape().updates;
    let known: FxHashSet<A::Net> = routes.iter().map(|(net, _)| *net).collect();
    let present = (shape.prefixes - shape.absent).min(routes.len());
    let mut changing: Vec<_> = routes.sample(random, present).copied().collect();
    let mut new = FxHashSet::default();
    let mut tries = 0;
    while new.len() < shape.absent && tries < 100 * shape.absent {
        tries += 1;
        let (outer, _) = *routes.choose(random).expect("updates want routes");
        let (like, _) = *routes.choose(random).expect("updates want routes");
        let net = host::<A>(random, outer).net(A::prefix_len(like));
        if !known.contains(&net) && new.insert(net) {
            changing.push((net, hop_of(&net.to_string())));
        }
    }
    changing.shuffle(random);
    changing
}

#[cfg(test)]
mod tests {
    use rustc_hash::FxHashMap;

    use super::*;
    use crate::{Oracle, Table, Updates};

    /// The shares of routes that are right of one as long, and that lie inside another.
    fn shares<A: Address>(routes: &[Route<A>]) -> (f64, f64) {
        let oracle = Oracle::<A>::new(routes);
        let (mut adjacent, mut inside) = (0, 0);
        for (net, _) in routes {
            let (first, len) = (A::first(*net), A::prefix_len(*net));
            let before = first.to_bits().checked_sub(1).map(A::from_bits);
            adjacent += usize::from(before.is_some_and(|a| oracle.get(a.net(len)).is_some()));
            inside += usize::from((8..len).any(|outer| oracle.get(first.net(outer)).is_some()));
        }
        let share = |count: usize| count as f64 / routes.len() as f64;
        (share(adjacent), share(inside))
    }

    fn is_like_the_real_one<A: Address>() {
        let shape = A::shape();
        let table = Table::<A>::synthetic();
        assert!(table.routes.is_sorted_by(|(a, _), (b, _)| a < b));
        let mut lengths: FxHashMap<u8, u32> = FxHashMap::default();
        for (net, hop) in &table.routes {
            *lengths.entry(A::prefix_len(*net)).or_default() += 1;
            assert_eq!(*hop, hop_of(&net.to_string()));
            let top = A::first(*net).to_bits() >> (A::BITS - 12);
            // A route shorter than /12 may begin before the part that it was placed in.
            let end = A::last(*net).to_bits() >> (A::BITS - 12);
            let overlaps = |(first, last, _): &(u128, u128, u32)| top <= *last && end >= *first;
            assert!(shape.parts.iter().any(overlaps), "{net}");
        }
        let mut lengths: Vec<_> = lengths.into_iter().collect();
        lengths.sort_unstable();
        assert_eq!(lengths, shape.lengths);

        let (adjacent, inside) = shares::<A>(&table.routes);
        println!("{}: adjacent {adjacent:.2}, inside {inside:.2}", A::FAMILY);
        assert!((adjacent - shape.adjacent).abs() < 0.1, "{adjacent}");
        assert!((inside - shape.inside).abs() < 0.1, "{inside}");
    }

    #[test]
    fn tables_are_like_the_real_ones() {
        is_like_the_real_one::<u32>();
        is_like_the_real_one::<u128>();
    }

    #[test]
    fn tables_are_always_the_same() {
        assert_eq!(routes::<u128>(), routes::<u128>());
    }

    #[test]
    fn updates_are_like_the_real_ones() {
        let table = Table::<u128>::synthetic();
        let updates = Updates::load(&table).unwrap();
        assert_eq!(updates.source, table.source);
        let shape = &IPV6.updates;
        let mut present: FxHashSet<_> = table.routes.iter().map(|(net, _)| *net).collect();
        let known = present.clone();
        let mut counts: FxHashMap<_, u32> = FxHashMap::default();
        let (mut withdrawals, mut harmless) = (0_u32, 0);
        for update in &updates.updates {
            *counts.entry(update.net()).or_default() += 1;
            match update {
                Update::Announce(net, hop) => {
                    assert_eq!(*hop, hop_of(&net.to_string()));
                    present.insert(*net);
                }
                Update::Withdraw(net) => {
                    withdrawals += 1;
                    harmless += u32::from(!present.remove(net));
                }
            }
        }
        assert_eq!(updates.updates.len(), 1_238_235);
        assert!(
            withdrawals.abs_diff(shape.withdrawals) < 1_000,
            "{withdrawals}"
        );
        assert!(harmless > 24, "{harmless}");
        let absent = counts.keys().filter(|net| !known.contains(*net)).count();
        assert!(counts.len() > shape.prefixes * 9 / 10, "{}", counts.len());
        assert!(absent > shape.absent * 9 / 10, "{absent}");

        // In the real day the busiest 100 prefixes have 40 % of the updates.
        let mut counts: Vec<_> = counts.into_values().collect();
        counts.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
        let head: u32 = counts[..100].iter().sum();
        let share = f64::from(head) / updates.updates.len() as f64;
        assert!((0.35..0.45).contains(&share), "{share}");
    }
}
