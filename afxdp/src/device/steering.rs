//! The XDP program of a device: which one, over which map, attached how.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{ModeChoice, XdpMode};
use crate::error::Error;
use crate::program::{Maps, ProgramKind};
use crate::shared::Place;
use crate::socket::Socket;
use crate::sys::{bpf, netdev};

/// An attached XDP program; detached when dropped.
pub(super) struct Attachment {
    link: OwnedFd,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Not left to closing: a process forked in between may hold the link for a moment. An error
        // says that the device, and with it the attachment, is gone.
        let _ = bpf::detach_link(self.link.as_fd());
    }
}

/// How frames find the sockets.
pub(super) enum Steering {
    /// By the program of all pods.
    Shared(Place),
    /// By a program of the device's own over an XSKMAP where a queue's number is its slot.
    Own { map: OwnedFd, program: OwnedFd },
}

impl Steering {
    pub(super) fn own(
        device: &str,
        kind: &ProgramKind,
        queues: u32,
        frags: bool,
    ) -> Result<Self, Error> {
        let map = bpf::create_xskmap(queues).map_err(|error| {
            let needs = "CAP_BPF and CAP_NET_ADMIN";
            Error::from_kernel("making an XSKMAP", device, needs, error)
        })?;
        let program = load(kind, &map, frags)?;
        Ok(Self::Own { map, program })
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        match self {
            Self::Shared(place) => place.program(),
            Self::Own { program, .. } => program.as_fd(),
        }
    }

    /// Replaces a program of the device's own.
    pub(super) fn replace(
        &mut self,
        attachment: &Attachment,
        device: &str,
        kind: &ProgramKind,
        frags: bool,
    ) -> Result<(), Error> {
        let Self::Own { map, program } = self else {
            return Err(Error::NotAnUplink {
                device: device.to_owned(),
            });
        };
        let new = load(kind, map, frags)?;
        bpf::update_link(attachment.link.as_fd(), new.as_fd()).map_err(|error| {
            let needs = "CAP_BPF and CAP_NET_ADMIN";
            Error::from_kernel("replacing the XDP program", device, needs, error)
        })?;
        *program = new;
        Ok(())
    }

    /// The sockets of all queues, from 0.
    pub(super) fn fill(&self, sockets: &[Socket]) -> io::Result<()> {
        match self {
            Self::Shared(place) => place.fill(sockets),
            Self::Own { map, .. } => sockets
                .iter()
                .try_for_each(|socket| bpf::set_xsk(map.as_fd(), socket.queue(), socket.fd())),
        }
    }

    /// Frames pass to the kernel from now on.
    pub(super) fn end(self, queues: usize) {
        match self {
            Self::Shared(place) => drop(place),
            Self::Own { map, .. } => {
                for queue in 0..queues {
                    // An error says that the kernel has cleared it itself, the device being gone.
                    let _ = bpf::clear(map.as_fd(), queue as u32);
                }
            }
        }
    }
}

fn load(kind: &ProgramKind, map: &OwnedFd, frags: bool) -> Result<OwnedFd, Error> {
    let maps = Maps {
        sockets: map.as_raw_fd(),
        places: None,
    };
    bpf::load_xdp(kind.name(), &kind.assemble(maps)?, frags)
}

/// An error when the device carries an XDP program in any mode.
pub(super) fn refuse_foreign(device: &str, ifindex: u32) -> Result<(), Error> {
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

pub(super) fn attach(
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
