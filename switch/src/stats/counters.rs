//! Counters of a worker and of its ports.

use super::DropReason;

/// Counters of one port, kept by the worker that owns it.
#[derive(Debug, Clone)]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received, without the frame check sequence.
    pub rx_bytes: u64,
    /// Frames the port took.
    pub tx_packets: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Indexed by [`DropReason`].
    pub drops: [u64; DropReason::COUNT],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            drops: [0; DropReason::COUNT],
        }
    }
}

impl PortCounters {
    /// Counts one dropped frame.
    #[inline]
    pub fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// Adds another port's, or an earlier life's.
    pub fn add(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        for (mine, theirs) in self.drops.iter_mut().zip(&other.drops) {
            *mine += theirs;
        }
    }

    /// Frames dropped for any reason.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }
}

/// Counters of one worker beside those of its ports.
#[derive(Debug, Clone, Default)]
pub struct WorkerCounters {
    /// Frames the switch made: ARP, copies made to flood.
    pub generated: u64,
    /// Frames meant for the switch and dealt with.
    pub consumed: u64,
    /// ICMP and ICMPv6 errors sent, which are among the generated.
    pub icmp_sent: u64,
    /// Packets that no error was sent for because of the limit.
    pub icmp_limited: u64,
    /// Frames handed to other workers.
    pub to_links: u64,
    /// Frames taken over from other workers.
    pub from_links: u64,
    /// Frames that wait for a neighbour or in a transmit queue, at this moment.
    pub held: u64,
    /// What ports had counted that are gone, and drops that belong to no port.
    pub retired: PortCounters,
}
