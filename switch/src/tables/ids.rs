//! Small indices that name ports and domains on the street.

use std::fmt;

/// A port's slot in the tables. Slots are reused, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

impl PortId {
    /// No port: for frames whose port is gone.
    pub const NONE: Self = Self(u16::MAX);

    /// The slot, as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// An L2 broadcast domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(pub u16);

impl DomainId {
    /// The slot, as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
