//! Offloads of network devices: `SIOCETHTOOL` with the feature commands of
//! include/uapi/linux/ethtool.h, in the calling thread's network namespace.

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::interface::is_valid_name;

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// The names of features (`enum ethtool_stringset`).
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a name, with its NUL or NULs (`ETH_GSTRING_LEN`).
const NAME_LEN: usize = 32;
/// More features than any kernel has (they are bits of a `netdev_features_t`, 64 so far).
const FEATURES_MAX: usize = 1024;

/// Turns features of `device` off, by the names that `ethtool -k` shows in its source's form (such
/// as `tx-vlan-hw-insert`). Names that this kernel does not know, and features that the device
/// does not have or cannot change, are passed over.
///
/// # Errors
/// `InvalidInput` for an impossible name, ENODEV without such a device, EPERM without
/// `CAP_NET_ADMIN`.
pub fn turn_off(device: &str, features: &[&str]) -> io::Result<()> {
    let socket = Ethtool::open(device)?;
    let names = socket.names()?;
    // `struct ethtool_sfeatures`: the command, the number of blocks, and for each 32 features a
    // mask of those that are meant and one of those that are wanted.
    let mut request = vec![ETHTOOL_SFEATURES, blocks(&names)];
    for names in names.chunks(32) {
        let meant = names
            .iter()
            .enumerate()
            .filter(|(_, name)| features.contains(&name.as_str()))
            .fold(0u32, |mask, (bit, _)| mask | 1 << bit);
        request.extend([meant, 0]);
    }
    socket.call(&mut request)
}

/// The features of `device` that are on.
///
/// # Errors
/// As [`turn_off`].
pub fn active(device: &str) -> io::Result<Vec<String>> {
    let socket = Ethtool::open(device)?;
    let names = socket.names()?;
    // `struct ethtool_gfeatures`: the command, the number of blocks, and for each 32 features the
    // masks available, requested, active and never changed.
    let blocks = blocks(&names);
    let mut request = vec![ETHTOOL_GFEATURES, blocks];
    request.resize(2 + 4 * blocks as usize, 0);
    socket.call(&mut request)?;
    let active = request
        .get(2..)
        .unwrap_or_default()
        .chunks_exact(4)
        .map(|block| block.get(2).copied().unwrap_or(0));
    let mut on = Vec::new();
    for (names, mask) in names.chunks(32).zip(active) {
        let is_on = |bit: usize| mask >> bit & 1 == 1;
        let names = names.iter().enumerate();
        on.extend(
            names
                .filter(|(bit, _)| is_on(*bit))
                .map(|(_, name)| name.clone()),
        );
    }
    Ok(on)
}

/// How many blocks of 32 features there are.
fn blocks(names: &[String]) -> u32 {
    u32::try_from(names.len().div_ceil(32)).unwrap_or(u32::MAX)
}

struct Ethtool<'a> {
    socket: std::os::fd::OwnedFd,
    device: &'a str,
}

impl<'a> Ethtool<'a> {
    fn open(device: &'a str) -> io::Result<Self> {
        if !is_valid_name(device) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self { socket, device })
    }

    /// The names of all features of this kernel, by their bit.
    fn names(&self) -> io::Result<Vec<String>> {
        // `struct ethtool_sset_info`: the command, a reserved word, a mask of 64 bits, and the
        // number of strings of each set in it.
        let [low, high] = halves(1 << ETH_SS_FEATURES);
        let mut request = [ETHTOOL_GSSET_INFO, 0, low, high, 0];
        self.call(&mut request)?;
        let [.., count] = request;
        let many = usize::try_from(count).unwrap_or(usize::MAX);
        if many == 0 || many > FEATURES_MAX {
            return Err(io::Error::other("the kernel does not name its offloads"));
        }
        // `struct ethtool_gstrings`: the command, the set, the number of strings, the strings.
        let mut request = vec![ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count];
        request.resize(3 + many * NAME_LEN / 4, 0);
        self.call(&mut request)?;
        let text: Vec<u8> = request
            .iter()
            .skip(3)
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let name = |bytes: &[u8]| {
            let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        Ok(text.chunks_exact(NAME_LEN).map(name).collect())
    }

    /// Carries out the command in `request`, which has room for its answer.
    fn call(&self, request: &mut [u32]) -> io::Result<()> {
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(self.device.bytes()) {
            *to = from.cast_signed() as libc::c_char;
        }
        let mut ifreq = libc::ifreq {
            ifr_name: name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: request.as_mut_ptr().cast(),
            },
        };
        // SAFETY: needed because no safe wrapper knows this request. The kernel reads `ifreq`,
        // whose name ends with a NUL (`is_valid_name` allows 15 bytes), and follows its pointer to
        // `request`, borrowed exclusively for the call. There it reads and writes what the
        // command says, and each caller gives that much: GSSET_INFO one word for the one set;
        // GSTRINGS as many names as GSSET_INFO told, which is a constant of the running kernel;
        // GFEATURES and SFEATURES as many blocks as their second word says.
        let result = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCETHTOOL,
                std::ptr::from_mut(&mut ifreq),
            )
        };
        // Positive answers of SFEATURES are remarks (`enum ethtool_sfeatures_retval_bits`).
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// A number of 64 bits as the two words that it takes in memory.
fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_ne_bytes();
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::TestNetns;

    #[test]
    fn what_is_turned_off_is_off_and_nothing_else() {
        let netns = TestNetns::new();
        netns.link("d0", "");
        netns.run(|| {
            let before = active("d0").unwrap();
            let off = ["tx-vlan-hw-insert", "tx-checksum-sctp"];
            for name in off {
                assert!(before.iter().any(|on| on == name), "{name}: {before:?}");
            }
            turn_off(
                "d0",
                &["tx-vlan-hw-insert", "tx-checksum-sctp", "no-such-feature"],
            )
            .unwrap();
            let mut wanted = before.clone();
            wanted.retain(|on| !off.contains(&on.as_str()));
            assert_eq!(active("d0").unwrap(), wanted);
            turn_off("d0", &off).unwrap();
            assert_eq!(active("d0").unwrap(), wanted, "again");
            assert_eq!(active("d0p").unwrap(), before, "the other end");
        });
        let shown = netns.command("ethtool", &["-k", "d0"]);
        assert!(shown.contains("tx-vlan-offload: off"), "{shown}");
        assert!(shown.contains("tx-checksum-sctp: off"), "{shown}");
        assert!(shown.contains("tx-vlan-stag-hw-insert: on"), "{shown}");
    }

    #[test]
    fn a_missing_device_is_an_error() {
        let netns = TestNetns::new();
        netns.run(|| {
            let error = turn_off("nothere", &["tx-vlan-hw-insert"]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{error}");
            let error = active("a name that no link has").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        });
    }
}
