//! A rate limit.

/// Parts of a bit that a level counts. One bit per second brings one part in a nanosecond, so
/// `rate * nanoseconds` needs no division and nothing is ever rounded away.
const BILLION: i128 = 1_000_000_000;
/// An Ethernet frame of 1500 bytes with its header, a VLAN tag and the checksum.
const MIN_BURST: u32 = 1522;

/// A token bucket (RFC 2697 section 3 describes one; the kernel's `net/sched/sch_tbf.c` is
/// another): bits flow in at a fixed rate up to the burst, frames take them out.
///
/// Over any time `t` no more than `burst + rate * t` pass, plus what the last frame of
/// [`spend`](Self::spend), or one larger than the burst, exceeds the level by, which is paid back
/// before the next.
#[derive(Debug, Clone)]
pub(super) struct TokenBucket {
    /// Bits per second.
    rate: u64,
    /// In 10^-9 bit.
    burst: i128,
    /// In 10^-9 bit; negative while there is debt.
    level: i128,
    /// Nanoseconds; `None` before the first refill.
    last: Option<u64>,
}

#[inline]
fn cost(bytes: u32) -> i128 {
    i128::from(bytes) * 8 * BILLION
}

impl TokenBucket {
    /// A full bucket. `rate` is in bits per second, `burst` in bytes; a burst of less than one
    /// full Ethernet frame (1522 bytes) is raised to that.
    pub(super) fn new(rate: u64, burst: u32) -> Self {
        let burst = cost(burst.max(MIN_BURST));
        Self {
            rate,
            burst,
            level: burst,
            last: None,
        }
    }

    /// Adds what has come in by `now`, in nanoseconds of any clock that is the same for all
    /// calls: once for each batch. A `now` before an earlier one adds nothing.
    #[inline]
    pub(super) fn refill(&mut self, now: u64) {
        let last = self.last.unwrap_or(now);
        self.last = Some(last.max(now));
        let elapsed = now.saturating_sub(last);
        // Unsigned, 64 bits times 64 bits always fit.
        let gained = u128::from(self.rate) * u128::from(elapsed);
        let gained = i128::try_from(gained).unwrap_or(i128::MAX);
        self.level = self.level.saturating_add(gained).min(self.burst);
    }

    /// Takes a frame of `bytes` bytes, or nothing. A frame larger than the burst passes when the
    /// bucket is full, and leaves debt: otherwise it never would.
    #[inline]
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        let cost = cost(bytes);
        let passes = self.level >= cost.min(self.burst);
        if passes {
            self.level = self.level.saturating_sub(cost);
        }
        passes
    }

    /// Whether there is something left: a sender that may make debt may start.
    #[inline]
    pub(super) fn available(&self) -> bool {
        self.level > 0
    }

    /// Takes out `bytes` bytes, whether they are there or not.
    #[inline]
    pub(super) fn spend(&mut self, bytes: u32) {
        self.level = self.level.saturating_sub(cost(bytes));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// 1 kbit/s to 1 Tbit/s, evenly over the magnitudes.
    fn rates() -> impl Strategy<Value = u64> {
        (10..40u32, 0..1000u64).prop_map(|(magnitude, part)| {
            let base = 1u64 << magnitude;
            (base + (base >> 10) * part).clamp(1000, 1_000_000_000_000)
        })
    }

    #[test]
    fn starts_full_and_refills_at_its_rate() {
        let mut bucket = TokenBucket::new(8000, 2000);
        bucket.refill(5 * SECOND);
        assert!(bucket.take(1500) && bucket.take(500));
        assert!(!bucket.take(1) && !bucket.available());
        bucket.refill(6 * SECOND);
        assert!(bucket.available());
        assert!(!bucket.take(1001), "all or nothing");
        assert!(bucket.take(1000) && !bucket.take(1));
        bucket.refill(1000 * SECOND);
        assert!(bucket.take(2000) && !bucket.take(1), "no more than a burst");
    }

    #[test]
    fn a_small_burst_holds_a_frame_and_a_large_frame_passes() {
        let mut bucket = TokenBucket::new(8_000_000, 0);
        bucket.refill(0);
        assert!(bucket.take(1522) && !bucket.take(1));
        bucket.refill(SECOND);
        assert!(
            bucket.take(9014),
            "more than the burst, but the bucket is full"
        );
        bucket.refill(SECOND + 7_492_000);
        assert!(
            !bucket.available(),
            "debt of 7492 bytes at 1 byte per microsecond"
        );
        bucket.refill(SECOND + 7_492_001);
        assert!(bucket.available());
    }

    #[test]
    fn debt_is_paid_back() {
        let mut bucket = TokenBucket::new(8000, 2000);
        bucket.refill(0);
        bucket.spend(5000);
        bucket.refill(3 * SECOND);
        assert!(!bucket.available() && !bucket.take(1));
        bucket.refill(4 * SECOND);
        assert!(bucket.take(1000) && !bucket.take(1));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_twice() {
        let mut bucket = TokenBucket::new(8000, 2000);
        bucket.refill(10 * SECOND);
        bucket.spend(2000);
        for _ in 0..100 {
            bucket.refill(SECOND);
            bucket.refill(10 * SECOND);
        }
        assert!(!bucket.available());
        bucket.refill(11 * SECOND);
        assert!(bucket.take(1000) && !bucket.take(1));
    }

    #[test]
    fn no_fraction_is_lost_in_a_year_of_short_steps() {
        // A third of a frame per step of 7 ns: 10^6 steps, then a year at once, at odd rates.
        for rate in [1000u64, 333_333_333, 999_999_999_999] {
            let mut bucket = TokenBucket::new(rate, u32::MAX);
            bucket.refill(0);
            bucket.spend(u32::MAX);
            for step in 1..=1_000_000u64 {
                bucket.refill(step * 7);
            }
            assert_eq!(bucket.level, i128::from(rate) * 7_000_000);
        }
        let mut bucket = TokenBucket::new(u64::MAX, u32::MAX);
        bucket.refill(0);
        bucket.refill(u64::MAX);
        assert_eq!(bucket.level, bucket.burst);
    }

    proptest! {
        #[test]
        fn never_passes_more_than_burst_and_rate_allow(
            rate in rates(),
            burst in 0..200_000u32,
            steps in prop::collection::vec((0..50_000_000u64, 1..1600u32, 0..200u32), 1..100),
        ) {
            let mut bucket = TokenBucket::new(rate, burst);
            let burst = cost(burst.max(MIN_BURST));
            bucket.refill(0);
            let (mut now, mut passed) = (0u64, 0i128);
            for (step, bytes, frames) in steps {
                now += step;
                bucket.refill(now);
                let bytes = bytes.min(MIN_BURST);
                for _ in 0..frames {
                    if bucket.take(bytes) {
                        passed += cost(bytes);
                    }
                }
                prop_assert!(passed <= burst + i128::from(rate) * i128::from(now));
            }
        }

        #[test]
        fn passes_all_but_a_frame_when_demand_is_endless(
            rate in rates(),
            burst in 4000..200_000u32,
            bytes in 60..1522u32,
            steps in prop::collection::vec(1..1000u64, 1..100),
        ) {
            let mut bucket = TokenBucket::new(rate, burst);
            bucket.refill(0);
            let (mut now, mut passed) = (0u64, 0i128);
            // What is left is less than a frame; a step brings at most what then still fits.
            let room = cost(burst) - cost(bytes);
            let longest = (room / i128::from(rate)) as u64;
            for part in std::iter::once(0).chain(steps) {
                now += longest * part / 1000;
                bucket.refill(now);
                while bucket.take(bytes) {
                    passed += cost(bytes);
                }
                let allowed = cost(burst) + i128::from(rate) * i128::from(now);
                prop_assert!(passed <= allowed && passed > allowed - cost(bytes));
            }
        }

        #[test]
        fn with_debt_no_more_than_one_frame_too_many(
            rate in rates(),
            burst in 0..200_000u32,
            steps in prop::collection::vec((0..50_000_000u64, 1..65_536u32), 1..200),
        ) {
            let mut bucket = TokenBucket::new(rate, burst);
            let burst = cost(burst.max(MIN_BURST));
            bucket.refill(0);
            let (mut now, mut passed) = (0u64, 0i128);
            for (step, bytes) in steps {
                now += step;
                bucket.refill(now);
                if bucket.available() {
                    bucket.spend(bytes);
                    passed += cost(bytes);
                }
                let allowed = burst + i128::from(rate) * i128::from(now);
                prop_assert!(passed < allowed + cost(65_536));
            }
        }
    }
}
