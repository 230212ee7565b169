//! Pods that talk all the time: numbered datagrams at a bounded rate, and where each one went.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shunt_api::StatsReport;
use shunt_tests::netns::Netns;

/// The UDP port that every pod uses.
const PORT: u16 = 7000;
/// How often each pod sends one datagram: 500 a second.
const PACE: Duration = Duration::from_millis(2);
/// The payload of a datagram in bytes.
const LENGTH: usize = 200;
/// How long the last datagrams may take.
const DRAIN: Duration = Duration::from_secs(2);

/// A ring of pods: each sends to the next.
#[derive(Debug)]
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Flow>>>,
}

/// What one pod sent, and the next one received of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Datagrams that came twice, or after a later one.
    pub(crate) astray: u64,
    /// The longest time that a datagram took.
    pub(crate) slowest: Duration,
}

/// A pod that takes part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady<'a> {
    pub(crate) netns: &'a Netns,
    pub(crate) address: IpAddr,
}

impl Traffic {
    /// Sets the pods talking. One thread sends and receives for all of them, so that what waits
    /// in sockets is bounded, however slow the machine is.
    pub(crate) fn start(pods: &[Steady<'_>]) -> Result<Self> {
        let mut sockets = Vec::new();
        for pod in pods {
            let socket = pod
                .netns
                .within(|| UdpSocket::bind((pod.address, PORT)))??;
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
        let mut targets: Vec<SocketAddr> = pods
            .iter()
            .map(|pod| SocketAddr::new(pod.address, PORT))
            .collect();
        targets.rotate_left(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || talk(&sockets, &targets, &stopped));
        Ok(Self { stop, thread })
    }

    /// Stops sending, waits for what is under way, and tells of each pod what it sent.
    pub(crate) fn stop(self) -> Result<Vec<Flow>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn talk(sockets: &[UdpSocket], targets: &[SocketAddr], stop: &AtomicBool) -> Result<Vec<Flow>> {
    let begin = Instant::now();
    let mut flows = vec![Flow::default(); sockets.len()];
    let mut last = vec![None; sockets.len()];
    let mut next = begin;
    while !stop.load(Ordering::Relaxed) {
        for ((socket, target), flow) in sockets.iter().zip(targets).zip(&mut flows) {
            let mut payload = [0; LENGTH];
            payload[..8].copy_from_slice(&flow.sent.to_be_bytes());
            let now = u64::try_from(begin.elapsed().as_nanos())?;
            payload[8..16].copy_from_slice(&now.to_be_bytes());
            socket.send_to(&payload, target).context("send")?;
            flow.sent += 1;
        }
        collect(sockets, begin, &mut flows, &mut last)?;
        // A thread that was not scheduled for a while does not catch up.
        next = Instant::now().max(next + PACE);
        thread::sleep(next - Instant::now().min(next));
    }
    let deadline = Instant::now() + DRAIN;
    while flows.iter().any(|flow| flow.received < flow.sent) && Instant::now() < deadline {
        collect(sockets, begin, &mut flows, &mut last)?;
        thread::sleep(PACE);
    }
    Ok(flows)
}

/// Takes what has arrived; the flow of a datagram is that of the pod before its receiver.
fn collect(
    sockets: &[UdpSocket],
    begin: Instant,
    flows: &mut [Flow],
    last: &mut [Option<u64>],
) -> Result<()> {
    let count = sockets.len();
    let mut buffer = [0; 2048];
    for (index, socket) in sockets.iter().enumerate() {
        let sender = (index + count - 1) % count;
        loop {
            let length = match socket.recv_from(&mut buffer) {
                Ok((length, _)) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("receive"),
            };
            ensure!(length == LENGTH, "a datagram of {length} bytes came");
            let number = |at: usize| -> Result<u64> {
                Ok(u64::from_be_bytes(buffer[at..at + 8].try_into()?))
            };
            let flow = &mut flows[sender];
            let taken = begin
                .elapsed()
                .saturating_sub(Duration::from_nanos(number(8)?));
            flow.slowest = flow.slowest.max(taken);
            let sequence = number(0)?;
            if last[sender].is_some_and(|last| sequence <= last) {
                flow.astray += 1;
            } else {
                flow.received += 1;
                last[sender] = Some(sequence);
            }
        }
    }
    Ok(())
}

/// All that names lost datagrams of the pods: the switch's drops and the kernel's, by counter.
pub(crate) type Losses = BTreeMap<String, u64>;

/// Reads them: of the ports named, of the pods' UDP sockets, and of both ends of their veths.
pub(crate) fn losses(
    stats: &StatsReport,
    node: &Netns,
    pods: &[(&str, Steady<'_>)],
) -> Result<Losses> {
    let mut losses = Losses::new();
    let mut add = |name: String, count: u64| *losses.entry(name).or_default() += count;
    for (port, pod) in pods {
        let port = stats
            .ports
            .iter()
            .find(|candidate| candidate.name == *port)
            .with_context(|| format!("port {port} has no counters"))?;
        for (reason, count) in &port.drops {
            add(format!("shunt {reason}"), *count);
        }
        for (name, count) in &port.kernel {
            add(format!("xdp {name}"), *count);
        }
        for (key, count) in udp_errors(pod.netns)? {
            add(format!("udp {key}"), count);
        }
        for (netns, device) in [(pod.netns, "eth0"), (node, port.name.as_str())] {
            for key in ["rx_dropped", "tx_dropped"] {
                let file = format!("/sys/class/net/{device}/statistics/{key}");
                add(format!("veth {key}"), counter(netns, Path::new(&file))?);
            }
        }
    }
    Ok(losses)
}

/// A counter of a device; `/sys` shows those of the namespace that it was mounted in.
fn counter(netns: &Netns, file: &Path) -> Result<u64> {
    let file = file.to_str().context("path")?;
    Ok(netns.run(&["cat", file])?.trim().parse()?)
}

/// What UDP sockets of a namespace have lost (/proc/net/snmp).
fn udp_errors(netns: &Netns) -> Result<Vec<(String, u64)>> {
    let text = netns.within(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (keys, values) = (lines.next().context("snmp")?, lines.next().context("snmp")?);
    let mut errors = Vec::new();
    for (key, value) in keys.split(' ').zip(values.split(' ')) {
        if ["NoPorts", "InErrors"].contains(&key) {
            errors.push((key.to_owned(), value.parse()?));
        }
    }
    Ok(errors)
}

/// What was lost between two readings; counters that stood still are absent.
pub(crate) fn lost_between(before: &Losses, after: &Losses) -> Losses {
    after
        .iter()
        .filter_map(|(name, now)| {
            let was = before.get(name).copied().unwrap_or(0);
            (*now > was).then(|| (name.clone(), now - was))
        })
        .collect()
}
