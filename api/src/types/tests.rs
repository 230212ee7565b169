//! The protocol's form: other programs speak it too, so it must not change unawares.

use serde_json::json;

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xab]);

fn prefix() -> IpNet {
    "10.244.2.0/24".parse().unwrap()
}

fn port() -> PortSpec {
    PortSpec {
        name: "pod1".to_owned(),
        kind: PortKind::Afxdp,
        device: "veth1".to_owned(),
        ..PortSpec::default()
    }
}

fn guarded() -> PortSpec {
    PortSpec {
        addresses: vec![
            "10.244.1.2".parse().unwrap(),
            "fd00:10:244::2".parse().unwrap(),
        ],
        allowed_addresses: vec!["10.9.0.1/32".parse().unwrap(), "fd09::/64".parse().unwrap()],
        allowed_macs: vec![MacAddr([0, 0, 0x5e, 0, 1, 7])],
        ingress: Some(RateLimit {
            rate: 100_000_000,
            burst: 12_500_000,
        }),
        egress: Some(RateLimit {
            rate: u64::MAX,
            burst: 1,
        }),
        ..port()
    }
}

#[test]
fn mac_addresses_are_read_and_written() {
    assert_eq!("02:00:00:00:00:aB".parse(), Ok(MAC));
    assert_eq!(MAC.to_string(), "02:00:00:00:00:ab");
    for text in [
        "",
        "02",
        "02:00:00:00:00",
        "02:00:00:00:00:ab:cd",
        "02:00:00:00:00:ab:",
        "02-00-00-00-00-ab",
        "2:0:0:0:0:ab",
        "02:00:00:00:00:+b",
        "02:00:00:00:00:0x",
        " 02:00:00:00:00:ab",
        "02:00:00:00:00:é",
    ] {
        let error = text.parse::<MacAddr>().expect_err(text);
        assert!(error.to_string().contains("02:00:00:00:00:01"), "{error}");
    }
    assert!(MacAddr([1, 0, 0, 0, 0, 0]).is_multicast() && MacAddr([0xff; 6]).is_multicast());
    assert!(!MAC.is_multicast() && !MAC.is_zero() && MacAddr::default().is_zero());
    assert!(serde_json::from_str::<MacAddr>("\"02:00\"").is_err());
    assert!(serde_json::from_str::<MacAddr>("2").is_err());
}

#[test]
fn vtep_macs_are_derived_from_the_node() {
    let of = |text: &str| vtep_mac(text.parse().unwrap()).to_string();
    assert_eq!(of("192.168.50.1"), "02:53:c0:a8:32:01");
    assert_eq!(of("fd00::c0a8:3201"), "02:53:c0:a8:32:01");
    assert!(!vtep_mac("255.255.255.255".parse().unwrap()).is_multicast());
}

#[test]
fn requests_have_their_form() {
    let full = PortSpec {
        kind: PortKind::Tap,
        netns: Some("/run/netns/a".into()),
        addresses: vec!["10.244.1.2".parse().unwrap()],
        mac: Some(MAC),
        worker: Some(1),
        rx_frames: Some(64),
        ..port()
    };
    let open = PortSpec {
        unguarded: true,
        ..port()
    };
    let via = "192.168.50.2".parse().unwrap();
    let route = |to| {
        Request::RouteAdd(RouteSpec {
            prefix: prefix(),
            to,
        })
    };
    let node = |encap, vtep_mac| {
        route(RouteTarget::Node {
            via,
            encap,
            vtep_mac,
        })
    };
    for (request, form) in [
        (
            Request::PortAdd(port()),
            json!({"do": "port-add", "name": "pod1", "kind": "afxdp", "device": "veth1"}),
        ),
        (
            Request::PortAdd(full),
            json!({"do": "port-add", "name": "pod1", "kind": "tap", "device": "veth1",
                   "netns": "/run/netns/a", "addresses": ["10.244.1.2"],
                   "mac": "02:00:00:00:00:ab", "worker": 1, "rx_frames": 64}),
        ),
        (
            Request::PortAdd(guarded()),
            json!({"do": "port-add", "name": "pod1", "kind": "afxdp", "device": "veth1",
                   "addresses": ["10.244.1.2", "fd00:10:244::2"],
                   "allowed_addresses": ["10.9.0.1/32", "fd09::/64"],
                   "allowed_macs": ["00:00:5e:00:01:07"],
                   "ingress": {"rate": 100_000_000, "burst": 12_500_000},
                   "egress": {"rate": u64::MAX, "burst": 1}}),
        ),
        (
            Request::PortAdd(open),
            json!({"do": "port-add", "name": "pod1", "kind": "afxdp", "device": "veth1",
                   "unguarded": true}),
        ),
        (
            Request::PortDel {
                name: "pod1".to_owned(),
            },
            json!({"do": "port-del", "name": "pod1"}),
        ),
        (Request::PortList, json!({"do": "port-list"})),
        (
            node(Encap::CrossSubnetVxlan, Some(MAC)),
            json!({"do": "route-add", "prefix": "10.244.2.0/24", "to": {"node":
                   {"via": "192.168.50.2", "encap": "cross-subnet-vxlan",
                    "vtep_mac": "02:00:00:00:00:ab"}}}),
        ),
        (
            node(Encap::Direct, None),
            json!({"do": "route-add", "prefix": "10.244.2.0/24",
                   "to": {"node": {"via": "192.168.50.2", "encap": "direct"}}}),
        ),
        (
            route(RouteTarget::Port("pod1".to_owned())),
            json!({"do": "route-add", "prefix": "10.244.2.0/24", "to": {"port": "pod1"}}),
        ),
        (
            route(RouteTarget::Blackhole),
            json!({"do": "route-add", "prefix": "10.244.2.0/24", "to": "blackhole"}),
        ),
        (
            Request::RouteDel { prefix: prefix() },
            json!({"do": "route-del", "prefix": "10.244.2.0/24"}),
        ),
        (Request::RouteList, json!({"do": "route-list"})),
        (
            Request::RouteGet {
                prefix: prefix(),
                covered: None,
            },
            json!({"do": "route-get", "prefix": "10.244.2.0/24"}),
        ),
        (
            Request::RouteGet {
                prefix: prefix(),
                covered: Some(100),
            },
            json!({"do": "route-get", "prefix": "10.244.2.0/24", "covered": 100}),
        ),
        (Request::FdbList, json!({"do": "fdb-list"})),
        (Request::NeighList, json!({"do": "neigh-list"})),
        (Request::FlowList, json!({"do": "flow-list"})),
        (Request::Stats, json!({"do": "stats"})),
        (Request::Status, json!({"do": "status"})),
    ] {
        assert_eq!(serde_json::to_value(&request).unwrap(), form);
        assert_eq!(serde_json::from_value::<Request>(form).unwrap(), request);
    }
}

#[test]
fn requests_that_are_not_understood_are_refused() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"do":"reboot"}"#,
        r#"{"do":"port-del"}"#,
        r#"{"do":"port-del","name":7}"#,
        r#"{"do":"port-del","name":"a","force":true}"#,
        r#"{"do":"port-add","name":"a","kind":"afxdp"}"#,
        r#"{"do":"port-add","name":"a","kind":"dpdk","device":"v"}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","adress":"10.0.0.1"}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","worker":-1}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","allowed_addresses":["10.0.0.1"]}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","allowed_macs":["02:00"]}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","unguarded":"yes"}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","ingress":1000}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","ingress":{"rate":1000}}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","egress":{"burst":1000}}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","egress":{"rate":-1,"burst":1}}"#,
        r#"{"do":"port-add","name":"a","kind":"tap","device":"v","egress":{"rate":1,"burst":1,"peak":2}}"#,
        r#"{"do":"route-add","prefix":"10.0.0.0","to":"blackhole"}"#,
        r#"{"do":"route-add","prefix":"10.0.0.0/33","to":"blackhole"}"#,
        r#"{"do":"route-add","prefix":"10.0.0.0/8","to":"heaven"}"#,
        r#"{"do":"route-add","prefix":"10.0.0.0/8","to":{"node":{"via":"10.0.0.1"}}}"#,
        r#"{"do":"route-get"}"#,
        r#"{"do":"route-get","prefix":"10.0.0.1"}"#,
        r#"{"do":"route-get","prefix":"10.0.0.0/8","covered":-1}"#,
        r#"{"do":"route-get","prefix":"10.0.0.0/8","limit":1}"#,
    ] {
        assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
    }
}

fn attachment() -> Attachment {
    Attachment {
        mtu: 1500,
        routes: vec![
            RouteMtu {
                prefix: "0.0.0.0/0".parse().unwrap(),
                mtu: 1450,
            },
            RouteMtu {
                prefix: "::/0".parse().unwrap(),
                mtu: 1430,
            },
        ],
        gateways: vec!["169.254.1.1".parse().unwrap(), "fe80::1".parse().unwrap()],
        gateway_mac: MAC,
    }
}

fn flow() -> FlowEntry {
    FlowEntry {
        source: "fd00:10:244::2".parse().unwrap(),
        source_port: 40_000,
        destination: "fd00:10:244::3".parse().unwrap(),
        destination_port: 443,
        protocol: 6,
        state: "established".to_owned(),
        idle: 1,
        expires_in: 86_399,
    }
}

fn status() -> StatusReport {
    StatusReport {
        version: "0.1.0".to_owned(),
        pid: 7,
        mode: "l3".to_owned(),
        node: "192.168.50.1".parse().unwrap(),
        node6: None,
        pod_cidrs: vec![prefix(), "fd00:10:244::/64".parse().unwrap()],
        gateway: "169.254.1.1".parse().unwrap(),
        gateway6: "fe80::1".parse().unwrap(),
        gateway_mac: MAC,
        vtep_mac: MAC,
        cores: vec![1, 2],
        uptime: 60,
        drop_reasons: vec![("no_route".to_owned(), "no route leads there".to_owned())],
    }
}

#[test]
fn what_a_pod_is_told_has_its_form() {
    assert_eq!(
        serde_json::to_value(Reply::Attached(attachment())).unwrap(),
        json!({"is": "attached", "of": {
            "mtu": 1500,
            "routes": [{"prefix": "0.0.0.0/0", "mtu": 1450}, {"prefix": "::/0", "mtu": 1430}],
            "gateways": ["169.254.1.1", "fe80::1"],
            "gateway_mac": "02:00:00:00:00:ab"}})
    );
    assert_eq!(
        serde_json::to_value(Reply::Flows(vec![flow()])).unwrap(),
        json!({"is": "flows", "of": [{
            "source": "fd00:10:244::2", "source_port": 40_000,
            "destination": "fd00:10:244::3", "destination_port": 443,
            "protocol": 6, "state": "established", "idle": 1, "expires_in": 86_399}]})
    );
    assert_eq!(serde_json::to_value(PortRole::Host).unwrap(), "host");
}

#[test]
fn replies_without_the_later_fields_are_understood() {
    let mut stats = serde_json::to_value(StatsReport::default()).unwrap();
    let fields = stats.as_object_mut().unwrap();
    assert!(fields.remove("icmp_sent").is_some() && fields.remove("icmp_limited").is_some());
    let read: StatsReport = serde_json::from_value(stats).unwrap();
    assert_eq!((read.icmp_sent, read.icmp_limited), (0, 0));

    let written = serde_json::to_value(status()).unwrap();
    assert_eq!(written.get("node6"), None, "absent rather than null");
    assert_eq!(
        serde_json::from_value::<StatusReport>(written).unwrap(),
        status()
    );
}

#[test]
fn replies_survive_the_line() {
    let drops = BTreeMap::from([("no_route".to_owned(), u64::MAX)]);
    let route = RouteInfo {
        prefix: prefix(),
        to: Some(RouteTarget::Blackhole),
        origin: "api".to_owned(),
        port: None,
        encap: "-".to_owned(),
        neighbour: None,
        mtu: None,
        state: "reachable".to_owned(),
    };
    let replies = [
        Reply::Done,
        Reply::Attached(attachment()),
        Reply::Flows(vec![flow()]),
        Reply::Ports(vec![PortInfo {
            name: "pod1".to_owned(),
            role: PortRole::Pod,
            kind: PortKind::Memory,
            device: "veth1".to_owned(),
            worker: 0,
            xdp: "native".to_owned(),
            mtu: 1500,
            mac: Some(MAC),
            addresses: vec!["10.244.1.2".parse().unwrap()],
            state: "up\nand \"quoted\"".to_owned(),
        }]),
        Reply::Route(RouteLookup {
            prefix: prefix(),
            route: Some(route.clone()),
            covering: vec![route.clone()],
            covered: None,
        }),
        Reply::Route(RouteLookup {
            prefix: prefix(),
            route: None,
            covering: vec![],
            covered: Some(CoveredRoutes {
                routes: vec![route],
                more: u64::MAX,
            }),
        }),
        Reply::Routes(vec![]),
        Reply::Fdb(vec![FdbEntry {
            mac: MAC,
            port: "pod1".to_owned(),
            age: None,
        }]),
        Reply::Neighbours(vec![NeighbourEntry {
            address: "fd00::1".parse().unwrap(),
            mac: None,
            port: "uplink".to_owned(),
            state: "incomplete".to_owned(),
        }]),
        Reply::Stats(StatsReport {
            received: u64::MAX,
            icmp_sent: 3,
            icmp_limited: u64::MAX,
            ports: vec![PortStats {
                drops: drops.clone(),
                ..PortStats::default()
            }],
            drops,
            ..StatsReport::default()
        }),
        Reply::Status(status()),
        Reply::Status(StatusReport {
            node6: Some("fd77::1".parse().unwrap()),
            ..status()
        }),
        Reply::Error(ApiError {
            code: ErrorCode::NotFound,
            message: "no port".to_owned(),
        }),
    ];
    for reply in replies {
        let line = serde_json::to_string(&reply).unwrap();
        assert!(!line.contains('\n'), "one line: {line}");
        assert_eq!(
            serde_json::from_str::<Reply>(&line).unwrap(),
            reply,
            "{line}"
        );
    }
    assert_eq!(
        serde_json::to_value(Reply::Done).unwrap(),
        json!({"is": "done"})
    );
    let error = Reply::Error(ApiError {
        code: ErrorCode::Exhausted,
        message: "full".to_owned(),
    });
    assert_eq!(
        serde_json::to_value(error).unwrap(),
        json!({"is": "error", "of": {"code": "exhausted", "message": "full"}})
    );
}
