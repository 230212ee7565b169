//! What a pod may receive and send: enforced in the switch, on a node and between nodes, and not
//! felt by others.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shunt_api::{Encap, PortSpec, RateLimit};
use shunt_tests::balance::drops_between;
use shunt_tests::cluster::{Cluster, Spec};
use shunt_tests::daemon::Daemon;
use shunt_tests::netns::Netns;
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::probe::{must_ping, tcp};
use shunt_tests::testbed::Testbed;

/// Goodput as a part of the rate, which counts Ethernet headers too.
const LEAST: f64 = 0.75;
const MOST: f64 = 1.05;
/// How long a transfer takes.
const DURATION: Duration = Duration::from_secs(2);
/// Octets of a datagram.
const DATAGRAM: usize = 1372;

/// The bits of a twentieth of a second may pass at once.
fn limit(rate: u64) -> RateLimit {
    RateLimit {
        rate,
        burst: rate / 20,
    }
}

/// Goodput in bit/s beyond the first burst.
fn goodput(bytes: u64, seconds: f64, limit: Option<RateLimit>) -> f64 {
    let burst = limit.map_or(0, |limit| limit.burst);
    (bytes * 8).saturating_sub(burst) as f64 / seconds
}

fn must_keep(what: &str, bits: f64, limit: RateLimit) -> Result<()> {
    let part = bits / limit.rate as f64;
    println!("{what}: {:.1} Mbit/s, {:.1} %", bits / 1e6, part * 100.0);
    ensure!(
        (LEAST..=MOST).contains(&part),
        "{what}: {:.1} of {} Mbit/s",
        bits / 1e6,
        limit.rate / 1_000_000
    );
    Ok(())
}

/// TCP goodput in bit/s.
fn stream(from: &Pod, to: &Pod, limit: Option<RateLimit>) -> Result<f64> {
    let seen = tcp(&from.netns, (&to.netns, to.address), DURATION)?;
    let seconds = seen.bytes as f64 * 8e-9 / seen.gbps;
    Ok(goodput(seen.bytes, seconds, limit))
}

/// UDP goodput in bit/s of twice the rate.
fn flood(from: &Pod, to: &Pod, limit: RateLimit) -> Result<f64> {
    let server = to
        .netns
        .within(|| UdpSocket::bind(SocketAddr::new(to.address.into(), 0)))??;
    server.set_read_timeout(Some(Duration::from_millis(700)))?;
    let target = server.local_addr()?;
    let client = from
        .netns
        .within(|| UdpSocket::bind(SocketAddr::new(from.address.into(), 0)))??;
    let per_second = 2.0 * limit.rate as f64 / (8 * DATAGRAM) as f64;
    thread::scope(|scope| -> Result<f64> {
        let sender = scope.spawn(move || -> Result<()> {
            let begin = Instant::now();
            let mut sent = 0u64;
            while begin.elapsed() < DURATION {
                let due = (begin.elapsed().as_secs_f64() * per_second) as u64;
                while sent < due {
                    // A full queue of the sender's own is no matter: it has sent twice too much.
                    let _ = client.send_to(&[0x55; DATAGRAM], target);
                    sent += 1;
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        let mut buffer = [0; 2048];
        let mut first = None;
        let mut last = Instant::now();
        let mut bytes = 0u64;
        while let Ok(length) = server.recv(&mut buffer) {
            last = Instant::now();
            first.get_or_insert(last);
            bytes += length as u64;
        }
        sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let first = first.context("no datagram arrived")?;
        Ok(goodput(bytes, (last - first).as_secs_f64(), Some(limit)))
    })
}

fn attach(daemon: &Daemon, pod: &Pod, edit: impl FnOnce(&mut PortSpec)) -> Result<()> {
    let mut spec = Daemon::veth_port(pod)?;
    edit(&mut spec);
    daemon.port_add(spec)?;
    Ok(())
}

/// What the kernel has not handed over: of a pod that may not send, frames stay with it.
fn kept_back(daemon: &Daemon, name: &str) -> Result<u64> {
    let stats = daemon.stats()?;
    let port = stats.ports.iter().find(|port| port.name == name);
    Ok(port.context("no such port")?.kernel.values().sum())
}

/// Two nodes, four pods and one; the first pod may send and the second receive as much as `rate`.
fn with_rate(rate: u64, check: impl FnOnce(&Cluster, RateLimit) -> Result<()>) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let spec = Spec {
        pods: 4,
        ..Spec::new(Mode::L3, Encap::Vxlan)
    };
    let cluster = Cluster::build(&spec, Netns::new)?;
    let limit = limit(rate);
    let site = &cluster.sites[0];
    for (index, pod) in site.pods.iter().enumerate().take(2) {
        site.daemon.port_del(&pod.name)?;
        attach(&site.daemon, pod, |spec| match index {
            0 => spec.egress = Some(limit),
            _ => spec.ingress = Some(limit),
        })?;
    }
    for (from, to) in cluster.pairs() {
        must_ping(&from.netns, to.address, 1, "")?;
    }
    check(&cluster, limit)?;
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

fn streams(rate: u64) -> Result<()> {
    with_rate(rate, |cluster, limit| {
        let [a1, a2, a3, a4] = &cluster.sites[0].pods[..] else {
            anyhow::bail!("four pods")
        };
        let b1 = &cluster.sites[1].pods[0];
        for (what, from, to) in [
            ("egress, same node", a1, a3),
            ("egress, other node", a1, b1),
            ("ingress, same node", a3, a2),
            ("ingress, other node", b1, a2),
        ] {
            must_keep(what, stream(from, to, Some(limit))?, limit)?;
        }
        // The other direction has no limit, nor have the others.
        for (what, from, to) in [
            ("to the sender", a3, a1),
            ("from the receiver", a2, a3),
            ("between others", a3, a4),
        ] {
            let bits = stream(from, to, None)?;
            println!("{what}: {:.1} Mbit/s", bits / 1e6);
            ensure!(
                bits > 1.2 * limit.rate as f64,
                "{what}: {:.1} Mbit/s",
                bits / 1e6
            );
        }
        Ok(())
    })
}

#[test]
fn streams_of_20_mbit() -> Result<()> {
    streams(20_000_000)
}

#[test]
fn streams_of_200_mbit() -> Result<()> {
    streams(200_000_000)
}

fn floods(rate: u64) -> Result<()> {
    with_rate(rate, |cluster, limit| {
        let site = &cluster.sites[0];
        let [a1, a2, a3, a4] = &site.pods[..] else {
            anyhow::bail!("four pods")
        };
        let b1 = &cluster.sites[1].pods[0];
        for (what, from, to) in [
            ("egress, same node", a1, a4),
            ("egress, other node", a1, b1),
        ] {
            let kept = kept_back(&site.daemon, "a1")?;
            let before = site.daemon.stats()?;
            must_keep(what, flood(from, to, limit)?, limit)?;
            let kept = kept_back(&site.daemon, "a1")? - kept;
            ensure!(kept > 100, "{what}: the kernel kept {kept} frames back");
            let drops = drops_between(&before, &site.daemon.stats()?);
            ensure!(drops.is_empty(), "{what}: {drops:?}");
        }
        for (what, from, to) in [
            ("ingress, same node", a3, a2),
            ("ingress, other node", b1, a2),
        ] {
            let before = site.daemon.stats()?;
            must_keep(what, flood(from, to, limit)?, limit)?;
            let drops = drops_between(&before, &site.daemon.stats()?);
            let limited = drops.get("rate_limit").copied().unwrap_or_default();
            ensure!(drops.len() == 1 && limited > 100, "{what}: {drops:?}");
        }
        // Beside both floods the others have what they had.
        thread::scope(|scope| -> Result<()> {
            let flooding =
                [(a1, b1), (a4, a2)].map(|(from, to)| scope.spawn(move || flood(from, to, limit)));
            let bits = stream(a3, a4, None)?;
            for flood in flooding {
                let bits = flood
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                ensure!(bits > 0.0, "no datagram beyond the burst");
            }
            println!("beside floods: {:.1} Mbit/s", bits / 1e6);
            ensure!(
                bits > 1.2 * limit.rate as f64,
                "beside floods: {:.1} Mbit/s",
                bits / 1e6
            );
            Ok(())
        })
    })
}

#[test]
fn floods_of_20_mbit() -> Result<()> {
    floods(20_000_000)
}

#[test]
fn floods_of_200_mbit() -> Result<()> {
    floods(200_000_000)
}
