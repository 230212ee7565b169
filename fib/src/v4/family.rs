//! The writer's side of an IPv4 table.

use super::table::{Entry, Table};
use super::{Fib4Config, Fib4Memory};
use crate::family::{ReaderLimits, sealed};
use crate::memory::{Footprint, TouchedPages};
use crate::pool::{Pool, PoolUse};
use crate::prefix::Prefix;
use crate::qsbr::Domain;
use crate::routes::Routes;
use crate::{Family, FibError, RawWidth};

/// The length of what one entry of the first level stands for.
const SLOT_LEN: u8 = 24;

/// IPv4. Its value is the writer's record of second-level groups and touched memory.
#[derive(Debug)]
pub struct V4 {
    groups: Pool,
    first_level: TouchedPages,
}

impl V4 {
    pub(super) fn groups(&self) -> PoolUse {
        self.groups.usage()
    }

    /// Notes that the first-level entries of the addresses `first` to `last` have been written.
    fn touch(&mut self, first: u32, last: u32) {
        let byte = |address: u32| (address >> 8) as usize * size_of::<u16>();
        self.first_level.touch(byte(first), byte(last));
    }
}

impl sealed::Sealed for V4 {}

impl Family for V4 {
    type Address = u32;
    type Config = Fib4Config;
    type Memory = Fib4Memory;
    type Table = Table;

    fn new(config: &Fib4Config) -> Result<(Self, Table), FibError> {
        let groups = config.groups;
        if groups > Fib4Config::MAX_GROUPS {
            return Err(FibError::PoolTooLarge {
                pool: "groups",
                asked: groups.into(),
                limit: Fib4Config::MAX_GROUPS.into(),
            });
        }
        let family = Self {
            groups: Pool::new("groups", groups.into()),
            first_level: TouchedPages::new(Table::FIRST_BYTES),
        };
        Ok((family, Table::new()?))
    }

    fn reader_limits(config: &Fib4Config) -> ReaderLimits {
        ReaderLimits {
            readers: config.readers,
            reclaim_wait: config.reclaim_wait,
        }
    }

    #[inline]
    fn lookup(table: &Table, address: u32) -> u16 {
        table.lookup(address)
    }

    #[inline]
    fn lookup_batch<R: RawWidth>(table: &Table, addresses: &[u32], raw: &mut [R]) {
        table.lookup_batch(addresses, raw);
    }

    fn prepare(
        &mut self,
        table: &Table,
        _routes: &Routes<u32>,
        prefix: Prefix<u32>,
        readers: &mut Domain,
    ) -> Result<(), FibError> {
        if prefix.len() > SLOT_LEN
            && let Entry::Direct(raw) = table.entry(prefix.first())
        {
            // An entry names a group with 15 bits, and so many groups there are at most.
            let group = self.groups.take(readers)? as u16;
            table.fill_group(group, raw);
            table.set_group(prefix.first(), group);
            self.touch(prefix.first(), prefix.last());
        }
        Ok(())
    }

    fn set_range(&mut self, table: &Table, first: u32, last: u32, raw: u16) {
        table.set_range(first, last, raw);
        self.touch(first, last);
    }

    fn prune(
        &mut self,
        table: &Table,
        routes: &Routes<u32>,
        prefix: Prefix<u32>,
        readers: &mut Domain,
    ) {
        if prefix.len() > SLOT_LEN
            && !routes.any_longer_inside(Prefix::of(prefix.first(), SLOT_LEN))
            && let Entry::Group(group) = table.entry(prefix.first())
        {
            // All its addresses have the same value now. Who looks into the group still finds it.
            table.set_direct(prefix.first(), table.first_in_group(group));
            self.groups.retire(group.into(), readers.advance());
        }
    }

    fn reclaim(&mut self, readers: &Domain) -> usize {
        self.groups.reclaim(readers)
    }

    fn memory(&self, routes: &Routes<u32>) -> Fib4Memory {
        const GROUP_BYTES: usize = 256 * size_of::<u16>();
        let touched = self.groups.usage().touched as usize;
        Fib4Memory {
            first_level: self.first_level.footprint(),
            second_level: Footprint {
                reserved: Table::SECOND_BYTES,
                touched: TouchedPages::whole(touched * GROUP_BYTES),
            },
            routes: [routes.footprint(), Footprint::all(self.groups.bytes())]
                .into_iter()
                .sum(),
        }
    }
}
