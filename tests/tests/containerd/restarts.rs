//! containerd and Shunt end and come back while pods run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use shunt_tests::cri::{CriPod, sandbox_config};
use shunt_tests::testbed::Testbed;

use crate::node::{CriNode, must_talk, pair};

#[test]
fn pods_outlive_containerd() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (mut nodes, _wire) = pair()?;
    let pods = [
        nodes[0].run("a1")?,
        nodes[0].run("a2")?,
        nodes[1].run("b1")?,
    ];
    for crash in [false, true] {
        match crash {
            false => nodes[0].containerd.stop()?,
            true => nodes[0].containerd.kill()?,
        }
        for pod in &pods {
            nodes[1].must_probe(pod)?;
        }
        nodes[0].containerd.start_again()?;
        let [a1, a2, b1] = &pods;
        must_talk(&[(&nodes[0], a1), (&nodes[0], a2), (&nodes[1], b1)])?;
    }
    let [a1, a2, b1] = &pods;
    a1.remove(&nodes[0].containerd)?;
    a2.remove(&nodes[0].containerd)?;
    b1.remove(&nodes[1].containerd)?;
    for node in &nodes {
        node.must_be_clean()?;
    }
    Ok(())
}

#[test]
fn pods_outlive_shunt() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (mut nodes, _wire) = pair()?;
    let mut pods = vec![nodes[0].run("a1")?, nodes[0].run("a2")?];
    let far = nodes[1].run("b1")?;
    for signal in [Signal::TERM, Signal::KILL] {
        let [one, two] = &mut nodes;
        one.halt(signal)?;
        one.cni.daemon.start_again()?;
        ensure!(one.cni.pods()?.len() == pods.len(), "pods are missing");
        // Routes to other nodes are nobody's to remember but the agent's.
        one.route_to(two)?;
        // The next pod gets an address that none of those before has.
        pods.push(nodes[0].run(&format!("after{}", pods.len()))?);
        let mut all: Vec<(&CriNode, &CriPod)> = pods.iter().map(|pod| (&nodes[0], pod)).collect();
        all.push((&nodes[1], &far));
        must_talk(&all).with_context(|| nodes[0].cni.daemon.log())?;
        for (_, pod) in &all {
            nodes[0].must_probe(pod)?;
        }
    }
    for pod in &pods {
        pod.remove(&nodes[0].containerd)?;
    }
    far.remove(&nodes[1].containerd)?;
    for node in &nodes {
        node.must_be_clean()?;
    }
    Ok(())
}

#[test]
fn a_pod_goes_while_shunt_is_away() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (mut node, _wire) = CriNode::lone()?;
    let stays = node.run("stays")?;
    let other = node.run("other")?;
    let goes = node.run("goes")?;
    let leases = node.cni.leases().all()?.len();
    node.halt(Signal::TERM)?;

    // A new pod is refused soon, and nothing of it is left.
    let begin = Instant::now();
    let refused = node
        .containerd
        .cri()?
        .run_sandbox(&sandbox_config("early"))
        .err()
        .context("a pod without a switch")?;
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(3), "refused after {took:?}");
    let refused = format!("{refused:#}");
    ensure!(refused.contains("shunt"), "{refused}");
    ensure!(node.cni.leases().all()?.len() == leases, "a lease is left");
    ensure!(node.containerd.shims()? == 3, "a shim is left");

    goes.remove(&node.containerd)?;
    ensure!(!goes.netns.exists(), "{} is left", goes.netns.display());
    let waiting = node.cni.queue()?.len();
    ensure!(waiting >= 1, "{waiting} detachments wait");

    node.cni.daemon.start_again()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.cni.pods()?.len() != 2 || !node.cni.queue()?.is_empty() {
        ensure!(
            Instant::now() < deadline,
            "{:?} and {:?}",
            node.cni.pods()?,
            node.cni.queue()?
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    must_talk(&[(&node, &stays), (&node, &other)])?;
    // The kubelet asks again for what it could not have before.
    let early = node.run("early")?;
    must_talk(&[(&node, &stays), (&node, &other), (&node, &early)])?;
    for pod in [&stays, &other, &early] {
        pod.remove(&node.containerd)?;
    }
    node.must_be_clean()
}

#[test]
fn a_pod_goes_while_shunt_hangs() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (mut node, _wire) = CriNode::lone()?;
    let stays = node.run("stays")?;
    let goes = node.run("goes")?;
    node.cni.daemon.signal(Signal::STOP);
    let begin = Instant::now();
    let removed = goes.remove(&node.containerd);
    let took = begin.elapsed();
    node.cni.daemon.signal(Signal::CONT);
    removed?;
    ensure!(took < Duration::from_secs(30), "removed after {took:?}");
    node.must_probe(&stays)?;
    stays.remove(&node.containerd)?;
    node.must_be_clean()
}
