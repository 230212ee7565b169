//! What pods get.

use shunt_api::{AttachmentKey, RateLimit, RouteMtu};

use super::*;
use crate::control::attachments::store;

const NETNS: NetnsId = NetnsId {
    device: 4,
    inode: 9,
};
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn spec(addresses: &[&str]) -> PodSpec {
    PodSpec {
        addresses: addresses.iter().map(|text| net(text)).collect(),
        ..store::tests::stored("a").spec
    }
}

fn told(remote: u32) -> Attachment {
    let route = |prefix, mtu| RouteMtu {
        prefix: net(prefix),
        mtu,
    };
    let mut routes = vec![route("0.0.0.0/0", remote), route("::/0", remote)];
    if remote < 1500 {
        routes.insert(1, route("10.244.1.0/24", 1500));
        routes.push(route("fd00:1::/64", 1500));
    }
    Attachment {
        mtu: 1500,
        routes,
        gateways: vec![
            "169.254.1.1".parse().expect("an address"),
            "fe80::1".parse().expect("an address"),
        ],
        gateway_mac: MacAddr([0xee; 6]),
    }
}

fn shown(stored: &Stored) -> Vec<String> {
    let show = |route: &PodRoute| {
        let gw = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
        let mtu = route
            .mtu
            .map(|mtu| format!(" mtu {mtu}"))
            .unwrap_or_default();
        format!("{}{gw}{mtu}", route.dst)
    };
    stored.routes.iter().map(show).collect()
}

fn planned(spec: PodSpec, mode: Mode, remote: u32) -> Stored {
    let cidrs = [net("10.244.1.0/24"), net("fd00:1::/64")];
    stored(spec, NETNS, mode, MAC, &told(remote), &cidrs)
}

#[test]
fn in_l3_mode_pods_have_host_addresses_and_gateways_of_their_families() {
    let v4 = planned(spec(&["10.244.1.7/24"]), Mode::L3, 1500);
    assert_eq!(v4.addresses, [net("10.244.1.7/32")]);
    assert_eq!(v4.gateways.len(), 1);
    assert_eq!(shown(&v4), ["0.0.0.0/0 via 169.254.1.1"]);
    let dual = planned(spec(&["10.244.1.7/24", "fd00:1::7/64"]), Mode::L3, 1450);
    assert_eq!(dual.addresses, [net("10.244.1.7/32"), net("fd00:1::7/128")]);
    assert_eq!(
        shown(&dual),
        [
            "0.0.0.0/0 via 169.254.1.1 mtu 1450",
            "10.244.1.0/24 via 169.254.1.1",
            "::/0 via fe80::1 mtu 1450",
            "fd00:1::/64 via fe80::1"
        ]
    );
    assert_eq!((dual.mac, dual.mtu), (MAC, 1500));
    assert_eq!(dual.netns_id, Some(NETNS));
    let plan = dual.plan(MacAddr([0xee; 6]));
    assert_eq!(plan.host_mac, plan.gateway_mac);
    assert_eq!(plan.routes, dual.routes);
}

#[test]
fn in_l2_mode_the_subnet_is_on_link() {
    let pod = planned(spec(&["10.244.1.7/24"]), Mode::L2, 1450);
    assert_eq!(pod.addresses, [net("10.244.1.7/24")]);
    assert_eq!(shown(&pod), ["0.0.0.0/0 via 169.254.1.1 mtu 1450"]);
}

#[test]
fn routes_that_are_asked_for_go_by_the_gateway() {
    let mut asked = spec(&["10.244.1.7/24"]);
    asked.routes = vec![
        PodRoute::new(net("0.0.0.0/0"), None),
        PodRoute::new(
            net("10.96.0.0/12"),
            Some("10.244.1.1".parse().expect("one")),
        ),
        PodRoute {
            scope: Some(SCOPE_LINK),
            ..PodRoute::new(net("10.9.0.0/16"), None)
        },
        PodRoute {
            mtu: Some(1300),
            ..PodRoute::new(net("10.10.0.0/16"), None)
        },
        PodRoute::new(net("10.244.1.64/28"), None),
    ];
    let l3 = planned(asked.clone(), Mode::L3, 1450);
    assert_eq!(
        shown(&l3),
        [
            "10.244.1.0/24 via 169.254.1.1",
            "0.0.0.0/0 via 169.254.1.1 mtu 1450",
            "10.96.0.0/12 via 169.254.1.1 mtu 1450",
            "10.9.0.0/16",
            "10.10.0.0/16 via 169.254.1.1 mtu 1300",
            "10.244.1.64/28 via 169.254.1.1",
        ]
    );
    let l2 = planned(asked.clone(), Mode::L2, 1500);
    assert_eq!(shown(&l2)[1], "10.96.0.0/12 via 10.244.1.1");
    asked.default_route = false;
    assert_eq!(planned(asked.clone(), Mode::L3, 1450).routes.len(), 5);
    asked.routes.clear();
    assert!(planned(asked, Mode::L3, 1450).routes.is_empty());
}

#[test]
fn a_pod_without_addresses_has_no_routes() {
    let pod = planned(spec(&[]), Mode::L2, 1500);
    assert!(pod.routes.is_empty() && pod.gateways.is_empty());
}

#[test]
fn the_mtu_is_the_least_of_what_counts() {
    assert_eq!(mtu(None, None, u16::MAX), 1500);
    assert_eq!(mtu(None, Some(9000), u16::MAX), 9000);
    assert_eq!(mtu(None, Some(9000), 1800), 1800);
    assert_eq!(mtu(Some(1400), Some(9000), u16::MAX), 1400);
    assert_eq!(mtu(Some(4000), None, 1800), 1800);
}

#[test]
fn made_mac_addresses_are_unicast_and_local_and_not_taken() {
    let mut made = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        let mac = random_mac(|mac| made.contains(&mac));
        assert!(!mac.is_multicast() && mac.0[0] & 2 == 2, "{mac}");
        assert!(made.insert(mac), "{mac} twice");
    }
}

#[test]
fn the_port_is_the_pods() {
    let limit = RateLimit {
        rate: 1_000_000,
        burst: 100_000,
    };
    let mut pod = spec(&["10.244.1.7/24"]);
    pod.ingress = Some(limit);
    let veth = port_spec(&planned(pod.clone(), Mode::L3, 1500));
    assert_eq!(veth.name, pod.key.short_name());
    assert_eq!(veth.device, veth.name);
    assert_eq!((veth.netns, veth.mac), (None, Some(MAC)));
    assert_eq!(
        veth.addresses,
        ["10.244.1.7".parse::<IpAddr>().expect("one")]
    );
    assert_eq!((veth.ingress, veth.egress), (Some(limit), None));
    pod.kind = PortKind::Tap;
    let tap = port_spec(&planned(pod.clone(), Mode::L3, 1500));
    assert_eq!((tap.device.as_str(), tap.netns), ("eth0", Some(pod.netns)));
}

#[test]
fn what_no_attachment_can_be_is_refused_with_all_that_is_wrong() {
    assert!(check(&spec(&["10.244.1.7/24", "fd00:1::7/64"])).is_ok());
    assert!(check(&spec(&[])).is_ok());
    let wrong = PodSpec {
        key: AttachmentKey {
            network: "../etc".into(),
            container_id: String::new(),
            ifname: "a/b".into(),
        },
        netns: "run/netns/pod".into(),
        kind: PortKind::Memory,
        mtu: Some(1000),
        routes: vec![PodRoute::new(net("10.0.0.0/8"), None)],
        ..spec(&["fd00:1::7/64", "fd00:1::7/128"])
    };
    let error = check(&wrong).expect_err("refused");
    assert_eq!(error.code, ErrorCode::Invalid);
    for word in [
        "network \"../etc\"",
        "container id \"\"",
        "ifname \"a/b\"",
        "absolute",
        "kind",
        "fd00:1::7 is there twice",
        "1280",
        "10.0.0.0/8",
    ] {
        assert!(error.message.contains(word), "{word}: {error}");
    }
    let long = PodSpec {
        key: AttachmentKey {
            network: "n".repeat(180),
            container_id: "c".repeat(64),
            ifname: "eth0".into(),
        },
        ..spec(&[])
    };
    assert!(check(&long).is_err());
    for name in ["-a", ".a", "a b", "a/..", "ä"] {
        assert!(!is_identifier(name), "{name}");
    }
}
