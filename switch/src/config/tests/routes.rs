//! Bad routes.

use super::*;

/// A good route by itself.
const TO_NODE: &str = "prefix = '10.244.2.0/24'\nvia = '192.168.50.2'\nencap = 'vxlan'\n";

/// Judges what follows `[[route]]` on a node with an uplink.
#[track_caller]
fn refuse_route(route: &str, key: &str, words: &[&str]) {
    let cluster = "cluster_cidrs = ['10.244.0.0/16']";
    refuse(
        &format!("{NODE}{cluster}\n[uplink]\ndevice = 'eth0'\n[[route]]\n{route}"),
        key,
        words,
    );
}

#[test]
fn refuses_bad_prefixes() {
    for (prefix, words) in [
        ("all", &["IP prefix", "10.244.1.0/24"][..]),
        ("10.244.2.0", &["IP prefix"]),
        ("10.244.2.0/33", &["IP prefix"]),
        ("10.244.2.1/24", &["write 10.244.2.0/24"]),
        (
            "10.9.2.0/24",
            &["outside 10.244.0.0/16", "node.cluster_cidrs"],
        ),
        ("10.244.1.0/24", &["own pod CIDR 10.244.1.0/24"]),
        ("10.244.1.64/26", &["own pod CIDR 10.244.1.0/24"]),
    ] {
        let route = TO_NODE.replace("10.244.2.0/24", prefix);
        refuse_route(&route, "route[1].prefix", words);
    }
    let blackhole = "prefix = 'fe80::/64'\nblackhole = true";
    refuse_route(blackhole, "route[1].prefix", &["unicast"]);
    let none = "via = '192.168.50.2'\nencap = 'vxlan'\n";
    refuse_route(none, "route[1].prefix", &["missing"]);
    let twice = format!("{TO_NODE}[[route]]\nprefix = '10.244.2.0/24'\nblackhole = true");
    refuse_route(&twice, "route[2].prefix", &["10.244.2.0/24", "route[1]"]);
}

#[test]
fn refuses_bad_nodes() {
    for (via, words) in [
        ("x", &["IP address"][..]),
        ("192.168.50.1", &["this node itself"]),
        ("10.244.1.7", &["pod CIDR", "underlay"]),
        ("fd00::2", &["IPv6", "node.address6"]),
        ("255.255.255.255", &["one host"]),
    ] {
        refuse_route(&TO_NODE.replace("192.168.50.2", via), "route[1].via", words);
    }
    refuse_route(
        &TO_NODE.replace("vxlan", "gre"),
        "route[1].encap",
        &["cross-subnet-vxlan"],
    );
    let no_encap = "prefix = '10.244.2.0/24'\nvia = '192.168.50.2'";
    refuse_route(no_encap, "route[1].encap", &["missing", "ipip"]);

    let vtep_mac = format!("{TO_NODE}vtep_mac = '01:00:00:00:00:01'\n");
    refuse_route(&vtep_mac, "route[1].vtep_mac", &["multicast"]);
    let not_vxlan = vtep_mac
        .replace("01:00", "02:00")
        .replace("'vxlan'", "'ipip'");
    refuse_route(&not_vxlan, "route[1].vtep_mac", &["VXLAN"]);

    refuse(
        &format!("{NODE}[[route]]\n{TO_NODE}"),
        "route[1].via",
        &["no uplink", "[uplink]"],
    );
}

#[test]
fn refuses_routes_that_lead_to_no_one_thing() {
    const PREFIX: &str = "prefix = '10.244.2.0/24'\n";
    for (rest, key, words) in [
        ("", "route[1].via", &["exactly one", "blackhole"][..]),
        (
            "blackhole = true\nvia = '1.1.1.1'",
            "route[1].via",
            &["exactly one"],
        ),
        (
            "blackhole = true\nencap = 'ipip'",
            "route[1].encap",
            &["remove it"],
        ),
        (
            "blackhole = true\nvtep_mac = '02:00:00:00:00:01'",
            "route[1].vtep_mac",
            &["remove it"],
        ),
        (
            "blackhole = false",
            "route[1].blackhole",
            &["blackhole = true"],
        ),
        (
            "blackhole = 'yes'",
            "route[1].blackhole",
            &["true or false"],
        ),
        ("port = 7", "route[1].port", &["in quotes"]),
        (
            "port = 'a'",
            "route[1].port",
            &["[[port]]", "shunt route add"],
        ),
    ] {
        refuse_route(&format!("{PREFIX}{rest}"), key, words);
    }
}
