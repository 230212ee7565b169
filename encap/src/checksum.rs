//! The Internet checksum: RFC 1071, pseudo-headers (RFC 768, RFC 9293, RFC 8200), and incremental
//! update (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::udp;

/// A one's complement sum in the making, over bytes given in order and in any cut.
///
/// Each method takes the sum and gives the new one, so that sums chain and a prefix can be kept:
/// ```
/// use shunt_encap::Checksum;
/// let whole = Checksum::new().add(&[1, 2, 3, 4, 5]).finish();
/// assert_eq!(Checksum::new().add(&[1]).add(&[2, 3]).add(&[4, 5]).finish(), whole);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Checksum {
    /// Sum of big-endian 16-bit words, not folded.
    sum: u64,
    /// An odd number of bytes has been added: the next byte is the low half of a word.
    odd: bool,
}

impl Checksum {
    /// The sum of nothing.
    #[inline]
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Adds the bytes that follow. Exact for slices of up to 64 GiB.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "RFC 1071 adds; `+` on bytes would not read"
    )]
    pub fn add(self, bytes: &[u8]) -> Self {
        self.push(fold(sum_native(bytes)).to_be(), bytes.len() % 2 == 1)
    }

    /// Adds a 16-bit word. After an odd number of bytes it lies across two words, as bytes would.
    #[inline]
    pub fn add_u16(self, word: u16) -> Self {
        self.push(word, false)
    }

    /// Adds the IPv4 pseudo-header (RFC 768): addresses, protocol, and `len`, the bytes of the
    /// transport header and its payload.
    #[inline]
    pub fn add_pseudo_v4(self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> Self {
        let [a, b, c, d] = src.octets();
        let [e, f, g, h] = dst.octets();
        self.add(&[a, b, c, d, e, f, g, h])
            .add_u16(u16::from(protocol))
            .add_u16(len)
    }

    /// Adds the IPv6 pseudo-header (RFC 8200, section 8.1): addresses, `len`, the bytes of the
    /// upper-layer header and its payload, and the upper-layer protocol.
    #[inline]
    pub fn add_pseudo_v6(self, src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: u32) -> Self {
        self.add(&src.octets())
            .add(&dst.octets())
            .add(&len.to_be_bytes())
            .add_u16(u16::from(protocol))
    }

    /// Adds the sum of the bytes that follow these.
    #[inline]
    pub fn combine(self, following: Self) -> Self {
        self.push(fold(following.sum), following.odd)
    }

    /// The folded sum, not inverted: what CHECKSUM_PARTIAL puts into the field when only the
    /// pseudo-header was added.
    #[inline]
    #[must_use]
    pub fn folded(self) -> u16 {
        fold(self.sum)
    }

    /// The checksum: the folded sum inverted. It is 0 over bytes that contain their own right
    /// checksum.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u16 {
        !self.folded()
    }

    /// As [`Checksum::finish`], for a field `offset` bytes into its transport header: UDP's, which
    /// no other protocol has at its place, as [`Checksum::finish_udp`].
    #[inline]
    #[must_use]
    pub fn finish_at(self, offset: usize) -> u16 {
        if offset == udp::field::CHECKSUM.start {
            self.finish_udp()
        } else {
            self.finish()
        }
    }

    /// As [`Checksum::finish`] for a UDP header, where 0 would mean "none" and is sent as 0xffff
    /// (RFC 768).
    #[inline]
    #[must_use]
    pub fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    #[inline]
    fn push(self, word: u16, odd: bool) -> Self {
        let word = if self.odd { word.swap_bytes() } else { word };
        // 2^48 words before this wraps.
        Self {
            sum: self.sum.wrapping_add(u64::from(word)),
            odd: self.odd ^ odd,
        }
    }
}

/// Folds carries until 16 bits are left; 0 only for 0.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// Sums the 16-bit words of `bytes` in the machine's byte order, a last odd byte padded with zero.
///
/// RFC 1071, section 2(B): the order only swaps the bytes of the sum. The two halves of 64-bit
/// words go to separate accumulators, so that no addition waits for another's carry and the loop
/// vectorises.
#[inline]
fn sum_native(bytes: &[u8]) -> u64 {
    let mut lanes = [0u64; 4];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            let word = native(word);
            *lane = lane.wrapping_add((word & 0xffff_ffff) + (word >> 32));
        }
    }
    let mut words = blocks.remainder().chunks_exact(8);
    let mut sum = 0u64;
    for word in &mut words {
        let word = native(word);
        sum = sum.wrapping_add((word & 0xffff_ffff) + (word >> 32));
    }
    let mut rest = words.remainder();
    if let Some((word, behind)) = rest.split_first_chunk() {
        sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
        rest = behind;
    }
    if let Some((word, behind)) = rest.split_first_chunk() {
        sum = sum.wrapping_add(u64::from(u16::from_ne_bytes(*word)));
        rest = behind;
    }
    if let Some(last) = rest.first() {
        sum = sum.wrapping_add(u64::from(u16::from_ne_bytes([*last, 0])));
    }
    lanes.iter().fold(sum, |sum, lane| sum.wrapping_add(*lane))
}

/// True when a header of 20 bytes holds its right checksum.
#[inline]
pub(crate) fn is_right_20(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum = words
        .iter()
        .fold(0, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)));
    fold(sum) == 0xffff
}

#[inline]
fn native(word: &[u8]) -> u64 {
    word.try_into().map_or(0, u64::from_ne_bytes)
}

/// The checksum after a 16-bit word that it covers changed from `old` to `new` (RFC 1624,
/// equation 3).
#[inline]
#[must_use]
pub const fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// As [`update_u16`] for a 32-bit field that begins at an even offset.
#[inline]
#[must_use]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, section 4.1, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Checksum::new().add(&bytes).folded(), 0xddf2);
        assert_eq!(Checksum::new().add(&bytes).finish(), !0xddf2);
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: a header with checksum 0xdd2f in which 0x5555 becomes 0x3285.
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn every_length_to_300_as_naive() {
        let bytes: Vec<u8> = (0..300u32).map(|i| (i * 167 + 13) as u8).collect();
        for len in 0..=bytes.len() {
            assert_eq!(
                Checksum::new().add(&bytes[..len]).finish(),
                naive(&bytes[..len]),
                "{len}"
            );
        }
    }

    #[test]
    fn extremes() {
        assert_eq!(Checksum::new().finish(), 0xffff);
        assert_eq!(Checksum::new().add(&[0; 65535]).finish(), 0xffff);
        assert_eq!(Checksum::new().add(&[0xff; 65534]).finish(), 0);
        assert_eq!(
            Checksum::new().add(&[0xff; 65535]).finish(),
            naive(&[0xff; 65535])
        );
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0), 0);
        assert_eq!(fold(0xffff), 0xffff);
        assert_eq!(fold(0x1_0000), 1);
        assert_eq!(fold(0xffff_ffff_0001_0000), 1, "carries in every fold");
    }

    #[test]
    fn all_cuts_of_a_short_run_agree() {
        let bytes = [0x12, 0xff, 0xfe, 0x80, 0x01, 0x77, 0x00];
        let whole = naive(&bytes);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (a, b, c) = (&bytes[..first], &bytes[first..second], &bytes[second..]);
                assert_eq!(Checksum::new().add(a).add(b).add(c).finish(), whole);
                let behind = Checksum::new().add(b).add(c);
                assert_eq!(Checksum::new().add(a).combine(behind).finish(), whole);
            }
        }
    }

    #[test]
    fn words_and_pseudo_headers_equal_their_bytes() {
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 168, 77, 254));
        let bytes = [10, 0, 0, 1, 192, 168, 77, 254, 0, 17, 0x12, 0x34];
        assert_eq!(
            Checksum::new().add_pseudo_v4(src, dst, 17, 0x1234).finish(),
            naive(&bytes)
        );

        let (src, dst) = (
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        );
        let mut bytes = Vec::new();
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        bytes.extend([0, 1, 0xe2, 0x40, 0, 0, 0, 6]);
        assert_eq!(
            Checksum::new().add_pseudo_v6(src, dst, 6, 123_456).finish(),
            naive(&bytes)
        );

        assert_eq!(
            Checksum::new().add(&[9]).add_u16(0x1234).add(&[7]).finish(),
            naive(&[9, 0x12, 0x34, 7])
        );
    }

    #[test]
    fn udp_never_says_none() {
        assert_eq!(Checksum::new().add(&[0xff, 0xff]).finish_udp(), 0xffff);
        assert_eq!(Checksum::new().add(&[0xff, 0xfe]).finish_udp(), 0x0001);
    }
}
