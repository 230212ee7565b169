use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::sys::testing::TestNetns;

fn settings() -> HostSettings {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    HostSettings {
        device: "shunt0".to_owned(),
        mac: shunt_api::MacAddr([2, 0, 0, 0, 0, 0x21]),
        mtu: 1500,
        gateway: [169, 254, 1, 1].into(),
        gateway6: "fe80::1".parse().unwrap(),
        gateway_mac: shunt_api::MacAddr([2, 0, 0, 0, 0, 0x20]),
        address: Some([10, 9, 0, 1].into()),
        address6: Some("fd09::1".parse().unwrap()),
        masquerade: true,
        pod_cidrs: nets(&["10.244.1.0/24", "fd44:1::/64"]),
        cluster_cidrs: nets(&[
            "10.244.0.0/17",
            "10.244.128.0/17",
            "10.244.1.0/24",
            "fd44::/16",
        ]),
        non_masquerade: nets(&["10.50.0.0/16", "fd50::/16"]),
        keep: false,
    }
}

fn nft_list(netns: &TestNetns) -> String {
    netns.command("nft", &["list", "table", "inet", "shunt"])
}

#[test]
fn the_kernel_has_the_table_as_written() {
    let netns = TestNetns::new();
    let mut masquerade = Masquerade::new(Nft::default(), &settings());
    assert!(!netns.run(|| masquerade.is_there()).unwrap());
    let nodes = ["10.9.0.7", "fd09::7", "10.9.0.1"].map(|n| n.parse().unwrap());
    assert!(netns.run(|| masquerade.apply(&nodes, &[])).unwrap());
    assert!(
        !netns.run(|| masquerade.apply(&nodes, &[])).unwrap(),
        "again"
    );
    assert!(netns.run(|| masquerade.is_there()).unwrap());
    let listed = nft_list(&netns);
    let words: Vec<_> = listed.split_whitespace().collect();
    let listed = words.join(" ");
    for wanted in [
        "set cluster4 { type ipv4_addr flags interval elements = { 10.244.0.0/16 } }",
        "set cluster6 { type ipv6_addr flags interval elements = { fd44::/16 } }",
        "set direct4 { type ipv4_addr flags interval elements = { 10.50.0.0/16 } }",
        "set direct6 { type ipv6_addr flags interval elements = { fd50::/16 } }",
        "set nodes4 { type ipv4_addr elements = { 10.9.0.1, 10.9.0.7 } }",
        "set nodes6 { type ipv6_addr elements = { fd09::1, fd09::7 } }",
        "chain from_pod4 { ip daddr @cluster4 return ip daddr @direct4 return \
         ip daddr @nodes4 return ip daddr 224.0.0.0/4 return fib daddr type local return \
         masquerade fully-random }",
        "chain from_pod6 { ip6 daddr @cluster6 return ip6 daddr @direct6 return \
         ip6 daddr @nodes6 return ip6 daddr ff00::/8 return fib daddr type local return \
         masquerade fully-random }",
        "chain postrouting { type nat hook postrouting priority srcnat; policy accept; \
         iifname \"shunt0\" ip saddr @cluster4 jump from_pod4 \
         iifname \"shunt0\" ip6 saddr @cluster6 jump from_pod6 }",
    ] {
        assert!(listed.contains(wanted), "{wanted}\n{listed}");
    }

    // A node less, and nothing twice.
    assert!(netns.run(|| masquerade.apply(&nodes[..1], &[])).unwrap());
    let listed = nft_list(&netns);
    assert!(
        !listed.contains("fd09::7") && listed.contains("10.9.0.7"),
        "{listed}"
    );
    assert_eq!(listed.matches("jump").count(), 2, "{listed}");

    // Someone else empties it.
    netns.command("nft", &["flush", "chain", "inet", "shunt", "postrouting"]);
    assert!(!netns.run(|| masquerade.is_there()).unwrap());

    netns.command("nft", &["add", "table", "inet", "other"]);
    netns.run(|| masquerade.remove()).unwrap();
    netns.run(|| masquerade.remove()).unwrap();
    assert_eq!(
        netns.command("nft", &["list", "ruleset"]).trim(),
        "table inet other {\n}"
    );
}

#[test]
fn no_prefixes_and_thousands_of_nodes_load() {
    let netns = TestNetns::new();
    let mut plain = settings();
    (plain.address, plain.address6) = (None, None);
    plain.pod_cidrs.clear();
    plain.cluster_cidrs.clear();
    plain.non_masquerade.clear();
    let mut masquerade = Masquerade::new(Nft::default(), &plain);
    netns.run(|| masquerade.apply(&[], &[])).unwrap();
    assert!(!nft_list(&netns).contains("elements"));
    let nodes: Vec<IpAddr> = (0..5000u32)
        .map(|n| IpAddr::V4((0x0a09_0000 + n).into()))
        .collect();
    netns.run(|| masquerade.apply(&nodes, &[])).unwrap();
    assert_eq!(nft_list(&netns).matches("10.9.").count(), 5000);
}

#[test]
fn what_nft_cannot_do_is_explained() {
    let netns = TestNetns::new();
    let directory = tempfile::tempdir().unwrap();
    let program = |name: &str, script: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Nft {
            programs: vec![path],
            limit: Duration::from_millis(300),
        }
    };
    let missing = Nft {
        programs: vec![directory.path().join("absent")],
        limit: LIMIT,
    };
    let error = remove(&missing).unwrap_err();
    assert!(matches!(error, HostError::NftMissing), "{error}");
    assert!(
        error.to_string().contains("host.masquerade = false"),
        "{error}"
    );

    let start = Instant::now();
    let hanging = program("hanging", "exec sleep 20");
    // More than a pipe holds, which this program never reads.
    let error = hanging.load(&"x".repeat(1 << 20)).unwrap_err();
    assert!(matches!(error, HostError::NftTimeout { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));

    let error = program("failing", "echo no such thing >&2; exit 1")
        .load(REMOVE)
        .unwrap_err();
    assert!(error.to_string().contains("no such thing"), "{error}");

    let error = netns.run(|| Nft::default().load("nonsense\n")).unwrap_err();
    assert!(error.to_string().contains("syntax error"), "{error}");
}

/// Sends from `from` to `to` and back; where `to` saw it come from.
fn seen(from: &UdpSocket, to: &UdpSocket, address: &str) -> SocketAddr {
    let port = to.local_addr().unwrap().port();
    let address: IpAddr = address.parse().unwrap();
    from.send_to(b"ping", (address, port)).unwrap();
    let mut buffer = [0; 16];
    let (_, source) = to.recv_from(&mut buffer).expect("a packet from the pod");
    to.send_to(b"pong", source).unwrap();
    let (_, answered) = from.recv_from(&mut buffer).expect("the answer");
    assert_eq!(answered, SocketAddr::new(address, port));
    source
}

#[test]
fn the_outside_sees_the_node_and_the_rest_sees_the_pod() {
    // pod 10.244.1.2 - shunt0 node 10.9.0.1 - 10.9.0.2 outside, with all its other addresses.
    let (node, outside) = TestNetns::veth_pair();
    let pod = TestNetns::new();
    node.ip(&format!(
        "link add shunt0 type veth peer name eth0 netns {}",
        pod.path().display()
    ));
    for (netns, link) in [
        (&node, "v0"),
        (&node, "shunt0"),
        (&pod, "eth0"),
        (&outside, "v1"),
    ] {
        netns.command(
            "sysctl",
            &["-qw", &format!("net.ipv6.conf.{link}.disable_ipv6=0")],
        );
        netns.ip(&format!("link set {link} up"));
    }
    node.command(
        "sysctl",
        &[
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        ],
    );
    for words in [
        "addr add fd09::1/64 dev v0 nodad",
        "addr add 10.244.1.1/24 dev shunt0",
        "addr add fd44:1::1/64 dev shunt0 nodad",
    ] {
        node.ip(words);
    }
    for words in [
        "addr add 10.244.1.2/24 dev eth0",
        "addr add fd44:1::2/64 dev eth0 nodad",
        "route add default via 10.244.1.1",
        "-6 route add default via fd44:1::1",
    ] {
        pod.ip(words);
    }
    for words in [
        "addr add fd09::2/64 dev v1 nodad",
        "route add 10.244.0.0/16 via 10.9.0.1",
        "-6 route add fd44::/16 via fd09::1",
    ] {
        outside.ip(words);
    }
    for extra in ["10.50.0.2", "10.9.0.7", "10.244.9.9", "192.0.2.2"] {
        outside.ip(&format!("addr add {extra}/32 dev v1"));
        node.ip(&format!("route replace {extra} via 10.9.0.2"));
    }
    for extra in ["fd50::2", "fd09::7", "fd44:9::9", "2001:db8::2"] {
        outside.ip(&format!("addr add {extra}/128 dev v1 nodad"));
        node.ip(&format!("-6 route replace {extra} via fd09::2"));
    }
    let mut masquerade = Masquerade::new(Nft::default(), &settings());
    let nodes = ["10.9.0.7", "fd09::7"].map(|n| n.parse().unwrap());
    node.run(|| masquerade.apply(&nodes, &[])).unwrap();

    let socket = |netns: &TestNetns, address: &str| {
        let socket = netns.run(|| UdpSocket::bind((address.parse::<IpAddr>().unwrap(), 0)));
        let socket = socket.unwrap_or_else(|error| panic!("{address}: {error}"));
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
    };
    for (own, nodes_own, outsiders, insiders) in [
        (
            "10.244.1.2",
            "10.9.0.1",
            ["192.0.2.2", "10.9.0.2"],
            ["10.50.0.2", "10.9.0.7", "10.244.9.9"],
        ),
        (
            "fd44:1::2",
            "fd09::1",
            ["2001:db8::2", "fd09::2"],
            ["fd50::2", "fd09::7", "fd44:9::9"],
        ),
    ] {
        let (own_address, node_address): (IpAddr, IpAddr) =
            (own.parse().unwrap(), nodes_own.parse().unwrap());
        let mut ports_kept = 0;
        for to in outsiders.iter().cycle().take(6) {
            let from = socket(&pod, own);
            let source = seen(&from, &socket(&outside, to), to);
            assert_eq!(source.ip(), node_address, "{own} to {to}");
            ports_kept += u8::from(source.port() == from.local_addr().unwrap().port());
        }
        assert!(ports_kept < 3, "source ports are chosen at random");
        for to in insiders {
            let from = socket(&pod, own);
            let source = seen(&from, &socket(&outside, to), to);
            assert_eq!(source, from.local_addr().unwrap(), "{own} to {to}");
        }
        let from = socket(&pod, own);
        let source = seen(&from, &socket(&node, nodes_own), nodes_own);
        assert_eq!(source.ip(), own_address, "to the node");
        // The node to the pod, and the outside to the pod.
        let to_pod = socket(&pod, own);
        for netns in [&node, &outside] {
            let from = socket(
                netns,
                if own_address.is_ipv6() {
                    "::"
                } else {
                    "0.0.0.0"
                },
            );
            let source = seen(&from, &to_pod, own);
            assert_ne!(source.ip(), node_address, "no masquerade towards pods");
        }
    }
}
