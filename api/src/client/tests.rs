//! Against a fake daemon: a thread that owns one connection.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use super::*;
use crate::{ErrorCode, PortKind, PortSpec, RouteSpec, RouteTarget};

const SHORT: Duration = Duration::from_millis(100);

/// A socket that serves one connection and then vanishes.
struct Fake {
    socket: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// `serve` gets the connection.
    fn start(serve: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("shunt-client-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = thread::spawn(move || serve(listener.accept().unwrap().0));
        Self {
            socket,
            thread: Some(thread),
        }
    }

    /// Answers each request line with the next of these texts, sent as they are.
    fn saying(answers: &[&str]) -> Self {
        let answers: Vec<String> = answers.iter().map(|text| (*text).to_owned()).collect();
        Self::start(move |mut stream| {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                let line = lines.next().unwrap().unwrap();
                serde_json::from_str::<Request>(&line).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        })
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    /// Every error but a refusal names the socket and what to do.
    #[track_caller]
    fn assert_told(&self, error: &ClientError, remedy: &str) {
        let text = error.to_string();
        assert!(text.contains(&self.socket.display().to_string()), "{text}");
        assert!(text.contains(remedy), "{text}");
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // A test that failed shows its own reason: neither of these adds to it.
        let _ = std::fs::remove_file(&self.socket);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            thread::panicking() || !matches!(ended, Some(Err(_))),
            "the fake daemon failed"
        );
    }
}

#[test]
fn answers_come_in_the_order_of_requests() {
    let fake = Fake::saying(&["{\"is\":\"done\"}\n", "{\"is\":\"ports\",\"of\":[]}\n"]);
    let mut client = fake.client();
    client.port_del("pod1").unwrap();
    assert_eq!(client.port_list().unwrap(), []);
}

#[test]
fn every_call_unpacks_its_own_reply() {
    let route = r#"{"prefix":"10.0.0.0/8","to":null,"origin":"api","port":null,"encap":"local",
                    "neighbour":null,"mtu":null,"state":"reachable"}"#;
    let route = route.replace('\n', " ");
    let one = format!(
        "{{\"is\":\"route\",\"of\":{{\"prefix\":\"10.0.0.1/32\",\"route\":{route},\
         \"covering\":[],\"covered\":null}}}}\n"
    );
    let many = format!("{{\"is\":\"routes\",\"of\":[{route}]}}\n");
    let stats = serde_json::to_string(&Reply::Stats(Default::default())).unwrap() + "\n";
    let status = r#"{"is":"status","of":{"version":"1","pid":1,"mode":"l3","node":"10.0.0.1",
        "pod_cidrs":[],"gateway":"169.254.1.1","gateway6":"fe80::1","gateway_mac":"ee:ee:ee:ee:ee:ee",
        "vtep_mac":"02:53:00:00:00:00","cores":[0],"uptime":9,"drop_reasons":[["a","b"]]}}"#;
    let status = status.replace('\n', " ") + "\n";
    let done = "{\"is\":\"done\"}\n";
    let attached = "{\"is\":\"attached\",\"of\":{\"mtu\":1500,\"routes\":[],\
                    \"gateways\":[\"fe80::1\"],\"gateway_mac\":\"ee:ee:ee:ee:ee:ee\"}}\n";
    let fake = Fake::saying(&[
        attached,
        done,
        done,
        &many,
        &one,
        "{\"is\":\"fdb\",\"of\":[{\"mac\":\"02:00:00:00:00:01\",\"port\":\"a\",\"age\":3}]}\n",
        "{\"is\":\"neighbours\",\"of\":[]}\n",
        "{\"is\":\"flows\",\"of\":[]}\n",
        &stats,
        &status,
    ]);
    let mut client = fake.client();
    let port = PortSpec {
        name: "a".to_owned(),
        kind: PortKind::Tap,
        device: "tap0".to_owned(),
        ..PortSpec::default()
    };
    let attachment = client.port_add(port).unwrap();
    assert_eq!(attachment.mtu, 1500);
    assert_eq!(attachment.gateways, ["fe80::1".parse::<IpAddr>().unwrap()]);
    let prefix = "10.0.0.0/8".parse().unwrap();
    client
        .route_add(RouteSpec {
            prefix,
            to: RouteTarget::Blackhole,
        })
        .unwrap();
    client.route_del(prefix).unwrap();
    assert_eq!(client.route_list().unwrap().len(), 1);
    let found = client
        .route_get("10.0.0.1/32".parse().unwrap(), None)
        .unwrap();
    assert_eq!(found.route.map(|route| route.prefix), Some(prefix));
    assert_eq!(client.fdb_list().unwrap()[0].age, Some(3));
    assert!(client.neigh_list().unwrap().is_empty());
    assert!(client.flow_list().unwrap().is_empty());
    assert_eq!(client.stats().unwrap().received, 0);
    assert_eq!(client.status().unwrap().uptime, 9);
}

#[test]
fn a_refusal_is_an_error_and_the_connection_lives() {
    let refusal = ApiError {
        code: ErrorCode::NotFound,
        message: "no port `a`".to_owned(),
    };
    let line = serde_json::to_string(&Reply::Error(refusal.clone())).unwrap() + "\n";
    let fake = Fake::saying(&[&line, "{\"is\":\"done\"}\n"]);
    let mut client = fake.client();
    let error = client.port_del("a").unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused(it) if *it == refusal),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "no port `a`");
    client.port_del("b").unwrap();
}

#[test]
fn garbage_is_told_and_spends_the_connection() {
    for answer in [
        "hello\n",
        "\n",
        "{\"is\":\"fine\"}\n",
        "{\"is\":\"ports\"}\n",
        "{\"is\":\"done\"} {\"is\":\"done\"}\n",
        "\0\n",
        // Good, but the answer to another question.
        "{\"is\":\"ports\",\"of\":[]}\n",
    ] {
        let fake = Fake::saying(&[answer]);
        let mut client = fake.client();
        let error = client.port_del("a").unwrap_err();
        assert!(
            matches!(error, ClientError::Garbled { .. }),
            "{answer}: {error:?}"
        );
        fake.assert_told(&error, "version");
        let error = client.port_del("a").unwrap_err();
        assert!(
            matches!(error, ClientError::Closed { .. }),
            "{answer}: {error:?}"
        );
    }
}

#[test]
fn an_attachment_is_not_merely_done() {
    let fake = Fake::saying(&["{\"is\":\"done\"}\n"]);
    let error = fake.client().port_add(PortSpec::default()).unwrap_err();
    assert!(matches!(error, ClientError::Garbled { .. }), "{error:?}");
    fake.assert_told(&error, "`done` answers another question");
    let fake = Fake::saying(&["{\"is\":\"flows\",\"of\":[]}\n"]);
    let error = fake.client().status().unwrap_err();
    fake.assert_told(&error, "`flows` answers another question");
}

#[test]
fn bytes_that_are_not_utf8_are_garbage() {
    let fake = Fake::start(|mut stream| {
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut String::new())
            .unwrap();
        stream.write_all(b"{\"is\":\"\xff\"}\n").unwrap();
    });
    let error = fake.client().stats().unwrap_err();
    assert!(matches!(error, ClientError::Garbled { .. }), "{error:?}");
}

#[test]
fn a_daemon_that_hangs_up_is_told() {
    for answer in ["", "{\"is\":\"do"] {
        let fake = Fake::saying(&[answer]);
        let error = fake.client().stats().unwrap_err();
        assert!(
            matches!(error, ClientError::Closed { .. }),
            "{answer}: {error:?}"
        );
        fake.assert_told(&error, "see its log");
    }
    // Before it has read the request.
    let fake = Fake::start(drop);
    let error = fake.client().stats().unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error:?}");
}

#[test]
fn a_silent_daemon_is_given_up_in_time() {
    let fake = Fake::start(|mut stream| {
        let mut everything = Vec::new();
        stream.read_to_end(&mut everything).unwrap();
        assert_eq!(everything, b"{\"do\":\"stats\"}\n");
    });
    let mut client = fake.client();
    client.set_timeout(SHORT);
    let start = Instant::now();
    let error = client.stats().unwrap_err();
    assert!(start.elapsed() >= SHORT && start.elapsed() < DEFAULT_TIMEOUT);
    assert!(
        matches!(error, ClientError::Timeout { timeout: SHORT, .. }),
        "{error:?}"
    );
    fake.assert_told(&error, "shunt status");
    // The late answer must not be taken for the next one's.
    let error = client.stats().unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error:?}");
}

#[test]
fn the_deadline_is_for_the_whole_answer() {
    let fake = Fake::start(|mut stream| {
        // A byte now and then, so that no single read waits long.
        while stream.write_all(b" ").is_ok() {
            thread::sleep(SHORT / 10);
        }
    });
    let mut client = fake.client();
    client.set_timeout(SHORT);
    let error = client.stats().unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
}

#[test]
fn a_daemon_that_does_not_read_is_given_up_in_time() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let fake = Fake::start(move |_stream| {
        wait.recv().unwrap_err();
    });
    let mut client = fake.client();
    client.set_timeout(SHORT);
    // More than the socket's buffers hold.
    let error = client.port_del(&"a".repeat(8 << 20)).unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
    drop(done);
}

#[test]
fn long_lines_are_taken_up_to_the_limit() {
    let entry = "{\"address\":\"10.0.0.1\",\"mac\":null,\"port\":\"a\",\"state\":\"learned\"}";
    let count = 40_000;
    let list = vec![entry; count].join(",");
    let line = format!("{{\"is\":\"neighbours\",\"of\":[{list}]}}\n");
    let fake = Fake::saying(&[&line]);
    assert_eq!(fake.client().neigh_list().unwrap().len(), count);

    let fake = Fake::start(|mut stream| {
        let chunk = vec![b' '; 1 << 20];
        while stream.write_all(&chunk).is_ok() {}
    });
    let error = fake.client().stats().unwrap_err();
    assert!(matches!(error, ClientError::TooLong { .. }), "{error:?}");
    fake.assert_told(&error, "16777216 bytes");

    let fake = Fake::start(drop);
    let error = fake.client().port_del(&"a".repeat(MAX_LINE)).unwrap_err();
    assert!(matches!(error, ClientError::TooLong { .. }), "{error:?}");
}

#[test]
fn an_absent_daemon_is_told_with_the_remedy() {
    let socket = Path::new("/nonexistent/shunt.sock");
    let error = Client::connect(socket).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/nonexistent/shunt.sock") && text.contains("shunt run"),
        "{text}"
    );

    // A socket that a dead daemon left behind.
    let fake = Fake::start(drop);
    drop(Client::connect(&fake.socket).unwrap());
    let left = fake.socket.with_extension("left");
    drop(UnixListener::bind(&left).unwrap());
    let error = Client::connect(&left).unwrap_err();
    std::fs::remove_file(&left).unwrap();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
}
