//! Path MTUs learned from the network: ICMP's fragmentation needed (RFC 1191) and ICMPv6's packet
//! too big (RFC 8201), sent back for tunnel packets.

use std::collections::HashMap;
use std::net::IpAddr;

/// Seconds that a learned MTU holds (RFC 1191, 6.3; RFC 8201, 4: ten minutes).
const LIFETIME: u32 = 600;
/// Nothing below is believed: every IPv4 host takes so much (RFC 791, 3.1).
const FLOOR_V4: u16 = 576;
/// Nothing below is believed: every IPv6 link takes so much (RFC 8200, 5).
pub(crate) const FLOOR_V6: u16 = 1280;

/// The MTUs in bytes, outer headers included, of paths to remote nodes that take less than the
/// first link.
#[derive(Debug, Default)]
pub(crate) struct PathMtus(HashMap<IpAddr, Learned>);

#[derive(Debug, Clone, Copy)]
struct Learned {
    mtu: u16,
    /// The second of the switch's clock from which it no longer holds.
    until: u32,
}

impl PathMtus {
    /// The network takes packets to `via` of up to `mtu` bytes. True when that lowers what was
    /// known; nothing raises it but time.
    pub(crate) fn note(&mut self, via: IpAddr, mtu: u32, now: u32) -> bool {
        let floor = match via {
            IpAddr::V4(_) => FLOOR_V4,
            IpAddr::V6(_) => FLOOR_V6,
        };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(floor);
        let known = self.0.get(&via).map(|learned| learned.mtu);
        if known.is_some_and(|known| known < mtu) {
            return false;
        }
        let until = now.saturating_add(LIFETIME);
        self.0.insert(via, Learned { mtu, until });
        known != Some(mtu)
    }

    /// What is known of the path to `via`.
    pub(crate) fn get(&self, via: IpAddr) -> Option<u16> {
        self.0.get(&via).map(|learned| learned.mtu)
    }

    /// Forgets what has expired, and nodes that are no longer `wanted`. True when there was any.
    pub(crate) fn expire(&mut self, now: u32, mut wanted: impl FnMut(IpAddr) -> bool) -> bool {
        let before = self.0.len();
        self.0
            .retain(|via, learned| now < learned.until && wanted(*via));
        self.0.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 77, 2));
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));

    #[test]
    fn an_mtu_falls_to_the_floor_at_most_and_never_rises() {
        let mut mtus = PathMtus::default();
        assert_eq!(mtus.get(V4), None);
        assert!(mtus.note(V4, 1400, 0));
        assert!(!mtus.note(V4, 1500, 1));
        assert_eq!(mtus.get(V4), Some(1400));
        assert!(mtus.note(V4, 0, 2));
        assert_eq!(mtus.get(V4), Some(576));
        assert!(mtus.note(V6, 68, 2));
        assert_eq!(mtus.get(V6), Some(1280));
        assert!(!mtus.note(V6, u32::MAX, 3));
    }

    #[test]
    fn an_mtu_expires_unless_it_is_said_again() {
        let mut mtus = PathMtus::default();
        mtus.note(V4, 1400, 100);
        mtus.note(V6, 1300, 100);
        assert!(!mtus.note(V6, 1300, 400), "known already");
        assert!(!mtus.expire(699, |_| true));
        assert!(mtus.expire(700, |_| true));
        assert_eq!((mtus.get(V4), mtus.get(V6)), (None, Some(1300)));
        assert!(mtus.expire(999, |via| via != V6), "no route names it");
        assert_eq!(mtus.get(V6), None);
    }
}
