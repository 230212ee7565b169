//! Frames: unique ownership of one chunk, or of a chain of chunks (a multi-buffer frame).

use std::num::NonZeroU32;

use crate::pool::Pool;
use crate::umem::{Link, Umem};

/// `csum_start` of a frame without a pending checksum.
const NO_CSUM: u16 = u16::MAX;

/// Most chunks of one frame: 64 KiB in the smallest segments the kernel makes fit several times.
pub const MAX_SEGMENTS: usize = 256;

/// What is left to do for a frame by whoever transmits it, in the meaning of `struct
/// virtio_net_hdr` (`include/uapi/linux/virtio_net.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum to complete, if any.
    pub csum: Option<Csum>,
}

/// A partial checksum: the field holds the folded pseudo-header sum and is to be replaced by the
/// checksum over the bytes from `start` to the end of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Csum {
    /// `csum_start`: where the checksummed bytes begin, in bytes from the start of the frame.
    pub start: u16,
    /// `csum_offset`: where the checksum field is, in bytes from `start`.
    pub offset: u16,
}

/// A frame in a [`Umem`], owned by whoever holds this value.
///
/// Not `Clone`: giving it to a socket or a pool consumes it. It has no destructor, because it does
/// not know its pool: dropping it loses its chunks until the UMEM itself is dropped.
#[must_use = "dropping a frame loses its chunks; give it to a pool or a socket"]
#[derive(Debug)]
pub struct Frame {
    chunk: u32,
    tag: NonZeroU32,
    total: u32,
    head: u16,
    len: u16,
    csum_start: u16,
    csum_offset: u16,
    /// Chunks beyond the first, chained by [`Link`]s.
    extra: u16,
}

impl Frame {
    /// A frame over a chunk the caller owns and gives away; `head + len <= chunk_size`.
    #[inline]
    pub(crate) fn new(umem: &Umem, chunk: u32, head: u16, len: u16) -> Self {
        Self {
            chunk,
            tag: umem.tag(),
            total: len.into(),
            head,
            len,
            csum_start: NO_CSUM,
            csum_offset: 0,
            extra: 0,
        }
    }

    /// A frame of `bytes`, copied to a chunk the caller owns and gives away;
    /// `head + bytes.len() <= chunk_size`.
    #[inline]
    pub(crate) fn copied(umem: &Umem, chunk: u32, head: u16, bytes: &[u8]) -> Self {
        let len = bytes.len() as u16;
        // SAFETY: the caller owns the chunk and measured the range, which stays in it.
        unsafe { umem.bytes_mut(chunk, head, len) }.copy_from_slice(bytes);
        Self::new(umem, chunk, head, len)
    }

    /// Appends a chunk the caller owns and gives away. `last` is the chunk that ends the chain now
    /// and is moved on. False (and nothing done) when the chain is as long as can be.
    pub(crate) fn chain(
        &mut self,
        umem: &Umem,
        last: &mut u32,
        chunk: u32,
        head: u16,
        len: u16,
    ) -> bool {
        if self.segments() >= MAX_SEGMENTS {
            return false;
        }
        umem.set_link(
            *last,
            Link {
                next: chunk,
                ..umem.link(*last)
            },
        );
        umem.set_link(
            chunk,
            Link {
                next: u32::MAX,
                head,
                len,
            },
        );
        *last = chunk;
        self.extra += 1;
        self.total += u32::from(len);
        true
    }

    #[inline]
    pub(crate) fn tag(&self) -> NonZeroU32 {
        self.tag
    }

    /// The first chunk, of the UMEM with this frame's tag.
    #[inline]
    pub(crate) fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Chunk, offset and length of every segment; nothing when `umem` is not this frame's.
    #[inline]
    pub(crate) fn parts<'a>(&self, umem: &'a Umem) -> Parts<'a> {
        let left = if self.tag == umem.tag() {
            self.segments() as u32
        } else {
            0
        };
        Parts {
            umem,
            chunk: self.chunk,
            head: self.head,
            len: self.len,
            left,
        }
    }

    /// The first segment; empty when `umem` is not the one of this frame.
    #[inline]
    pub fn data<'a>(&'a self, umem: &'a Umem) -> &'a [u8] {
        if self.tag != umem.tag() {
            return &[];
        }
        // SAFETY: the tag says that the chunk is one of this UMEM, which this frame owns; the
        // borrow of the frame keeps writers away. `head + len` stay in the chunk in every method.
        unsafe { umem.bytes(self.chunk, self.head, self.len) }
    }

    /// The first segment, to be written; empty when `umem` is not the one of this frame.
    #[inline]
    pub fn data_mut<'a>(&'a mut self, umem: &'a Umem) -> &'a mut [u8] {
        if self.tag != umem.tag() {
            return &mut [];
        }
        // SAFETY: as in `data`; the exclusive borrow of the frame makes this the only slice.
        unsafe { umem.bytes_mut(self.chunk, self.head, self.len) }
    }

    /// Bytes of the whole frame, over all segments.
    #[inline]
    pub fn len(&self) -> usize {
        self.total as usize
    }

    /// True for a frame without a byte, such as a freshly allocated one.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Number of segments (chunks), at least 1.
    #[inline]
    pub fn segments(&self) -> usize {
        usize::from(self.extra) + 1
    }

    /// Bytes of the first segment.
    #[inline]
    pub fn first_len(&self) -> usize {
        self.len.into()
    }

    /// Bytes free in front of the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.head.into()
    }

    /// Bytes free behind the data of the last segment; 0 when `umem` is not this frame's.
    #[inline]
    pub fn tailroom(&self, umem: &Umem) -> usize {
        self.parts(umem).last().map_or(0, |part| {
            umem.chunk_size()
                .saturating_sub(usize::from(part.head) + usize::from(part.len))
        })
    }

    /// What the transmitter has still to do.
    #[inline]
    pub fn offload(&self) -> Offload {
        let csum = (self.csum_start != NO_CSUM).then_some(Csum {
            start: self.csum_start,
            offset: self.csum_offset,
        });
        Offload { csum }
    }

    /// Sets what the transmitter has still to do. A checksum whose field lies outside the frame is
    /// dropped: no later stage has to check it.
    #[inline]
    pub fn set_offload(&mut self, offload: Offload) {
        match offload.csum {
            Some(Csum { start, offset })
                if u32::from(start) + u32::from(offset) + 2 <= self.total && start != NO_CSUM =>
            {
                self.csum_start = start;
                self.csum_offset = offset;
            }
            _ => self.csum_start = NO_CSUM,
        }
    }

    /// Grows the frame by `n` bytes at the front, into the headroom; their content is undefined.
    /// A pending checksum moves along. False (and nothing done) when the headroom is smaller.
    #[must_use = "false says that the frame has not grown"]
    #[inline]
    pub fn push_head(&mut self, n: usize) -> bool {
        let Ok(n) = u16::try_from(n) else {
            return false;
        };
        let Some(head) = self.head.checked_sub(n) else {
            return false;
        };
        self.head = head;
        self.len += n;
        self.total += u32::from(n);
        if self.csum_start != NO_CSUM {
            self.csum_start = self.csum_start.saturating_add(n);
        }
        true
    }

    /// Strips `n` bytes at the front. A pending checksum moves along, and is dropped when it
    /// covered stripped bytes. False (and nothing done) unless at least one byte of the first
    /// segment stays.
    #[must_use = "false says that the frame has not shrunk"]
    #[inline]
    pub fn pull_head(&mut self, n: usize) -> bool {
        let Ok(n) = u16::try_from(n) else {
            return false;
        };
        if n != 0 && n >= self.len {
            return false;
        }
        self.head += n;
        self.len -= n;
        self.total -= u32::from(n);
        if self.csum_start != NO_CSUM {
            self.csum_start = self.csum_start.checked_sub(n).unwrap_or(NO_CSUM);
        }
        true
    }

    /// Grows the last segment by `n` bytes at the end; their content is undefined. False (and
    /// nothing done) when its tailroom is smaller.
    #[must_use = "false says that the frame has not grown"]
    pub fn push_tail(&mut self, umem: &Umem, n: usize) -> bool {
        let Ok(grow) = u16::try_from(n) else {
            return false;
        };
        if n > self.tailroom(umem) {
            return false;
        }
        if let Some(last) = self.parts(umem).last() {
            if self.extra == 0 {
                self.len += grow;
            } else {
                let link = umem.link(last.chunk);
                umem.set_link(
                    last.chunk,
                    Link {
                        len: link.len + grow,
                        ..link
                    },
                );
            }
            self.total += u32::from(grow);
        }
        true
    }

    /// Appends `bytes`, with further chunks from `pool` when the last one is full. False (and
    /// nothing done) when the pool is empty, the chain would exceed [`MAX_SEGMENTS`] or `pool` is of
    /// another UMEM.
    #[inline]
    #[must_use = "false says that the bytes were not appended"]
    pub fn append(&mut self, pool: &mut Pool, bytes: &[u8]) -> bool {
        let (umem, chunk) = (pool.umem(), self.chunk);
        if self.extra == 0 && self.tag == umem.tag() && bytes.len() <= self.tailroom_at(umem, chunk)
        {
            self.extend_at(umem, chunk, bytes);
            return true;
        }
        self.append_chained(pool, bytes)
    }

    fn append_chained(&mut self, pool: &mut Pool, mut bytes: &[u8]) -> bool {
        let Some(mut last) = self.parts(pool.umem()).last().map(|part| part.chunk) else {
            return false;
        };
        let before = self.len();
        while !bytes.is_empty() {
            let room = self.tailroom_at(pool.umem(), last);
            if room == 0 {
                let Some(chunk) = pool.alloc_chunk() else {
                    self.truncate(pool, before);
                    return false;
                };
                if !self.chain(&pool.umem, &mut last, chunk, 0, 0) {
                    pool.free_chunk(chunk);
                    self.truncate(pool, before);
                    return false;
                }
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.extend_at(pool.umem(), last, now);
            bytes = later;
        }
        true
    }

    #[inline]
    fn at(&self, umem: &Umem, last: u32) -> (u16, u16) {
        if self.extra == 0 {
            (self.head, self.len)
        } else {
            let link = umem.link(last);
            (link.head, link.len)
        }
    }

    #[inline]
    fn tailroom_at(&self, umem: &Umem, last: u32) -> usize {
        let (head, len) = self.at(umem, last);
        umem.chunk_size()
            .saturating_sub(usize::from(head) + usize::from(len))
    }

    /// Copies `bytes`, which fit the tailroom, behind the data of the last chunk.
    #[inline]
    fn extend_at(&mut self, umem: &Umem, last: u32, bytes: &[u8]) {
        let (head, len) = self.at(umem, last);
        let grow = bytes.len() as u16;
        // SAFETY: `last` ends the chain of this frame, borrowed exclusively; the caller measured
        // the tailroom, so the range stays in the chunk.
        unsafe { umem.bytes_mut(last, head + len, grow) }.copy_from_slice(bytes);
        if self.extra == 0 {
            self.len += grow;
        } else {
            umem.set_link(
                last,
                Link {
                    next: u32::MAX,
                    head,
                    len: len + grow,
                },
            );
        }
        self.total += u32::from(grow);
    }

    /// Cuts the frame to `len` bytes at the end and returns the chunks that become empty to the
    /// pool. A pending checksum whose field is cut is dropped. Nothing is done when the frame is
    /// not longer or `pool` is of another UMEM.
    pub fn truncate(&mut self, pool: &mut Pool, len: usize) {
        if len >= self.len() || self.tag != pool.umem().tag() {
            return;
        }
        let mut left = len;
        let mut kept = 0;
        let mut freed = self.parts(&pool.umem);
        // The first segment stays even when it becomes empty.
        while kept == 0 || left > 0 {
            let Some(part) = freed.next() else { break };
            let keep = left.min(part.len.into());
            left -= keep;
            if kept == 0 {
                self.len = keep as u16;
            } else if keep < part.len.into() {
                let link = pool.umem.link(part.chunk);
                pool.umem.set_link(
                    part.chunk,
                    Link {
                        len: keep as u16,
                        ..link
                    },
                );
            }
            kept += 1;
        }
        let (mut chunk, count) = (freed.chunk, freed.left);
        for _ in 0..count {
            let next = pool.umem.link(chunk).next;
            pool.free_chunk(chunk);
            chunk = next;
        }
        self.extra -= count as u16;
        self.total = len as u32;
        self.set_offload(self.offload());
    }

    /// The segments in order; none when `umem` is not the one of this frame.
    #[inline]
    pub fn iter<'a>(&'a self, umem: &'a Umem) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.parts(umem).map(|part| {
            // SAFETY: every part is a chunk of this frame, which is borrowed while the slices live.
            unsafe { umem.bytes(part.chunk, part.head, part.len) }
        })
    }

    /// Calls `f` with every segment in order.
    #[inline]
    pub fn for_each_segment<'a>(&'a self, umem: &'a Umem, f: impl FnMut(&'a [u8])) {
        self.iter(umem).for_each(f);
    }

    /// Calls `f` with every segment in order, to be written.
    #[inline]
    pub fn for_each_segment_mut<'a>(&'a mut self, umem: &'a Umem, mut f: impl FnMut(&'a mut [u8])) {
        for part in self.parts(umem) {
            // SAFETY: the chunks of a frame are distinct and the frame is borrowed exclusively, so
            // each slice is the only one of its range.
            f(unsafe { umem.bytes_mut(part.chunk, part.head, part.len) });
        }
    }

    /// The whole frame as one vector.
    pub fn copy_to_vec(&self, umem: &Umem) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.for_each_segment(umem, |segment| bytes.extend_from_slice(segment));
        bytes
    }

    /// Copies the frame to the start of `out`, as far as it fits; returns the number of bytes.
    pub fn copy_into(&self, umem: &Umem, out: &mut [u8]) -> usize {
        let size = out.len();
        let mut rest = out;
        for segment in self.iter(umem) {
            let n = segment.len().min(rest.len());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(n);
            now.copy_from_slice(&segment[..n]);
            rest = later;
        }
        size - rest.len()
    }
}

/// One segment of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) chunk: u32,
    pub(crate) head: u16,
    pub(crate) len: u16,
}

/// Iterator over the chunks of a frame.
pub(crate) struct Parts<'a> {
    umem: &'a Umem,
    chunk: u32,
    head: u16,
    len: u16,
    left: u32,
}

impl Iterator for Parts<'_> {
    type Item = Part;

    #[inline]
    fn next(&mut self) -> Option<Part> {
        self.left = self.left.checked_sub(1)?;
        let part = Part {
            chunk: self.chunk,
            head: self.head,
            len: self.len,
        };
        if self.left > 0 {
            self.chunk = self.umem.link(part.chunk).next;
            let link = self.umem.link(self.chunk);
            (self.head, self.len) = (link.head, link.len);
        }
        Some(part)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}
