//! Pods that end in no order: processes killed, namespaces and interfaces gone.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use shunt_tests::command::run;
use shunt_tests::cri::{CriPod, sandbox_config};
use shunt_tests::testbed::Testbed;

use crate::node::{CriNode, must_talk};

fn must_hold(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds()? {
        ensure!(Instant::now() < deadline, "{what}: not in ten seconds");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Kills a process and waits until it is gone.
fn kill(pid: Pid) -> Result<()> {
    kill_process(pid, Signal::KILL)?;
    must_hold("the end of a killed process", || {
        Ok(rustix::process::test_kill_process(pid).is_err())
    })
}

#[test]
fn a_killed_pod_is_made_anew() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (node, _wire) = CriNode::lone()?;
    let stays = node.run("stays")?;
    let killed = node.run("web")?;
    kill(killed.pause)?;
    must_hold("a sandbox that is not ready", || {
        Ok(!killed.is_ready(&node.containerd)?)
    })?;
    node.must_probe(&stays)?;
    // The kubelet stops what is not ready, makes a new sandbox of the same pod, and removes the
    // old one later.
    node.containerd.cri()?.stop_sandbox(&killed.sandbox)?;
    let mut config = sandbox_config("web");
    if let Some(metadata) = &mut config.metadata {
        metadata.attempt = 1;
    }
    let again = CriPod::run_as(&node.containerd, &config)?;
    must_talk(&[(&node, &stays), (&node, &again)])?;
    node.containerd.cri()?.remove_sandbox(&killed.sandbox)?;
    must_talk(&[(&node, &stays), (&node, &again)])?;
    stays.remove(&node.containerd)?;
    again.remove(&node.containerd)?;
    node.must_be_clean()
}

#[test]
fn a_vanished_namespace_is_collected() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (node, _wire) = CriNode::lone()?;
    let stays = node.run("stays")?;
    let gone = node.run("gone")?;
    let container = node.containerd.cri()?.container_process(&gone.container)?;
    kill(gone.pause)?;
    kill(container)?;
    run(&["umount", &gone.netns.display().to_string()])?;
    std::fs::remove_file(&gone.netns)?;
    must_hold("the attachment's end", || Ok(node.cni.pods()?.len() == 1))?;
    must_hold("its record's end", || Ok(node.cni.records()?.len() == 1))?;
    // Two addresses of the pod that stays.
    must_hold(
        "its lease's end",
        || Ok(node.cni.leases().all()?.len() == 2),
    )?;
    node.must_probe(&stays)?;
    gone.remove(&node.containerd)?;
    stays.remove(&node.containerd)?;
    node.must_be_clean()
}

#[test]
fn a_deleted_interface_is_collected() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let (node, _wire) = CriNode::lone()?;
    let stays = node.run("stays")?;
    let cut = node.run("cut")?;
    let port = node
        .cni
        .pods()?
        .into_iter()
        .find(|pod| pod.key.container_id == cut.sandbox);
    let port = port.map(|pod| pod.port).unwrap_or_default();
    node.cni.node.netns.ip(&format!("link del {port}"))?;
    must_hold("the attachment's end", || Ok(node.cni.pods()?.len() == 1))?;
    must_hold(
        "its lease's end",
        || Ok(node.cni.leases().all()?.len() == 2),
    )?;
    node.must_probe(&stays)?;
    cut.remove(&node.containerd)?;
    stays.remove(&node.containerd)?;
    node.must_be_clean()
}
