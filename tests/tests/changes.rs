//! What changes while traffic flows: ports and routes come and go, devices vanish, a second daemon
//! tries its luck, and the node's own traffic goes on.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shunt_api::{Encap, PortRole, RouteTarget};
use shunt_tests::cluster::{Cluster, Spec};
use shunt_tests::daemon::{Daemon, shunt};
use shunt_tests::netns::Netns;
use shunt_tests::node::{Node, pod_cidr};
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::probe::{must_not_ping, must_ping, must_reach, must_tcp, must_udp, tcp};
use shunt_tests::testbed::Testbed;

/// Runs `act` while every pair of `pods` exchanges TCP, which must not fail; returns how many
/// transfers were completed.
fn under_load<'a>(pods: &[(&'a Pod, &'a Pod)], act: impl FnOnce() -> Result<()>) -> Result<u64> {
    let over = AtomicBool::new(false);
    let transfers = AtomicU64::new(0);
    thread::scope(|scope| {
        let loads: Vec<_> = pods
            .iter()
            .map(|(from, to)| {
                scope.spawn(|| -> Result<()> {
                    while !over.load(Ordering::Relaxed) {
                        let target = (&to.netns, to.address);
                        tcp(&from.netns, target, Duration::from_millis(30))?;
                        transfers.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        let acted = act();
        over.store(true, Ordering::Relaxed);
        for load in loads {
            load.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        acted
    })?;
    Ok(transfers.into_inner())
}

#[test]
fn ports_come_and_go_under_traffic() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for mode in [Mode::L3, Mode::L2] {
        let cluster = Cluster::build(
            &Spec {
                pods: 3,
                ..Spec::new(mode, Encap::Vxlan)
            },
            Netns::new,
        )?;
        let site = &cluster.sites[0];
        let [a1, a2, a3] = &site.pods[..] else {
            anyhow::bail!("three pods")
        };
        let b1 = &cluster.sites[1].pods[0];
        let transfers = under_load(&[(a1, a2), (b1, a1)], || {
            for _ in 0..20 {
                site.daemon.port_del(&a3.name)?;
                assert!(site.daemon.port(&a3.name).is_err());
                site.daemon.attach(a3)?;
                must_reach(&a3.netns, a2.address)?;
                must_reach(&b1.netns, a3.address)?;
                site.daemon.stats()?;
            }
            Ok(())
        })?;
        assert!(transfers > 4, "{transfers} transfers");
        for site in &cluster.sites {
            site.daemon.must_return_all_frames()?;
        }
    }
    Ok(())
}

#[test]
fn routes_come_and_go_under_traffic() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = Cluster::build(&Spec::new(Mode::L3, Encap::Vxlan), Netns::new)?;
    let (one, two) = (&cluster.sites[0], &cluster.sites[1]);
    let (a1, a2, b1) = (&one.pods[0], &one.pods[1], &two.pods[0]);
    let cidr = pod_cidr(2)?;
    let transfers = under_load(&[(a1, a2)], || {
        for _ in 0..5 {
            must_reach(&a1.netns, b1.address)?;
            let before = one.daemon.stats()?;
            one.daemon.route_del(cidr)?;
            // Beside this load a request may meet a full queue before it comes to the switch.
            must_not_ping(&a1.netns, b1.address, 5, "")?;
            let after = one.daemon.stats()?;
            ensure!(
                after.drops.get("no_route") > before.drops.get("no_route"),
                "{after:?}"
            );
            one.daemon.route_add(cidr, RouteTarget::Blackhole)?;
            must_not_ping(&a1.netns, b1.address, 1, "")?;
            one.route_to(2, Encap::Vxlan)?;
            must_reach(&a1.netns, b1.address)?;
        }
        // Replacing a route by the same one, or by a more specific one, interrupts nobody.
        under_load(&[(b1, a2)], || {
            for _ in 0..50 {
                one.route_to(2, Encap::Vxlan)?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    assert!(transfers > 4, "{transfers} transfers");
    let error = one
        .daemon
        .route_del("10.77.0.0/24".parse::<ipnet::Ipv4Net>()?)
        .unwrap_err();
    assert!(error.to_string().contains("10.77.0.0/24"), "{error:#}");
    // Encapsulations change while both ends know how to receive all of them.
    for encap in [Encap::Ipip, Encap::Direct, Encap::Vxlan] {
        one.route_to(2, encap)?;
        two.route_to(1, encap)?;
        must_ping(&a1.netns, b1.address, 2, "")?;
        must_tcp(b1, a1)?;
    }
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

#[test]
fn a_device_deleted_under_load_takes_only_its_port() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for mode in [Mode::L3, Mode::L2] {
        let mut cluster = Cluster::build(
            &Spec {
                pods: 4,
                ..Spec::new(mode, Encap::Vxlan)
            },
            Netns::new,
        )?;
        let site = &cluster.sites[0];
        let [a1, a2, a3, a4] = &site.pods[..] else {
            anyhow::bail!("four pods")
        };
        let b1 = &cluster.sites[1].pods[0];
        thread::scope(|scope| -> Result<()> {
            // This load must die with the device, so its error is expected.
            let victim = scope.spawn(|| {
                tcp(
                    &a3.netns,
                    (&a4.netns, a4.address),
                    Duration::from_millis(1500),
                )
            });
            under_load(&[(a1, a2), (b1, a1)], || {
                site.node
                    .netns
                    .ip(&format!("link del {}", a3.host_device))?;
                thread::sleep(Duration::from_millis(500));
                site.daemon.stats()?;
                Ok(())
            })?;
            let died = victim
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ensure!(died.is_err(), "TCP outlived its device");
            Ok(())
        })?;
        if let Ok(port) = site.daemon.port(&a3.name) {
            assert_ne!(port.state, "up");
            site.daemon.port_del(&a3.name)?;
        }
        must_tcp(a4, a2)?;
        // The name and the address are free again.
        let site = &mut cluster.sites[0];
        site.daemon.must_run()?;
        let again = site.node.pod(Netns::new("again")?, 3, mode, 1450)?;
        site.daemon.attach(&again)?;
        must_ping(&again.netns, site.pods[0].address, 3, "")?;
        must_ping(&cluster.sites[1].pods[0].netns, again.address, 3, "")?;
        for site in &cluster.sites {
            site.daemon.must_return_all_frames()?;
        }
    }
    Ok(())
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let mut cluster = Cluster::build(&Spec::new(Mode::L3, Encap::Vxlan), Netns::new)?;
    let site = &cluster.sites[0];
    let (a1, b1) = (&site.pods[0], &cluster.sites[1].pods[0]);
    let config = site.daemon.config_file();
    let config = config.to_str().unwrap_or_default();
    let transfers = under_load(&[(a1, b1)], || {
        let begin = Instant::now();
        let (status, text) = shunt(&site.node.netns, &["run", "--config", config])?;
        ensure!(
            !status.success(),
            "the second daemon ended with success: {text}"
        );
        ensure!(
            begin.elapsed() < Duration::from_secs(5),
            "refused after {:?}",
            begin.elapsed()
        );
        let socket = site.daemon.socket().display().to_string();
        ensure!(
            text.contains(&socket),
            "the message names no socket: {text}"
        );
        Ok(())
    })?;
    assert!(transfers > 0);
    // The same uplink, but another socket: refused for the uplink.
    let text = std::fs::read_to_string(config)?;
    let socket = site.daemon.socket().display().to_string();
    let other = tempfile::NamedTempFile::new()?;
    std::fs::write(
        other.path(),
        text.replace(&socket, &format!("{socket}.other")),
    )?;
    let other = other.path().to_str().unwrap_or_default();
    let (status, text) = shunt(&site.node.netns, &["run", "--config", other])?;
    assert!(!status.success());
    assert!(text.contains("eth0"), "{text}");
    must_tcp(a1, b1)?;
    must_tcp(b1, a1)?;
    for site in &mut cluster.sites {
        site.daemon.must_run()?;
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

/// The uplink program takes tunnel packets only: a session to the node's own address lives through
/// attaching, forwarding, and the end of the daemon.
#[test]
fn the_node_keeps_its_own_traffic() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for encap in [Encap::Vxlan, Encap::Direct] {
        let mut cluster = Cluster::build(&Spec::new(Mode::L3, encap), Netns::new)?;
        let (one, two) = (&cluster.sites[0], &cluster.sites[1]);
        let before = one.daemon.stats()?;
        for (from, to) in [(one, two), (two, one)] {
            must_ping(&from.node.netns, to.node.address, 3, "")?;
            let target = (&to.node.netns, to.node.address);
            let seen = tcp(&from.node.netns, target, Duration::from_millis(200))?;
            assert_eq!(seen.client, from.node.address);
        }
        let after = one.daemon.stats()?;
        assert_eq!(
            after.received, before.received,
            "the switch took the node's own packets"
        );
        let session = Session::open(&one.node.netns, &two.node.netns, two.node.address)?;
        session.echo()?;
        must_tcp(&one.pods[0], &two.pods[0])?;
        session.echo()?;
        let last = cluster.sites.remove(1);
        last.daemon.stop()?;
        session.echo()?;
        let link = last.node.netns.ip("link show dev eth0")?;
        assert!(!link.contains("xdp"), "the program stays behind: {link}");
        cluster.sites[0].daemon.must_return_all_frames()?;
    }
    Ok(())
}

/// A TCP session that stays open, as ssh does.
struct Session {
    client: std::net::TcpStream,
    server: std::net::TcpStream,
}

impl Session {
    fn open(from: &Netns, to: &Netns, address: std::net::Ipv4Addr) -> Result<Self> {
        let listener = to.within(|| std::net::TcpListener::bind((address, 0)))??;
        let target = listener.local_addr()?;
        let client = from.within(|| std::net::TcpStream::connect(target))??;
        let (server, _) = listener.accept()?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        }
        Ok(Self { client, server })
    }

    fn echo(&self) -> Result<()> {
        use std::io::{Read, Write};
        let mut buffer = [0; 5];
        (&self.client).write_all(b"hello")?;
        (&self.server).read_exact(&mut buffer)?;
        (&self.server).write_all(&buffer)?;
        (&self.client).read_exact(&mut buffer)?;
        ensure!(&buffer == b"hello", "{buffer:?}");
        Ok(())
    }
}

/// A route may name a node that is not there yet: what is sent to it meanwhile is dropped by name,
/// and the first packet after it has come gets through.
#[test]
fn a_node_that_comes_late() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let spec = Spec {
        nodes: 1,
        pods: 1,
        ..Spec::new(Mode::L3, Encap::Direct)
    };
    let cluster = Cluster::build(&spec, Netns::new)?;
    let site = &cluster.sites[0];
    let (a1, remote) = (&site.pods[0], Ipv4Addr::new(10, 244, 2, 11));
    site.route_to(2, Encap::Direct)?;
    must_not_ping(&a1.netns, remote, 3, "")?;
    // Until then the kernel's three ARP requests, a second apart, are out, and it has given up.
    thread::sleep(Duration::from_millis(3500));
    let drops = site.daemon.stats()?.drops;
    assert_eq!(drops.get("neighbour_timeout"), Some(&3), "{drops:?}");

    let node = Node::new(Netns::new("node2")?, &cluster.wire, 2)?;
    node.netns.ip(&format!("address add {remote}/32 dev lo"))?;
    node.netns.ip(&format!(
        "route add {} via {}",
        pod_cidr(1)?,
        site.node.address
    ))?;
    must_ping(&a1.netns, remote, 5, "")?;
    site.daemon.must_return_all_frames()?;
    Ok(())
}

/// Names, devices and addresses belong to one port.
#[test]
fn what_a_port_holds_no_other_gets() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = Cluster::build(
        &Spec {
            nodes: 1,
            ..Spec::new(Mode::L3, Encap::Vxlan)
        },
        Netns::new,
    )?;
    let site = &cluster.sites[0];
    let (a1, a2) = (&site.pods[0], &site.pods[1]);
    let spare = site.node.pod(Netns::new("spare")?, 3, Mode::L3, 1450)?;
    let good = Daemon::veth_port(&spare)?;
    let before = site.daemon.ports()?;
    let uplink = before.iter().find(|port| port.role == PortRole::Uplink);
    let uplink = uplink.map(|port| port.device.clone()).unwrap_or_default();
    let refused = [
        (
            shunt_api::PortSpec {
                name: a1.name.clone(),
                ..good.clone()
            },
            a1.name.as_str(),
        ),
        (
            shunt_api::PortSpec {
                device: a1.host_device.clone(),
                ..good.clone()
            },
            "v-a1",
        ),
        (
            shunt_api::PortSpec {
                addresses: vec![a2.address.into()],
                ..good.clone()
            },
            "10.244.1.12",
        ),
        (
            shunt_api::PortSpec {
                device: "nosuch0".to_owned(),
                ..good.clone()
            },
            "nosuch0",
        ),
        (
            shunt_api::PortSpec {
                device: uplink,
                ..good.clone()
            },
            "eth0",
        ),
        (
            shunt_api::PortSpec {
                worker: Some(7),
                ..good.clone()
            },
            "7",
        ),
    ];
    for (spec, named) in refused {
        let error = site.daemon.port_add(spec.clone()).unwrap_err().to_string();
        assert!(error.contains(named), "{spec:?}: {error}");
    }
    assert_eq!(site.daemon.ports()?, before);
    assert!(
        site.daemon
            .port_del("nobody")
            .unwrap_err()
            .to_string()
            .contains("nobody")
    );
    site.daemon.port_add(good)?;
    must_udp(&spare, a1, &[100])?;
    site.daemon.must_return_all_frames()?;
    Ok(())
}
