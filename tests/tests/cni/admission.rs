//! Pods that need more than is left are refused with a clear error, and nothing is taken from
//! those that run.

use anyhow::{Context, Result, ensure};
use shunt_tests::cni::{CniPod, Container, Options};
use shunt_tests::netns::Netns;
use shunt_tests::probe::must_ping;

use crate::{built, modern, must_lose_eth0, must_reach};

#[test]
fn a_full_node_says_so() -> Result<()> {
    let options = Options {
        // The first line belongs to the uplink's table.
        extra: "rx_frames = 64\nring = 64\n[ports]\nrx_frames = 64\nring = 64\n\
                [memory]\nframes = 2560\n"
            .to_owned(),
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let runtime = node.runtime(modern(&node)?);
    let mut pods = Vec::new();
    let (netns, refusal) = loop {
        ensure!(pods.len() < 64, "2560 frames are enough for 64 pods");
        let netns = Netns::new("pod")?;
        let container = Container::new(&netns.path());
        let outcome = runtime.try_add(&container)?;
        if !outcome.status.success() {
            runtime.try_del(&container)?.ok()?;
            break (netns, outcome);
        }
        pods.push(CniPod {
            netns,
            container,
            result: outcome.ok()?,
        });
    };
    println!("{} pods, then: {}", pods.len(), refusal.stdout.trim());
    refusal.must_fail(101, &["memory.frames"])?;
    ensure!(pods.len() >= 2, "{} pods", pods.len());
    must_lose_eth0(&netns)?;
    assert_eq!(node.leases().of("pods")?.len(), pods.len());
    assert_eq!(node.pods()?.len(), pods.len());

    // A full node is a healthy node.
    assert!(runtime.status()?.ok()?.is_null());
    // Those that run have all that they had, also while others are turned away.
    std::thread::scope(|scope| -> Result<()> {
        let turned_away = scope.spawn(|| -> Result<()> {
            for _ in 0..5 {
                let container = Container::new(&netns.path());
                runtime.try_add(&container)?.must_fail(101, &[])?;
            }
            Ok(())
        });
        for (one, next) in pods.iter().zip(pods.iter().cycle().skip(1)) {
            must_ping(&one.netns, next.address()?, 5, "")?;
        }
        turned_away
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;

    // Room again when one goes, at once.
    for _ in 0..3 {
        let gone = pods.pop().context("a pod")?;
        runtime.del(&gone.container)?;
        let pod = CniPod::add(&runtime, "late")?;
        must_reach(&pod, &pods[0])?;
        pods.push(pod);
    }
    for pod in &pods {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}

/// As many as a kubelet puts on a node, with the defaults.
#[test]
fn the_defaults_take_110_pods() -> Result<()> {
    let options = Options {
        host: Some(String::new()),
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let runtime = node.runtime(node.network());
    let pods = (0..110)
        .map(|number| CniPod::add(&runtime, "pod").with_context(|| format!("pod {number}")))
        .collect::<Result<Vec<_>>>()?;
    must_reach(&pods[0], &pods[109])?;
    must_reach(&pods[109], &pods[55])?;
    must_ping(&node.node.netns, pods[109].address()?, 1, "")?;
    for pod in &pods {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}
