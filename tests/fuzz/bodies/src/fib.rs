//! Any sequence of operations on a FIB, compared with the oracle after each.

use std::array;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use shunt_fib::v4::V4;
use shunt_fib::v6::V6;
use shunt_fib::{
    Family, Fib4Config, Fib4Writer, Fib6Config, Fib6Writer, FibError, FibReader, FibWriter,
    NextHopIndex, PoolUse, RawWidth,
};
use shunt_rib::{Oracle, probes};

/// Operations of one run, so that a long input does not take long.
const MOST: usize = 200;

/// Addresses of a batch after an update: more than the tables take through their levels at a time.
const BATCH: usize = 69;

/// Runs that use a table one after the other.
const RUNS: usize = 64;

/// Next hops: few, so that neighbours often have the same.
const HOPS: u16 = 5;

/// An address that the table and the oracle know.
trait Address:
    shunt_rib::Address + shunt_fib::Address<Net = <Self as shunt_rib::Address>::Net>
{
}

impl<A> Address for A where
    A: shunt_rib::Address + shunt_fib::Address<Net = <A as shunt_rib::Address>::Net>
{
}

type Net<F> = <<F as Family>::Address as shunt_rib::Address>::Net;

/// A family under test.
trait Fuzzed: Family<Address: Address> {
    /// Where prefixes nest: the high 64 bits of an address, or all 32.
    const BLOCKS: [u64; 4];
    /// The names of the pools.
    const POOLS: &'static [&'static str];
    /// So many parts of each pool are enough for any prefix.
    const ENOUGH: &'static [u32];

    /// A table with small pools, which three readers may read.
    fn writer() -> FibWriter<Self>;

    /// What the pools are doing.
    fn pools(writer: &FibWriter<Self>) -> Vec<PoolUse>;
}

impl Fuzzed for V4 {
    const BLOCKS: [u64; 4] = [0x0a00_0000, 0x0a00_0180, 0, 0xffff_ffff];
    const POOLS: &'static [&'static str] = &["groups"];
    const ENOUGH: &'static [u32] = &[1];

    fn writer() -> Fib4Writer {
        Fib4Writer::new(Fib4Config {
            groups: 3,
            readers: 3,
            reclaim_wait: Duration::ZERO,
        })
        .expect("there is memory for a table")
    }

    fn pools(writer: &Fib4Writer) -> Vec<PoolUse> {
        vec![writer.groups()]
    }
}

impl Fuzzed for V6 {
    const BLOCKS: [u64; 4] = [0x2001_0db8_0000_0000, 0x2001_0db8_0102_0304, 0, u64::MAX];
    const POOLS: &'static [&'static str] = &["groups", "lines"];
    // A group of the directory, and one stage that becomes a group with one below it. A line for
    // each stage, and those below that group.
    const ENOUGH: &'static [u32] = &[3, 24];

    fn writer() -> Fib6Writer {
        Fib6Writer::new(Fib6Config {
            groups: 6,
            lines: 40,
            readers: 3,
            reclaim_wait: Duration::ZERO,
        })
        .expect("there is memory for a table")
    }

    fn pools(writer: &Fib6Writer) -> Vec<PoolUse> {
        vec![writer.groups(), writer.lines()]
    }
}

/// An empty table and its readers.
struct Kept<F: Family> {
    /// Runs that have used it.
    runs: usize,
    writer: FibWriter<F>,
    /// Is offline but for the comparisons.
    checker: FibReader<F>,
    /// Do as the input says.
    readers: [FibReader<F>; 2],
}

impl<F: Fuzzed> Kept<F> {
    fn new() -> Self {
        let mut writer = F::writer();
        let mut reader = || {
            let reader = writer.reader().expect("three were configured");
            reader.offline();
            reader
        };
        let (checker, readers) = (reader(), [reader(), reader()]);
        Self {
            runs: 0,
            writer,
            checker,
            readers,
        }
    }
}

/// A table in a run, and what should be true of it.
struct Run<F: Fuzzed> {
    kept: Kept<F>,
    online: [bool; 2],
    oracle: Oracle<F::Address>,
    touched: BTreeSet<F::Address>,
}

thread_local! {
    // A run leaves the table empty for the next. A new table for each would be some tens of MiB that
    // the system has to map, to clear where they are written, and to take back: the plain tests
    // take five times as long so, but with one for each `RUNS` only a tenth longer. What runs leave
    // behind in parts that are free must not hide for ever that a part is not filled before use,
    // and a failing input alone in a process begins with a new table.
    static KEPT4: RefCell<Option<Kept<V4>>> = const { RefCell::new(None) };
    static KEPT6: RefCell<Option<Kept<V6>>> = const { RefCell::new(None) };
}

/// An IPv4 FIB.
pub fn fib4(data: &[u8]) {
    KEPT4.with_borrow_mut(|kept| run(kept, data));
}

/// An IPv6 FIB.
pub fn fib6(data: &[u8]) {
    KEPT6.with_borrow_mut(|kept| run(kept, data));
}

fn run<F: Fuzzed>(kept: &mut Option<Kept<F>>, data: &[u8]) {
    let mut run = Run {
        // Taken, so that a table that a failed run has left behind is not used again.
        kept: { kept.take() }
            .filter(|kept| kept.runs < RUNS)
            .unwrap_or_else(Kept::new),
        online: [false; 2],
        oracle: Oracle::new(&[]),
        touched: BTreeSet::new(),
    };
    let mut input = Unstructured::new(data);
    for _ in 0..MOST {
        // The input's end may cut an operation short.
        if input.is_empty() || run.operation(&mut input).is_err() {
            break;
        }
    }
    *kept = Some(run.end());
}

impl<F: Fuzzed> Run<F> {
    fn operation(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let kind: u8 = input.arbitrary()?;
        let which = usize::from(kind >> 7);
        match kind % 16 {
            0..=4 => {
                let (net, hop) = (self.prefix(input)?, input.arbitrary::<u16>()?);
                // Now and then a great one.
                let hop = if hop < 64 { 32_766 - hop } else { hop % HOPS };
                self.insert(net, hop);
            }
            5..=6 => {
                let net = self.prefix(input)?;
                self.remove(net);
            }
            7 => {
                let net = self.prefix(input)?;
                let found = self.kept.writer.get(net).map(NextHopIndex::get);
                assert_eq!(found, self.oracle.get(net), "get of {net}");
            }
            8 => {
                let address = self.address(input)?;
                self.lookup(which, address);
            }
            9 => self.batch(input, which)?,
            10 => {
                let net = self.prefix(input)?;
                self.covering(net);
            }
            11 => {
                let net = self.prefix(input)?;
                self.covered(net);
            }
            12 => self.kept.readers[which].quiescent(),
            13 => {
                self.kept.readers[which].offline();
                self.online[which] = false;
            }
            14 => {
                self.reclaim();
            }
            _ => self.flush(),
        }
        Ok(())
    }

    /// An address in or near one of the blocks.
    fn address(&self, input: &mut Unstructured<'_>) -> Result<F::Address> {
        let [choice, bits, place]: [u8; 3] = input.arbitrary()?;
        let len = <F::Address as shunt_rib::Address>::BITS;
        let block = match len {
            32 => u128::from(F::BLOCKS[usize::from(choice % 4)]),
            _ => u128::from(F::BLOCKS[usize::from(choice % 4)]) << 64,
        };
        let changed = u128::from(bits) << (place % len);
        Ok(shunt_rib::Address::from_bits(block ^ changed))
    }

    /// A prefix of any length.
    fn prefix(&self, input: &mut Unstructured<'_>) -> Result<Net<F>> {
        let address = self.address(input)?;
        let [len, wide]: [u8; 2] = input.arbitrary()?;
        let len = match len {
            0 => 0,
            // Millions of entries of an IPv4 table to write, so it must be rare.
            0xa7 if wide == 0xa7 => 1,
            0xa7 => 2 + wide % 6,
            len => 8 + len % (<F::Address as shunt_rib::Address>::BITS - 7),
        };
        Ok(shunt_rib::Address::net(address, len))
    }

    fn insert(&mut self, net: Net<F>, hop: u16) {
        self.reclaim();
        let before = F::pools(&self.kept.writer);
        let value = NextHopIndex::new(hop).expect("hops are in range");
        match self.kept.writer.insert(net, value) {
            Ok(old) => {
                let expected = self.oracle.insert(net, hop);
                assert_eq!(old.map(NextHopIndex::get), expected, "insertion of {net}");
            }
            Err(error) => {
                let FibError::PoolExhausted { pool, limit, .. } = error else {
                    panic!("insertion of {net}: {error}");
                };
                let mut may_fail = false;
                for ((name, before), enough) in F::POOLS.iter().zip(&before).zip(F::ENOUGH) {
                    let left = before.limit - before.used - before.retired;
                    may_fail |= *name == pool && before.limit == limit && left < *enough;
                }
                assert!(may_fail, "insertion of {net}: {error}; {before:?}");
                let after = F::pools(&self.kept.writer);
                for (before, after) in before.iter().zip(after) {
                    assert_eq!(
                        (before.used, before.retired),
                        (after.used, after.retired),
                        "{net} was refused"
                    );
                }
            }
        }
        self.check_around(net);
    }

    fn remove(&mut self, net: Net<F>) {
        let old = self.kept.writer.remove(net);
        let old = old.unwrap_or_else(|error| panic!("removal of {net}: {error}"));
        let expected = self.oracle.remove(net);
        assert_eq!(old.map(NextHopIndex::get), expected, "removal of {net}");
        self.check_around(net);
    }

    /// Compares at the edges and in the middle of a prefix that was to change.
    fn check_around(&mut self, net: Net<F>) {
        let addresses = probes::<F::Address>(net);
        self.touched.extend(addresses);
        for address in addresses {
            let expected = self.oracle.lookup(address);
            let own = self.kept.writer.lookup(address.into());
            let own = own.map(|(net, hop)| {
                let len = <F::Address as shunt_rib::Address>::prefix_len(net);
                (len, hop.get())
            });
            assert_eq!(own, expected, "the writer's lookup of {address:x?}");
        }
        // So few are looked up one by one.
        self.check_batch::<u16>(None, &addresses, 5);
        let repeated: [F::Address; BATCH] = array::from_fn(|i| addresses[i % addresses.len()]);
        let behind = self.touched.range(addresses[0]..).chain(&self.touched);
        let mut behind = behind.copied().cycle();
        let mixed = array::from_fn(|i| match i % 3 {
            0 => addresses[i / 3 % addresses.len()],
            _ => behind.next().expect("the probes have been touched"),
        });
        self.check_many(&repeated);
        self.check_many(&mixed);
        self.kept.checker.offline();
        assert_eq!(self.kept.writer.len(), self.oracle.len());
    }

    /// Compares a batch with what its addresses have when looked up alone: cheaper than to ask the
    /// oracle, which has been asked for those that were to change.
    fn check_many(&self, addresses: &[F::Address; BATCH]) {
        let mut raw = [0xdead_u16; BATCH];
        self.kept.checker.lookup_batch(addresses, &mut raw);
        for (address, raw) in addresses.iter().zip(raw) {
            let alone = self.kept.checker.lookup((*address).into());
            assert_eq!(
                NextHopIndex::from_raw(raw),
                alone,
                "{address:x?} in a batch"
            );
        }
    }

    /// Compares a lookup of one of the input's readers, which goes online with it.
    fn lookup(&mut self, which: usize, address: F::Address) {
        let found = self.kept.readers[which].lookup(address.into());
        self.online[which] = true;
        let expected = self.oracle.lookup(address).map(|(_, hop)| hop);
        assert_eq!(found.map(NextHopIndex::get), expected, "{address:x?}");
    }

    /// A batch of any length in any width, its results longer or shorter.
    fn batch(&mut self, input: &mut Unstructured<'_>, which: usize) -> Result<()> {
        let [len, raw, width]: [u8; 3] = input.arbitrary()?;
        let some = [
            self.address(input)?,
            self.address(input)?,
            self.address(input)?,
        ];
        let near = self.touched.iter().copied();
        let addresses: Vec<F::Address> = some
            .into_iter()
            .chain(near)
            .cycle()
            .take(usize::from(len))
            .collect();
        let raw = usize::from(raw);
        match width % 3 {
            0 => self.check_batch::<u16>(Some(which), &addresses, raw),
            1 => self.check_batch::<u32>(Some(which), &addresses, raw),
            _ => self.check_batch::<u64>(Some(which), &addresses, raw),
        }
        Ok(())
    }

    /// Compares a batch with room for `len` results; that of the checker, or of one of the
    /// input's readers.
    fn check_batch<R: RawWidth + Debug>(
        &mut self,
        which: Option<usize>,
        addresses: &[F::Address],
        len: usize,
    ) {
        let unwritten = R::from_raw(0xdead);
        let mut raw = vec![unwritten; len];
        match which {
            Some(which) => {
                self.kept.readers[which].lookup_batch(addresses, &mut raw);
                self.online[which] = true;
            }
            None => {
                self.kept.checker.lookup_batch(addresses, &mut raw);
                self.kept.checker.offline();
            }
        }
        for (address, raw) in addresses.iter().zip(&raw) {
            let expected = self.oracle.lookup(*address);
            let expected = R::from_raw(expected.map_or(0, |(_, hop)| hop + 1));
            assert_eq!(*raw, expected, "{address:x?} in a batch");
        }
        let rest = raw.iter().skip(addresses.len());
        assert!({ rest }.all(|raw| *raw == unwritten), "written beyond");
    }

    fn covering(&self, net: Net<F>) {
        let first = <F::Address as shunt_rib::Address>::first(net);
        let len = <F::Address as shunt_rib::Address>::prefix_len(net);
        let expected = (0..=len).rev().filter_map(|len| {
            let around = shunt_rib::Address::net(first, len);
            Some((around, self.oracle.get(around)?))
        });
        let found = self.kept.writer.covering(net);
        let found = found.map(|(net, hop)| (net, hop.get()));
        assert!(found.eq(expected), "covering {net}");
    }

    fn covered(&self, net: Net<F>) {
        let first = <F::Address as shunt_rib::Address>::first(net);
        let len = <F::Address as shunt_rib::Address>::prefix_len(net);
        let routes = self.oracle.routes();
        let expected = routes.into_iter().filter(|(inner, _)| {
            let begins = <F::Address as shunt_rib::Address>::first(*inner);
            shunt_rib::Address::truncated(begins, len) == first
                && <F::Address as shunt_rib::Address>::prefix_len(*inner) >= len
        });
        let found = self.kept.writer.covered(net);
        let found = found.map(|(net, hop)| (net, hop.get()));
        assert!(found.eq(expected), "covered by {net}");
    }

    fn retired(&self) -> u32 {
        let pools = F::pools(&self.kept.writer);
        pools.iter().map(|pool| pool.retired).sum()
    }

    fn reclaim(&mut self) {
        let before = self.retired();
        let freed = self.kept.writer.reclaim();
        let after = self.retired();
        assert_eq!(before as usize - freed, after as usize);
        if self.online == [false; 2] {
            assert_eq!(after, 0, "nobody holds a part up");
        }
    }

    fn flush(&mut self) {
        let lagging = self.online.iter().filter(|online| **online).count();
        let expected = match lagging {
            0 => Ok(()),
            lagging => Err(FibError::ReadersLagging {
                lagging,
                waited: Duration::ZERO,
            }),
        };
        assert_eq!(self.kept.writer.flush(), expected);
    }

    /// Compares all that was touched, and empties the table, which must be as at first.
    fn end(mut self) -> Kept<F> {
        let addresses: Vec<F::Address> = self.touched.iter().copied().collect();
        self.check_batch::<u32>(None, &addresses, addresses.len());
        let routes = self.oracle.routes();
        let listed = self.kept.writer.iter().map(|(net, hop)| (net, hop.get()));
        assert!(listed.eq(routes.iter().copied()), "the list of routes");
        for (net, _) in routes {
            self.remove(net);
        }
        self.check_batch::<u64>(None, &addresses, addresses.len());
        assert!(self.kept.writer.is_empty());
        assert!(self.kept.writer.iter().next().is_none());
        for (reader, online) in self.kept.readers.iter().zip(&mut self.online) {
            reader.offline();
            *online = false;
        }
        self.reclaim();
        for pool in F::pools(&self.kept.writer) {
            assert_eq!((pool.used, pool.retired), (0, 0), "all is given back");
        }
        self.kept.runs += 1;
        self.kept
    }
}
