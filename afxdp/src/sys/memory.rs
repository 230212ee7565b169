//! Owned memory mappings: the UMEM area and the rings shared with the kernel.

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

/// A readable and writable mapping, page-aligned, unmapped when dropped.
///
/// It hands out only its address: who turns that into references states why that is sound.
pub(crate) struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range of the process, valid from every thread until `drop`;
// this type never dereferences it.
unsafe impl Send for Mapping {}
// SAFETY: as above; all methods that take `&self` only read the two fields.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of zeroed private memory.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        // SAFETY: a null hint lets the kernel choose a free range, so no existing memory changes.
        let address = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        Self::adopt(address, len)
    }

    /// Maps `len` bytes at `offset` of a socket's ring memory (AF_XDP page offsets).
    pub(crate) fn shared(fd: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Self> {
        // SAFETY: a null hint lets the kernel choose a free range, so no existing memory changes.
        let address = unsafe {
            mm::mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                fd,
                offset,
            )
        }?;
        Self::adopt(address, len)
    }

    fn adopt(address: *mut c_void, len: usize) -> io::Result<Self> {
        let address = NonNull::new(address.cast())
            .ok_or_else(|| io::Error::other("mmap returned address zero"))?;
        let mapping = Self { address, len };
        // A child between fork and exec must not keep the socket or the UMEM pages alive.
        // SAFETY: the range is exactly this mapping; DONTFORK changes nothing in this process.
        unsafe { mm::madvise(address.as_ptr().cast(), len, Advice::LinuxDontFork) }?;
        Ok(mapping)
    }

    /// First byte; page-aligned.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by this value and is unmapped only here; owners keep the
        // mapping alive for as long as references into it exist. An error leaves it mapped.
        let _ = unsafe { mm::munmap(self.address.as_ptr().cast(), self.len) };
    }
}
