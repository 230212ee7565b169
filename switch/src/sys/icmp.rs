//! Raw sockets that hear the ICMP and ICMPv6 errors which reach this node, `raw(7)`.
//!
//! The kernel does not note a path's MTU for packets that no socket of its own has sent
//! (`udp_err`, net/ipv4/udp.c), such as the switch's tunnel packets: it has to be read here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use shunt_encap::IpFamily;

/// Destination unreachable (RFC 792), whose code 4 is "fragmentation needed".
const UNREACHABLE_V4: u32 = 3;
/// Packet too big (RFC 4443, 3.2).
const TOO_BIG_V6: u32 = 2;
/// `ICMP_FILTER` of include/uapi/linux/icmp.h, at level `SOL_RAW`.
const ICMP_FILTER: libc::c_int = 1;
/// `ICMPV6_FILTER` of include/uapi/linux/icmpv6.h, at level `IPPROTO_ICMPV6`.
const ICMPV6_FILTER: libc::c_int = 1;
/// `struct icmp6_filter`: a bit per type, set for what is not passed.
type Filter6 = [u32; 8];

/// A socket that hears one family's messages about packets that did not fit.
#[derive(Debug)]
pub struct IcmpSocket {
    fd: OwnedFd,
    family: IpFamily,
}

impl IcmpSocket {
    /// Opens one in this thread's network namespace. It never blocks.
    ///
    /// # Errors
    /// The kernel refuses: without CAP_NET_RAW, or a family that it does not have.
    pub fn open(family: IpFamily) -> io::Result<Self> {
        let (domain, protocol) = match family {
            IpFamily::V4 => (AddressFamily::INET, rustix::net::ipproto::ICMP),
            IpFamily::V6 => (AddressFamily::INET6, rustix::net::ipproto::ICMPV6),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol: Option<Protocol> = Some(protocol);
        let fd = socket_with(domain, SocketType::RAW, flags, protocol)?;
        let socket = Self { fd, family };
        match family {
            IpFamily::V4 => {
                let all_but: u32 = !(1 << UNREACHABLE_V4);
                socket.set(libc::SOL_RAW, ICMP_FILTER, &all_but)?;
            }
            IpFamily::V6 => {
                let mut all_but: Filter6 = [u32::MAX; 8];
                all_but[0] &= !(1 << TOO_BIG_V6);
                socket.set(libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &all_but)?;
            }
        }
        Ok(socket)
    }

    /// The family.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// Takes the next message: for IPv4 a whole packet, for IPv6 without its header, whose
    /// checksum the kernel has verified. `None` when there is none.
    ///
    /// # Errors
    /// As `recv(2)`.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(Some(buffer.get(..length).unwrap_or_default())),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn set<T: Copy>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        let size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: `value` is live for the call and `size` is its size; the kernel only reads it.
        let done = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for IcmpSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::testing::TestNetns;

    fn heard(socket: &IcmpSocket) -> Option<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut buffer = [0; 1500];
        while Instant::now() < deadline {
            if let Some(message) = socket.receive(&mut buffer).expect("a socket") {
                return Some(message.to_vec());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    #[test]
    fn unreachables_are_heard_and_pings_are_not() {
        let netns = TestNetns::new();
        netns.ip("link set lo up");
        let socket = netns
            .run(|| IcmpSocket::open(IpFamily::V4))
            .expect("a socket");
        netns.command("ping", &["-c", "1", "-W", "2", "127.0.0.1"]);
        netns.run(|| {
            let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            // Nobody listens there.
            sender.send_to(b"x", "127.0.0.1:9").expect("sent");
        });
        let message = heard(&socket).expect("a message");
        assert_eq!(message[9], 1, "ICMP");
        assert_eq!(message[20], 3, "destination unreachable, not an echo");
    }

    #[test]
    fn both_families_have_one() {
        let netns = TestNetns::new();
        for family in [IpFamily::V4, IpFamily::V6] {
            let socket = netns.run(|| IcmpSocket::open(family)).expect("a socket");
            assert_eq!(socket.family(), family);
            assert_eq!(socket.receive(&mut [0; 64]).expect("open"), None);
        }
    }
}
