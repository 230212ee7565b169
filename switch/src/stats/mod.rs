//! Where every frame went: drop reasons, and the counters of one worker.
//!
//! A worker owns its counters and writes them without atomics; it hands a copy to the control
//! thread between two batches, so that a copy always balances:
//! `received + generated + from_links = transmitted + drops + consumed + held + to_links`.

mod counters;
mod reason;

pub use counters::{PortCounters, WorkerCounters};
pub use reason::DropReason;
