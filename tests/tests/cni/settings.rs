//! Checklist: "runtimeConfig, keys case-insensitive", and what a network's configuration says.

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shunt_api::Encap;
use shunt_tests::balance::drops_between;
use shunt_tests::cni::{CniNode, CniPod, Container, Options};
use shunt_tests::netns::Netns;
use shunt_tests::pod::mac_of;

use crate::{built, lone, must_reach};

const MAC: &str = "02:11:22:33:44:55";

/// `mac`, from the runtime or as podman passes it: in CNI_ARGS alone.
#[test]
fn the_mac_address_that_was_asked_for() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let peer = CniPod::add(&runtime, "peer")?;
    let asked: [&dyn Fn(Container) -> Container; 4] = [
        &|container| container.offer("mac", MAC),
        &|container| container.offer("mac", MAC.to_uppercase()),
        &|mut container| {
            container.args = format!("IgnoreUnknown=1;K8S_POD_NAME=b;MAC={MAC}");
            container
        },
        // The capability wins.
        &|mut container| {
            container.args = "IgnoreUnknown=1;MAC=02:00:00:00:00:99".to_owned();
            container.offer("mac", MAC)
        },
    ];
    for change in asked {
        let pod = CniPod::add_with(&runtime, "pod", change)?;
        assert_eq!(pod.mac()?.to_string(), MAC);
        let interfaces = pod.result["interfaces"].as_array().context("interfaces")?;
        assert!(
            interfaces
                .iter()
                .any(|one| one["name"] == "eth0" && one["mac"] == MAC)
        );
        must_reach(&pod, &peer)?;
        must_reach(&peer, &pod)?;
        runtime.check(&pod.container)?;
        runtime.del(&pod.container)?;
    }
    for bad in [
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "nonsense",
    ] {
        let netns = Netns::new("pod")?;
        let container = Container::new(&netns.path()).offer("mac", bad);
        let error = runtime.try_add(&container)?.error()?;
        ensure!([6, 7].contains(&error.code), "{bad}: {error:?}");
    }
    runtime.del(&peer.container)?;
    node.must_be_clean()
}

/// `ips`, by the static plugin and by host-local, and `IP=` in CNI_ARGS.
#[test]
fn the_addresses_that_were_asked_for() -> Result<()> {
    let (_testbed, node) = lone()?;
    let dynamic = node.runtime(node.network());
    let fixed = dynamic.with(|network| network.set("ipam", json!({"type": "static"})));
    for (runtime, word) in [(&fixed, "10.244.1.99/24"), (&dynamic, "10.244.1.99")] {
        let pod = CniPod::add_with(runtime, "pod", |container| {
            container.offer("ips", json!([word]))
        })?;
        assert_eq!(pod.address()?.to_string(), "10.244.1.99");
        runtime.del(&pod.container)?;
    }
    let pod = CniPod::add_with(&dynamic, "pod", |mut container| {
        container.args = "IgnoreUnknown=1;IP=10.244.1.98".to_owned();
        container
    })?;
    assert_eq!(pod.address()?.to_string(), "10.244.1.98");
    dynamic.del(&pod.container)?;
    node.must_be_clean()
}

/// `dns`, in Go's spelling and in the usual one, over the network's own; `aliases`.
#[test]
fn dns_and_aliases() -> Result<()> {
    let (_testbed, node) = lone()?;
    let own = json!({"nameservers": ["10.96.0.99"], "domain": "own.example"});
    let runtime = node.runtime(node.network().set("dns", own));
    let dns = |change: &dyn Fn(Container) -> Container| -> Result<Value> {
        let pod = CniPod::add_with(&runtime, "pod", change)?;
        runtime.del(&pod.container)?;
        Ok(pod.result["dns"].clone())
    };
    let plain = dns(&|container| container)?;
    assert_eq!(plain["nameservers"], json!(["10.96.0.99"]));
    assert_eq!(plain["domain"], "own.example");
    let go = json!({
        "Servers": ["10.96.0.10"], "Searches": ["svc.cluster.local"], "Options": ["ndots:5"],
    });
    let camel = json!({
        "servers": ["10.96.0.10"], "searches": ["svc.cluster.local"], "options": ["ndots:5"],
    });
    for given in [go, camel] {
        let seen = dns(&|container| container.offer("dns", given.clone()))?;
        assert_eq!(seen["nameservers"], json!(["10.96.0.10"]), "{seen}");
        assert_eq!(seen["search"], json!(["svc.cluster.local"]), "{seen}");
        assert_eq!(seen["options"], json!(["ndots:5"]), "{seen}");
    }
    // podman's are by network, others send a list.
    for aliases in [json!({"pods": ["web", "1234"]}), json!(["web"])] {
        dns(&|container| container.offer("aliases", aliases.clone()))?;
    }
    node.must_be_clean()
}

/// The host's end carries the gateway's MAC address; the pod's neighbour entry is permanent; the
/// routes lead to the gateway.
#[test]
fn the_pod_is_configured() -> Result<()> {
    let options = Options {
        dual: true,
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    let status = node.daemon.status()?;
    let info = node.pods()?.remove(0);
    assert_eq!(mac_of(&node.node.netns, &info.port)?, status.gateway_mac);
    assert_eq!(info.host_mac, Some(status.gateway_mac));
    assert_eq!(info.mac, pod.mac()?);
    assert_eq!(info.state, "up");
    assert_eq!(pod.result["interfaces"][0]["name"], json!(info.port));
    let link = node
        .node
        .netns
        .ip(&format!("link show dev {}", info.port))?;
    ensure!(link.contains("alias shunt:"), "{link}");

    let neighbours = pod.netns.ip("neighbour show nud permanent")?;
    for gateway in [status.gateway, status.gateway6] {
        let line = neighbours
            .lines()
            .find(|line| line.starts_with(&format!("{gateway} ")));
        let line = line.with_context(|| format!("no {gateway} in {neighbours}"))?;
        ensure!(line.contains(&status.gateway_mac.to_string()), "{line}");
    }
    let four = pod.netns.ip("route show")?;
    ensure!(four.contains("default via 169.254.1.1 dev eth0"), "{four}");
    ensure!(four.contains("\n169.254.1.1 dev eth0"), "{four}");
    let six = pod.netns.ip("-6 route show default")?;
    ensure!(six.contains(&format!("via {}", status.gateway6)), "{six}");
    for address in pod.addresses()? {
        let shown = pod.netns.ip("-o address show dev eth0")?;
        let length = if address.addr().is_ipv4() { 32 } else { 128 };
        ensure!(
            shown.contains(&format!("{}/{length}", address.addr())),
            "{shown}"
        );
        ensure!(!shown.contains("tentative"), "{shown}");
    }
    runtime.del(&pod.container)?;
    node.must_be_clean()
}

fn routes(pod: &CniPod) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(
        &pod.netns.ip("-j -details route show")?,
    )?)
}

/// MTUs: of the interface by the configuration, of the default route by the way to other nodes.
#[test]
fn mtus_of_interface_and_routes() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    node.route_to(2, Encap::Vxlan)?;
    let runtime = node.runtime(node.network());
    let default_mtu = |pod: &CniPod| -> Result<Value> {
        let routes = routes(pod)?;
        let route = routes.iter().find(|route| route["dst"] == "default");
        let route = route.with_context(|| format!("no default route: {routes:?}"))?;
        // iproute2 prints it as `metrics` or beside the rest.
        Ok(match &route["metrics"][0]["mtu"] {
            Value::Null => route["mtu"].clone(),
            mtu => mtu.clone(),
        })
    };
    let pod = CniPod::add(&runtime, "pod")?;
    let link = pod.netns.ip("link show dev eth0")?;
    ensure!(link.contains("mtu 1500"), "{link}");
    let mtu = default_mtu(&pod)?;
    assert_eq!(mtu, json!(1450), "{}", pod.netns.ip("route show")?);
    runtime.check(&pod.container)?;
    runtime.del(&pod.container)?;

    let small = runtime.with(|network| network.set("mtu", 1400));
    let pod = CniPod::add(&small, "pod")?;
    let link = pod.netns.ip("link show dev eth0")?;
    ensure!(link.contains("mtu 1400"), "{link}");
    let mtu = default_mtu(&pod)?;
    ensure!(mtu == Value::Null || mtu == json!(1400), "{mtu}");
    small.check(&pod.container)?;
    small.del(&pod.container)?;
    node.must_be_clean()
}

/// Routes that IPAM gives, and a network that is not the pod's default gateway.
#[test]
fn routes_by_ipam() -> Result<()> {
    let (_testbed, node) = lone()?;
    let mut network = node.network().set("isDefaultGateway", false);
    network.plugins[0]["ipam"]["routes"] = json!([{"dst": "10.244.0.0/16"}]);
    let runtime = node.runtime(network);
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    let table = a.netns.ip("route show")?;
    ensure!(!table.contains("default"), "{table}");
    ensure!(table.contains("10.244.0.0/16 via 169.254.1.1"), "{table}");
    must_reach(&a, &b)?;
    runtime.check(&a.container)?;
    for pod in [a, b] {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}

/// A datagram from an address that is not the pod's; which drops that caused.
fn forge(node: &CniNode, from: &CniPod, source: &str, to: &CniPod) -> Result<Vec<String>> {
    from.netns
        .ip(&format!("address add {source}/32 dev eth0"))?;
    let server = to
        .netns
        .within(|| UdpSocket::bind((to.address()?, 0)).context("bind"))??;
    let target = server.local_addr()?;
    let before = node.daemon.stats()?;
    let client = from.netns.within(|| UdpSocket::bind((source, 0)))??;
    client.send_to(b"forged", target)?;
    server.set_read_timeout(Some(std::time::Duration::from_millis(300)))?;
    let arrived = server.recv(&mut [0; 16]).is_ok();
    from.netns
        .ip(&format!("address del {source}/32 dev eth0"))?;
    let drops: Vec<String> = drops_between(&before, &node.daemon.stats()?)
        .into_keys()
        .collect();
    ensure!(
        arrived == drops.is_empty(),
        "arrived: {arrived}, drops: {drops:?}"
    );
    Ok(drops)
}

/// Guards are on, open for what the network allows, or off.
#[test]
fn guards_of_the_pod() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let open = runtime.with(|network| network.set("allowedAddresses", json!(["10.9.0.1/32"])));
    let off = runtime.with(|network| network.set("guard", false));
    let peer = CniPod::add(&runtime, "peer")?;
    let guarded = CniPod::add(&runtime, "guarded")?;
    assert_eq!(
        forge(&node, &guarded, "10.9.0.1", &peer)?,
        ["spoofed_source"]
    );
    let opened = CniPod::add(&open, "opened")?;
    assert!(forge(&node, &opened, "10.9.0.1", &peer)?.is_empty());
    assert_eq!(
        forge(&node, &opened, "10.9.0.2", &peer)?,
        ["spoofed_source"]
    );
    let free = CniPod::add(&off, "free")?;
    assert!(forge(&node, &free, "10.9.0.3", &peer)?.is_empty());
    for pod in [peer, guarded, opened, free] {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}
