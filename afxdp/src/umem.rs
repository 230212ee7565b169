//! The UMEM: one area of memory, cut into chunks, shared by all sockets and devices.
//!
//! Chunks are numbered from 0. Who holds a chunk's number inside this crate (a [`Frame`], a free
//! list, the depot, or the kernel according to a socket's ledger) owns the chunk; there is exactly
//! one holder at any time. All `unsafe` access to the area rests on this.
//!
//! [`Frame`]: crate::Frame

use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::device::Device;
use crate::error::Error;
use crate::shared::Banks;
use crate::sys::memory::Mapping;
use crate::sys::xsk;
use crate::undertaker::Undertaker;

/// Bytes the kernel keeps free in front of every received frame, see `XDP_PACKET_HEADROOM` in
/// `include/uapi/linux/bpf.h`.
pub const XDP_PACKET_HEADROOM: u32 = 256;

/// Most chunks moved between a pool and the depot at once.
const MAGAZINE: usize = 64;

/// Shape of a UMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UmemConfig {
    /// Bytes per chunk: 2048 or 4096.
    pub chunk_size: u32,
    /// Number of chunks, at least 1.
    pub chunks: u32,
    /// Bytes of headroom on received frames beyond [`XDP_PACKET_HEADROOM`].
    pub headroom: u32,
}

impl Default for UmemConfig {
    fn default() -> Self {
        Self {
            chunk_size: 4096,
            chunks: 16384,
            headroom: 0,
        }
    }
}

/// A linked list of free chunks in the depot.
#[derive(Debug, Clone, Copy)]
struct Magazine {
    first: u32,
    count: u32,
}

/// The place of a chunk in a chain (or in a magazine) and, for all but the first chunk of a frame,
/// where its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) next: u32,
    pub(crate) head: u16,
    pub(crate) len: u16,
}

/// The socket the UMEM is registered on.
struct Anchor {
    fd: OwnedFd,
    multi_buffer: bool,
}

/// Packet memory shared by all sockets: `chunks` chunks of `chunk_size` bytes, page-aligned.
///
/// One per process by design; several are sound, a frame of one reads as empty through another.
pub struct Umem {
    area: Mapping,
    config: UmemConfig,
    chunk_shift: u32,
    tag: NonZeroU32,
    links: Box<[AtomicU64]>,
    depot: ArrayQueue<Magazine>,
    in_depot: AtomicUsize,
    lent: AtomicUsize,
    banks: Banks,
    undertaker: Undertaker,
    anchor: Mutex<Option<Anchor>>,
}

impl Umem {
    /// Maps the memory; all chunks are in the depot. Needs no privileges: the kernel learns of it
    /// when the first socket is opened (or by [`Umem::register`]).
    ///
    /// # Errors
    /// [`Error::Config`] for sizes out of range, [`Error::Memory`] when the memory is not there.
    pub fn new(config: UmemConfig) -> Result<Arc<Self>, Error> {
        if config.chunk_size != 2048 && config.chunk_size != 4096 {
            return Err(Error::Config(format!(
                "chunk_size is {}, must be 2048 or 4096 bytes",
                config.chunk_size
            )));
        }
        // At least half a chunk stays for data.
        let headroom = config.headroom.saturating_add(XDP_PACKET_HEADROOM);
        if headroom > config.chunk_size / 2 {
            return Err(Error::Config(format!(
                "headroom is {}, must be at most {} bytes for chunks of {}",
                config.headroom,
                config.chunk_size / 2 - XDP_PACKET_HEADROOM,
                config.chunk_size
            )));
        }
        if config.chunks == 0 || config.chunks == u32::MAX {
            return Err(Error::Config(format!(
                "{} chunks, must be at least 1",
                config.chunks
            )));
        }
        let count = config.chunks as usize;
        let bytes = count
            .checked_mul(config.chunk_size as usize)
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .ok_or_else(|| Error::Config(format!("{count} chunks are too many")))?;
        let area = Mapping::anonymous(bytes).map_err(|source| Error::Memory { bytes, source })?;
        let umem = Self {
            area,
            config,
            chunk_shift: config.chunk_size.trailing_zeros(),
            tag: next_tag()?,
            links: (0..count).map(|_| AtomicU64::new(0)).collect(),
            depot: ArrayQueue::new(count),
            in_depot: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            banks: Banks::default(),
            undertaker: Undertaker::new(),
            anchor: Mutex::new(None),
        };
        let all: Vec<u32> = (0..config.chunks).collect();
        for magazine in all.chunks(umem.magazine()) {
            umem.give(magazine);
        }
        Ok(Arc::new(umem))
    }

    /// Registers the memory with the kernel (`XDP_UMEM_REG`) on the anchor: a socket bound to queue
    /// 0 of `lo` in the network namespace of the calling thread, kept until the UMEM is dropped.
    /// All later sockets share its UMEM (`XDP_SHARED_UMEM`), also those of devices in other network
    /// namespaces. `lo` is set up when it is down. Does nothing when already registered.
    ///
    /// The anchor is bound with `XDP_COPY | XDP_USE_NEED_WAKEUP | XDP_USE_SG`; the kernel applies
    /// these to every socket that shares the UMEM (`xp_assign_dev_shared` in
    /// `net/xdp/xsk_buff_pool.c`).
    ///
    /// # Errors
    /// [`Error::Permission`], [`Error::AnchorBusy`] when another process has its anchor there, or
    /// [`Error::Kernel`].
    pub fn register(&self) -> Result<(), Error> {
        self.registered().map(|_| ())
    }

    fn registered(&self) -> Result<MutexGuard<'_, Option<Anchor>>, Error> {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        if anchor.is_none() {
            let (fd, multi_buffer) = xsk::open_anchor(&self.area, &self.config)?;
            *anchor = Some(Anchor { fd, multi_buffer });
        }
        Ok(anchor)
    }

    /// Runs `bind` with the anchor's socket, registering first when needed, and whether the sockets
    /// of this UMEM carry multi-buffer frames: all of them do when the anchor has `XDP_USE_SG`.
    pub(crate) fn with_anchor<R>(
        &self,
        bind: impl FnOnce(BorrowedFd<'_>, bool) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let anchor = self.registered()?;
        match anchor.as_ref() {
            Some(anchor) => bind(anchor.fd.as_fd(), anchor.multi_buffer),
            None => Err(Error::Config("the UMEM has no anchor".to_owned())),
        }
    }

    /// Bytes per chunk.
    #[inline]
    pub fn chunk_size(&self) -> usize {
        self.config.chunk_size as usize
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.config.chunks as usize
    }

    /// Bytes in front of the data of a received or freshly allocated frame:
    /// [`XDP_PACKET_HEADROOM`] plus the configured headroom.
    #[inline]
    pub fn headroom(&self) -> usize {
        (XDP_PACKET_HEADROOM + self.config.headroom) as usize
    }

    /// Free chunks in the depot. Those in the local lists of pools are not counted; equals
    /// [`Umem::chunks`] when every pool, socket and frame has given back what it had.
    pub fn available(&self) -> usize {
        self.in_depot.load(Relaxed)
    }

    /// Chunks that busy sockets may hold for receiving beyond their [`SocketConfig::rx_frames`], all
    /// together: a quarter of all. They come back only by being received, so whoever promises chunks
    /// to sockets counts this quarter as taken.
    ///
    /// [`SocketConfig::rx_frames`]: crate::SocketConfig::rx_frames
    pub fn lendable(&self) -> usize {
        self.chunks() / 4
    }

    /// Lends `more` chunks to a socket that has borrowed `own`. It gets what leaves as much for
    /// others as it has itself, so that a few busy sockets get what they ask for and many share
    /// (dynamic queue length thresholds, Choudhury and Hahne 1998).
    pub(crate) fn borrow(&self, own: usize, more: usize) -> bool {
        let lendable = self.lendable();
        self.lent
            .fetch_update(Relaxed, Relaxed, |lent| {
                (own + more <= lendable.saturating_sub(lent)).then_some(lent + more)
            })
            .is_ok()
    }

    /// The end of [`Umem::borrow`].
    pub(crate) fn repay(&self, chunks: usize) {
        self.lent.fetch_sub(chunks, Relaxed);
    }

    /// Chunks of devices on their way out ([`Device::retire`]), not in the depot yet.
    pub fn retiring(&self) -> usize {
        self.undertaker.chunks()
    }

    /// Waits until all retired devices are closed, at most `patience`; false when they are not.
    pub fn wait_retired(&self, patience: Duration) -> bool {
        self.undertaker.wait(patience)
    }

    /// Waits until no device of this index is on its way out, at most `patience`.
    pub(crate) fn wait_retired_device(&self, ifindex: u32, patience: Duration) -> bool {
        self.undertaker.wait_for(ifindex, patience)
    }

    pub(crate) fn retire(&self, device: Device) {
        self.undertaker.take(device);
    }

    pub(crate) fn banks(&self) -> &Banks {
        &self.banks
    }

    /// log2 of the chunk size.
    #[inline]
    pub(crate) fn chunk_shift(&self) -> u32 {
        self.chunk_shift
    }

    #[inline]
    pub(crate) fn tag(&self) -> NonZeroU32 {
        self.tag
    }

    /// Chunks a pool moves at once: few when the UMEM is small, so that pools do not starve each
    /// other.
    pub(crate) fn magazine(&self) -> usize {
        (self.chunks() / 16).clamp(1, MAGAZINE)
    }

    /// Puts chunks the caller owns into the depot. An empty slice is ignored.
    pub(crate) fn give(&self, chunks: &[u32]) {
        let Some(&first) = chunks.first() else { return };
        for pair in chunks.windows(2) {
            if let [this, next] = *pair {
                self.set_link(
                    this,
                    Link {
                        next,
                        head: 0,
                        len: 0,
                    },
                );
            }
        }
        // Counted before they can be taken, so that the count never goes below zero.
        self.in_depot.fetch_add(chunks.len(), Relaxed);
        // Every magazine holds at least one of the `chunks` chunks, so the queue never overflows.
        let pushed = self.depot.push(Magazine {
            first,
            count: chunks.len() as u32,
        });
        debug_assert!(pushed.is_ok(), "a chunk was given back twice");
    }

    /// Moves one magazine from the depot to the caller, who owns its chunks from then on.
    pub(crate) fn take(&self, into: &mut Vec<u32>) -> bool {
        let Some(Magazine { first, count }) = self.depot.pop() else {
            return false;
        };
        self.in_depot.fetch_sub(count as usize, Relaxed);
        let mut chunk = first;
        for left in (0..count).rev() {
            into.push(chunk);
            if left > 0 {
                chunk = self.link(chunk).next;
            }
        }
        true
    }

    /// The link of a chunk the caller owns. Relaxed is enough: ownership moves between threads only
    /// through queues that synchronise.
    #[inline]
    pub(crate) fn link(&self, chunk: u32) -> Link {
        let packed = self
            .links
            .get(chunk as usize)
            .map_or(0, |link| link.load(Relaxed));
        Link {
            next: packed as u32,
            head: (packed >> 32) as u16,
            len: (packed >> 48) as u16,
        }
    }

    /// Sets the link of a chunk the caller owns.
    #[inline]
    pub(crate) fn set_link(&self, chunk: u32, link: Link) {
        let packed = u64::from(link.next) | u64::from(link.head) << 32 | u64::from(link.len) << 48;
        if let Some(slot) = self.links.get(chunk as usize) {
            slot.store(packed, Relaxed);
        }
    }

    /// Bytes of a chunk.
    ///
    /// # Safety
    /// The caller owns `chunk` (so nobody writes to it while the slice lives) and
    /// `head + len <= chunk_size`.
    #[inline]
    pub(crate) unsafe fn bytes(&self, chunk: u32, head: u16, len: u16) -> &[u8] {
        debug_assert!(chunk < self.config.chunks && self.in_chunk(head, len));
        let start = ((chunk as usize) << self.chunk_shift) + usize::from(head);
        // SAFETY: an owned chunk lies within the area, which lives as long as `self`; the caller
        // promises that the range stays in the chunk and that no one else writes to it.
        unsafe { slice::from_raw_parts(self.area.address().as_ptr().add(start), len.into()) }
    }

    /// Bytes of a chunk, to be written.
    ///
    /// # Safety
    /// The caller owns `chunk`, hands out no other slice of this range while this one lives, and
    /// `head + len <= chunk_size`.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "exclusive by ownership of the chunk")]
    pub(crate) unsafe fn bytes_mut(&self, chunk: u32, head: u16, len: u16) -> &mut [u8] {
        debug_assert!(chunk < self.config.chunks && self.in_chunk(head, len));
        let start = ((chunk as usize) << self.chunk_shift) + usize::from(head);
        // SAFETY: an owned chunk lies within the area, which lives as long as `self`; the caller
        // promises that the range stays in the chunk and that this is its only slice.
        unsafe { slice::from_raw_parts_mut(self.area.address().as_ptr().add(start), len.into()) }
    }

    #[inline]
    fn in_chunk(&self, head: u16, len: u16) -> bool {
        u32::from(head) + u32::from(len) <= self.config.chunk_size
    }
}

impl std::fmt::Debug for Umem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Umem")
            .field("config", &self.config)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

/// A tag never used before in this process: a frame may outlive its UMEM and must not match another.
fn next_tag() -> Result<NonZeroU32, Error> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_update(Relaxed, Relaxed, |tag| {
        if tag == 0 {
            None
        } else {
            Some(tag.wrapping_add(1))
        }
    })
    .ok()
    .and_then(NonZeroU32::new)
    .ok_or_else(|| Error::Config("too many UMEMs were made in this process".to_owned()))
}
