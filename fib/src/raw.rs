//! The width of a batch lookup's results.

use std::ops::BitOr;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

/// What a batch lookup can write its raw results into: `u16`, `u32` or `u64`, so that a caller
/// gets them as wide as its own indexes. The value is the same in each: 0 for a miss, else the
/// next hop's index plus 1, at most 32,767.
pub trait RawWidth: sealed::Sealed + Copy + Eq + BitOr<Output = Self> {
    /// Widens a raw result.
    fn from_raw(raw: u16) -> Self;
    /// The raw result again.
    fn to_raw(self) -> u16;
}

macro_rules! raw_width {
    ($($int:ty)*) => {$(
        impl RawWidth for $int {
            #[inline]
            fn from_raw(raw: u16) -> Self {
                raw.into()
            }

            #[inline]
            fn to_raw(self) -> u16 {
                self as u16
            }
        }
    )*};
}

raw_width!(u16 u32 u64);
