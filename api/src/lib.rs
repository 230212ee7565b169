//! The control protocol of the `shunt` daemon.
//!
//! One connection to the daemon's Unix socket carries any number of requests. A request is one
//! line of JSON ([`Request`]), its answer is one line of JSON ([`Reply`]); answers come in the
//! order of the requests. [`Client`] speaks it, blocking.

#![forbid(unsafe_code)]

mod client;
mod queue;
mod types;

pub use client::{Client, ClientError, DEFAULT_SOCKET};
pub use queue::{DEFAULT_STATE_DIR, DetachQueue, Queued};
pub use types::*;
