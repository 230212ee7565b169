//! AF_XDP sockets: creation, rings, binding (`include/uapi/linux/if_xdp.h`, `net/xdp/xsk.c`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XDP_PGOFF_RX_RING,
    XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpRingOffset,
    XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
    sockopt,
};

use crate::error::Error;
use crate::ring::{Consumer, Descriptor, Entry, Layout, Producer};
use crate::socket::SocketConfig;
use crate::sys::memory::Mapping;
use crate::sys::netdev;
use crate::umem::UmemConfig;

/// `XDP_MAX_TX_SKB_BUDGET` of `include/uapi/linux/if_xdp.h`: descriptors handled by one sendto in
/// copy mode, 32 unless set. Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// How long binding waits for a queue: the kernel frees the queue of a closed socket in a work
/// queue (`xp_put_pool` in `net/xdp/xsk_buff_pool.c`), after `close` has returned. Opened and closed
/// without a pause, on a machine with all cores busy, it took up to 230 ms.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// The four rings of a bound socket and its descriptor. The mappings hold references to the socket:
/// it is released when all of this is dropped.
pub(crate) struct Rings {
    pub(crate) rx: Consumer<Descriptor>,
    pub(crate) tx: Producer<Descriptor>,
    pub(crate) fill: Producer<u64>,
    pub(crate) completion: Consumer<u64>,
    pub(crate) fd: OwnedFd,
}

fn socket(device: &str) -> Result<OwnedFd, Error> {
    socket_with(
        AddressFamily::XDP,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| Error::from_kernel("opening an AF_XDP socket", device, "CAP_NET_RAW", error))
}

/// Opens a socket on queue 0 of `lo` and registers the UMEM on it. Also returns whether the kernel
/// takes multi-buffer frames (Linux 6.6).
pub(crate) fn open_anchor(area: &Mapping, config: &UmemConfig) -> Result<(OwnedFd, bool), Error> {
    const LO: &str = "lo";
    let fail = |operation| {
        move |error: io::Error| Error::from_kernel(operation, LO, "CAP_NET_ADMIN", error)
    };
    netdev::set_up(LO).map_err(fail("setting the device up, where the UMEM is anchored,"))?;
    let ifindex = netdev::ifindex(LO).map_err(fail("looking up the device"))?;
    let fd = socket(LO)?;
    let registration = XdpUmemReg {
        addr: area.address().as_ptr() as u64,
        len: area.len() as u64,
        chunk_size: config.chunk_size,
        headroom: config.headroom,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    sockopt::set_xdp_umem_reg(&fd, registration).map_err(|error| match error {
        // RLIMIT_MEMLOCK is exceeded, which the capability overrides (`xdp_umem_account_pages`).
        Errno::NOBUFS => Error::Permission {
            operation: "registering the UMEM beyond RLIMIT_MEMLOCK",
            device: LO.to_owned(),
            capability: "CAP_IPC_LOCK",
        },
        error => Error::from_kernel("registering the UMEM", LO, "CAP_IPC_LOCK", error),
    })?;
    // Never used, but a bound socket must have them (`xsk_bind`).
    sockopt::set_xdp_umem_fill_ring_size(&fd, 64)
        .map_err(|e| fail("sizing the rings")(e.into()))?;
    sockopt::set_xdp_umem_completion_ring_size(&fd, 64)
        .map_err(|e| fail("sizing the rings")(e.into()))?;
    sockopt::set_xdp_rx_ring_size(&fd, 64).map_err(|e| fail("sizing the rings")(e.into()))?;
    let flags = SocketAddrXdpFlags::XDP_COPY | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
    let try_bind = |flags| {
        bind_patiently(|| bind(&fd, &SocketAddrXdp::new(flags, ifindex, 0)).map_err(Into::into))
    };
    let (result, multi_buffer) = match try_bind(flags | SocketAddrXdpFlags::XDP_USE_SG) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (try_bind(flags), false),
        result => (result, true),
    };
    match result {
        Ok(()) => Ok((fd, multi_buffer)),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(Error::AnchorBusy),
        Err(error) => Err(Error::from_kernel(
            "binding an AF_XDP socket",
            LO,
            "CAP_NET_RAW",
            error,
        )),
    }
}

/// Opens a socket with its rings and binds it to a queue, sharing the UMEM of `anchor`.
pub(crate) fn open(
    anchor: BorrowedFd<'_>,
    device: &str,
    ifindex: u32,
    config: &SocketConfig,
    send_buffer: usize,
) -> Result<Rings, Error> {
    let fd = socket(device)?;
    let fail = |operation| {
        move |error: rustix::io::Errno| Error::from_kernel(operation, device, "CAP_NET_RAW", error)
    };
    sockopt::set_xdp_umem_fill_ring_size(&fd, config.fill_size)
        .map_err(fail("sizing the rings"))?;
    sockopt::set_xdp_umem_completion_ring_size(&fd, config.completion_size)
        .map_err(fail("sizing the rings"))?;
    sockopt::set_xdp_rx_ring_size(&fd, config.rx_size).map_err(fail("sizing the rings"))?;
    sockopt::set_xdp_tx_ring_size(&fd, config.tx_size).map_err(fail("sizing the rings"))?;
    let offsets = sockopt::xdp_mmap_offsets(&fd).map_err(fail("reading the ring offsets"))?;
    let rings = Rings {
        rx: {
            let (memory, layout) = map_ring::<Descriptor>(
                &fd,
                device,
                &offsets.rx,
                XDP_PGOFF_RX_RING,
                config.rx_size,
            )?;
            Consumer::new(memory, layout, config.rx_size)?
        },
        tx: {
            let (memory, layout) = map_ring::<Descriptor>(
                &fd,
                device,
                &offsets.tx,
                XDP_PGOFF_TX_RING,
                config.tx_size,
            )?;
            Producer::new(memory, layout, config.tx_size)?
        },
        fill: {
            let (memory, layout) = map_ring::<u64>(
                &fd,
                device,
                &offsets.fr,
                XDP_UMEM_PGOFF_FILL_RING,
                config.fill_size,
            )?;
            Producer::new(memory, layout, config.fill_size)?
        },
        completion: {
            let size = config.completion_size;
            let (memory, layout) = map_ring::<u64>(
                &fd,
                device,
                &offsets.cr,
                XDP_UMEM_PGOFF_COMPLETION_RING,
                size,
            )?;
            Consumer::new(memory, layout, size)?
        },
        fd,
    };
    // In copy mode a sent frame counts against the send buffer until the receiver has taken it.
    // Both settings only save system calls; older kernels and fewer rights do without.
    let _ = sockopt::set_socket_send_buffer_size_force(&rings.fd, send_buffer);
    let _ = set_tx_budget(rings.fd.as_fd(), config.tx_size);
    let address = SocketAddrXdpWithSharedUmem {
        addr: SocketAddrXdp::new(SocketAddrXdpFlags::XDP_SHARED_UMEM, ifindex, config.queue),
        shared_umem_fd: anchor,
    };
    match bind_patiently(|| bind(&rings.fd, &address).map_err(Into::into)) {
        Ok(()) => Ok(rings),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EBUSY) => Error::QueueBusy {
                device: device.to_owned(),
                queue: config.queue,
            },
            Some(libc::EINVAL) => Error::Config(format!(
                "queue {} of `{device}` cannot be bound: it is not active, or the kernel is older \
                 than 5.10",
                config.queue
            )),
            _ => Error::from_kernel("binding an AF_XDP socket", device, "CAP_NET_RAW", error),
        }),
    }
}

fn bind_patiently(bind: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        match bind() {
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

fn map_ring<T: Entry>(
    fd: &OwnedFd,
    device: &str,
    offsets: &XdpRingOffset,
    page_offset: u64,
    size: u32,
) -> Result<(Arc<Mapping>, Layout), Error> {
    let flags = offsets.flags.ok_or_else(|| {
        Error::Config(
            "the kernel's AF_XDP has no wake-up flags; Linux 5.4 or newer is needed".into(),
        )
    })?;
    let layout = Layout {
        producer: offsets.producer as usize,
        consumer: offsets.consumer as usize,
        flags: flags as usize,
        entries: offsets.desc as usize,
    };
    let memory =
        Mapping::shared(fd.as_fd(), page_offset, layout.bytes::<T>(size)).map_err(|e| {
            Error::from_kernel(
                "mapping a ring of an AF_XDP socket",
                device,
                "CAP_NET_RAW",
                e,
            )
        })?;
    Ok((Arc::new(memory), layout))
}

fn set_tx_budget(fd: BorrowedFd<'_>, budget: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the option value is a u32 that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const budget).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Wakes the kernel to transmit what is in the TX ring.
pub(crate) fn wake_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    send(fd, &[], SendFlags::DONTWAIT)?;
    Ok(())
}

/// Wakes the kernel to take from the fill ring.
pub(crate) fn wake_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    recv(fd, &mut [0u8; 0], RecvFlags::DONTWAIT)?;
    Ok(())
}
