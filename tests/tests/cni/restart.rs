//! Attachments are kept on disk and reconciled at start.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use shunt_api::AttachmentKey;
use shunt_tests::cni::{CniNode, CniPod, Container, Options};
use shunt_tests::family::Family;
use shunt_tests::netns::Netns;
use shunt_tests::probe::must_ping;

use crate::{built, lone, must_reach};

/// Waits for what the daemon does by itself after its start.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !done()? {
        ensure!(Instant::now() < deadline, "it never came to this: {what}");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The record of a pod.
fn record(node: &CniNode, pod: &CniPod) -> Result<PathBuf> {
    for file in node.records()? {
        if std::fs::read_to_string(&file)?.contains(&pod.container.id) {
            return Ok(file);
        }
    }
    bail!("no record of {}", pod.container.id)
}

fn again(node: &mut CniNode, signal: Signal) -> Result<()> {
    node.daemon.halt(signal)?;
    node.daemon.start_again()
}

/// Pods are adopted, veths and TAPs, after an orderly end and after a crash.
#[test]
fn pods_are_adopted() -> Result<()> {
    let options = Options {
        dual: true,
        ..Options::default()
    };
    let (_testbed, mut node) = built(&options)?;
    let veths = node.runtime(node.network());
    let taps = node.runtime(node.network().set("port", "tap"));
    let a = CniPod::add(&veths, "a")?;
    let b = CniPod::add_with(&veths, "b", |container| {
        container.offer("mac", "02:11:22:33:44:77")
    })?;
    let c = CniPod::add(&taps, "c")?;
    let before = node.pods()?;
    for signal in [Signal::TERM, Signal::KILL] {
        again(&mut node, signal)?;
        eventually("the same pods", || Ok(node.pods()? == before))
            .with_context(|| format!("after {signal:?}: {:?} of {before:?}", node.pods()))?;
        for family in Family::ALL {
            for (from, to) in [(&a, &b), (&b, &a), (&b, &c), (&c, &a)] {
                must_ping(&from.netns, to.address_of(family)?, 1, "")
                    .with_context(|| format!("{family} after {signal:?}"))?;
            }
        }
        veths.check(&a.container)?;
        taps.check(&c.container)?;
        // New ones come as before.
        let pod = CniPod::add(&veths, "new")?;
        must_reach(&pod, &a)?;
        veths.del(&pod.container)?;
    }
    // The runtime has not noticed.
    veths.del(&a.container)?;
    veths.del(&b.container)?;
    taps.del(&c.container)?;
    node.must_be_gone()
}

/// The daemon is killed at any point of an ADD or a DEL: the runtime's DEL finds or leaves nothing.
#[test]
fn crashes_at_any_time() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let veths = node.runtime(node.network());
    let taps = node.runtime(node.network().set("port", "tap"));
    let netns = Netns::new("pod")?;
    for pause in [2u64, 5, 8, 11, 15, 20] {
        for (runtime, verb) in [(&veths, "ADD"), (&taps, "ADD"), (&veths, "DEL")] {
            let container = Container::new(&netns.path());
            if verb == "DEL" {
                runtime.add(&container)?;
            }
            let call = runtime.invocation(verb, 0, &container, None)?;
            let running = call.start(runtime.node())?;
            sleep(Duration::from_millis(pause));
            node.daemon.halt(Signal::KILL)?;
            let outcome = running.wait(Duration::from_secs(10))?;
            if !outcome.status.success() {
                outcome.error()?;
            }
            node.daemon.start_again()?;
            runtime.try_del(&container)?.ok()?;
            node.must_be_gone()
                .with_context(|| format!("{verb} broken after {pause} ms"))?;
        }
    }
    Ok(())
}

/// A pod that went while the daemon was away is collected with its lease.
#[test]
fn what_is_gone_is_released() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let [a, b, gone, cut] = ["a", "b", "gone", "cut"].map(|role| CniPod::add(&runtime, role));
    let (a, b, gone, cut) = (a?, b?, gone?, cut?);
    let ports = node.pods()?;
    let port = |pod: &CniPod| {
        let mut found = ports.iter();
        found
            .find(|info| info.key.container_id == pod.container.id)
            .map(|info| info.port.clone())
    };
    let cut_port = port(&cut).context("a port")?;
    node.daemon.halt(Signal::TERM)?;
    drop(gone);
    node.node.netns.ip(&format!("link del {cut_port}"))?;
    assert_eq!(node.leases().all()?.len(), 4);
    node.daemon.start_again()?;
    eventually("two leases", || Ok(node.leases().all()?.len() == 2))?;
    eventually("two records", || Ok(node.records()?.len() == 2))?;
    assert_eq!(node.pods()?.len(), 2);
    must_reach(&a, &b)?;
    runtime.del(&a.container)?;
    runtime.del(&b.container)?;
    node.must_be_gone()
}

/// Issue: "a reboot leaves no leaked address".
#[test]
fn a_reboot_leaks_no_address() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let taps = node.runtime(node.network().set("port", "tap"));
    let pods = [
        CniPod::add(&runtime, "a")?,
        CniPod::add(&runtime, "b")?,
        CniPod::add(&taps, "c")?,
    ];
    node.daemon.halt(Signal::KILL)?;
    drop(pods);
    assert_eq!(node.leases().all()?.len(), 3);
    assert_eq!(node.records()?.len(), 3);
    node.daemon.start_again()?;
    eventually("no lease", || Ok(node.leases().all()?.is_empty()))?;
    node.must_be_gone()
}

/// The same path leads to another namespace: the pod is not the one that we knew.
#[test]
fn a_path_that_was_used_again() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let taps = runtime.with(|network| network.set("port", "tap"));
    for runtime in [&runtime, &taps] {
        let pod = CniPod::add(runtime, "pod")?;
        node.daemon.halt(Signal::TERM)?;
        let name = pod.netns.name().to_owned();
        drop(pod);
        let fresh = Netns::named(&name)?;
        node.daemon.start_again()?;
        eventually("no lease", || Ok(node.leases().all()?.is_empty()))?;
        ensure!(
            fresh.ip("link show dev eth0").is_err(),
            "eth0 in another namespace"
        );
    }
    node.must_be_gone()
}

/// Issue: "A damaged state file is set aside with a clear message, and the truth is read from the
/// kernel."
#[test]
fn damaged_records_are_set_aside() -> Result<()> {
    let options = Options {
        dual: true,
        ..Options::default()
    };
    let (_testbed, mut node) = built(&options)?;
    let runtime = node.runtime(node.network());
    let pods = ["a", "b", "c", "d"]
        .map(|role| CniPod::add(&runtime, role))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let files = pods
        .iter()
        .map(|pod| record(&node, pod))
        .collect::<Result<Vec<_>>>()?;
    node.daemon.halt(Signal::TERM)?;
    // Cut off, empty, of another kind, gone.
    let text = std::fs::read_to_string(&files[0])?;
    std::fs::write(&files[0], &text[..text.len() / 2])?;
    std::fs::write(&files[1], "")?;
    std::fs::write(&files[2], vec![0xff; 4096])?;
    std::fs::remove_file(&files[3])?;
    node.daemon.start_again()?;
    let log = node.daemon.log();
    for file in &files[..3] {
        let path = file.display().to_string();
        ensure!(log.contains(&path), "the log does not name {path}: {log}");
        let aside = PathBuf::from(format!("{path}.damaged-1"));
        ensure!(aside.exists(), "{} is missing", aside.display());
        std::fs::remove_file(&aside)?;
    }
    eventually("four pods", || Ok(node.pods()?.len() == 4))?;
    for (one, next) in pods.iter().zip(pods.iter().cycle().skip(1)) {
        for family in Family::ALL {
            must_ping(&one.netns, next.address_of(family)?, 1, "")?;
        }
    }
    assert_eq!(node.records()?.len(), 4, "adopted ones have records again");
    again(&mut node, Signal::TERM)?;
    must_reach(&pods[0], &pods[3])?;
    for pod in &pods {
        runtime.check(&pod.container)?;
        runtime.del(&pod.container)?;
    }
    node.must_be_gone()
}

/// All records are lost: the kernel knows whose the interfaces are.
#[test]
fn lost_records_are_read_from_the_kernel() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    node.daemon.halt(Signal::TERM)?;
    std::fs::remove_dir_all(node.daemon.state_dir())?;
    node.daemon.start_again()?;
    eventually("two pods", || Ok(node.pods()?.len() == 2))?;
    must_reach(&a, &b)?;
    must_reach(&b, &a)?;
    runtime.del(&a.container)?;
    runtime.del(&b.container)?;
    node.must_be_gone()
}

/// Interfaces that carry our mark and lead nowhere are removed; others' are left alone.
#[test]
fn half_made_interfaces_are_removed() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    let own = &node.node.netns;
    let port = node.pods()?.remove(0).port;
    let links: Vec<Value> = serde_json::from_str(&own.ip(&format!("-j link show dev {port}"))?)?;
    let alias = links[0]["ifalias"].as_str().context("an alias")?.to_owned();
    node.daemon.halt(Signal::TERM)?;
    let half = alias.replace(&pod.container.id, "half");
    ensure!(half != alias, "{alias} does not name {}", pod.container.id);
    let key = AttachmentKey {
        network: "pods".to_owned(),
        container_id: "half".to_owned(),
        ifname: "eth0".to_owned(),
    };
    let name = key.short_name();
    own.ip(&format!("link add {name} type veth peer name half0"))?;
    own.ip(&format!("link set {name} alias {half}"))?;
    own.ip("link add shother type veth peer name other0")?;
    node.daemon.start_again()?;
    eventually("the half made one is gone", || {
        Ok(!node.links()?.contains(&name))
    })?;
    ensure!(
        node.links()?.contains("shother"),
        "a foreign interface was removed"
    );
    assert_eq!(node.pods()?.len(), 1);
    node.node.netns.ip("link del shother")?;
    runtime.del(&pod.container)?;
    node.must_be_gone()
}

/// A queued detachment that is damaged is told, and holds nothing up.
#[test]
fn a_damaged_queue() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(node.network());
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    node.daemon.halt(Signal::TERM)?;
    runtime.del(&b.container)?;
    let queue = node.daemon.state_dir().join("queue");
    std::fs::write(queue.join("broken.json"), "{\"netw")?;
    node.daemon.start_again()?;
    let log = node.daemon.log();
    ensure!(
        log.contains("broken.json"),
        "the log does not name the file: {log}"
    );
    eventually("one pod", || Ok(node.pods()?.len() == 1))?;
    let c = CniPod::add(&runtime, "c")?;
    must_reach(&a, &c)?;
    // A file goes when nothing is left of its pod, which the daemon looks for every two seconds.
    eventually("the damaged file alone", || {
        let queue = node.queue()?;
        let broken = |file: &PathBuf| file.display().to_string().contains("broken.json");
        Ok(queue.len() == 1 && queue.iter().all(broken))
    })?;
    for file in node.queue()? {
        std::fs::remove_file(file)?;
    }
    for pod in [a, b, c] {
        runtime.del(&pod.container)?;
    }
    node.must_be_gone()
}
