//! A network device: all its active queues, its XDP program and their life together.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::frame::Frame;
use crate::pool::Pool;
use crate::program::{Pinhole, ProgramKind};
use crate::socket::{Closed, Sent, Socket, SocketConfig, Statistics};
use crate::sys::netdev;
use crate::umem::Umem;

mod steering;

use steering::{Attachment, Steering, attach, refuse_foreign};

/// How long opening waits for a device of the same index that is being closed.
const RETIRED_WAIT: Duration = Duration::from_secs(1);

/// Where the XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel allocates an skb.
    Native,
    /// In the generic receive path; works for every driver and is slower.
    Skb,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Skb => "SKB",
        })
    }
}

/// Which mode to attach in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModeChoice {
    /// Native, or SKB when the driver refuses; see [`Device::fallback_reason`].
    #[default]
    Auto,
    /// Native or an error.
    Native,
    /// SKB or an error.
    Skb,
}

/// Shape of a device. Ring sizes in entries, powers of two, per queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Name of the device in the network namespace of the calling thread.
    pub name: String,
    /// Receive ring.
    pub rx_size: u32,
    /// Transmit ring.
    pub tx_size: u32,
    /// Fill ring, at least `rx_frames`.
    pub fill_size: u32,
    /// Completion ring.
    pub completion_size: u32,
    /// Chunks the kernel is to hold for receiving, per queue.
    pub rx_frames: u32,
    /// Whether it holds more for queues that are busy, see [`SocketConfig::adaptive`].
    pub adaptive: bool,
    /// The XDP program.
    pub program: ProgramKind,
    /// Where it is to run.
    pub mode: ModeChoice,
}

impl DeviceConfig {
    /// A configuration with rings of 1024 entries, 1024 receive frames and automatic mode.
    pub fn new(name: impl Into<String>, program: ProgramKind) -> Self {
        Self {
            name: name.into(),
            rx_size: 1024,
            tx_size: 1024,
            fill_size: 1024,
            completion_size: 1024,
            rx_frames: 1024,
            adaptive: false,
            program,
            mode: ModeChoice::Auto,
        }
    }
}

/// A device whose frames come to this process.
///
/// Dropping it detaches the program and gives all chunks back to the depot, like [`Device::close`].
pub struct Device {
    // In the order of dropping: first no more frames come in, then the sockets go.
    attachment: Attachment,
    /// `None` once it is retired.
    steering: Option<Steering>,
    sockets: Vec<Socket>,
    umem: Arc<Umem>,
    name: String,
    ifindex: u32,
    mode: XdpMode,
    fallback_reason: Option<String>,
    program: ProgramKind,
    multi_buffer: bool,
    next_rx: usize,
}

impl Device {
    /// Opens a device: a socket on each active receive queue, fill rings filled from `pool`, the
    /// program attached last. Waits up to a second for a retired device of the same index, and up to
    /// half a one for each queue of a device that was just closed.
    ///
    /// # Errors
    /// See [`Error`]; all is undone. A program already on the device is never replaced.
    pub fn open(umem: &Arc<Umem>, config: DeviceConfig, pool: &mut Pool) -> Result<Self, Error> {
        let name = config.name;
        let fail = |operation| {
            let name = &name;
            move |error: io::Error| Error::from_kernel(operation, name, "CAP_NET_ADMIN", error)
        };
        let ifindex = netdev::ifindex(&name).map_err(fail("looking up the device"))?;
        // Its program would seem to be somebody else's. When it takes longer, what follows says why.
        umem.wait_retired_device(ifindex, RETIRED_WAIT);
        refuse_foreign(&name, ifindex)?;
        let queues = netdev::rx_queues(&name).map_err(fail("reading the number of queues"))?;
        let multi_buffer = umem.with_anchor(|_, multi_buffer| Ok(multi_buffer))?;
        let steering = if config.program == ProgramKind::Pod {
            Steering::Shared(umem.banks().place(&name, ifindex, queues, multi_buffer)?)
        } else {
            Steering::own(&name, &config.program, queues, multi_buffer)?
        };
        let mut sockets = Vec::with_capacity(queues as usize);
        for queue in 0..queues {
            let socket_config = SocketConfig {
                queue,
                rx_size: config.rx_size,
                tx_size: config.tx_size,
                fill_size: config.fill_size,
                completion_size: config.completion_size,
                rx_frames: config.rx_frames,
                adaptive: config.adaptive,
            };
            sockets.push(Socket::open(umem, &name, socket_config, pool)?);
        }
        steering
            .fill(&sockets)
            .map_err(fail("adding a socket to the XSKMAP"))?;
        let (attachment, mode, fallback_reason) =
            attach(&name, ifindex, steering.program(), config.mode)?;
        Ok(Self {
            attachment,
            steering: Some(steering),
            sockets,
            umem: Arc::clone(umem),
            name,
            ifindex,
            mode,
            fallback_reason,
            program: config.program,
            multi_buffer,
            next_rx: 0,
        })
    }

    /// The device's name when it was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's index.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Where the program runs.
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// Why native mode was not possible, when [`ModeChoice::Auto`] fell back to SKB mode.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// Number of queues with a socket.
    pub fn queues(&self) -> usize {
        self.sockets.len()
    }

    /// Frames of several segments (an MTU beyond a chunk or a page) are received and transmitted:
    /// the kernel has multi-buffer AF_XDP (Linux 6.6).
    pub fn multi_buffer(&self) -> bool {
        self.multi_buffer
    }

    /// Receives up to `max` frames into `out`, never beyond its capacity, from all queues in turn,
    /// and refills the fill rings. Returns the number of frames.
    pub fn rx(&mut self, pool: &mut Pool, out: &mut Vec<Frame>, max: usize) -> usize {
        let queues = self.sockets.len();
        let mut received = 0;
        for turn in 0..queues {
            let index = (self.next_rx + turn) % queues;
            if let Some(socket) = self.sockets.get_mut(index) {
                received += socket.rx(pool, out, max - received);
            }
        }
        // A busy queue does not starve the others.
        self.next_rx = (self.next_rx + 1) % queues.max(1);
        received
    }

    /// Transmits on queue 0, which keeps all flows in order; see [`Socket::tx`].
    pub fn tx(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>) -> Sent {
        self.tx_on(0, pool, frames)
    }

    /// Transmits on a queue (modulo their number); see [`Socket::tx`]. Frames of one flow belong on
    /// one queue.
    pub fn tx_on(&mut self, queue: usize, pool: &mut Pool, frames: &mut Vec<Frame>) -> Sent {
        let queues = self.sockets.len().max(1);
        self.sockets
            .get_mut(queue % queues)
            .map_or(Sent::default(), |socket| socket.tx(pool, frames))
    }

    /// Takes chunks of transmitted frames back into the pool, from all queues; returns their number.
    pub fn complete(&mut self, pool: &mut Pool) -> usize {
        self.sockets
            .iter_mut()
            .map(|socket| socket.complete(pool))
            .sum()
    }

    /// Frames wait for another [`Device::kick`]; see [`Socket::needs_kick`].
    pub fn needs_kick(&mut self) -> bool {
        self.sockets.iter_mut().any(Socket::needs_kick)
    }

    /// Wakes the kernel to go on transmitting, see [`Socket::kick`]. True when nothing is left to do.
    pub fn kick(&mut self) -> bool {
        let mut done = true;
        for socket in &mut self.sockets {
            done &= socket.kick();
        }
        done
    }

    /// Replaces the pinhole atomically: every packet sees the old one or the new one.
    ///
    /// # Errors
    /// [`Error::NotAnUplink`], [`Error::Config`] for too many prefixes, or the kernel's refusal;
    /// the old one then stays.
    pub fn set_pinhole(&mut self, pinhole: Pinhole) -> Result<(), Error> {
        let kind = ProgramKind::Uplink(pinhole);
        let (name, frags) = (&self.name, self.multi_buffer);
        match &mut self.steering {
            Some(steering) => steering.replace(&self.attachment, name, &kind, frags)?,
            None => return Ok(()),
        }
        self.program = kind;
        Ok(())
    }

    /// Counters summed over the queues.
    ///
    /// # Errors
    /// The kernel's answer to `XDP_STATISTICS`.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut sum = Statistics::default();
        for socket in &self.sockets {
            sum += socket.statistics()?;
        }
        Ok(sum)
    }

    /// Asks the kernel whether the device is still there, for one that does not send. One system
    /// call per queue.
    pub fn probe(&mut self) -> bool {
        for socket in &mut self.sockets {
            socket.probe();
        }
        !self.is_dead()
    }

    /// True when a socket of the device is dead, see [`Socket::is_dead`].
    pub fn is_dead(&self) -> bool {
        self.sockets.iter().any(Socket::is_dead)
    }

    /// Chunks that the kernel holds for it.
    pub(crate) fn held(&self) -> usize {
        self.sockets.iter().map(Socket::held).sum()
    }

    pub(crate) fn umem(&self) -> &Arc<Umem> {
        &self.umem
    }

    /// Detaches the program, so that frames pass to the kernel again, then closes the sockets and
    /// takes back every chunk.
    pub fn close(self, pool: &mut Pool) -> Closed {
        let Self {
            attachment,
            steering,
            sockets,
            ..
        } = self;
        drop(attachment);
        if let Some(steering) = steering {
            steering.end(sockets.len());
        }
        let mut closed = Closed::default();
        for socket in sockets {
            closed.reclaimed += socket.close(pool).reclaimed;
        }
        closed
    }

    /// Lets frames pass to the kernel again and leaves the rest of [`Device::close`] to another
    /// thread, as the kernel takes some 20 ms over it. The chunks come back to the depot when the
    /// kernel cannot write to them any more; until then [`Umem::retiring`] counts them.
    pub fn retire(mut self) {
        if let Some(steering) = self.steering.take() {
            steering.end(self.sockets.len());
        }
        let umem = Arc::clone(&self.umem);
        umem.retire(self);
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .field("program", &self.program)
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}
