//! The IPv6 table: answers and pools.

mod pair;
mod pools;
mod updates;
