//! The value of a route.

use std::fmt;

/// The index of a next hop in the caller's table: 0 to 32,766.
///
/// The range is what a 16-bit table entry can hold beside "no route" and "look in the second
/// level".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHopIndex(u16);

impl NextHopIndex {
    /// The greatest index. There are `MAX + 1` = 32,767 next hops.
    pub const MAX: Self = Self(32_766);

    /// The next hop with this index, or `None` if it is greater than [`NextHopIndex::MAX`].
    pub const fn new(index: u16) -> Option<Self> {
        if index <= Self::MAX.0 {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The index, 0 to 32,766.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// From the raw form that a batch lookup writes: 0 is a miss, anything else the index plus 1.
    /// Values above 32,767 are never written and give `None`.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        match raw {
            1..=32_767 => Some(Self(raw - 1)),
            _ => None,
        }
    }

    /// The raw form: the index plus 1, 1 to 32,767.
    pub const fn to_raw(self) -> u16 {
        self.0 + 1
    }
}

impl fmt::Debug for NextHopIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NextHopIndex({})", self.0)
    }
}

impl fmt::Display for NextHopIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a route leads to: [`NextHopIndex`], or a caller's own type that is one and the same, such
/// as a newtype, so that the indexes of two tables of next hops cannot be confused. Implemented
/// for all such types.
///
/// ```
/// use shunt_fib::{Fib4Config, Fib4Writer, NextHopIndex};
///
/// #[derive(Debug, Clone, Copy, PartialEq)]
/// struct Tunnel(NextHopIndex);
///
/// impl From<NextHopIndex> for Tunnel {
///     fn from(index: NextHopIndex) -> Self {
///         Self(index)
///     }
/// }
///
/// impl From<Tunnel> for NextHopIndex {
///     fn from(tunnel: Tunnel) -> Self {
///         tunnel.0
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = Fib4Writer::<Tunnel>::new(Fib4Config::default())?;
/// let tunnel = Tunnel(NextHopIndex::MAX);
/// writer.insert("10.0.0.0/8".parse()?, tunnel)?;
/// assert_eq!(writer.reader()?.lookup("10.1.2.3".parse()?), Some(tunnel));
/// # Ok(())
/// # }
/// ```
pub trait Value: Copy + From<NextHopIndex> + Into<NextHopIndex> {}

impl<V: Copy + From<NextHopIndex> + Into<NextHopIndex>> Value for V {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_what_an_entry_holds() {
        assert_eq!(NextHopIndex::new(32_766), Some(NextHopIndex::MAX));
        assert_eq!(NextHopIndex::new(32_767), None);
        assert_eq!(NextHopIndex::new(u16::MAX), None);
    }

    #[test]
    fn raw_form_is_one_to_one() {
        for index in 0..=NextHopIndex::MAX.get() {
            let hop = NextHopIndex::new(index).unwrap();
            assert_eq!(NextHopIndex::from_raw(hop.to_raw()), Some(hop));
            assert_eq!(hop.get(), index);
        }
        assert_eq!(NextHopIndex::from_raw(0), None);
        assert_eq!(NextHopIndex::from_raw(0x8000), None);
        assert_eq!(NextHopIndex::from_raw(u16::MAX), None);
    }
}
