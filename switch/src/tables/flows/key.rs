//! What tells a flow from another, and how it is hashed.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SOURCE_IS_V6: u64 = 1;
const DESTINATION_IS_V6: u64 = 2;

/// The tuple of a flow, in the direction of the packet it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number (IANA), behind any extension headers.
    pub protocol: u8,
    /// Source port; 0 where the protocol has none, and for fragments.
    pub source_port: u16,
    /// Destination port; 0 where the protocol has none, and for fragments.
    pub destination_port: u16,
}

impl FlowKey {
    /// The tuple of the flow's packets in the other direction.
    #[inline]
    pub fn reverse(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    /// The tuple of its fragments: only the first one of a packet carries ports.
    #[inline]
    pub fn without_ports(self) -> Self {
        Self {
            source_port: 0,
            destination_port: 0,
            ..self
        }
    }
}

/// A [`FlowKey`] in the words of a slot: source (2), destination (2), and
/// `source port << 48 | destination port << 32 | protocol << 8 | families`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Packed(pub(super) [u64; 5]);

/// An address as a number, and whether it is an IPv6 address.
#[inline]
fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), false),
        IpAddr::V6(address) => (address.to_bits(), true),
    }
}

fn address(high: u64, low: u64, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into()
    } else {
        Ipv4Addr::from_bits(low as u32).into()
    }
}

impl Packed {
    #[inline]
    pub(super) fn has_ports(self) -> bool {
        let [.., rest] = self.0;
        rest >> 32 != 0
    }

    #[inline]
    pub(super) fn without_ports(self) -> Self {
        let [a, b, c, d, rest] = self.0;
        Self([a, b, c, d, rest & u64::from(u32::MAX)])
    }
}

impl From<FlowKey> for Packed {
    #[inline]
    fn from(key: FlowKey) -> Self {
        let (source, source_is_v6) = number(key.source);
        let (destination, destination_is_v6) = number(key.destination);
        let mut rest = u64::from(key.source_port) << 48
            | u64::from(key.destination_port) << 32
            | u64::from(key.protocol) << 8;
        if source_is_v6 {
            rest |= SOURCE_IS_V6;
        }
        if destination_is_v6 {
            rest |= DESTINATION_IS_V6;
        }
        Self([
            (source >> 64) as u64,
            source as u64,
            (destination >> 64) as u64,
            destination as u64,
            rest,
        ])
    }
}

impl From<Packed> for FlowKey {
    fn from(Packed([a, b, c, d, rest]): Packed) -> Self {
        Self {
            source: address(a, b, rest & SOURCE_IS_V6 != 0),
            destination: address(c, d, rest & DESTINATION_IS_V6 != 0),
            protocol: (rest >> 8) as u8,
            source_port: (rest >> 48) as u16,
            destination_port: (rest >> 32) as u16,
        }
    }
}

/// The 64-bit finalizer of MurmurHash3: one to one, and every bit depends on all.
#[inline]
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is fast", 2014):
/// over all secrets, any two keys agree in any `n` chosen bits of the hash with a probability of
/// `2^-n`. Pods choose the keys, so that must not depend on what the keys look like. As it is
/// linear, though, keys in a row give hashes in a row, which under some secrets crowd into few
/// buckets; [`mix`] ends that, and being one to one it keeps the promise.
pub(super) struct Secret {
    base: u128,
    factors: [u128; 5],
}

impl Secret {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        let word = |n: u64| {
            u128::from(random.hash_one(2 * n)) << 64 | u128::from(random.hash_one(2 * n + 1))
        };
        Self {
            base: word(0),
            factors: [word(1), word(2), word(3), word(4), word(5)],
        }
    }

    #[inline]
    pub(super) fn hash(&self, key: Packed) -> u64 {
        let products = self.factors.iter().zip(key.0);
        let sum = products.fold(self.base, |sum, (factor, word)| {
            sum.wrapping_add(factor.wrapping_mul(u128::from(word)))
        });
        mix((sum >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: &str, destination: &str) -> FlowKey {
        let [source, destination] = [source, destination].map(|text| match text.parse() {
            Ok(address) => address,
            Err(error) => panic!("{text}: {error}"),
        });
        FlowKey {
            source,
            destination,
            protocol: 6,
            source_port: 40_000,
            destination_port: 443,
        }
    }

    #[test]
    fn packs_and_unpacks() {
        for key in [
            key("10.1.0.1", "255.255.255.255"),
            key("fd00:1:2:3:4:5:6:7", "2001:db8::ffff"),
            key("::ffff:10.1.0.1", "::10.1.0.2"),
            key("0.0.0.0", "::"),
        ] {
            assert_eq!(FlowKey::from(Packed::from(key)), key);
            assert_eq!(key.reverse().reverse(), key);
            assert_ne!(Packed::from(key.reverse()), Packed::from(key));
            let bare = key.without_ports();
            assert_eq!(Packed::from(key).without_ports(), Packed::from(bare));
            assert!(Packed::from(key).has_ports() && !Packed::from(bare).has_ports());
        }
    }

    #[test]
    fn families_do_not_mix() {
        let four = Packed::from(key("10.1.0.1", "10.1.0.2"));
        let six = Packed::from(key("::10.1.0.1", "::10.1.0.2"));
        assert_ne!(four, six);
    }

    #[test]
    fn numbered_keys_spread_over_buckets() {
        // Flows that are numbered in a row, into 1024 buckets with 8 each on average. How evenly
        // they lie, the sum of squares tells; it stays where chance puts it under any secret.
        for shift in (0..64).step_by(16).cycle().take(100) {
            let secret = Secret::new();
            let mut buckets = vec![0u32; 1024];
            for n in 0..8192u64 {
                let hash = secret.hash(Packed([0, n << shift, 0, 1, 2]));
                if let Some(bucket) = buckets.get_mut(hash as usize & 1023) {
                    *bucket += 1;
                }
            }
            assert_eq!(buckets.iter().sum::<u32>(), 8192);
            let squares: u32 = buckets.iter().map(|count| count * count).sum();
            // 72 x 1024 is expected of a random function, give or take a few hundred.
            assert!(squares < 80 * 1024, "shift {shift}: {squares}");
        }
    }
}
