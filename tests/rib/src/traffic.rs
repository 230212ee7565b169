//! Addresses to look up, the same for the same seed.
//!
//! Functions that draw from `routes` want at least one.

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::{Address, Random, Route};

/// The flows of [`zipf`].
pub const FLOWS: usize = 100_000;

/// The exponent of [`zipf`]: the flow of rank r has a share proportional to r to the power of
/// minus this.
pub const EXPONENT: f64 = 1.1;

/// `n` addresses: each a random host in a random one of `routes`, all routes alike.
///
/// # Panics
///
/// If there are no routes.
pub fn table<A: Address>(routes: &[Route<A>], n: usize, seed: u64) -> Vec<A> {
    let mut random = Random::seed_from_u64(seed);
    (0..n).map(|_| host_of_any(&mut random, routes)).collect()
}

/// `n` addresses of [`FLOWS`] flows, few of which have most of the traffic: the flows are drawn as
/// [`table`] draws, and their shares follow Zipf's law with exponent [`EXPONENT`].
///
/// # Panics
///
/// If there are no routes.
pub fn zipf<A: Address>(routes: &[Route<A>], n: usize, seed: u64) -> Vec<A> {
    let flows = table::<A>(routes, FLOWS, seed);
    let ranks = Zipf::new(FLOWS as f64, EXPONENT).expect("the law is defined for these constants");
    let mut random = Random::seed_from_u64(!seed);
    (0..n)
        .map(|_| flows[ranks.sample(&mut random) as usize - 1])
        .collect()
}

/// `n` addresses, uniform over the address space.
pub fn random<A: Address>(n: usize, seed: u64) -> Vec<A> {
    let mut random = Random::seed_from_u64(seed);
    (0..n).map(|_| A::from_bits(random.random())).collect()
}

/// `traffic` with a share (0 to 1) of it, spread over all of it, sent to `pods` instead: each a
/// random host in a random one of these routes.
///
/// # Panics
///
/// If there are no pods, or the share is not a share.
pub fn with_pods<A: Address>(
    mut traffic: Vec<A>,
    pods: &[Route<A>],
    share: f64,
    seed: u64,
) -> Vec<A> {
    let mut random = Random::seed_from_u64(seed);
    for address in &mut traffic {
        if random.random_bool(share) {
            *address = host_of_any(&mut random, pods);
        }
    }
    traffic
}

fn host_of_any<A: Address>(random: &mut Random, routes: &[Route<A>]) -> A {
    let (net, _) = routes.choose(random).expect("traffic wants routes");
    host::<A>(random, *net)
}

/// A random address in `net`.
pub(crate) fn host<A: Address>(random: &mut Random, net: A::Net) -> A {
    let (first, last) = (A::first(net).to_bits(), A::last(net).to_bits());
    A::from_bits(first | (random.random::<u128>() & (last - first)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{Oracle, routes};

    #[test]
    fn table_traffic_hits_all_routes_alike() {
        let routes = routes::cluster::<u32>(false);
        let oracle = Oracle::<u32>::new(&routes);
        let traffic = table::<u32>(&routes, 100_000, 1);
        let mut hits: HashMap<u32, u32> = HashMap::new();
        for address in &traffic {
            let (len, _) = oracle.lookup(*address).unwrap();
            *hits.entry(address.truncated(len)).or_default() += 1;
        }
        // 19 each on average.
        assert!(hits.len() > routes.len() * 99 / 100);
        assert!(hits.values().all(|n| *n < 60));
        // Hosts differ within a route: few addresses repeat but those of the 250 /32s.
        let distinct: std::collections::HashSet<_> = traffic.iter().collect();
        assert!(distinct.len() > 90_000);
    }

    #[test]
    fn zipf_is_skewed() {
        let routes = routes::hosts_100k::<u128>();
        let traffic = zipf::<u128>(&routes, 100_000, 1);
        let mut hits: HashMap<u128, usize> = HashMap::new();
        for address in traffic {
            *hits.entry(address).or_default() += 1;
        }
        let mut shares: Vec<_> = hits.into_values().collect();
        shares.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
        // The law: rank 1 has 1 / sum(r^-1.1) = 13.7 %, the first 100 have 54 %.
        let head: usize = shares[..100].iter().sum();
        assert!((12_500..15_500).contains(&shares[0]), "{}", shares[0]);
        assert!((51_000..60_000).contains(&head), "{head}");
        assert!(shares.len() > 10_000, "{}", shares.len());
    }

    #[test]
    fn random_traffic_fills_the_space() {
        let traffic = random::<u128>(10_000, 1);
        for bit in 0..128 {
            let ones = traffic.iter().filter(|a| **a >> bit & 1 == 1).count();
            assert!((4_700..5_300).contains(&ones), "bit {bit}: {ones}");
        }
        let traffic = random::<u32>(10_000, 1);
        assert_eq!(
            traffic
                .iter()
                .filter(|a| **a < 1 << 31)
                .count()
                .div_ceil(500),
            10
        );
    }

    #[test]
    fn pods_get_their_share() {
        let base = random::<u32>(10_000, 1);
        let pods = [
            ("10.1.0.0/26".parse().unwrap(), 1),
            ("10.2.0.0/32".parse().unwrap(), 2),
        ];
        let mixed = with_pods::<u32>(base.clone(), &pods, 0.25, 2);
        let oracle = Oracle::<u32>::new(&pods);
        let (mut to_pods, mut to_host) = (0, 0);
        for (before, after) in base.iter().zip(&mixed) {
            match oracle.lookup(*after) {
                Some((len, _)) => {
                    to_pods += 1;
                    to_host += usize::from(len == 32);
                }
                None => assert_eq!(before, after),
            }
        }
        assert!((2_300..2_700).contains(&to_pods), "{to_pods}");
        assert!((1_100..1_400).contains(&to_host), "{to_host}");
        assert_eq!(with_pods::<u32>(base.clone(), &pods, 0.0, 2), base);
    }

    #[test]
    fn the_seed_decides() {
        let routes = routes::cluster::<u32>(true);
        assert_eq!(
            zipf::<u32>(&routes, 1_000, 7),
            zipf::<u32>(&routes, 1_000, 7)
        );
        assert_ne!(
            zipf::<u32>(&routes, 1_000, 7),
            zipf::<u32>(&routes, 1_000, 8)
        );
        assert_ne!(random::<u32>(10, 7), random::<u32>(10, 8));
    }
}
