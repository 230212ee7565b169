//! What has no peer: STATUS, and attaching with many pods there already.

use anyhow::{Context, Result};
use ipnet::IpNet;
use shunt_api::{AttachmentKey, Client, PodSpec};
use shunt_tests::cni::{CniNode, Container, Invocation};

use super::call::{call, in_a_row, percentile};
use super::pairs::PEER;
use super::side::{Pods, Side, host_local_alone, shunt_node};
use super::{PLACEMENT, Run, SUITE};
use crate::compare::Report;
use crate::figures::{Better, Row, Series};

const STATUS: &str = "STATUS, p99";
/// Questions of a round.
const QUESTIONS: usize = 200;
/// Milliseconds asked for.
const STATUS_MS: f64 = 3.0;

const CROWD: &str = "ADD with 200 pods there";
/// Pods that are there.
const THERE: usize = 200;
/// Pods whose attachment is timed, before and afterwards.
const TIMED: usize = 20;
/// The default memory has room for all of them if each sets fewer frames aside. More memory would
/// be no better: the kernel clears some bytes for each frame whenever a port opens
/// (net/xdp/xsk_buff_pool.c, `xp_create_and_assign_umem`).
const ROOM: &str = "[ports]\nrx_frames = 24\n";

pub(super) fn measure(run: &Run<'_>, report: &mut Report) -> Result<()> {
    if run.options.want(STATUS) {
        status(run, report)?;
    }
    if run.options.want(CROWD) {
        crowd(run, report)?;
    }
    Ok(())
}

fn status(run: &Run<'_>, report: &mut Report) -> Result<()> {
    let node = shunt_node("")?;
    // The first version that has it.
    let network = node.network().version("1.1.0");
    let plugin = network
        .plugins
        .first()
        .context("a network without plugins")?;
    let config = network.execution(plugin, &serde_json::Map::new());
    let bin = node.plugins.bin();
    let question = Invocation::new(node.plugins.plugin("shunt-cni"), "STATUS")
        .with("CNI_PATH", bin.to_str().context("temporary folder")?)
        .stdin(serde_json::Value::from(config).to_string());
    let questions = vec![question; QUESTIONS];
    let [mut p50, mut p99] = [Series::default(), Series::default()];
    run.rounds("STATUS", || {
        let called = node.node.netns.within(|| in_a_row(&questions))??;
        p50.push(percentile(&called, 0.5));
        p99.push(percentile(&called, 0.99));
        Ok(())
    })?;
    report.rows.push(Row {
        placement: PLACEMENT.to_owned(),
        ..Row::asked([SUITE.name, STATUS, "ms"], &p99, STATUS_MS, Better::Lower)
    });
    report.notes.push(format!(
        "STATUS: half of {QUESTIONS} calls take {:.2} ms or less",
        p50.median()
    ));
    Ok(())
}

/// The first ones, and those that find 200 there, in milliseconds.
#[derive(Debug, Default)]
struct Growth {
    first: Series,
    later: Series,
}

impl Growth {
    fn row(&self, case: &str, target: Option<f64>) -> Row {
        Row {
            placement: PLACEMENT.to_owned(),
            ..Row::paired(
                [SUITE.name, case, "its own first 20", "ms"],
                (&self.later, &self.first),
                Better::Lower,
                target,
            )
        }
    }
}

fn crowd(run: &Run<'_>, report: &mut Report) -> Result<()> {
    let pods = Pods::new(THERE + TIMED)?;
    let node = shunt_node(ROOM)?;
    let side = Side::new(node.runtime(node.network()), &pods)?;
    let [mut adds, mut alone, mut daemon] =
        [Growth::default(), Growth::default(), Growth::default()];
    run.rounds(CROWD, || {
        let containers = pods.containers(0, THERE + TIMED);
        let calls = side.adds(&containers)?;
        let added = side.within(|| in_a_row(&calls))?;
        adds.first.push(percentile(&added[..TIMED], 0.5));
        adds.later.push(percentile(&added[THERE..], 0.5));
        side.detach(&containers, &added)?;

        let calls = host_local_alone(&side, &containers)?;
        let called = in_a_row(&calls)?;
        alone.first.push(percentile(&called[..TIMED], 0.5));
        alone.later.push(percentile(&called[THERE..], 0.5));
        for mut give_back in calls {
            give_back
                .environment
                .insert("CNI_COMMAND".to_owned(), "DEL".to_owned());
            call(&give_back)?;
        }

        let times = attach_by_daemon(&node, &containers)?;
        side.settle()?;
        daemon.first.push(median(&times[..TIMED]));
        daemon.later.push(median(&times[THERE..]));
        Ok(())
    })?;
    report.rows.push(Row {
        limited_by: Some(format!(
            "host-local alone takes {:.1} ms for the first {TIMED} and {:.1} ms with {THERE} \
             leases: it reads them all",
            alone.first.median(),
            alone.later.median()
        )),
        ..adds.row(CROWD, Some(1.0))
    });
    report
        .rows
        .push(daemon.row("the daemon's part, with 200 pods there", Some(1.0)));
    report.notes.push(format!(
        "{CROWD}: the daemon has its default memory, and ports.rx_frames = 24 so that all find \
         room; {PEER} is not measured there"
    ));
    Ok(())
}

/// Attaches all, then detaches them; milliseconds of each attachment.
fn attach_by_daemon(node: &CniNode, containers: &[Container]) -> Result<Vec<f64>> {
    let mut client = Client::connect(node.daemon.socket())?;
    let keys: Vec<_> = containers
        .iter()
        .map(|container| AttachmentKey {
            network: "pods".to_owned(),
            container_id: container.id.clone(),
            ifname: container.ifname.clone(),
        })
        .collect();
    let hosts = IpNet::from(node.node.pod_cidr).hosts();
    let mut times = Vec::new();
    for ((key, container), address) in keys.iter().zip(containers).zip(hosts.skip(1)) {
        let spec = PodSpec {
            addresses: vec![IpNet::new(address, 24)?],
            ..PodSpec::new(key.clone(), &container.netns)
        };
        let begin = std::time::Instant::now();
        client.pod_attach(spec)?;
        times.push(super::call::milliseconds(begin.elapsed()));
    }
    for key in keys {
        client.pod_detach(key)?;
    }
    Ok(times)
}

fn median(values: &[f64]) -> f64 {
    let mut series = Series::default();
    for &value in values {
        series.push(value);
    }
    series.median()
}
