//! Atomics: the standard library's, or those of the model checker loom, which tries the orders in
//! which threads can meet and the values that each load can see (tests/loom.rs).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// The size of an array of atomics. In a model, each costs time in each of very many runs.
pub(crate) const fn size(real: usize, in_model: usize) -> usize {
    if cfg!(loom) { in_model } else { real }
}

/// What can be made of zeros.
#[cfg(not(loom))]
pub(crate) use zerocopy::FromZeros as Zeroed;

/// What can be made of zeros.
#[cfg(loom)]
pub(crate) trait Zeroed: Sized {
    fn new_zeroed() -> Self;
}

/// An array of zeros; `None` if there is no memory. What it takes comes zeroed from the system,
/// unallocated until it is written.
#[cfg(not(loom))]
pub(crate) fn zeroed<T: Zeroed, const N: usize>() -> Option<Box<[T; N]>> {
    Zeroed::new_box_zeroed().ok()
}

/// An array of zeros.
#[cfg(loom)]
pub(crate) fn zeroed<T: Zeroed, const N: usize>() -> Option<Box<[T; N]>> {
    let array: Box<[T]> = (0..N).map(|_| T::new_zeroed()).collect();
    array.try_into().ok()
}

#[cfg(loom)]
macro_rules! zeroed {
    ($($atomic:ty)*) => {$(
        impl Zeroed for $atomic {
            fn new_zeroed() -> Self {
                Self::new(0)
            }
        }
    )*};
}

#[cfg(loom)]
zeroed!(AtomicU16 AtomicU32 AtomicU64);
