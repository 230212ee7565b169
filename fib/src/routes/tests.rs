use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::*;

fn routes(texts: &[&str]) -> Routes<u32> {
    let mut routes = Routes::new().unwrap();
    for (text, index) in texts.iter().zip(1..) {
        routes.insert(prefix(text), NextHopIndex::new(index).unwrap());
    }
    routes
}

fn prefix(text: &str) -> Prefix<u32> {
    Prefix::from_net(text.parse::<Ipv4Net>().unwrap())
}

#[test]
fn longest_steps_over_neighbours() {
    let routes = routes(&["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"]);
    let longest = |text| routes.longest(prefix(text)).map(|(found, _)| found);
    assert_eq!(longest("10.1.3.1/32"), Some(prefix("10.1.0.0/16")));
    assert_eq!(longest("10.2.0.0/16"), Some(prefix("10.0.0.0/8")));
    assert_eq!(longest("11.0.0.0/32"), Some(prefix("0.0.0.0/0")));
    assert_eq!(longest("10.1.2.0/24"), Some(prefix("10.1.2.0/24")));
    assert_eq!(longest("10.0.0.0/7"), Some(prefix("0.0.0.0/0")));
    assert_eq!(routes.longest_around(prefix("0.0.0.0/0")), None);
    let none = self::routes(&[]);
    assert_eq!(none.longest(prefix("10.0.0.0/8")), None);
}

#[test]
fn unclaimed_is_what_inner_routes_leave() {
    let routes = routes(&["10.0.0.0/30", "10.0.0.0/31", "10.0.0.1/32", "10.0.0.6/31"]);
    let gaps = |text| routes.unclaimed(prefix(text)).collect::<Vec<_>>();
    let base = 0x0a00_0000;
    assert_eq!(gaps("10.0.0.0/29"), [(base + 4, base + 5)]);
    assert_eq!(gaps("10.0.0.0/31"), [(base, base)]);
    assert_eq!(gaps("10.0.0.1/32"), [(base + 1, base + 1)]);
    assert_eq!(
        gaps("0.0.0.0/0"),
        [(0, base - 1), (base + 4, base + 5), (base + 8, u32::MAX)]
    );
    assert_eq!(
        self::routes(&["255.255.255.255/32"])
            .unclaimed(prefix("255.255.255.254/31"))
            .collect::<Vec<_>>(),
        [(u32::MAX - 1, u32::MAX - 1)]
    );
}

#[test]
fn empty_maps_are_used_again() {
    let mut routes = routes(&["10.1.0.0/24", "10.2.0.0/24"]);
    routes.remove(prefix("10.1.0.0/24")).unwrap();
    routes.insert(prefix("10.3.0.0/24"), NextHopIndex::MAX);
    assert_eq!((routes.maps.len(), routes.blocks.len()), (2, 2));
    assert_eq!(routes.get(prefix("10.1.0.0/24")), None);
    assert_eq!(routes.get(prefix("10.3.0.0/24")), Some(NextHopIndex::MAX));
    assert_eq!(routes.len(), 2);
}

/// The same routes in one ordered map, searched from end to end.
struct Naive<A: Ord>(BTreeMap<Prefix<A>, NextHopIndex>);

impl<A: Address> Naive<A> {
    fn covering(&self, prefix: Prefix<A>) -> Vec<Route<A>> {
        let around = self.0.iter().rev().map(|(p, hop)| (*p, *hop));
        around.filter(|(p, _)| p.contains(prefix)).collect()
    }

    fn covered(&self, prefix: Prefix<A>) -> Vec<Route<A>> {
        let inside = self.0.iter().map(|(p, hop)| (*p, *hop));
        inside.filter(|(p, _)| prefix.contains(*p)).collect()
    }

    /// Whether any route inside `prefix`, without itself, has the address.
    fn claims(&self, prefix: Prefix<A>, address: A) -> bool {
        self.0
            .keys()
            .any(|p| *p != prefix && prefix.contains(*p) && p.contains(Prefix::host(address)))
    }
}

fn compare<A: Address>(routes: &Routes<A>, naive: &Naive<A>, prefix: Prefix<A>) {
    assert_eq!(routes.len(), naive.0.len());
    assert_eq!(
        routes.iter().collect::<Vec<_>>(),
        naive.covered(Prefix::ALL)
    );
    assert_eq!(routes.get(prefix), naive.0.get(&prefix).copied());

    let covering = naive.covering(prefix);
    assert_eq!(routes.longest(prefix), covering.first().copied());
    let around = covering.iter().find(|(p, _)| *p != prefix).copied();
    assert_eq!(routes.longest_around(prefix), around);
    assert_eq!(routes.covering(prefix).collect::<Vec<_>>(), covering);

    let covered = naive.covered(prefix);
    assert_eq!(routes.covered(prefix).collect::<Vec<_>>(), covered);
    let longer = covered.iter().any(|(p, _)| *p != prefix);
    assert_eq!(routes.any_longer_inside(prefix), longer);

    // The unclaimed ranges end where a claim begins, and nothing between them is unclaimed.
    let mut next = Some(prefix.first());
    for (first, last) in routes.unclaimed(prefix) {
        let from = next.unwrap();
        assert!(from <= first && first <= last && last <= prefix.last());
        for address in [first, last] {
            assert!(!naive.claims(prefix, address));
        }
        for address in [first.predecessor(), last.successor()]
            .into_iter()
            .flatten()
            .filter(|a| prefix.contains(Prefix::host(*a)))
        {
            assert!(naive.claims(prefix, address));
        }
        next = last.successor();
    }
    for (inner, _) in covered.iter().filter(|(p, _)| *p != prefix) {
        let outside = |(first, last)| inner.last() < first || last < inner.first();
        assert!(routes.unclaimed(prefix).all(outside));
    }
    for edge in [prefix.first(), prefix.last()] {
        let unclaimed = routes
            .unclaimed(prefix)
            .any(|(first, last)| (first..=last).contains(&edge));
        assert_eq!(unclaimed, !naive.claims(prefix, edge));
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(NextHopIndex),
    Remove,
    /// Only asked about.
    Look,
}

/// Prefixes that meet: two blocks and the ends of the address space, all lengths.
fn clustered<A: Address>() -> impl Strategy<Value = Prefix<A>> {
    let block = prop::sample::select(vec![0u32, 1, 2, 0xff, (1 << A::SPLIT) - 1]);
    let within = prop_oneof![Just(0u32), 0..4u32, any::<u32>()];
    let len = prop_oneof![
        1 => 0..=A::BITS,
        2 => A::SPLIT - 3..=A::SPLIT + 3,
        2 => A::BITS - 3..=A::BITS,
    ];
    (block, within, 0..A::BITS - A::SPLIT, len).prop_map(|(block, within, shift, len)| {
        let rest = A::MAX.right(A::SPLIT) & A::from_low(within).left(shift);
        Prefix::of(A::from_low(block).left(A::BITS - A::SPLIT) | rest, len)
    })
}

fn ops<A: Address>() -> impl Strategy<Value = Vec<(Prefix<A>, Op)>> {
    let op = prop_oneof![
        5 => (0..4u16).prop_map(|hop| Op::Insert(NextHopIndex::new(hop).unwrap())),
        3 => Just(Op::Remove),
        1 => Just(Op::Look),
    ];
    prop::collection::vec((clustered(), op), 1..60)
}

fn run<A: Address>(ops: Vec<(Prefix<A>, Op)>) {
    let mut routes = Routes::new().unwrap();
    let mut naive = Naive(BTreeMap::new());
    for (prefix, op) in ops {
        match op {
            Op::Insert(hop) => {
                assert_eq!(routes.insert(prefix, hop), naive.0.insert(prefix, hop));
            }
            Op::Remove => assert_eq!(routes.remove(prefix), naive.0.remove(&prefix)),
            Op::Look => {}
        }
        compare(&routes, &naive, prefix);
    }
    for prefix in std::mem::take(&mut naive.0).into_keys() {
        assert!(routes.remove(prefix).is_some());
    }
    compare(&routes, &naive, Prefix::ALL);
    assert!(routes.blocks.is_empty() && routes.maps.iter().all(Block::is_empty));
    assert_eq!(routes.free.len(), routes.maps.len());
    assert!(
        (0..1 << A::SPLIT)
            .step_by(1 << (A::SPLIT - 8))
            .all(|b| routes.cover.of(b).is_none())
    );
}

proptest! {
    #[test]
    fn ipv4_routes_are_those_of_a_plain_map(ops in ops::<u32>()) {
        run(ops);
    }

    #[test]
    fn ipv6_routes_are_those_of_a_plain_map(ops in ops::<u128>()) {
        run(ops);
    }
}
