//! Pods of two nodes, from the first packet to the last file.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shunt_tests::cri::{CriPod, sandbox_config};
use shunt_tests::probe::curl;
use shunt_tests::testbed::Testbed;

use crate::node::{CriNode, must_talk, pair};

#[test]
fn pods_of_two_nodes_talk_are_probed_and_go() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (nodes, _wire) = pair()?;
    let [one, two] = &nodes;
    let pods = [
        (one, one.run("a1")?),
        (one, one.run("a2")?),
        (two, two.run("b1")?),
        (two, two.run("b2")?),
    ];
    let seen: Vec<_> = pods.iter().map(|(node, pod)| (*node, pod)).collect();
    must_talk(&seen)?;
    for (node, pod) in &seen {
        node.must_probe(pod)?;
    }
    for (node, pod) in &seen {
        pod.remove(&node.containerd)?;
    }
    for node in &nodes {
        node.must_be_clean()?;
        node.uninstall()?;
    }
    Ok(())
}

/// As many as a kubelet starts at once when a node comes back.
const AT_ONCE: usize = 8;

#[test]
fn pods_come_and_go_at_once() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (node, _wire) = CriNode::lone()?;
    let node = &node;
    let pods: Vec<CriPod> = thread::scope(|scope| {
        let making: Vec<_> = (0..AT_ONCE)
            .map(|number| scope.spawn(move || node.run(&format!("p{number}"))))
            .collect();
        let made = making.into_iter().map(|pod| pod.join());
        made.map(|pod| pod.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<_>>()
    })?;
    ensure!(node.cni.pods()?.len() == AT_ONCE, "{:?}", node.cni.pods()?);
    let seen: Vec<_> = pods.iter().map(|pod| (node, pod)).collect();
    let (few, rest) = seen.split_at(2);
    must_talk(few)?;
    for (_, pod) in rest {
        for (_, other) in few {
            pod.must_fetch(&node.containerd, other)?;
            other.must_fetch(&node.containerd, pod)?;
        }
    }
    thread::scope(|scope| {
        let removing: Vec<_> = pods
            .iter()
            .map(|pod| scope.spawn(|| pod.remove(&node.containerd)))
            .collect();
        let mut removed = removing.into_iter().map(|pod| pod.join());
        removed.try_for_each(|pod| pod.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    node.must_be_clean()
}

/// What a pod's annotations say in bit/s.
const RATE: &str = "kubernetes.io/egress-bandwidth";

#[test]
fn a_pod_is_held_to_its_bandwidth() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (node, _wire) = CriNode::lone()?;
    let free = node.run("free")?;
    let mut config = sandbox_config("held");
    config.annotations.insert(RATE.to_owned(), "8M".to_owned());
    let held = CriPod::run_as(&node.containerd, &config)?;
    let fill = "busybox head -c 4000000 /dev/zero > /tmp/big";
    let mut took = Vec::new();
    for pod in [&free, &held] {
        let cri = node.containerd.cri()?;
        cri.must_exec(&pod.container, &["/bin/sh", "-c", fill])?;
        let url = format!("http://{}/big", pod.server()?);
        let begin = Instant::now();
        curl(&node.cni.node.netns, 20, &["--output", "/dev/null"], &url)?;
        took.push(begin.elapsed());
    }
    // 32 Mbit at 8 Mbit/s, less a burst of 1 Mbit.
    let [free_took, held_took] = took[..] else {
        anyhow::bail!("{took:?}");
    };
    ensure!(
        free_took < Duration::from_secs(2) && held_took > Duration::from_secs(3),
        "4 MB without a limit in {free_took:?}, at 8 Mbit/s in {held_took:?}"
    );
    held.remove(&node.containerd)?;
    free.remove(&node.containerd)?;
    node.must_be_clean()
}
