//! Asking a running daemon and showing its answer.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use shunt_api::{Client, ClientError, Reply, Request};

use super::render;

/// Why a question got no answer, or none that could be shown.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The daemon refused, or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl AskError {
    /// The program's exit code: 1 when the daemon refused or the answer cannot be written, 3 when
    /// no answer came from a daemon.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(ClientError::Refused(_)) | Self::Output(_) => 1,
            Self::Client(_) => 3,
        }
    }
}

/// Asks the daemon at `socket` and writes its answer: a table, or the reply's payload as JSON.
///
/// # Errors
/// As [`Client::call`], and when `out` cannot be written.
pub fn ask(
    request: &Request,
    socket: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), AskError> {
    let mut client = Client::connect(socket)?;
    let reply = client.call(request)?;
    if json {
        writeln!(out, "{}", payload(&reply)?)?;
        return Ok(());
    }
    let text = match &reply {
        Reply::Done => return Ok(()),
        Reply::Attached(attachment) => render::attachment(attachment),
        Reply::Ports(ports) => render::ports(ports),
        Reply::Routes(routes) => render::routes(routes),
        Reply::Route(found) => render::route(found),
        Reply::Fdb(entries) => render::fdb(entries),
        Reply::Neighbours(entries) => render::neighbours(entries),
        Reply::Flows(flows) => render::flows(flows),
        Reply::Stats(report) => {
            let meanings: HashMap<_, _> = client.status()?.drop_reasons.into_iter().collect();
            render::stats(report, &meanings)
        }
        Reply::Status(report) => render::status(report),
        Reply::Pods(pods) => render::pods(pods),
        Reply::Pod(_) | Reply::Readiness(_) => payload(&reply)?,
        Reply::Error(error) => return Err(ClientError::Refused(error.clone()).into()),
    };
    writeln!(out, "{text}")?;
    Ok(())
}

/// What the reply carries, without its envelope; `null` for [`Reply::Done`].
fn payload(reply: &Reply) -> io::Result<String> {
    let mut envelope = serde_json::to_value(reply)?;
    let payload = envelope
        .get_mut("of")
        .map(serde_json::Value::take)
        .unwrap_or_default();
    Ok(serde_json::to_string_pretty(&payload)?)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread::{self, JoinHandle};

    use shunt_api::StatusReport;
    use shunt_api::{ApiError, Attachment, ErrorCode, MacAddr, PortSpec, StatsReport};

    use super::*;

    /// A daemon that gives these answers to the first connection, and then the requests it got.
    struct Fake {
        socket: PathBuf,
        thread: JoinHandle<Vec<Request>>,
    }

    impl Fake {
        fn start(replies: Vec<Reply>) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("shunt-ask-{}-{number}.sock", std::process::id());
            let socket = std::env::temp_dir().join(name);
            let listener = UnixListener::bind(&socket).unwrap();
            let thread = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut requests = Vec::new();
                for reply in replies {
                    let line = lines.next().unwrap().unwrap();
                    requests.push(serde_json::from_str(&line).unwrap());
                    writeln!(stream, "{}", serde_json::to_string(&reply).unwrap()).unwrap();
                }
                requests
            });
            Self { socket, thread }
        }

        fn ask(
            self,
            request: &Request,
            json: bool,
        ) -> (Result<(), AskError>, String, Vec<Request>) {
            let mut out = Vec::new();
            let result = ask(request, &self.socket, json, &mut out);
            let requests = self.thread.join().unwrap();
            std::fs::remove_file(&self.socket).unwrap();
            (result, String::from_utf8(out).unwrap(), requests)
        }
    }

    #[test]
    fn done_prints_nothing() {
        let request = Request::PortDel {
            name: "pod1".to_owned(),
        };
        let (result, text, requests) = Fake::start(vec![Reply::Done]).ask(&request, false);
        assert!(result.is_ok() && text.is_empty(), "{result:?} {text}");
        assert_eq!(requests, [request]);
    }

    #[test]
    fn json_is_the_payload() {
        let report = StatsReport {
            received: 7,
            transmitted: 7,
            ..StatsReport::default()
        };
        let fake = Fake::start(vec![Reply::Stats(report.clone())]);
        let (result, text, _) = fake.ask(&Request::Stats, true);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(serde_json::from_str::<StatsReport>(&text).unwrap(), report);

        let (_, text, _) = Fake::start(vec![Reply::Done]).ask(&Request::Stats, true);
        assert_eq!(text, "null\n");
        let (_, text, _) = Fake::start(vec![Reply::Ports(vec![])]).ask(&Request::PortList, true);
        assert_eq!(text, "[]\n");
    }

    #[test]
    fn attaching_prints_what_the_pod_is_told() {
        let attachment = Attachment {
            mtu: 1500,
            routes: vec![],
            gateways: vec!["fe80::1".parse().unwrap()],
            gateway_mac: MacAddr([0xee; 6]),
        };
        let request = Request::PortAdd(PortSpec::default());
        let reply = || vec![Reply::Attached(attachment.clone())];
        let (result, text, requests) = Fake::start(reply()).ask(&request, false);
        assert!(result.is_ok(), "{result:?}");
        assert!(text.contains("fe80::1") && text.contains("ee:ee"), "{text}");
        assert_eq!(requests, std::slice::from_ref(&request));
        let (result, text, _) = Fake::start(reply()).ask(&request, true);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(
            serde_json::from_str::<Attachment>(&text).unwrap(),
            attachment
        );

        let flows = vec![Reply::Flows(vec![])];
        let (_, text, requests) = Fake::start(flows).ask(&Request::FlowList, false);
        assert!(text.contains("no flows"), "{text}");
        assert_eq!(requests, [Request::FlowList]);
    }

    #[test]
    fn stats_ask_for_the_meanings_too() {
        let drops = [("no_route".to_owned(), 1)].into();
        let report = StatsReport {
            received: 1,
            drops,
            ..StatsReport::default()
        };
        let status = status("no_route", "no route leads there");
        let fake = Fake::start(vec![Reply::Stats(report), Reply::Status(status)]);
        let (result, text, requests) = fake.ask(&Request::Stats, false);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(requests, [Request::Stats, Request::Status]);
        assert!(
            text.contains("no route leads there") && text.contains("balanced"),
            "{text}"
        );
    }

    fn status(reason: &str, meaning: &str) -> StatusReport {
        StatusReport {
            version: String::new(),
            pid: 1,
            mode: String::new(),
            node: "192.168.50.1".parse().unwrap(),
            node6: None,
            pod_cidrs: vec![],
            gateway: "169.254.1.1".parse().unwrap(),
            gateway6: "fe80::1".parse().unwrap(),
            gateway_mac: MacAddr::default(),
            vtep_mac: MacAddr::default(),
            cores: vec![],
            uptime: 0,
            drop_reasons: vec![(reason.to_owned(), meaning.to_owned())],
        }
    }

    #[test]
    fn exit_codes_tell_refusal_from_absence() {
        let error = ApiError {
            code: ErrorCode::NotFound,
            message: "no such port".to_owned(),
        };
        let request = Request::PortDel {
            name: "pod9".to_owned(),
        };
        let (result, text, _) = Fake::start(vec![Reply::Error(error)]).ask(&request, false);
        let error = result.unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (1, "no such port")
        );
        assert!(text.is_empty());

        let absent = Path::new("/nonexistent/shunt.sock");
        let error = ask(&Request::Stats, absent, false, &mut Vec::new()).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 3);
        assert!(
            text.contains("/nonexistent/shunt.sock") && text.contains("shunt run"),
            "{text}"
        );

        let (result, _, _) = Fake::start(vec![]).ask(&Request::Stats, false);
        assert_eq!(result.unwrap_err().exit_code(), 3, "hung up");
    }
}
