//! The flows of services that turn around in the node's stack.
//!
//! kube-proxy rewrites a packet for a ClusterIP in the node's stack. Is the endpoint one of ours,
//! the packet comes back through the host port with a local pod's source. What the endpoint
//! answers must pass the node's stack too, where conntrack puts the service's address back in;
//! the straight way to the pod would bypass it. So such flows are recorded here, and packets that
//! are replies of one are sent to the host port.
//!
//! The table is bounded, and takes no lock and allocates nothing once it is made. An entry may
//! live in either of two buckets of eight slots; `slot.rs` says how a slot changes hands. The
//! worker that owns the host port records, every worker asks and thereby refreshes, the control
//! thread lists and ages.
//!
//! Beside each flow with ports stands an entry for its addresses and protocol with ports 0: only
//! the first fragment of a packet carries ports, and all of them have to go one way.

mod key;
mod phase;
mod slot;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;

pub use key::FlowKey;
pub use phase::{FlowLimits, FlowState};

use key::{Packed, Secret};
use phase::{Phase, Way};
use slot::{Bucket, FINGERPRINT_BITS, Slot, Word};

/// How often an insertion looks for a place while other threads change the ones it finds.
const TRIES: usize = 32;
/// Buckets that are searched for an entry to yield when a key's own two have none.
const NEARBY: usize = 16;

/// What [`FlowTable::record`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// A new flow.
    New,
    /// Known already; its time begins anew.
    Known,
    /// There is no room, and no flow that would have to yield.
    Full,
}

/// An entry, as the control thread lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRow {
    /// The tuple from client to endpoint. Ports 0 where the protocol has none, and in the entry
    /// for fragments.
    pub key: FlowKey,
    /// How far the flow has come.
    pub state: FlowState,
    /// Seconds without a packet in either direction.
    pub idle: u32,
    /// Seconds until it expires if none comes.
    pub expires_in: u32,
}

/// A table of flows. All methods may be called from any thread; `record` is meant for one at a
/// time (two that record the same new flow at once may leave it with two entries, both of which
/// age).
pub struct FlowTable {
    buckets: Box<[Bucket]>,
    mask: usize,
    secret: Secret,
    limits: FlowLimits,
    /// Slots that are taken or about to be. Written rarely: it shares its line with nothing.
    len: CachePadded<AtomicUsize>,
    refused: CachePadded<AtomicU64>,
    /// Clients beyond the underlay may be among them. Written rarely.
    far: AtomicBool,
}

/// Where a key may be.
#[derive(Clone, Copy)]
struct Place {
    buckets: [usize; 2],
    fingerprint: u64,
}

/// What a packet did to its entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touched {
    /// There is none.
    Missing,
    /// It had a packet in this very second.
    Again,
    /// The first packet of this second.
    Fresh,
}

/// Whom a new entry may displace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Displace {
    /// Any entry but an established flow.
    Any,
    /// Not those of this very second either.
    Idle,
}

impl FlowTable {
    /// An empty table. It takes 48 bytes for each of at least `limits.max * 5 / 4` slots.
    pub fn new(limits: FlowLimits) -> Self {
        // With two buckets to choose from, one practically never overflows up to this load.
        let slots = limits.max.saturating_add(limits.max / 4);
        let buckets = slots
            .div_ceil(Bucket::SLOTS)
            .clamp(2, 1 << 26)
            .next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            mask: buckets - 1,
            secret: Secret::new(),
            limits,
            len: CachePadded::default(),
            refused: CachePadded::default(),
            far: AtomicBool::new(false),
        }
    }

    /// Whether there is nothing to find. One load of a line that is seldom written: to be asked
    /// for each batch.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries there are, those for fragments included; at most [`FlowLimits::max`].
    #[inline]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// How often [`record`](Self::record) returned [`Recorded::Full`].
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Notes a packet from client to endpoint at second `now`: `key` is the packet's tuple,
    /// `tcp_flags` the TCP header's byte 13 (`None` if it is not TCP, or cannot be read).
    ///
    /// Of a fragmented packet, pass the ports with the first fragment, which has them, so that
    /// replies that are whole are known; the others may be passed with ports 0 or not at all.
    ///
    /// When there is no room, the flow that yields is one that is closed, else one that has
    /// expired, else the one that was seen longest ago and is no established TCP flow.
    pub fn record(&self, key: FlowKey, tcp_flags: Option<u8>, now: u32) -> Recorded {
        let key = Packed::from(key);
        let place = self.place(key);
        let tcp_flags = tcp_flags.filter(|_| key.has_ports());
        let recorded = match self.touch(key, place, Way::Forward, tcp_flags, now) {
            Touched::Again => return Recorded::Known,
            Touched::Fresh => Recorded::Known,
            Touched::Missing => {
                let phase = Phase::first(tcp_flags);
                if !self.insert(key, place, phase, now, Displace::Any) {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Recorded::Full;
                }
                Recorded::New
            }
        };
        // Once a second for each flow: the entry for its fragments.
        if key.has_ports() {
            let key = key.without_ports();
            let place = self.place(key);
            if self.touch(key, place, Way::Forward, None, now) == Touched::Missing {
                // Never at the cost of a flow of this second, such as the one just recorded. If
                // there is no room, then perhaps in the next second.
                self.insert(key, place, Phase::Other, now, Displace::Idle);
            }
        }
        recorded
    }

    /// As [`record`](Self::record), of a client that is reached by the underlay.
    pub fn record_far(&self, key: FlowKey, tcp_flags: Option<u8>, now: u32) -> Recorded {
        // Read first: a store by every packet would have the line move between cores.
        if !self.has_far() {
            self.far.store(true, Ordering::Relaxed);
        }
        self.record(key, tcp_flags, now)
    }

    /// Whether clients that are reached by the underlay may be among the flows: replies to these
    /// leave the node, and others need not be asked for. It holds until the table is empty.
    #[inline]
    pub fn has_far(&self) -> bool {
        self.far.load(Ordering::Relaxed)
    }

    /// Whether a packet with the tuple `key`, as it is (from endpoint to client), is a reply of a
    /// recorded flow. If so, the flow's time begins anew at second `now`, and what `tcp_flags`
    /// say is noted. Ask for every fragment with ports 0, the first one too: then all go one way.
    ///
    /// An entry past its time counts until [`age`](Self::age) removes it.
    #[inline]
    pub fn is_reply(&self, key: FlowKey, tcp_flags: Option<u8>, now: u32) -> bool {
        let key = Packed::from(key.reverse());
        match self.touch(key, self.place(key), Way::Reply, tcp_flags, now) {
            Touched::Missing => false,
            Touched::Again => true,
            Touched::Fresh => {
                if key.has_ports() {
                    let key = key.without_ports();
                    self.touch(key, self.place(key), Way::Reply, None, now);
                }
                true
            }
        }
    }

    /// Control thread: removes what has expired by second `now` and returns how many entries
    /// that were. An entry for fragments stays while a flow of the same addresses and protocol
    /// does.
    pub fn age(&self, now: u32) -> usize {
        let mut removed = 0;
        let mut portless: HashMap<Packed, (Slot<'_>, Word)> = HashMap::new();
        for (slot, word, phase) in self.entries() {
            if word.idle(now) < self.limits.of(phase) {
                continue;
            }
            match slot.key(word) {
                Some(key) if !key.has_ports() => {
                    portless.insert(key, (slot, word));
                }
                Some(_) => removed += usize::from(self.remove(slot, word)),
                None => {}
            }
        }
        if !portless.is_empty() {
            for (slot, word, _) in self.entries() {
                let Some(key) = slot.key(word).filter(|key| key.has_ports()) else {
                    continue;
                };
                if let Some((slot, word)) = portless.remove(&key.without_ports()) {
                    // If that fails, a packet has done the same.
                    let _ = slot.swap(word, word.after(Phase::Other, now));
                }
            }
            for (slot, word) in portless.into_values() {
                removed += usize::from(self.remove(slot, word));
            }
        }
        if removed > 0 && self.is_empty() {
            // One that is recorded just now sets it again by its next packet.
            self.far.store(false, Ordering::Relaxed);
        }
        removed
    }

    /// Control thread: every entry, as of second `now`, in no order.
    pub fn list(&self, now: u32) -> Vec<FlowRow> {
        self.entries()
            .filter_map(|(slot, word, phase)| {
                let idle = word.idle(now);
                Some(FlowRow {
                    key: slot.key(word)?.into(),
                    state: phase.into(),
                    idle,
                    expires_in: self.limits.of(phase).saturating_sub(idle),
                })
            })
            .collect()
    }

    fn remove(&self, slot: Slot<'_>, word: Word) -> bool {
        let removed = slot.free(word);
        if removed {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    fn entries(&self) -> impl Iterator<Item = (Slot<'_>, Word, Phase)> {
        self.buckets
            .iter()
            .flat_map(Bucket::slots)
            .filter_map(|slot| {
                let word = slot.load();
                Some((slot, word, word.phase()?))
            })
    }

    #[inline]
    fn place(&self, key: Packed) -> Place {
        // Three parts of the hash that do not overlap: buckets are numbered by 26 bits at most.
        let hash = self.secret.hash(key);
        let first = hash as usize & self.mask;
        let second = first ^ ((hash >> 26) as usize & self.mask | 1);
        Place {
            buckets: [first, second],
            fingerprint: hash >> (u64::BITS - FINGERPRINT_BITS),
        }
    }

    #[inline]
    fn candidates(&self, place: Place) -> impl Iterator<Item = &Bucket> {
        let numbers = place.buckets.into_iter();
        numbers.filter_map(|number| self.buckets.get(number))
    }

    /// Finds the entry of `key` and notes a packet in it.
    #[inline]
    /// Whether a forward packet like this was recorded; nothing is refreshed.
    pub fn contains(&self, key: FlowKey) -> bool {
        let key = Packed::from(key);
        let place = self.place(key);
        self.candidates(place).flat_map(Bucket::slots).any(|slot| {
            let word = slot.load();
            let fits = word.fingerprint() == place.fingerprint && word.phase().is_some();
            fits && slot.key(word) == Some(key)
        })
    }

    fn touch(
        &self,
        key: Packed,
        place: Place,
        way: Way,
        tcp_flags: Option<u8>,
        now: u32,
    ) -> Touched {
        for slot in self.candidates(place).flat_map(Bucket::slots) {
            let mut word = slot.load();
            let fits = word.fingerprint() == place.fingerprint && word.phase().is_some();
            if !fits || slot.key(word) != Some(key) {
                continue;
            }
            // Again while others refresh the same entry, which they do once a second each.
            while let Some(phase) = word.phase() {
                let next = word.after(phase.next(way, tcp_flags), now);
                // Mostly nothing changes, and the line stays shared between the cores.
                if next == word {
                    return Touched::Again;
                }
                match slot.swap(word, next) {
                    Ok(()) if next.seen() == word.seen() => return Touched::Again,
                    Ok(()) => return Touched::Fresh,
                    Err(found) if found.same_entry(word) => word = found,
                    Err(_) => break,
                }
            }
            return Touched::Missing;
        }
        Touched::Missing
    }

    /// Makes an entry; false if there is no room.
    fn insert(
        &self,
        key: Packed,
        place: Place,
        phase: Phase,
        now: u32,
        displace: Displace,
    ) -> bool {
        let mut reserved = self.reserve();
        let mut done = false;
        for _ in 0..TRIES {
            let free = if reserved { self.vacancy(place) } else { None };
            let found = free.or_else(|| victim(self.candidates(place), self.limits, now, displace));
            let Some((slot, old)) = found else {
                if !reserved && self.yield_elsewhere(place, now, displace) {
                    reserved = true;
                    continue;
                }
                break;
            };
            if slot.fill(old, key, place.fingerprint, phase, now) {
                // The free slot's count is spent.
                reserved &= !old.is_free();
                done = true;
                break;
            }
        }
        if reserved {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        done
    }

    /// The table is at its limit though the buckets of `place` hold nothing that may yield:
    /// frees an entry nearby, whose count the caller takes over.
    fn yield_elsewhere(&self, place: Place, now: u32, displace: Displace) -> bool {
        let [first, _] = place.buckets;
        let nearby = (1..=NEARBY).filter_map(|n| self.buckets.get((first + n) & self.mask));
        victim(nearby, self.limits, now, displace).is_some_and(|(slot, word)| slot.free(word))
    }

    /// Counts one more entry, if there may be one.
    fn reserve(&self) -> bool {
        let more = |len| (len < self.limits.max).then_some(len + 1);
        self.len
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// A free slot, in the emptier bucket: that keeps both from filling up early.
    fn vacancy(&self, place: Place) -> Option<(Slot<'_>, Word)> {
        let bucket = self.candidates(place).max_by_key(|bucket| bucket.free())?;
        let mut slots = bucket.slots().map(|slot| (slot, slot.load()));
        slots.find(|(_, word)| word.is_free())
    }
}

/// The entry of `buckets` that yields first.
fn victim<'a>(
    buckets: impl Iterator<Item = &'a Bucket>,
    limits: FlowLimits,
    now: u32,
    displace: Displace,
) -> Option<(Slot<'a>, Word)> {
    let ranked = buckets.flat_map(Bucket::slots).filter_map(|slot| {
        let word = slot.load();
        let phase = word.phase()?;
        let idle = word.idle(now);
        let rank = if phase == Phase::Closed {
            0
        } else if idle >= limits.of(phase) {
            1
        } else if phase == Phase::Established || (displace == Displace::Idle && idle == 0) {
            return None;
        } else {
            2
        };
        Some(((rank, Reverse(idle)), (slot, word)))
    });
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, found)| found)
}
