//! The checksum that shows that two tables give every address the same answer.

/// FNV-1a over the words position and hop, 64 bits wide: the answer of each address counts, and
/// its place. `peers/fib_dpdk.c` has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum {
    sum: u64,
    position: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self {
            sum: 0xcbf2_9ce4_8422_2325,
            position: 0,
        }
    }
}

impl Checksum {
    const PRIME: u64 = 0x0100_0000_01b3;

    /// Takes the next address's hop; 0 is a miss.
    pub(super) fn add(&mut self, hop: u16) {
        self.sum = (self.sum ^ self.position).wrapping_mul(Self::PRIME);
        self.sum = (self.sum ^ u64::from(hop)).wrapping_mul(Self::PRIME);
        self.position += 1;
    }

    /// The checksum of all.
    pub(super) fn get(self) -> u64 {
        self.sum
    }
}

impl FromIterator<u16> for Checksum {
    fn from_iter<I: IntoIterator<Item = u16>>(hops: I) -> Self {
        let mut checksum = Self::default();
        hops.into_iter().for_each(|hop| checksum.add(hop));
        checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hops: &[u16]) -> u64 {
        hops.iter().copied().collect::<Checksum>().get()
    }

    #[test]
    fn one_differing_answer_shows() {
        let hops: Vec<u16> = (0..10_000).map(|n| n % 256).collect();
        let good = of(&hops);
        for place in [0, 1, 4_999, 9_999] {
            for other in [0, hops[place] ^ 1, 0xffff] {
                let mut bad = hops.clone();
                bad[place] = other;
                assert_eq!(of(&bad) == good, bad == hops, "{place} {other}");
            }
        }
    }

    #[test]
    fn answers_that_change_places_show() {
        assert_ne!(of(&[1, 2, 3]), of(&[2, 1, 3]));
        assert_ne!(of(&[0, 1]), of(&[1, 0]));
        assert_ne!(of(&[0, 0]), of(&[0]));
    }
}
