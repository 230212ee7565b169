use std::net::UdpSocket;

use super::*;
use crate::host::HostRoute;
use crate::netlink::{RTPROT_SHUNT, Route, Rule, TABLE_MAIN};
use crate::sys::testing::TestNetns;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn settings() -> HostSettings {
    HostSettings {
        device: "shunt0".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 0x21]),
        mtu: 1450,
        gateway: [169, 254, 1, 1].into(),
        gateway6: "fe80::1".parse().unwrap(),
        gateway_mac: MacAddr([2, 0, 0, 0, 0, 0x20]),
        address: Some([10, 9, 0, 1].into()),
        address6: Some("fd09::1".parse().unwrap()),
        masquerade: true,
        pod_cidrs: vec![net("10.244.1.0/24"), net("fd44:1::/64")],
        cluster_cidrs: vec![net("10.244.0.0/16"), net("fd44::/16")],
        non_masquerade: Vec::new(),
        keep: false,
    }
}

fn plan() -> HostPlan {
    HostPlan {
        prefixes: vec![
            HostRoute {
                prefix: net("10.244.0.0/16"),
                mtu: Some(1400),
            },
            net("10.244.1.0/24").into(),
            net("fd44::/16").into(),
        ],
        nodes: ["10.9.0.1", "10.9.0.2", "fd09::2"]
            .map(|n| n.parse().unwrap())
            .to_vec(),
        nodes_mtu: Some(1400),
    }
}

/// A node with the NIC `v0`, 10.9.0.1 and fd09::1, and things of others that look a little like
/// ours; and what is beyond.
fn node() -> (TestNetns, TestNetns, Netlink) {
    let (node, beyond) = TestNetns::veth_pair();
    // What turning forwarding on does to the NIC (an anycast address) stays, like the sysctl.
    for setting in [
        "net.ipv6.conf.v0.addr_gen_mode=1",
        "net.ipv6.conf.v0.disable_ipv6=0",
        "net.ipv6.conf.all.forwarding=1",
    ] {
        node.command("sysctl", &["-qw", setting]);
    }
    node.ip("addr add fd09::1/64 dev v0 nodad");
    node.ip("route add 192.0.2.0/24 via 10.9.0.2 src 10.9.0.1");
    node.ip("-6 route add 2001:db8::/32 via fd09::2");
    node.ip("route add 10.60.0.0/16 via 10.9.0.2 proto 83");
    node.ip("route add 10.61.0.0/16 via 10.9.0.2 table 8353");
    node.ip("rule add iif v0 lookup 8353 pref 8000 protocol 83");
    node.command("nft", &["add", "table", "inet", "other"]);
    let netlink = node.run(Netlink::open).unwrap();
    (node, beyond, netlink)
}

/// All that a node's network is, without counters and ages.
fn everything(node: &TestNetns) -> String {
    let mut all = [
        "-4 rule",
        "-6 rule",
        "route show table all",
        "-6 route show table all",
    ]
    .map(|words| node.ip(words))
    .concat();
    // The order of the local table's entries has no meaning.
    let mut lines: Vec<_> = all.lines().map(str::to_owned).collect();
    lines.sort();
    all = lines.join("\n");
    all += &node.ip("-br addr");
    all += &node.ip("neigh show nud permanent");
    all + &node.command("nft", &["list", "ruleset"])
}

fn prepare(node: &TestNetns, netlink: &mut Netlink, settings: HostSettings) -> HostDevice {
    node.run(|| HostDevice::prepare(netlink, settings)).unwrap()
}

#[test]
fn everything_is_made_and_nothing_is_left() {
    let (node, _beyond, mut netlink) = node();
    let before = everything(&node);
    let mut device = prepare(&node, &mut netlink, settings());
    assert_eq!(device.switch_end(), "shunt0-sw");
    let link = netlink.link("shunt0").unwrap().unwrap();
    assert_eq!(
        (link.index, link.mac, link.mtu),
        (device.ifindex(), Some(settings().mac), 1450)
    );
    assert!(link.running);
    let other = netlink.link("shunt0-sw").unwrap().unwrap();
    assert_eq!(
        (other.index, other.mtu, other.running),
        (device.switch_ifindex(), 1450, true)
    );
    assert!(![Some(settings().mac), Some(settings().gateway_mac)].contains(&other.mac));
    let mut addresses = netlink.addresses(link.index).unwrap();
    addresses.sort();
    assert_eq!(addresses, [net("10.9.0.1/32"), net("fd09::1/128")]);
    assert_eq!(netlink.addresses(other.index).unwrap(), []);
    let neighbours = netlink.neighbours(link.index).unwrap();
    assert_eq!(
        neighbours
            .iter()
            .filter(|n| n.mac == Some(settings().gateway_mac))
            .count(),
        2
    );

    node.run(|| device.apply(&mut netlink, &plan())).unwrap();
    let route = |prefix: &str, source: Option<&str>, mtu, table| Route {
        prefix: net(prefix),
        via: Some(
            if prefix.contains(':') {
                "fe80::1"
            } else {
                "169.254.1.1"
            }
            .parse()
            .unwrap(),
        ),
        ifindex: link.index,
        onlink: true,
        source: source.map(|text| text.parse().unwrap()),
        mtu,
        table,
        protocol: RTPROT_SHUNT,
    };
    let found = netlink.routes_of(link.index, RTPROT_SHUNT).unwrap();
    for wanted in [
        route("10.244.0.0/16", Some("10.9.0.1"), Some(1400), TABLE_MAIN),
        route("10.244.1.0/24", Some("10.9.0.1"), None, TABLE_MAIN),
        route("fd44::/16", Some("fd09::1"), None, TABLE_MAIN),
        route("10.9.0.2/32", None, Some(1400), routes::TABLE_SHUNT),
        route("fd09::2/128", None, Some(1400), routes::TABLE_SHUNT),
    ] {
        assert!(found.contains(&wanted), "{wanted}: {found:?}");
    }
    assert_eq!(found.len(), 5, "the node itself is no remote node");
    assert_eq!(netlink.rules_of("shunt0", RTPROT_SHUNT).unwrap().len(), 2);
    let listed = node.command("nft", &["list", "table", "inet", "shunt"]);
    assert!(
        listed.contains("10.9.0.2") && listed.contains("fd09::2"),
        "{listed}"
    );
    // What the kernel makes of it.
    let way = |to: &str| node.ip(&format!("route get {to}"));
    assert!(way("10.244.7.7").contains("via 169.254.1.1 dev shunt0 src 10.9.0.1"));
    assert!(way("fd44::7").contains("via fe80::1 dev shunt0"));
    assert!(way("10.9.0.2").contains("dev v0"), "to nodes by the NIC");
    let back = way("10.9.0.2 from 10.244.1.2 iif shunt0");
    assert!(back.contains("via 169.254.1.1 dev shunt0"), "{back}");

    // The same again changes nothing; another plan leaves nothing of the first.
    assert!(!node.run(|| device.restore_if_lost(&mut netlink)).unwrap());
    let smaller = HostPlan {
        prefixes: vec![net("10.244.1.0/24").into()],
        ..HostPlan::default()
    };
    node.run(|| device.apply(&mut netlink, &smaller)).unwrap();
    let found = netlink.routes_of(link.index, RTPROT_SHUNT).unwrap();
    assert_eq!(
        found,
        [route("10.244.1.0/24", Some("10.9.0.1"), None, TABLE_MAIN)]
    );
    assert_eq!(netlink.rules_of("shunt0", RTPROT_SHUNT).unwrap(), []);
    node.run(|| device.apply(&mut netlink, &plan())).unwrap();

    node.run(|| device.remove(&mut netlink)).unwrap();
    assert_eq!(everything(&node), before);
}

#[test]
fn what_is_kept_is_adopted() {
    let (node, _beyond, mut netlink) = node();
    let before = everything(&node);
    let keep = HostSettings {
        keep: true,
        ..settings()
    };
    let mut first = prepare(&node, &mut netlink, keep.clone());
    node.run(|| first.apply(&mut netlink, &plan())).unwrap();
    let whole = everything(&node);
    let index = first.ifindex();
    node.run(|| first.remove(&mut netlink)).unwrap();
    assert_eq!(everything(&node), whole, "kept");

    let mut second = prepare(&node, &mut netlink, keep);
    assert_eq!(second.ifindex(), index, "the same pair");
    assert_eq!(
        everything(&node),
        whole,
        "routes stay until there is a plan"
    );
    node.run(|| second.apply(&mut netlink, &plan())).unwrap();
    assert_eq!(everything(&node), whole);

    // After a crash, with other settings.
    let other = HostSettings {
        address: Some([10, 9, 0, 77].into()),
        mtu: 1300,
        masquerade: false,
        ..settings()
    };
    let mut third = prepare(&node, &mut netlink, other);
    let mut addresses = netlink.addresses(index).unwrap();
    addresses.sort();
    assert_eq!(addresses, [net("10.9.0.77/32"), net("fd09::1/128")]);
    assert_eq!(netlink.link("shunt0-sw").unwrap().unwrap().mtu, 1300);
    assert!(
        !node
            .command("nft", &["list", "ruleset"])
            .contains("table inet shunt")
    );
    node.run(|| third.apply(&mut netlink, &plan())).unwrap();
    assert!(node.ip("route get 10.244.7.7").contains("src 10.9.0.77"));
    node.run(|| third.remove(&mut netlink)).unwrap();
    assert_eq!(everything(&node), before);
}

#[test]
fn what_others_delete_comes_back() {
    let (node, _beyond, mut netlink) = node();
    let mut device = prepare(&node, &mut netlink, settings());
    node.run(|| device.apply(&mut netlink, &plan())).unwrap();
    let whole = everything(&node);
    for (program, words) in [
        ("ip", "route del 10.244.0.0/16"),
        ("ip", "-6 route flush proto 83"),
        (
            "ip",
            "route replace 10.244.1.0/24 via 169.254.1.1 dev shunt0 onlink proto 83 mtu 1000",
        ),
        ("ip", "rule del pref 8353"),
        ("ip", "neigh flush dev shunt0 nud permanent"),
        ("ip", "link set shunt0 down"),
        ("ip", "link set shunt0-sw mtu 1200"),
        ("ip", "addr flush dev shunt0"),
        ("nft", "delete table inet shunt"),
        ("sysctl", "-qw net.ipv4.conf.shunt0.rp_filter=1"),
        ("sysctl", "-qw net.ipv4.conf.all.forwarding=0"),
    ] {
        node.command(program, &words.split(' ').collect::<Vec<_>>());
        let restored = node.run(|| device.restore_if_lost(&mut netlink));
        assert!(
            restored.unwrap_or_else(|e| panic!("{words}: {e}")) || words.contains("all."),
            "{words}"
        );
        assert_eq!(everything(&node), whole, "{words}");
        assert!(
            !node.run(|| device.restore_if_lost(&mut netlink)).unwrap(),
            "{words}"
        );
    }
    assert_eq!(
        node.command("sysctl", &["-n", "net.ipv4.ip_forward"])
            .trim(),
        "1"
    );
    assert_eq!(netlink.link("shunt0-sw").unwrap().unwrap().mtu, 1450);

    node.ip("link del shunt0");
    let lost = node
        .run(|| device.restore_if_lost(&mut netlink))
        .unwrap_err();
    assert!(matches!(lost, HostError::Lost { .. }), "{lost}");
    node.run(|| device.remove(&mut netlink)).unwrap();
    assert!(!node.ip("rule").contains("shunt0"));
    assert!(
        !node
            .command("nft", &["list", "ruleset"])
            .contains("table inet shunt")
    );
}

#[test]
fn links_of_others_are_refused_and_stay() {
    let (node, beyond, mut netlink) = node();
    for (make, unmake, why) in [
        (
            "link add shunt0 type bridge",
            "link del shunt0",
            "kind bridge",
        ),
        (
            "link add shunt0 type veth peer name x",
            "link del shunt0",
            "not called `shunt0-sw`",
        ),
        (
            "link add shunt0-sw type bridge",
            "link del shunt0-sw",
            "no `shunt0`",
        ),
        (
            &format!(
                "link add shunt0 type veth peer name shunt0-sw netns {}",
                beyond.path().display()
            ),
            "link del shunt0",
            "another network namespace",
        ),
    ] {
        node.ip(make);
        let before = everything(&node);
        let refused = node
            .run(|| HostDevice::prepare(&mut netlink, settings()))
            .unwrap_err();
        assert!(
            matches!(refused, HostError::Foreign { .. }),
            "{make}: {refused}"
        );
        let text = refused.to_string();
        assert!(
            text.contains(why) && text.contains("ip link del"),
            "{make}: {text}"
        );
        assert_eq!(everything(&node), before, "{make}");
        node.ip(unmake);
    }
    let before = everything(&node);
    for name in ["", "thirteen-long", "a\"b", "a b", "a*", "all", "..", "ä"] {
        let named = HostSettings {
            device: name.to_owned(),
            ..settings()
        };
        let refused = node
            .run(|| HostDevice::prepare(&mut netlink, named))
            .unwrap_err();
        assert!(
            matches!(refused, HostError::Name { .. }),
            "{name}: {refused}"
        );
    }
    let impossible = HostSettings {
        mac: MacAddr([0; 6]),
        ..settings()
    };
    node.run(|| HostDevice::prepare(&mut netlink, impossible))
        .unwrap_err();
    assert_eq!(everything(&node), before);
}

#[test]
fn another_route_stays_and_the_rest_is_done() {
    let (node, _beyond, mut netlink) = node();
    node.ip("route add 10.244.0.0/16 via 10.9.0.2 proto static");
    let before = everything(&node);
    let mut device = prepare(&node, &mut netlink, settings());
    let error = node
        .run(|| device.apply(&mut netlink, &plan()))
        .unwrap_err();
    assert!(matches!(error, HostError::RouteTaken { .. }), "{error}");
    assert!(error.to_string().contains("10.244.0.0/16"), "{error}");
    assert!(node.ip("route get 10.244.7.7").contains("dev v0"));
    assert!(node.ip("route get 10.244.1.7").contains("dev shunt0"));
    assert_eq!(netlink.rules_of("shunt0", RTPROT_SHUNT).unwrap().len(), 2);
    // When it is gone, ours takes its place.
    node.ip("route del 10.244.0.0/16");
    assert!(node.run(|| device.restore_if_lost(&mut netlink)).unwrap());
    assert!(node.ip("route get 10.244.7.7").contains("dev shunt0"));
    node.ip("route replace 10.244.0.0/16 via 10.9.0.2 proto static");
    node.run(|| device.remove(&mut netlink)).unwrap();
    assert_eq!(everything(&node), before);
}

#[test]
fn one_family_alone() {
    let (node, _beyond, mut netlink) = node();
    let ipv4 = HostSettings {
        address6: None,
        pod_cidrs: vec![net("10.244.1.0/24")],
        cluster_cidrs: Vec::new(),
        masquerade: false,
        ..settings()
    };
    node.command("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=0"]);
    let mut device = prepare(&node, &mut netlink, ipv4);
    let value = |key| node.command("sysctl", &["-n", key]).trim().to_owned();
    assert_eq!(value("net.ipv6.conf.all.forwarding"), "0");
    assert_eq!(value("net.ipv6.conf.shunt0.disable_ipv6"), "1");
    // A plan brings the other; without an address of the node's its routes have no source.
    node.run(|| device.apply(&mut netlink, &plan())).unwrap();
    assert_eq!(value("net.ipv6.conf.all.forwarding"), "1");
    let routes = netlink.routes_of(device.ifindex(), RTPROT_SHUNT).unwrap();
    let ipv6 = routes.iter().find(|route| route.prefix == net("fd44::/16"));
    assert_eq!(ipv6.unwrap().source, None);
    let rules: Vec<Rule> = netlink.rules_of("shunt0", RTPROT_SHUNT).unwrap();
    assert_eq!(rules.len(), 2);
    node.run(|| device.remove(&mut netlink)).unwrap();
}

/// Nothing polls the switch's end: the kernel must not send back what it finds there.
#[test]
fn frames_do_not_circle_while_the_switch_is_away() {
    let (node, beyond, mut netlink) = node();
    let mut device = prepare(&node, &mut netlink, settings());
    node.run(|| device.apply(&mut netlink, &plan())).unwrap();
    beyond.ip("route add 10.244.0.0/16 via 10.9.0.1");
    let sent = || -> u64 {
        let text = node.ip("-j -s link show shunt0");
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        shown[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    };
    // Not even when the frame is for that end's own address.
    let mac = netlink.link("shunt0-sw").unwrap().unwrap().mac.unwrap();
    for gateway in [settings().gateway_mac, mac] {
        node.ip(&format!(
            "neigh replace 169.254.1.1 lladdr {gateway} dev shunt0 nud permanent"
        ));
        for from in [&beyond, &node] {
            let before = sent();
            let socket = from.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            socket.send_to(b"x", "10.244.7.7:9").unwrap();
            let end = std::time::Instant::now() + std::time::Duration::from_millis(500);
            while sent() == before && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(sent() - before, 1, "{gateway}");
        }
    }
}
