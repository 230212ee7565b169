//! Packets per second between two veths: Shunt against a bare AF_XDP loop on the same core.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use comfy_table::{Table, presets};
use shunt_api::MacAddr;
use shunt_bench::core;
use shunt_bench::figures::{Better, Row, Series, write_json};
use shunt_bench::interrupt::Interrupt;
use shunt_bench::veth::{Bare, FRAME_LEN, Generator, Rig, Sink};
use shunt_tests::config::Config;
use shunt_tests::daemon::Daemon;
use shunt_tests::frames::{ethernet, inject};
use shunt_tests::pod::Mode;
use shunt_tests::testbed::Testbed;

const TARGET: f64 = 0.95;
const GENERATOR_CORE: usize = 0;
const SWITCH_CORE: usize = 1;
const PLACEMENT: &str =
    "generator on core 0; device under test and the receiver's kernel on core 1";
const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);
/// Until rings and caches are as they stay.
const SETTLE: Duration = Duration::from_millis(300);
/// Frames lost on the way, of those sent, from which on the device under test was the bottleneck.
const OVERLOAD: f64 = 0.01;
/// Spread of one device's rounds, of their median, from which on they are not to be trusted.
const UNSTEADY: f64 = 0.15;

/// Floods one pod from another on the same node and counts what arrives: carried by a bare AF_XDP
/// loop, by Shunt in L3 mode and by Shunt in L2 mode, in turns. Takes root, two cores, and an
/// otherwise idle machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds; each measures all three.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Writes the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number from 0.1 to 3600".to_owned()),
    }
}

/// What carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Bare,
    Shunt(Mode),
}

const DEVICES: [Device; 3] = [
    Device::Bare,
    Device::Shunt(Mode::L3),
    Device::Shunt(Mode::L2),
];

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare AF_XDP loop",
            Self::Shunt(Mode::L3) => "shunt, L3 mode",
            Self::Shunt(Mode::L2) => "shunt, L2 mode",
        }
    }
}

/// All rounds of one device.
#[derive(Default)]
struct Results {
    /// Thousands of frames a second that arrived.
    kpps: Series,
    /// The share of the frames sent that did not arrive.
    lost: Series,
    /// Busy share of the generator's core and of the device's.
    busy: [Series; 2],
}

fn main() -> ExitCode {
    Interrupt::main(program)
}

fn program(interrupt: &Interrupt) -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let _testbed = Testbed::acquire()?;
    let rig = Rig::new()?;
    let sink = Sink::open(&rig.receiver)?;
    let mut results: [Results; 3] = Default::default();
    for round in 1..=arguments.rounds {
        for (device, results) in DEVICES.into_iter().zip(&mut results) {
            eprint!(
                "\rround {round} of {}: {}   ",
                arguments.rounds,
                device.name()
            );
            let time = Duration::from_secs_f64(arguments.seconds);
            measure(&rig, &sink, device, time, interrupt, results)
                .with_context(|| device.name())?;
        }
    }
    eprint!("\r\x1b[K");
    let rows = rows(&results);
    println!("{}", table(&results));
    println!(
        "{FRAME_LEN}-byte UDP frames; {PLACEMENT}. Arrived: counted at a UDP socket of pod B.\n\
         {} rounds of {} s, in turns; medians, smallest and largest in brackets.",
        arguments.rounds, arguments.seconds
    );
    for row in &rows {
        println!(
            "{}: {:.3} of the {}, target {TARGET}: {}{}",
            row.case,
            row.ratio,
            row.peer,
            if row.met { "met" } else { "NOT MET" },
            row.limited_by
                .as_ref()
                .map_or(String::new(), |by| format!(" (limited by {by})")),
        );
    }
    if results.iter().any(|results| unsteady(&results.kpps)) {
        println!(
            "Some rounds differ by more than {:.0} %: something else ran on these cores, or the \
             host gave them to others. Repeat it on an idle machine.",
            UNSTEADY * 100.0
        );
    }
    if let Some(path) = &arguments.json {
        write_json(path, &rows)?;
    }
    Ok(if rows.iter().all(|row| row.met) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn measure(
    rig: &Rig,
    sink: &Sink,
    device: Device,
    time: Duration,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<()> {
    let pod_mac = rig.receiver.mac()?;
    match device {
        Device::Bare => {
            let ends = [&rig.sender, &rig.receiver].map(|pod| pod.host_device.clone());
            let bare = Bare::start(&rig.node, SWITCH_CORE, ends)?;
            flood(rig, sink, pod_mac, time, interrupt, results)?;
            bare.stop()?;
        }
        Device::Shunt(mode) => {
            let config = Config {
                uplink: false,
                ..Config::new(mode, SWITCH_CORE)
            };
            let daemon = Daemon::start(&rig.node, &config)?;
            daemon.attach(&rig.sender)?;
            daemon.attach(&rig.receiver)?;
            let destination = match mode {
                Mode::L3 => GATEWAY_MAC,
                Mode::L2 => {
                    introduce(rig, &daemon, pod_mac)?;
                    pod_mac
                }
            };
            flood(rig, sink, destination, time, interrupt, results)?;
            daemon.must_return_all_frames()?;
            daemon.stop()?;
        }
    }
    Ok(())
}

/// Lets the switch learn where pod B is; otherwise it would flood.
fn introduce(rig: &Rig, daemon: &Daemon, mac: MacAddr) -> Result<()> {
    // The EtherType for local experiments (IEEE 802, 9.2.4): pod A's kernel has no use for it.
    let hello = ethernet(mac, rig.sender.mac()?, 0x88b5, &[0; 46]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !daemon.fdb()?.iter().any(|entry| entry.mac == mac) {
        ensure!(
            Instant::now() < deadline,
            "the switch does not learn {mac}, pod B's"
        );
        inject(&rig.receiver.netns, "eth0", std::slice::from_ref(&hello))?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn flood(
    rig: &Rig,
    sink: &Sink,
    destination: MacAddr,
    time: Duration,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<()> {
    let before = sink.received()?;
    let generator = Generator::start(&rig.sender, GENERATOR_CORE, rig.frame(destination)?)?;
    interrupt.sleep(SETTLE)?;
    let cores = [GENERATOR_CORE, SWITCH_CORE];
    let busy = [core::Time::of(cores[0])?, core::Time::of(cores[1])?];
    let (start, first) = (Instant::now(), sink.received()?);
    interrupt.sleep(time)?;
    let (last, took) = (sink.received()?, start.elapsed());
    for ((series, core), earlier) in results.busy.iter_mut().zip(cores).zip(busy) {
        series.push(core::Time::of(core)?.busy_since(earlier));
    }
    let sent = generator.stop()?;
    // What is on its way still arrives.
    interrupt.sleep(Duration::from_millis(50))?;
    let arrived = sink.received()? - before;
    ensure!(
        last > first,
        "{sent} frames were sent and none arrived while it was measured"
    );
    results
        .kpps
        .push((last - first) as f64 / took.as_secs_f64() / 1e3);
    results.lost.push(1.0 - arrived as f64 / sent.max(1) as f64);
    Ok(())
}

fn unsteady(series: &Series) -> bool {
    let [min, max] = series.spread();
    max - min > UNSTEADY * series.median()
}

fn rows(results: &[Results; 3]) -> Vec<Row> {
    let [bare, switches @ ..] = results;
    let cases = ["AF_XDP pods, L3 mode", "AF_XDP pods, L2 mode"];
    let cpu = |results: &Results| results.busy.iter().map(Series::median).sum();
    let limit = |results: &Results| results.lost.median() < OVERLOAD;
    cases
        .into_iter()
        .zip(switches)
        .map(|(case, ours)| Row {
            placement: PLACEMENT.to_owned(),
            cpu_ours: cpu(ours),
            cpu_theirs: cpu(bare),
            limited_by: (limit(ours) || limit(bare))
                .then(|| "the generator: nothing is lost on the way".to_owned()),
            ..Row::compare(
                ["veth_pps", case, "bare AF_XDP loop", "kpps"],
                (&ours.kpps, &bare.kpps),
                Better::Higher,
                Some(TARGET),
            )
        })
        .collect()
}

fn table(results: &[Results; 3]) -> Table {
    let bare = results[0].kpps.median();
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "device under test",
        "kpps arrived",
        "of bare",
        "lost",
        "core 0 busy",
        "core 1 busy",
    ]);
    for (device, results) in DEVICES.into_iter().zip(results) {
        let [min, max] = results.kpps.spread();
        let median = results.kpps.median();
        let percent = |series: &Series| format!("{:.1} %", series.median() * 100.0);
        table.add_row([
            device.name().to_owned(),
            format!("{median:.0} [{min:.0}, {max:.0}]"),
            format!("{:.3}", median / bare),
            percent(&results.lost),
            percent(&results.busy[0]),
            percent(&results.busy[1]),
        ]);
    }
    table
}
