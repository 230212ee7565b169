//! Tables as people see them.

use std::collections::{BTreeMap, HashMap};

use shunt_api::{AttachmentKey, CoveredRoutes, Encap, MacAddr, PortStats, RouteMtu, StatsReport};

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// The table's cells by line, columns being set apart by two spaces or more.
fn cells(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect()
}

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[test]
fn lists_pods() {
    assert!(pods(&[]).contains("shunt-cni"));
    let pod = PodInfo {
        key: AttachmentKey {
            network: "pods".to_owned(),
            container_id: "0123456789abcdef".to_owned(),
            ifname: "eth0".to_owned(),
        },
        netns: "/run/netns/a".into(),
        kind: PortKind::Afxdp,
        port: "sh0123456789abc".to_owned(),
        host_mac: Some(MAC),
        mac: MAC,
        mtu: 1500,
        addresses: vec!["10.244.1.2/32".parse().unwrap()],
        gateways: vec![],
        routes: vec![],
        pod: Some("default/web-0".to_owned()),
        state: "up".to_owned(),
    };
    let nameless = PodInfo {
        addresses: vec![],
        pod: None,
        state: "gone: being released".to_owned(),
        ..pod.clone()
    };
    let text = pods(&[pod, nameless]);
    let mac = MAC.to_string();
    let port = "sh0123456789abc";
    let shown = |pod, addresses, state| {
        [
            "pods",
            "0123456789ab",
            "eth0",
            pod,
            port,
            addresses,
            mac.as_str(),
            state,
        ]
        .to_vec()
    };
    assert_eq!(
        cells(&text)[1..],
        [
            shown("default/web-0", "10.244.1.2/32", "up"),
            shown("-", "-", "gone: being released"),
        ]
    );
}

#[test]
fn lists_ports() {
    let uplink = PortInfo {
        name: "uplink".to_owned(),
        role: PortRole::Uplink,
        kind: PortKind::Afxdp,
        device: "eth0".to_owned(),
        worker: 0,
        xdp: "native".to_owned(),
        mtu: 1500,
        mac: None,
        addresses: vec![],
        state: "up".to_owned(),
    };
    let pod = PortInfo {
        name: "pod1".to_owned(),
        role: PortRole::Pod,
        kind: PortKind::Tap,
        device: "tap1".to_owned(),
        xdp: "-".to_owned(),
        mac: Some(MAC),
        addresses: vec!["10.244.1.2".parse().unwrap(), "10.244.1.3".parse().unwrap()],
        state: "device is down".to_owned(),
        ..uplink.clone()
    };
    let host = PortInfo {
        name: "host".to_owned(),
        role: PortRole::Host,
        device: "shunt0".to_owned(),
        addresses: vec!["fd00:50::1".parse().unwrap()],
        ..uplink.clone()
    };
    let text = ports(&[uplink, pod, host]);
    let cells = cells(&text);
    assert_eq!(cells.len(), 4, "{text}");
    assert_eq!(cells[3][..4], ["host", "host", "afxdp", "shunt0"]);
    assert_eq!(cells[3][8], "fd00:50::1");
    assert_eq!(cells[0][..4], ["NAME", "ROLE", "KIND", "DEVICE"]);
    assert_eq!(
        cells[1],
        [
            "uplink", "uplink", "afxdp", "eth0", "0", "native", "1500", "-", "-", "up"
        ]
    );
    assert_eq!(
        cells[2][7..],
        [
            "02:00:00:00:00:01",
            "10.244.1.2, 10.244.1.3",
            "device is down"
        ]
    );
    assert!(text.lines().all(|line| line == line.trim()), "{text:?}");
}

#[test]
fn tells_what_a_pod_has_to_know() {
    let route = |prefix: &str, mtu| RouteMtu {
        prefix: prefix.parse().unwrap(),
        mtu,
    };
    let told = Attachment {
        mtu: 1500,
        routes: vec![route("0.0.0.0/0", 1450), route("::/0", 1430)],
        gateways: vec!["169.254.1.1".parse().unwrap(), "fe80::1".parse().unwrap()],
        gateway_mac: MAC,
    };
    let text = attachment(&told);
    assert_eq!(
        cells(&text),
        [
            ["MTU", "1500"],
            ["route", "0.0.0.0/0 mtu 1450"],
            ["route", "::/0 mtu 1430"],
            ["gateway", "169.254.1.1 at 02:00:00:00:00:01"],
            ["gateway", "fe80::1 at 02:00:00:00:00:01"],
        ],
        "{text}"
    );
}

#[test]
fn lists_flows() {
    let tcp = FlowEntry {
        source: "fd00:10:244:1::2".parse().unwrap(),
        source_port: 40_000,
        destination: "fd00:10:244:1::3".parse().unwrap(),
        destination_port: 443,
        protocol: 6,
        state: "established".to_owned(),
        idle: 7,
        expires_in: 86_393,
    };
    let ping = FlowEntry {
        source: "10.244.1.2".parse().unwrap(),
        source_port: 0,
        destination: "10.244.1.3".parse().unwrap(),
        destination_port: 0,
        protocol: 1,
        state: "other".to_owned(),
        ..tcp.clone()
    };
    let odd = FlowEntry {
        protocol: 253,
        destination_port: 8080,
        ..ping.clone()
    };
    let text = flows(&[tcp, ping, odd]);
    let cells = cells(&text);
    assert_eq!(
        cells[1],
        [
            "tcp",
            "[fd00:10:244:1::2]:40000",
            "[fd00:10:244:1::3]:443",
            "established",
            "7 s",
            "86393 s"
        ]
    );
    assert_eq!(cells[2][..4], ["icmp", "10.244.1.2", "10.244.1.3", "other"]);
    assert_eq!(cells[3][..3], ["253", "10.244.1.2", "10.244.1.3:8080"]);
    for (number, name) in [(17, "udp"), (58, "ipv6-icmp"), (132, "sctp")] {
        assert_eq!(protocol(number), name);
    }
}

#[test]
fn lists_routes() {
    let node = RouteInfo {
        prefix: "10.244.2.0/24".parse().unwrap(),
        to: Some(RouteTarget::Node {
            via: "192.168.50.2".parse().unwrap(),
            encap: Encap::Vxlan,
            vtep_mac: None,
        }),
        origin: "api".to_owned(),
        port: Some("uplink".to_owned()),
        encap: "vxlan".to_owned(),
        neighbour: Some(MAC),
        mtu: Some(1450),
        state: "reachable".to_owned(),
    };
    let bare = |to| RouteInfo {
        to,
        port: None,
        neighbour: None,
        mtu: None,
        ..node.clone()
    };
    let text = routes(&[
        node.clone(),
        bare(Some(RouteTarget::Port("pod1".to_owned()))),
        bare(Some(RouteTarget::Blackhole)),
        bare(None),
    ]);
    let cells = cells(&text);
    assert_eq!(
        cells[1],
        [
            "10.244.2.0/24",
            "node 192.168.50.2",
            "vxlan",
            "uplink",
            "02:00:00:00:00:01",
            "1450",
            "api",
            "reachable"
        ]
    );
    assert_eq!(cells[2][1], "port pod1");
    assert_eq!(cells[3][1..6], ["blackhole", "vxlan", "-", "-", "-"]);
    assert_eq!(cells[4][1], "-");
}

#[test]
fn a_route_is_shown_with_those_around_and_inside() {
    let info = |prefix: &str| RouteInfo {
        prefix: prefix.parse().unwrap(),
        to: Some(RouteTarget::Blackhole),
        origin: "api".to_owned(),
        port: None,
        encap: "blackhole".to_owned(),
        neighbour: None,
        mtu: None,
        state: "reachable".to_owned(),
    };
    let bare = RouteLookup {
        prefix: "10.244.0.0/16".parse().unwrap(),
        route: Some(info("10.244.0.0/16")),
        covering: vec![],
        covered: None,
    };
    assert_eq!(route(&bare), routes(&[info("10.244.0.0/16")]));

    let inside = |prefixes: &[&str], more| {
        let routes = prefixes.iter().map(|prefix| info(prefix)).collect();
        Some(CoveredRoutes { routes, more })
    };
    let full = RouteLookup {
        covering: vec![info("10.0.0.0/8"), info("0.0.0.0/0")],
        covered: inside(&["10.244.1.0/24", "10.244.1.7/32"], 3),
        ..bare.clone()
    };
    let text = route(&full);
    let firsts: Vec<_> = cells(&text)
        .into_iter()
        .map(|row| row.first().copied().unwrap_or_default())
        .collect();
    assert_eq!(
        firsts,
        [
            "PREFIX",
            "10.244.0.0/16",
            "",
            "also covered by:",
            "PREFIX",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "",
            "inside 10.244.0.0/16:",
            "PREFIX",
            "10.244.1.0/24",
            "10.244.1.7/32",
            "3 more: raise --limit to see them"
        ],
        "{text}"
    );

    let ending = |covered| {
        let found = RouteLookup {
            covered,
            ..bare.clone()
        };
        route(&found).lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(ending(inside(&[], 0)), "no routes inside 10.244.0.0/16");
    let hidden = "inside 10.244.0.0/16: 3 more: raise --limit to see them";
    assert_eq!(ending(inside(&[], 3)), hidden);
    let complete = ending(inside(&["10.244.1.0/24"], 0));
    assert!(complete.starts_with("10.244.1.0/24"), "{complete}");

    let uncovered = RouteLookup {
        route: None,
        covered: inside(&["10.244.1.0/24"], 0),
        ..bare
    };
    let text = route(&uncovered);
    assert!(
        text.starts_with("no route covers all of 10.244.0.0/16\n"),
        "{text}"
    );
}

#[test]
fn lists_stations_and_neighbours() {
    let station = |age| FdbEntry {
        mac: MAC,
        port: "pod1".to_owned(),
        age,
    };
    let text = fdb(&[station(Some(7)), station(None)]);
    assert_eq!(cells(&text)[1], ["02:00:00:00:00:01", "pod1", "7 s ago"]);
    assert_eq!(cells(&text)[2][2], "static");

    let neighbour = NeighbourEntry {
        address: "192.168.50.2".parse().unwrap(),
        mac: None,
        port: "uplink".to_owned(),
        state: "incomplete".to_owned(),
    };
    let text = neighbours(&[neighbour]);
    assert_eq!(
        cells(&text)[1],
        ["192.168.50.2", "-", "uplink", "incomplete"]
    );
}

#[test]
fn empty_lists_say_what_to_do() {
    assert!(ports(&[]).contains("shunt port add"));
    assert!(routes(&[]).contains("shunt route add"));
    assert!(fdb(&[]).contains("l2 mode"));
    assert!(neighbours(&[]).contains("ports and routes"));
    assert!(flows(&[]).contains("services"));
}

fn report() -> StatsReport {
    let port = PortStats {
        name: "pod1".to_owned(),
        rx_packets: 100,
        rx_bytes: 6400,
        tx_packets: 40,
        tx_bytes: 2560,
        drops: counts(&[("no_route", 7), ("bad_arp", 0)]),
        kernel: counts(&[("rx_dropped", 3), ("rx_invalid_descs", 0)]),
    };
    StatsReport {
        received: 100,
        generated: 2,
        icmp_sent: 1,
        icmp_limited: 4,
        flows_refused: 5,
        transmitted: 90,
        consumed: 1,
        in_flight: 2,
        drops: counts(&[("bad_arp", 2), ("no_route", 7)]),
        ports: vec![port],
        pool_free: 1000,
        pool_total: 4096,
    }
}

#[test]
fn stats_show_the_balance_and_explain_drops() {
    let meanings = HashMap::from([("no_route".to_owned(), "no route to it".to_owned())]);
    let text = stats(&report(), &meanings);
    assert!(text.contains("100 + 2 = 90 + 9 + 1 + 2"), "{text}");
    assert!(text.contains("consumed + in flight: balanced"), "{text}");
    let cells = cells(&text);
    let row = |name: &str| {
        let found = cells.iter().find(|row| row.first() == Some(&name));
        found.unwrap_or_else(|| panic!("no {name}: {text}"))
    };
    assert_eq!(row("dropped")[1], "9");
    assert_eq!(row("ICMP errors")[1], "1");
    assert_eq!(row("ICMP limited")[1], "4");
    assert_eq!(
        *row("no_route"),
        ["no_route", "7", "pod1 7", "no route to it"]
    );
    assert_eq!(*row("bad_arp"), ["bad_arp", "2", "-", "-"]);
    assert_eq!(
        *row("pod1"),
        ["pod1", "100", "6400", "40", "2560", "7", "rx_dropped 3"]
    );
    let place = |word: &str| text.find(word).unwrap();
    assert!(
        place("no_route ") < place("bad_arp "),
        "the most frequent first: {text}"
    );
}

#[test]
fn stats_do_not_hide_an_imbalance() {
    let lost = StatsReport {
        received: 105,
        ..report()
    };
    assert!(stats(&lost, &HashMap::new()).contains("off by 5"));
    let absurd = StatsReport {
        received: u64::MAX,
        generated: u64::MAX,
        drops: counts(&[("a", u64::MAX), ("b", u64::MAX)]),
        ..report()
    };
    assert!(stats(&absurd, &HashMap::new()).contains("18446744073709551615"));
    let idle = stats(&StatsReport::default(), &HashMap::new());
    assert!(
        idle.contains("0 + 0 = 0 + 0 + 0 + 0") && idle.contains("no drops"),
        "{idle}"
    );
}

#[test]
fn status_names_what_runs() {
    let report = StatusReport {
        version: "0.1.0".to_owned(),
        pid: 42,
        mode: "l3".to_owned(),
        node: "192.168.50.1".parse().unwrap(),
        node6: Some("fd00:50::1".parse().unwrap()),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        gateway: "169.254.1.1".parse().unwrap(),
        gateway6: "fe80::1".parse().unwrap(),
        gateway_mac: MAC,
        vtep_mac: MAC,
        cores: vec![1, 3],
        uptime: 3_725,
        drop_reasons: vec![],
    };
    let text = status(&report);
    let cells = cells(&text);
    for row in [
        ["process", "42"],
        ["up", "1 h 2 min 5 s"],
        ["pod CIDRs", "10.244.1.0/24"],
        ["gateway", "169.254.1.1 at 02:00:00:00:00:01"],
        ["node IPv6", "fd00:50::1"],
        ["gateway IPv6", "fe80::1"],
        ["workers on cores", "1, 3"],
    ] {
        assert!(cells.iter().any(|cells| *cells == row), "{row:?}: {text}");
    }
}

#[test]
fn durations_begin_with_what_is_not_zero() {
    for (seconds, text) in [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3600, "1 h 0 min 0 s"),
        (90_061, "1 d 1 h 1 min 1 s"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}
