//! The host port: what the kubelet does, the node's routes, and what is left of them.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shunt_api::Encap;
use shunt_tests::cluster::{Cluster, Site, Spec};
use shunt_tests::config::{Config, HOST_DEVICE};
use shunt_tests::family::Family;
use shunt_tests::netns::Netns;
use shunt_tests::node::{Node, pod_cidr, pod_cidr6};
use shunt_tests::outside::Outside;
use shunt_tests::pod::Pod;
use shunt_tests::probe::{Exchange, Transport, http, must_ping, tcp, udp};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

/// Where nobody listens.
const CLOSED: u16 = 9;

/// TCP, UDP and ping between a node and a pod, both ways, by their own addresses.
fn talk(node: &Node, pod: &Pod) -> Result<()> {
    for family in Family::ALL {
        let (own, address) = (node.underlay(family), pod.address_of(family)?);
        let (node, pod) = ((&node.netns, own), (&pod.netns, address));
        let largest = 1400usize;
        for (from, to) in [(node, pod), (pod, node)] {
            must_ping(from.0, to.1, 3, "")?;
            must_ping(from.0, to.1, 2, &format!("-M do -s {largest}"))?;
            let seen = udp(from.0, to, &[0, 1, 999, largest])?;
            ensure!(seen == from.1, "UDP {} -> {}: seen as {seen}", from.1, to.1);
            let seen = tcp(from.0, to, Duration::from_millis(100))?.client;
            ensure!(seen == from.1, "TCP {} -> {}: seen as {seen}", from.1, to.1);
        }
    }
    Ok(())
}

/// What a kubelet asks: `httpGet` and `tcpSocket` probes of its own pods, and that a probe of a
/// port where nobody listens fails at once instead of timing out.
fn probe(node: &Node, pod: &Pod) -> Result<()> {
    for family in Family::ALL {
        let address = pod.address_of(family)?;
        let seen = http(&node.netns, (&pod.netns, address))?;
        ensure!(
            seen == node.underlay(family),
            "HTTP {address}: seen as {seen}"
        );
        let closed = SocketAddr::new(address, CLOSED);
        let begin = Instant::now();
        let error = node
            .netns
            .within(|| TcpStream::connect_timeout(&closed, Duration::from_secs(3)))?
            .err()
            .with_context(|| format!("{closed} is open"))?;
        ensure!(
            error.kind() == ErrorKind::ConnectionRefused,
            "{closed}: {error} after {:?}",
            begin.elapsed()
        );
    }
    Ok(())
}

fn whole(encap: Encap) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = Cluster::build(&Spec::whole(encap, Family::V4), Netns::new)?;
    for site in &cluster.sites {
        for pod in &site.pods {
            probe(&site.node, pod)?;
        }
        for pod in cluster.pods() {
            talk(&site.node, pod)?;
        }
    }
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    for site in cluster.sites {
        site.daemon.stop()?;
    }
    Ok(())
}

#[test]
fn nodes_and_pods_over_vxlan() -> Result<()> {
    whole(Encap::Vxlan)
}

#[test]
fn nodes_and_pods_over_ipip() -> Result<()> {
    whole(Encap::Ipip)
}

#[test]
fn nodes_and_pods_direct() -> Result<()> {
    whole(Encap::Direct)
}

/// Everything in a node's network that a daemon could leave behind or take away.
fn state(node: &Node) -> Result<String> {
    let netns = &node.netns;
    let mut state = String::new();
    for words in [
        "-4 route show table all",
        "-6 route show table all",
        "-4 rule show",
        "-6 rule show",
        "-o -br link",
        "-o -br address",
        "neigh show nud permanent",
    ] {
        let text = netns.ip(words)?;
        let mut lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.sort_unstable();
        state += &format!("{words}\n{}\n", lines.join("\n"));
    }
    state += &netns.run(&["nft", "list", "ruleset"])?;
    Ok(state)
}

/// The lines that are in one and not in the other.
fn difference(before: &str, after: &str) -> String {
    let only = |a: &str, b: &str, sign: char| -> Vec<String> {
        a.lines()
            .filter(|line| !b.lines().any(|other| other == *line))
            .map(|line| format!("{sign} {line}"))
            .collect()
    };
    [only(before, after, '-'), only(after, before, '+')]
        .concat()
        .join("\n")
}

/// Waits until the node's state is as it was.
fn must_be_as_before(node: &Node, before: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let after = state(node)?;
        if after == before {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("left behind or taken away:\n{}", difference(before, &after));
        }
        sleep(Duration::from_millis(50));
    }
}

/// Demands that the node sends to the address through its host port, with its own address.
fn must_lead_to_host_port(node: &Node, to: IpAddr) -> Result<()> {
    let own = node.underlay(Family::of(to));
    let route = node.netns.ip(&format!("route get {to}"))?;
    ensure!(
        route.contains(&format!("dev {HOST_DEVICE} ")) && route.contains(&format!("src {own} ")),
        "to {to}: {route}"
    );
    Ok(())
}

/// A node with foreign routes, a rule and a table, and a pod that waits to be attached.
fn furnished() -> Result<(Wire, Node, Pod)> {
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let node = Node::dual(Netns::new("node1")?, &wire, 1)?;
    Outside::route_from(&node.netns)?;
    let netns = &node.netns;
    // Daemons turn forwarding on and leave it on; a Kubernetes node has it before.
    for key in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
        netns.sysctl(&format!("net.{key}"), "1")?;
    }
    for words in [
        "route add 10.200.0.0/16 via 192.168.77.254 dev eth0 proto static",
        "route add 10.244.7.0/24 via 192.168.77.254 dev eth0 proto bird",
        "-6 route add fd00:10:244:7::/64 via fd77::fe dev eth0 proto bird",
        "route add 10.201.0.0/16 via 192.168.77.254 dev eth0 table 100",
        "rule add pref 1000 from 10.9.9.9 lookup 100",
        "-6 rule add pref 1000 from fd09::9 lookup 100",
    ] {
        netns.ip(words)?;
    }
    for line in [
        "add table inet foreign",
        "add chain inet foreign postrouting { type nat hook postrouting priority 50; }",
        "add rule inet foreign postrouting ip daddr 203.0.113.0/24 masquerade",
    ] {
        netns.run(&["nft", line])?;
    }
    let pod = node.dual_pod(
        Netns::new("a1")?,
        1,
        shunt_tests::pod::Mode::L3,
        Spec::whole(Encap::Vxlan, Family::V4).pod_mtu(),
    )?;
    Ok((wire, node, pod))
}

fn config(lines: &str) -> Config {
    Config {
        dual: true,
        host: Some(lines.to_owned()),
        ..Config::new(shunt_tests::pod::Mode::L3, 0)
    }
}

fn start(node: &Node, pod: &Pod, lines: &str) -> Result<shunt_tests::daemon::Daemon> {
    let daemon = shunt_tests::daemon::Daemon::start(node, &config(lines))?;
    daemon.attach(pod)?;
    for family in Family::ALL {
        must_lead_to_host_port(node, pod.address_of(family)?)?;
    }
    talk(node, pod)?;
    Ok(daemon)
}

/// Ours come and go with the daemon, others' stay, and ours come back when somebody takes them.
#[test]
fn routes_are_ours_alone() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (_wire, node, pod) = furnished()?;
    let before = state(&node)?;
    let daemon = start(&node, &pod, "")?;
    let during = state(&node)?;
    for line in before.lines().filter(|line| line.contains("via ")) {
        ensure!(during.contains(line), "taken away: {line}");
    }
    let foreign = node.netns.ip("route get 10.244.7.1")?;
    ensure!(foreign.contains("dev eth0"), "{foreign}");

    let ours = node.netns.ip(&format!("-4 route show dev {HOST_DEVICE}"))?;
    let lost = ours
        .lines()
        .find_map(|line| line.split_whitespace().next().filter(|to| to.contains('/')))
        .with_context(|| format!("no route of ours: {ours}"))?;
    node.netns
        .ip(&format!("route del {lost} dev {HOST_DEVICE}"))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while must_lead_to_host_port(&node, pod.address.into()).is_err() {
        ensure!(Instant::now() < deadline, "{lost} does not come back");
        sleep(Duration::from_millis(50));
    }
    talk(&node, &pod)?;
    daemon.must_return_all_frames()?;
    daemon.stop()?;
    must_be_as_before(&node, &before)
}

/// A daemon that was killed leaves its routes; the next one takes them over and cleans up.
#[test]
fn a_killed_daemon_is_succeeded() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (_wire, node, pod) = furnished()?;
    let before = state(&node)?;
    let mut daemon = start(&node, &pod, "")?;
    node.netns.run(&["kill", "-9", &daemon.pid().to_string()])?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while daemon.must_run().is_ok() {
        ensure!(Instant::now() < deadline, "it survives SIGKILL");
        sleep(Duration::from_millis(10));
    }
    drop(daemon);
    start(&node, &pod, "")?.stop()?;
    must_be_as_before(&node, &before)
}

/// With `keep` all stays when the daemon stops, and the next one goes on with it.
#[test]
fn kept_when_the_configuration_says_so() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (_wire, node, pod) = furnished()?;
    let before = state(&node)?;
    start(&node, &pod, "keep = true\n")?.stop()?;
    for family in Family::ALL {
        must_lead_to_host_port(&node, pod.address_of(family)?)?;
    }
    let tables = node.netns.run(&["nft", "list", "tables"])?;
    ensure!(tables.contains("table inet shunt"), "{tables}");
    start(&node, &pod, "keep = true\n")?.stop()?;
    start(&node, &pod, "")?.stop()?;
    must_be_as_before(&node, &before)
}

/// What a pod's server outside sees of it, in a network that knows the way to pods.
fn seen_outside(lines: &str) -> Result<Vec<(Family, IpAddr)>> {
    let spec = Spec {
        nodes: 1,
        pods: 1,
        host: Some(lines.to_owned()),
        ..Spec::whole(Encap::Vxlan, Family::V4)
    };
    let cluster = Cluster::build(&spec, Netns::new)?;
    let outside = cluster.outside.as_ref().context("no host outside")?;
    let [Site { node, pods, daemon }] = &cluster.sites[..] else {
        bail!("one node");
    };
    let pod = pods.first().context("one pod")?;
    for (cidr, family) in [
        (pod_cidr(1)?.to_string(), Family::V4),
        (pod_cidr6(1)?.to_string(), Family::V6),
    ] {
        let (via, source) = (node.underlay(family), Outside::address(family));
        outside
            .netns
            .ip(&format!("route add {cidr} via {via} dev eth0 src {source}"))?;
    }
    let mut seen = Vec::new();
    for family in Family::ALL {
        for transport in Transport::ALL {
            let listen = SocketAddr::new(Outside::address(family), 20_000);
            let peer = Exchange {
                transport,
                client: &pod.netns,
                target: listen,
                server: &outside.netns,
                listen,
                request: b"request",
                reply: b"reply",
            }
            .run()?
            .peer
            .ip();
            seen.push((family, peer));
        }
        // The other way there is nothing to translate.
        let address = pod.address_of(family)?;
        let peer = tcp(&outside.netns, (&pod.netns, address), Duration::ZERO)?.client;
        ensure!(peer == Outside::address(family), "{address} sees {peer}");
    }
    daemon.must_return_all_frames()?;
    Ok(seen)
}

#[test]
fn masquerade_is_for_those_who_need_it() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for (lines, masqueraded) in [
        ("", [true, true]),
        ("masquerade = false\n", [false, false]),
        ("non_masquerade_cidrs = [\"192.0.2.0/24\"]\n", [false, true]),
        (
            "non_masquerade_cidrs = [\"2001:db8::/32\"]\n",
            [true, false],
        ),
    ] {
        for (family, seen) in seen_outside(lines)? {
            let expected: IpAddr = match (family, masqueraded) {
                (Family::V4, [true, _]) => [192, 168, 77, 1].into(),
                (Family::V4, [false, _]) => [10, 244, 1, 11].into(),
                (Family::V6, [_, true]) => "fd77::1".parse()?,
                (Family::V6, [_, false]) => "fd00:10:244:1::11".parse()?,
            };
            ensure!(seen == expected, "{lines}{family}: seen as {seen}");
        }
    }
    Ok(())
}
