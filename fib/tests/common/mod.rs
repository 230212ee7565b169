//! What the tests of both address families share: a test is written once, for any family.

pub(crate) mod batches;
pub(crate) mod default_route;
pub(crate) mod readers;
pub(crate) mod storm;

use std::time::Duration;

use shunt_fib::v4::V4;
use shunt_fib::v6::V6;
use shunt_fib::{Family, Fib4Config, Fib4Writer, Fib6Config, Fib6Writer};
use shunt_fib::{FibWriter, NextHopIndex, PoolUse};

/// An address that the table and the oracle know.
pub(crate) trait Address:
    shunt_rib::Address + shunt_fib::Address<Net = <Self as shunt_rib::Address>::Net>
{
}

impl<A> Address for A where
    A: shunt_rib::Address + shunt_fib::Address<Net = <A as shunt_rib::Address>::Net>
{
}

/// A family under test.
pub(crate) trait Tested: Family<Address: Address> + 'static {
    /// A table with few groups, of which a route in a /24 without longer routes needs one, and
    /// plenty of all else.
    fn writer(groups: u16, readers: usize, reclaim_wait: Duration) -> FibWriter<Self>;

    /// What the groups are doing.
    fn groups(writer: &FibWriter<Self>) -> PoolUse;

    /// Bytes written of what is shared with the readers.
    fn shared_bytes(writer: &FibWriter<Self>) -> usize;
}

impl Tested for V4 {
    fn writer(groups: u16, readers: usize, reclaim_wait: Duration) -> Fib4Writer {
        Fib4Writer::new(Fib4Config {
            groups,
            readers,
            reclaim_wait,
        })
        .unwrap()
    }

    fn groups(writer: &Fib4Writer) -> PoolUse {
        writer.groups()
    }

    fn shared_bytes(writer: &Fib4Writer) -> usize {
        let memory = writer.memory();
        memory.first_level.touched + memory.second_level.touched
    }
}

impl Tested for V6 {
    fn writer(groups: u16, readers: usize, reclaim_wait: Duration) -> Fib6Writer {
        Fib6Writer::new(Fib6Config {
            groups: groups.into(),
            lines: Fib6Config::MAX_LINES,
            readers,
            reclaim_wait,
        })
        .unwrap()
    }

    fn groups(writer: &Fib6Writer) -> PoolUse {
        writer.groups()
    }

    fn shared_bytes(writer: &Fib6Writer) -> usize {
        let memory = writer.memory();
        memory.directory.touched + memory.groups.touched + memory.lines.touched
    }
}

/// Tests of one family, by the names of the functions that are generic over it.
macro_rules! tests_of {
    ($family:ty: $($module:ident::$test:ident),* $(,)?) => {$(
        #[test]
        fn $test() {
            crate::common::$module::$test::<$family>();
        }
    )*};
}
pub(crate) use tests_of;

pub(crate) fn hop(index: u16) -> NextHopIndex {
    NextHopIndex::new(index).unwrap()
}

/// The address that begins with these 32 bits; all others are 0.
pub(crate) fn at<F: Tested>(top: u32) -> F::Address {
    let below = <F::Address as shunt_rib::Address>::BITS - 32;
    shunt_rib::Address::from_bits(u128::from(top) << below)
}

/// The prefix of an address that begins with these 32 bits.
pub(crate) fn net<F: Tested>(top: u32, len: u8) -> <F::Address as shunt_rib::Address>::Net {
    shunt_rib::Address::net(at::<F>(top), len)
}

/// The prefix of the one address that begins with these 32 bits and ends with 0.
pub(crate) fn host<F: Tested>(top: u32) -> <F::Address as shunt_rib::Address>::Net {
    net::<F>(top, <F::Address as shunt_rib::Address>::BITS)
}
