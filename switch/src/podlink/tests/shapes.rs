//! What is made, in both modes and of both kinds.

use serde_json::json;

use super::*;
use crate::netlink::LinkDetails;

fn sysctl(netns: &TestNetns, key: &str) -> String {
    netns.command("sysctl", &["-n", key]).trim().to_owned()
}

/// `ADDRESS/LENGTH` of the pod's interface but for link-local ones, as `ip` lists them, and what
/// is said of each.
fn addresses(pod: &TestNetns) -> Vec<(String, Value)> {
    let info = shown(pod, "addr show dev eth0").remove(0)["addr_info"].clone();
    let all = info.as_array().unwrap().iter();
    all.filter(|one| one["scope"] == "global")
        .map(|one| {
            let address = format!("{}/{}", one["local"].as_str().unwrap(), one["prefixlen"]);
            (address, one.clone())
        })
        .collect()
}

#[test]
fn a_pod_with_ipv4_alone() {
    let world = World::new();
    let mut plan = world.plan(&["10.244.1.5/32"]);
    plan.mtu = 1400;
    plan.routes[0].mtu = Some(1350);
    plan.routes[0].advmss = Some(1300);
    let made = world.build(&plan).unwrap();
    assert!(made.tap.is_none());

    let host = shown(&world.node, &format!("link show {}", plan.host_device)).remove(0);
    assert_eq!(host["ifindex"], made.link.index);
    assert_eq!(host["linkinfo"]["info_kind"], "veth");
    assert_eq!(host["ifalias"], "shunt:k8s/c1/eth0");
    let pod = shown(&world.pod, "link show eth0").remove(0);
    for (end, mac) in [(&host, GATEWAY_MAC), (&pod, POD_MAC)] {
        assert_eq!(end["address"], mac.to_string());
        assert_eq!(end["mtu"], 1400);
        assert_eq!(
            (&end["operstate"], &end["qdisc"]),
            (&json!("UP"), &json!("noqueue"))
        );
        assert_eq!(
            (&end["num_tx_queues"], &end["num_rx_queues"]),
            (&json!(1), &json!(1))
        );
    }
    assert_eq!(made.link.mac, Some(GATEWAY_MAC));
    assert_eq!(
        (made.link.mtu, made.link.kind.as_deref()),
        (1400, Some("veth"))
    );
    assert!(made.link.up && made.link.running);

    let [(address, _)] = &addresses(&world.pod)[..] else {
        panic!("{:?}", addresses(&world.pod));
    };
    assert_eq!(address, "10.244.1.5/32");
    assert_eq!(
        lines(&world.pod, "route"),
        [
            "default via 169.254.1.1 dev eth0 proto static mtu 1350 advmss 1300",
            "169.254.1.1 dev eth0 proto static scope link",
        ]
    );
    assert_eq!(
        lines(&world.pod, "neigh"),
        [format!(
            "169.254.1.1 dev eth0 lladdr {GATEWAY_MAC} PERMANENT"
        )]
    );
    // The pod's IPv6 is as the runtime left it: off here.
    assert_eq!(sysctl(&world.pod, "net.ipv6.conf.eth0.disable_ipv6"), "1");
    // The node's kernel stays out of it.
    let host = |key: &str| {
        sysctl(
            &world.node,
            &format!("net.{key}").replace("DEV", &plan.host_device),
        )
    };
    assert_eq!(host("ipv4.conf.DEV.forwarding"), "0");
    assert_eq!(host("ipv4.conf.DEV.rp_filter"), "1");
    assert_eq!(host("ipv6.conf.DEV.disable_ipv6"), "1");

    assert!(world.demolish(&plan).unwrap());
    assert!(!world.demolish(&plan).unwrap(), "again");
    assert_eq!(names(&world.pod), ["lo"]);
}

#[test]
fn a_pod_with_both_families() {
    let world = World::new();
    let plan = world.plan(&["10.244.1.5/32", "fd44::5/128"]);
    world.build(&plan).unwrap();
    let found = addresses(&world.pod);
    let texts: Vec<_> = found.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["10.244.1.5/32", "fd44::5/128"]);
    assert_eq!(found[1].1["nodad"], true, "{found:?}");
    assert_eq!(found[1].1["tentative"], Value::Null, "{found:?}");
    for (key, value) in [("disable_ipv6", "0"), ("accept_ra", "0")] {
        assert_eq!(
            sysctl(&world.pod, &format!("net.ipv6.conf.eth0.{key}")),
            value
        );
    }
    let routes = lines(&world.pod, "-6 route");
    assert!(
        routes
            .iter()
            .any(|route| route.starts_with("default via fe80::1 dev eth0 proto static")),
        "{routes:?}"
    );
    assert!(
        !routes.iter().any(|route| route.starts_with("fd44::")),
        "{routes:?}"
    );
    let neighbour = &shown(&world.pod, "-6 neigh show fe80::1")[0];
    assert_eq!(neighbour["lladdr"], GATEWAY_MAC.to_string());
    assert_eq!(neighbour["state"], json!(["PERMANENT"]));
    // No address of the pod's is being tried out any more, its own link-local one neither.
    assert_eq!(world.pod.ip("-6 addr show dev eth0 tentative"), "");
    assert!(
        world
            .pod
            .ip("-6 addr show dev eth0 scope link")
            .contains("fe80::")
    );
}

#[test]
fn a_pod_whose_ipv6_is_on_already() {
    for kind in [PortKind::Afxdp, PortKind::Tap] {
        let world = World::new();
        for of in ["all", "default"] {
            let off = format!("net.ipv6.conf.{of}.disable_ipv6=0");
            world.pod.command("sysctl", &["-qw", &off]);
        }
        let mut plan = world.plan(&["fd44::5/128"]);
        plan.kind = kind;
        let _made = world.build(&plan).unwrap();
        let tentative = world.pod.ip("-6 addr show dev eth0 scope global tentative");
        assert_eq!(tentative, "");
        assert_eq!(addresses(&world.pod).len(), 1);
        assert_eq!(sysctl(&world.pod, "net.ipv6.conf.eth0.accept_ra"), "0");
        let routes = lines(&world.pod, "-6 route show default");
        assert_eq!(routes.len(), 1, "{routes:?}");
    }
}

#[test]
fn an_ipv6_gateway_that_is_not_link_local_gets_a_route() {
    let world = World::new();
    let mut plan = world.plan(&["fd44::5/128"]);
    plan.gateways = vec![ip("fd99::1")];
    plan.routes = vec![PodRoute::new(net("::/0"), Some(ip("fd99::1")))];
    world.build(&plan).unwrap();
    let routes = lines(&world.pod, "-6 route");
    let has = |start: &str| routes.iter().any(|route| route.starts_with(start));
    assert!(has("fd99::1 dev eth0 proto static"), "{routes:?}");
    assert!(
        has("default via fd99::1 dev eth0 proto static"),
        "{routes:?}"
    );
}

#[test]
fn a_pod_in_a_subnet() {
    let world = World::new();
    let mut plan = world.plan(&["10.1.0.5/24", "fd01::5/64", "10.2.0.5/31"]);
    plan.gateways = vec![ip("10.1.0.1"), ip("fd01::1")];
    plan.routes = vec![
        // The kernel has made this one for the address, without the MTU.
        PodRoute {
            mtu: Some(1400),
            ..PodRoute::new(net("10.1.0.0/24"), None)
        },
        PodRoute::new(net("0.0.0.0/0"), Some(ip("10.1.0.1"))),
        PodRoute::new(net("::/0"), Some(ip("fd01::1"))),
    ];
    world.build(&plan).unwrap();
    let found = addresses(&world.pod);
    let texts: Vec<_> = found.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["10.1.0.5/24", "10.2.0.5/31", "fd01::5/64"]);
    assert_eq!(found[0].1["broadcast"], "10.1.0.255");
    assert_eq!(found[1].1["broadcast"], Value::Null);
    assert_eq!(
        lines(&world.pod, "route"),
        [
            "default via 10.1.0.1 dev eth0 proto static",
            "10.1.0.0/24 dev eth0 proto static scope link mtu 1400",
            "10.2.0.4/31 dev eth0 proto kernel scope link src 10.2.0.5",
        ]
    );
    let routes = lines(&world.pod, "-6 route");
    assert!(
        routes
            .iter()
            .any(|r| r.starts_with("fd01::/64 dev eth0 proto kernel")),
        "{routes:?}"
    );
    assert!(
        !routes.iter().any(|r| r.starts_with("fd01::1 ")),
        "{routes:?}"
    );
}

#[test]
fn a_route_may_say_all_that_cni_knows() {
    let world = World::new();
    let mut plan = world.plan(&["10.244.1.5/32", "fd44::5/128"]);
    plan.routes.push(PodRoute {
        priority: Some(77),
        table: Some(100),
        scope: Some(200),
        mtu: Some(1400),
        ..PodRoute::new(net("10.9.1.2/16"), Some(ip("169.254.1.1")))
    });
    plan.routes.push(PodRoute {
        priority: Some(78),
        table: Some(100),
        advmss: Some(1234),
        ..PodRoute::new(net("fd09::/48"), Some(ip("fe80::1")))
    });
    plan.routes.push(PodRoute {
        scope: Some(253),
        ..PodRoute::new(net("10.8.0.0/16"), None)
    });
    // Two to one place by metric.
    plan.routes.push(PodRoute {
        priority: Some(500),
        ..PodRoute::new(net("0.0.0.0/0"), Some(ip("169.254.1.1")))
    });
    // RTA_TABLE 0 is the main one.
    plan.routes.push(PodRoute {
        table: Some(0),
        ..PodRoute::new(net("10.7.0.0/16"), Some(ip("169.254.1.1")))
    });
    world.build(&plan).unwrap();
    assert_eq!(
        lines(&world.pod, "route show table 100"),
        ["10.9.0.0/16 via 169.254.1.1 dev eth0 proto static scope site metric 77 mtu 1400"]
    );
    let route = lines(&world.pod, "-6 route show table 100").remove(0);
    assert!(
        route.starts_with("fd09::/48 via fe80::1 dev eth0 proto static metric 78 advmss 1234"),
        "{route}"
    );
    assert_eq!(lines(&world.pod, "route show default").len(), 2);
    assert!(
        world
            .pod
            .ip("route")
            .contains("10.8.0.0/16 dev eth0 proto static scope link")
    );
    assert!(
        world
            .pod
            .ip("route")
            .contains("10.7.0.0/16 via 169.254.1.1 dev eth0")
    );
}

#[test]
fn a_tap_is_set_up_like_a_veth_and_goes_with_its_port() {
    let world = World::new();
    let mut plan = world.plan(&["10.244.1.5/32", "fd44::5/128"]);
    (plan.kind, plan.mtu) = (PortKind::Tap, 1400);
    let made = world.build(&plan).unwrap();
    let port = made.tap.unwrap();
    assert_eq!((port.mac(), port.mtu()), (Some(POD_MAC), 1400));
    assert_eq!((made.link.index, made.link.name.as_str()), (0, "eth0"));
    assert_eq!((made.link.mac, made.link.mtu), (Some(POD_MAC), 1400));
    assert_eq!(made.link.kind.as_deref(), Some("tun"));
    assert!(made.link.up && made.link.running);
    assert_eq!(names(&world.node), ["lo"]);
    assert_eq!(addresses(&world.pod).len(), 2);
    assert!(
        world
            .pod
            .ip("route")
            .contains("default via 169.254.1.1 dev eth0")
    );
    assert!(
        world
            .pod
            .ip("-6 route")
            .contains("default via fe80::1 dev eth0")
    );
    assert_eq!(world.pod.ip("-6 addr show dev eth0 tentative"), "");
    assert!(!world.demolish(&plan).unwrap(), "nothing is on the node");
    drop(port);
    assert_eq!(names(&world.pod), ["lo"]);
}

#[test]
fn without_addresses_only_the_link_is_made() {
    let world = World::new();
    world.build(&world.plan(&[])).unwrap();
    assert_eq!(addresses(&world.pod), []);
    assert_eq!(world.pod.ip("route"), "");
}

#[test]
fn many_in_a_row_leave_nothing_behind() {
    let world = World::new();
    let plan = world.plan(&["10.244.1.5/32", "fd44::5/128"]);
    let descriptors = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
    world.on_node(|netlink| {
        for round in 0..200 {
            let made = build(netlink, &plan).unwrap_or_else(|error| panic!("{round}: {error}"));
            let details: LinkDetails = netlink.link_details(&made.link.name).unwrap().unwrap();
            assert!(details.ready, "{round}: {details:?}");
            assert!(
                demolish(netlink, &plan.key, &plan.host_device).unwrap(),
                "{round}"
            );
        }
    });
    assert_eq!(names(&world.node), ["lo"]);
    assert_eq!(names(&world.pod), ["lo"]);
    // Other tests of this process open and close theirs beside: a leak would be of 200 and more.
    let open = descriptors();
    assert!(open < 200, "{open} descriptors are open");
}

#[test]
fn a_pod_on_a_second_network_with_the_same_gateway() {
    let world = World::new();
    world.build(&world.plan(&["10.244.1.5/32"])).unwrap();
    let mut second = world.plan(&["10.250.0.9/32"]);
    second.key.network = "storage".to_owned();
    second.key.ifname = "net1".to_owned();
    second.host_device = second.key.short_name();
    second.mac = MacAddr([2, 0, 0, 0, 0, 99]);
    // No default route there, but one to what is behind it.
    second.routes = vec![PodRoute::new(net("10.250.0.0/16"), Some(ip("169.254.1.1")))];
    world.build(&second).unwrap();
    let routes = lines(&world.pod, "route");
    for wanted in [
        "default via 169.254.1.1 dev eth0 proto static",
        "169.254.1.1 dev eth0 proto static scope link",
        "10.250.0.0/16 via 169.254.1.1 dev net1 proto static",
    ] {
        assert!(routes.iter().any(|route| route == wanted), "{routes:?}");
    }
    assert!(world.demolish(&second).unwrap());
    assert_eq!(lines(&world.pod, "route").len(), 2);
}

#[test]
fn a_pod_takes_what_is_sent_to_it_at_once() {
    for turn in 0..40 {
        let world = World::new();
        world
            .build(&world.plan(&["10.244.1.5/32", "fd44::5/128"]))
            .unwrap();
        let mut netlink = world.pod.run(Netlink::open).unwrap();
        for address in ["10.244.1.5", "fd44::5"] {
            let way = netlink.route_to(ip(address)).unwrap();
            assert_eq!(
                way,
                crate::netlink::RouteAnswer::Local,
                "{address}, turn {turn}"
            );
        }
    }
}
