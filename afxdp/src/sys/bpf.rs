//! The bpf(2) commands this crate needs, as in `include/uapi/linux/bpf.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::Error;

const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;
const BPF_PROG_LOAD: u32 = 5;
#[cfg(test)]
const BPF_PROG_TEST_RUN: u32 = 10;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_DETACH: u32 = 34;

const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
/// `BPF_NOEXIST`: the key must not be there yet.
const BPF_NOEXIST: u64 = 1;
const BPF_PROG_TYPE_XDP: u32 = 6;
/// `BPF_XDP` of `enum bpf_attach_type`.
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` of `include/uapi/linux/if_link.h`.
pub(crate) const SKB_MODE: u32 = 1 << 1;
pub(crate) const DRV_MODE: u32 = 1 << 2;

/// An argument of bpf(2): a prefix of `union bpf_attr`.
///
/// # Safety
/// The type is `repr(C)`, plain integers without padding, and every address in it is valid for
/// what its command does there.
unsafe trait Attr {}

/// Runs a command; returns its result, a file descriptor for some.
fn bpf<A: Attr>(command: u32, attr: &mut A) -> io::Result<i32> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` whose addresses are valid (`Attr`), readable
    // and writable for the size passed; the kernel takes missing fields as zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<A>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

/// Runs a command that returns a new file descriptor.
fn bpf_fd<A: Attr>(command: u32, attr: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just made this descriptor for us (bpf(2) sets O_CLOEXEC on it).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn name16(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

// SAFETY: repr(C) integers, 44 bytes without padding, no addresses.
unsafe impl Attr for MapCreate {}

/// Makes a map of `u32` keys.
fn create_map(
    map_type: u32,
    value_size: usize,
    max_entries: u32,
    name: &str,
) -> io::Result<OwnedFd> {
    bpf_fd(
        BPF_MAP_CREATE,
        &mut MapCreate {
            map_type,
            key_size: 4,
            value_size: value_size as u32,
            max_entries,
            map_flags: 0,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: name16(name),
        },
    )
}

/// Makes an XSKMAP: slot to AF_XDP socket.
pub(crate) fn create_xskmap(slots: u32) -> io::Result<OwnedFd> {
    create_map(BPF_MAP_TYPE_XSKMAP, size_of::<u32>(), slots, "shunt_xsks")
}

/// Where a device's sockets are in an XSKMAP: the slot of queue 0, and how many queues follow. The
/// program reads it as two `u32`.
pub(crate) type Place = [u32; 2];

/// Makes a hash map: index of a device to its [`Place`].
pub(crate) fn create_places(devices: u32) -> io::Result<OwnedFd> {
    create_map(
        BPF_MAP_TYPE_HASH,
        size_of::<Place>(),
        devices,
        "shunt_places",
    )
}

#[repr(C)]
struct MapElement {
    map_fd: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// SAFETY: repr(C) integers without padding; the users below point `key` to a `u32`, the key size of
// all maps made here, and `value` to what the map was made for. Both outlive the call.
unsafe impl Attr for MapElement {}

/// Puts a socket into a slot of an XSKMAP.
pub(crate) fn set_xsk(map: BorrowedFd<'_>, slot: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = socket.as_raw_fd() as u32;
    let mut attr = MapElement {
        map_fd: map.as_raw_fd() as u32,
        unused: 0,
        key: (&raw const slot) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(|_| ())
}

/// Says where a device's sockets are, in a map of [`create_places`]; `EEXIST` when it says so of one
/// with this index already.
pub(crate) fn set_place(map: BorrowedFd<'_>, ifindex: u32, place: Place) -> io::Result<()> {
    let mut attr = MapElement {
        map_fd: map.as_raw_fd() as u32,
        unused: 0,
        key: (&raw const ifindex) as u64,
        value: place.as_ptr() as u64,
        flags: BPF_NOEXIST,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(|_| ())
}

/// Takes out what a map has at a key: the socket of a slot, the place of a device.
pub(crate) fn clear(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let mut attr = MapElement {
        map_fd: map.as_raw_fd() as u32,
        unused: 0,
        key: (&raw const key) as u64,
        value: 0,
        flags: 0,
    };
    bpf(BPF_MAP_DELETE_ELEM, &mut attr).map(|_| ())
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

// SAFETY: repr(C) integers without padding; `load_xdp` points to buffers that outlive the call.
unsafe impl Attr for ProgLoad {}

/// Loads an XDP program of 8-byte instructions. `frags`: it accepts multi-buffer packets.
pub(crate) fn load_xdp(
    name: &'static str,
    instructions: &[u8],
    frags: bool,
) -> Result<OwnedFd, Error> {
    // One of the strings the kernel takes as GPL-compatible (`license_is_gpl_compatible`).
    let license = c"Dual MIT/GPL";
    let load = |log: &mut [u8]| {
        bpf_fd(
            BPF_PROG_LOAD,
            &mut ProgLoad {
                prog_type: BPF_PROG_TYPE_XDP,
                insn_cnt: (instructions.len() / 8) as u32,
                insns: instructions.as_ptr() as u64,
                license: license.as_ptr() as u64,
                log_level: u32::from(!log.is_empty()),
                log_size: log.len() as u32,
                log_buf: if log.is_empty() {
                    0
                } else {
                    log.as_mut_ptr() as u64
                },
                kern_version: 0,
                prog_flags: if frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
                prog_name: name16(name),
                prog_ifindex: 0,
                expected_attach_type: BPF_XDP,
            },
        )
    };
    let source = match load(&mut []) {
        Ok(fd) => return Ok(fd),
        Err(source) => source,
    };
    if source.raw_os_error() == Some(libc::EPERM) {
        return Err(Error::Permission {
            operation: "loading an XDP program",
            device: name.to_owned(),
            capability: "CAP_BPF and CAP_NET_ADMIN",
        });
    }
    // Once more, only to have the verifier say why.
    let mut log = vec![0; 256 * 1024];
    if let Ok(fd) = load(&mut log) {
        return Ok(fd);
    }
    log.truncate(log.iter().position(|&byte| byte == 0).unwrap_or(log.len()));
    Err(Error::Program {
        name,
        log: String::from_utf8_lossy(&log).into_owned(),
        source,
    })
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

// SAFETY: repr(C) integers without padding, no addresses.
unsafe impl Attr for LinkCreate {}

/// Attaches an XDP program; it stays attached until the link is detached or its last descriptor is
/// closed. `mode` is [`SKB_MODE`] or [`DRV_MODE`].
pub(crate) fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32, mode: u32) -> io::Result<OwnedFd> {
    bpf_fd(
        BPF_LINK_CREATE,
        &mut LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags: mode,
        },
    )
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

// SAFETY: repr(C) integers without padding, no addresses.
unsafe impl Attr for LinkUpdate {}

/// Replaces the program of a link atomically.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(|_| ())
}

#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

// SAFETY: one integer.
unsafe impl Attr for LinkDetach {}

/// Detaches the program of a link now, whoever else still has the link open.
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(
        BPF_LINK_DETACH,
        &mut LinkDetach {
            link_fd: link.as_raw_fd() as u32,
        },
    )
    .map(|_| ())
}

#[repr(C)]
struct GetFdById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

// SAFETY: repr(C) integers without padding, no addresses.
unsafe impl Attr for GetFdById {}

#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

// SAFETY: repr(C) integers without padding; `program_name` points to a buffer of `info_len` bytes
// that outlives the call.
unsafe impl Attr for GetInfo {}

/// The name of a loaded program.
pub(crate) fn program_name(id: u32) -> io::Result<String> {
    /// `offsetof(struct bpf_prog_info, name)`.
    const NAME: usize = 64;
    let fd = bpf_fd(
        BPF_PROG_GET_FD_BY_ID,
        &mut GetFdById {
            id,
            next_id: 0,
            open_flags: 0,
        },
    )?;
    let mut info = [0u64; (NAME + 16) / 8];
    let mut attr = GetInfo {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let name: Vec<u8> = info[NAME / 8..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|&byte| byte != 0)
        .collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

#[cfg(test)]
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

// SAFETY: repr(C) integers without padding; `test_run` points to a buffer that outlives the call.
#[cfg(test)]
unsafe impl Attr for TestRun {}

/// Runs a program on a packet of at least 14 bytes; returns the XDP action.
#[cfg(test)]
pub(crate) fn test_run(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<u32> {
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        retval: 0,
        data_size_in: packet.len() as u32,
        data_size_out: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat: 1,
        duration: 0,
        ctx_size_in: 0,
        ctx_size_out: 0,
        ctx_in: 0,
        ctx_out: 0,
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    Ok(attr.retval)
}
