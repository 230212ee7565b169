//! STATUS: whether pods can be attached.

use shunt_api::ClientError;

use crate::conf::Conf;
use crate::daemon::{Daemon, Patience};
use crate::env::Environment;
use crate::error::{CniError, code};
use crate::ipam::Ipam;

/// Carries it out.
///
/// # Errors
/// Code 50, or 51 when attached pods suffer as well.
pub(crate) fn run(
    conf: &Conf,
    environment: &Environment,
    patience: &Patience,
) -> Result<(), CniError> {
    let readiness = Daemon::of(conf, patience).readiness(None);
    let readiness = readiness.map_err(|error| match error {
        ClientError::Refused(refusal) => CniError::new(
            code::NOT_AVAILABLE,
            "the shunt daemon refuses",
            refusal.message,
        ),
        error => CniError::no_daemon(code::LIMITED, &error),
    })?;
    let problems = readiness.problems.join("; ");
    if !readiness.connected {
        let msg = "pods do not reach all that they should";
        return Err(CniError::new(code::LIMITED, msg, problems));
    }
    if !readiness.can_attach {
        let msg = "no pod can be attached now";
        return Err(CniError::new(code::NOT_AVAILABLE, msg, problems));
    }
    // For STATUS the runtime need not tell where plugins are.
    let ipam = Ipam::of(conf, environment, patience.ipam_status);
    let Some(ipam) = ipam.filter(|_| !environment.path.is_empty()) else {
        return Ok(());
    };
    ipam.status().map_err(|error| match error.code {
        code::NOT_AVAILABLE | code::LIMITED => error,
        _ => CniError {
            code: code::NOT_AVAILABLE,
            ..error
        },
    })
}
