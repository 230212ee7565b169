//! Lookups.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::qsbr::Registration;
use crate::shared::Shared;
use crate::{Address, Family, NextHopIndex, RawWidth, Value};

/// A reader of a table, made by [`FibWriter::reader`](crate::FibWriter::reader).
///
/// It belongs to one thread at a time: it can be sent, but neither shared nor cloned. Dropping it
/// unregisters it. It goes on working, on a table that no longer changes, when the writer is gone.
///
/// A reader must call [`quiescent`](Self::quiescent) once a batch, and
/// [`offline`](Self::offline) before it sleeps. One that does neither makes no lookup wrong, but
/// keeps retired parts of the table from being used again, until insertions fail.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<shunt_fib::Fib4Reader>();
/// ```
///
/// ```compile_fail,E0277
/// fn cloned<T: Clone>() {}
/// cloned::<shunt_fib::Fib4Reader>();
/// ```
#[derive(Debug)]
pub struct FibReader<F: Family, V = NextHopIndex> {
    shared: Arc<Shared<F>>,
    registration: Registration,
    value: PhantomData<fn() -> V>,
}

impl<F: Family, V: Value> FibReader<F, V> {
    pub(crate) fn new(shared: Arc<Shared<F>>, registration: Registration) -> Self {
        Self {
            shared,
            registration,
            value: PhantomData,
        }
    }

    /// The value of the longest prefix that `address` lies in.
    ///
    /// Brings an offline reader online.
    #[inline]
    pub fn lookup(&self, address: <F::Address as Address>::Ip) -> Option<V> {
        self.ensure_online();
        NextHopIndex::from_raw(self.shared.lookup(address.into())).map(V::from)
    }

    /// Looks up each of `addresses` (in host byte order) and writes its result to the same place
    /// in `raw`: 0 for a miss, else the next hop's index plus 1 (see
    /// [`NextHopIndex::from_raw`]), in the width that the caller wants.
    ///
    /// Any length will do; from about 16 addresses on, most of their cache misses overlap. If the
    /// lengths differ, the shorter one counts, and the rest of `raw` is left as it is.
    ///
    /// Brings an offline reader online.
    #[inline]
    pub fn lookup_batch<R: RawWidth>(&self, addresses: &[F::Address], raw: &mut [R]) {
        self.ensure_online();
        self.shared.lookup_batch(addresses, raw);
    }

    /// Tells the writer that this reader is between lookups and holds no result of before that it
    /// still wants to be consistent with what it looks up next. To be called once a batch. Does
    /// nothing while offline.
    #[inline]
    pub fn quiescent(&self) {
        self.registration.quiescent();
    }

    /// Leaves, before a sleep, holding no result that it still wants: the writer does not wait for
    /// this reader until the next lookup or [`online`](Self::online).
    pub fn offline(&self) {
        self.registration.offline();
    }

    /// Comes back after [`offline`](Self::offline). Does nothing while online.
    pub fn online(&self) {
        self.registration.online();
    }

    #[inline]
    fn ensure_online(&self) {
        if !self.registration.is_online() {
            self.registration.online();
        }
    }
}
