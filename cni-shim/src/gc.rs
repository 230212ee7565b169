//! GC: what belongs to no valid attachment goes, as by DEL. It goes on past errors and tells them
//! at the end.

use std::collections::HashSet;

use shunt_api::PodInfo;

use crate::conf::Conf;
use crate::daemon::{Daemon, Patience};
use crate::env::Environment;
use crate::error::CniError;
use crate::ipam::Ipam;

/// Carries it out.
///
/// # Errors
/// The first error's code, with the details of all.
pub(crate) fn run(
    conf: &Conf,
    environment: &Environment,
    patience: &Patience,
) -> Result<(), CniError> {
    let valid = conf.valid_attachments()?;
    let valid: HashSet<(&str, &str)> = valid
        .iter()
        .map(|it| (it.container_id.as_str(), it.ifname.as_str()))
        .collect();
    let mut errors = Vec::new();
    // Whether ports that are to go may stand.
    let mut standing = false;
    let mut daemon = Daemon::of(conf, patience);
    let pods = daemon.pods(&conf.network).unwrap_or_else(|error| {
        errors.push(CniError::daemon(&error));
        standing = true;
        Vec::new()
    });
    for pod in pods {
        let key = &pod.key;
        if valid.contains(&(key.container_id.as_str(), key.ifname.as_str())) {
            continue;
        }
        match daemon.detach(key) {
            Ok(()) => errors.extend(give_back(conf, environment, patience, &pod).err()),
            Err(error) => {
                errors.push(error);
                standing = true;
            }
        }
    }
    // Last, and not at all while such a port may stand: its address must not go to another.
    if let Some(ipam) = Ipam::of(conf, environment, patience.ipam).filter(|_| !standing) {
        errors.extend(ipam.gc().err());
    }
    let details = errors
        .iter()
        .map(|error| format!("{}: {}", error.msg, error.details));
    let details = details.collect::<Vec<_>>().join("; ");
    match errors.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(CniError { details, ..first }),
    }
}

fn give_back(
    conf: &Conf,
    environment: &Environment,
    patience: &Patience,
    pod: &PodInfo,
) -> Result<(), CniError> {
    let environment = Environment {
        container_id: pod.key.container_id.clone(),
        ifname: pod.key.ifname.clone(),
        netns: pod.netns.to_string_lossy().into_owned(),
        ..environment.clone()
    };
    match Ipam::of(conf, &environment, patience.ipam) {
        Some(ipam) => ipam.del(),
        None => Ok(()),
    }
}
