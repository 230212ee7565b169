//! ADD when all goes well: who is asked for what, and in which order.

use std::thread;

use serde_json::json;
use shunt_api::{MacAddr, PodRoute, PortKind, RateLimit, Request};

use super::harness::{NETNS, Node, key};

#[test]
fn the_daemon_is_asked_before_ipam_and_attaches_after_it() {
    let node = Node::new();
    node.call("ADD").run().result();
    assert_eq!(
        node.calls(),
        ["daemon readiness", "ipam ADD c1", "daemon pod-attach"]
    );
    let asked = node.daemon().asked();
    assert_eq!(
        asked[0],
        Request::Readiness {
            key: Some(key("c1"))
        }
    );
}

#[test]
fn the_pod_is_told_whole() {
    let node = Node::new();
    let lease = r#"{"ips": [{"address": "fd00:244:1::5/64", "gateway": "fd00:244:1::1"},
                            {"address": "10.244.1.5/24", "gateway": "10.244.1.1"}]}"#;
    node.ipam_says("ADD", lease);
    let mut conf = node.conf_with("mtu", 1400.into());
    conf["port"] = "tap".into();
    conf["allowedAddresses"] = json!(["10.244.9.0/24"]);
    conf["allowedMacs"] = json!(["00:00:5e:00:01:07"]);
    conf["runtimeConfig"] = json!({
        "mac": "02:42:00:00:00:07",
        "bandwidth": {"IngressRate": 1_000_000, "EgressRate": 2_000_000, "EgressBurst": 800_000},
        "aliases": {"pods": ["web"]},
        "cgroupPath": "/kubepods",
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
    });
    node.call("ADD").conf(&conf).run().result();
    let pod = node.daemon().attached();
    assert_eq!(pod.key, key("c1"));
    assert_eq!(pod.netns.to_str(), Some(NETNS));
    assert_eq!(pod.kind, PortKind::Tap);
    let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        addresses,
        ["10.244.1.5/24", "fd00:244:1::5/64"],
        "IPv4 first"
    );
    assert!(pod.default_route && !pod.unguarded);
    assert_eq!(pod.mac, Some(MacAddr([2, 0x42, 0, 0, 0, 7])));
    assert_eq!(pod.mtu, Some(1400));
    assert_eq!(pod.allowed_addresses.len(), 1);
    assert_eq!(pod.allowed_macs.len(), 1);
    assert_eq!(pod.ingress, Some(RateLimit::with_burst(1_000_000, None)));
    assert_eq!(
        pod.egress,
        Some(RateLimit::with_burst(2_000_000, Some(800_000)))
    );
    assert_eq!(pod.pod.as_deref(), Some("default/web-0"));
}

#[test]
fn the_daemon_is_told_how_to_release_it() {
    let node = Node::new();
    let before = json!({"interfaces": [{"name": "veth7"}]});
    let conf = node.conf_with("prevResult", before);
    node.call("ADD")
        .conf(&conf)
        .with("CNI_ARGS", "A=1")
        .run()
        .result();
    let release = node.daemon().attached().release.expect("it is told");
    let program = std::fs::canonicalize(env!("CARGO_BIN_EXE_shunt-cni")).expect("a path");
    assert_eq!(release.program, program);
    assert!(release.path.ends_with("/bin"), "{}", release.path);
    assert_eq!(release.args, "A=1");
    let config: serde_json::Value = serde_json::from_str(&release.config).expect("JSON");
    assert_eq!(config, node.conf());
}

#[test]
fn ipams_routes_are_passed_on_but_for_the_default_one() {
    let node = Node::new();
    let lease = r#"{"ips": [{"address": "10.244.1.5/24", "gateway": "10.244.1.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"},
                   {"dst": "10.0.0.0/8", "mtu": 1400, "priority": 0},
                   {"dst": "172.16.0.0/12", "gw": "10.244.1.1"},
                   {"dst": "192.168.0.0/16", "gw": "10.244.1.9"},
                   {"dst": "10.9.0.0/16", "scope": 253},
                   {"dst": "fd00::/8"}]}"#;
    node.ipam_says("ADD", lease);
    node.call("ADD").run().result();
    let route = |dst: &str, gw: &str| PodRoute::new(dst.parse().unwrap(), gw.parse().ok());
    let expected = [
        PodRoute {
            mtu: Some(1400),
            ..route("10.0.0.0/8", "")
        },
        route("172.16.0.0/12", "10.244.1.1"),
        route("192.168.0.0/16", "10.244.1.9"),
        PodRoute {
            scope: Some(253),
            ..route("10.9.0.0/16", "")
        },
        route("fd00::/8", ""),
    ];
    assert_eq!(node.daemon().attached().routes, expected);
}

#[test]
fn without_default_gateway_ipams_default_route_stands() {
    let node = Node::new();
    let conf = node.conf_with("isDefaultGateway", false.into());
    node.call("ADD").conf(&conf).run().result();
    let pod = node.daemon().attached();
    assert!(!pod.default_route);
    let default = PodRoute::new("0.0.0.0/0".parse().unwrap(), None);
    assert_eq!(pod.routes, [default]);
}

#[test]
fn twenty_at_once_are_twenty_attachments() {
    let node = Node::new();
    thread::scope(|scope| {
        for number in 0..20 {
            let call = node.call("ADD").of(&format!("c{number}"));
            scope.spawn(move || call.run().result());
        }
    });
    let attached = node
        .calls()
        .iter()
        .filter(|call| *call == "daemon pod-attach")
        .count();
    assert_eq!(attached, 20);
}
