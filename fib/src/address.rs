//! The two address families, as the integers that tables count in.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::{BitAnd, BitOr, BitXor, Not};

use ipnet::{Ipv4Net, Ipv6Net};

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u128 {}
}

/// An address in host byte order: `u32` for IPv4, `u128` for IPv6. Implemented for nothing else.
pub trait Address:
    sealed::Sealed
    + Copy
    + Ord
    + Hash
    + Debug
    + Send
    + Sync
    + 'static
    + Not<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
{
    /// The address as the standard library has it.
    type Ip: Copy + Debug + From<Self> + Into<Self>;
    /// A prefix as the caller has it.
    type Net: Copy + Debug;

    /// The length of an address in bits.
    const BITS: u8;
    /// Where the record of routes is divided: at this length and below, and beyond.
    const SPLIT: u8;
    /// All bits 0.
    const ZERO: Self;
    /// All bits 1.
    const MAX: Self;

    /// `self << by`; 0 if `by` is [`BITS`](Self::BITS) or more.
    #[must_use]
    fn left(self, by: u8) -> Self;
    /// `self >> by`; 0 if `by` is [`BITS`](Self::BITS) or more.
    #[must_use]
    fn right(self, by: u8) -> Self;
    /// The next greater address; `None` after the last.
    fn successor(self) -> Option<Self>;
    /// The next smaller address; `None` before 0.
    fn predecessor(self) -> Option<Self>;
    /// The number of bits that both begin with alike.
    fn common_bits(self, other: Self) -> u8;
    /// An address with these low bits.
    fn from_low(low: u32) -> Self;
    /// The low 32 bits.
    fn low(self) -> u32;
    /// Address (host bits and all) and length of a prefix.
    fn from_net(net: Self::Net) -> (Self, u8);
    /// The prefix of `len` bits, at most [`BITS`](Self::BITS), at this address.
    fn to_net(self, len: u8) -> Self::Net;
}

macro_rules! address {
    ($int:ty, $ip:ty, $net:ty, split $split:literal) => {
        impl Address for $int {
            type Ip = $ip;
            type Net = $net;

            const BITS: u8 = <$int>::BITS as u8;
            const SPLIT: u8 = $split;
            const ZERO: Self = 0;
            const MAX: Self = <$int>::MAX;

            #[inline]
            fn left(self, by: u8) -> Self {
                self.checked_shl(u32::from(by)).unwrap_or(0)
            }

            #[inline]
            fn right(self, by: u8) -> Self {
                self.checked_shr(u32::from(by)).unwrap_or(0)
            }

            #[inline]
            fn successor(self) -> Option<Self> {
                self.checked_add(1)
            }

            #[inline]
            fn predecessor(self) -> Option<Self> {
                self.checked_sub(1)
            }

            #[inline]
            fn common_bits(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }

            #[inline]
            fn from_low(low: u32) -> Self {
                Self::from(low)
            }

            #[inline]
            fn low(self) -> u32 {
                self as u32
            }

            fn from_net(net: Self::Net) -> (Self, u8) {
                (net.addr().into(), net.prefix_len())
            }

            fn to_net(self, len: u8) -> Self::Net {
                // A length beyond the address is all that can be refused.
                <$net>::new(self.into(), len).unwrap_or_default()
            }
        }
    };
}

address!(u32, Ipv4Addr, Ipv4Net, split 16);
address!(u128, Ipv6Addr, Ipv6Net, split 24);

#[cfg(test)]
mod tests {
    use super::*;

    fn shifts_end_at_zero<A: Address>() {
        assert_eq!(A::MAX.left(A::BITS), A::ZERO);
        assert_eq!(A::MAX.right(A::BITS), A::ZERO);
        assert_eq!(A::MAX.right(A::BITS - 1), A::from_low(1));
        assert_eq!(A::from_low(1).left(A::BITS - 1).common_bits(A::MAX), 1);
        assert_eq!(A::ZERO.common_bits(A::ZERO), A::BITS);
        assert_eq!((A::MAX.successor(), A::ZERO.predecessor()), (None, None));
        assert_eq!(A::from_low(6).successor(), Some(A::from_low(7)));
        assert_eq!(A::from_low(6).predecessor(), Some(A::from_low(5)));
        assert_eq!(A::MAX.low(), u32::MAX);
    }

    #[test]
    fn integers() {
        shifts_end_at_zero::<u32>();
        shifts_end_at_zero::<u128>();
    }

    #[test]
    fn nets_come_back() {
        let v4: Ipv4Net = "10.1.2.3/20".parse().unwrap();
        let v6: Ipv6Net = "2001:db8::1/120".parse().unwrap();
        let (address, len) = u32::from_net(v4);
        assert_eq!((address, len), (0x0a01_0203, 20));
        assert_eq!(address.to_net(len), v4);
        let (address, len) = u128::from_net(v6);
        assert_eq!((address >> 96, address.low(), len), (0x2001_0db8, 1, 120));
        assert_eq!(address.to_net(len), v6);
    }
}
