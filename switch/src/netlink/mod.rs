//! The kernel's links, addresses, routes and neighbours over rtnetlink (rtnetlink(7)), blocking.
//!
//! [`Netlink`] asks, [`Monitor`] listens. To mirror the kernel, open the monitor first and dump
//! afterwards: what changes in between arrives as events.
//!
//! Requests are built with `netlink-packet-route`. Answers are read attribute by attribute
//! (`messages.rs`): only what is needed is decoded, so that a link or a neighbour is not lost
//! because some other attribute of it is newer than the decoder.

mod configure;
mod elsewhere;
mod links;
mod messages;
mod monitor;
mod neighbours;
mod routes;

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

pub use configure::{
    DetailedRoute, LinkChange, Peer, RTPROT_SHUNT, Route, Rule, TABLE_MAIN, VethEnd,
};
pub use elsewhere::{LinkDetails, OtherEnd};
pub use links::Link;
use messages::Message;
pub use monitor::{Event, Monitor};
pub use neighbours::{Neighbour, NeighbourState};
pub use routes::RouteAnswer;

/// How long the kernel may take for a datagram of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Room for a datagram: the kernel fills at most 32 KiB in a dump (`netlink_dump`,
/// net/netlink/af_netlink.c), or one message, and a message about a link with many virtual
/// functions is the largest.
const DATAGRAM_MAX: usize = 256 * 1024;

/// How often a dump that the kernel marks as inconsistent is tried.
const DUMP_TRIES: usize = 8;

/// An exchange with the kernel failed. `operation` names the request and its object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket: {0}; does a seccomp profile forbid AF_NETLINK?")]
    Open(#[source] io::Error),
    /// Sending or receiving failed.
    #[error("{operation}: the netlink socket failed: {source}")]
    Socket {
        /// The request.
        operation: String,
        /// The socket's error.
        source: io::Error,
    },
    /// The kernel did not answer in time.
    #[error("{operation}: no answer from the kernel within {} s; try again", ANSWER_TIMEOUT.as_secs())]
    Timeout {
        /// The request.
        operation: String,
    },
    /// The kernel said no.
    #[error("{operation}: the kernel refused: {source}{explanation}")]
    Refused {
        /// The request.
        operation: String,
        /// The error number.
        source: io::Error,
        /// Empty, or the kernel's own words or the remedy in parentheses.
        explanation: String,
    },
    /// The answer makes no sense.
    #[error("{operation}: the kernel's answer cannot be read: {what}")]
    Malformed {
        /// The request.
        operation: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The table changed during each of several dumps.
    #[error("{operation}: the table kept changing while it was dumped; try again")]
    Changing {
        /// The request.
        operation: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, when it refused.
    pub fn refusal(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A socket for requests, in the network namespace of the thread that opened it.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = open_socket().map_err(NetlinkError::Open)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))
            .map_err(|error| NetlinkError::Open(error.into()))?;
        // Explanations of refusals, and no echo of the request in front of them: a help for
        // people, so older kernels may lack it.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; DATAGRAM_MAX],
        })
    }

    /// Sends `request` and calls `each` for every message of the answer up to its end.
    fn request(
        &mut self,
        operation: &str,
        request: RouteNetlinkMessage,
        flags: u16,
        each: impl FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        self.send(operation, request, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.receive(operation, each).map(drop)
    }

    /// Sends `request` as a dump and collects what `each` makes of its messages.
    fn dump<T>(
        &mut self,
        operation: &str,
        request: &RouteNetlinkMessage,
        mut each: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let mut found = Vec::new();
            self.send(operation, request.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            let consistent = self.receive(operation, |message| found.extend(each(message)))?;
            if consistent {
                return Ok(found);
            }
        }
        Err(NetlinkError::Changing {
            operation: operation.to_owned(),
        })
    }

    fn send(
        &mut self,
        operation: &str,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        match self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0) {
            Ok(_) => Ok(()),
            Err(source) => Err(NetlinkError::Socket {
                operation: operation.to_owned(),
                source,
            }),
        }
    }

    /// Receives the answer to the last request. False when the kernel marked it as inconsistent.
    fn receive(
        &mut self,
        operation: &str,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<bool, NetlinkError> {
        let malformed = |what| NetlinkError::Malformed {
            operation: operation.to_owned(),
            what,
        };
        let mut consistent = true;
        loop {
            let length = match receive_datagram(&self.socket, &mut self.buffer) {
                Ok(Some(length)) => length,
                Ok(None) => return Err(malformed("a datagram is too long")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(NetlinkError::Timeout {
                        operation: operation.to_owned(),
                    });
                }
                Err(source) => {
                    return Err(NetlinkError::Socket {
                        operation: operation.to_owned(),
                        source,
                    });
                }
            };
            for message in messages::messages(&self.buffer[..length]) {
                // What is left of the answer to a request that timed out.
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.outcome() {
                    None => each(&message),
                    Some(Err(what)) => return Err(malformed(what)),
                    Some(Ok(0)) => return Ok(consistent),
                    Some(Ok(code)) => {
                        return Err(NetlinkError::Refused {
                            operation: operation.to_owned(),
                            source: io::Error::from_raw_os_error(code.saturating_neg()),
                            explanation: explanation(&message, code.saturating_neg()),
                        });
                    }
                }
            }
        }
    }
}

fn explanation(refusal: &Message<'_>, errno: i32) -> String {
    match refusal.explanation() {
        Some(text) => format!(" ({text})"),
        None if errno == libc::EPERM => " (the process needs CAP_NET_ADMIN)".to_owned(),
        None => String::new(),
    }
}

fn open_socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// The length of the next datagram, now in `buffer`; 0 for one that another process sent, None
/// for one that does not fit.
fn receive_datagram(socket: &Socket, mut buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let room = buffer.len();
    let (length, sender) = socket.recv_from(&mut buffer, libc::MSG_TRUNC)?;
    if sender.port_number() != 0 {
        return Ok(Some(0));
    }
    Ok((length <= room).then_some(length))
}
