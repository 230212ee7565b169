//! Connections.

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
                server.ready(event.token(), poll.registry(), |_, _| Some(Reply::Done));
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

/// A server that answers `Stats` by `Done` at once and puts off everything else.
struct Putting {
    poll: Poll,
    server: Server,
    events: Events,
    put_off: Vec<Asker>,
    folder: tempfile::TempDir,
}

impl Putting {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let poll = Poll::new().expect("epoll");
        let path = folder.path().join("shunt.sock");
        let server = Server::bind(&path, poll.registry(), TOKEN).expect("bound");
        Self {
            poll,
            server,
            events: Events::with_capacity(8),
            put_off: Vec::new(),
            folder,
        }
    }

    fn connect(&self) -> Plain {
        let stream = Plain::connect(self.folder.path().join("shunt.sock")).expect("connected");
        stream.set_nonblocking(true).expect("set");
        stream
    }

    /// Serves until nothing happens for 20 ms; how often it was woken.
    fn turn(&mut self) -> usize {
        let mut woken = 0;
        loop {
            let wait = Some(Duration::from_millis(20));
            self.poll.poll(&mut self.events, wait).expect("polled");
            if self.events.is_empty() || woken > 100 {
                return woken;
            }
            woken += 1;
            for event in &self.events {
                let answer = |asker, request| match request {
                    Request::Stats => Some(Reply::Done),
                    _ => {
                        self.put_off.push(asker);
                        None
                    }
                };
                self.server
                    .ready(event.token(), self.poll.registry(), answer);
            }
        }
    }

    fn reply(&mut self, asker: Asker, reply: &Reply) {
        let put_off = &mut self.put_off;
        let answer = |asker, request| match request {
            Request::Stats => Some(Reply::Done),
            _ => {
                put_off.push(asker);
                None
            }
        };
        self.server
            .reply(asker, reply, self.poll.registry(), answer);
    }
}

fn all(stream: &mut Plain) -> String {
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes) {
        Ok(count) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
        Err(error) if error.kind() == ErrorKind::WouldBlock => String::new(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_answer_that_is_put_off_holds_back_the_connections_next() {
    let mut putting = Putting::start();
    let (mut first, mut second) = (putting.connect(), putting.connect());
    first
        .write_all(b"{\"do\":\"status\"}\n{\"do\":\"stats\"}\n{\"do\":\"port-list\"}\n")
        .expect("written");
    putting.turn();
    assert_eq!(putting.put_off.len(), 1);
    assert_eq!(all(&mut first), "", "the second waits for the first");
    second.write_all(b"{\"do\":\"stats\"}\n").expect("written");
    putting.turn();
    assert_eq!(all(&mut second), "{\"is\":\"done\"}\n");
    let asker = putting.put_off[0];
    putting.reply(asker, &Reply::Pods(Vec::new()));
    assert_eq!(
        all(&mut first),
        "{\"is\":\"pods\",\"of\":[]}\n{\"is\":\"done\"}\n"
    );
    assert_eq!(putting.put_off, [asker, asker], "the third is put off too");
    putting.reply(asker, &Reply::Done);
    first.write_all(b"{\"do\":\"stats\"}\n").expect("written");
    putting.turn();
    assert_eq!(all(&mut first), "{\"is\":\"done\"}\n{\"is\":\"done\"}\n");
}

#[test]
fn one_that_vanishes_while_it_waits_is_no_error_and_wakes_nobody() {
    let mut putting = Putting::start();
    let (mut gone, mut half) = (putting.connect(), putting.connect());
    gone.write_all(b"{\"do\":\"status\"}\n").expect("written");
    half.write_all(b"{\"do\":\"status\"}\n").expect("written");
    putting.turn();
    drop(gone);
    half.shutdown(std::net::Shutdown::Write).expect("shut");
    assert!(putting.turn() < 10, "no busy loop");
    let askers = putting.put_off.clone();
    assert_eq!(askers.len(), 2);
    for asker in askers {
        putting.reply(asker, &Reply::Done);
        putting.reply(asker, &Reply::Done);
    }
    assert_eq!(all(&mut half), "{\"is\":\"done\"}\n");
    putting.turn();
    assert!(putting.server.clients.is_empty(), "both are closed");
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
