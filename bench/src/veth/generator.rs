//! The generator: one frame again and again through an AF_XDP socket.

use std::sync::Arc;

use anyhow::Result;
use shunt_afxdp::{Pool, Socket, SocketConfig, Umem, UmemConfig};
use shunt_tests::pod::Pod;

use super::Worker;
use crate::core;

/// Frames per transmit call; the kernel takes about 32 at a time in any case.
const BATCH: usize = 64;

/// Sends as fast as one core can until it is stopped.
///
/// The core also does the receive work of the veth's other end: the kernel runs the XDP program
/// where the frame was sent (`veth_xmit`, drivers/net/veth.c).
pub struct Generator(Worker<u64>);

impl Generator {
    /// Starts sending `frame` out of the pod's `eth0` from `core`.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn start(pod: &Arc<Pod>, core: usize, frame: Vec<u8>) -> Result<Self> {
        let pod = Arc::clone(pod);
        let worker = Worker::start(move |cue| {
            pod.netns.within(|| -> Result<u64> {
                core::pin(core)?;
                let umem = Umem::new(UmemConfig {
                    chunk_size: 2048,
                    chunks: 4096,
                    headroom: 0,
                })?;
                let mut pool = Pool::new(&umem);
                let config = SocketConfig {
                    rx_frames: 1,
                    ..SocketConfig::default()
                };
                let mut socket = Socket::open(&umem, "eth0", config, &mut pool)?;
                let mut frames = Vec::with_capacity(BATCH);
                let mut sent = 0;
                cue.ready();
                while cue.go_on() {
                    while frames.len() < BATCH
                        && let Some(frame) = pool.alloc_copy(&frame)
                    {
                        frames.push(frame);
                    }
                    sent += socket.tx(&mut pool, &mut frames).packets as u64;
                }
                for frame in frames {
                    pool.free(frame);
                }
                let _ = socket.close(&mut pool);
                Ok(sent)
            })?
        })?;
        Ok(Self(worker))
    }

    /// Stops; returns the number of frames sent.
    ///
    /// # Errors
    /// The thread failed.
    pub fn stop(self) -> Result<u64> {
        self.0.finish()
    }
}
