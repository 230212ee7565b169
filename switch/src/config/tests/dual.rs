//! Both address families.

use shunt_api::{Encap, RouteTarget};

use super::*;

const UPLINK: &str = "[uplink]\ndevice = 'eth0'\n";

#[test]
fn a_node_has_one_address_or_one_of_each_family() {
    assert_eq!(
        accept(DUAL)
            .node
            .address6
            .map(|it| it.to_string())
            .as_deref(),
        Some("fd00:50::1")
    );
    let only6 = accept("[node]\naddress = 'fd00:50::1'\npod_cidrs = ['fd00:1::/64']\n");
    assert_eq!(only6.node.address.to_string(), "fd00:50::1");
    assert_eq!(only6.vxlan.vtep_mac.to_string(), "02:53:00:00:00:01");
    accept("[node]\naddress = 'fd00:50::1'\npod_cidrs = ['10.244.1.0/24']\n");

    for (address, words) in [
        ("ff02::1", &["ff02::1", "one host"][..]),
        ("::1", &["one host"]),
        ("fe80::5", &["link-local", "fd00:50::1"]),
        ("::ffff:192.168.50.1", &["one host"]),
        ("fd00:10:244:1::5", &["pod CIDR fd00:10:244:1::/64"]),
    ] {
        let as_second = DUAL.replace("fd00:50::1", address);
        refuse(&as_second, "node.address6", words);
        let as_first = as_second
            .replace("address = '192.168.50.1'\n", "")
            .replace("address6", "address");
        refuse(&as_first, "node.address", words);
    }
    let v4 = DUAL.replace("fd00:50::1", "192.168.50.2");
    refuse(&v4, "node.address6", &["192.168.50.2", "an IPv6 address"]);
    let twice = DUAL.replace("192.168.50.1", "fd00:50::2");
    refuse(
        &twice,
        "node.address6",
        &["IPv6 already", "remove fd00:50::1"],
    );
}

#[test]
fn cidrs_are_judged_within_their_family() {
    let with = |pods: &str, cluster: &str| {
        format!(
            "[node]\naddress = '192.168.50.1'\npod_cidrs = [{pods}]\ncluster_cidrs = [{cluster}]\n"
        )
    };
    accept(&with("'0.0.0.0/1', '::/3'", "'0.0.0.0/0', '::/0'"));
    accept(&with("'fd00:1::/64', 'fd00:2::/64', '10.0.0.0/8'", ""));
    for (pods, cluster, words) in [
        (
            "'fd00:1::/48', 'fd00:1:0:5::/64'",
            "",
            &["fd00:1:0:5::/64 overlaps fd00:1::/48"][..],
        ),
        ("'fd00:1::7/64'", "", &["write fd00:1::/64"]),
        ("'fe80::/64'", "", &["unicast"]),
        ("'ff00::/8'", "", &["unicast"]),
        (
            "'fd00:1::/64'",
            "'10.0.0.0/8', 'fd00:2::/32'",
            &["outside 10.0.0.0/8, fd00:2::/32"],
        ),
        (
            "'10.0.1.0/24', 'fd00:1::/64'",
            "'10.0.0.0/8'",
            &["fd00:1::/64 lies outside", "extend node.cluster_cidrs"],
        ),
    ] {
        refuse(&with(pods, cluster), "node.pod_cidrs", words);
    }
    let cluster = with("'fd00:1::/64'", "'fd00::/15', 'fd00::1/16'");
    refuse(&cluster, "node.cluster_cidrs", &["write fd00::/16"]);
}

#[test]
fn the_ipv6_gateway_is_link_local() {
    let config = accept(&format!("{NODE}[gateway]\naddress6 = 'fe80::ee'\n"));
    assert_eq!(config.gateway.address6.to_string(), "fe80::ee");
    refuse_after_node(&[
        Bad(
            "[gateway]\naddress6 = 'fd00::1'",
            "gateway.address6",
            &["fd00::1 is not link-local", "fe80::1"],
        ),
        Bad(
            "[gateway]\naddress6 = '169.254.1.1'",
            "gateway.address6",
            &["an IPv6 address"],
        ),
        Bad(
            "[gateway]\naddress = 'fe80::1'",
            "gateway.address",
            &["an IPv4 address", "169.254.1.1"],
        ),
    ]);
}

#[test]
fn routes_of_both_families() {
    let base = format!("{DUAL}{UPLINK}");
    let route = |prefix: &str, via: &str, encap: &str| {
        format!("{base}[[route]]\nprefix = '{prefix}'\nvia = '{via}'\nencap = '{encap}'\n")
    };
    for (prefix, via, encap) in [
        ("fd00:10:244:2::/64", "fd00:50::2", "direct"),
        ("fd00:10:244:2::/64", "fd00:50::2", "cross-subnet-ipip"),
        ("fd00:10:244:2::/64", "192.168.50.2", "vxlan"),
        ("fd00:10:244:2::/64", "192.168.50.2", "ipip"),
        ("10.244.2.0/24", "fd00:50::2", "vxlan"),
        ("10.244.2.0/24", "fd00:50::2", "ipip"),
        // Addresses that another node has besides.
        ("203.0.113.2/32", "192.168.50.2", "direct"),
        ("2001:db8::2/128", "192.168.50.2", "vxlan"),
        ("192.168.50.2/32", "192.168.50.2", "ipip"),
    ] {
        let config = accept(&route(prefix, via, encap));
        assert_eq!(config.route[0].prefix.to_string(), prefix);
        let RouteTarget::Node { via: read, .. } = &config.route[0].to else {
            panic!("{config:?}");
        };
        assert_eq!(read.to_string(), via);
    }
    for (prefix, via, encap, field, words) in [
        (
            "fd00:10:244:2::1/64",
            "fd00:50::2",
            "vxlan",
            "prefix",
            &["write fd00:10:244:2::/64"][..],
        ),
        (
            "fd00:10:244:1:1::/80",
            "fd00:50::2",
            "vxlan",
            "prefix",
            &["own pod CIDR fd00:10:244:1::/64"],
        ),
        (
            "fd00:10:245::/64",
            "fd00:50::2",
            "vxlan",
            "prefix",
            &["outside", "fd00:10:244::/48", "node.cluster_cidrs"],
        ),
        (
            "203.0.113.0/31",
            "192.168.50.2",
            "vxlan",
            "prefix",
            &["outside"],
        ),
        (
            "192.168.50.1/32",
            "192.168.50.2",
            "vxlan",
            "prefix",
            &["this node itself (node.address)"],
        ),
        (
            "fd00:50::1/128",
            "192.168.50.2",
            "vxlan",
            "prefix",
            &["this node itself (node.address6)"],
        ),
        (
            "fd00:10:244:2::/64",
            "fd00:50::1",
            "vxlan",
            "via",
            &["this node itself (node.address6)"],
        ),
        (
            "fd00:10:244:2::/64",
            "fe80::2",
            "vxlan",
            "via",
            &["fe80::2", "link-local"],
        ),
        (
            "fd00:10:244:2::/64",
            "fd00:10:244:1::2",
            "vxlan",
            "via",
            &["pod CIDR", "underlay"],
        ),
        (
            "fd00:10:244:2::/64",
            "192.168.50.2",
            "direct",
            "encap",
            &["direct", "IPv6 address", "vxlan or ipip"],
        ),
        (
            "10.244.2.0/24",
            "fd00:50::2",
            "direct",
            "encap",
            &["IPv4 address", "vxlan or ipip"],
        ),
        (
            "10.244.2.0/24",
            "fd00:50::2",
            "cross-subnet-vxlan",
            "encap",
            &["cross-subnet-vxlan", "use vxlan"],
        ),
        (
            "fd00:10:244:2::/64",
            "192.168.50.2",
            "cross-subnet-ipip",
            "encap",
            &["use ipip"],
        ),
    ] {
        refuse(
            &route(prefix, via, encap),
            &format!("route[1].{field}"),
            words,
        );
    }
    let blackhole = accept(&format!(
        "{base}[[route]]\nprefix = '::/0'\nblackhole = true\n"
    ));
    assert_eq!(blackhole.route[0].to, RouteTarget::Blackhole);
}

#[test]
fn a_remote_node_is_reached_by_a_family_that_this_one_has() {
    let to = |node: &str, via: &str| {
        format!(
            "[node]\naddress = '{node}'\npod_cidrs = ['10.244.1.0/24']\n{UPLINK}\
             [[route]]\nprefix = '10.244.2.0/24'\nvia = '{via}'\nencap = 'vxlan'\n"
        )
    };
    let config = accept(&to("fd00:50::1", "fd00:50::2"));
    let RouteTarget::Node { encap, .. } = config.route[0].to else {
        panic!("{config:?}");
    };
    assert_eq!(encap, Encap::Vxlan);
    refuse(
        &to("192.168.50.1", "fd00:50::2"),
        "route[1].via",
        &["fd00:50::2", "no IPv6 address", "add", "node.address6"],
    );
    refuse(
        &to("fd00:50::1", "192.168.50.2"),
        "route[1].via",
        &[
            "192.168.50.2",
            "no IPv4 address",
            "fd00:50::1 as node.address6",
        ],
    );
}

#[test]
fn pods_have_addresses_of_both_families() {
    let pod = |mode: &str, address: &str| {
        format!(
            "mode = '{mode}'\n{DUAL}[[port]]\nname = 'a'\ndevice = 'va'\naddresses = ['{address}']\n"
        )
    };
    for (mode, address) in [
        ("l3", "fd00:10:244:1::"),
        ("l3", "fd00:10:244:1::2"),
        ("l2", "fd00:10:244:1:ffff:ffff:ffff:ffff"),
    ] {
        let config = accept(&pod(mode, address));
        assert_eq!(config.port[0].addresses[0].to_string(), address);
    }
    let key = "port[1].addresses";
    refuse(&pod("l3", "fd00:10:244:2::2"), key, &["fd00:10:244:1::/64"]);
    refuse(&pod("l3", "fe80::2"), key, &["outside"]);
    refuse(&pod("l2", "fd00:10:244:1::"), key, &["anycast"]);
}
