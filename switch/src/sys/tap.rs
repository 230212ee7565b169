//! TAP devices: Ethernet interfaces whose other end is a file descriptor
//! (Documentation/networking/tuntap.rst).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use shunt_api::MacAddr;

use super::interface::{self, Ifreq, IfreqCall};

const CLONE_DEVICE: &str = "/dev/net/tun";

/// A TAP device cannot be made. The message names the device and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// No interface can have that name.
    #[error("`{device}` cannot name a TAP: use 1 to 15 bytes without `/`, `:`, `%` or white space")]
    Name {
        /// The name.
        device: String,
    },
    /// The TUN/TAP driver is not there.
    #[error(
        "cannot open /dev/net/tun for the TAP `{device}`: {source}; load the module (`modprobe \
         tun`), or give the container the device /dev/net/tun"
    )]
    Driver {
        /// The TAP to be made.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The name is taken in that network namespace.
    #[error(
        "an interface `{device}` exists already in the network namespace; delete it (`ip link del \
         {device}`) or choose another name"
    )]
    Exists {
        /// The name.
        device: String,
    },
    /// A capability is missing.
    #[error("{operation} for the TAP `{device}` is not permitted; the process needs CAP_NET_ADMIN")]
    Permission {
        /// What was tried.
        operation: &'static str,
        /// The TAP.
        device: String,
    },
    /// The device does not take this MTU.
    #[error("the TAP `{device}` does not take an MTU of {mtu} bytes: use 68 to 65521")]
    Mtu {
        /// The TAP.
        device: String,
        /// The MTU asked for, in bytes.
        mtu: u32,
    },
    /// The network namespace cannot be entered.
    #[error("cannot make the TAP `{device}` in `{}`: {source}", netns.display())]
    Netns {
        /// The TAP to be made.
        device: String,
        /// The namespace's path.
        netns: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Any other refusal of the kernel.
    #[error("{operation} failed on the TAP `{device}`: {source}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// The TAP.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl TapError {
    fn kernel(operation: &'static str, device: &str, source: io::Error) -> Self {
        let device = device.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission { operation, device },
            _ => Self::Kernel {
                operation,
                device,
                source,
            },
        }
    }
}

/// A TAP device; the interface vanishes with this value.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    device: String,
    mtu: u32,
    mac: Option<MacAddr>,
}

impl Tap {
    /// Makes the TAP `device` in the calling thread's network namespace, with this MTU in bytes
    /// (the kernel's default of 1500 when None) and this Ethernet address (a random one when None),
    /// and sets it up. Reads and writes never block and
    /// carry one bare Ethernet frame each (`IFF_NO_PI`, no `virtio_net_hdr`): checksums are
    /// complete both ways.
    ///
    /// # Errors
    /// See [`TapError`]. An existing interface is never taken over.
    pub fn create(device: &str, mtu: Option<u32>, mac: Option<MacAddr>) -> Result<Self, TapError> {
        let ifreq = Ifreq::new(device).map_err(|_| TapError::Name {
            device: device.to_owned(),
        })?;
        // The namespace of the thread that opens the clone device becomes that of the interface
        // (tun_chr_open, drivers/net/tun.c).
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open(CLONE_DEVICE, flags, Mode::empty()).map_err(|error| TapError::Driver {
            device: device.to_owned(),
            source: error.into(),
        })?;
        // IFF_VNET_HDR belongs here, with TUNSETVNETHDRSZ and TUNSETOFFLOAD, once the port carries
        // super-frames.
        let mode = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        ifreq
            .with_u16(mode as u16)
            .call(file.as_fd(), IfreqCall::TunSetIff)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EBUSY | libc::EEXIST) => TapError::Exists {
                    device: device.to_owned(),
                },
                _ => TapError::kernel("TUNSETIFF", device, error),
            })?;

        if let Some(mtu) = mtu {
            interface::set_mtu(device, mtu).map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => TapError::Mtu {
                    device: device.to_owned(),
                    mtu,
                },
                _ => TapError::kernel("setting the MTU", device, error),
            })?;
        }
        if let Some(mac) = mac {
            interface::set_mac(device, mac)
                .map_err(|error| TapError::kernel("setting the MAC address", device, error))?;
        }
        interface::set_up(device).map_err(|error| TapError::kernel("setting up", device, error))?;
        let mtu = interface::mtu(device)
            .map_err(|error| TapError::kernel("reading the MTU", device, error))?;
        let mac = interface::mac(device)
            .map_err(|error| TapError::kernel("reading the MAC address", device, error))?;
        Ok(Self {
            file,
            device: device.to_owned(),
            mtu,
            mac,
        })
    }

    /// The interface's name, as made.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The interface's MTU in bytes, as made.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// The interface's MAC address, as made: that of the pod behind it.
    pub fn mac(&self) -> Option<MacAddr> {
        self.mac
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::TestNetns;

    #[test]
    fn a_tap_is_up_with_its_mtu_and_vanishes_with_its_handle() {
        let netns = TestNetns::new();
        let tap = netns.run(|| Tap::create("t0", Some(9000), None)).unwrap();
        let shown = netns.ip("-d link show t0");
        assert!(
            shown.contains("mtu 9000") && shown.contains(",UP"),
            "{shown}"
        );
        assert!(
            shown.contains("tun type tap pi off vnet_hdr off"),
            "{shown}"
        );
        assert_eq!((tap.device(), tap.mtu()), ("t0", 9000));
        assert!(shown.contains(&tap.mac().unwrap().to_string()), "{shown}");
        drop(tap);
        assert!(!netns.ip("link show").contains("t0"));
    }

    #[test]
    fn the_default_mtu_is_ethernets_and_an_address_can_be_given() {
        let netns = TestNetns::new();
        let mac = MacAddr([2, 0, 0, 0, 0, 7]);
        let tap = netns.run(|| Tap::create("t0", None, Some(mac))).unwrap();
        assert_eq!((tap.mtu(), tap.mac()), (1500, Some(mac)));
    }

    #[test]
    fn refusals_name_the_device_and_leave_nothing_behind() {
        let netns = TestNetns::new();
        netns.link("d0", "");
        netns.ip("tuntap add dev p0 mode tap");
        netns.run(|| {
            for taken in ["d0", "p0"] {
                let error = Tap::create(taken, None, None).unwrap_err();
                assert!(
                    matches!(&error, TapError::Exists { device } if device == taken),
                    "{error}"
                );
            }
            for name in ["", "tap%d", "much_too_long_a_name", "a/b"] {
                let error = Tap::create(name, None, None).unwrap_err();
                assert!(matches!(error, TapError::Name { .. }), "{error}");
            }
            for mtu in [0, 67, 65_522, u32::MAX] {
                let error = Tap::create("t0", Some(mtu), None).unwrap_err();
                assert!(matches!(error, TapError::Mtu { .. }), "{error}");
            }
            let error = Tap::create("t0", None, Some(MacAddr([0xff; 6]))).unwrap_err();
            assert!(matches!(error, TapError::Kernel { .. }), "{error}");
            assert!(interface::mtu("t0").is_err());
        });
    }
}
