//! Resident memory of the daemon without ports and with many.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use shunt_api::{PortKind, PortSpec};
use shunt_bench::interrupt::Interrupt;
use shunt_tests::config::Config;
use shunt_tests::daemon::Daemon;
use shunt_tests::netns::Netns;
use shunt_tests::node::{Node, pod_cidr, underlay_address};
use shunt_tests::pod::Mode;
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::veth;

/// Starts the daemon with default rings, with no port and then with many veth ports, and compares
/// the memory it has resident. Takes root.
#[derive(Debug, Parser)]
struct Arguments {
    /// Veth ports.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=126))]
    ports: u8,
    /// Frames of the packet memory; the daemon's default when absent.
    #[arg(long)]
    frames: Option<u32>,
    /// Frames that each port keeps for reception; the daemon's default when absent.
    #[arg(long)]
    rx_frames: Option<u32>,
    /// Fails above this many MB (10^6 bytes).
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// The worker's core.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// Bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// Resident memory of the process, with the UMEM that the kernel has pinned.
    resident: u64,
    /// Its highest value so far.
    peak: u64,
    /// Free or freely reclaimable memory of the machine: it falls by what the kernel takes too.
    available: u64,
}

fn main() -> ExitCode {
    Interrupt::main(program)
}

fn program(interrupt: &Interrupt) -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let _testbed = Testbed::acquire()?;
    let node = Node {
        netns: Netns::new("node")?,
        index: 1,
        address: underlay_address(1),
        pod_cidr: pod_cidr(1)?,
    };
    let pods = Netns::new("pods")?;
    for number in 1..=arguments.ports {
        veth(
            (&node.netns, &host_end(number)),
            (&pods, &format!("p{number}")),
            1500,
        )?;
        interrupt.sleep(std::time::Duration::ZERO)?;
    }
    let memory_table = arguments.frames.map_or(String::new(), |frames| {
        format!("[memory]\nframes = {frames}\n")
    });
    let config = Config {
        uplink: false,
        extra: memory_table,
        ..Config::new(Mode::L3, arguments.core)
    };
    let daemon = Daemon::start(&node, &config)?;
    let without = memory(daemon.pid())?;
    for number in 1..=arguments.ports {
        daemon.port_add(PortSpec {
            name: format!("pod{number}"),
            kind: PortKind::Afxdp,
            device: host_end(number),
            addresses: vec![node.pod_address(number).into()],
            rx_frames: arguments.rx_frames,
            ..PortSpec::default()
        })?;
        interrupt.sleep(std::time::Duration::ZERO)?;
    }
    let with = memory(daemon.pid())?;
    let ports = daemon.ports()?.len();
    ensure!(
        ports == usize::from(arguments.ports),
        "{ports} ports are attached"
    );
    daemon.must_return_all_frames()?;
    daemon.stop()?;
    print(&arguments, without, with);
    Ok(if with.peak <= arguments.limit * 1_000_000 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn host_end(number: u8) -> String {
    format!("v-{number}")
}

fn print(arguments: &Arguments, without: Memory, with: Memory) {
    let ports = u64::from(arguments.ports);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let kilobytes = |bytes: u64| bytes as f64 / ports as f64 / 1e3;
    println!(
        "resident without ports:       {:.1} MB",
        megabytes(without.resident)
    );
    println!(
        "resident with {ports} veth ports: {:.1} MB (at most {:.1} MB, limit {} MB: {})",
        megabytes(with.resident),
        megabytes(with.peak),
        arguments.limit,
        if with.peak <= arguments.limit * 1_000_000 {
            "met"
        } else {
            "NOT MET"
        }
    );
    println!(
        "a port: {:.1} kB in the daemon, {:.1} kB of the whole machine's memory",
        kilobytes(with.resident.saturating_sub(without.resident)),
        kilobytes(without.available.saturating_sub(with.available)),
    );
    println!(
        "The first port is where the kernel pins the packet memory, so that is in the sums; the \
         machine's figure includes what the kernel keeps for rings and XDP, and for each port a \
         descriptor of every frame there is (xp_create_and_assign_umem, net/xdp/xsk_buff_pool.c)."
    );
}

fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let field = |text: &str, name: &str| {
        kilobytes(text, name).with_context(|| format!("no {name} in {path} or /proc/meminfo"))
    };
    Ok(Memory {
        resident: field(&status, "VmRSS")?,
        peak: field(&status, "VmHWM")?,
        available: field(&meminfo, "MemAvailable")?,
    })
}

/// A line such as `VmRSS:   1234 kB` (proc_pid_status(5)), in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_name() {
        let status = "VmHWM:\t    9 kB\nVmRSS:\t  1234 kB\nRssAnon:\t1 kB\n";
        assert_eq!(kilobytes(status, "VmRSS"), Some(1234 * 1024));
        assert_eq!(kilobytes(status, "VmHWM"), Some(9 * 1024));
        assert_eq!(kilobytes(status, "Vm"), None);
        assert_eq!(kilobytes("VmRSS: x kB\n", "VmRSS"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident > 0 && memory.peak >= memory.resident && memory.available > 0);
    }
}
