//! The yardstick: an AF_XDP loop that hands what one device receives to the other and looks at
//! nothing.

use std::sync::Arc;

use anyhow::Result;
use shunt_afxdp::{Device, DeviceConfig, Frame, Pool, ProgramKind, Umem, UmemConfig};
use shunt_tests::node::Node;

use super::Worker;
use crate::core;

/// Frames per batch: the daemon's default.
const BATCH: usize = 64;

/// A receive-and-transmit loop between two devices, both ways, until it is stopped.
pub struct Bare(Worker<u64>);

impl Bare {
    /// Starts it in the node's namespace on `core`, with the rings that the daemon has by default.
    ///
    /// # Errors
    /// A device cannot be opened.
    pub fn start(node: &Arc<Node>, core: usize, devices: [String; 2]) -> Result<Self> {
        let node = Arc::clone(node);
        let worker = Worker::start(move |cue| {
            node.netns.within(|| -> Result<u64> {
                core::pin(core)?;
                let umem = Umem::new(UmemConfig {
                    chunk_size: 2048,
                    chunks: 8192,
                    headroom: 64,
                })?;
                let mut pool = Pool::new(&umem);
                let [a, b] = devices.map(|name| open(&umem, name, &mut pool));
                let (mut a, mut b) = (a?, b?);
                let mut there = Vec::with_capacity(BATCH);
                let mut back = Vec::with_capacity(BATCH);
                let mut carried = 0;
                cue.ready();
                while cue.go_on() {
                    carried += carry(&mut pool, &mut a, &mut b, &mut there);
                    carried += carry(&mut pool, &mut b, &mut a, &mut back);
                }
                for frame in there.into_iter().chain(back) {
                    pool.free(frame);
                }
                let _ = (a.close(&mut pool), b.close(&mut pool));
                Ok(carried)
            })?
        })?;
        Ok(Self(worker))
    }

    /// Stops; returns the number of frames carried.
    ///
    /// # Errors
    /// The thread failed.
    pub fn stop(self) -> Result<u64> {
        self.0.finish()
    }
}

fn open(umem: &Arc<Umem>, name: String, pool: &mut Pool) -> Result<Device> {
    let config = DeviceConfig {
        rx_frames: 512,
        ..DeviceConfig::new(name, ProgramKind::Pod)
    };
    Ok(Device::open(umem, config, pool)?)
}

/// What the transmit ring has no room for waits in `batch`, so nothing more is received.
fn carry(pool: &mut Pool, from: &mut Device, to: &mut Device, batch: &mut Vec<Frame>) -> u64 {
    let room = BATCH - batch.len();
    from.rx(pool, batch, room);
    if batch.is_empty() {
        to.complete(pool);
        return 0;
    }
    to.tx(pool, batch).packets as u64
}
