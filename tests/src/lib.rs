//! Topologies in network namespaces: nodes, pods and wires that vanish with their handles, the
//! `shunt` daemon inside them, peers that Shunt did not write, captures, and probes.
//!
//! Every test makes its own namespaces, named after its process, and takes the machine's one
//! [`testbed::Testbed`] first, because switches spin on pinned cores. All of it takes root.
//!
//! A test reads like this:
//!
//! ```no_run
//! use shunt_api::Encap;
//! use shunt_tests::cluster::{Cluster, Spec};
//! use shunt_tests::netns::Netns;
//! use shunt_tests::pod::Mode;
//! use shunt_tests::probe::must_ping;
//! use shunt_tests::testbed::Testbed;
//!
//! fn main() -> anyhow::Result<()> {
//!     let _testbed = Testbed::acquire()?;
//!     let cluster = Cluster::build(&Spec::new(Mode::L3, Encap::Vxlan), Netns::new)?;
//!     for (from, to) in cluster.pairs() {
//!         must_ping(&from.netns, to.address, 3, "")?;
//!     }
//!     for site in &cluster.sites {
//!         site.daemon.must_return_all_frames()?;
//!     }
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

pub mod balance;
pub mod capture;
pub mod cluster;
pub mod cni;
pub mod command;
pub mod config;
pub mod cri;
pub mod daemon;
pub mod family;
pub mod flannel;
pub mod frames;
pub mod hops;
pub mod lone;
pub mod matrix;
pub mod netns;
pub mod node;
pub mod outside;
pub mod packets;
pub mod pod;
pub mod podman;
pub mod probe;
pub mod process;
pub mod raw;
pub mod refusal;
pub mod routed;
pub mod services;
pub mod testbed;
pub mod trace;
pub mod uml;
pub mod wire;
