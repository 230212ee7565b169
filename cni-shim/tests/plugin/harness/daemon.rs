//! A daemon that speaks the protocol and does nothing.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use ipnet::IpNet;
use shunt_api::{
    ApiError, ErrorCode, MacAddr, PodInfo, PodRoute, PodSpec, Readiness, Reply, Request,
    StatusReport,
};

/// What it answers to a kind of request.
#[derive(Clone)]
pub(crate) enum Say {
    Reply(Box<Reply>),
    Refuse(ErrorCode, &'static str),
    /// Nothing, with the connection open.
    Silence,
    /// Nothing, with the connection closed.
    HangUp,
    Garbage(&'static str),
}

#[derive(Default)]
struct State {
    says: HashMap<&'static str, Say>,
    pods: Vec<PodInfo>,
    asked: Vec<Request>,
}

pub(crate) struct FakeDaemon {
    state: Arc<Mutex<State>>,
}

impl FakeDaemon {
    /// Listens; each request's kind goes to the file `calls`.
    pub(crate) fn start(socket: &Path, calls: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket");
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, calls) = (Arc::clone(&state), calls.to_owned());
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, calls) = (Arc::clone(&shared), calls.clone());
                thread::spawn(move || serve(stream, &shared, &calls));
            }
        });
        Self { state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// From now on it answers this to requests of this kind.
    pub(crate) fn says(&self, kind: &'static str, say: Say) {
        self.state().says.insert(kind, say);
    }

    /// To all kinds.
    pub(crate) fn always_says(&self, say: &Say) {
        for kind in [
            "readiness",
            "pod-attach",
            "pod-detach",
            "pod-check",
            "pod-list",
            "status",
        ] {
            self.says(kind, say.clone());
        }
    }

    /// Whether it is ready.
    pub(crate) fn readiness(&self, can_attach: bool, connected: bool, problem: &str) {
        let readiness = Readiness {
            can_attach,
            connected,
            problems: vec![problem.to_owned()],
        };
        self.says(
            "readiness",
            Say::Reply(Box::new(Reply::Readiness(readiness))),
        );
    }

    /// The pods it has.
    pub(crate) fn has_pods(&self, pods: Vec<PodInfo>) {
        self.state().pods = pods;
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.state().asked.clone()
    }

    /// The one pod that it was to attach.
    #[track_caller]
    pub(crate) fn attached(&self) -> PodSpec {
        let mut specs = self
            .asked()
            .into_iter()
            .filter_map(|request| match request {
                Request::PodAttach(spec) => Some(*spec),
                _ => None,
            });
        let spec = specs.next().expect("it was to attach a pod");
        assert_eq!(specs.next(), None, "and only one");
        spec
    }
}

fn serve(stream: UnixStream, state: &Mutex<State>, calls: &PathBuf) {
    let mut writer = stream.try_clone().expect("a handle");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Request = serde_json::from_str(&line).expect("a request");
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(calls)
            .expect("a file");
        log.write_all(format!("daemon {}\n", text(&request)).as_bytes())
            .expect("written");
        let mut state = state.lock().expect("no panic");
        state.asked.push(request.clone());
        let say = state.says.get(kind(&request)).cloned();
        let say = say.unwrap_or_else(|| Say::Reply(Box::new(answer(&state, request))));
        drop(state);
        let line = match say {
            Say::Reply(reply) => serde_json::to_string(&reply).expect("JSON") + "\n",
            Say::Refuse(code, message) => {
                let message = message.to_owned();
                let error = Reply::Error(ApiError { code, message });
                serde_json::to_string(&error).expect("JSON") + "\n"
            }
            Say::Silence => continue,
            Say::HangUp => return,
            Say::Garbage(text) => text.to_owned() + "\n",
        };
        if writer.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

fn kind(request: &Request) -> &'static str {
    match request {
        Request::Readiness { .. } => "readiness",
        Request::PodAttach(_) => "pod-attach",
        Request::PodDetach { .. } => "pod-detach",
        Request::PodCheck(_) => "pod-check",
        Request::PodList { .. } => "pod-list",
        Request::Status => "status",
        other => panic!("the plugin has no use for {other:?}"),
    }
}

/// The kind and, where it matters, the container.
fn text(request: &Request) -> String {
    match request {
        Request::PodDetach { key } => format!("pod-detach {}", key.container_id),
        other => kind(other).to_owned(),
    }
}

fn answer(state: &State, request: Request) -> Reply {
    match request {
        Request::Readiness { .. } => Reply::Readiness(Readiness {
            can_attach: true,
            connected: true,
            problems: Vec::new(),
        }),
        Request::PodAttach(spec) => Reply::Pod(Box::new(pod(&spec))),
        Request::PodList { network } => {
            let of = |pod: &&PodInfo| network.as_ref().is_none_or(|it| *it == pod.key.network);
            Reply::Pods(state.pods.iter().filter(of).cloned().collect())
        }
        Request::Status => Reply::Status(status()),
        _ => Reply::Done,
    }
}

/// The pod as the real daemon would have attached it, in L3 mode.
pub(crate) fn pod(spec: &PodSpec) -> PodInfo {
    let full = |address: &IpNet| IpNet::from(address.addr());
    let gateways: Vec<IpAddr> = ["169.254.1.1", "fe80::1"]
        .map(|text| text.parse().expect("an address"))
        .into_iter()
        .filter(|gateway: &IpAddr| {
            let mut addresses = spec.addresses.iter();
            addresses.any(|address| address.addr().is_ipv4() == gateway.is_ipv4())
        })
        .collect();
    let mut routes = Vec::new();
    for gateway in &gateways {
        let default = if gateway.is_ipv4() {
            "0.0.0.0/0"
        } else {
            "::/0"
        };
        routes.push(PodRoute {
            mtu: Some(1450),
            ..PodRoute::new(default.parse().expect("a prefix"), Some(*gateway))
        });
    }
    // As the daemon does: without a gateway it is the daemon's to choose.
    routes.extend(spec.routes.iter().map(|route| PodRoute {
        gw: route.gw.or_else(|| match route.dst.addr() {
            IpAddr::V4(_) => "169.254.1.1".parse().ok(),
            IpAddr::V6(_) => "fe80::1".parse().ok(),
        }),
        ..route.clone()
    }));
    PodInfo {
        key: spec.key.clone(),
        netns: spec.netns.clone(),
        kind: spec.kind,
        port: spec.key.short_name(),
        host_mac: (spec.kind == shunt_api::PortKind::Afxdp).then_some(MacAddr([0xee; 6])),
        mac: spec.mac.unwrap_or(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: spec.mtu.unwrap_or(1500),
        addresses: spec.addresses.iter().map(full).collect(),
        gateways,
        routes,
        pod: spec.pod.clone(),
        state: "up".to_owned(),
    }
}

fn status() -> StatusReport {
    StatusReport {
        version: "0".to_owned(),
        pid: 1,
        mode: "l3".to_owned(),
        node: IpAddr::from([192, 0, 2, 1]),
        node6: None,
        pod_cidrs: Vec::new(),
        gateway: IpAddr::from([169, 254, 1, 1]),
        gateway6: "fe80::1".parse().expect("an address"),
        gateway_mac: MacAddr([0xee; 6]),
        vtep_mac: MacAddr([2, 0x53, 0, 0, 0, 0]),
        cores: Vec::new(),
        uptime: 1,
        drop_reasons: Vec::new(),
    }
}
