//! ADD and DEL of both sides, in turns.

use anyhow::Result;
use shunt_tests::cni::{CniNode, Plugins, Runtime};
use shunt_tests::netns::Netns;

use super::call::{at_once, in_a_row, percentile};
use super::side::{Pods, Side, bridge_network, shunt_node};
use super::work::{Cores, Work};
use super::{PLACEMENT, Run, SUITE, resting};
use crate::compare::Report;
use crate::figures::{Better, Row, Series};

/// Pods one after another.
const ROW: usize = 50;
/// Pods at the same moment.
const BURST: usize = 20;
/// Bursts of a round: one alone has few values.
const BURSTS: usize = 3;

const IN_A_ROW: &str = "ADD, 50 in a row";
const DEL: &str = "DEL, 50 in a row";
const AT_ONCE: &str = "ADD, 20 at once";

/// The peer of these rows.
pub(super) const PEER: &str = "bridge";

/// What one side's rounds came to, in milliseconds.
#[derive(Debug, Default)]
struct Figures {
    add_p50: Series,
    add_p99: Series,
    del_p50: Series,
    /// A pod's share of the time until nothing was left.
    gone: Series,
    burst_p50: Series,
    burst_max: Series,
    busy_row: Series,
    busy_burst: Series,
    /// CPU time of an ADD with its DEL.
    programs: Series,
    daemon: Series,
}

impl Figures {
    fn row(&mut self, side: &Side, pods: &Pods, daemon: Option<u32>) -> Result<()> {
        let (cores, work) = (Cores::now()?, Work::now(daemon)?);
        let containers = pods.containers(0, ROW);
        let adds = side.adds(&containers)?;
        let added = side.within(|| in_a_row(&adds))?;
        let (deleted, all) = side.detach(&containers, &added)?;
        let did = Work::now(daemon)?.since(work);
        self.busy_row.push(cores.busy()?);
        self.add_p50.push(percentile(&added, 0.5));
        self.add_p99.push(percentile(&added, 0.99));
        self.del_p50.push(percentile(&deleted, 0.5));
        self.gone.push(all / ROW as f64);
        self.programs.push(did.programs / ROW as f64);
        self.daemon.push(did.daemon / ROW as f64);
        Ok(())
    }

    fn bursts(&mut self, side: &Side, pods: &Pods) -> Result<()> {
        let mut all = Vec::new();
        let cores = Cores::now()?;
        for _ in 0..BURSTS {
            let containers = pods.containers(0, BURST);
            let adds = side.adds(&containers)?;
            let added = side.within(|| at_once(&adds))?;
            side.detach(&containers, &added)?;
            all.extend(added);
        }
        self.busy_burst.push(cores.busy()?);
        self.burst_p50.push(percentile(&all, 0.5));
        self.burst_max.push(percentile(&all, 1.0));
        Ok(())
    }
}

/// Both sides with what holds them.
struct Pair {
    node: CniNode,
    _peer_node: Netns,
    pods: Pods,
    ours: Side,
    theirs: Side,
}

impl Pair {
    fn new() -> Result<Self> {
        let pods = Pods::new(ROW)?;
        let node = shunt_node("")?;
        let ours = Side::new(node.runtime(node.network()), &pods)?;
        let peer_node = Netns::new("bridge")?;
        let plugins = Plugins::new()?;
        let network = bridge_network(&plugins)?;
        let theirs = Side::new(Runtime::new(&peer_node.path(), plugins, network), &pods)?;
        Ok(Self {
            node,
            _peer_node: peer_node,
            pods,
            ours,
            theirs,
        })
    }
}

/// The rows that have bridge as their peer.
pub(super) fn measure(run: &Run<'_>, report: &mut Report) -> Result<()> {
    let row = run.options.want(IN_A_ROW) || run.options.want(DEL);
    let burst = run.options.want(AT_ONCE);
    if !row && !burst {
        return Ok(());
    }
    let mut pair = Pair::new()?;
    let [mut ours, mut theirs] = [Figures::default(), Figures::default()];
    run.rounds("ADD and DEL", || {
        let Pair {
            node,
            _peer_node: _,
            pods,
            ours: our_side,
            theirs: their_side,
        } = &mut pair;
        if row {
            ours.row(our_side, pods, Some(node.daemon.pid()))?;
            resting(node, || theirs.row(their_side, pods, None))?;
        }
        if burst {
            ours.bursts(our_side, pods)?;
            resting(node, || theirs.bursts(their_side, pods))?;
        }
        Ok(())
    })?;
    if row {
        rows_in_a_row(&ours, &theirs, report);
    }
    if burst {
        rows_at_once(&ours, &theirs, report);
    }
    Ok(())
}

fn rows_in_a_row(ours: &Figures, theirs: &Figures, report: &mut Report) {
    let wanted = [
        (
            format!("{IN_A_ROW}, p50"),
            &ours.add_p50,
            &theirs.add_p50,
            Some(0.5),
        ),
        (
            format!("{IN_A_ROW}, p99"),
            &ours.add_p99,
            &theirs.add_p99,
            Some(0.5),
        ),
        (
            format!("{DEL}, p50"),
            &ours.del_p50,
            &theirs.del_p50,
            Some(0.25),
        ),
        (
            format!("{DEL}, a pod until nothing is left"),
            &ours.gone,
            &theirs.gone,
            None,
        ),
    ];
    let cpu = (ours.busy_row.median(), theirs.busy_row.median());
    rows(&wanted, cpu, report);
    report.notes.push(format!(
        "CPU time of an ADD with its DEL: ours {:.1} ms in plugin and IPAM and {:.1} ms in the \
         daemon's threads beside its polling worker, bridge {:.1} ms; without the kernel's own \
         threads, which take interfaces away",
        ours.programs.median(),
        ours.daemon.median(),
        theirs.programs.median()
    ));
}

fn rows_at_once(ours: &Figures, theirs: &Figures, report: &mut Report) {
    let wanted = [
        (
            format!("{AT_ONCE}, p50"),
            &ours.burst_p50,
            &theirs.burst_p50,
            Some(0.5),
        ),
        (
            format!("{AT_ONCE}, last"),
            &ours.burst_max,
            &theirs.burst_max,
            None,
        ),
    ];
    let cpu = (ours.busy_burst.median(), theirs.busy_burst.median());
    rows(&wanted, cpu, report);
}

fn rows(
    wanted: &[(String, &Series, &Series, Option<f64>)],
    (cpu_ours, cpu_theirs): (f64, f64),
    report: &mut Report,
) {
    for (case, ours, theirs, target) in wanted {
        report.rows.push(Row {
            placement: PLACEMENT.to_owned(),
            cpu_ours,
            cpu_theirs,
            // Of 50 that is the longest.
            extreme: case.ends_with("p99") || case.ends_with("last"),
            ..Row::compare(
                [SUITE.name, case, PEER, "ms"],
                (ours, theirs),
                Better::Lower,
                *target,
            )
        });
    }
}
