//! Shunt: a poll-mode user-space packet switch for Kubernetes pods.
//!
//! - [`port`]: frames in, frames out.
//! - [`street`]: what happens to a frame in between, each stage once.
//! - [`tables`]: what the street reads; [`stats`]: what it counts.
//! - [`worker`]: the pinned threads that poll ports and walk the street.
//! - [`control`]: the daemon's one other thread, which alone writes tables.
//! - [`standalone`]: the street alone, for benches and tests.
//! - [`host`]: the node's own network stack as a neighbour of the switch.
//! - [`netlink`], [`sys`]: the kernel; [`config`], [`cli`]: the user; [`cni`]: container runtimes.

#![deny(unsafe_code)]

pub mod cli;
pub mod cni;
pub mod config;
pub mod control;
pub mod host;
pub mod netlink;
pub mod podlink;
pub mod port;
pub mod standalone;
pub mod stats;
pub mod street;
pub mod sys;
pub mod tables;
pub mod worker;
