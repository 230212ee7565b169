//! A port without a kernel: for tests, which exchange bytes with it, and for benches, in which
//! it produces the same frames for ever and swallows what it is given.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use shunt_afxdp::{Frame, Pool};

use super::Sent;

/// The far end of a [`MemoryPort`]: what a test puts in and takes out.
#[derive(Clone, Default)]
pub struct MemoryWire(Arc<Mutex<Queues>>);

#[derive(Default)]
struct Queues {
    to_switch: VecDeque<Vec<u8>>,
    from_switch: VecDeque<Vec<u8>>,
}

impl MemoryWire {
    fn queues(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame to the switch.
    pub fn send(&self, frame: &[u8]) {
        self.queues().to_switch.push_back(frame.to_vec());
    }

    /// The next frame that the switch sent here.
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.queues().from_switch.pop_front()
    }
}

/// An in-process port.
pub struct MemoryPort(Kind);

enum Kind {
    Wire(MemoryWire),
    Generator {
        templates: Vec<Vec<u8>>,
        next: usize,
    },
}

impl MemoryPort {
    /// A port and its far end.
    pub fn wire() -> (Self, MemoryWire) {
        let wire = MemoryWire::default();
        (Self(Kind::Wire(wire.clone())), wire)
    }

    /// A port that receives `templates` in turn, as many as are asked for, and swallows what is
    /// sent. Without templates it only swallows.
    pub fn generator(templates: Vec<Vec<u8>>) -> Self {
        Self(Kind::Generator { templates, next: 0 })
    }

    pub(super) fn rx(&mut self, pool: &mut Pool, out: &mut Vec<Frame>, max: usize) -> usize {
        let before = out.len();
        match &mut self.0 {
            Kind::Wire(wire) => {
                let mut queues = wire.queues();
                while out.len() - before < max {
                    let Some(bytes) = queues.to_switch.front() else {
                        break;
                    };
                    let Some(frame) = pool.alloc_copy(bytes) else {
                        break;
                    };
                    out.push(frame);
                    queues.to_switch.pop_front();
                }
            }
            Kind::Generator { templates, next } => {
                if templates.is_empty() {
                    return 0;
                }
                for _ in 0..max {
                    let Some(frame) = pool.alloc_copy(&templates[*next]) else {
                        break;
                    };
                    out.push(frame);
                    *next += 1;
                    if *next == templates.len() {
                        *next = 0;
                    }
                }
            }
        }
        out.len() - before
    }

    pub(super) fn tx(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>) -> Sent {
        let mut sent = Sent {
            packets: frames.len(),
            ..Sent::default()
        };
        for frame in frames.drain(..) {
            sent.bytes += frame.len();
            if let Kind::Wire(wire) = &self.0 {
                let mut bytes = vec![0; frame.len()];
                frame.copy_into(pool.umem(), &mut bytes);
                wire.queues().from_switch.push_back(bytes);
            }
            pool.free(frame);
        }
        sent
    }
}
