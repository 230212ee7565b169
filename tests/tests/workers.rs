//! Two workers in one daemon: pods whose frames cross from one core to another.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shunt_api::{Encap, PortKind, PortRole, RouteTarget, StatsReport};
use shunt_tests::config::Config;
use shunt_tests::daemon::{Daemon, shunt};
use shunt_tests::netns::Netns;
use shunt_tests::node::{Node, pod_cidr, underlay_address};
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::probe::{must_ping, must_tcp, must_udp, tcp};
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

const WORKERS: usize = 2;

/// A node whose daemon has a worker on each of two cores, and pods on both. The daemon goes first.
struct TwoCores {
    daemon: Daemon,
    pods: Vec<Pod>,
    node: Node,
}

impl TwoCores {
    /// Pod N is on worker `worker_of(N)`.
    fn new(wire: &Wire, index: u8, mode: Mode, pods: u8, mtu: u32, uplink: bool) -> Result<Self> {
        let node = Node::new(Netns::new(&format!("node{index}"))?, wire, index)?;
        let config = Config {
            cores: (0..WORKERS).collect(),
            uplink,
            // The end of a connection may come when its pod is detached, and then waits.
            extra: "[neighbours]\ntimeout = 500\n".to_owned(),
            ..Config::new(mode, 0)
        };
        let daemon = Daemon::start(&node, &config)?;
        let mut made = Vec::new();
        for number in 1..=pods {
            let pod = node.pod(Netns::new(&node.pod_name(number))?, number, mode, mtu)?;
            let mut spec = Daemon::veth_port(&pod)?;
            spec.worker = Some(worker_of(number));
            daemon.port_add(spec)?;
            made.push(pod);
        }
        let site = Self {
            daemon,
            pods: made,
            node,
        };
        for (number, pod) in (1..).zip(&site.pods) {
            let port = site.daemon.port(&pod.name)?;
            ensure!(port.worker == worker_of(number), "{port:?}");
        }
        Ok(site)
    }

    fn pairs(&self) -> impl Iterator<Item = (&Pod, &Pod)> {
        let pods = &self.pods;
        pods.iter()
            .flat_map(move |from| pods.iter().map(move |to| (from, to)))
            .filter(|(from, to)| from.name != to.name)
    }
}

fn worker_of(pod: u8) -> usize {
    usize::from(pod - 1) % WORKERS
}

/// Calls `traffic` and takes the counters over and over meanwhile: each copy must balance.
fn balanced_throughout(daemon: &Daemon, traffic: impl FnOnce() -> Result<()>) -> Result<Copies> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<Copies> {
            let first = daemon.stats()?.received;
            let mut seen = Copies::default();
            let mut before = first;
            while !over.load(Ordering::Relaxed) {
                let now = daemon.stats().context("counters under traffic")?.received;
                ensure!(now >= before, "received fell from {before} to {now}");
                seen.taken += 1;
                seen.moved += u32::from(now > before);
                before = now;
            }
            Ok(seen)
        });
        let outcome = traffic();
        over.store(true, Ordering::Relaxed);
        let seen = watcher
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        outcome.map(|()| seen)
    })
}

/// Copies of the counters, and those among them that showed frames that the one before had not.
#[derive(Debug, Default)]
struct Copies {
    taken: u32,
    moved: u32,
}

/// One TCP connection for each of `pairs`, all at once.
fn tcp_at_once<'a>(pairs: impl Iterator<Item = (&'a Pod, &'a Pod)>) -> Result<()> {
    thread::scope(|scope| {
        let streams: Vec<_> = pairs
            .map(|(from, to)| {
                scope.spawn(move || {
                    let to = (&to.netns, to.address);
                    tcp(&from.netns, to, Duration::from_millis(1500))
                })
            })
            .collect();
        for stream in streams {
            let seen = stream
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            ensure!(seen.bytes > 100_000, "{} bytes only", seen.bytes);
        }
        Ok(())
    })
}

fn each_pair<'a>(pairs: impl Iterator<Item = (&'a Pod, &'a Pod)>, mtu: usize) -> Result<()> {
    for (from, to) in pairs {
        must_ping(&from.netns, to.address, 5, "")?;
        must_ping(
            &from.netns,
            to.address,
            2,
            &format!("-M do -s {}", mtu - 28),
        )?;
        must_udp(from, to, &[0, 1, 100, mtu - 28])?;
        must_tcp(from, to)?;
        // In fragments.
        must_udp(from, to, &[4000, 20_000])?;
    }
    Ok(())
}

/// As long as no port has been removed, no frame misses the port it was handed over for.
fn no_hand_over_lost(stats: &StatsReport) {
    for reason in ["port_gone", "tx_rejected", "next_hop_gone"] {
        assert_eq!(stats.drops.get(reason), None, "{:?}", stats.drops);
    }
}

fn pods_of_two_workers(mode: Mode) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let site = TwoCores::new(&wire, 1, mode, 4, 1500, false)?;
    assert_eq!(site.daemon.status()?.cores, [0, 1]);

    let seen = balanced_throughout(&site.daemon, || each_pair(site.pairs(), 1500))?;
    assert!(seen.taken > 100 && seen.moved > 20, "{seen:?}");
    // Every frame between a1 and a2 crosses. One way at a time: what is on its way back must not
    // make up for what a copy is short of.
    let (a1, a2, a4) = (&site.pods[0], &site.pods[1], &site.pods[3]);
    for streams in [
        &[(a1, a2)][..],
        &[(a2, a1)],
        &[(a1, a2), (a2, a1), (a4, a1)],
    ] {
        let seen = balanced_throughout(&site.daemon, || tcp_at_once(streams.iter().copied()))?;
        assert!(seen.taken > 10 && seen.moved > 5, "{seen:?}");
    }

    no_hand_over_lost(&site.daemon.stats()?);
    let stats = site.daemon.must_return_all_frames()?;
    assert_eq!(stats.pool_free, stats.pool_total);
    site.daemon.stop()
}

#[test]
fn l3_pods_of_two_workers() -> Result<()> {
    pods_of_two_workers(Mode::L3)
}

#[test]
fn l2_pods_of_two_workers() -> Result<()> {
    pods_of_two_workers(Mode::L2)
}

/// A broadcast reaches the pods of both workers, once each.
#[test]
fn floods_reach_every_worker() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let site = TwoCores::new(&wire, 1, Mode::L2, 4, 1500, false)?;
    let before = site.daemon.stats()?;
    let a1 = &site.pods[0];
    // Nobody has the address: the request is flooded and never answered.
    let nobody = Ipv4Addr::new(10, 244, 1, 200);
    assert_eq!(
        shunt_tests::probe::ping(&a1.netns, nobody, 1, "")?.received,
        0
    );
    let after = site.daemon.stats()?;
    let sent = |stats: &StatsReport, pod: &Pod| {
        let ports = &stats.ports;
        ports
            .iter()
            .find(|port| port.name == pod.name)
            .map_or(0, |port| port.tx_packets)
    };
    let asked = after.received - before.received;
    assert!(asked >= 1, "no request");
    for pod in &site.pods[1..] {
        assert_eq!(
            sent(&after, pod) - sent(&before, pod),
            asked,
            "{}",
            pod.name
        );
    }
    assert_eq!(sent(&after, a1), sent(&before, a1));
    assert_eq!(after.generated - before.generated, 2 * asked);
    site.daemon.must_return_all_frames()?;
    site.daemon.stop()
}

/// The uplink belongs to one worker, so that half of the pods send to it and get from it across.
#[test]
fn tunnels_from_either_worker() -> Result<()> {
    const MTU: u32 = 1450;
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let one = TwoCores::new(&wire, 1, Mode::L3, 2, MTU, true)?;
    let two = TwoCores::new(&wire, 2, Mode::L3, 2, MTU, true)?;
    for (site, other) in [(&one, 2), (&two, 1)] {
        let via = underlay_address(other).into();
        let to = RouteTarget::Node {
            via,
            encap: Encap::Vxlan,
            vtep_mac: None,
        };
        site.daemon.route_add(pod_cidr(other)?, to)?;
        let ports = site.daemon.ports()?;
        let uplink = ports.iter().find(|port| port.role == PortRole::Uplink);
        let uplink = uplink.with_context(|| format!("node {}: {ports:?}", site.node.index))?;
        let elsewhere = |port: &&shunt_api::PortInfo| port.worker != uplink.worker;
        ensure!(ports.iter().any(|port| elsewhere(&port)), "{ports:?}");
    }
    let across = || {
        one.pods
            .iter()
            .flat_map(|a| two.pods.iter().flat_map(move |b| [(a, b), (b, a)]))
    };
    for site in [&one, &two] {
        let seen = balanced_throughout(&site.daemon, || each_pair(across(), MTU as usize))?;
        assert!(seen.taken > 50 && seen.moved > 10, "{seen:?}");
    }
    let seen = balanced_throughout(&one.daemon, || {
        tcp_at_once([(&one.pods[0], &two.pods[1]), (&two.pods[0], &one.pods[1])].into_iter())
    })?;
    assert!(seen.taken > 10 && seen.moved > 5, "{seen:?}");
    for site in [one, two] {
        no_hand_over_lost(&site.daemon.stats()?);
        site.daemon.must_return_all_frames()?;
        site.daemon.stop()?;
    }
    Ok(())
}

/// The command line's `--worker`, the choice without it, and a worker that does not exist.
#[test]
fn who_owns_a_port() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let site = TwoCores::new(&wire, 1, Mode::L3, 0, 1500, false)?;
    let (node, daemon) = (&site.node, &site.daemon);
    let pod = |number| node.pod(Netns::new(&node.pod_name(number))?, number, Mode::L3, 1500);
    let pods: Vec<Pod> = (1..=5).map(pod).collect::<Result<_>>()?;
    for pod in &pods[..4] {
        daemon.attach(pod)?;
    }
    let mut count = [0; WORKERS];
    for port in daemon.ports()? {
        assert_eq!(port.kind, PortKind::Afxdp);
        count[port.worker] += 1;
    }
    assert_eq!(count, [2, 2], "the least loaded worker gets a port");
    let add = |worker: &str| -> Result<(std::process::ExitStatus, String)> {
        let last = &pods[4];
        let socket = daemon.socket().to_str().unwrap_or_default();
        let line = format!(
            "--socket {socket} port add {} --device {} --address {} --mac {} --worker {worker}",
            last.name,
            last.host_device,
            last.address,
            last.mac()?
        );
        shunt(&node.netns, &line.split(' ').collect::<Vec<_>>())
    };
    let (status, output) = add("2")?;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("worker 2"), "{output}");
    let (status, output) = add("1")?;
    assert!(status.success(), "{output}");
    assert_eq!(daemon.port(&pods[4].name)?.worker, 1);
    must_tcp(&pods[4], &pods[0])?;
    must_tcp(&pods[0], &pods[4])?;
    daemon.must_return_all_frames()?;
    site.daemon.stop()
}
