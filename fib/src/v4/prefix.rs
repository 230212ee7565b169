//! A prefix as the integers the table counts in.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A prefix without host bits. The order is by address, then by length, so that a prefix stands
/// directly before those inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    bits: u32,
    len: u8,
}

impl Prefix {
    /// The prefix of `len` bits, 0 to 32, that `address` (in host byte order) lies in.
    pub(super) fn of(address: u32, len: u8) -> Self {
        let len = len.min(32);
        let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
        Self {
            bits: address & mask,
            len,
        }
    }

    pub(super) fn len(self) -> u8 {
        self.len
    }

    pub(super) fn first(self) -> u32 {
        self.bits
    }

    pub(super) fn last(self) -> u32 {
        self.bits | u32::MAX.checked_shr(u32::from(self.len)).unwrap_or(0)
    }

    /// The prefix one bit shorter around this one; `None` around /0.
    pub(super) fn parent(self) -> Option<Self> {
        Some(Self::of(self.bits, self.len.checked_sub(1)?))
    }

    /// True if `other` is this prefix or lies in it.
    pub(super) fn contains(self, other: Self) -> bool {
        self.len <= other.len && Self::of(other.bits, self.len) == self
    }

    /// The longest prefix that both lie in.
    pub(super) fn common(self, other: Self) -> Self {
        let same = (self.bits ^ other.bits).leading_zeros() as u8;
        Self::of(self.bits, same.min(self.len).min(other.len))
    }

    /// An integer with the same order.
    pub(super) fn key(self) -> u64 {
        u64::from(self.bits) << 8 | u64::from(self.len)
    }

    pub(super) fn from_key(key: u64) -> Self {
        Self::of((key >> 8) as u32, key as u8)
    }
}

impl From<Ipv4Net> for Prefix {
    fn from(net: Ipv4Net) -> Self {
        Self::of(u32::from(net.addr()), net.prefix_len())
    }
}

impl From<Prefix> for Ipv4Net {
    fn from(prefix: Prefix) -> Self {
        // The length is at most 32, which is all that can be refused.
        Ipv4Net::new(Ipv4Addr::from(prefix.bits), prefix.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse::<Ipv4Net>().unwrap().into()
    }

    #[test]
    fn host_bits_are_dropped() {
        assert_eq!(prefix("10.1.2.3/8"), prefix("10.0.0.0/8"));
        assert_eq!(prefix("255.255.255.255/0"), prefix("0.0.0.0/0"));
        assert_eq!(
            Ipv4Net::from(prefix("10.1.2.3/31")).to_string(),
            "10.1.2.2/31"
        );
    }

    #[test]
    fn edges() {
        let all = prefix("0.0.0.0/0");
        assert_eq!((all.first(), all.last()), (0, u32::MAX));
        let one = prefix("255.255.255.255/32");
        assert_eq!((one.first(), one.last()), (u32::MAX, u32::MAX));
        let some = prefix("10.0.0.0/25");
        assert_eq!((some.first(), some.last()), (0x0a00_0000, 0x0a00_007f));
    }

    #[test]
    fn relations() {
        let (wide, narrow) = (prefix("10.0.0.0/8"), prefix("10.128.0.0/9"));
        assert!(wide.contains(narrow) && wide.contains(wide) && !narrow.contains(wide));
        assert!(!narrow.contains(prefix("10.0.0.0/9")));
        assert_eq!(narrow.parent(), Some(wide));
        assert_eq!(prefix("0.0.0.0/0").parent(), None);
        assert_eq!(prefix("10.0.0.0/9").common(narrow), wide);
        assert_eq!(
            prefix("0.0.0.0/32").common(prefix("128.0.0.0/32")),
            prefix("0.0.0.0/0")
        );
        assert_eq!(wide.common(wide), wide);
    }

    #[test]
    fn keys_keep_order_and_value() {
        let ordered = [
            "0.0.0.0/0",
            "0.0.0.0/32",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.0.0.1/32",
            "10.128.0.0/9",
        ]
        .map(prefix);
        assert!(ordered.is_sorted_by_key(|p| p.key()));
        assert_eq!(ordered.map(|p| Prefix::from_key(p.key())), ordered);
    }
}
