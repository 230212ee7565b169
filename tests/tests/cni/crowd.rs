//! Many at once.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shunt_tests::cni::{CniPod, Container};
use shunt_tests::netns::Netns;

use crate::{lone, must_reach};

fn at_once<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = items
            .into_iter()
            .map(|item| scope.spawn(move || work(item)))
            .collect();
        running
            .into_iter()
            .map(|one| {
                one.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// Checklist: "concurrent ADDs of other containers".
#[test]
fn twenty_at_once() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let spaces = (0..20)
        .map(|_| Netns::new("pod"))
        .collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    let pods = at_once(spaces, |netns| {
        let container = Container::new(&netns.path());
        let result = runtime.add(&container)?;
        Ok(CniPod {
            netns,
            container,
            result,
        })
    })?;
    println!("20 ADDs at once: {:?}", begin.elapsed());
    let addresses = pods
        .iter()
        .map(CniPod::address)
        .collect::<Result<BTreeSet<_>>>()?;
    assert_eq!(addresses.len(), 20);
    for (one, next) in pods.iter().zip(pods.iter().cycle().skip(1)) {
        must_reach(one, next)?;
    }
    let begin = Instant::now();
    at_once(pods.iter().collect(), |pod| runtime.del(&pod.container))?;
    println!("20 DELs at once: {:?}", begin.elapsed());
    node.must_be_clean()
}

/// The same container by several at once, which the specification forbids to runtimes (section 2):
/// one gets it, it works, and nothing is left of any.
#[test]
fn one_container_by_many() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let peer = CniPod::add(&runtime, "peer")?;
    for _ in 0..3 {
        let netns = Netns::new("pod")?;
        let container = Container::new(&netns.path());
        let outcomes = at_once((0..5).collect(), |_: u8| runtime.try_add(&container))?;
        let mut results = Vec::new();
        for outcome in &outcomes {
            match outcome.status.success() {
                true => results.push(outcome.ok()?),
                false => drop(outcome.error()?),
            }
        }
        ensure!(
            results.len() == 1,
            "{} have got it: {outcomes:?}",
            results.len()
        );
        let pod = CniPod {
            netns,
            container,
            result: results.remove(0),
        };
        must_reach(&peer, &pod)?;
        must_reach(&pod, &peer)?;
        runtime.del(&pod.container)?;
    }
    runtime.del(&peer.container)?;
    node.must_be_clean()
}

/// Pods come and go at once, ADD and DEL of one container overlap as after a runtime's time-out.
#[test]
fn coming_and_going() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let spaces = (0..6)
        .map(|_| Netns::new("pod"))
        .collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    at_once(spaces, |netns| {
        for round in 0..5u64 {
            let container = Container::new(&netns.path());
            let call = runtime.invocation("ADD", 0, &container, None)?;
            let running = call.start(runtime.node())?;
            thread::sleep(Duration::from_millis(round * 3));
            // Killed at some point of its way, unless it has finished.
            running.kill();
            runtime.try_del(&container)?.ok()?;
            // Now it must be possible.
            runtime.add(&container)?;
            runtime.del(&container)?;
        }
        Ok(netns)
    })?;
    println!("30 broken and 30 whole attachments: {:?}", begin.elapsed());
    node.must_be_clean()
}
