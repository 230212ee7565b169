//! A prefix as the integers that tables count in.

use crate::Address;

/// A prefix without host bits. The order is by address, then by length, so that a prefix stands
/// directly before those inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix<A> {
    bits: A,
    len: u8,
}

impl<A: Address> Prefix<A> {
    /// The prefix of all addresses.
    pub(crate) const ALL: Self = Self {
        bits: A::ZERO,
        len: 0,
    };

    /// The prefix of `len` bits, at most as many as an address has, that `address` lies in.
    #[inline]
    pub(crate) fn of(address: A, len: u8) -> Self {
        let len = len.min(A::BITS);
        Self {
            bits: address & A::MAX.left(A::BITS - len),
            len,
        }
    }

    /// The prefix of one address.
    #[inline]
    pub(crate) fn host(address: A) -> Self {
        Self {
            bits: address,
            len: A::BITS,
        }
    }

    pub(crate) fn from_net(net: A::Net) -> Self {
        let (address, len) = A::from_net(net);
        Self::of(address, len)
    }

    pub(crate) fn to_net(self) -> A::Net {
        self.bits.to_net(self.len)
    }

    #[inline]
    pub(crate) fn len(self) -> u8 {
        self.len
    }

    #[inline]
    pub(crate) fn first(self) -> A {
        self.bits
    }

    #[inline]
    pub(crate) fn last(self) -> A {
        self.bits | A::MAX.right(self.len)
    }

    /// The prefix one bit shorter around this one; `None` around /0.
    pub(crate) fn parent(self) -> Option<Self> {
        Some(Self::of(self.bits, self.len.checked_sub(1)?))
    }

    /// True if `other` is this prefix or lies in it.
    #[inline]
    pub(crate) fn contains(self, other: Self) -> bool {
        self.len <= other.len && Self::of(other.bits, self.len) == self
    }

    /// The longest prefix that both lie in.
    #[inline]
    pub(crate) fn common(self, other: Self) -> Self {
        let same = self.bits.common_bits(other.bits);
        Self::of(self.bits, same.min(self.len).min(other.len))
    }
}

#[cfg(test)]
mod tests {
    use ipnet::{Ipv4Net, Ipv6Net};

    use super::*;

    fn v4(text: &str) -> Prefix<u32> {
        Prefix::from_net(text.parse::<Ipv4Net>().unwrap())
    }

    fn v6(text: &str) -> Prefix<u128> {
        Prefix::from_net(text.parse::<Ipv6Net>().unwrap())
    }

    #[test]
    fn host_bits_are_dropped() {
        assert_eq!(v4("10.1.2.3/8"), v4("10.0.0.0/8"));
        assert_eq!(v4("255.255.255.255/0"), Prefix::ALL);
        assert_eq!(v4("10.1.2.3/31").to_net().to_string(), "10.1.2.2/31");
        assert_eq!(v6("2001:db8::1/64").to_net().to_string(), "2001:db8::/64");
    }

    #[test]
    fn edges() {
        let all = v4("0.0.0.0/0");
        assert_eq!((all.first(), all.last()), (0, u32::MAX));
        let one = v4("255.255.255.255/32");
        assert_eq!((one.first(), one.last()), (u32::MAX, u32::MAX));
        assert_eq!(one, Prefix::host(u32::MAX));
        let some = v4("10.0.0.0/25");
        assert_eq!((some.first(), some.last()), (0x0a00_0000, 0x0a00_007f));
        let all = v6("::/0");
        assert_eq!((all.first(), all.last()), (0, u128::MAX));
        let one = v6("::5/128");
        assert_eq!((one.first(), one.last()), (5, 5));
    }

    #[test]
    fn relations() {
        let (wide, narrow) = (v4("10.0.0.0/8"), v4("10.128.0.0/9"));
        assert!(wide.contains(narrow) && wide.contains(wide) && !narrow.contains(wide));
        assert!(!narrow.contains(v4("10.0.0.0/9")));
        assert_eq!(narrow.parent(), Some(wide));
        assert_eq!(v4("0.0.0.0/0").parent(), None);
        assert_eq!(v4("10.0.0.0/9").common(narrow), wide);
        assert_eq!(v4("0.0.0.0/32").common(v4("128.0.0.0/32")), v4("0.0.0.0/0"));
        assert_eq!(wide.common(wide), wide);
        assert_eq!(v6("::1/128").common(v6("::2/128")), v6("::/126"));
    }

    #[test]
    fn a_prefix_stands_before_those_inside() {
        let ordered = [
            "0.0.0.0/0",
            "0.0.0.0/32",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.0.0.1/32",
            "10.128.0.0/9",
        ]
        .map(v4);
        assert!(ordered.is_sorted());
    }
}
