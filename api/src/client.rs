//! A blocking client.

mod calls;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{ApiError, Reply, Request};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/shunt/shunt.sock";

/// How long one call may take unless told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes in a line at most, the newline included.
const MAX_LINE: usize = 16 << 20;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// Why a call failed. Each error names the socket; only [`ClientError::Refused`] is the daemon's
/// own answer, all others mean that there was none.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not for us.
    #[error("cannot reach the daemon at {socket}: {source}; {remedy}", socket = socket.display(),
            remedy = connect_remedy(source))]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection failed.
    #[error("lost the daemon at {socket}: {source}; see its log, and try again",
            socket = socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No answer in time. The request may still be carried out.
    #[error("no answer from the daemon at {socket} within {timeout:?}; see its log, and ask \
             `shunt status` whether it lives", socket = socket.display())]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// How long it was waited.
        timeout: Duration,
    },
    /// The daemon hung up before it answered, or an earlier call on this connection failed.
    #[error("the daemon at {socket} closed the connection without an answer; see its log, and \
             connect again", socket = socket.display())]
    Closed {
        /// The socket.
        socket: PathBuf,
    },
    /// A line is longer than the protocol allows.
    #[error("a line to or from {socket} is longer than {MAX_LINE} bytes; ask for less, or check \
             that the shunt daemon listens there", socket = socket.display())]
    TooLong {
        /// The socket.
        socket: PathBuf,
    },
    /// The answer is not one of the protocol, or not one to this request.
    #[error("the answer from {socket} makes no sense: {reason}; check that the shunt daemon \
             listens there and has this program's version", socket = socket.display())]
    Garbled {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon refused; nothing was changed.
    #[error(transparent)]
    Refused(ApiError),
}

fn connect_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as root or as the daemon's user",
        _ => "start it with `shunt run --config FILE`, or name its socket with --socket",
    }
}

/// A connection to the daemon. Calls block, and fail after 10 seconds unless
/// [`Client::set_timeout`] says otherwise.
///
/// After an error other than [`ClientError::Refused`] the connection is spent: each later call
/// answers [`ClientError::Closed`], for an answer could belong to an earlier question.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    /// `None` once it is spent.
    stream: Option<UnixStream>,
    timeout: Duration,
    /// Received and not yet consumed.
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(socket: impl AsRef<Path>) -> Result<Self, ClientError> {
        let socket = socket.as_ref().to_owned();
        match UnixStream::connect(&socket) {
            Ok(stream) => {
                let (stream, timeout) = (Some(stream), DEFAULT_TIMEOUT);
                Ok(Self {
                    socket,
                    stream,
                    timeout,
                    buffer: Vec::new(),
                })
            }
            Err(source) => Err(ClientError::Connect { socket, source }),
        }
    }

    /// Sets how long one call may take from the request's first byte to the answer's last.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for [`Reply::Error`]; all else means that no answer came.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let mut line = serde_json::to_vec(request).map_err(|error| self.garbled(error))?;
        line.push(b'\n');
        if line.len() > MAX_LINE {
            return Err(ClientError::TooLong {
                socket: self.socket.clone(),
            });
        }
        let closed = || ClientError::Closed {
            socket: self.socket.clone(),
        };
        let mut stream = self.stream.take().ok_or_else(closed)?;
        let deadline = Instant::now() + self.timeout;
        self.send(&mut stream, &line, deadline)?;
        let answer = self.receive(&mut stream, deadline)?;
        let reply = serde_json::from_slice(&answer).map_err(|error| self.garbled(error))?;
        self.stream = Some(stream);
        match reply {
            Reply::Error(error) => Err(ClientError::Refused(error)),
            reply => Ok(reply),
        }
    }

    fn send(
        &self,
        stream: &mut UnixStream,
        mut line: &[u8],
        deadline: Instant,
    ) -> Result<(), ClientError> {
        while !line.is_empty() {
            let left = Some(self.left(deadline)?);
            stream
                .set_write_timeout(left)
                .map_err(|error| self.lost(error))?;
            match stream.write(line) {
                Ok(0) => {
                    return Err(ClientError::Closed {
                        socket: self.socket.clone(),
                    });
                }
                Ok(sent) => line = &line[sent..],
                Err(error) => self.bear(error)?,
            }
        }
        Ok(())
    }

    /// One line, without its newline.
    fn receive(
        &mut self,
        stream: &mut UnixStream,
        deadline: Instant,
    ) -> Result<Vec<u8>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let rest = self.buffer.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched >= MAX_LINE {
                return Err(ClientError::TooLong {
                    socket: self.socket.clone(),
                });
            }
            let left = Some(self.left(deadline)?);
            stream
                .set_read_timeout(left)
                .map_err(|error| self.lost(error))?;
            let mut chunk = [0; CHUNK];
            match stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(ClientError::Closed {
                        socket: self.socket.clone(),
                    });
                }
                Ok(received) => self.buffer.extend_from_slice(&chunk[..received]),
                Err(error) => self.bear(error)?,
            }
        }
    }

    /// Time left; never zero, which a socket would take for no limit.
    fn left(&self, deadline: Instant) -> Result<Duration, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ClientError::Timeout {
                socket: self.socket.clone(),
                timeout: self.timeout,
            });
        }
        Ok(left)
    }

    /// Swallows what is worth another attempt: the deadline is checked before each.
    fn bear(&self, error: io::Error) -> Result<(), ClientError> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, Interrupted, TimedOut, WouldBlock};
        match error.kind() {
            Interrupted | TimedOut | WouldBlock => Ok(()),
            BrokenPipe | ConnectionReset => Err(ClientError::Closed {
                socket: self.socket.clone(),
            }),
            _ => Err(self.lost(error)),
        }
    }

    fn lost(&self, source: io::Error) -> ClientError {
        ClientError::Io {
            socket: self.socket.clone(),
            source,
        }
    }

    fn garbled(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Garbled {
            socket: self.socket.clone(),
            reason: reason.to_string(),
        }
    }

    /// An answer to another question: the connection cannot be trusted any more.
    fn mismatch(&mut self, reply: &Reply) -> ClientError {
        self.stream = None;
        let kind = match reply {
            Reply::Done => "done",
            Reply::Attached(_) => "attached",
            Reply::Ports(_) => "ports",
            Reply::Routes(_) => "routes",
            Reply::Route(_) => "route",
            Reply::Fdb(_) => "fdb",
            Reply::Neighbours(_) => "neighbours",
            Reply::Flows(_) => "flows",
            Reply::Stats(_) => "stats",
            Reply::Status(_) => "status",
            Reply::Pod(_) => "pod",
            Reply::Pods(_) => "pods",
            Reply::Readiness(_) => "readiness",
            Reply::Error(_) => "error",
        };
        self.garbled(format_args!("`{kind}` answers another question"))
    }
}

#[cfg(test)]
mod tests;
