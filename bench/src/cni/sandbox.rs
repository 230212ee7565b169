//! Pods' sandboxes through a real runtime: containerd and runc over the CRI.

use std::time::Instant;

use anyhow::Result;
use shunt_tests::cni::{Network, Plugins};
use shunt_tests::cri::{Containerd, sandbox_config};
use shunt_tests::netns::Netns;

use super::call::milliseconds;
use super::pairs::PEER;
use super::side::{bridge_network, shunt_node};
use super::work::Cores;
use super::{PLACEMENT, Run, SUITE, resting};
use crate::compare::Report;
use crate::figures::{Better, Row, Series};

const RUN: &str = "RunPodSandbox, containerd, p50";
const END: &str = "StopPodSandbox, containerd, p50";
/// Sandboxes of a round, one after another.
const SANDBOXES: usize = 10;

/// One side's rounds, in milliseconds.
#[derive(Debug, Default)]
struct Figures {
    run: Series,
    stop: Series,
    busy: Series,
}

impl Figures {
    fn turn(&mut self, containerd: &Containerd) -> Result<()> {
        let cores = Cores::now()?;
        let cri = containerd.cri()?;
        let [mut ran, mut stopped] = [Series::default(), Series::default()];
        let mut ids = Vec::new();
        for number in 0..SANDBOXES {
            let config = sandbox_config(&format!("pod-{number}"));
            let begin = Instant::now();
            ids.push(cri.run_sandbox(&config)?);
            ran.push(milliseconds(begin.elapsed()));
        }
        for id in &ids {
            let begin = Instant::now();
            cri.stop_sandbox(id)?;
            stopped.push(milliseconds(begin.elapsed()));
            cri.remove_sandbox(id)?;
        }
        self.run.push(ran.median());
        self.stop.push(stopped.median());
        self.busy.push(cores.busy()?);
        Ok(())
    }
}

/// containerd on a node, with its first sandbox behind it.
fn runtime(node: &Netns, plugins: &Plugins, network: &Network) -> Result<Containerd> {
    let containerd = Containerd::start(node, &plugins.bin())?;
    let file = containerd.conf_dir().join("10-pods.conflist");
    std::fs::write(file, network.conflist().to_string())?;
    containerd.wait_network()?;
    let cri = containerd.cri()?;
    let first = cri.run_sandbox(&sandbox_config("first"))?;
    cri.stop_sandbox(&first)?;
    cri.remove_sandbox(&first)?;
    Ok(containerd)
}

pub(super) fn measure(run: &Run<'_>, report: &mut Report) -> Result<()> {
    if !run.options.want(RUN) && !run.options.want(END) {
        return Ok(());
    }
    let mut node = shunt_node("")?;
    let ours = runtime(&node.node.netns, &node.plugins, &node.network())?;
    let peer_node = Netns::new("bridge")?;
    let plugins = Plugins::new()?;
    let theirs = runtime(&peer_node, &plugins, &bridge_network(&plugins)?)?;
    let [mut our_figures, mut their_figures] = [Figures::default(), Figures::default()];
    run.rounds("containerd", || {
        our_figures.turn(&ours)?;
        resting(&mut node, || their_figures.turn(&theirs))
    })?;
    for (case, ours, theirs, target) in [
        (RUN, &our_figures.run, &their_figures.run, Some(1.0)),
        (END, &our_figures.stop, &their_figures.stop, None),
    ] {
        report.rows.push(Row {
            placement: PLACEMENT.to_owned(),
            cpu_ours: our_figures.busy.median(),
            cpu_theirs: their_figures.busy.median(),
            ..Row::compare(
                [SUITE.name, case, PEER, "ms"],
                (ours, theirs),
                Better::Lower,
                target,
            )
        });
    }
    Ok(())
}
