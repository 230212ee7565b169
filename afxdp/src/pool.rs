//! Pools: where a worker takes free chunks from and gives them back to.
//!
//! A pool keeps a local free list and trades whole magazines of chunks with the depot of the UMEM,
//! so that a worker that only receives and one that only transmits balance without touching shared
//! memory for every frame.

use std::sync::Arc;

use crate::frame::Frame;
use crate::umem::Umem;

/// Magazines a pool keeps before it gives one to the depot.
const HIGH_WATERMARK: usize = 4;

/// Free chunks of one worker. Give back happens on drop.
pub struct Pool {
    pub(crate) umem: Arc<Umem>,
    local: Vec<u32>,
    magazine: usize,
}

impl Pool {
    /// An empty pool; it takes chunks from the depot of `umem` when they are asked for.
    pub fn new(umem: &Arc<Umem>) -> Self {
        let magazine = umem.magazine();
        // One magazine from the depot may come on top of the watermark.
        Self {
            umem: umem.clone(),
            local: Vec::with_capacity((HIGH_WATERMARK + 1) * magazine),
            magazine,
        }
    }

    /// The UMEM whose chunks these are.
    #[inline]
    pub fn umem(&self) -> &Arc<Umem> {
        &self.umem
    }

    /// Chunks in the local free list.
    #[inline]
    pub fn local(&self) -> usize {
        self.local.len()
    }

    /// An empty frame with the headroom of a received one ([`Umem::headroom`]). None when local
    /// list and depot are empty.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        let chunk = self.alloc_chunk()?;
        Some(Frame::new(
            &self.umem,
            chunk,
            self.umem.headroom() as u16,
            0,
        ))
    }

    /// A frame with these bytes, chained when they exceed a chunk. None when there are too few
    /// chunks.
    #[inline]
    pub fn alloc_copy(&mut self, bytes: &[u8]) -> Option<Frame> {
        let head = self.umem.headroom();
        if head + bytes.len() > self.umem.chunk_size() {
            return self.alloc_chain(bytes);
        }
        let chunk = self.alloc_chunk()?;
        Some(Frame::copied(&self.umem, chunk, head as u16, bytes))
    }

    fn alloc_chain(&mut self, bytes: &[u8]) -> Option<Frame> {
        let mut frame = self.alloc()?;
        if frame.append(self, bytes) {
            Some(frame)
        } else {
            self.free(frame);
            None
        }
    }

    /// A copy of `frame` with its offload, with the headroom of a received frame. None when there
    /// are too few chunks or the frame is of another UMEM.
    pub fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        if frame.tag() != self.umem.tag() {
            return None;
        }
        let umem = self.umem.clone();
        let mut copy = self.alloc()?;
        for segment in frame.iter(&umem) {
            if !copy.append(self, segment) {
                self.free(copy);
                return None;
            }
        }
        copy.set_offload(frame.offload());
        Some(copy)
    }

    /// Takes back a frame with its whole chain. A frame of another UMEM is not taken: its chunks
    /// stay lost to that UMEM.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        self.free_chunks(&frame);
    }

    /// Takes back the chunks of a frame that the caller forgets right away.
    #[inline]
    pub(crate) fn free_chunks(&mut self, frame: &Frame) {
        if frame.tag() != self.umem.tag() {
            return;
        }
        if frame.segments() == 1 {
            self.free_chunk(frame.chunk());
        } else {
            self.free_chain(frame);
        }
    }

    fn free_chain(&mut self, frame: &Frame) {
        // `Parts` reads the link of a chunk before it yields the one in front: giving a magazine
        // rewrites only links of chunks that were yielded already.
        for part in frame.parts(&self.umem) {
            free_to(&self.umem, &mut self.local, self.magazine, part.chunk);
        }
    }

    /// Gives all local chunks to the depot, for a worker that goes idle.
    pub fn flush(&mut self) {
        for magazine in self.local.chunks(self.magazine) {
            self.umem.give(magazine);
        }
        self.local.clear();
    }

    /// Takes one chunk; the caller owns it.
    #[inline]
    pub(crate) fn alloc_chunk(&mut self) -> Option<u32> {
        match self.local.pop() {
            Some(chunk) => Some(chunk),
            None => self.alloc_from_depot(),
        }
    }

    #[cold]
    fn alloc_from_depot(&mut self) -> Option<u32> {
        self.umem.take(&mut self.local);
        self.local.pop()
    }

    /// Takes back one chunk the caller owns.
    #[inline]
    pub(crate) fn free_chunk(&mut self, chunk: u32) {
        free_to(&self.umem, &mut self.local, self.magazine, chunk);
    }
}

#[inline]
fn free_to(umem: &Umem, local: &mut Vec<u32>, magazine: usize, chunk: u32) {
    local.push(chunk);
    if local.len() >= HIGH_WATERMARK * magazine {
        give_magazine(umem, local, magazine);
    }
}

#[cold]
fn give_magazine(umem: &Umem, local: &mut Vec<u32>, magazine: usize) {
    // The coldest ones go; the chunk used last is in the cache.
    umem.give(&local[..magazine]);
    local.drain(..magazine);
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.flush();
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("local", &self.local.len())
            .finish_non_exhaustive()
    }
}
