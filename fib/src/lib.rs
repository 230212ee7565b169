//! Longest-prefix match for a packet switch: an address goes in, the index of a next hop comes out.
//!
//! One writer changes a table in place while many readers look addresses up without a lock, an
//! allocation or a wait. The crate does no I/O and knows nothing of what a next hop is: it maps
//! prefixes to a [`NextHopIndex`], and the caller keeps the table of next hops. The default route is
//! one word beside the table: it takes no memory and changes for all addresses at once. A batch
//! during which it changes is looked up again.
//!
//! - [`Fib4Writer`] and [`Fib4Reader`]: IPv4, in [`v4`], a DIR-24-8 table.
//! - [`Fib6Writer`] and [`Fib6Reader`]: IPv6, in [`v6`], a multi-bit trie.
//!
//! ```
//! use shunt_fib::{Fib4Config, Fib4Writer, NextHopIndex};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut writer = Fib4Writer::new(Fib4Config::default())?;
//! let reader = writer.reader()?;
//! let hop = NextHopIndex::new(7).ok_or("out of range")?;
//! writer.insert("10.1.0.0/16".parse()?, hop)?;
//!
//! assert_eq!(reader.lookup("10.1.2.3".parse()?), Some(hop));
//!
//! // On the street: a batch at a time, then say that nothing of it is held any more.
//! let addresses = [0x0a01_0203, 0x0a02_0203];
//! let mut raw = [0u16; 2];
//! reader.lookup_batch(&addresses, &mut raw);
//! assert_eq!(raw.map(NextHopIndex::from_raw), [Some(hop), None]);
//! reader.quiescent();
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod address;
mod bits;
mod error;
mod family;
mod memory;
mod next_hop;
mod pool;
mod prefix;
mod qsbr;
mod raw;
mod reader;
mod routes;
mod shared;
mod sync;
pub mod v4;
pub mod v6;
mod writer;

pub use address::Address;
pub use error::FibError;
pub use family::Family;
pub use memory::Footprint;
pub use next_hop::{NextHopIndex, Value};
pub use pool::PoolUse;
pub use raw::RawWidth;
pub use reader::FibReader;
pub use v4::{Fib4Config, Fib4Memory, Fib4Reader, Fib4Writer};
pub use v6::{Fib6Config, Fib6Memory, Fib6Reader, Fib6Writer};
pub use writer::FibWriter;
