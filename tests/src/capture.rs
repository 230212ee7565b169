//! Captures, and what tshark makes of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::run;
use crate::netns::Netns;
use crate::process::Process;

/// Preferences under which tshark verifies checksums, decodes UDP port 8472 as VXLAN, and takes
/// what other ports carry for plain data: in random bytes it sooner or later finds a malformed
/// packet of some protocol. It keeps its opinions about TCP's course (losses, windows) to itself:
/// they are of the capture as much as of the network.
const PREFERENCES: [&str; 14] = [
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-o",
    "tcp.analyze_sequence_numbers:FALSE",
    "-d",
    "udp.port==8472,vxlan",
    "-d",
    "udp.port==8473-65535,data",
    "-d",
    "tcp.port==0-65535,data",
];

/// A running tcpdump; dropping it stops it and removes its file.
#[derive(Debug)]
pub struct Capture {
    folder: TempDir,
    tcpdump: Process,
}

/// A finished capture; dropping it removes the file.
#[derive(Debug)]
pub struct Captured {
    folder: TempDir,
}

impl Capture {
    /// Captures on `device` what matches the pcap-filter(7) expression, whole packets; returns
    /// once tcpdump listens.
    ///
    /// # Errors
    /// When tcpdump does not start.
    pub fn start(netns: &Netns, device: &str, filter: &str) -> Result<Self> {
        Self::start_in(netns, device, "inout", filter)
    }

    /// [`Capture::start`] for what comes in only. The filter word `inbound` will not do: libpcap
    /// loses the first packet by it.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn start_inbound(netns: &Netns, device: &str, filter: &str) -> Result<Self> {
        Self::start_in(netns, device, "in", filter)
    }

    fn start_in(netns: &Netns, device: &str, direction: &str, filter: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("capture.pcap");
        let file = path.to_str().context("temporary folder")?;
        let mut argv = vec![
            "tcpdump",
            "-Q",
            direction,
            "-i",
            device,
            "-n",
            "-s",
            "0",
            "-B",
            "16384",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-w",
            file,
        ];
        argv.extend(filter.split_whitespace());
        let mut tcpdump = netns.start(&argv)?;
        tcpdump.wait_output(Duration::from_secs(10), |text| {
            text.contains("listening on")
        })?;
        Ok(Self { folder, tcpdump })
    }

    /// Stops tcpdump and hands over its file.
    ///
    /// # Errors
    /// When it does not end in order.
    pub fn stop(mut self) -> Result<Captured> {
        // Frames on their way through the bridge arrive within this time.
        std::thread::sleep(Duration::from_millis(50));
        let status = self.tcpdump.stop(Signal::INT, Duration::from_secs(10))?;
        ensure!(
            status.success(),
            "tcpdump: {status}: {}",
            self.tcpdump.output()
        );
        Ok(Captured {
            folder: self.folder,
        })
    }
}

impl Captured {
    /// The capture file.
    pub fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("capture.pcap")
    }

    /// The values of `fields` for each packet that matches the display filter, the values of a
    /// field that occurs more than once (outer and inner header) joined by commas.
    ///
    /// # Errors
    /// When tshark fails, for example on an unknown field.
    pub fn fields(&self, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
        tshark_fields(&self.file(), filter, fields)
    }

    /// How many packets match the display filter (all of them when empty).
    ///
    /// # Errors
    /// As [`Captured::fields`].
    pub fn count(&self, filter: &str) -> Result<usize> {
        Ok(self.fields(filter, &["frame.number"])?.len())
    }

    /// One line for each packet of which tshark warns: malformed, bad checksum, and the like.
    ///
    /// # Errors
    /// When tshark fails.
    pub fn warnings(&self) -> Result<Vec<String>> {
        self.warnings_among("frame")
    }

    /// [`Captured::warnings`] among the packets that match the display filter. Linux itself sends
    /// a TCP checksum of zero as 0xffff (`skb_checksum_help`, net/core/dev.c), of which tshark
    /// warns, so a kernel peer's packets are best left out.
    ///
    /// # Errors
    /// When tshark fails.
    pub fn warnings_among(&self, filter: &str) -> Result<Vec<String>> {
        let filter = format!(
            "({filter}) && (_ws.malformed || _ws.expert.severity >= 0x600000) \
             && !tcp.options.sack.dsack"
        );
        let fields = ["frame.number", "_ws.col.Info", "_ws.expert.message"];
        let rows = self.fields(&filter, &fields)?;
        Ok(rows.into_iter().map(|row| row.join(" | ")).collect())
    }
}

fn tshark_fields(file: &Path, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let file = file.to_str().context("path of the capture")?;
    let mut argv = vec!["tshark", "-n", "-r", file];
    argv.extend(PREFERENCES);
    if !filter.is_empty() {
        argv.extend(["-Y", filter]);
    }
    argv.extend(["-T", "fields"]);
    for field in fields {
        argv.extend(["-e", field]);
    }
    let text = run(&argv)?;
    Ok(text
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect())
}
