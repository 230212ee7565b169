//! The writer's own record of the routes: exact, longest and ordered access.

use std::collections::BTreeMap;

use super::prefix::Prefix;
use crate::NextHopIndex;

/// A route: a prefix and its next hop.
pub(super) type Route = (Prefix, NextHopIndex);

/// All routes, ordered so that a prefix stands directly before those inside it.
#[derive(Debug, Default)]
pub(super) struct Routes {
    map: BTreeMap<u64, NextHopIndex>,
}

impl Routes {
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// About how many bytes the record takes: nodes of a B-tree are three quarters full.
    pub(super) fn bytes(&self) -> usize {
        self.len() * (size_of::<u64>() + size_of::<NextHopIndex>()) * 4 / 3
    }

    pub(super) fn get(&self, prefix: Prefix) -> Option<NextHopIndex> {
        self.map.get(&prefix.key()).copied()
    }

    pub(super) fn insert(&mut self, prefix: Prefix, hop: NextHopIndex) -> Option<NextHopIndex> {
        self.map.insert(prefix.key(), hop)
    }

    pub(super) fn remove(&mut self, prefix: Prefix) -> Option<NextHopIndex> {
        self.map.remove(&prefix.key())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Route> + '_ {
        self.map.iter().map(route)
    }

    /// The longest route that is `prefix` or lies around it.
    pub(super) fn longest(&self, prefix: Prefix) -> Option<Route> {
        let mut probe = prefix;
        loop {
            let found = self.map.range(..=probe.key()).next_back().map(route)?;
            if found.0.contains(probe) {
                return Some(found);
            }
            // What lies around `probe` stands before it, so before or at `found`, and therefore
            // lies around `found` too.
            probe = probe.common(found.0);
        }
    }

    /// The longest route around `prefix`, without `prefix` itself.
    pub(super) fn longest_around(&self, prefix: Prefix) -> Option<Route> {
        self.longest(prefix.parent()?)
    }

    /// All routes around `prefix` and `prefix` itself, from the longest to the shortest.
    pub(super) fn covering(&self, prefix: Prefix) -> impl Iterator<Item = Route> + '_ {
        std::iter::successors(self.longest(prefix), |found| self.longest_around(found.0))
    }

    /// `prefix` itself and all routes inside it, in order.
    pub(super) fn covered(&self, prefix: Prefix) -> impl Iterator<Item = Route> + '_ {
        let end = Prefix::of(prefix.last(), 32);
        self.map.range(prefix.key()..=end.key()).map(route)
    }

    /// The address ranges (first, last) of `prefix` that no route inside it claims, in order.
    pub(super) fn unclaimed(&self, prefix: Prefix) -> impl Iterator<Item = (u32, u32)> + '_ {
        let inside = self
            .covered(prefix)
            .map(|(inner, _)| inner)
            .filter(move |p| *p != prefix);
        // The first address not yet looked at; beyond 32 bits after 255.255.255.255.
        let mut next = u64::from(prefix.first());
        let claimed = inside.map(|p| (u64::from(p.first()), u64::from(p.last())));
        let end = u64::from(prefix.last()) + 1;
        claimed
            .chain(std::iter::once((end, end)))
            .filter_map(move |(first, last)| {
                // A route inside another claims nothing more: its first is before `next`.
                let gap = (next < first).then(|| (next as u32, (first - 1) as u32));
                next = next.max(last + 1);
                gap
            })
    }
}

fn route((&key, &hop): (&u64, &NextHopIndex)) -> Route {
    (Prefix::from_key(key), hop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(texts: &[&str]) -> Routes {
        let mut routes = Routes::default();
        for (text, index) in texts.iter().zip(1..) {
            routes.insert(prefix(text), NextHopIndex::new(index).unwrap());
        }
        routes
    }

    fn prefix(text: &str) -> Prefix {
        text.parse::<ipnet::Ipv4Net>().unwrap().into()
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
        assert_eq!(Routes::default().longest(prefix("10.0.0.0/8")), None);
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
}
