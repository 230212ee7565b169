//! The routed packets of one address family in a batch, side by side for one lookup.

use std::net::IpAddr;

/// A routed packet, on its way from ingress to forward.
#[derive(Debug, Clone, Copy)]
pub(super) struct Routed {
    /// Its place in the batch.
    pub(super) index: u16,
    /// The tunnel's far end, for packets that came out of one.
    pub(super) tunnel_source: Option<IpAddr>,
}

/// Packets of one family.
pub(super) struct Lane<A> {
    routed: Vec<Routed>,
    sources: Vec<A>,
    /// The destinations, and behind them, where they are looked up too, the sources.
    addresses: Vec<A>,
    /// What the FIB has for them.
    hops: Vec<u16>,
}

impl<A: Copy> Lane<A> {
    /// For up to `batch` packets.
    pub(super) fn new(batch: usize) -> Self {
        Self {
            routed: Vec::with_capacity(batch),
            sources: Vec::with_capacity(batch),
            addresses: Vec::with_capacity(2 * batch),
            hops: vec![0; 2 * batch],
        }
    }

    pub(super) fn clear(&mut self) {
        self.routed.clear();
        self.sources.clear();
        self.addresses.clear();
    }

    #[inline]
    pub(super) fn push(
        &mut self,
        index: u16,
        source: A,
        destination: A,
        tunnel_source: Option<IpAddr>,
    ) {
        self.routed.push(Routed {
            index,
            tunnel_source,
        });
        self.sources.push(source);
        self.addresses.push(destination);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.routed.is_empty()
    }

    /// Looks up all destinations, and with `sources` all sources: the packets, what their
    /// destinations have, and what their sources have.
    #[inline]
    pub(super) fn look_up(
        &mut self,
        sources: bool,
        lookup: impl FnOnce(&[A], &mut [u16]),
    ) -> (&[Routed], &[u16], &[u16]) {
        if sources {
            self.addresses.extend_from_slice(&self.sources);
        }
        let hops = &mut self.hops[..self.addresses.len()];
        lookup(&self.addresses, hops);
        let (hops, source_hops) = hops.split_at(self.routed.len());
        (&self.routed, hops, source_hops)
    }
}
