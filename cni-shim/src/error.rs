//! Errors, as a runtime gets them (CNI 1.1.0, section 5, "Error").

use serde::{Deserialize, Serialize};
use shunt_api::{ClientError, ErrorCode};

/// The codes: those below 100 are the specification's.
pub(crate) mod code {
    /// Incompatible CNI version.
    pub(crate) const VERSION: u32 = 1;
    /// Unsupported field in the network configuration.
    pub(crate) const UNSUPPORTED: u32 = 2;
    /// The container does not exist; nothing is left to clean up.
    pub(crate) const UNKNOWN_CONTAINER: u32 = 3;
    /// An environment variable will not do.
    pub(crate) const ENVIRONMENT: u32 = 4;
    /// Input, output or a disk failed.
    pub(crate) const IO: u32 = 5;
    /// What was read cannot be decoded.
    pub(crate) const DECODE: u32 = 6;
    /// The network configuration will not do.
    pub(crate) const CONFIG: u32 = 7;
    /// Try again later.
    pub(crate) const TRY_AGAIN: u32 = 11;
    /// No pod can be attached (STATUS).
    pub(crate) const NOT_AVAILABLE: u32 = 50;
    /// No pod can be attached, and attached ones may not reach all that they should (STATUS).
    pub(crate) const LIMITED: u32 = 51;
    /// The attachment, or what it needs, is held already.
    pub(crate) const EXISTS: u32 = 100;
    /// No room on this node.
    pub(crate) const NO_ROOM: u32 = 101;
    /// The daemon or the kernel refused.
    pub(crate) const REFUSED: u32 = 102;
    /// The IPAM plugin failed without a usable error of its own.
    pub(crate) const IPAM: u32 = 103;
    /// CHECK found a difference.
    pub(crate) const DIFFERS: u32 = 104;
    /// A fault of this program.
    pub(crate) const INTERNAL: u32 = 999;
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}: {details} (code {code})")]
pub(crate) struct CniError {
    /// See [`code`].
    pub(crate) code: u32,
    /// What failed, in short.
    pub(crate) msg: String,
    /// The thing and the remedy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) details: String,
}

impl CniError {
    /// An error of these parts.
    pub(crate) fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    /// The environment variable `name` will not do, because of `what`.
    pub(crate) fn environment(name: &str, what: impl std::fmt::Display) -> Self {
        Self::new(
            code::ENVIRONMENT,
            format!("invalid environment variable {name}"),
            format!("{name} {what}"),
        )
    }

    /// The network configuration will not do, because of `details`.
    pub(crate) fn config(details: impl Into<String>) -> Self {
        Self::new(code::CONFIG, "invalid network configuration", details)
    }

    /// No answer of the daemon.
    pub(crate) fn no_daemon(code: u32, error: &ClientError) -> Self {
        let details = match error {
            // The client's own remedy is for a command line.
            ClientError::Connect { socket, source } => format!(
                "cannot reach the daemon at {}: {source}; start it, or mend `socket` in the \
                 network configuration",
                socket.display()
            ),
            error => error.to_string(),
        };
        Self::new(code, "the shunt daemon does not answer", details)
    }

    /// An answer of the daemon that is none, or a refusal.
    pub(crate) fn daemon(error: &ClientError) -> Self {
        let ClientError::Refused(refusal) = error else {
            return Self::no_daemon(code::TRY_AGAIN, error);
        };
        let (code, msg) = match refusal.code {
            ErrorCode::Invalid => (code::CONFIG, "the shunt daemon cannot do this"),
            ErrorCode::NotFound => (code::UNKNOWN_CONTAINER, "no such container"),
            ErrorCode::Exists => (code::EXISTS, "held already"),
            ErrorCode::Exhausted => (code::NO_ROOM, "no room on this node"),
            ErrorCode::System => (code::REFUSED, "the node refused"),
        };
        Self::new(code, msg, refusal.message.clone())
    }
}

/// What a runtime reads: the error with the version it speaks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Versioned<'a> {
    pub(crate) cni_version: &'a str,
    #[serde(flatten)]
    pub(crate) error: &'a CniError,
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_api::ApiError;

    #[test]
    fn a_refusal_of_each_class_has_its_code() {
        for (class, code) in [
            (ErrorCode::Invalid, 7),
            (ErrorCode::NotFound, 3),
            (ErrorCode::Exists, 100),
            (ErrorCode::Exhausted, 101),
            (ErrorCode::System, 102),
        ] {
            let message = "port p is taken".to_owned();
            let refused = ClientError::Refused(ApiError {
                code: class,
                message: message.clone(),
            });
            let error = CniError::daemon(&refused);
            assert_eq!((error.code, error.details), (code, message), "{class:?}");
        }
        let closed = ClientError::Closed {
            socket: "/run/x.sock".into(),
        };
        let error = CniError::daemon(&closed);
        assert_eq!(error.code, 11);
        assert!(error.details.contains("/run/x.sock"), "{error}");
    }

    #[test]
    fn it_is_written_as_the_specification_has_it() {
        let error = CniError::environment("CNI_IFNAME", "is missing");
        let versioned = Versioned {
            cni_version: "0.4.0",
            error: &error,
        };
        assert_eq!(
            serde_json::to_value(versioned).unwrap(),
            serde_json::json!({
                "cniVersion": "0.4.0",
                "code": 4,
                "msg": "invalid environment variable CNI_IFNAME",
                "details": "CNI_IFNAME is missing",
            })
        );
    }
}
