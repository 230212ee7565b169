//! The daemon is down, hangs, or cannot work.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use shunt_tests::cni::{CniNode, CniPod, Container, Options};
use shunt_tests::netns::Netns;

use crate::restart::eventually;
use crate::{Small, built, lone, modern, must_lose_eth0, must_reach};

/// How long the plugin may take to find the daemon silent.
const AT_ONCE: Duration = Duration::from_millis(1500);
/// How long DEL may wait for a daemon that hangs.
const SOON: Duration = Duration::from_secs(15);

/// ADD fails with code 11 and IPAM is not even asked.
fn must_be_told_to_try_again(node: &CniNode, limit: Duration) -> Result<()> {
    let runtime = node.runtime(modern(node)?);
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    let asked = node.plugins.calls("modern").len();
    let outcome = runtime.try_add(&container)?;
    outcome.must_fail(11, &[])?;
    ensure!(outcome.took < limit, "{:?}", outcome.took);
    assert_eq!(node.plugins.calls("modern").len(), asked, "IPAM was asked");
    Ok(())
}

/// Issue: "ADD with the daemon down (code 11 within a second)".
#[test]
fn add_with_the_daemon_down() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    node.daemon.halt(Signal::KILL)?;
    // A socket that nobody listens on is left.
    must_be_told_to_try_again(&node, Duration::from_secs(1))?;
    node.daemon.start_again()?;
    node.daemon.halt(Signal::TERM)?;
    must_be_told_to_try_again(&node, Duration::from_secs(1))?;
    node.daemon.start_again()?;
    node.must_be_gone()
}

#[test]
fn add_with_the_daemon_hung() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    node.daemon.signal(Signal::STOP);
    must_be_told_to_try_again(&node, AT_ONCE)?;
    node.daemon.signal(Signal::CONT);
    node.must_be_clean()?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    runtime.del(&pod.container)?;
    node.must_be_clean()
}

/// The daemon dies between IPAM's ADD and ours: the address is given back, nothing is left.
#[test]
fn the_daemon_dies_during_add() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let kill = format!("kill -9 {}", node.daemon.pid());
    node.plugins.host_local_then("deadly", "ADD", &kill)?;
    let runtime = node.runtime(node.network().ipam_type("deadly"));
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    runtime.try_add(&container)?.must_fail(11, &[])?;
    assert!(node.leases().all()?.is_empty());
    runtime.try_del(&container)?.ok()?;
    node.daemon.halt(Signal::KILL)?;
    node.daemon.start_again()?;
    node.must_be_gone()
}

/// The daemon hangs between IPAM's ADD and ours. What it was asked for before it woke up must not
/// come true after the plugin has given up.
#[test]
fn the_daemon_hangs_during_add() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let stop = format!("kill -STOP {}", node.daemon.pid());
    node.plugins.host_local_then("sleepy", "ADD", &stop)?;
    let runtime = node.runtime(node.network().ipam_type("sleepy"));
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    let outcome = runtime.try_add(&container);
    let leases = node.leases().all();
    node.daemon.signal(Signal::CONT);
    let outcome = outcome?;
    outcome.must_fail(11, &[])?;
    println!("given up after {:?}", outcome.took);
    assert!(leases?.is_empty());
    node.must_be_clean()?;
    must_lose_eth0(&netns)?;
    // The runtime's DEL, and its next try.
    let runtime = node.runtime(node.network());
    runtime.try_del(&container)?.ok()?;
    runtime.add(&container)?;
    runtime.del(&container)?;
    node.must_be_clean()
}

/// Checklist: "with the daemon down, queue the clean-up on disk and return 0".
#[test]
fn del_with_the_daemon_down() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let stays = CniPod::add(&runtime, "stays")?;
    let pod = CniPod::add(&runtime, "pod")?;
    let gone = CniPod::add(&runtime, "gone")?;
    node.daemon.halt(Signal::TERM)?;
    runtime.del(&pod.container)?;
    // containerd's second one, and one whose namespace has gone with the pod.
    runtime.del(&pod.container.clone().without_netns())?;
    let container = gone.container.clone();
    drop(gone);
    runtime.del(&container)?;
    assert_eq!(node.queue()?.len(), 2);
    assert_eq!(node.leases().all()?.len(), 1);
    node.daemon.start_again()?;
    assert_eq!(node.pods()?.len(), 1);
    let late = CniPod::add(&runtime, "late")?;
    must_reach(&late, &stays)?;
    for pod in [stays, late] {
        runtime.del(&pod.container)?;
    }
    node.must_be_gone()
}

/// What was queued is done before the same container comes back.
#[test]
fn a_queued_del_does_not_hit_the_next_add() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let peer = CniPod::add(&runtime, "peer")?;
    let mut pod = CniPod::add(&runtime, "pod")?;
    node.daemon.halt(Signal::TERM)?;
    runtime.del(&pod.container)?;
    node.daemon.start_again()?;
    pod.result = runtime.add(&pod.container)?;
    must_reach(&pod, &peer)?;
    // And not after the next start either.
    node.daemon.halt(Signal::TERM)?;
    node.daemon.start_again()?;
    must_reach(&pod, &peer)?;
    runtime.del(&pod.container)?;
    runtime.del(&peer.container)?;
    node.must_be_gone()
}

/// A queued DEL is done while the daemon runs, too: it was only busy.
#[test]
fn del_with_the_daemon_hung() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    node.daemon.signal(Signal::STOP);
    let outcome = runtime.try_del(&pod.container);
    node.daemon.signal(Signal::CONT);
    let outcome = outcome?;
    outcome.ok()?;
    ensure!(outcome.took < SOON, "{:?}", outcome.took);
    node.must_be_clean()
}

/// Checklist: "STATUS: exit 0, or code 50 (cannot ADD) or 51 (and existing containers suffer)".
#[test]
fn status_tells_what_is_wrong() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(modern(&node)?);
    assert!(runtime.status()?.ok()?.is_null());
    node.daemon.signal(Signal::STOP);
    let hung = runtime.status();
    node.daemon.signal(Signal::CONT);
    let hung = hung?;
    hung.must_fail(51, &[])?;
    ensure!(hung.took < AT_ONCE, "{:?}", hung.took);
    assert!(runtime.status()?.ok()?.is_null());

    node.daemon.halt(Signal::TERM)?;
    let down = runtime.status()?;
    down.must_fail(51, &[])?;
    ensure!(down.took < Duration::from_secs(1), "{:?}", down.took);
    node.daemon.start_again()?;
    assert!(runtime.status()?.ok()?.is_null());

    // The way to the other nodes is gone.
    node.node.netns.ip("link del eth0")?;
    eventually("STATUS tells", || Ok(!runtime.status()?.status.success()))?;
    runtime.status()?.must_fail(51, &["eth0"])?;
    Ok(())
}

/// IPAM's own STATUS is asked, and its answer passed on.
#[test]
fn status_asks_ipam_too() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(modern(&node)?);
    assert!(runtime.status()?.ok()?.is_null());
    assert_eq!(node.plugins.calls("modern"), ["STATUS"]);
    node.plugins.script(
        "modern",
        r#"echo '{"cniVersion":"1.1.0","code":50,"msg":"no address left"}'; exit 1"#,
    )?;
    runtime.status()?.must_fail(50, &["no address left"])?;
    node.must_be_clean()
}

/// Records cannot be written: 50, nothing can be attached, and pods go on.
#[test]
fn status_when_records_cannot_be_written() -> Result<()> {
    let small = Small::new("size=1m")?;
    let options = Options {
        state_dir: Some(small.path().join("state")),
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let runtime = node.runtime(modern(&node)?);
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    assert!(runtime.status()?.ok()?.is_null());
    small.remount("ro")?;
    let path = small.path().display().to_string();
    eventually("STATUS tells", || Ok(!runtime.status()?.status.success()))?;
    runtime.status()?.must_fail(50, &[&path])?;
    let netns = Netns::new("c")?;
    let container = Container::new(&netns.path());
    runtime.try_add(&container)?.error()?;
    runtime.try_del(&container)?.ok()?;
    assert_eq!(node.leases().all()?.len(), 2);
    must_reach(&a, &b)?;
    small.remount("rw")?;
    eventually("STATUS 0", || Ok(runtime.status()?.status.success()))?;
    let c = CniPod::add(&runtime, "c")?;
    must_reach(&c, &b)?;
    for pod in [a, b, c] {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}

/// A record that cannot be removed does not hold DEL up, and the pod does not come back.
#[test]
fn del_when_records_cannot_be_removed() -> Result<()> {
    let small = Small::new("size=1m")?;
    let options = Options {
        state_dir: Some(small.path().join("state")),
        ..Options::default()
    };
    let (_testbed, mut node) = built(&options)?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    small.remount("ro")?;
    // It may fail or not, but once the disk is mended it must succeed.
    let outcome = runtime.try_del(&pod.container)?;
    if !outcome.status.success() {
        outcome.error()?;
    }
    small.remount("rw")?;
    runtime.try_del(&pod.container)?.ok()?;
    node.must_be_gone()?;
    node.daemon.halt(Signal::TERM)?;
    node.daemon.start_again()?;
    assert_eq!(node.pods()?, []);
    Ok(())
}
