//! Claims to an address that another pod has: who was told of already.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::tables::PortId;

/// Seconds between two warnings of the same claim.
const QUIET: u32 = 60;
/// Claims remembered: beyond them nothing is said.
const MAX_CLAIMS: usize = 256;

/// The claims of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Conflicts(HashMap<(IpAddr, PortId), u32>);

impl Conflicts {
    /// Whether to warn at second `now` of a port's claim to an address: once in a minute.
    pub(crate) fn is_news(&mut self, address: IpAddr, port: PortId, now: u32) -> bool {
        let fresh = |said: u32| now.saturating_sub(said) < QUIET;
        if self.0.len() >= MAX_CLAIMS {
            self.0.retain(|_, said| fresh(*said));
        }
        let claim = (address, port);
        let known = self.0.get(&claim).copied();
        if known.is_some_and(fresh) || (known.is_none() && self.0.len() >= MAX_CLAIMS) {
            return false;
        }
        self.0.insert(claim, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_news_once_in_a_minute_and_a_flood_is_not() {
        let mut conflicts = Conflicts::default();
        let address = |n: u32| IpAddr::V4(n.into());
        assert!(conflicts.is_news(address(1), PortId(1), 10));
        assert!(!conflicts.is_news(address(1), PortId(1), 69));
        assert!(conflicts.is_news(address(1), PortId(2), 69), "another port");
        assert!(conflicts.is_news(address(1), PortId(1), 70));
        let news = (2..10_000).filter(|n| conflicts.is_news(address(*n), PortId(1), 71));
        assert_eq!(news.count(), MAX_CLAIMS - 2);
        assert!(
            conflicts.is_news(address(1), PortId(1), 200),
            "all forgotten"
        );
        assert!(conflicts.is_news(address(20_000), PortId(1), 200));
    }
}
