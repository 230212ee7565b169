//! Routing tables, their updates, traffic for them, and an oracle: what tests, fuzz targets and
//! benches of longest-prefix match share.
//!
//! Everything is generic over the [`Address`]: `u32` for IPv4, `u128` for IPv6, in host order.
//!
//! - [`Table`] and [`Updates`]: the routes of a BGP router and a day of its updates, the real ones
//!   where they are at hand, else synthetic ones of the same make-up (see [`Source`]).
//! - [`traffic`]: addresses to look up; [`routes`]: other sets of routes.
//! - [`Oracle`]: the simplest right answer, and [`probes`]: the addresses worth asking it for.
//!
//! What is made up is the same in every run: it depends on the seed and on the locked versions of
//! the random number crates alone.
//!
//! ```
//! use shunt_rib::{Oracle, probes, routes, traffic};
//!
//! let routes = routes::cluster::<u32>(true);
//! let oracle = Oracle::new(&routes);
//! for address in traffic::table::<u32>(&routes, 100, 1) {
//!     assert!(oracle.lookup(address).is_some());
//! }
//! let net = "10.0.7.0/24".parse().unwrap();
//! assert_eq!(
//!     probes::<u32>(net),
//!     [0x0a00_06ff, 0x0a00_0700, 0x0a00_0780, 0x0a00_07ff, 0x0a00_0800],
//! );
//! ```

#![forbid(unsafe_code)]

mod address;
mod error;
mod files;
mod intervals;
mod oracle;
pub mod routes;
mod synthetic;
mod table;
pub mod traffic;
mod updates;

pub use address::Address;
pub use error::RibError;
pub use files::{Source, VARIABLE};
pub use intervals::{Interval, Intervals};
pub use oracle::{Oracle, probes};
pub use table::{Route, Table, hop_of};
pub use updates::{Update, Updates};

/// The generator of everything random here: small, fast, and the same on every machine.
type Random = rand_pcg::Pcg64Mcg;
