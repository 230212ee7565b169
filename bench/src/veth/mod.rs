//! Two pods' veths on one node: pod A floods, pod B counts, and the device under test carries the
//! frames from one host end to the other.
//!
//! ```text
//! pod A: generator, core 0 -> eth0 | v-a1 -> device under test, core 1 -> v-a2 | eth0 -> pod B
//! ```
//!
//! The receiver is pod B's kernel: frames are counted when they reach a UDP socket that nobody
//! reads, which means that Ethernet, IP and UDP headers were all in order. That work is done on the
//! core of the device under test, whichever that is, inside its transmit call.

mod bare;
mod generator;
mod receiver;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use shunt_api::MacAddr;
use shunt_tests::frames::{ethernet_ipv4, udp};
use shunt_tests::netns::Netns;
use shunt_tests::node::{Node, pod_cidr, underlay_address};
use shunt_tests::pod::{L3_GATEWAY, Mode, Pod};

pub use bare::Bare;
pub use generator::Generator;
pub use receiver::Sink;

/// Bytes of a generated frame, without the frame check sequence: the shortest there is.
pub const FRAME_LEN: usize = 60;

/// The UDP port of pod B.
const PORT: u16 = 9;
const MTU: u32 = 1500;

/// The set-up; its namespaces go with it.
pub struct Rig {
    /// The node, whose namespace holds both host ends.
    pub node: Arc<Node>,
    /// Pod A.
    pub sender: Arc<Pod>,
    /// Pod B.
    pub receiver: Arc<Pod>,
}

impl Rig {
    /// Makes the namespaces and veths.
    ///
    /// # Errors
    /// The kernel refuses: it takes root.
    pub fn new() -> Result<Self> {
        let node = Node {
            netns: Netns::new("node")?,
            index: 1,
            address: underlay_address(1),
            pod_cidr: pod_cidr(1)?,
        };
        let sender = node.pod(Netns::new("a")?, 1, Mode::L3, MTU)?;
        let receiver = node.pod(Netns::new("b")?, 2, Mode::L3, MTU)?;
        // Raw frames only: no kernel asks pod B for an address, and pod B answers nobody.
        let (gateway, peer) = (L3_GATEWAY, sender.mac()?);
        receiver.netns.ip(&format!(
            "neigh replace {gateway} lladdr {peer} nud permanent dev eth0"
        ))?;
        Ok(Self {
            node: Arc::new(node),
            sender: Arc::new(sender),
            receiver: Arc::new(receiver),
        })
    }

    /// A UDP frame from pod A to pod B, sent to `destination` on the link.
    ///
    /// # Errors
    /// The pods have no `eth0`.
    pub fn frame(&self, destination: MacAddr) -> Result<Vec<u8>> {
        let from: (Ipv4Addr, u16) = (self.sender.address, 1000);
        let packet = udp(
            from,
            (self.receiver.address, PORT),
            64,
            &[0; FRAME_LEN - 42],
        );
        Ok(ethernet_ipv4(self.sender.mac()?, destination, &packet))
    }
}

/// A thread in a network namespace that works until its handle goes.
struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<T>>>,
}

/// What the thread sees: says once that it is ready, and asks whether to go on.
struct Cue {
    stop: Arc<AtomicBool>,
    ready: SyncSender<()>,
}

impl Cue {
    fn ready(&self) {
        // Nobody waits any more when the starter has failed meanwhile.
        let _ = self.ready.try_send(());
    }

    fn go_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl<T: Send + 'static> Worker<T> {
    /// Starts `body` on a thread and waits until it says that it is ready.
    fn start(body: impl FnOnce(&Cue) -> Result<T> + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready): (_, Receiver<()>) = sync_channel(1);
        let cue = Cue {
            stop: Arc::clone(&stop),
            ready,
        };
        let thread = std::thread::spawn(move || body(&cue));
        let worker = Self {
            stop,
            thread: Some(thread),
        };
        match is_ready.recv() {
            Ok(()) => Ok(worker),
            Err(_) => {
                worker.finish()?;
                Err(anyhow!("a thread of the measurement ended before it began"))
            }
        }
    }

    /// Ends it; returns its result.
    fn finish(mut self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("finished twice")?;
        thread
            .join()
            .map_err(|_| anyhow!("a thread of the measurement panicked"))?
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its result is of no use to whoever gave up.
            let _ = thread.join();
        }
    }
}
