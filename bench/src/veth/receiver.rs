//! The receiver: a UDP socket that nobody reads, and the kernel's count of what came to it.

use std::net::UdpSocket;
use std::sync::Arc;

use anyhow::{Context, Result};
use shunt_tests::pod::Pod;

use super::PORT;

/// Pod B's socket. Its buffer is soon full; what comes then is dropped at the last step, counted.
pub struct Sink {
    pod: Arc<Pod>,
    _socket: UdpSocket,
}

impl Sink {
    /// Opens the socket in the pod.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(pod: &Arc<Pod>) -> Result<Self> {
        let socket = pod
            .netns
            .within(|| UdpSocket::bind((pod.address, PORT)))?
            .with_context(|| format!("UDP socket in pod {}", pod.name))?;
        Ok(Self {
            pod: Arc::clone(pod),
            _socket: socket,
        })
    }

    /// Frames that have come to a UDP socket of the pod: delivered, or dropped because its buffer
    /// was full.
    ///
    /// # Errors
    /// The kernel's counters cannot be read.
    pub fn received(&self) -> Result<u64> {
        // The thread's file: the process is in another namespace.
        let text = self
            .pod
            .netns
            .within(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
        udp_received(&text).context("/proc/net/snmp has no UDP counters")
    }
}

/// `InDatagrams + RcvbufErrors` of the lines `Udp:`, the first with names, the second with values.
fn udp_received(snmp: &str) -> Option<u64> {
    let mut lines = snmp
        .lines()
        .filter_map(|line| line.strip_prefix("Udp: "))
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| -> Option<u64> {
        let index = names.iter().position(|name| *name == wanted)?;
        values.get(index)?.parse().ok()
    };
    Some(value("InDatagrams")? + value("RcvbufErrors")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Tcp: A B\nTcp: 1 2\n\
                    Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\n\
                    Udp: 100 7 23 9 20 0\n";
        assert_eq!(udp_received(snmp), Some(120));
        assert_eq!(udp_received("Udp: InDatagrams\n"), None);
        assert_eq!(udp_received("Udp: InDatagrams\nUdp: 1\n"), None);
    }
}
