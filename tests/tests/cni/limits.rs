//! Checklist: "bandwidth {IngressRate,IngressBurst,EgressRate,EgressBurst} in bit/s": enforced.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use shunt_tests::cni::{CniPod, Container};
use shunt_tests::netns::Netns;
use shunt_tests::probe::tcp;

use crate::lone;

const RATE: u64 = 50_000_000;
const BURST: u64 = RATE / 20;
const DURATION: Duration = Duration::from_secs(2);

/// TCP goodput in bit/s beyond the first burst.
fn stream(from: &CniPod, to: &CniPod) -> Result<f64> {
    let seen = tcp(&from.netns, (&to.netns, to.address()?), DURATION)?;
    let seconds = seen.bytes as f64 * 8e-9 / seen.gbps;
    Ok((seen.bytes * 8).saturating_sub(BURST) as f64 / seconds)
}

fn must_be_limited(what: &str, from: &CniPod, to: &CniPod) -> Result<()> {
    let part = stream(from, to)? / RATE as f64;
    println!("{what}: {:.1} %", part * 100.0);
    ensure!(
        (0.75..=1.05).contains(&part),
        "{what}: {:.1} %",
        part * 100.0
    );
    Ok(())
}

fn must_be_free(what: &str, from: &CniPod, to: &CniPod) -> Result<()> {
    let bits = stream(from, to)?;
    println!("{what}: {:.0} Mbit/s", bits / 1e6);
    ensure!(bits > 1.5 * RATE as f64, "{what}: {:.0} Mbit/s", bits / 1e6);
    Ok(())
}

#[test]
fn bandwidth_is_enforced() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let limited = |bandwidth: Value| {
        move |container: Container| container.offer("bandwidth", bandwidth.clone())
    };
    // containerd sends Go's names, podman and CRI-O camel case.
    let sender = CniPod::add_with(
        &runtime,
        "sender",
        limited(json!({
            "IngressRate": 0, "IngressBurst": 0, "EgressRate": RATE, "EgressBurst": BURST,
        })),
    )?;
    let receiver = CniPod::add_with(
        &runtime,
        "receiver",
        limited(json!({"ingressRate": RATE, "ingressBurst": BURST})),
    )?;
    let other = CniPod::add(&runtime, "other")?;
    must_be_limited("egress", &sender, &other)?;
    must_be_limited("ingress", &other, &receiver)?;
    must_be_free("to the sender", &other, &sender)?;
    must_be_free("from the receiver", &receiver, &other)?;
    // Still after a restart.
    node.daemon.halt(Signal::TERM)?;
    node.daemon.start_again()?;
    must_be_limited("egress after a restart", &sender, &other)?;
    must_be_limited("ingress after a restart", &other, &receiver)?;
    for pod in [sender, receiver, other] {
        runtime.del(&pod.container)?;
    }
    assert_eq!(node.pods()?, []);
    Ok(())
}

/// Rates that cannot be kept.
#[test]
fn impossible_bandwidths_are_refused() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    for bad in [
        json!({"ingressRate": 5}),
        json!({"egressRate": 10u64.pow(15)}),
        json!({"egressRate": -1}),
        json!({"egressRate": "fast"}),
        json!({"ingressRate": RATE, "ingressBurst": 3}),
    ] {
        let container = Container::new(&netns.path()).offer("bandwidth", bad.clone());
        let error = runtime.try_add(&container)?.error()?;
        ensure!([6, 7].contains(&error.code), "{bad}: {error:?}");
    }
    // Nothing asked for, with or without a burst.
    for free in [json!({}), json!({"ingressRate": 0, "ingressBurst": 1000})] {
        let container = Container::new(&netns.path()).offer("bandwidth", free);
        runtime.add(&container)?;
        runtime.del(&container)?;
    }
    node.must_be_clean()
}
