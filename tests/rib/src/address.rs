//! The two address families.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::synthetic::{self, Shape};

/// An address in host order: `u32` for IPv4, `u128` for IPv6.
pub trait Address: Copy + Ord + Hash + Debug + Send + Sync + 'static {
    /// The prefixes of this family.
    type Net: Copy + Ord + Hash + Debug + Display + FromStr<Err: Display> + Send + Sync + 'static;

    /// The bits of an address: 32 or 128.
    const BITS: u8;
    /// The longest prefix that BGP routers pass on: /24 or /48. Pods' routes are longer.
    const LONGEST_GLOBAL: u8;
    /// The name of the family, as it begins the names of files: `ipv4` or `ipv6`.
    const FAMILY: &'static str;

    /// The address as the low [`BITS`](Self::BITS) of a number.
    fn to_bits(self) -> u128;

    /// The address of the low [`BITS`](Self::BITS) of `bits`.
    fn from_bits(bits: u128) -> Self;

    /// The address with all bits after the first `len` cleared.
    fn truncated(self, len: u8) -> Self;

    /// The prefix of length `len` that the address lies in.
    ///
    /// # Panics
    ///
    /// If `len` is greater than [`BITS`](Self::BITS).
    fn net(self, len: u8) -> Self::Net;

    /// The first address of a prefix.
    fn first(net: Self::Net) -> Self;

    /// The last address of a prefix.
    fn last(net: Self::Net) -> Self;

    /// The length of a prefix.
    fn prefix_len(net: Self::Net) -> u8;

    /// The make-up of the real table of this family.
    #[doc(hidden)]
    fn shape() -> &'static Shape;
}

macro_rules! address {
    ($address:ty, $net:ty, $longest:literal, $family:literal, $shape:path) => {
        impl Address for $address {
            type Net = $net;

            const BITS: u8 = <$address>::BITS as u8;
            const LONGEST_GLOBAL: u8 = $longest;
            const FAMILY: &'static str = $family;

            fn to_bits(self) -> u128 {
                self.into()
            }

            fn from_bits(bits: u128) -> Self {
                bits as $address
            }

            #[inline]
            fn truncated(self, len: u8) -> Self {
                let host = <$address>::MAX.checked_shr(len.into()).unwrap_or(0);
                self & !host
            }

            fn net(self, len: u8) -> $net {
                <$net>::new(self.into(), len)
                    .unwrap_or_else(|_| panic!("an {} prefix has no length {len}", $family))
                    .trunc()
            }

            fn first(net: $net) -> Self {
                net.network().into()
            }

            fn last(net: $net) -> Self {
                net.broadcast().into()
            }

            fn prefix_len(net: $net) -> u8 {
                net.prefix_len()
            }

            fn shape() -> &'static Shape {
                &$shape
            }
        }
    };
}

address!(u32, Ipv4Net, 24, "ipv4", synthetic::IPV4);
address!(u128, Ipv6Net, 48, "ipv6", synthetic::IPV6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_have_edges() {
        let net = 0x0a01_02ff_u32.net(24);
        assert_eq!(net.to_string(), "10.1.2.0/24");
        assert_eq!(
            (u32::first(net), u32::last(net), u32::prefix_len(net)),
            (0x0a01_0200, 0x0a01_02ff, 24)
        );
        let all = u128::MAX.net(0);
        assert_eq!((u128::first(all), u128::last(all)), (0, u128::MAX));
    }

    #[test]
    fn truncation_is_that_of_the_prefix() {
        for len in 0..=32 {
            assert_eq!(u32::MAX.truncated(len), u32::first(u32::MAX.net(len)));
        }
        for len in 0..=128 {
            assert_eq!(u128::MAX.truncated(len), u128::first(u128::MAX.net(len)));
        }
    }

    #[test]
    fn bits_are_the_low_ones() {
        assert_eq!(u32::from_bits(0x0a00_0001_u32.to_bits()), 0x0a00_0001);
        assert_eq!(u128::from_bits(u128::MAX.to_bits()), u128::MAX);
    }
}
