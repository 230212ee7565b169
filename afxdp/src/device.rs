//! A network device: all its active queues, its XDP program and their life together.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::error::Error;
use crate::frame::Frame;
use crate::pool::Pool;
use crate::program::{Pinhole, ProgramKind};
use crate::socket::{Closed, Sent, Socket, SocketConfig, Statistics};
use crate::sys::{bpf, netdev};
use crate::umem::Umem;

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
            program,
            mode: ModeChoice::Auto,
        }
    }
}

/// An attached XDP program; detached when dropped.
struct Attachment {
    link: OwnedFd,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Not left to closing: a process forked in between may hold the link for a moment. An error
        // says that the device, and with it the attachment, is gone.
        let _ = bpf::detach_link(self.link.as_fd());
    }
}

/// A device whose frames come to this process.
///
/// Dropping it detaches the program and gives all chunks back to the depot, like [`Device::close`].
pub struct Device {
    // In the order of dropping: first no more frames come in, then the sockets go.
    attachment: Attachment,
    map: OwnedFd,
    sockets: Vec<Socket>,
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
    /// program attached last.
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
        refuse_foreign(&name, ifindex)?;
        let queues = netdev::rx_queues(&name).map_err(fail("reading the number of queues"))?;
        let multi_buffer = umem.with_anchor(|_, multi_buffer| Ok(multi_buffer))?;
        let map = bpf::create_xskmap(queues).map_err(|error| {
            Error::from_kernel(
                "making an XSKMAP",
                &name,
                "CAP_BPF and CAP_NET_ADMIN",
                error,
            )
        })?;
        let program = load(&config.program, &map, multi_buffer)?;
        let mut sockets = Vec::with_capacity(queues as usize);
        for queue in 0..queues {
            let socket_config = SocketConfig {
                queue,
                rx_size: config.rx_size,
                tx_size: config.tx_size,
                fill_size: config.fill_size,
                completion_size: config.completion_size,
                rx_frames: config.rx_frames,
            };
            sockets.push(Socket::open(umem, &name, socket_config, pool)?);
        }
        for socket in &sockets {
            bpf::set_xsk(map.as_fd(), socket.queue(), socket.fd())
                .map_err(fail("adding a socket to the XSKMAP"))?;
        }
        let (attachment, mode, fallback_reason) =
            attach(&name, ifindex, program.as_fd(), config.mode)?;
        Ok(Self {
            attachment,
            map,
            sockets,
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
        if !matches!(self.program, ProgramKind::Uplink(_)) {
            return Err(Error::NotAnUplink {
                device: self.name.clone(),
            });
        }
        let kind = ProgramKind::Uplink(pinhole);
        let program = load(&kind, &self.map, self.multi_buffer)?;
        bpf::update_link(self.attachment.link.as_fd(), program.as_fd()).map_err(|error| {
            let needs = "CAP_BPF and CAP_NET_ADMIN";
            Error::from_kernel("replacing the XDP program", &self.name, needs, error)
        })?;
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

    /// Detaches the program, so that frames pass to the kernel again, then closes the sockets and
    /// takes back every chunk.
    pub fn close(self, pool: &mut Pool) -> Closed {
        let Self {
            attachment,
            map,
            sockets,
            ..
        } = self;
        drop(attachment);
        for socket in &sockets {
            // An error says that the kernel has cleared the entry itself, the device being gone.
            let _ = bpf::clear_xsk(map.as_fd(), socket.queue());
        }
        let mut closed = Closed::default();
        for socket in sockets {
            closed.reclaimed += socket.close(pool).reclaimed;
        }
        closed
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

fn load(kind: &ProgramKind, map: &OwnedFd, frags: bool) -> Result<OwnedFd, Error> {
    bpf::load_xdp(kind.name(), &kind.assemble(map.as_raw_fd())?, frags)
}

/// An error when the device carries an XDP program in any mode.
fn refuse_foreign(device: &str, ifindex: u32) -> Result<(), Error> {
    let id = netdev::xdp_program(ifindex).map_err(|error| {
        Error::from_kernel("asking for the XDP program", device, "CAP_NET_ADMIN", error)
    })?;
    match id {
        None => Ok(()),
        Some(id) => {
            let name = bpf::program_name(id).unwrap_or_default();
            Err(Error::ForeignProgram {
                device: device.to_owned(),
                name,
                id,
            })
        }
    }
}

fn attach(
    device: &str,
    ifindex: u32,
    program: BorrowedFd<'_>,
    choice: ModeChoice,
) -> Result<(Attachment, XdpMode, Option<String>), Error> {
    let try_mode = |mode| {
        let flags = match mode {
            XdpMode::Native => bpf::DRV_MODE,
            XdpMode::Skb => bpf::SKB_MODE,
        };
        bpf::attach_xdp(program, ifindex, flags)
            .map(|link| Attachment { link })
            .map_err(|source| {
                // Somebody else's program may have come since the check.
                if let Err(foreign) = refuse_foreign(device, ifindex) {
                    return foreign;
                }
                match Error::from_kernel(
                    "attaching an XDP program",
                    device,
                    "CAP_NET_ADMIN and CAP_BPF",
                    source,
                ) {
                    Error::Kernel { source, .. } => Error::Attach {
                        device: device.to_owned(),
                        mode,
                        source,
                    },
                    other => other,
                }
            })
    };
    match choice {
        ModeChoice::Skb => Ok((try_mode(XdpMode::Skb)?, XdpMode::Skb, None)),
        ModeChoice::Native => Ok((try_mode(XdpMode::Native)?, XdpMode::Native, None)),
        ModeChoice::Auto => match try_mode(XdpMode::Native) {
            Ok(attachment) => Ok((attachment, XdpMode::Native, None)),
            Err(Error::Attach { source, .. }) => {
                let attachment = try_mode(XdpMode::Skb)?;
                Ok((
                    attachment,
                    XdpMode::Skb,
                    Some(format!("the driver refused: {source}")),
                ))
            }
            Err(error) => Err(error),
        },
    }
}
