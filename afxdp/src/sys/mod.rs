//! The system calls of this crate. Together with `umem`, `frame` and `ring` the only `unsafe` code.

pub(crate) mod bpf;
pub(crate) mod memory;
pub(crate) mod netdev;
pub(crate) mod xsk;
