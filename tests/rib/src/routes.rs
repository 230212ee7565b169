//! Sets of routes beside the BGP table's: those of clusters. Sorted; the next hop of each is
//! [`hop_of`] its prefix, 1 to 255.

use std::collections::BTreeSet;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::traffic::host;
use crate::{Address, Random, Route, hop_of};

/// Nodes of [`cluster`] that a route leads to.
pub const NODES: u32 = 5_000;

/// Pods of one node, each a route of its own, in [`cluster`] and [`hosts_100k`].
pub const PODS: u32 = 250;

/// What a node of a large cluster knows: the pod block of each of [`NODES`] others (a /24 of
/// 10.0.0.0/8, or a /64 of fd00:10::/48), and [`PODS`] pods of its own (/32 or /128) in the block
/// after those. With `default_route`, /0 as well.
pub fn cluster<A: Address>(default_route: bool) -> Vec<Route<A>> {
    let default = default_route.then(|| A::from_bits(0).net(0));
    let nodes = (0..NODES).map(|node| block::<A>(node));
    let pods = (1..=PODS).map(|pod| pod_of::<A>(NODES, pod));
    with_hops::<A>(default.into_iter().chain(nodes).chain(pods))
}

/// 100,000 pods' routes (/32 or /128), [`PODS`] in each of 400 neighbouring blocks.
pub fn hosts_100k<A: Address>() -> Vec<Route<A>> {
    with_hops::<A>((0..400).flat_map(|node| (1..=PODS).map(move |pod| pod_of::<A>(node, pod))))
}

/// `n` distinct routes longer than what BGP carries (/25 to /32, or /49 to /128), up to 8 of them
/// in one /24 (or /48) of a random one of `table`, some inside others. The same for the same seed.
///
/// # Panics
///
/// If no route of `table` is short enough to hold them.
pub fn pod_routes<A: Address>(table: &[Route<A>], n: usize, seed: u64) -> Vec<Route<A>> {
    let longest = A::LONGEST_GLOBAL;
    let mut random = Random::seed_from_u64(seed);
    let wide: Vec<_> = table
        .iter()
        .map(|(net, _)| *net)
        .filter(|net| A::prefix_len(*net) <= longest)
        .collect();
    let mut pods = BTreeSet::new();
    while pods.len() < n {
        let outer = *wide.choose(&mut random).expect("pods want a block");
        let leaf = host::<A>(&mut random, outer).net(longest);
        let mut around = leaf;
        for _ in 0..8.min(n - pods.len()) {
            if random.random() || A::prefix_len(around) == A::BITS {
                around = leaf;
            }
            let len = random.random_range(A::prefix_len(around) + 1..=A::BITS);
            around = host::<A>(&mut random, around).net(len);
            pods.insert(around);
        }
    }
    with_hops::<A>(pods.into_iter())
}

/// The pod block of a node.
fn block<A: Address>(node: u32) -> A::Net {
    match A::BITS {
        32 => A::from_bits(0x0a00_0000 | u128::from(node) << 8).net(24),
        _ => A::from_bits(0xfd00_0010 << 96 | u128::from(node) << 64).net(64),
    }
}

fn pod_of<A: Address>(node: u32, pod: u32) -> A::Net {
    let block = A::first(block::<A>(node)).to_bits();
    A::from_bits(block | u128::from(pod)).net(A::BITS)
}

fn with_hops<A: Address>(nets: impl Iterator<Item = A::Net>) -> Vec<Route<A>> {
    nets.map(|net| (net, hop_of(&net.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Oracle;

    fn by_len<A: Address>(routes: &[Route<A>]) -> Vec<(u8, usize)> {
        let mut counts = vec![0; 129];
        for (net, _) in routes {
            counts[usize::from(A::prefix_len(*net))] += 1;
        }
        let counts = (0..).zip(counts);
        counts.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_cluster_is_nodes_and_pods() {
        let routes = cluster::<u32>(false);
        assert_eq!(by_len::<u32>(&routes), [(24, 5_000), (32, 250)]);
        assert!(routes.is_sorted());
        assert_eq!(routes[0].0.to_string(), "10.0.0.0/24");
        assert_eq!(routes[5_249].0.to_string(), "10.19.136.250/32");

        let routes = cluster::<u128>(true);
        assert_eq!(by_len::<u128>(&routes), [(0, 1), (64, 5_000), (128, 250)]);
        assert!(routes.is_sorted());
        assert_eq!(routes[1].0.to_string(), "fd00:10::/64");
        assert_eq!(routes[5_250].0.to_string(), "fd00:10:0:1388::fa/128");
    }

    #[test]
    fn a_hundred_thousand_hosts_are_distinct_and_dense() {
        let routes = hosts_100k::<u32>();
        assert_eq!(by_len::<u32>(&routes), [(32, 100_000)]);
        assert_eq!(Oracle::<u32>::new(&routes).len(), 100_000);
        assert_eq!(routes[99_999].0.to_string(), "10.1.143.250/32");
        let routes = hosts_100k::<u128>();
        assert_eq!(by_len::<u128>(&routes), [(128, 100_000)]);
        assert!(routes.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    fn pods_lie_in_blocks<A: Address>() {
        let table = cluster::<A>(false);
        let wide = [(A::first(table[0].0).net(A::LONGEST_GLOBAL - 4), 1)];
        let pods = pod_routes::<A>(&wide, 1_003, 1);
        assert_eq!(pods.len(), 1_003);
        assert!(pods.is_sorted_by(|(a, _), (b, _)| a < b));
        let block = Oracle::<A>::new(&wide);
        let all = Oracle::<A>::new(&pods);
        let mut nested = 0;
        for (net, hop) in &pods {
            assert!(A::prefix_len(*net) > A::LONGEST_GLOBAL);
            assert_eq!(
                block.lookup(A::first(*net)),
                Some((A::prefix_len(wide[0].0), 1))
            );
            assert_eq!(*hop, hop_of(&net.to_string()));
            let inside = |len| all.get(A::first(*net).net(len)).is_some();
            nested += usize::from((0..A::prefix_len(*net)).any(inside));
        }
        assert!(nested > 100, "{nested}");
        assert!(by_len::<A>(&pods).len() >= 8);
        assert_eq!(pods, pod_routes::<A>(&wide, 1_003, 1));
        assert_ne!(pods, pod_routes::<A>(&wide, 1_003, 2));
    }

    #[test]
    fn pods_lie_in_blocks_of_the_table() {
        pods_lie_in_blocks::<u32>();
        pods_lie_in_blocks::<u128>();
    }
}
