//! Which route a destination takes, and the routes around and inside it.

use ipnet::IpNet;
use shunt_api::{ApiError, CoveredRoutes, ErrorCode, RouteInfo, RouteLookup};

use super::daemon::Daemon;
use super::error::refuse;
use super::rib::{Rib, Route};

/// What was found, before it is described: that needs the whole daemon.
#[derive(Debug)]
struct Found {
    prefix: IpNet,
    /// From the longest, which is the one in use, to the shortest.
    covering: Vec<(IpNet, Route)>,
    /// If asked for: the first routes inside, and how many more there are.
    inside: Option<(Vec<(IpNet, Route)>, u64)>,
}

impl Daemon {
    /// The route that a destination takes and those around it; with `covered`, also those inside
    /// it, this many at most.
    pub(super) fn route_get(
        &mut self,
        prefix: IpNet,
        covered: Option<u32>,
    ) -> Result<RouteLookup, ApiError> {
        let found = find(&self.rib, prefix.trunc(), covered)?;
        Ok(found.describe(|prefix, route| self.describe(prefix, route)))
    }
}

fn find(rib: &Rib, prefix: IpNet, limit: Option<u32>) -> Result<Found, ApiError> {
    let owned = |(prefix, route): (IpNet, &Route)| (prefix, route.clone());
    let covering: Vec<_> = rib.covering(prefix).map(owned).collect();
    let inside = limit.map(|limit| {
        let mut all = rib.inside(prefix);
        let first: Vec<_> = all.by_ref().take(limit as usize).map(owned).collect();
        (first, all.count() as u64)
    });
    let any_inside = match &inside {
        Some((first, more)) => !first.is_empty() || *more > 0,
        None => false,
    };
    if covering.is_empty() && !any_inside {
        return Err(refuse(ErrorCode::NotFound, nothing(rib, prefix)));
    }
    Ok(Found {
        prefix,
        covering,
        inside,
    })
}

/// Says that there is no route, and where some are all the same.
fn nothing(rib: &Rib, prefix: IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        return format!("no route to {}: see shunt route list", prefix.addr());
    }
    match rib.inside(prefix).count() {
        0 => format!("no route covers {prefix}, and none lies inside it: see shunt route list"),
        inside => format!(
            "no route covers all of {prefix}; inside it there are {inside}: \
             see shunt route get {prefix} --covered"
        ),
    }
}

impl Found {
    fn describe(self, mut describe: impl FnMut(IpNet, &Route) -> RouteInfo) -> RouteLookup {
        let mut each = |routes: Vec<(IpNet, Route)>| -> Vec<RouteInfo> {
            let routes = routes.iter();
            routes
                .map(|(prefix, route)| describe(*prefix, route))
                .collect()
        };
        let mut covering = each(self.covering).into_iter();
        RouteLookup {
            prefix: self.prefix,
            route: covering.next(),
            covering: covering.collect(),
            covered: self.inside.map(|(routes, more)| CoveredRoutes {
                routes: each(routes),
                more,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use shunt_fib::{Fib4Config, Fib4Writer, Fib6Config, Fib6Writer};

    use super::*;
    use crate::control::rib::{HopKey, Origin};
    use crate::tables::PortId;

    /// A pod, the pods' CIDR around it, a blackhole inside that, another node's CIDR, and no
    /// default route.
    const ROUTES: [(&str, Origin); 5] = [
        ("10.244.0.0/16", Origin::Config),
        ("10.244.1.0/24", Origin::Connected),
        ("10.244.1.64/26", Origin::Api),
        ("10.244.1.70/32", Origin::Pod),
        ("10.244.2.0/24", Origin::Api),
    ];

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn rib() -> Rib {
        let v4 = Fib4Writer::new(Fib4Config {
            groups: 4,
            ..Fib4Config::default()
        });
        let v6 = Fib6Writer::new(Fib6Config {
            groups: 16,
            lines: 64,
            ..Fib6Config::default()
        });
        let mut rib = Rib::new(v4.expect("a FIB"), v6.expect("a FIB"));
        for (prefix, origin) in ROUTES {
            let prefix = net(prefix);
            let key = match origin {
                Origin::Connected => HopKey::Connected,
                Origin::Pod => HopKey::Pod {
                    port: PortId(1),
                    address: prefix.addr(),
                },
                _ => HopKey::Blackhole,
            };
            let route = Route {
                key,
                origin,
                target: None,
            };
            rib.add(prefix, route).expect("added");
        }
        assert!(rib.install().refused.is_empty());
        rib
    }

    /// The reply, each route described by no more than its prefix and origin.
    fn ask(rib: &Rib, prefix: &str, covered: Option<u32>) -> Result<RouteLookup, ApiError> {
        let found = find(rib, net(prefix), covered)?;
        Ok(found.describe(|prefix, route| RouteInfo {
            prefix,
            to: None,
            origin: route.origin.name().to_owned(),
            port: None,
            encap: String::new(),
            neighbour: None,
            mtu: None,
            state: String::new(),
        }))
    }

    fn prefixes<'a>(routes: impl IntoIterator<Item = &'a RouteInfo>) -> Vec<String> {
        let routes = routes.into_iter();
        routes.map(|route| route.prefix.to_string()).collect()
    }

    #[test]
    fn an_address_takes_the_longest_route_and_the_shorter_ones_follow() {
        let rib = rib();
        let reply = ask(&rib, "10.244.1.70/32", None).expect("found");
        let route = reply.route.expect("a route");
        assert_eq!(
            (route.prefix, route.origin.as_str()),
            (net("10.244.1.70/32"), "pod")
        );
        assert_eq!(
            prefixes(&reply.covering),
            ["10.244.1.64/26", "10.244.1.0/24", "10.244.0.0/16"]
        );
        assert_eq!(reply.covered, None);

        let reply = ask(&rib, "10.244.9.9/32", None).expect("found");
        assert_eq!(prefixes(&reply.route), ["10.244.0.0/16"]);
        assert_eq!(reply.covering, []);
    }

    #[test]
    fn a_prefix_takes_the_longest_route_around_all_of_it() {
        let rib = rib();
        // Half of it lies in the /26, which is therefore not its route.
        let reply = ask(&rib, "10.244.1.0/25", None).expect("found");
        assert_eq!(reply.prefix, net("10.244.1.0/25"));
        assert_eq!(prefixes(&reply.route), ["10.244.1.0/24"]);
        assert_eq!(prefixes(&reply.covering), ["10.244.0.0/16"]);
        let exact = ask(&rib, "10.244.1.64/26", None).expect("found");
        assert_eq!(prefixes(&exact.route), ["10.244.1.64/26"]);
    }

    #[test]
    fn routes_inside_come_in_order_without_its_own_and_up_to_the_limit() {
        let rib = rib();
        let inside = |limit| {
            let reply = ask(&rib, "10.244.0.0/16", Some(limit)).expect("found");
            assert_eq!(prefixes(&reply.route), ["10.244.0.0/16"]);
            let covered = reply.covered.expect("asked for");
            (prefixes(&covered.routes), covered.more)
        };
        let all = [
            "10.244.1.0/24",
            "10.244.1.64/26",
            "10.244.1.70/32",
            "10.244.2.0/24",
        ];
        let first = |n: usize| all[..n].iter().map(|&text| text.to_owned()).collect();
        assert_eq!(inside(0), (vec![], 4));
        assert_eq!(inside(3), (first(3), 1));
        assert_eq!(inside(4), (first(4), 0));
        assert_eq!(inside(u32::MAX), (first(4), 0));
        let none = ask(&rib, "10.244.2.0/24", Some(9)).expect("found").covered;
        assert!(none.is_some_and(|none| none.routes.is_empty() && none.more == 0));
    }

    #[test]
    fn routes_inside_are_shown_where_none_covers() {
        let reply = ask(&rib(), "10.0.0.0/8", Some(1)).expect("found");
        assert_eq!((&reply.route, &reply.covering), (&None, &vec![]));
        let covered = reply.covered.expect("asked for");
        assert_eq!(prefixes(&covered.routes), ["10.244.0.0/16"]);
        assert_eq!(covered.more, 4);
        // The limit hides them, but they are there.
        assert!(ask(&rib(), "10.0.0.0/8", Some(0)).is_ok());
    }

    #[test]
    fn no_route_is_not_found() {
        let rib = rib();
        for (prefix, covered, words) in [
            ("10.9.9.9/32", None, &["no route to 10.9.9.9:"][..]),
            ("10.9.9.9/32", Some(9), &["no route to 10.9.9.9:"]),
            ("11.0.0.0/8", None, &["11.0.0.0/8", "none lies inside"]),
            ("11.0.0.0/8", Some(9), &["11.0.0.0/8", "none lies inside"]),
            (
                "10.0.0.0/8",
                None,
                &["there are 5", "route get 10.0.0.0/8 --covered"],
            ),
        ] {
            let error = ask(&rib, prefix, covered).expect_err(prefix);
            assert_eq!(error.code, ErrorCode::NotFound, "{prefix}");
            for word in words {
                assert!(error.message.contains(word), "{}", error.message);
            }
        }
    }

    #[test]
    fn what_the_fib_does_not_have_yet_is_not_in_use() {
        let mut rib = rib();
        let route = Route {
            key: HopKey::Blackhole,
            origin: Origin::Api,
            target: None,
        };
        rib.add(net("10.244.2.7/32"), route).expect("added");
        let before = ask(&rib, "10.244.2.7/32", None).expect("found");
        assert_eq!(prefixes(&before.route), ["10.244.2.0/24"]);
        assert!(rib.install().refused.is_empty());
        let after = ask(&rib, "10.244.2.7/32", None).expect("found");
        assert_eq!(prefixes(&after.route), ["10.244.2.7/32"]);
    }

    #[test]
    fn ipv6_is_looked_up_in_its_own_table() {
        let mut rib = rib();
        for prefix in ["fd00::/16", "fd00:1::/64", "fd00:1::7/128"] {
            let route = Route::own(HopKey::Blackhole, Origin::Node);
            rib.add(net(prefix), route).expect("added");
        }
        assert!(rib.install().refused.is_empty());
        let reply = ask(&rib, "fd00:1::7/128", None).expect("found");
        assert_eq!(prefixes(&reply.route), ["fd00:1::7/128"]);
        assert_eq!(prefixes(&reply.covering), ["fd00:1::/64", "fd00::/16"]);
        let reply = ask(&rib, "::/0", Some(9)).expect("found");
        let covered = reply.covered.expect("asked for");
        assert_eq!(
            prefixes(&covered.routes),
            ["fd00::/16", "fd00:1::/64", "fd00:1::7/128"]
        );
        let error = ask(&rib, "2001:db8::1/128", None).expect_err("no route");
        assert!(error.message.contains("no route to 2001:db8::1:"));
    }
}
