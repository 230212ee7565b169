//! What IPv4 and IPv6 have in common, and what each has of its own.

use std::fmt::Debug;
use std::time::Duration;

use crate::prefix::Prefix;
use crate::qsbr::Domain;
use crate::routes::Routes;
use crate::{Address, FibError, RawWidth};

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// How many readers there may be, and how long the writer waits for them.
#[derive(Debug, Clone, Copy)]
pub struct ReaderLimits {
    pub(crate) readers: usize,
    pub(crate) reclaim_wait: Duration,
}

/// An address family: [`V4`](crate::v4::V4) or [`V6`](crate::v6::V6). Its value is what the writer keeps beside the routes:
/// which parts of the structure are in use.
///
/// A table knows nothing of the route of length 0, the default route, which is held apart: 0 is
/// what an address has when no longer route is there.
pub trait Family: sealed::Sealed + Debug + Sized {
    /// Addresses in host byte order.
    type Address: Address;
    /// The limits of a table.
    type Config;
    /// What a table takes, by part.
    type Memory;
    /// What readers look into and the one writer changes in place: raw values, which are 0 (no
    /// route) or a next hop's index plus 1.
    #[doc(hidden)]
    type Table: Debug + Send + Sync;

    /// An empty table, and the writer's side of it.
    #[doc(hidden)]
    fn new(config: &Self::Config) -> Result<(Self, Self::Table), FibError>;

    #[doc(hidden)]
    fn reader_limits(config: &Self::Config) -> ReaderLimits;

    /// The raw value of one address.
    #[doc(hidden)]
    fn lookup(table: &Self::Table, address: Self::Address) -> u16;

    /// The raw values of as many addresses as both slices have.
    #[doc(hidden)]
    fn lookup_batch<R: RawWidth>(table: &Self::Table, addresses: &[Self::Address], raw: &mut [R]);

    /// Makes room for `prefix` (1 bit or longer): afterwards it can be set, where none of `routes`
    /// inside it claims the addresses. Changes no answer. When it fails, nothing has changed.
    #[doc(hidden)]
    fn prepare(
        &mut self,
        table: &Self::Table,
        routes: &Routes<Self::Address>,
        prefix: Prefix<Self::Address>,
        readers: &mut Domain,
    ) -> Result<(), FibError>;

    /// Gives the addresses `first` to `last`, which are prepared, a raw value in place.
    #[doc(hidden)]
    fn set_range(
        &mut self,
        table: &Self::Table,
        first: Self::Address,
        last: Self::Address,
        raw: u16,
    );

    /// Retires the structure that only `prefix` needed, which is no longer among `routes` and
    /// whose addresses have been set to what they have without it. Changes no answer.
    #[doc(hidden)]
    fn prune(
        &mut self,
        table: &Self::Table,
        routes: &Routes<Self::Address>,
        prefix: Prefix<Self::Address>,
        readers: &mut Domain,
    );

    /// Frees what is retired and out of every reader's reach, and says how many parts.
    #[doc(hidden)]
    fn reclaim(&mut self, readers: &Domain) -> usize;

    #[doc(hidden)]
    fn memory(&self, routes: &Routes<Self::Address>) -> Self::Memory;
}
