//! Debian's plugins chained behind ours, executed as libcni does it, and its address managers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shunt_api::{Encap, MacAddr};
use shunt_tests::balance::drops_between;
use shunt_tests::cni::{CniNode, CniPod, Network, Options, Runtime, fixed};
use shunt_tests::family::Family;
use shunt_tests::netns::Netns;
use shunt_tests::outside::Outside;
use shunt_tests::probe::{Exchange, Seen, Transport, must_not_ping, must_ping, tcp};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

/// The port of the node that leads to a pod, and the pod's own.
const HOST_PORT: u16 = 8080;
const POD_PORT: u16 = 80;
/// What `bandwidth` is told, in bit/s.
const RATE: u64 = 16_000_000;

fn portmap() -> Value {
    json!({ "type": "portmap", "snat": true, "capabilities": { "portMappings": true } })
}

fn bandwidth() -> Value {
    json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } })
}

fn mappings() -> Value {
    ["tcp", "udp"]
        .map(|protocol| json!({ "hostPort": HOST_PORT, "containerPort": POD_PORT, "protocol": protocol }))
        .as_slice()
        .into()
}

fn limits() -> Value {
    let burst = RATE / 8;
    json!({
        "ingressRate": RATE, "ingressBurst": burst, "egressRate": RATE, "egressBurst": burst,
    })
}

/// A dual-stack node with a host port, and a host outside of the cluster.
fn node_and_outside(wire: &Wire) -> Result<(CniNode, Outside)> {
    let outside = Outside::new(Netns::new("outside")?, wire)?;
    let node = CniNode::on(wire, 1, &whole())?;
    Outside::route_from(&node.node.netns)?;
    Ok((node, outside))
}

fn whole() -> Options {
    Options {
        dual: true,
        host: Some(String::new()),
        ..Options::default()
    }
}

/// A pod of a network whose runtime offers what `offers` has.
fn pod_with(runtime: &Runtime, role: &str, offers: &[(&str, Value)]) -> Result<CniPod> {
    CniPod::add_with(runtime, role, |container| {
        offers.iter().fold(container, |container, (key, value)| {
            container.offer(key, value.clone())
        })
    })
}

/// One exchange with a pod by an address and port of the node's.
fn by_node(client: &Netns, node: SocketAddr, pod: &CniPod, transport: Transport) -> Result<Seen> {
    let own = pod.address_of(Family::of(node.ip()))?;
    Exchange {
        transport,
        client,
        target: node,
        server: &pod.netns,
        listen: SocketAddr::new(own, POD_PORT),
        request: b"who is there",
        reply: b"the pod",
    }
    .run()
}

/// `portmap`: the node's port leads to the pod for the world outside, the node, other pods and the
/// pod itself, in both families; and no longer when the pod is gone.
#[test]
fn portmap_opens_a_port_of_the_node() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let (node, outside) = node_and_outside(&wire)?;
    let runtime = node.runtime(node.network().chain(portmap()));
    let pod = pod_with(&runtime, "web", &[("portMappings", mappings())])?;
    let other = pod_with(&runtime, "other", &[])?;
    for family in [Family::V4, Family::V6] {
        let target = SocketAddr::new(node.node.underlay(family), HOST_PORT);
        for transport in Transport::ALL {
            let seen = by_node(&outside.netns, target, &pod, transport)?;
            assert_eq!(seen.peer.ip(), Outside::address(family));
            let seen = by_node(&node.node.netns, target, &pod, transport)?;
            assert_eq!(seen.peer.ip(), node.node.underlay(family));
            let seen = by_node(&other.netns, target, &pod, transport)?;
            assert_eq!(seen.peer.ip(), other.address_of(family)?);
            // Masquerading lets the pod's own request come back to it.
            by_node(&pod.netns, target, &pod, transport).context("hairpin")?;
        }
    }
    // For IPv4 the plugin cares for the loopback too.
    let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), HOST_PORT);
    by_node(&node.node.netns, local, &pod, Transport::Tcp).context("from the loopback")?;
    runtime.del(&pod.container)?;
    runtime.del(&other.container)?;
    let rules = node.node.netns.run(&["iptables-save", "-t", "nat"])?;
    assert!(!rules.contains("DNAT --to-destination"), "{rules}");
    node.must_be_clean()
}

/// The same port is asked for by another node of the cluster, to which the pod's node has a tunnel.
#[test]
fn portmap_serves_other_nodes() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let mut one = CniNode::on(&wire, 1, &whole())?;
    let mut two = CniNode::on(&wire, 2, &whole())?;
    one.route_to(2, Encap::Vxlan)?;
    two.route_to(1, Encap::Vxlan)?;
    let runtime = one.runtime(one.network().chain(portmap()));
    let pod = pod_with(&runtime, "web", &[("portMappings", mappings())])?;
    let away = CniPod::add(&two.runtime(two.network()), "away")?;
    let target = SocketAddr::new(one.node.address.into(), HOST_PORT);
    for transport in Transport::ALL {
        let seen = by_node(&two.node.netns, target, &pod, transport)?;
        assert_eq!(seen.peer.ip(), IpAddr::from(two.node.address));
        let seen = by_node(&away.netns, target, &pod, transport)?;
        assert_eq!(seen.peer.ip(), away.address()?);
    }
    runtime.del(&pod.container)?;
    two.runtime(two.network()).del(&away.container)?;
    one.must_be_clean()?;
    two.must_be_clean()
}

/// TCP goodput to and from a pod in bit/s.
fn goodput(pod: &CniPod, peer: &CniPod) -> Result<[f64; 2]> {
    let way = |from: &CniPod, to: &CniPod| -> Result<f64> {
        let to = (&to.netns, to.address()?);
        Ok(tcp(&from.netns, to, Duration::from_secs(1))?.gbps * 1e9)
    };
    Ok([way(peer, pod)?, way(pod, peer)?])
}

/// Debian's `bandwidth` shapes by queueing disciplines of the veth's host end, which AF_XDP goes
/// past: its ADD, CHECK and DEL succeed and leave nothing, but the pod is held to its rates by the
/// switch alone, where our own plugin has the capability.
#[test]
fn bandwidth_is_kept_by_the_switch_and_not_by_the_stock_plugin() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let node = CniNode::lone(&Options::default())?;
    let ours = node.network().chain(bandwidth());
    let mut theirs = ours.clone();
    if let Some(capabilities) = theirs.plugins[0]["capabilities"].as_object_mut() {
        capabilities.remove("bandwidth");
    }
    let peer = CniPod::add(&node.runtime(node.network()), "peer")?;
    for (network, kept) in [(theirs, false), (ours, true)] {
        let runtime = node.runtime(network);
        let pod = pod_with(&runtime, "shaped", &[("bandwidth", limits())])?;
        let interfaces = pod.result["interfaces"].as_array().context("interfaces")?;
        let ifb = |interface: &&Value| {
            let name = interface["name"].as_str();
            name.is_some_and(|name| name.starts_with("bwp"))
        };
        assert_eq!(interfaces.iter().filter(ifb).count(), 1, "{interfaces:?}");
        runtime.check(&pod.container)?;
        for bits in goodput(&pod, &peer)? {
            let part = bits / RATE as f64;
            println!("kept {kept}: {:.1} Mbit/s", bits / 1e6);
            // A burst of an eighth of a second comes on top of the first second.
            let right = if kept {
                (0.6..1.3).contains(&part)
            } else {
                part > 3.0
            };
            ensure!(
                right,
                "{:.1} Mbit/s where the switch keeps the rate: {kept}",
                bits / 1e6
            );
        }
        runtime.del(&pod.container)?;
    }
    node.runtime(node.network()).del(&peer.container)?;
    node.must_be_clean()
}

/// `tuning` sets what it is told in the pod, and nobody's CHECK minds.
#[test]
fn tuning_sets_a_sysctl() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let node = CniNode::lone(&Options::default())?;
    let network = node.network().chain(json!({
        "type": "tuning",
        "sysctl": { "net.core.somaxconn": "321" },
        "dataDir": node.plugins.scratch().join("tuning"),
        "mtu": 1300,
    }));
    let runtime = node.runtime(network);
    let pod = CniPod::add(&runtime, "tuned")?;
    let peer = CniPod::add(&node.runtime(node.network()), "peer")?;
    let value = pod.netns.run(&["cat", "/proc/sys/net/core/somaxconn"])?;
    assert_eq!(value.trim(), "321");
    let link = pod.netns.ip("link show dev eth0")?;
    assert!(link.contains("mtu 1300"), "{link}");
    runtime.check(&pod.container)?;
    must_ping(&pod.netns, peer.address()?, 3, "-s 1272 -M do")?;
    // Only TCP learns that the pod takes less than others (its MSS).
    let transfer = Duration::from_millis(100);
    tcp(&pod.netns, (&peer.netns, peer.address()?), transfer)?;
    tcp(&peer.netns, (&pod.netns, pod.address()?), transfer)?;
    runtime.del(&pod.container)?;
    node.runtime(node.network()).del(&peer.container)?;
    node.must_be_clean()
}

/// A MAC address that the runtime asks for is given to both plugins, and ours has set it before
/// `tuning` does.
#[test]
fn tuning_and_our_plugin_set_the_same_mac() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let node = CniNode::lone(&Options::default())?;
    let mac = MacAddr([0x02, 0, 0, 0, 0, 0x21]);
    let network = node.network().chain(json!({
        "type": "tuning",
        "dataDir": node.plugins.scratch().join("tuning"),
        "capabilities": { "mac": true },
    }));
    let runtime = node.runtime(network);
    let pod = pod_with(&runtime, "known", &[("mac", json!(mac.to_string()))])?;
    let peer = CniPod::add(&node.runtime(node.network()), "peer")?;
    assert_eq!(pod.mac()?, mac);
    must_ping(&pod.netns, peer.address()?, 3, "")?;
    must_ping(&peer.netns, pod.address()?, 3, "")?;
    runtime.check(&pod.container)?;
    runtime.del(&pod.container)?;
    node.runtime(node.network()).del(&peer.container)?;
    node.must_be_clean()
}

/// A MAC address that `tuning` alone knows of is a foreign one to the guard of the pod's port: what
/// the pod sends is dropped, by name.
#[test]
fn a_mac_that_only_tuning_knows_is_guarded_against() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let node = CniNode::lone(&Options::default())?;
    let mac = MacAddr([0x02, 0, 0, 0, 0, 0x22]);
    let network = node.network().chain(json!({
        "type": "tuning",
        "dataDir": node.plugins.scratch().join("tuning"),
        "mac": mac.to_string(),
    }));
    let runtime = node.runtime(network);
    let pod = CniPod::add(&runtime, "changed")?;
    let peer = CniPod::add(&node.runtime(node.network()), "peer")?;
    assert_eq!(pod.mac()?, mac);
    let before = node.daemon.stats()?;
    must_not_ping(&pod.netns, peer.address()?, 3, "")?;
    let drops = drops_between(&before, &node.daemon.stats()?);
    assert!(drops.get("spoofed_mac") >= Some(&1), "{drops:?}");
    runtime.del(&pod.container)?;
    node.runtime(node.network()).del(&peer.container)?;
    node.must_be_clean()
}

/// All of them in one chain.
#[test]
fn a_chain_of_all() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let (node, outside) = node_and_outside(&wire)?;
    let network = node
        .network()
        .chain(portmap())
        .chain(bandwidth())
        .chain(json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.eth0.forwarding": "1" } }));
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let runtime = node.runtime(network.clone().version(version));
        let offers = [("portMappings", mappings()), ("bandwidth", limits())];
        let pod = pod_with(&runtime, "all", &offers)?;
        let target = SocketAddr::new(node.node.address.into(), HOST_PORT);
        by_node(&outside.netns, target, &pod, Transport::Tcp)
            .with_context(|| format!("in version {version}"))?;
        // CHECK came with 0.4.0. That of portmap 1.1.1 always fails where there is ip6tables: it
        // looks there for the IPv4 rules.
        let checked = [0, 2, 3].iter().filter(|_| version != "0.3.1");
        for &index in checked {
            let call = runtime.invocation("CHECK", index, &pod.container, Some(&pod.result))?;
            runtime.execute(&call)?.ok()?;
        }
        runtime.del(&pod.container)?;
        node.must_be_clean()?;
    }
    Ok(())
}

/// Addresses of both families that the network names, by `static`.
#[test]
fn addresses_by_static() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let node = CniNode::lone(&Options {
        dual: true,
        ..Options::default()
    })?;
    let address = |n: u8| -> [(IpAddr, u8); 2] {
        let six = Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, u16::from(n));
        [(Ipv4Addr::new(10, 244, 1, n).into(), 24), (six.into(), 64)]
    };
    let network = |n: u8| -> Network { node.network().set("ipam", fixed(&address(n))) };
    let one = CniPod::add(&node.runtime(network(71)), "one")?;
    let two = CniPod::add(&node.runtime(network(72)), "two")?;
    assert_eq!(
        one.addresses()?
            .iter()
            .map(|net| net.addr())
            .collect::<Vec<_>>(),
        address(71).map(|(address, _)| address)
    );
    for (to, _) in address(72) {
        must_ping(&one.netns, to, 3, "")?;
    }
    // One address is one pod's: whoever asks for it too gets neither it nor anything else.
    let thief = Netns::new("thief")?;
    let container = shunt_tests::cni::Container::new(&thief.path());
    node.runtime(network(71)).try_add(&container)?.error()?;
    assert!(!thief.ip("-br link")?.contains("eth0"));
    must_ping(&two.netns, address(71)[0].0, 3, "")?;
    node.runtime(network(71)).del(&container)?;
    must_ping(&two.netns, address(71)[1].0, 3, "")?;
    node.runtime(network(71)).del(&one.container)?;
    node.runtime(network(72)).del(&two.container)?;
    node.must_be_clean()
}
