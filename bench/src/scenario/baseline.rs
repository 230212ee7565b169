//! The two memory ports without a street between them.

use std::sync::Arc;

use anyhow::Result;
use shunt_afxdp::{Frame, Pool, Umem, UmemConfig};
use shunt_switch::port::{MemoryPort, Port};

use super::{BATCH, Path, Scenario, traffic};

/// What generating and swallowing cost alone.
pub struct Baseline {
    from: Port,
    to: Port,
    batch: Vec<Frame>,
    pool: Pool,
    _umem: Arc<Umem>,
}

impl Baseline {
    /// A generator with the frames of 512 flows, and a port that swallows.
    ///
    /// # Errors
    /// No packet memory.
    pub fn new() -> Result<Self> {
        let umem = Umem::new(UmemConfig {
            chunk_size: 2048,
            chunks: 4096,
            headroom: 64,
        })?;
        let flows = traffic::flows(Scenario {
            path: Path::L3Route,
            flows: 512,
        });
        let templates = flows.into_iter().map(traffic::Flow::into_sent).collect();
        Ok(Self {
            from: Port::Memory(MemoryPort::generator(templates)),
            to: Port::Memory(MemoryPort::generator(Vec::new())),
            batch: Vec::with_capacity(BATCH),
            pool: Pool::new(&umem),
            _umem: umem,
        })
    }

    /// Carries one batch of [`BATCH`] frames; returns how many that were.
    #[inline]
    pub fn turn(&mut self) -> usize {
        self.from.rx(&mut self.pool, &mut self.batch, BATCH);
        self.to.tx(&mut self.pool, &mut self.batch).packets
    }
}
