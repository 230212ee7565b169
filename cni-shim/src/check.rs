//! CHECK: the attachment against the result of its ADD.

use std::path::PathBuf;

use shunt_api::{ClientError, PodCheck, PodInfo, PodRoute};

use crate::conf::Conf;
use crate::daemon::{Daemon, Patience};
use crate::env::Environment;
use crate::error::{CniError, code};
use crate::ipam::Ipam;
use crate::result::{Outcome, Route};

/// Carries it out.
///
/// # Errors
/// Code 7 without a fitting `prevResult`, 11 without a daemon, 104 for what differs, and the IPAM
/// plugin's own.
pub(crate) fn run(
    conf: &Conf,
    environment: &Environment,
    patience: &Patience,
) -> Result<(), CniError> {
    let Some(before) = conf.prev_result()? else {
        return Err(CniError::config(
            "prevResult is missing: CHECK compares with the result of the ADD",
        ));
    };
    let place = place(&before, environment)?;
    let mut daemon = Daemon::of(conf, patience);
    let pods = daemon.pods(&conf.network);
    let pods = pods.map_err(|error| CniError::daemon(&error))?;
    let key = environment.key(conf);
    let Some(info) = pods.into_iter().find(|pod| pod.key == key) else {
        return Err(differs(format!("the daemon has no attachment {key}")));
    };
    let expected = expected(&before, place, &info, environment)?;
    daemon.check(expected).map_err(|error| match error {
        ClientError::Refused(refusal) => differs(refusal.message),
        error => CniError::daemon(&error),
    })?;
    match Ipam::of(conf, environment, patience.ipam) {
        Some(ipam) => ipam.check(),
        None => Ok(()),
    }
}

/// The place of our interface in the result.
fn place(before: &Outcome, environment: &Environment) -> Result<usize, CniError> {
    let Environment { netns, ifname, .. } = environment;
    let mut interfaces = before.interfaces.iter();
    let place = interfaces.position(|it| it.name == *ifname && it.sandbox == *netns);
    place.ok_or_else(|| {
        CniError::config(format!(
            "prevResult has no interface {ifname} in {netns}: it is another attachment's"
        ))
    })
}

/// What was made by us and is still in the result. Others may have changed the rest: a plugin
/// behind us may set another MTU or move routes and leave no trace of it in the result, so the MTU
/// is not compared, and of routes only those count that we have set.
fn expected(
    before: &Outcome,
    place: usize,
    info: &PodInfo,
    environment: &Environment,
) -> Result<PodCheck, CniError> {
    let of_ours = |index: Option<i64>| index.map(|index| usize::try_from(index) == Ok(place));
    let ips = before
        .ips
        .iter()
        .filter(|ip| of_ours(ip.interface).unwrap_or_else(|| info.addresses.contains(&ip.address)));
    let mac = before.interfaces.get(place).map(|it| it.mac.as_str());
    let mac = mac.filter(|mac| !mac.is_empty()).map(str::parse);
    let mac = mac
        .transpose()
        .map_err(|error| CniError::config(format!("prevResult: the interface's mac: {error}")))?;
    let listed = |ours: &&PodRoute| before.routes.iter().any(|route| same(route, ours));
    Ok(PodCheck {
        key: info.key.clone(),
        netns: PathBuf::from(&environment.netns),
        addresses: ips.map(|ip| ip.address).collect(),
        routes: info.routes.iter().filter(listed).cloned().collect(),
        mac,
        mtu: None,
    })
}

fn same(route: &Route, ours: &PodRoute) -> bool {
    route.dst == ours.dst && (route.gw.is_none() || route.gw == ours.gw)
}

fn differs(what: String) -> CniError {
    CniError::new(code::DIFFERS, "the attachment is not as it was made", what)
}
