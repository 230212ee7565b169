//! `make demo`: two nodes, four pods, every mode and encapsulation, and the proof on the wire.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use comfy_table::{Table, presets};
use shunt_api::Encap;
use shunt_tests::capture::{Capture, Captured};
use shunt_tests::cluster::{Cluster, Spec};
use shunt_tests::daemon::shunt_binary;
use shunt_tests::flannel::VNI;
use shunt_tests::netns::{self, Netns};
use shunt_tests::node::underlay_address;
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::probe::{must_ping, tcp};
use shunt_tests::process::Lifetime;
use shunt_tests::testbed::Testbed;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What the names of the demo's namespaces and temporary folders begin with.
const PREFIX: &str = "shunt-demo-";
const ENCAPS: [(Encap, &str); 3] = [
    (Encap::Vxlan, "VXLAN"),
    (Encap::Ipip, "IPIP"),
    (Encap::Direct, "direct"),
];
const PINGS: u32 = 10;
const TRANSFER: Duration = Duration::from_millis(150);

/// Shows that pods reach each other through Shunt, on one node and across two.
#[derive(Debug, Parser)]
struct Arguments {
    /// Leave two nodes with their pods and daemons running (L3 mode, VXLAN).
    #[arg(long, conflicts_with = "clean")]
    keep: bool,
    /// Remove what `--keep` left, and do nothing else.
    #[arg(long)]
    clean: bool,
}

/// One column of a table: what one encapsulation achieved.
struct Column {
    /// A cell per row of [`PAIRS`].
    pairs: Vec<Result<String>>,
    /// What the underlay carried.
    wire: Result<String>,
    /// Whether servers saw their clients' own addresses.
    addresses: Result<String>,
}

/// Rows: indices into a1, a2, b1, b2.
const PAIRS: [(usize, usize); 6] = [(0, 1), (2, 3), (0, 2), (0, 3), (1, 2), (1, 3)];
const NAMES: [&str; 4] = ["a1", "a2", "b1", "b2"];

fn main() -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    match demo(&interrupted) {
        Ok(code) => code,
        Err(_) if interrupted.load(Ordering::Relaxed) => {
            eprintln!("interrupted: everything is removed");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(interrupted: &Arc<AtomicBool>) -> Result<ExitCode> {
    let arguments = Arguments::parse();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(interrupted))?;
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "run it as root: it makes network namespaces"
    );
    let _testbed = Testbed::acquire()?;
    clean()?;
    if arguments.clean {
        return Ok(ExitCode::SUCCESS);
    }
    let begin = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    println!(
        "Two nodes (network namespaces {PREFIX}node1 and {PREFIX}node2) on one underlay network,\n\
         a Shunt daemon in each; pods a1 and a2 on node 1 (192.168.77.1), b1 and b2 on node 2\n\
         (192.168.77.2). Every pod pings every other and sends it TCP, both ways.\n"
    );
    let mut failures = 0;
    for mode in [Mode::L3, Mode::L2] {
        let mut columns = Vec::new();
        for (encap, name) in ENCAPS {
            if terminal {
                eprint!("\r\x1b[K{} mode, {name}... ", mode.name());
            }
            let column = run(mode, encap, interrupted);
            ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
            columns.push(column.with_context(|| format!("{} mode, {name}", mode.name()))?);
        }
        if terminal {
            eprint!("\r\x1b[K");
        }
        failures += show(mode, &columns);
    }
    println!(
        "Each cell: mean round trip of {PINGS} pings, and TCP throughput of the slower direction.\n\
         The wire was captured between the nodes and decoded by tshark, checksums verified.\n\
         {:.0} s in all.",
        begin.elapsed().as_secs_f64()
    );
    if failures > 0 {
        println!("FAILED cells: {failures}");
        return Ok(ExitCode::FAILURE);
    }
    if arguments.keep {
        keep()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn named(role: &str) -> Result<Netns> {
    Netns::named(&format!("{PREFIX}{role}"))
}

/// Removes what an earlier run left.
fn clean() -> Result<()> {
    for name in netns::list(PREFIX)? {
        netns::delete(&name)?;
    }
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Leaves a playground and says how to use it.
fn keep() -> Result<()> {
    let spec = Spec {
        lifetime: Lifetime::Keepable,
        ..Spec::new(Mode::L3, Encap::Vxlan)
    };
    let mut cluster = Cluster::build(&spec, named)?;
    let shunt = shunt_binary()?;
    println!("\nThe playground stays (L3 mode, VXLAN):");
    for pod in cluster.pods() {
        println!(
            "  {} {:<12} ip netns exec {} bash",
            pod.name,
            pod.address,
            pod.netns.name()
        );
    }
    for site in &cluster.sites {
        println!(
            "  node {}          {} --socket {} stats",
            site.node.index,
            shunt.display(),
            site.daemon.socket().display()
        );
    }
    println!(
        "Try: ip netns exec {PREFIX}a1 ping {}\n\
         The wire: ip netns exec {PREFIX}wire tcpdump -ni p1\n\
         Remove it: make demo ARGS=--clean",
        cluster.sites[1].pods[0].address
    );
    cluster.keep();
    Ok(())
}

fn title(mode: Mode) -> &'static str {
    match mode {
        Mode::L3 => "L3 mode (each pod has a /32; the switch routes by address)",
        Mode::L2 => "L2 mode (the pods of a node share a subnet; the switch learns MAC addresses)",
    }
}

/// Builds the two nodes, has every pair of pods talk, and takes all down again.
fn run(mode: Mode, encap: Encap, interrupted: &AtomicBool) -> Result<Column> {
    let cluster = Cluster::build(&Spec::new(mode, encap), named)?;
    let pods: Vec<&Pod> = cluster.pods().collect();
    let capture = Capture::start(&cluster.wire.netns, "p1", "")?;
    let mut pings = Vec::new();
    let mut wrong_addresses = Vec::new();
    for (a, b) in PAIRS {
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        pings.push(ping_both_ways(pods[a], pods[b]));
        for (client, server) in [(pods[a], pods[b]), (pods[b], pods[a])] {
            if let Err(error) = greet(client, server) {
                wrong_addresses.push(format!("{error:#}"));
            }
        }
    }
    let wire = prove(encap, &pods, &capture.stop()?);
    let mut pairs = Vec::new();
    for ((a, b), ping) in PAIRS.into_iter().zip(pings) {
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        let cell = ping.and_then(|rtt_us| {
            let gbps = throughput(pods[a], pods[b])?;
            Ok(format!("{rtt_us:>4.0} µs  {gbps:>4.1} Gbit/s"))
        });
        pairs.push(cell);
    }
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    let addresses = match wrong_addresses.first() {
        None => Ok("kept".to_owned()),
        Some(first) => Err(anyhow::anyhow!("{first}")),
    };
    Ok(Column {
        pairs,
        wire,
        addresses,
    })
}

/// The mean round trip in microseconds. The first ping of each direction only wakes ARP.
fn ping_both_ways(a: &Pod, b: &Pod) -> Result<f64> {
    let mut sum = 0.0;
    for (from, to) in [(a, b), (b, a)] {
        must_ping(&from.netns, to.address, 1, "")?;
        sum += must_ping(&from.netns, to.address, PINGS / 2, "")?.rtt_us;
    }
    Ok(sum / 2.0)
}

/// A TCP connection with little payload: small enough to capture whole.
fn greet(client: &Pod, server: &Pod) -> Result<()> {
    let seen = tcp(
        &client.netns,
        (&server.netns, server.address),
        Duration::ZERO,
    )?;
    ensure!(
        seen.client == client.address,
        "{} sees {} as {}",
        server.name,
        client.name,
        seen.client
    );
    Ok(())
}

/// TCP goodput of the slower direction in Gbit/s.
fn throughput(a: &Pod, b: &Pod) -> Result<f64> {
    let forth = tcp(&a.netns, (&b.netns, b.address), TRANSFER)?;
    let back = tcp(&b.netns, (&a.netns, a.address), TRANSFER)?;
    Ok(forth.gbps.min(back.gbps))
}

/// Demands that the underlay carried the packets of every pair across nodes, and of no other
/// pair, all in the encapsulation asked for and between the nodes' own addresses.
fn prove(encap: Encap, pods: &[&Pod], captured: &Captured) -> Result<String> {
    let warnings = captured.warnings()?;
    ensure!(warnings.is_empty(), "tshark warns: {}", warnings.join("; "));
    let fields = ["ip.src", "ip.dst", "vxlan.vni", "ip.proto"];
    let rows = captured.fields("ip.addr == 10.244.0.0/16", &fields)?;
    let expected_tunnel = match encap {
        Encap::Direct => "",
        Encap::Ipip => "4,",
        _ => "17,",
    };
    let vni = VNI.to_string();
    let mut seen = Vec::new();
    for row in &rows {
        let [source, destination, row_vni, protocols] = row.as_slice() else {
            bail!("tshark printed {row:?}");
        };
        let inner = |list: &str| list.rsplit(',').next().unwrap_or_default().to_owned();
        let pair = (inner(source), inner(destination));
        let node = |address: &str| -> Result<String> {
            let index = address
                .split('.')
                .nth(2)
                .and_then(|octet| octet.parse().ok());
            Ok(underlay_address(index.with_context(|| format!("address {address}"))?).to_string())
        };
        let (from, to) = (node(&pair.0)?, node(&pair.1)?);
        ensure!(
            from != to,
            "{} -> {} of one node is on the wire",
            pair.0,
            pair.1
        );
        let as_asked = if encap == Encap::Direct {
            *source == pair.0 && *destination == pair.1 && row_vni.is_empty()
        } else {
            *source == format!("{from},{}", pair.0)
                && *destination == format!("{to},{}", pair.1)
                && protocols.starts_with(expected_tunnel)
                && *row_vni
                    == if encap == Encap::Ipip {
                        ""
                    } else {
                        vni.as_str()
                    }
        };
        ensure!(
            as_asked,
            "on the wire: {source} -> {destination}, protocols {protocols}"
        );
        seen.push(pair);
    }
    for (a, b) in PAIRS.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]) {
        let (from, to) = (pods[a].address.to_string(), pods[b].address.to_string());
        let across = (a < 2) != (b < 2);
        ensure!(
            seen.contains(&(from.clone(), to.clone())) == across,
            "{from} -> {to} {} on the wire",
            if across { "is not" } else { "is" }
        );
    }
    let outer = format!("{} <-> {}", underlay_address(1), underlay_address(2));
    Ok(match encap {
        Encap::Direct => format!("{} plain packets\npod <-> pod", rows.len()),
        Encap::Ipip => format!("{} packets in IPIP\n{outer}", rows.len()),
        _ => format!("{} packets in VNI {VNI}\n{outer}", rows.len()),
    })
}

/// Prints one table and returns how many cells failed.
fn show(mode: Mode, columns: &[Column]) -> usize {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let header = ["pods", "path"]
        .into_iter()
        .chain(ENCAPS.iter().map(|(_, name)| *name));
    table.set_header(header);
    let mut failures = Vec::new();
    let mut cell = |what: String, cell: &Result<String>| match cell {
        Ok(text) => text.clone(),
        Err(error) => {
            failures.push(format!("{what}: {error:#}"));
            "FAIL".to_owned()
        }
    };
    for (row, (a, b)) in PAIRS.into_iter().enumerate() {
        let path = if (a < 2) == (b < 2) {
            "same node"
        } else {
            "across nodes"
        };
        let mut line = vec![format!("{} <-> {}", NAMES[a], NAMES[b]), path.to_owned()];
        for ((_, name), column) in ENCAPS.iter().zip(columns) {
            let what = format!("{} <-> {}, {name}", NAMES[a], NAMES[b]);
            line.push(cell(what, &column.pairs[row]));
        }
        table.add_row(line);
    }
    let mut proofs = [
        vec!["on the wire".to_owned(), "across nodes".to_owned()],
        vec!["pods' addresses".to_owned(), "all".to_owned()],
    ];
    for ((_, name), column) in ENCAPS.iter().zip(columns) {
        proofs[0].push(cell(format!("on the wire, {name}"), &column.wire));
        proofs[1].push(cell(format!("addresses, {name}"), &column.addresses));
    }
    table.add_rows(proofs);
    println!("{}\n{table}", title(mode));
    for failure in &failures {
        println!("FAIL {failure}");
    }
    println!();
    failures.len()
}
