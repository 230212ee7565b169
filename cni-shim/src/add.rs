//! ADD: an address from IPAM, the attachment by the daemon, the result; and all undone when one of
//! them fails.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shunt_api::{
    AttachmentKey, ClientError, ErrorCode, PodInfo, PodRoute, PodSpec, PortKind, Readiness, Release,
};

use crate::conf::Conf;
use crate::daemon::{Daemon, Patience};
use crate::env::Environment;
use crate::error::{CniError, code};
use crate::ipam::Ipam;
use crate::result::{Interface, Ip, Outcome, Route};
use crate::settings::Settings;

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: u32 = 0x6e73_6673;
/// `RT_TABLE_MAIN` of linux/rtnetlink.h.
const MAIN_TABLE: u32 = 254;

/// Carries it out, and returns the result for the runtime.
///
/// # Errors
/// Every code but those of STATUS and CHECK; then nothing is left of it.
pub(crate) fn run(
    conf: &Conf,
    environment: &Environment,
    patience: &Patience,
) -> Result<Value, CniError> {
    let settings = Settings::read(conf, environment)?;
    let before = conf.prev_result()?.unwrap_or_default();
    let Some(ipam) = Ipam::of(conf, environment, patience.ipam) else {
        return Err(CniError::config(
            "ipam.type is missing: name the IPAM plugin, such as host-local",
        ));
    };
    check_before(&before, environment)?;
    check_netns(Path::new(&environment.netns))?;
    let key = environment.key(conf);
    let mut daemon = Daemon::of(conf, patience);
    check_readiness(&mut daemon, &key)?;

    let addresses = ipam.add();
    let attached = addresses.and_then(|addresses| {
        let routes = routes(&addresses, &settings);
        let pod = pod_spec(conf, environment, &settings, &addresses, routes);
        let info = attach(&mut daemon, pod)?;
        Ok((addresses, info))
    });
    let made = attached.and_then(|(addresses, info)| {
        let outcome = outcome(before, addresses, &info, &settings, environment);
        outcome.in_version(conf.version).map_err(|error| {
            let undone = daemon.detach(&key);
            let what = undone.map_or_else(|error| format!("; {error}"), |()| String::new());
            CniError::new(code::INTERNAL, "no result", format!("{error}{what}"))
        })
    });
    made.inspect_err(|error| give_back(&mut daemon, &key, &ipam, error))
}

/// Undoes an ADD that went well, should its result not reach the runtime.
pub(crate) fn undo(conf: &Conf, environment: &Environment, patience: &Patience) {
    if let Err(error) = crate::del::run(conf, environment, patience) {
        eprintln!("the attachment is not undone: {error}");
    }
}

/// Gives the addresses back, unless they are those of another attachment of the same key, which
/// came first.
fn give_back(daemon: &mut Daemon<'_>, key: &AttachmentKey, ipam: &Ipam<'_>, error: &CniError) {
    if error.code == code::EXISTS && stands(&daemon.readiness(Some(key.clone()))) {
        return;
    }
    if let Err(error) = ipam.del() {
        eprintln!("the addresses are not given back: {error}");
    }
}

fn stands(readiness: &Result<Readiness, ClientError>) -> bool {
    matches!(readiness, Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::Exists)
}

/// The result before us must be of this container, and without an interface of this name.
fn check_before(before: &Outcome, environment: &Environment) -> Result<(), CniError> {
    let Environment { netns, ifname, .. } = environment;
    for interface in &before.interfaces {
        let Interface { name, sandbox, .. } = interface;
        if sandbox == netns && name == ifname {
            return Err(CniError::new(
                code::EXISTS,
                "the interface exists",
                format!(
                    "a plugin before this one has made {ifname} in {netns}: remove one of them"
                ),
            ));
        }
        if !sandbox.is_empty() && sandbox != netns {
            return Err(CniError::config(format!(
                "prevResult is of another container: its interface {name} is in {sandbox}, and \
                 CNI_NETNS is {netns}"
            )));
        }
    }
    Ok(())
}

/// Whether it can be a network namespace; the daemon, which enters it, sees whether it is one.
fn check_netns(netns: &Path) -> Result<(), CniError> {
    let bad = |what: String| CniError::environment("CNI_NETNS", what);
    let shown = netns.display();
    match rustix::fs::statfs(netns) {
        Ok(system) if u32::try_from(system.f_type) == Ok(NSFS_MAGIC) => Ok(()),
        Ok(_) => Err(bad(format!("is {shown}, which is no network namespace"))),
        Err(error) => Err(bad(format!(
            "is {shown}, which cannot be looked at: {}",
            io::Error::from(error)
        ))),
    }
}

fn check_readiness(daemon: &mut Daemon<'_>, key: &AttachmentKey) -> Result<(), CniError> {
    let readiness = daemon.readiness(Some(key.clone()));
    let readiness = readiness.map_err(|error| CniError::daemon(&error))?;
    match readiness.can_attach {
        true => Ok(()),
        false => Err(CniError::new(
            code::TRY_AGAIN,
            "no pod can be attached now",
            readiness.problems.join("; "),
        )),
    }
}

/// Attaches. When there is no clear answer, it is detached again.
fn attach(daemon: &mut Daemon<'_>, pod: PodSpec) -> Result<PodInfo, CniError> {
    let key = pod.key.clone();
    let error = match daemon.attach(pod) {
        Ok(info) => return Ok(info),
        Err(error) => error,
    };
    let mut told = CniError::daemon(&error);
    if !matches!(error, ClientError::Refused(_))
        && let Err(left) = daemon.detach(&key)
    {
        told.details = format!("{}; {}", told.details, left.details);
    }
    Err(told)
}

/// The routes of IPAM's. The default ones are the daemon's own where it sets them; it also chooses
/// the gateway where none is named.
fn routes(addresses: &Outcome, settings: &Settings) -> Vec<PodRoute> {
    let mut routes: Vec<PodRoute> = addresses.routes.iter().map(PodRoute::from).collect();
    routes.retain(|route| {
        let main = route.table.is_none_or(|table| table == MAIN_TABLE);
        !(settings.default_route && main && route.dst.prefix_len() == 0)
    });
    routes
}

fn pod_spec(
    conf: &Conf,
    environment: &Environment,
    settings: &Settings,
    addresses: &Outcome,
    routes: Vec<PodRoute>,
) -> PodSpec {
    let mut given: Vec<_> = addresses.ips.iter().map(|ip| ip.address).collect();
    // Of dual stack, IPv4 is the primary address.
    given.sort_by_key(|address| address.addr().is_ipv6());
    PodSpec {
        key: environment.key(conf),
        netns: PathBuf::from(&environment.netns),
        kind: settings.kind,
        addresses: given,
        routes,
        default_route: settings.default_route,
        mac: settings.mac,
        mtu: settings.mtu,
        allowed_addresses: settings.allowed_addresses.clone(),
        allowed_macs: settings.allowed_macs.clone(),
        unguarded: settings.unguarded,
        ingress: settings.ingress,
        egress: settings.egress,
        pod: environment.pod(),
        release: release(conf, environment),
    }
}

/// How the daemon gives the addresses back when the container is gone without a DEL.
fn release(conf: &Conf, environment: &Environment) -> Option<Release> {
    let program = std::env::current_exe().and_then(fs::canonicalize);
    let program = program.inspect_err(|error| eprintln!("the path of this program: {error}"));
    Some(Release {
        program: program.ok()?,
        path: environment.path.clone(),
        args: environment.args.clone(),
        config: conf.without_prev_result(),
    })
}

/// What there was before, and what was made.
fn outcome(
    before: Outcome,
    addresses: Outcome,
    info: &PodInfo,
    settings: &Settings,
    environment: &Environment,
) -> Outcome {
    let mut outcome = before;
    if info.kind == PortKind::Afxdp {
        outcome.interfaces.push(Interface {
            name: info.port.clone(),
            mac: info.host_mac.map(|mac| mac.to_string()).unwrap_or_default(),
            ..Interface::default()
        });
    }
    let place = i64::try_from(outcome.interfaces.len()).ok();
    outcome.interfaces.push(Interface {
        name: environment.ifname.clone(),
        mac: info.mac.to_string(),
        mtu: Some(info.mtu),
        sandbox: environment.netns.clone(),
        ..Interface::default()
    });
    let gateway = |address: IpAddr| {
        let mut gateways = info.gateways.iter();
        gateways.find(|gateway| gateway.is_ipv4() == address.is_ipv4())
    };
    let mut ips: Vec<Ip> = info
        .addresses
        .iter()
        .map(|address| Ip {
            version: None,
            address: *address,
            gateway: gateway(address.addr()).copied(),
            interface: place,
        })
        .collect();
    ips.sort_by_key(|ip| ip.address.addr().is_ipv6());
    outcome.ips.extend(ips);
    outcome.routes.extend(info.routes.iter().map(Route::from));
    outcome.dns.overlay(&addresses.dns);
    outcome.dns.overlay(&settings.dns);
    outcome
}
