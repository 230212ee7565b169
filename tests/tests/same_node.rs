//! Pods of one node, without any uplink.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use shunt_api::{Encap, PortKind, PortSpec};
use shunt_tests::cluster::{Site, Spec};
use shunt_tests::config::Config;
use shunt_tests::daemon::{Daemon, shunt};
use shunt_tests::netns::Netns;
use shunt_tests::node::Node;
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::probe::{must_http, must_not_ping, must_ping, must_tcp, must_udp};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

/// A node without uplink, its pods with the MTU that `underlay_mtu` would leave in direct mode.
fn lone_node(mode: Mode, pods: u8, mtu: u32) -> Result<(Site, Wire)> {
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let node = Node::new(Netns::new("node1")?, &wire, 1)?;
    let spec = Spec {
        pods,
        underlay_mtu: mtu,
        ..Spec::new(mode, Encap::Direct)
    };
    let config = Config {
        uplink: false,
        ..Config::new(mode, 0)
    };
    Ok((Site::new(node, &spec, &config, Netns::new)?, wire))
}

/// The pods keep the offloads that the kernel gives a veth: checksums are partial.
fn default_offloads(mode: Mode) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, _wire) = lone_node(mode, 3, 1500)?;
    let (a1, a2) = (&site.pods[0], &site.pods[1]);
    let features = a1.netns.run(&["ethtool", "-k", "eth0"])?;
    assert!(
        features.contains("tx-checksum-ip-generic: on"),
        "{features}"
    );
    for (from, to) in [(a1, a2), (a2, a1), (a1, &site.pods[2])] {
        must_ping(&from.netns, to.address, 5, "")?;
        must_ping(&from.netns, to.address, 2, "-M do -s 1472")?;
        must_udp(from, to, &[0, 1, 2, 3, 100, 1471, 1472])?;
        must_tcp(from, to)?;
        must_http(from, to)?;
    }
    // Datagrams larger than the MTU travel as fragments.
    must_udp(a1, a2, &[1473, 4000, 20_000])?;
    let stats = site.daemon.must_return_all_frames()?;
    assert!(stats.transmitted > 100, "{stats:?}");
    site.daemon.stop()
}

#[test]
fn l3_with_default_offloads() -> Result<()> {
    default_offloads(Mode::L3)
}

#[test]
fn l2_with_default_offloads() -> Result<()> {
    default_offloads(Mode::L2)
}

#[test]
fn gateway_answers_arp_and_nobody_else_does() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (site, _wire) = lone_node(Mode::L3, 1, 1500)?;
    let a1 = &site.pods[0];
    must_not_ping(&a1.netns, [10, 244, 9, 9], 2, "")?;
    let status = site.daemon.status()?;
    let neighbours = a1.netns.ip("neigh show dev eth0")?;
    assert!(
        neighbours.contains(&format!("{} lladdr {}", status.gateway, status.gateway_mac)),
        "{neighbours}"
    );
    let stats = site.daemon.must_return_all_frames()?;
    assert_eq!(stats.drops.get("no_route"), Some(&2), "{:?}", stats.drops);
    Ok(())
}

#[test]
fn jumbo_frames() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for mode in [Mode::L3, Mode::L2] {
        let (site, _wire) = lone_node(mode, 2, 9000)?;
        let (a1, a2) = (&site.pods[0], &site.pods[1]);
        must_ping(&a1.netns, a2.address, 3, "-s 8900 -M do")?;
        must_ping(&a2.netns, a1.address, 3, "-s 8972 -M do")?;
        must_udp(a1, a2, &[1, 2048, 4096, 8972])?;
        must_tcp(a1, a2)?;
        must_tcp(a2, a1)?;
        assert_eq!(site.daemon.port(&a1.name)?.mtu, 9000);
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

/// Ports and routes of the configuration file, and the same things by the command line.
#[test]
fn from_file_and_command_line() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let node = Node::new(Netns::new("node1")?, &wire, 1)?;
    let mut pods = Vec::new();
    let mut extra = String::new();
    for number in 1..=3 {
        let pod = node.pod(Netns::new(&node.pod_name(number))?, number, Mode::L3, 1500)?;
        if number < 3 {
            extra += &format!(
                "[[port]]\nname = \"{}\"\nkind = \"afxdp\"\ndevice = \"{}\"\n\
                 addresses = [\"{}\"]\nmac = \"{}\"\n",
                pod.name,
                pod.host_device,
                pod.address,
                pod.mac()?
            );
        }
        pods.push(pod);
    }
    extra += "[[route]]\nprefix = \"10.244.66.0/24\"\nblackhole = true\n";
    let config = Config {
        uplink: false,
        extra,
        ..Config::new(Mode::L3, 0)
    };
    let daemon = Daemon::start(&node, &config)?;
    let [a1, a2, a3] = &pods[..] else {
        anyhow::bail!("three pods")
    };
    must_ping(&a1.netns, a2.address, 3, "")?;

    let socket = daemon.socket().to_str().unwrap_or_default();
    let command = |words: &str| -> Result<String> {
        let words: Vec<&str> = ["--socket", socket]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        let (status, output) = shunt(&node.netns, &words)?;
        anyhow::ensure!(status.success(), "shunt {words:?}: {status}: {output}");
        Ok(output)
    };
    command(&format!(
        "port add a3 --device {} --address {} --mac {}",
        a3.host_device,
        a3.address,
        a3.mac()?
    ))?;
    must_tcp(a3, a1)?;
    command("route add 10.244.67.0/24 --blackhole")?;
    let routes = command("route list")?;
    for prefix in ["10.244.66.0/24", "10.244.67.0/24", "10.244.1.13"] {
        assert!(routes.contains(prefix), "{routes}");
    }
    let found = command("route get 10.244.0.0/16 --covered")?;
    assert!(
        found.contains("no route covers all of 10.244.0.0/16"),
        "{found}"
    );
    assert!(
        found.contains("10.244.67.0/24") && found.contains("10.244.1.13/32"),
        "{found}"
    );
    command("route del 10.244.67.0/24")?;
    assert!(!command("route list")?.contains("10.244.67.0/24"));
    let nowhere = ["--socket", socket, "route", "get", "10.244.67.1"];
    let (status, output) = shunt(&node.netns, &nowhere)?;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("no route to 10.244.67.1"), "{output}");
    let (status, output) = shunt(&node.netns, &["--socket", socket, "port", "del", "a9"])?;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("a9"), "{output}");
    for pod in &pods {
        command(&format!("port del {}", pod.name))?;
    }
    // The kernel gives back what it held soon after the ports are gone.
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let stats = daemon.stats()?;
        if (stats.pool_free, stats.in_flight) == (stats.pool_total, 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        sleep(Duration::from_millis(10));
    }
    assert!(command("stats")?.contains("balanced"));
    daemon.stop()
}

/// Pods whose `eth0` is a TAP that the daemon makes in their namespace.
#[test]
fn tap_pods() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for mode in [Mode::L3, Mode::L2] {
        let (site, _wire) = lone_node(mode, 1, 1500)?;
        let mut taps = Vec::new();
        for number in [2, 3] {
            let tap = tap_pod(&site.node, &site.daemon, number, mode)?;
            taps.push(tap);
        }
        let veth = &site.pods[0];
        for (from, to) in [(&taps[0], &taps[1]), (&taps[1], veth), (veth, &taps[0])] {
            must_ping(&from.netns, to.address, 5, "")?;
            must_ping(&from.netns, to.address, 2, "-M do -s 1472")?;
            must_udp(from, to, &[0, 1, 1472])?;
            must_tcp(from, to)?;
        }
        site.daemon.must_return_all_frames()?;
        assert!(
            taps[0].netns.ip("link show dev eth0").is_err(),
            "the TAP goes with its port"
        );
    }
    Ok(())
}

fn tap_pod(node: &Node, daemon: &Daemon, number: u8, mode: Mode) -> Result<Pod> {
    let name = node.pod_name(number);
    let pod = Pod::bare(Netns::new(&name)?, &name, node.pod_address(number), 1500);
    daemon.port_add(PortSpec {
        name,
        kind: PortKind::Tap,
        device: "eth0".to_owned(),
        netns: Some(pod.netns.path().into()),
        addresses: vec![pod.address.into()],
        ..PortSpec::default()
    })?;
    pod.netns.ip("link set eth0 up")?;
    pod.configure(mode, node.pod_cidr, node.gateway(mode))?;
    Ok(pod)
}
