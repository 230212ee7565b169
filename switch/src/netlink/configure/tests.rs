//! Each change beside what iproute2 shows of it.

use serde_json::{Value, json};

use super::*;
use crate::sys::testing::TestNetns;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x12]);

fn shown(netns: &TestNetns, words: &str) -> Vec<Value> {
    let text = netns.ip(&format!("-j -d {words}"));
    let Ok(Value::Array(mut all)) = serde_json::from_str(&text) else {
        panic!("{words}: {text}");
    };
    // iproute2 shows what its own filter leaves out as empty objects.
    all.retain(|one| one.as_object().is_some_and(|fields| !fields.is_empty()));
    all
}

/// A namespace with the link `d0`, up and with IPv6, and its index.
fn with_link() -> (TestNetns, Netlink, u32) {
    let netns = TestNetns::new();
    netns.link("d0", "");
    netns.command("sysctl", &["-qw", "net.ipv6.conf.d0.addr_gen_mode=1"]);
    netns.command("sysctl", &["-qw", "net.ipv6.conf.d0.disable_ipv6=0"]);
    netns.ip("link set d0 up");
    netns.ip("link set d0p up");
    let mut netlink = netns.run(Netlink::open).unwrap();
    let index = netlink.link("d0").unwrap().unwrap().index;
    (netns, netlink, index)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn route(ifindex: u32, prefix: &str, via: &str) -> Route {
    Route {
        prefix: net(prefix),
        via: Some(via.parse().unwrap()),
        ifindex,
        onlink: true,
        source: None,
        mtu: None,
        table: TABLE_MAIN,
        protocol: RTPROT_SHUNT,
    }
}

#[test]
fn a_veth_pair_is_made_and_deleted() {
    let (netns, other) = (TestNetns::new(), TestNetns::new());
    let mut netlink = netns.run(Netlink::open).unwrap();
    let (a, b) = (
        VethEnd {
            name: "a0",
            mac: MAC,
            mtu: 1400,
        },
        VethEnd {
            name: "a0-sw",
            mac: PEER_MAC,
            mtu: 1300,
        },
    );
    netlink.create_veth(&a, &b).unwrap();
    for (name, mac, mtu, peer) in [("a0", MAC, 1400, "a0-sw"), ("a0-sw", PEER_MAC, 1300, "a0")] {
        let link = &shown(&netns, &format!("link show {name}"))[0];
        assert_eq!(link["linkinfo"]["info_kind"], "veth", "{link}");
        assert_eq!(link["address"], mac.to_string());
        assert_eq!((&link["mtu"], &link["link"]), (&json!(mtu), &json!(peer)));
    }
    let mut index = |name| netlink.link(name).unwrap().unwrap().index;
    let (first, second) = (index("a0"), index("a0-sw"));
    assert_eq!(netlink.peer(first).unwrap(), Peer::Here(second));
    assert_eq!(netlink.peer(1).unwrap(), Peer::None, "lo");

    let error = netlink.create_veth(&a, &b).unwrap_err();
    assert_eq!(error.refusal(), Some(libc::EEXIST));
    let text = error.to_string();
    assert!(
        text.contains("`a0` and `a0-sw`") && text.contains("remove it"),
        "{text}"
    );

    netns.ip(&format!("link set a0-sw netns {}", other.path().display()));
    assert_eq!(netlink.peer(first).unwrap(), Peer::Elsewhere);
    assert!(netlink.delete_link(first).unwrap());
    assert!(!netlink.delete_link(first).unwrap(), "again");
    assert_eq!(shown(&netns, "link").len(), 1, "lo alone");
}

#[test]
fn a_link_is_changed_as_told_and_no_further() {
    let netns = TestNetns::new();
    netns.link("d0", "address 02:00:00:00:00:07 mtu 1500");
    let mut netlink = netns.run(Netlink::open).unwrap();
    let index = netlink.link("d0").unwrap().unwrap().index;
    let mut set = |change| netlink.set_link(index, &change);
    let look = || {
        let link = shown(&netns, "link show d0").remove(0);
        let up = link["flags"].as_array().unwrap().contains(&json!("UP"));
        (
            up,
            link["mtu"].clone(),
            link["address"].clone(),
            link["txqlen"].clone(),
        )
    };
    let nothing = LinkChange::default();
    set(LinkChange {
        up: Some(true),
        ..nothing
    })
    .unwrap();
    assert_eq!(
        look(),
        (true, json!(1500), json!("02:00:00:00:00:07"), json!(1000))
    );
    set(LinkChange {
        mtu: Some(1300),
        mac: Some(MAC),
        transmit_queue: Some(0),
        ..nothing
    })
    .unwrap();
    // Without a queue iproute2 shows none.
    assert_eq!(
        look(),
        (true, json!(1300), json!(MAC.to_string()), Value::Null)
    );
    set(LinkChange {
        up: Some(false),
        transmit_queue: Some(77),
        ..nothing
    })
    .unwrap();
    assert_eq!(
        look(),
        (false, json!(1300), json!(MAC.to_string()), json!(77))
    );

    let error = set(LinkChange {
        mtu: Some(7),
        ..nothing
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("does not take this MTU"),
        "{error}"
    );
    let error = netlink.set_link(4711, &nothing).unwrap_err();
    assert_eq!(error.refusal(), Some(libc::ENODEV), "{error}");
}

#[test]
fn addresses_come_at_once_and_without_routes() {
    let (netns, mut netlink, index) = with_link();
    for address in ["10.9.0.1/32", "fd09::1/128", "10.8.0.1/24"].map(net) {
        assert!(netlink.add_address(index, address).unwrap());
        assert!(!netlink.add_address(index, address).unwrap(), "again");
    }
    let info = shown(&netns, "addr show dev d0").remove(0)["addr_info"].clone();
    for (at, local, length) in [
        (0, "10.9.0.1", 32),
        (1, "10.8.0.1", 24),
        (2, "fd09::1", 128),
    ] {
        let one = &info[at];
        assert_eq!(
            (&one["local"], &one["prefixlen"]),
            (&json!(local), &json!(length)),
            "{info}"
        );
        assert_eq!(one["scope"], "global");
        assert_eq!(one["noprefixroute"], true, "{one}");
        assert_eq!(one["tentative"], Value::Null);
    }
    assert_eq!(info[2]["nodad"], true);
    assert_eq!(shown(&netns, "route show dev d0"), [] as [Value; 0]);
    assert_eq!(shown(&netns, "-6 route show dev d0"), [] as [Value; 0]);

    for address in ["10.9.0.1/32", "fd09::1/128"].map(net) {
        assert!(netlink.delete_address(index, address).unwrap());
        assert!(!netlink.delete_address(index, address).unwrap(), "again");
    }
    assert_eq!(netlink.addresses(index).unwrap(), [net("10.8.0.1/24")]);
    assert!(!netlink.delete_address(4711, net("10.8.0.1/24")).unwrap());

    netns.command("sysctl", &["-qw", "net.ipv6.conf.d0.disable_ipv6=1"]);
    let error = netlink.add_address(index, net("fd09::1/128")).unwrap_err();
    assert!(error.to_string().contains("disable_ipv6"), "{error}");
}

#[test]
fn a_permanent_neighbour_stays_and_can_move() {
    let (netns, mut netlink, index) = with_link();
    for address in ["169.254.1.1", "fe80::1"] {
        let to = address.parse().unwrap();
        let mut set = |mac| netlink.set_neighbour(index, to, mac).unwrap();
        assert!(set(MAC));
        assert!(!set(MAC), "again");
        assert!(set(PEER_MAC));
        let entry = &shown(&netns, &format!("neigh show {address} dev d0"))[0];
        assert_eq!(entry["lladdr"], PEER_MAC.to_string(), "{entry}");
        assert_eq!(entry["state"], json!(["PERMANENT"]));
        // A learned one becomes permanent.
        netns.ip(&format!(
            "neigh replace {address} lladdr {PEER_MAC} dev d0 nud stale"
        ));
        assert!(netlink.set_neighbour(index, to, PEER_MAC).unwrap());
        assert!(!netlink.set_neighbour(index, to, PEER_MAC).unwrap());
    }
}

#[test]
fn routes_are_added_replaced_listed_and_deleted() {
    let (netns, mut netlink, index) = with_link();
    netlink.add_address(index, net("10.9.0.1/32")).unwrap();
    netlink.add_address(index, net("fd09::1/128")).unwrap();
    let source = |text: &str| Some(text.parse().unwrap());
    let mut routes = [
        Route {
            source: source("10.9.0.1"),
            mtu: Some(1400),
            ..route(index, "10.244.0.0/16", "169.254.1.1")
        },
        Route {
            table: 8353,
            ..route(index, "10.9.0.2/32", "169.254.1.1")
        },
        Route {
            source: source("fd09::1"),
            mtu: Some(1400),
            ..route(index, "fd44::/48", "fe80::1")
        },
        Route {
            table: 8353,
            ..route(index, "fd09::2/128", "fe80::1")
        },
        Route {
            table: 100,
            ..route(index, "0.0.0.0/0", "169.254.1.1")
        },
    ];
    // Others' routes, which are in the way of nothing.
    netns.ip("route add 10.1.0.0/16 dev d0");
    netns.ip("route add 10.2.0.0/16 dev d0p proto 83");
    netns.ip("route add blackhole 10.3.0.0/16 proto 83");
    netns.ip("-6 route add fd55::/64 dev d0 proto static");
    for route in &routes {
        assert!(netlink.add_route(route).unwrap(), "{route}");
        assert!(!netlink.add_route(route).unwrap(), "{route} again");
    }
    let mut found = netlink.routes_of(index, RTPROT_SHUNT).unwrap();
    found.sort_by_key(|one| routes.iter().position(|route| route == one));
    assert_eq!(found, routes);

    let line = &shown(&netns, "route show 10.244.0.0/16")[0];
    assert_eq!(
        (&line["gateway"], &line["dev"]),
        (&json!("169.254.1.1"), &json!("d0"))
    );
    assert_eq!(
        (&line["protocol"], &line["prefsrc"]),
        (&json!("83"), &json!("10.9.0.1"))
    );
    assert_eq!(
        (&line["flags"], &line["scope"]),
        (&json!(["onlink"]), &json!("global"))
    );
    assert_eq!(line["metrics"], json!([{ "mtu": 1400 }]));
    let line = &shown(&netns, "-6 route show fd44::/48")[0];
    assert_eq!(
        (&line["gateway"], &line["prefsrc"]),
        (&json!("fe80::1"), &json!("fd09::1"))
    );
    assert_eq!(shown(&netns, "route show table 8353")[0]["dst"], "10.9.0.2");
    assert_eq!(
        shown(&netns, "-6 route show table 8353")[0]["dst"],
        "fd09::2"
    );

    for route in &mut routes {
        (route.mtu, route.source) = (Some(1280), None);
        netlink.replace_route(route).unwrap();
    }
    let mut found = netlink.routes_of(index, RTPROT_SHUNT).unwrap();
    found.sort_by_key(|one| routes.iter().position(|route| route == one));
    assert_eq!(found, routes);

    for route in &routes {
        assert!(netlink.delete_route(route).unwrap(), "{route}");
        assert!(!netlink.delete_route(route).unwrap(), "{route} again");
    }
    assert_eq!(netlink.routes_of(index, RTPROT_SHUNT).unwrap(), []);
    let left = shown(&netns, "route");
    assert_eq!(left.len(), 3, "{left:?}");
    // Another's route to a prefix of ours is not deleted.
    let other = route(index, "10.1.0.0/16", "169.254.1.1");
    assert!(!netlink.add_route(&other).unwrap(), "it is taken");
    assert!(!netlink.delete_route(&other).unwrap());
    assert_eq!(shown(&netns, "route show 10.1.0.0/16").len(), 1);
    assert_eq!(netlink.routes_of(4711, RTPROT_SHUNT).unwrap(), []);
}

#[test]
fn a_refused_route_tells_the_remedy() {
    let (netns, mut netlink, index) = with_link();
    let mut wrong = route(index, "10.244.0.0/16", "169.254.1.1");
    wrong.onlink = false;
    let error = netlink.add_route(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("10.244.0.0/16") && error.contains("onlink"),
        "{error}"
    );
    wrong.onlink = true;
    wrong.source = Some("10.77.0.1".parse().unwrap());
    let error = netlink.add_route(&wrong).unwrap_err().to_string();
    assert!(error.contains("this host's own"), "{error}");
    netns.ip("link set d0 down");
    let error = netlink.add_route(&route(index, "10.244.0.0/16", "169.254.1.1"));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("set it up") || error.contains("set the link up"),
        "{error}"
    );
}

#[test]
fn rules_of_both_families() {
    let (netns, mut netlink, _) = with_link();
    let rule = |ipv6| Rule {
        ipv6,
        iifname: "d0".to_owned(),
        table: 8353,
        priority: 8000,
        protocol: RTPROT_SHUNT,
    };
    for family in ["-4", "-6"] {
        netns.ip(&format!("{family} rule add iif d0 lookup 100 pref 7000"));
        netns.ip(&format!(
            "{family} rule add iif d0p lookup 100 pref 7001 protocol 83"
        ));
    }
    let before = [shown(&netns, "-4 rule"), shown(&netns, "-6 rule")];
    for ipv6 in [false, true] {
        assert!(netlink.add_rule(&rule(ipv6)).unwrap());
        assert!(!netlink.add_rule(&rule(ipv6)).unwrap(), "again");
    }
    let found = netlink.rules_of("d0", RTPROT_SHUNT).unwrap();
    assert_eq!(found, [rule(false), rule(true)]);
    for words in ["-4 rule show pref 8000", "-6 rule show pref 8000"] {
        let [line] = &shown(&netns, words)[..] else {
            panic!("{words}");
        };
        assert_eq!(
            (&line["iif"], &line["table"]),
            (&json!("d0"), &json!("8353"))
        );
        assert_eq!(line["protocol"], "83");
    }
    for ipv6 in [false, true] {
        assert!(netlink.delete_rule(&rule(ipv6)).unwrap());
        assert!(!netlink.delete_rule(&rule(ipv6)).unwrap(), "again");
    }
    assert_eq!([shown(&netns, "-4 rule"), shown(&netns, "-6 rule")], before);
    assert_eq!(netlink.rules_of("d0", RTPROT_SHUNT).unwrap(), []);
}
