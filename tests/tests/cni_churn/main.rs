//! Two thousand pods come and go while ten others talk: nothing is left of those, and nothing is
//! taken from these.

mod footprint;
mod traffic;

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shunt_tests::cni::{CniNode, CniPod, Container, Options, Runtime};
use shunt_tests::netns::Netns;
use shunt_tests::probe::must_ping;
use shunt_tests::testbed::Testbed;

use footprint::{Footprint, Memory};
use traffic::{Flow, Losses, Steady, Traffic, losses, lost_between};

/// Pods that talk all the time.
const STEADY: usize = 10;
/// Pods that come and go, and how many of them before anything is compared: buffers that grow once
/// have grown by then.
const CHURN: usize = 2000;
const WARM_UP: usize = 300;
/// Attachments at a time.
const WORKERS: usize = 4;
/// Attachments one after another that share a network namespace, as when a runtime tries again.
const SHARE: usize = 10;
/// The code by which a busy daemon asks to be asked again (CNI 1.1.0, section 5), and how often it
/// may: a machine that has other things to do does not fail the test.
const TRY_AGAIN: u64 = 11;
const MOST_AGAIN: usize = 20;
/// How long what has to go may take: the daemon looks for what has vanished every few seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// What the allocator and the page tables may keep, in KiB: half a KiB a pod.
const RESIDENT: u64 = 1024;
/// Mappings that the allocator may add. A port that stays has eight.
const MAPPINGS: usize = 32;
/// What others on this machine may map meanwhile, in KiB: a port's rings alone take a hundred, so
/// one port in ten that stays is seen.
const VMALLOC: u64 = 16 * 1024;

/// The node, and what its steady pods have been told.
struct Scene {
    node: CniNode,
    runtime: Runtime,
    steady: Vec<CniPod>,
    ports: Vec<String>,
}

/// How far the churn is.
struct Count {
    left: AtomicUsize,
    again: AtomicUsize,
    /// The slowest ADD in milliseconds.
    slowest: AtomicUsize,
}

impl Count {
    fn new(left: usize) -> Self {
        Self {
            left: AtomicUsize::new(left),
            again: AtomicUsize::new(0),
            slowest: AtomicUsize::new(0),
        }
    }

    fn describe(&self) -> String {
        format!(
            "took {} ms at most, {} tries again, {} pods to come",
            self.slowest.load(Ordering::Relaxed),
            self.again.load(Ordering::Relaxed),
            self.left.load(Ordering::Relaxed)
        )
    }
}

#[test]
fn nothing_is_left_of_two_thousand_pods() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let scene = Scene::new()?;
    scene.churn_beside_traffic(WARM_UP)?;
    let before = scene.settle(None)?;
    let memory = Memory::take(&scene.node.daemon)?;
    let begin = Instant::now();
    let flows = scene.churn_beside_traffic(CHURN - WARM_UP)?;
    let took = begin.elapsed();
    let after = scene.settle(Some(&before))?;
    assert_eq!(after, before);
    let now = Memory::take(&scene.node.daemon)?;
    let sent: u64 = flows.iter().map(|flow| flow.sent).sum();
    let slowest = flows.iter().map(|flow| flow.slowest).max();
    println!(
        "{} pods in {took:.1?}; {sent} datagrams beside, the slowest took {:?}; resident {} -> {} \
         KiB, vmalloc {} -> {} KiB",
        CHURN - WARM_UP,
        slowest.unwrap_or_default(),
        memory.resident,
        now.resident,
        memory.vmalloc,
        now.vmalloc
    );
    assert!(
        now.resident <= memory.resident + RESIDENT,
        "the daemon has grown from {memory:?} to {now:?}"
    );
    assert!(
        now.mappings <= memory.mappings + MAPPINGS,
        "the daemon maps more: {memory:?}, now {now:?}"
    );
    assert!(
        now.vmalloc <= memory.vmalloc + VMALLOC,
        "the kernel keeps more for it: {memory:?}, now {now:?}"
    );
    for pod in &scene.steady {
        scene.runtime.del(&pod.container)?;
    }
    scene.node.must_be_clean()
}

impl Scene {
    fn new() -> Result<Self> {
        let node = CniNode::lone(&Options::default())?;
        let runtime = node.runtime(node.network());
        let mut steady = Vec::new();
        for number in 0..STEADY {
            steady.push(CniPod::add(&runtime, &format!("s{number}"))?);
        }
        let mut ports = Vec::new();
        let pods = node.pods()?;
        for pod in &steady {
            let info = pods
                .iter()
                .find(|info| info.key.container_id == pod.container.id)
                .context("an attachment that the daemon does not list")?;
            ports.push(info.port.clone());
        }
        Ok(Self {
            node,
            runtime,
            steady,
            ports,
        })
    }

    fn talkers(&self) -> Result<Vec<Steady<'_>>> {
        let talker = |pod| -> Result<Steady<'_>> {
            let pod: &CniPod = pod;
            Ok(Steady {
                netns: &pod.netns,
                address: pod.address()?,
            })
        };
        self.steady.iter().map(talker).collect()
    }

    fn losses(&self) -> Result<Losses> {
        let talkers = self.talkers()?;
        let names = self.ports.iter().map(String::as_str);
        let pods: Vec<_> = names.zip(talkers).collect();
        losses(&self.node.daemon.stats()?, &self.node.node.netns, &pods)
    }

    /// Lets `count` pods come and go while the steady ones talk, and demands that what these have
    /// lost is named by a counter.
    fn churn_beside_traffic(&self, count: usize) -> Result<Vec<Flow>> {
        let before = self.losses()?;
        let traffic = Traffic::start(&self.talkers()?)?;
        let target = self.steady[0].address()?;
        let count = Count::new(count);
        let churned = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|_| scope.spawn(|| churn(&self.runtime, target, &count)))
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        });
        let flows = traffic.stop()?;
        churned?;
        println!("ADD {}", count.describe());
        let log = self.node.daemon.log();
        // What vanishes before its DEL is collected, with a warning.
        let strange = |line: &&str| line.contains(" WARN ") && !line.contains("is gone without");
        for line in log
            .lines()
            .filter(|line| strange(line) || line.contains(" ERROR "))
        {
            println!("{line}");
        }
        let lost = lost_between(&before, &self.losses()?);
        let sent: u64 = flows.iter().map(|flow| flow.sent).sum();
        let received: u64 = flows.iter().map(|flow| flow.received).sum();
        let named: u64 = lost.values().sum();
        ensure!(
            sent > 0 && flows.iter().all(|flow| flow.astray == 0),
            "datagrams came twice or late: {flows:?}"
        );
        ensure!(
            sent <= received + named,
            "{sent} datagrams sent, {received} received, and no more than {lost:?} is named: \
             {flows:?}"
        );
        if sent > received {
            println!(
                "{} of {sent} datagrams were lost: {lost:?}",
                sent - received
            );
        }
        Ok(flows)
    }

    /// Waits until all stands still, and as it did at `before` if that is given. What differs at
    /// last is the caller's to judge.
    fn settle(&self, before: Option<&Footprint>) -> Result<Footprint> {
        let deadline = Instant::now() + PATIENCE;
        let lease_dir = self.node.plugins.lease_dir();
        let folders: [&Path; 2] = [self.node.daemon.state_dir(), &lease_dir];
        let take = || Footprint::take(&self.node.daemon, &self.node.node.netns, &folders);
        let mut last = take()?;
        loop {
            thread::sleep(Duration::from_millis(300));
            let now = take()?;
            let still = now == last && now.ports.len() >= STEADY;
            let same = before.is_none_or(|before| *before == now);
            if still && same || Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }
}

/// ADD; a daemon that says so is asked again, as runtimes do.
fn add(runtime: &Runtime, container: &Container, count: &Count) -> Result<()> {
    loop {
        let outcome = runtime.try_add(container)?;
        count.slowest.fetch_max(
            usize::try_from(outcome.took.as_millis())?,
            Ordering::Relaxed,
        );
        let again = !outcome.status.success() && outcome.error()?.code == TRY_AGAIN;
        if !again {
            return outcome.ok().map(drop).context("ADD");
        }
        println!("asked again after {:?}: {}", outcome.took, outcome.stdout);
        let before = count.again.fetch_add(1, Ordering::Relaxed);
        ensure!(
            before < MOST_AGAIN,
            "ADD {}: {}",
            count.describe(),
            outcome.stdout
        );
    }
}

/// Takes attachments from `left` until there are none.
fn churn(runtime: &Runtime, target: IpAddr, count: &Count) -> Result<()> {
    let left = &count.left;
    let take = || {
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        taken.is_ok()
    };
    loop {
        let netns = Netns::new("churn")?;
        for turn in 0..SHARE - 1 {
            if !take() {
                return Ok(());
            }
            let container = Container::new(&netns.path()).of_pod("default", "churn");
            one(runtime, &netns, &container, count, target, turn)
                .with_context(|| format!("turn {turn} of {}", netns.name()))?;
        }
        // The last one goes the hard way: its namespace vanishes first.
        if !take() {
            return Ok(());
        }
        let container = Container::new(&netns.path()).of_pod("default", "churn");
        add(runtime, &container, count)?;
        drop(netns);
        runtime
            .del(&container.without_netns())
            .context("DEL when the namespace is gone")?;
    }
}

/// One attachment, with something besides that runtimes do, by its turn.
fn one(
    runtime: &Runtime,
    netns: &Netns,
    container: &Container,
    count: &Count,
    target: IpAddr,
    turn: usize,
) -> Result<()> {
    add(runtime, container, count)?;
    match turn {
        // It is a pod like others.
        2 => drop(must_ping(netns, target, 1, "")?),
        // The runtime has forgotten that it did.
        6 => match runtime.try_add(container)?.error() {
            Ok(_) => {}
            Err(error) => bail!("ADD twice: {error:#}"),
        },
        _ => {}
    }
    runtime.del(container)?;
    if turn == 4 {
        // containerd's second call.
        runtime.try_del(&container.clone().without_netns())?.ok()?;
    }
    Ok(())
}
