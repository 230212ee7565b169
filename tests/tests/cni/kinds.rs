//! Kinds of ports and modes of the switch.

use anyhow::{Result, ensure};
use serde_json::json;
use shunt_api::PortKind;
use shunt_tests::cni::{CniPod, Options};
use shunt_tests::family::Family;
use shunt_tests::pod::Mode;
use shunt_tests::probe::{must_ping, udp};

use crate::{built, must_lose_eth0, must_reach};

/// `port`: "tap".
#[test]
fn taps() -> Result<()> {
    let options = Options {
        dual: true,
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let veths = node.runtime(node.network());
    let taps = node.runtime(node.network().set("port", "tap"));
    let [a, b] = [CniPod::add(&taps, "a")?, CniPod::add(&taps, "b")?];
    let c = CniPod::add(&veths, "c")?;
    let info = node.pods()?;
    assert_eq!(
        info.iter().filter(|pod| pod.kind == PortKind::Tap).count(),
        2
    );
    let interfaces = a.result["interfaces"].as_array().map(Vec::len);
    assert_eq!(interfaces, Some(1), "{}", a.result);
    assert_eq!(a.result["interfaces"][0]["sandbox"], json!(a.netns.path()));
    for family in Family::ALL {
        for (from, to) in [(&a, &b), (&b, &a), (&a, &c), (&c, &a)] {
            must_ping(&from.netns, to.address_of(family)?, 1, "")?;
            udp(&from.netns, (&to.netns, to.address_of(family)?), &[1, 1400])?;
        }
    }
    taps.check(&a.container)?;
    taps.del(&a.container)?;
    must_lose_eth0(&a.netns)?;
    must_reach(&b, &c)?;
    taps.del(&b.container)?;
    veths.del(&c.container)?;
    node.must_be_clean()
}

/// A MAC address that was asked for, on a TAP.
#[test]
fn a_tap_with_a_mac_address() -> Result<()> {
    let (_testbed, node) = built(&Options::default())?;
    let runtime = node.runtime(node.network().set("port", "tap"));
    let peer = CniPod::add(&runtime, "peer")?;
    let pod = CniPod::add_with(&runtime, "pod", |container| {
        container.offer("mac", "02:11:22:33:44:66")
    })?;
    assert_eq!(pod.mac()?.to_string(), "02:11:22:33:44:66");
    must_reach(&pod, &peer)?;
    runtime.del(&pod.container)?;
    runtime.del(&peer.container)?;
    node.must_be_clean()
}

/// L2 mode: addresses with their subnet, the gateway inside it.
#[test]
fn one_segment() -> Result<()> {
    let options = Options {
        mode: Mode::L2,
        dual: true,
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    for kind in ["veth", "tap"] {
        let runtime = node.runtime(node.network().set("port", kind));
        let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
        for address in a.addresses()? {
            let shown = a.netns.ip("-o address show dev eth0")?;
            let length = if address.addr().is_ipv4() { 24 } else { 64 };
            ensure!(
                shown.contains(&format!("{}/{length}", address.addr())),
                "{shown}"
            );
        }
        let table = a.netns.ip("route show")?;
        ensure!(table.contains("default via 10.244.1.1 dev eth0"), "{table}");
        ensure!(table.contains("10.244.1.0/24 dev eth0"), "{table}");
        assert_eq!(a.result["ips"][0]["gateway"], "10.244.1.1");
        for family in Family::ALL {
            must_ping(&a.netns, b.address_of(family)?, 1, "")?;
            must_ping(&b.netns, a.address_of(family)?, 1, "")?;
        }
        must_ping(&a.netns, std::net::Ipv4Addr::new(10, 244, 1, 1), 1, "")?;
        runtime.check(&a.container)?;
        for pod in [a, b] {
            runtime.del(&pod.container)?;
        }
    }
    node.must_be_clean()
}

/// IPv6 alone.
#[test]
fn ipv6_only() -> Result<()> {
    let options = Options {
        dual: true,
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let six = node.subnets().split_off(1);
    let ipam = shunt_tests::cni::host_local(&six, &node.plugins.lease_dir());
    let runtime = node.runtime(node.network().set("ipam", ipam));
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    assert!(a.address()?.is_ipv6());
    must_reach(&a, &b)?;
    let four = a.netns.ip("-4 -o address show dev eth0")?;
    ensure!(four.is_empty(), "{four}");
    runtime.check(&a.container)?;
    for pod in [a, b] {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}
