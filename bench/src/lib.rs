//! What the street, the ports and the tables cost: set-ups that benches, measurements and their
//! tests share.
//!
//! - [`scenario`]: the street between two memory ports, for each thing that happens to a frame.
//! - [`veth`]: two pods' veths, a generator, and the device under test between them.
//! - [`compare`]: suites of side-by-side comparisons with peers, and their reports; [`fib`] and
//!   [`cni`] are such.
//! - [`figures`], [`core`], [`interrupt`]: rows of results; cores and their use; Ctrl-C.
//!
//! `benches/street.rs` and the programs in `src/bin` print the figures. Measure on an otherwise
//! idle machine.
#![forbid(unsafe_code)]

pub mod cni;
pub mod compare;
pub mod core;
pub mod fib;
pub mod figures;
pub mod interrupt;
pub mod scenario;
pub mod veth;
