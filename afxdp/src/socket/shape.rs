//! What a socket is opened with, and what it counts.

use std::ops::AddAssign;

use crate::error::Error;

/// Shape of a socket. All ring sizes are in entries, powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketConfig {
    /// Queue of the device.
    pub queue: u32,
    /// Receive ring.
    pub rx_size: u32,
    /// Transmit ring.
    pub tx_size: u32,
    /// Fill ring, at least `rx_frames`.
    pub fill_size: u32,
    /// Completion ring.
    pub completion_size: u32,
    /// Chunks the kernel is to hold for receiving.
    pub rx_frames: u32,
    /// Whether it holds more for a busy socket, up to the size of fill and receive ring: when
    /// [`Socket::rx`](super::Socket::rx) finds as many descriptors as half the chunks that the kernel has, it is given
    /// twice as many, if the UMEM can lend them ([`Umem::lendable`](crate::Umem::lendable)). After every second without a
    /// quarter of them in use it is to have half as many, no less than `rx_frames`; but it returns
    /// chunks only as it receives, so those of a silent device stay lent.
    pub adaptive: bool,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            queue: 0,
            rx_size: 1024,
            tx_size: 1024,
            fill_size: 1024,
            completion_size: 1024,
            rx_frames: 1024,
            adaptive: false,
        }
    }
}

impl SocketConfig {
    /// Refuses what the kernel would, by name.
    pub(super) fn check(&self) -> Result<(), Error> {
        // The bounds only catch slips; the kernel limits the sum of all rings by memory.
        for (name, size) in [
            ("rx_size", self.rx_size),
            ("tx_size", self.tx_size),
            ("fill_size", self.fill_size),
            ("completion_size", self.completion_size),
        ] {
            if !size.is_power_of_two() || !(2..=1 << 20).contains(&size) {
                return Err(Error::Config(format!(
                    "{name} is {size}, must be a power of two from 2 to 1048576"
                )));
            }
        }
        if self.rx_frames == 0 || self.rx_frames > self.fill_size {
            return Err(Error::Config(format!(
                "rx_frames is {}, must be from 1 to fill_size = {}",
                self.rx_frames, self.fill_size
            )));
        }
        Ok(())
    }
}

/// Counters of a socket or, summed, of a device. The first six are the kernel's (`struct
/// xdp_statistics`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Dropped by the kernel for other reasons than the ones below.
    pub rx_dropped: u64,
    /// Fill ring entries the kernel found invalid.
    pub rx_invalid_descs: u64,
    /// TX descriptors the kernel found invalid.
    pub tx_invalid_descs: u64,
    /// Dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Attempts to receive with an empty fill ring.
    pub rx_fill_ring_empty_descs: u64,
    /// Attempts to transmit with an empty TX ring.
    pub tx_ring_empty_descs: u64,
    /// Descriptors from the kernel that were out of bounds or not of a chunk given to it.
    pub bad_descriptors: u64,
    /// Frames that can never be sent: no whole Ethernet header in the first segment, too many
    /// segments, or of another UMEM. They went back to the pool.
    pub tx_rejected: u64,
}

impl AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        self.rx_dropped += other.rx_dropped;
        self.rx_invalid_descs += other.rx_invalid_descs;
        self.tx_invalid_descs += other.tx_invalid_descs;
        self.rx_ring_full += other.rx_ring_full;
        self.rx_fill_ring_empty_descs += other.rx_fill_ring_empty_descs;
        self.tx_ring_empty_descs += other.tx_ring_empty_descs;
        self.bad_descriptors += other.bad_descriptors;
        self.tx_rejected += other.tx_rejected;
    }
}
