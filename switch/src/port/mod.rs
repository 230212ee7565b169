//! Ports: frames in, frames out. They never block and know no protocol.

mod memory;
mod tap;

use shunt_afxdp::{Device, Error, Frame, Pinhole, Pool};

pub use shunt_afxdp::Sent;

pub use memory::{MemoryPort, MemoryWire};
pub use tap::TapPort;

/// A port of any kind.
pub enum Port {
    /// AF_XDP on a veth or a NIC.
    Afxdp(Box<Device>),
    /// A TAP device.
    Tap(TapPort),
    /// In-process.
    Memory(MemoryPort),
}

impl Port {
    /// Appends up to `max` received frames to `out`.
    #[inline]
    pub fn rx(&mut self, pool: &mut Pool, out: &mut Vec<Frame>, max: usize) -> usize {
        match self {
            Self::Afxdp(device) => device.rx(pool, out, max),
            Self::Tap(tap) => tap.rx(pool, out, max),
            Self::Memory(memory) => memory.rx(pool, out, max),
        }
    }

    /// Sends from the front of `frames`; what did not fit stays there.
    #[inline]
    pub fn tx(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>) -> Sent {
        match self {
            Self::Afxdp(device) => device.tx(pool, frames),
            Self::Tap(tap) => tap.tx(pool, frames),
            Self::Memory(memory) => memory.tx(pool, frames),
        }
    }

    /// Takes back the frames that the kernel has sent, and reminds it of those that it has not.
    #[inline]
    pub fn complete(&mut self, pool: &mut Pool) {
        if let Self::Afxdp(device) = self {
            device.complete(pool);
            if device.needs_kick() {
                device.kick();
            }
        }
    }

    /// True once the device behind it is gone.
    pub fn is_dead(&self) -> bool {
        match self {
            Self::Afxdp(device) => device.is_dead(),
            Self::Tap(tap) => tap.is_dead(),
            Self::Memory(_) => false,
        }
    }

    /// Changes what the kernel lets through to an uplink; other ports take everything.
    pub fn set_pinhole(&mut self, pinhole: Pinhole) -> Result<(), Error> {
        match self {
            Self::Afxdp(device) => device.set_pinhole(pinhole),
            Self::Tap(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// What the kernel counted on its side, by its own names, and its descriptors that made no
    /// sense.
    pub fn kernel_counters(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Afxdp(device) => {
                let Ok(s) = device.statistics() else {
                    return Vec::new();
                };
                vec![
                    ("rx_dropped", s.rx_dropped),
                    ("rx_invalid_descs", s.rx_invalid_descs),
                    ("tx_invalid_descs", s.tx_invalid_descs),
                    ("rx_ring_full", s.rx_ring_full),
                    ("rx_fill_ring_empty_descs", s.rx_fill_ring_empty_descs),
                    ("tx_ring_empty_descs", s.tx_ring_empty_descs),
                    ("bad_descriptors", s.bad_descriptors),
                ]
            }
            Self::Tap(tap) => tap.counters(),
            Self::Memory(_) => Vec::new(),
        }
    }

    /// Detaches it; every frame it held is in the pool afterwards.
    pub fn close(self, pool: &mut Pool) {
        if let Self::Afxdp(device) = self {
            // How many the kernel had held does not matter to anyone.
            let _ = device.close(pool);
        }
    }

    /// Detaches it without waiting for the kernel; every frame it held is in the depot of the UMEM
    /// soon afterwards ([`shunt_afxdp::Umem::retiring`]).
    pub fn retire(self) {
        if let Self::Afxdp(device) = self {
            device.retire();
        }
    }
}
