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
const MAX_CLIENTS: usize = 64;
/// Bytes read from one client before others have their turn.
const READ_AT_ONCE: usize = 64 << 10;

struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
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

    /// Deals with readiness of `token`; every complete request is answered by `answer`.
    pub(crate) fn ready(
        &mut self,
        token: Token,
        registry: &Registry,
        mut answer: impl FnMut(Request) -> Reply,
    ) {
        if token == self.token {
            self.accept(registry);
            return;
        }
        let Some(connection) = self.clients.get_mut(&token) else {
            return;
        };
        let open = connection.serve(&mut answer).unwrap_or(false);
        let interest = if connection.output.is_empty() {
            Interest::READABLE
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
    fn serve(&mut self, answer: &mut impl FnMut(Request) -> Reply) -> io::Result<bool> {
        let mut open = self.read()?;
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let reply = match serde_json::from_slice(&line) {
                Ok(request) => answer(request),
                Err(error) => Reply::Error(refuse(
                    ErrorCode::Invalid,
                    format!("the request is not understood: {error}"),
                )),
            };
            serde_json::to_writer(&mut self.output, &reply)?;
            self.output.push(b'\n');
        }
        if self.input.len() > MAX_LINE || self.output.len() > MAX_UNREAD {
            open = false;
        }
        self.write()?;
        Ok(open)
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
mod tests {
    use super::*;
    use std::io::BufRead as _;
    use std::os::unix::net::UnixStream as Plain;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use mio::{Events, Poll};

    const TOKEN: Token = Token(7);

    /// Runs `client` beside a server that answers every request with `Done`.
    fn with_server(client: impl FnOnce(&Path) + Send) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/shunt.sock");
        let mut poll = Poll::new().expect("epoll");
        let mut server = Server::bind(&path, poll.registry(), TOKEN).expect("bound");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                client(&path);
                done.store(true, Ordering::Relaxed);
            });
            let mut events = Events::with_capacity(8);
            while !client.is_finished() {
                poll.poll(&mut events, Some(Duration::from_millis(10)))
                    .expect("polled");
                for event in &events {
                    server.ready(event.token(), poll.registry(), |_| Reply::Done);
                }
            }
            assert!(client.join().is_ok() && done.load(Ordering::Relaxed));
        });
        drop(server);
        assert!(!path.exists(), "the socket file goes with the server");
    }

    fn line(stream: &Plain) -> String {
        let mut line = String::new();
        io::BufReader::new(stream)
            .read_line(&mut line)
            .expect("a line");
        line
    }

    #[test]
    fn answers_each_line_in_order_and_survives_nonsense() {
        with_server(|path| {
            let mut stream = Plain::connect(path).expect("connected");
            stream.write_all(b"{\"do\":\"por").expect("written");
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(b"t-list\"}\n").expect("written");
            assert_eq!(line(&stream), "{\"is\":\"done\"}\n");
            stream.write_all(b"{\"do\":\"fly\"}\n").expect("written");
            let refusal = line(&stream);
            assert!(
                refusal.contains("not understood") && refusal.contains("fly"),
                "{refusal}"
            );
            let mut other = Client::connect(path).expect("connected");
            assert_eq!(
                other.call(&Request::PortList).expect("answered"),
                Reply::Done
            );
        });
    }

    #[test]
    fn hangs_up_on_a_line_without_end() {
        with_server(|path| {
            let mut stream = Plain::connect(path).expect("connected");
            let chunk = [b'x'; 4096];
            // Writing fails once the server has closed, or reading finds the end.
            let written = (0..1024).all(|_| stream.write_all(&chunk).is_ok());
            assert!(!written || matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
        });
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_only_its_owner_may_use_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shunt.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let poll = Poll::new().expect("epoll");
        let server = Server::bind(&path, poll.registry(), TOKEN).expect("replaced");
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(server);
    }

    #[test]
    fn what_is_no_socket_is_named_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let blocked = folder.path().join("file/shunt.sock");
        std::fs::write(folder.path().join("file"), "precious").expect("written");
        let poll = Poll::new().expect("epoll");
        let error = Server::bind(&blocked, poll.registry(), TOKEN)
            .err()
            .expect("refused");
        assert!(error.to_string().contains("file/shunt.sock"), "{error}");
        assert_eq!(
            std::fs::read(folder.path().join("file")).expect("read"),
            b"precious"
        );
    }
}
