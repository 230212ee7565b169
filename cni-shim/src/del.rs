//! DEL: the attachment goes first, then its addresses are given back. What is missing is no error,
//! and a daemon that is away finds the detachment in its queue.

use crate::conf::Conf;
use crate::daemon::{Daemon, Patience};
use crate::env::Environment;
use crate::error::CniError;
use crate::ipam::Ipam;

/// Carries it out.
///
/// # Errors
/// When the detachment is neither done nor queued: then the addresses are kept, for a later DEL.
/// The IPAM plugin's own.
pub(crate) fn run(
    conf: &Conf,
    environment: &Environment,
    patience: &Patience,
) -> Result<(), CniError> {
    Daemon::of(conf, patience).detach(&environment.key(conf))?;
    match Ipam::of(conf, environment, patience.ipam) {
        Some(ipam) => ipam.del(),
        None => Ok(()),
    }
}
