//! One AF_XDP socket: one queue of one device, its four rings, and the ledger of the chunks the
//! kernel holds for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::error::Error;
use crate::frame::Frame;
use crate::ledger::{Holdings, Partial};
use crate::pool::Pool;
use crate::ring::{Descriptor, XDP_PKT_CONTD};
use crate::sys::{netdev, xsk};
use crate::umem::Umem;

mod quota;
mod shape;

pub use shape::{SocketConfig, Statistics};

/// Most segments of a frame the kernel transmits: `MAX_SKB_FRAGS`, 17 unless the kernel was built
/// otherwise. Most devices take one more, in the head of the skb (`xsk_build_skb` in
/// `net/xdp/xsk.c`), those with `IFF_TX_SKB_NO_LINEAR` do not (`xsk_build_skb_zerocopy`).
pub const MAX_TX_SEGMENTS: usize = 17;

/// Fewest bytes in the first segment of a frame handed to the kernel: an Ethernet header
/// (`ETH_HLEN`).
const MIN_FIRST: usize = 14;

/// Descriptors one system call transmits at least when nothing holds it up (`TX_BATCH_SIZE` in
/// `net/xdp/xsk.c`; `XDP_MAX_TX_SKB_BUDGET` raises it).
const TX_BATCH: u32 = 32;

/// System calls that transmit fewer, after which a wake-up leaves the rest for the next one: towards
/// a receiver that drops, each call ends at the first dropped frame (`EBUSY`).
const SLOW_WAKES: u32 = 3;

/// First pause of `close` while frames are on their way out; each further one is twice as long.
const DRAIN: Duration = Duration::from_micros(200);
/// Pauses for frames the kernel has not taken: 6 ms in all.
const DRAIN_PAUSES: u32 = 5;
/// Pauses for frames it has taken and not completed: 51 ms in all.
const DRAIN_PATIENT: u32 = 8;

/// What became of the frames given to [`Socket::tx`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames the TX ring took.
    pub packets: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Frames that can never be sent, see [`Statistics::tx_rejected`].
    pub rejected: usize,
}

/// What closing a socket or device brought back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Closed {
    /// Chunks the kernel still held, taken back.
    pub reclaimed: usize,
}

/// A socket bound to one queue of one device.
///
/// Dropping it gives all its chunks back to the depot of the UMEM, as [`Socket::close`] does to a
/// pool.
pub struct Socket {
    // In the order of dropping: the kernel has let go of the chunks when they are taken back.
    rings: xsk::Rings,
    holdings: Holdings,
    config: SocketConfig,
    /// Chunks the kernel is to hold for receiving at present, `rx_frames` or more.
    target: u32,
    /// When much of it was last in use.
    busy: Option<Instant>,
    /// Most segments of a frame to be sent.
    max_segments: usize,
    /// Descriptors are discarded up to the end of a frame that had a bad one.
    skipping: bool,
    bad_descriptors: u64,
    tx_rejected: u64,
    dead: bool,
}

impl Socket {
    /// Opens a socket on a queue of `device` and fills its fill ring from `pool`. The UMEM is
    /// registered with the kernel if it was not yet. Waits up to half a second for the queue
    /// of a socket that was just closed.
    ///
    /// # Errors
    /// See [`Error`]; all is undone.
    pub fn open(
        umem: &Arc<Umem>,
        device: &str,
        config: SocketConfig,
        pool: &mut Pool,
    ) -> Result<Self, Error> {
        config.check()?;
        if pool.umem().tag() != umem.tag() {
            return Err(Error::Config(
                "the pool is of another UMEM than the socket".to_owned(),
            ));
        }
        let fail = |operation| {
            move |error: io::Error| Error::from_kernel(operation, device, "CAP_NET_ADMIN", error)
        };
        let ifindex = netdev::ifindex(device).map_err(fail("looking up the device"))?;
        if !netdev::is_up(device).map_err(fail("reading the flags"))? {
            return Err(Error::DeviceDown {
                device: device.to_owned(),
            });
        }
        // Twice, as the kernel counts its own overhead too.
        let send_buffer = (config.tx_size as usize).saturating_mul(umem.chunk_size() * 2);
        let (rings, multi_buffer) = umem.with_anchor(|anchor, multi_buffer| {
            let rings = xsk::open(anchor, device, ifindex, &config, send_buffer)?;
            Ok((rings, multi_buffer))
        })?;
        let mut socket = Self::over(umem, rings, config, multi_buffer);
        socket.refill(pool);
        let available = socket.filled();
        if available < config.rx_frames {
            let (queue, needed) = (config.queue, config.rx_frames);
            let _ = socket.close(pool);
            return Err(Error::PoolTooSmall {
                device: device.to_owned(),
                queue,
                needed,
                available,
            });
        }
        Ok(socket)
    }

    fn over(umem: &Arc<Umem>, rings: xsk::Rings, config: SocketConfig, multi_buffer: bool) -> Self {
        let max_segments = if multi_buffer {
            MAX_TX_SEGMENTS.min(config.tx_size as usize)
        } else {
            1
        };
        Self {
            rings,
            holdings: Holdings::new(umem),
            config,
            target: config.rx_frames,
            busy: None,
            max_segments,
            skipping: false,
            bad_descriptors: 0,
            tx_rejected: 0,
            dead: false,
        }
    }

    /// For the XSKMAP. Not public: a duplicate would keep the kernel's side of the socket open after
    /// [`Socket::close`], with chunks that have new owners.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.rings.fd.as_fd()
    }

    /// The queue this socket is bound to.
    pub fn queue(&self) -> u32 {
        self.config.queue
    }

    /// Chunks the kernel holds for receiving and transmitting, and those of an unfinished frame.
    pub(crate) fn held(&self) -> usize {
        self.holdings.held()
    }

    /// Chunks the kernel holds for receiving; at most the size of the fill ring.
    fn filled(&self) -> u32 {
        self.holdings.filling.held() as u32
    }

    /// Receives up to `max` frames into `out`, never beyond its capacity, and refills the fill
    /// ring from `pool`. Returns the number of frames. Does nothing when `pool` is of another UMEM.
    pub fn rx(&mut self, pool: &mut Pool, out: &mut Vec<Frame>, max: usize) -> usize {
        if pool.umem().tag() != self.holdings.umem.tag() {
            return 0;
        }
        if self.config.adaptive {
            self.adapt();
        }
        let room = max.min(out.capacity() - out.len());
        let mut received = 0;
        while received < room {
            let Some(descriptor) = self.rings.rx.pop() else {
                break;
            };
            if let Some(frame) = self.receive(pool, descriptor) {
                out.push(frame);
                received += 1;
            }
        }
        self.rings.rx.release();
        self.refill(pool);
        self.note_broken();
        received
    }

    /// Takes one descriptor of the RX ring; returns the frame it ends.
    fn receive(&mut self, pool: &mut Pool, descriptor: Descriptor) -> Option<Frame> {
        let more = descriptor.options & XDP_PKT_CONTD != 0;
        let Some((chunk, head, len)) = self.check_rx(pool, descriptor) else {
            self.bad_descriptors += 1;
            self.discard_partial(pool);
            self.skipping = more;
            return None;
        };
        if self.skipping {
            pool.free_chunk(chunk);
            self.skipping = more;
            return None;
        }
        let partial = match self.holdings.partial.take() {
            None => Partial {
                frame: Frame::new(&self.holdings.umem, chunk, head, len),
                last: chunk,
            },
            Some(mut partial) => {
                if !partial
                    .frame
                    .chain(&self.holdings.umem, &mut partial.last, chunk, head, len)
                {
                    self.bad_descriptors += 1;
                    pool.free_chunk(chunk);
                    pool.free(partial.frame);
                    self.skipping = more;
                    return None;
                }
                partial
            }
        };
        if more {
            self.holdings.partial = Some(partial);
            return None;
        }
        Some(partial.frame)
    }

    /// Checks a received descriptor against UMEM and ledger. A chunk that the kernel did hold is
    /// taken back in any case; it is returned, and now ours, when the descriptor is valid.
    fn check_rx(&mut self, pool: &mut Pool, descriptor: Descriptor) -> Option<(u32, u16, u16)> {
        let chunk = u32::try_from(descriptor.addr >> self.holdings.umem.chunk_shift()).ok()?;
        if !self.holdings.filling.take(chunk) {
            return None;
        }
        let size = self.holdings.umem.chunk_size() as u64;
        let head = descriptor.addr & (size - 1);
        if descriptor.len == 0 || head + u64::from(descriptor.len) > size {
            pool.free_chunk(chunk);
            return None;
        }
        Some((chunk, head as u16, descriptor.len as u16))
    }

    fn discard_partial(&mut self, pool: &mut Pool) {
        if let Some(partial) = self.holdings.partial.take() {
            pool.free(partial.frame);
        }
    }

    /// Gives the kernel chunks to receive into, up to the quota.
    fn refill(&mut self, pool: &mut Pool) {
        let want = self.target.saturating_sub(self.filled());
        if want == 0 {
            return;
        }
        let rings = &mut self.rings;
        let mut given = 0;
        for _ in 0..want.min(rings.fill.free(want)) {
            let Some(chunk) = pool.alloc_chunk() else {
                break;
            };
            if !rings
                .fill
                .push(u64::from(chunk) << self.holdings.umem.chunk_shift())
            {
                pool.free_chunk(chunk);
                break;
            }
            self.holdings.filling.give(chunk);
            given += 1;
        }
        if given == 0 {
            return;
        }
        rings.fill.submit();
        if rings.fill.needs_wakeup() {
            let result = xsk::wake_rx(rings.fd.as_fd());
            self.note(result);
        }
    }

    /// Transmits frames from the front of `frames` as far as whole frames fit the TX ring, and
    /// wakes the kernel ([`Socket::kick`]). Those that can never be sent are removed too, see
    /// [`Statistics::tx_rejected`]; the rest stays in order. Takes nothing when the socket is dead
    /// or `pool` is of another UMEM.
    ///
    /// A frame of more than [`MAX_TX_SEGMENTS`] can be packed tighter by [`Pool::copy`]; before
    /// Linux 6.6 frames have one segment.
    ///
    /// A pending checksum ([`Frame::offload`]) must have been completed: a socket has no offloads.
    pub fn tx(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>) -> Sent {
        self.complete(pool);
        let mut sent = Sent::default();
        if self.dead || pool.umem().tag() != self.holdings.umem.tag() {
            return sent;
        }
        let mut slots = self.rings.tx.free(self.config.tx_size) as usize;
        for frame in frames.iter() {
            let segments = frame.segments();
            if frame.tag() != self.holdings.umem.tag()
                || segments > self.max_segments
                || frame.first_len() < MIN_FIRST
            {
                pool.free_chunks(frame);
                sent.rejected += 1;
                continue;
            }
            let Some(left) = slots.checked_sub(segments) else {
                break;
            };
            slots = left;
            self.push(frame);
            sent.packets += 1;
            sent.bytes += frame.len();
        }
        // A frame has no destructor: this only forgets those whose chunks went elsewhere above.
        frames.drain(..sent.packets + sent.rejected);
        self.rings.tx.submit();
        self.tx_rejected += sent.rejected as u64;
        // The kernel stops when the completion ring is full: make room as long as that helps.
        let mut tries = SLOW_WAKES;
        while !self.kick_within(&mut tries, xsk::wake_tx) && tries > 0 && self.complete(pool) > 0 {}
        sent
    }

    /// Writes the descriptors of a frame, for which there is room. The caller forgets the frame.
    #[inline]
    fn push(&mut self, frame: &Frame) {
        let umem = &self.holdings.umem;
        let mut left = frame.segments();
        for part in frame.parts(umem) {
            left -= 1;
            // Always true: the caller counted the free slots.
            let pushed = self.rings.tx.push(Descriptor {
                addr: (u64::from(part.chunk) << umem.chunk_shift()) + u64::from(part.head),
                len: part.len.into(),
                options: if left > 0 { XDP_PKT_CONTD } else { 0 },
            });
            debug_assert!(pushed);
            self.holdings.sending.give(part.chunk);
        }
    }

    /// Frames wait in the TX ring for another [`Socket::kick`], because the kernel was out of
    /// buffers or the receiver drops.
    pub fn needs_kick(&mut self) -> bool {
        !self.dead && self.rings.tx.pending() > 0
    }

    /// Wakes the kernel until it has taken all of the TX ring, makes no progress, or makes little
    /// (a few frames a call, against a receiver that drops) three times. True when nothing is left
    /// to do.
    pub fn kick(&mut self) -> bool {
        let mut tries = SLOW_WAKES;
        self.kick_within(&mut tries, xsk::wake_tx)
    }

    /// [`Socket::kick`] by `wake`; counts `tries` down for each call that made little progress.
    fn kick_within(
        &mut self,
        tries: &mut u32,
        mut wake: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> bool {
        let mut pending = self.rings.tx.pending();
        self.note_broken();
        loop {
            if self.dead || pending == 0 || !self.rings.tx.needs_wakeup() {
                return true;
            }
            if *tries == 0 {
                return false;
            }
            let result = wake(self.rings.fd.as_fd());
            self.note(result);
            let left = self.rings.tx.pending();
            self.note_broken();
            let progress = pending.saturating_sub(left);
            if left > 0 && progress < TX_BATCH {
                *tries -= 1;
            }
            if progress == 0 {
                return self.dead;
            }
            pending = left;
        }
    }

    /// A ring whose index is out of range is of no use any more: neither is the socket.
    #[inline]
    fn note_broken(&mut self) {
        let rings = &self.rings;
        self.dead |= rings.rx.is_broken()
            | rings.tx.is_broken()
            | rings.fill.is_broken()
            | rings.completion.is_broken();
    }

    /// Looks at the answer of a wake-up call. `ENETDOWN` is a device that was set down and may come
    /// up again; the others are transient (`EAGAIN`, `EBUSY`, `ENOBUFS`).
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result
            && matches!(
                error.raw_os_error(),
                Some(libc::ENXIO | libc::EBADF | libc::ENODEV)
            )
        {
            self.dead = true;
        }
    }

    /// Takes chunks of transmitted frames back into the pool; returns their number.
    pub fn complete(&mut self, pool: &mut Pool) -> usize {
        if pool.umem().tag() != self.holdings.umem.tag() {
            return 0;
        }
        let rings = &mut self.rings;
        let mut completed = 0;
        while let Some(addr) = rings.completion.pop() {
            match u32::try_from(addr >> self.holdings.umem.chunk_shift()) {
                Ok(chunk) if self.holdings.sending.take(chunk) => {
                    pool.free_chunk(chunk);
                    completed += 1;
                }
                _ => self.bad_descriptors += 1,
            }
        }
        rings.completion.release();
        self.note_broken();
        completed
    }

    /// Asks the kernel whether the device is still there, for a socket that does not send. One
    /// system call.
    pub fn probe(&mut self) -> bool {
        if !self.dead {
            let result = xsk::wake_tx(self.rings.fd.as_fd());
            self.note(result);
        }
        !self.is_dead()
    }

    /// True when the device is gone (noticed when sending or by [`Socket::probe`]) or an index of a
    /// ring was out of range, after which the socket can only be closed.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The kernel's counters and ours.
    ///
    /// # Errors
    /// The kernel's answer to `XDP_STATISTICS`.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let kernel = sockopt::xdp_statistics(&self.rings.fd)?;
        Ok(Statistics {
            rx_dropped: kernel.rx_dropped,
            rx_invalid_descs: kernel.rx_invalid_descs,
            tx_invalid_descs: kernel.tx_invalid_descs,
            rx_ring_full: kernel.rx_ring_full.unwrap_or_default(),
            rx_fill_ring_empty_descs: kernel.rx_fill_ring_empty_descs.unwrap_or_default(),
            tx_ring_empty_descs: kernel.tx_ring_empty_descs.unwrap_or_default(),
            bad_descriptors: self.bad_descriptors,
            tx_rejected: self.tx_rejected,
        })
    }

    /// Closes the socket and takes back every chunk. Frames on their way out get a few
    /// milliseconds to leave, up to 50 when the kernel has taken them but not completed them: some
    /// devices still read them then. Received ones not yet taken are dropped. With a pool of another
    /// UMEM the chunks go to the depot.
    pub fn close(mut self, pool: &mut Pool) -> Closed {
        for round in 0..=DRAIN_PATIENT {
            self.kick();
            self.complete(pool);
            let sending = self.holdings.sending.held();
            let taken = sending > self.rings.tx.pending() as usize;
            if self.dead || sending == 0 || (round >= DRAIN_PAUSES && !taken) {
                break;
            }
            if round < DRAIN_PATIENT {
                thread::sleep(DRAIN * (1 << round));
            }
        }
        let Self {
            rings, holdings, ..
        } = self;
        // Unmapping the rings and closing the descriptor releases the socket; the kernel waits in
        // there until no receive path uses it any more (`xsk_unbind_dev`, synchronize_net).
        drop(rings);
        Closed {
            reclaimed: holdings.reclaim(pool),
        }
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("config", &self.config)
            .field("filling", &self.holdings.filling.held())
            .field("sending", &self.holdings.sending.held())
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
