//! The API's Unix socket: lines of JSON in, lines of JSON out, never blocking the control thread.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use shunt_api::{Client, ErrorCode, Reply, Request};

use super::error::{RunError, refuse};

/// The longest request.
const MAX_LINE: usize = 1 << 20;
/// Answers that a client has not read before the daemon hangs up on it.
const MAX_UNREAD: usize = 64 << 20;
/// Connections at a time.
const MAX_CLIENTS: usize = 512;
/// Bytes read from one client before others have their turn.
const READ_AT_ONCE: usize = 64 << 10;

/// Who is owed an answer. It stays this connection's, also when that is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker(Token);

#[cfg(test)]
impl Asker {
    pub(crate) fn test() -> Self {
        Self(Token(0))
    }
}

struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Its last request is answered later; until then nothing more is read from it.
    waiting: bool,
}

/// The listening socket and its connections.
pub(crate) struct Server {
    path: PathBuf,
    listener: UnixListener,
    token: Token,
    next: usize,
    clients: HashMap<Token, Connection>,
}

impl Server {
    /// Listens on `path`, only for this user. Tokens from `token` on are this server's.
    ///
    /// A socket file on which nobody answers is a dead daemon's and is replaced.
    pub(crate) fn bind(path: &Path, registry: &Registry, token: Token) -> Result<Self, RunError> {
        let name = path.display().to_string();
        let failed = |source| RunError::Socket {
            path: name.clone(),
            source,
        };
        if let Ok(mut client) = Client::connect(path) {
            let pid = client.status().map_or(0, |status| status.pid);
            return Err(RunError::Running { path: name, pid });
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(found) if found.file_type().is_socket() => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            // Whatever it is, it is not ours to delete.
            Ok(_) => return Err(failed(ErrorKind::AlreadyExists.into())),
        }
        let mut listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        registry
            .register(&mut listener, token, Interest::READABLE)
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            token,
            next: token.0 + 1,
            clients: HashMap::new(),
        })
    }

    /// Deals with readiness of `token`; every complete request is answered by `answer`, or later
    /// by [`reply`](Self::reply) when that returns `None`.
    pub(crate) fn ready(
        &mut self,
        token: Token,
        registry: &Registry,
        answer: impl FnMut(Asker, Request) -> Option<Reply>,
    ) {
        if token == self.token {
            self.accept(registry);
            return;
        }
        self.serve(token, registry, answer);
    }

    /// Gives an answer that was put off; nothing happens when the asker is gone. Further requests
    /// of the same connection are answered by `answer`.
    pub(crate) fn reply(
        &mut self,
        Asker(token): Asker,
        reply: &Reply,
        registry: &Registry,
        answer: impl FnMut(Asker, Request) -> Option<Reply>,
    ) {
        let Some(connection) = self.clients.get_mut(&token) else {
            return;
        };
        connection.waiting = false;
        if connection.push(reply).is_err() {
            self.close(token, registry);
            return;
        }
        self.serve(token, registry, answer);
    }

    fn serve(
        &mut self,
        token: Token,
        registry: &Registry,
        mut answer: impl FnMut(Asker, Request) -> Option<Reply>,
    ) {
        let Some(connection) = self.clients.get_mut(&token) else {
            return;
        };
        let asked = |request| answer(Asker(token), request);
        let open = connection.serve(asked).unwrap_or(false);
        if open && connection.waiting && connection.output.is_empty() {
            // Registering anew would report again what is not read.
            return;
        }
        let interest = if connection.output.is_empty() {
            Interest::READABLE
        } else if connection.waiting {
            Interest::WRITABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        if !open
            || registry
                .reregister(&mut connection.stream, token, interest)
                .is_err()
        {
            self.close(token, registry);
        }
    }

    fn accept(&mut self, registry: &Registry) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::warn!("control socket: {error}");
                    return;
                }
            };
            if self.clients.len() >= MAX_CLIENTS {
                log::warn!("control socket: more than {MAX_CLIENTS} clients, one is turned away");
                continue;
            }
            let token = Token(self.next);
            self.next += 1;
            if registry
                .register(&mut stream, token, Interest::READABLE)
                .is_ok()
            {
                self.clients.insert(
                    token,
                    Connection {
                        stream,
                        input: Vec::new(),
                        output: Vec::new(),
                        waiting: false,
                    },
                );
            }
        }
    }

    fn close(&mut self, token: Token, registry: &Registry) {
        if let Some(mut connection) = self.clients.remove(&token)
            && let Err(error) = registry.deregister(&mut connection.stream)
        {
            log::debug!("control socket: {error}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

impl Connection {
    /// Reads, answers, writes; false when the connection is over.
    fn serve(&mut self, mut answer: impl FnMut(Request) -> Option<Reply>) -> io::Result<bool> {
        if self.waiting {
            self.write()?;
            return Ok(true);
        }
        let mut open = self.read()?;
        while !self.waiting
            && let Some(end) = self.input.iter().position(|byte| *byte == b'\n')
        {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let reply = match serde_json::from_slice(&line) {
                Ok(request) => answer(request),
                Err(error) => Some(Reply::Error(refuse(
                    ErrorCode::Invalid,
                    format!("the request is not understood: {error}"),
                ))),
            };
            match reply {
                Some(reply) => self.push(&reply)?,
                None => self.waiting = true,
            }
        }
        let too_long = self.input.len() > MAX_LINE && !self.waiting;
        if too_long || self.output.len() > MAX_UNREAD {
            return Ok(false);
        }
        self.write()?;
        // Whoever has said all that it will say may wait for its answer.
        open |= self.waiting;
        Ok(open)
    }

    fn push(&mut self, reply: &Reply) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, reply)?;
        self.output.push(b'\n');
        Ok(())
    }

    /// Reads what is there, or a fair share of it; false at the end.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < READ_AT_ONCE {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    taken += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.output.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
