use shunt_fib::{Fib4Config, Fib4Writer, Fib6Config, Fib6Writer};

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key(via: &str, encap: Encap, inner: IpFamily) -> HopKey {
    HopKey::Node {
        via: address(via),
        encap,
        vtep_mac: MacAddr::default(),
        inner,
    }
}

fn nodes() -> NodeRoutes {
    NodeRoutes::new(vec![address("192.168.77.1"), address("fd77::1")])
}

#[test]
fn own_addresses_and_the_outside_come_and_go_with_the_nodes_stack() {
    let mut nodes = nodes();
    let prefixes = [
        ("192.168.77.1/32", HopKey::Host(IpFamily::V4)),
        ("fd77::1/128", HopKey::Host(IpFamily::V6)),
        ("0.0.0.0/0", HopKey::Outside(IpFamily::V4)),
        ("::/0", HopKey::Outside(IpFamily::V6)),
    ];
    for (prefix, _) in prefixes {
        assert_eq!(nodes.wanted(net(prefix)), None, "{prefix}");
    }
    let changed = nodes.join(true);
    assert!(nodes.joined());
    assert_eq!(changed, prefixes.map(|(prefix, _)| net(prefix)));
    for (prefix, key) in prefixes {
        assert_eq!(nodes.wanted(net(prefix)), Some(key), "{prefix}");
    }
    for other in ["192.168.77.2/32", "192.168.77.1/31", "10.0.0.0/8", "::/1"] {
        assert_eq!(nodes.wanted(net(other)), None, "{other}");
    }
    assert_eq!(nodes.join(false), changed);
    assert_eq!(nodes.wanted(net("::/0")), None);
}

#[test]
fn a_remote_node_has_a_route_as_long_as_one_names_it() {
    let mut nodes = nodes();
    let via = net("192.168.77.2/32");
    let v4 = key("192.168.77.2", Encap::Vxlan, IpFamily::V4);
    let v6 = key("192.168.77.2", Encap::Vxlan, IpFamily::V6);
    assert_eq!(nodes.note(net("fd00:2::/64"), Some(v6)), [via]);
    assert_eq!(nodes.wanted(via), Some(v4), "of the address's family");
    nodes.note(net("10.244.2.0/24"), Some(v4));
    assert_eq!(nodes.note(net("fd00:2::/64"), None), [via]);
    assert_eq!(nodes.wanted(via), Some(v4));
    assert!(nodes.names(address("192.168.77.2")));
    assert_eq!(nodes.note(net("10.244.2.0/24"), None), [via]);
    assert_eq!(nodes.wanted(via), None);
    assert_eq!(nodes.vias().count(), 0);
    assert_eq!(nodes.note(net("10.244.2.0/24"), None), [], "not there");
}

#[test]
fn the_lowest_prefix_says_how_whatever_the_order() {
    let via = net("fd77::2/128");
    let first = key("fd77::2", Encap::Ipip, IpFamily::V6);
    let second = key("fd77::2", Encap::Direct, IpFamily::V6);
    let routes = [(net("10.1.0.0/16"), first), (net("10.2.0.0/16"), second)];
    for order in [[0, 1], [1, 0]] {
        let mut nodes = nodes();
        for index in order {
            let (prefix, key) = routes[index];
            nodes.note(prefix, Some(key));
        }
        assert_eq!(nodes.wanted(via), Some(first));
        nodes.note(net("10.1.0.0/16"), None);
        assert_eq!(nodes.wanted(via), Some(second));
    }
}

#[test]
fn a_route_that_turns_to_another_node_concerns_both() {
    let mut nodes = nodes();
    let prefix = net("10.244.2.0/24");
    let key = |via| key(via, Encap::Direct, IpFamily::V4);
    nodes.note(prefix, Some(key("192.168.77.2")));
    assert_eq!(
        nodes.note(prefix, Some(key("192.168.77.3"))),
        [net("192.168.77.2/32"), net("192.168.77.3/32")]
    );
    assert_eq!(nodes.wanted(net("192.168.77.2/32")), None);
    assert!(nodes.wanted(net("192.168.77.3/32")).is_some());
    assert_eq!(
        nodes.note(prefix, Some(HopKey::Blackhole)),
        [net("192.168.77.3/32")]
    );
    assert_eq!(nodes.vias().count(), 0);
}

fn rib() -> Rib {
    let v4 = Fib4Writer::new(Fib4Config {
        groups: 8,
        ..Fib4Config::default()
    });
    let v6 = Fib6Writer::new(Fib6Config {
        groups: 64,
        lines: 64,
        ..Fib6Config::default()
    });
    Rib::new(v4.expect("a FIB"), v6.expect("a FIB"))
}

/// What the daemon does when a user adds a route, or takes it away.
fn change(rib: &mut Rib, nodes: &mut NodeRoutes, prefix: &str, key: Option<HopKey>) {
    let prefix = net(prefix);
    let changed = match key {
        Some(key) => {
            let route = Route::own(key, Origin::Api);
            rib.add(prefix, route).expect("added");
            nodes.note(prefix, Some(key))
        }
        None => {
            let changed = nodes.note(prefix, None);
            nodes.withdraw(rib, prefix).expect("removed");
            changed
        }
    };
    nodes.settle(rib, &changed).expect("settled");
    assert!(rib.install().refused.is_empty());
}

fn origin_of(rib: &Rib, text: &str) -> Option<Origin> {
    rib.get(&net(text)).map(|route| route.origin)
}

#[test]
fn a_users_default_route_stands_before_the_outside() {
    let (mut rib, mut nodes) = (rib(), nodes());
    let user = key("192.168.77.2", Encap::Vxlan, IpFamily::V4);
    let changed = nodes.join(true);
    assert!(nodes.settle(&mut rib, &changed).expect("settled"));
    assert!(!nodes.settle(&mut rib, &changed).expect("nothing to do"));
    assert!(rib.install().refused.is_empty());
    let default = "0.0.0.0/0";
    assert_eq!(origin_of(&rib, default), Some(Origin::Node));
    assert!(rib.get(&net(default)).is_some_and(gives_way));
    assert!(!rib.get(&net("fd77::1/128")).is_some_and(gives_way));

    change(&mut rib, &mut nodes, default, Some(user));
    assert_eq!(origin_of(&rib, default), Some(Origin::Api));
    assert_eq!(origin_of(&rib, "::/0"), Some(Origin::Node));
    change(&mut rib, &mut nodes, default, None);
    let found = rib.lookup(address("192.0.2.1"));
    assert_eq!(
        found.map(|(prefix, route)| (prefix, route.key)),
        Some((net(default), HopKey::Outside(IpFamily::V4)))
    );

    change(&mut rib, &mut nodes, default, Some(user));
    let changed = nodes.join(false);
    nodes.settle(&mut rib, &changed).expect("settled");
    let left: Vec<_> = rib.iter().map(|(prefix, _)| prefix.to_string()).collect();
    assert_eq!(
        left,
        [default, "192.168.77.2/32"],
        "the user's, and its node"
    );
}

#[test]
fn a_users_route_to_a_node_stands_before_the_switchs() {
    let (mut rib, mut nodes) = (rib(), nodes());
    let host = "fd77::2/128";
    let tunnel = key("fd77::2", Encap::Vxlan, IpFamily::V6);
    change(&mut rib, &mut nodes, "fd00:2::/64", Some(tunnel));
    assert_eq!(origin_of(&rib, host), Some(Origin::Node));
    let direct = key("fd77::2", Encap::Direct, IpFamily::V6);
    change(&mut rib, &mut nodes, host, Some(direct));
    assert_eq!(origin_of(&rib, host), Some(Origin::Api));
    change(&mut rib, &mut nodes, host, None);
    let route = rib.get(&net(host)).expect("the switch's own again");
    assert_eq!((route.key, route.origin), (tunnel, Origin::Node));
    change(&mut rib, &mut nodes, "fd00:2::/64", None);
    assert_eq!(rib.iter().count(), 0);
    rib.install();
    assert_eq!(rib.keys().flatten().count(), 0, "all slots are free");
}
