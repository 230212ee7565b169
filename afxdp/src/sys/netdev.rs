//! Questions to the kernel about network devices, in the network namespace of the calling thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send,
    socket_with,
};

/// `ETHTOOL_GCHANNELS` of `include/uapi/linux/ethtool.h`.
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels` of `include/uapi/linux/ethtool.h`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

fn control_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// The index of a device; `ENODEV` when there is none.
pub(crate) fn ifindex(name: &str) -> io::Result<u32> {
    Ok(netdevice::name_to_index(control_socket()?, name)?)
}

/// An `ifreq` with the name set.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain integers, arrays and raw pointers; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero to end the name.
    if name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(socket: &OwnedFd, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the callers use SIOC* requests that read and write one `ifreq`, and what its data
    // pointer points to if they set it; both outlive the call. The cast adapts to the C library.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), number as _, request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// True when the device is administratively up.
pub(crate) fn is_up(name: &str) -> io::Result<bool> {
    Ok(flags(&control_socket()?, name)? & libc::IFF_UP as libc::c_short != 0)
}

/// Sets the device up when it is not.
pub(crate) fn set_up(name: &str) -> io::Result<()> {
    let socket = control_socket()?;
    let flags = flags(&socket, name)?;
    if flags & libc::IFF_UP as libc::c_short != 0 {
        return Ok(());
    }
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    ioctl(&socket, libc::SIOCSIFFLAGS as libc::c_ulong, &mut request)
}

fn flags(socket: &OwnedFd, name: &str) -> io::Result<libc::c_short> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFFLAGS as libc::c_ulong, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_flags })
}

/// Number of active receive queues (not the maximum); 1 when the driver does not tell.
pub(crate) fn rx_queues(name: &str) -> io::Result<u32> {
    let socket = control_socket()?;
    let mut channels = Channels {
        cmd: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    match ioctl(&socket, libc::SIOCETHTOOL as libc::c_ulong, &mut request) {
        Ok(()) => Ok(channels.rx.saturating_add(channels.combined).clamp(1, 1024)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(error) => Err(error),
    }
}

/// The id of the XDP program attached to the device in any mode, if any: `RTM_GETLINK` and
/// `IFLA_XDP` of `include/uapi/linux/if_link.h`.
pub(crate) fn xdp_program(ifindex: u32) -> io::Result<Option<u32>> {
    // No protocol means number 0, NETLINK_ROUTE.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = Vec::with_capacity(32);
    // struct nlmsghdr: length, type, flags, sequence number, port id.
    request.extend_from_slice(&32u32.to_ne_bytes());
    request.extend_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    request.extend_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    // struct ifinfomsg: family and type, index, flags, change mask.
    request.extend_from_slice(&[0; 4]);
    request.extend_from_slice(&ifindex.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    send(socket.as_fd(), &request, SendFlags::empty())?;
    let mut reply = vec![0; 64 * 1024];
    let (len, _) = recv(socket.as_fd(), reply.as_mut_slice(), RecvFlags::empty())?;
    let reply = reply.get(..len).unwrap_or_default();
    match u16_at(reply, 4) {
        Some(libc::RTM_NEWLINK) => {}
        Some(kind) if kind == libc::NLMSG_ERROR as u16 => {
            let error = u32_at(reply, 16).unwrap_or_default() as i32;
            return Err(io::Error::from_raw_os_error(error.saturating_neg()));
        }
        _ => return Err(io::Error::other("unexpected netlink reply to RTM_GETLINK")),
    }
    Ok(attached_program(reply.get(32..).unwrap_or_default()))
}

/// Finds the program id in the attributes of an `RTM_NEWLINK` message.
fn attached_program(attributes: &[u8]) -> Option<u32> {
    const IFLA_XDP: u16 = 43;
    // IFLA_XDP_PROG_ID, and per mode IFLA_XDP_DRV_PROG_ID, _SKB_PROG_ID, _HW_PROG_ID.
    const IDS: std::ops::RangeInclusive<u16> = 4..=7;
    let nested = Attributes(attributes)
        .find(|&(kind, _)| kind == IFLA_XDP)?
        .1;
    Attributes(nested)
        .filter(|(kind, _)| IDS.contains(kind))
        .filter_map(|(_, value)| u32_at(value, 0))
        .find(|&id| id != 0)
}

/// Iterator over netlink attributes (`struct nlattr`): type without its flag bits, and value.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn finds_the_program_id_among_attributes() {
        let mut message = attribute(3, b"eth0\0");
        let nested = [attribute(2, &[1]), attribute(4, &77u32.to_ne_bytes())].concat();
        message.extend(attribute(43 | 0x8000, &nested));
        assert_eq!(attached_program(&message), Some(77));
        let none = attribute(43, &attribute(2, &[0]));
        assert_eq!(attached_program(&none), None);
    }

    #[test]
    fn truncated_attributes_end_the_search() {
        let message = attribute(43, &attribute(4, &77u32.to_ne_bytes()));
        for len in 0..message.len() {
            assert_eq!(attached_program(&message[..len]), None, "at {len} bytes");
        }
    }

    #[test]
    fn loopback_has_an_index_and_one_queue() {
        assert_eq!(ifindex("lo").unwrap(), 1);
        assert_eq!(rx_queues("lo").unwrap(), 1);
        assert_eq!(
            ifindex("no-such-device").unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
        assert!(is_up("a-name-that-is-much-too-long").is_err());
    }
}
