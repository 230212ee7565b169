//! Refusals, and why the daemon cannot start.

use shunt_api::{ApiError, ErrorCode};

use super::workers::WorkerError;
use crate::config::{ConfigError, PreflightError};

/// The daemon cannot start or has to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine or the process lacks something.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Another daemon answers on the socket.
    #[error(
        "another shunt daemon (pid {pid}) answers on {path}: stop it, or give this one another \
         `socket`"
    )]
    Running {
        /// The socket.
        path: String,
        /// The other's process id.
        pid: u32,
    },
    /// The socket cannot be made.
    #[error("control socket {path}: {source}: check `socket` in the configuration and its folder")]
    Socket {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Something at start was refused.
    #[error("{what}: {source}")]
    Refused {
        /// The port or route of the configuration.
        what: String,
        /// Why.
        source: ApiError,
    },
    /// The kernel refused something that everything needs.
    #[error("{what}: {why}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        why: String,
    },
}

pub(crate) fn refuse(code: ErrorCode, message: impl Into<String>) -> ApiError {
    ApiError {
        code,
        message: message.into(),
    }
}

pub(crate) fn system(error: impl std::fmt::Display) -> ApiError {
    refuse(ErrorCode::System, error.to_string())
}

impl From<WorkerError> for ApiError {
    fn from(error: WorkerError) -> Self {
        system(error)
    }
}
