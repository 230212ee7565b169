//! The answers for the whole address space.

use crate::{Address, Route};

/// Neighbouring addresses that have the same longest route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval<A> {
    /// The first address.
    pub first: A,
    /// The last address.
    pub last: A,
    /// The length and the next hop of their longest route.
    pub route: Option<(u8, u16)>,
}

impl<A: Address> Interval<A> {
    /// The addresses to compare: the first, one in the middle, the last.
    pub fn probes(&self) -> [A; 3] {
        let (first, last) = (self.first.to_bits(), self.last.to_bits());
        [
            self.first,
            A::from_bits(first + (last - first) / 2),
            self.last,
        ]
    }
}

/// The address space cut into [`Interval`]s, in address order, without gaps.
///
/// Made in one pass over sorted routes, in another way than [`Oracle`](crate::Oracle) finds its
/// answers. Their [probes](Interval::probes) are both edges of every route and the addresses beyond.
#[derive(Debug, Clone)]
pub struct Intervals<A>(Vec<Interval<A>>);

impl<A: Address> Intervals<A> {
    /// Those of `routes`, sorted by address, then from the shorter to the longer, and distinct.
    ///
    /// # Panics
    ///
    /// If the routes are not sorted and distinct.
    pub fn new(routes: &[Route<A>]) -> Self {
        assert!(
            routes.is_sorted_by(|(a, _), (b, _)| a < b),
            "intervals want sorted, distinct routes"
        );
        let mut sweep = Sweep::new();
        for &(net, hop) in routes {
            sweep.open(net, hop);
        }
        sweep.end()
    }

    /// In address order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Interval<A>> + '_ {
        self.0.iter().copied()
    }

    /// The length and the next hop of the longest route of each of `addresses`, which are sorted.
    ///
    /// # Panics
    ///
    /// If the addresses are not sorted.
    pub fn lookup_sorted(&self, addresses: &[A]) -> Vec<Option<(u8, u16)>> {
        assert!(addresses.is_sorted(), "a lookup of unsorted addresses");
        let mut at = 0;
        addresses
            .iter()
            .map(|address| {
                while self.0[at].last < *address {
                    at += 1;
                }
                self.0[at].route
            })
            .collect()
    }
}

/// A pass over the address space, with the routes around the address it has reached.
struct Sweep<A> {
    done: Vec<Interval<A>>,
    /// The first address not done; none when all are.
    at: Option<u128>,
    /// Last address, length and hop of the routes around, the innermost last.
    around: Vec<(u128, u8, u16)>,
}

impl<A: Address> Sweep<A> {
    fn new() -> Self {
        Self {
            done: Vec::new(),
            at: Some(0),
            around: Vec::new(),
        }
    }

    fn open(&mut self, net: A::Net, hop: u16) {
        let first = A::first(net).to_bits();
        self.close_before(first);
        if let Some(before) = first.checked_sub(1) {
            self.advance(before);
        }
        let last = A::last(net).to_bits();
        self.around.push((last, A::prefix_len(net), hop));
    }

    /// Leaves the routes that end before `address`.
    fn close_before(&mut self, address: u128) {
        while let Some(&(last, ..)) = self.around.last()
            && last < address
        {
            self.advance(last);
            self.around.pop();
        }
    }

    /// Goes on to `last`, with the innermost route around.
    fn advance(&mut self, last: u128) {
        let Some(first) = self.at.filter(|first| *first <= last) else {
            return;
        };
        self.done.push(Interval {
            first: A::from_bits(first),
            last: A::from_bits(last),
            route: self.around.last().map(|&(_, len, hop)| (len, hop)),
        });
        self.at = last.checked_add(1);
    }

    fn end(mut self) -> Intervals<A> {
        let end = u128::MAX >> (128 - u32::from(A::BITS));
        while let Some(&(last, ..)) = self.around.last() {
            self.advance(last);
            self.around.pop();
        }
        self.advance(end);
        Intervals(self.done)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Oracle, probes};

    /// Both ways to answer agree, at every edge, and the intervals cover the space.
    fn agree<A: Address>(routes: &[Route<A>]) {
        let oracle = Oracle::<A>::new(routes);
        let intervals = oracle.intervals();
        let mut next = Some(0);
        for Interval { first, last, route } in intervals.iter() {
            assert_eq!(Some(first.to_bits()), next);
            next = last.to_bits().checked_add(1);
            let interval = Interval { first, last, route };
            assert_eq!(interval.probes().map(|a| oracle.lookup(a)), [route; 3]);
        }
        assert_eq!(next, 1_u128.checked_shl(A::BITS.into()));

        let mut addresses: Vec<A> = routes.iter().flat_map(|(net, _)| probes(*net)).collect();
        addresses.sort_unstable();
        let answers = intervals.lookup_sorted(&addresses);
        for (address, answer) in addresses.into_iter().zip(answers) {
            assert_eq!(oracle.lookup(address), answer);
        }
    }

    proptest! {
        /// Few distinct bits, so that prefixes nest and share edges.
        #[test]
        fn ipv4_agrees_with_the_oracle(
            routes in prop::collection::vec((0..16_u32, 0..=32_u8, 1..=255_u16), 0..40)
        ) {
            let spread = |a: u32| (a & 3) | ((a & 4) << 8) | ((a & 8) << 28);
            let routes: Vec<_> = routes
                .into_iter()
                .map(|(a, len, hop)| (spread(a).net(len), hop))
                .collect();
            agree::<u32>(&routes);
        }

        #[test]
        fn ipv6_agrees_with_the_oracle(
            routes in prop::collection::vec((any::<bool>(), 0..=128_u8, 1..=255_u16), 0..40)
        ) {
            let routes: Vec<_> = routes
                .into_iter()
                .map(|(high, len, hop)| (if high { u128::MAX } else { 5 }.net(len), hop))
                .collect();
            agree::<u128>(&routes);
        }
    }

    #[test]
    fn no_routes_are_one_interval() {
        let intervals: Vec<_> = Intervals::<u32>::new(&[]).iter().collect();
        let all = Interval {
            first: 0,
            last: u32::MAX,
            route: None,
        };
        assert_eq!(intervals, [all]);
        assert_eq!(all.probes(), [0, u32::MAX / 2, u32::MAX]);
    }

    #[test]
    #[should_panic(expected = "sorted")]
    fn unsorted_routes_are_refused() {
        Intervals::<u32>::new(&[(1_u32.net(32), 1), (0_u32.net(32), 1)]);
    }
}
