//! Interface ioctls of `netdevice(7)`: flags, MTU and hardware address of a named interface in the
//! current thread's network namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use shunt_api::MacAddr;

/// Room for an interface name with its NUL (`IFNAMSIZ`, include/uapi/linux/if.h).
const IFNAMSIZ: usize = libc::IFNAMSIZ;

/// `struct ifreq` of include/uapi/linux/if.h with the union as bytes.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub(super) struct Ifreq {
    name: [u8; IFNAMSIZ],
    value: [u8; size_of::<libc::ifreq>() - IFNAMSIZ],
}

const _: () = assert!(size_of::<Ifreq>() == size_of::<libc::ifreq>());
const _: () = assert!(align_of::<Ifreq>() >= align_of::<libc::ifreq>());

/// The ioctls whose argument is a `struct ifreq` without pointers in it.
#[derive(Debug, Clone, Copy)]
pub(super) enum IfreqCall {
    GetFlags,
    SetFlags,
    GetMtu,
    SetMtu,
    GetHardwareAddress,
    SetHardwareAddress,
    TunSetIff,
}

impl IfreqCall {
    const fn code(self) -> libc::Ioctl {
        match self {
            Self::GetFlags => libc::SIOCGIFFLAGS,
            Self::SetFlags => libc::SIOCSIFFLAGS,
            Self::GetMtu => libc::SIOCGIFMTU,
            Self::SetMtu => libc::SIOCSIFMTU,
            Self::GetHardwareAddress => libc::SIOCGIFHWADDR,
            Self::SetHardwareAddress => libc::SIOCSIFHWADDR,
            Self::TunSetIff => libc::TUNSETIFF,
        }
    }
}

impl Ifreq {
    /// A request about `name`; `InvalidInput` when no interface can have that name.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        if !is_valid_name(name) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "`{name}` cannot name an interface: use 1 to 15 bytes without `/`, `:`, `%` or space"
                ),
            ));
        }
        let mut ifreq = Self {
            name: [0; IFNAMSIZ],
            value: [0; _],
        };
        ifreq.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(ifreq)
    }

    pub(super) fn with_u16(mut self, value: u16) -> Self {
        self.value[..2].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// `struct sockaddr`: the ARPHRD type, then the address.
    fn with_mac(mut self, mac: MacAddr) -> Self {
        self.value[..2].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        self.value[2..8].copy_from_slice(&mac.0);
        self
    }

    fn with_i32(mut self, value: i32) -> Self {
        self.value[..4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u16(&self) -> u16 {
        u16::from_ne_bytes([self.value[0], self.value[1]])
    }

    fn i32(&self) -> i32 {
        i32::from_ne_bytes([self.value[0], self.value[1], self.value[2], self.value[3]])
    }

    pub(super) fn call(&mut self, fd: BorrowedFd<'_>, call: IfreqCall) -> io::Result<()> {
        // SAFETY: needed because no safe wrapper knows these requests. Each request of `IfreqCall`
        // makes the kernel read and write at most one `struct ifreq`, without following pointers
        // in it; `self` has that size and alignment, is fully initialised, any bytes are valid for
        // it, and it is borrowed exclusively for the call. The descriptor is borrowed, so it is
        // open; on a descriptor of another kind the kernel answers ENOTTY.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), call.code(), std::ptr::from_mut(self)) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// True when the kernel takes `name` for an interface (`dev_valid_name`, net/core/dev.c) and does
/// not see a template in it (`%d`).
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < IFNAMSIZ
        && name != "."
        && name != ".."
        && !name
            .bytes()
            .any(|b| matches!(b, 0 | b'/' | b':' | b'%') || is_kernel_space(b))
}

/// `isspace` of the kernel (lib/ctype.c): ASCII white space with vertical tab, and the no-break
/// space of Latin-1.
fn is_kernel_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d | 0xa0)
}

fn on_socket(
    name: &str,
    call: IfreqCall,
    prepare: impl FnOnce(Ifreq) -> Ifreq,
) -> io::Result<Ifreq> {
    let mut ifreq = prepare(Ifreq::new(name)?);
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    ifreq.call(socket.as_fd(), call)?;
    Ok(ifreq)
}

/// The interface's MTU: its largest IP packet in bytes.
///
/// # Errors
/// `InvalidInput` for an impossible name, otherwise what the kernel says: ENODEV without such an
/// interface.
pub fn mtu(name: &str) -> io::Result<u32> {
    let mtu = on_socket(name, IfreqCall::GetMtu, |ifreq| ifreq)?.i32();
    u32::try_from(mtu).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Sets the interface's MTU in bytes.
///
/// # Errors
/// As [`mtu`]; EINVAL when the device does not take this size, EPERM without `CAP_NET_ADMIN`.
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mtu = i32::try_from(mtu).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    on_socket(name, IfreqCall::SetMtu, |ifreq| ifreq.with_i32(mtu)).map(drop)
}

/// Sets the interface administratively up (`IFF_UP`).
///
/// # Errors
/// As [`mtu`]; EPERM without `CAP_NET_ADMIN`.
pub fn set_up(name: &str) -> io::Result<()> {
    let flags = on_socket(name, IfreqCall::GetFlags, |ifreq| ifreq)?.u16();
    let up = flags | libc::IFF_UP as u16;
    on_socket(name, IfreqCall::SetFlags, |ifreq| ifreq.with_u16(up)).map(drop)
}

/// The interface's Ethernet address; None when it has none or is no Ethernet device.
///
/// # Errors
/// As [`mtu`].
pub fn mac(name: &str) -> io::Result<Option<MacAddr>> {
    let ifreq = on_socket(name, IfreqCall::GetHardwareAddress, |ifreq| ifreq)?;
    // `struct sockaddr`: the ARPHRD type, then the address.
    let mut octets = [0; 6];
    octets.copy_from_slice(&ifreq.value[2..8]);
    let mac = MacAddr(octets);
    Ok((ifreq.u16() == libc::ARPHRD_ETHER && !mac.is_zero()).then_some(mac))
}

/// Sets the interface's Ethernet address.
///
/// # Errors
/// As [`mtu`]; EADDRNOTAVAIL for an address that is no station's, EPERM without `CAP_NET_ADMIN`.
pub fn set_mac(name: &str, mac: MacAddr) -> io::Result<()> {
    on_socket(name, IfreqCall::SetHardwareAddress, |ifreq| {
        ifreq.with_mac(mac)
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::TestNetns;

    #[test]
    fn names_that_the_kernel_would_refuse_are_refused() {
        for name in ["eth0", "a", "pod-1.2_x", "fifteen_bytes__"] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "sixteen_bytes___",
            "a/b",
            "a b",
            "a:b",
            "tap%d",
            "a\0",
            "a\t",
            "à",
        ] {
            assert!(!is_valid_name(name), "{name}");
            assert_eq!(mtu(name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn mtu_flags_and_mac_are_set_and_read() {
        let netns = TestNetns::new();
        netns.link("d0", "address 02:00:00:00:00:01 mtu 1400");
        netns.run(|| {
            assert_eq!(mtu("d0").unwrap(), 1400);
            set_mtu("d0", 1234).unwrap();
            assert_eq!(mtu("d0").unwrap(), 1234);
            assert_eq!(mac("d0").unwrap(), Some(MacAddr([2, 0, 0, 0, 0, 1])));
            assert_eq!(mac("lo").unwrap(), None);
            let other = MacAddr([2, 0, 0, 0, 0, 9]);
            set_mac("d0", other).unwrap();
            assert_eq!(mac("d0").unwrap(), Some(other));
            assert_eq!(
                set_mac("d0", MacAddr([1; 6])).unwrap_err().raw_os_error(),
                Some(libc::EADDRNOTAVAIL)
            );
            set_up("d0").unwrap();
            assert_eq!(
                mtu("nothere").unwrap_err().raw_os_error(),
                Some(libc::ENODEV)
            );
            assert_eq!(
                set_mtu("d0", u32::MAX).unwrap_err().raw_os_error(),
                Some(libc::EINVAL)
            );
        });
        assert!(netns.ip("link show d0").contains(",UP"));
    }
}
