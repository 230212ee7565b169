//! Tables that look the same traffic up in turns.

use std::cell::RefCell;
use std::hint::black_box;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shunt_fib::RawWidth;

use super::checksum::Checksum;
use super::crates::CrateTable;
use super::dpdk::Dpdk;
use super::family::{Family, Kind, Reader, Width};
use crate::core;
use crate::figures::Series;
use crate::interrupt::Interrupt;

/// The largest batch; traffic is a multiple of it.
pub(super) const BATCH_MAX: usize = 256;

/// Addresses to look up.
#[derive(Debug)]
pub(super) struct Traffic<A> {
    /// What kind it is.
    pub(super) name: String,
    /// The addresses, a multiple of [`BATCH_MAX`].
    pub(super) addresses: Vec<A>,
}

/// One table in the contest.
pub(super) trait Competitor<F: Family> {
    /// As people call it.
    fn label(&self) -> String;

    /// The width of its results.
    fn width(&self) -> Width;

    /// Whether it looks up more than one address at a time.
    fn batches(&self) -> bool;

    /// Looks `traffic` up for about `time`; gives lookups a second. A pass before that, untimed,
    /// brings the table into the caches.
    ///
    /// # Errors
    /// It cannot.
    fn run(&self, traffic: &Traffic<F>, batch: usize, time: Duration) -> Result<f64>;

    /// The checksum of its answers in batches of this size; `None` if it is no table.
    ///
    /// # Errors
    /// It cannot say.
    fn sum(&self, traffic: &Traffic<F>, batch: usize) -> Result<Option<u64>>;
}

/// Runs whole passes until `time` is over, after one that does not count. A pass looks up
/// `lookups` addresses. Gives lookups a second.
fn passes(lookups: usize, time: Duration, mut pass: impl FnMut()) -> f64 {
    pass();
    let start = Instant::now();
    let mut done = 0;
    loop {
        pass();
        done += lookups;
        let took = start.elapsed();
        if took >= time {
            return done as f64 / took.as_secs_f64();
        }
    }
}

/// Our table, with results of one width.
#[derive(Debug)]
pub(super) struct Ours<'a, F: Family, R> {
    reader: &'a Reader<F>,
    width: PhantomData<R>,
}

impl<'a, F: Family, R> Ours<'a, F, R> {
    /// Of a table.
    pub(super) fn new(reader: &'a Reader<F>) -> Self {
        Self {
            reader,
            width: PhantomData,
        }
    }
}

impl<F: Family, R: RawWidth + Default> Competitor<F> for Ours<'_, F, R> {
    fn label(&self) -> String {
        "Shunt".to_owned()
    }

    fn width(&self) -> Width {
        match size_of::<R>() {
            4 => Width::U32,
            _ => Width::U64,
        }
    }

    fn batches(&self) -> bool {
        true
    }

    fn run(&self, traffic: &Traffic<F>, batch: usize, time: Duration) -> Result<f64> {
        let mut raw = [R::default(); BATCH_MAX];
        // As for the peers, the size is not known when the loop is compiled.
        let raw = &mut raw[..black_box(batch)];
        Ok(passes(traffic.addresses.len(), time, || {
            for addresses in traffic.addresses.chunks_exact(raw.len()) {
                self.reader.lookup_batch(addresses, raw);
                black_box(&mut *raw);
            }
        }))
    }

    fn sum(&self, traffic: &Traffic<F>, batch: usize) -> Result<Option<u64>> {
        let mut raw = [R::default(); BATCH_MAX];
        let raw = &mut raw[..black_box(batch)];
        let mut checksum = Checksum::default();
        for addresses in traffic.addresses.chunks_exact(raw.len()) {
            self.reader.lookup_batch(addresses, raw);
            raw.iter().for_each(|raw| checksum.add(raw.to_raw()));
        }
        Ok(Some(checksum.get()))
    }
}

/// No table but the ceiling of one whose first level is indexed by 24 bits: a load of 2 bytes and
/// a store of 8 for each address.
#[derive(Debug)]
pub(super) struct BareLoads {
    first: Vec<u16>,
}

impl BareLoads {
    /// With the answers of a table, so that the same pages are touched.
    pub(super) fn new(reader: &Reader<u32>) -> Self {
        let mut first = vec![0; 1 << 24];
        let mut raw = [0u16; BATCH_MAX];
        for start in (0..first.len()).step_by(BATCH_MAX) {
            let addresses: [u32; BATCH_MAX] = std::array::from_fn(|i| ((start + i) as u32) << 8);
            reader.lookup_batch(&addresses, &mut raw);
            for (place, raw) in first[start..].iter_mut().zip(raw) {
                if raw != 0 {
                    *place = raw;
                }
            }
        }
        Self { first }
    }
}

impl Competitor<u32> for BareLoads {
    fn label(&self) -> String {
        "bare loads".to_owned()
    }

    fn width(&self) -> Width {
        Width::U64
    }

    fn batches(&self) -> bool {
        true
    }

    fn run(&self, traffic: &Traffic<u32>, batch: usize, time: Duration) -> Result<f64> {
        let mut raw = [0u64; BATCH_MAX];
        let raw = &mut raw[..black_box(batch)];
        // An array, so that no load waits for a check of its bounds.
        let first: &[u16; 1 << 24] = self.first.as_slice().try_into()?;
        Ok(passes(traffic.addresses.len(), time, || {
            for addresses in traffic.addresses.chunks_exact(raw.len()) {
                for (raw, address) in raw.iter_mut().zip(addresses) {
                    *raw = first[(address >> 8) as usize].into();
                }
                black_box(&mut *raw);
            }
        }))
    }

    fn sum(&self, _: &Traffic<u32>, _: usize) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// One of DPDK's tables, which must have been built. The process must have the traffic.
#[derive(Debug)]
pub(super) struct DpdkTable<'a> {
    /// The process.
    pub(super) dpdk: &'a RefCell<Dpdk>,
    /// Which table.
    pub(super) kind: Kind,
}

impl<F: Family> Competitor<F> for DpdkTable<'_> {
    fn label(&self) -> String {
        self.kind.label.to_owned()
    }

    fn width(&self) -> Width {
        self.kind.width
    }

    fn batches(&self) -> bool {
        true
    }

    fn run(&self, _: &Traffic<F>, batch: usize, time: Duration) -> Result<f64> {
        self.dpdk.borrow_mut().run(self.kind.name, batch, time)
    }

    fn sum(&self, _: &Traffic<F>, batch: usize) -> Result<Option<u64>> {
        self.dpdk.borrow_mut().sum(self.kind.name, batch).map(Some)
    }
}

/// The table of a crate.
#[derive(Debug)]
pub(super) struct OfCrate<T>(pub(super) T);

impl<F: Family, T: CrateTable<F>> Competitor<F> for OfCrate<T> {
    fn label(&self) -> String {
        format!("crate {}", T::NAME)
    }

    /// They give a reference, not a number in memory; ours writes the widest.
    fn width(&self) -> Width {
        Width::U64
    }

    fn batches(&self) -> bool {
        false
    }

    fn run(&self, traffic: &Traffic<F>, _: usize, time: Duration) -> Result<f64> {
        Ok(passes(traffic.addresses.len(), time, || {
            for &address in &traffic.addresses {
                black_box(self.0.lookup(address));
            }
        }))
    }

    fn sum(&self, traffic: &Traffic<F>, _: usize) -> Result<Option<u64>> {
        let hops = traffic
            .addresses
            .iter()
            .map(|&address| self.0.lookup(address));
        Ok(Some(hops.collect::<Checksum>().get()))
    }
}

/// All rounds of a competitor.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Million lookups a second.
    pub(super) rates: Series,
    /// Busy share of the core.
    pub(super) busy: Series,
}

/// Whether one competes in batches of this size.
fn takes_part<F: Family>(competitor: &dyn Competitor<F>, batch: usize) -> bool {
    batch == 1 || competitor.batches()
}

/// Checks that all that take part give the same answers in batches of this size.
///
/// # Errors
/// Two differ; the error names them.
pub(super) fn agree<F: Family>(
    traffic: &Traffic<F>,
    batch: usize,
    all: &[&dyn Competitor<F>],
) -> Result<()> {
    let mut first: Option<(String, u64)> = None;
    for &competitor in all {
        if !takes_part(competitor, batch) {
            continue;
        }
        let Some(sum) = competitor.sum(traffic, batch)? else {
            continue;
        };
        match &first {
            None => first = Some((competitor.label(), sum)),
            Some((label, expected)) => ensure!(
                sum == *expected,
                "{} {}, batches of {batch}: {label} and {} give different answers (checksums \
                 {expected:016x} and {sum:016x})",
                F::NAME,
                traffic.name,
                competitor.label()
            ),
        }
    }
    Ok(())
}

/// Measures all in turns, round by round, on `core`, which the caller's thread is pinned to.
/// Competitors that look up one address at a time take part in batches of 1 only; `None` stands
/// for their absence.
///
/// # Errors
/// One of them fails, or the user interrupts.
pub(super) fn measure<F: Family>(
    traffic: &Traffic<F>,
    batch: usize,
    all: &[&dyn Competitor<F>],
    (rounds, time): (u32, Duration),
    core: usize,
    interrupt: &Interrupt,
) -> Result<Vec<Option<Results>>> {
    let mut results: Vec<_> = all
        .iter()
        .map(|&competitor| takes_part(competitor, batch).then(Results::default))
        .collect();
    for _ in 0..rounds {
        for (competitor, results) in all.iter().zip(&mut results) {
            let Some(results) = results else { continue };
            interrupt.check()?;
            let before = core::Time::of(core)?;
            let rate = competitor.run(traffic, batch, time)?;
            results.busy.push(core::Time::of(core)?.busy_since(before));
            results.rates.push(rate / 1e6);
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use shunt_rib::{routes, traffic};

    use super::super::crates::CratePeers;
    use super::super::family::{Writer, index};
    use super::*;

    fn writer(routes: &[shunt_rib::Route<u32>]) -> Writer<u32> {
        let mut writer = Writer::<u32>::new(u32::config()).unwrap();
        for &(net, hop) in routes {
            writer.insert(net, index(hop)).unwrap();
        }
        writer
    }

    fn some_traffic(routes: &[shunt_rib::Route<u32>]) -> Traffic<u32> {
        Traffic {
            name: "cluster".to_owned(),
            addresses: traffic::table::<u32>(routes, 4096, 1),
        }
    }

    #[test]
    fn equal_tables_agree_and_one_differing_route_shows() {
        let routes = routes::cluster::<u32>(true);
        let mut writer = writer(&routes);
        let reader = writer.reader().unwrap();
        let traffic = some_traffic(&routes);
        let flat: Vec<_> = routes
            .iter()
            .map(|&(net, hop)| (net.network().into(), net.prefix_len(), hop))
            .collect();
        let peer = OfCrate(<u32 as CratePeers>::Treebitmap::build(&flat));
        let ours = Ours::<u32, u64>::new(&reader);
        let narrow = Ours::<u32, u32>::new(&reader);
        let all: [&dyn Competitor<u32>; 3] = [&ours, &peer, &narrow];
        for batch in [1, 32, BATCH_MAX] {
            agree(&traffic, batch, &all).unwrap();
        }

        let address = traffic.addresses[1234];
        let hop = reader.lookup(address.into()).unwrap().to_raw();
        let net = ipnet::Ipv4Net::new(address.into(), 32).unwrap();
        writer.insert(net, index(hop % 255 + 1)).unwrap();
        let error = agree(&traffic, 1, &all).unwrap_err().to_string();
        for part in ["Shunt", "crate treebitmap", "cluster", "IPv4"] {
            assert!(error.contains(part), "{error}");
        }
        // It looks up one by one, and the others agree.
        agree(&traffic, 32, &all).unwrap();
    }

    #[test]
    fn all_are_measured_and_single_lookups_in_batches_of_one_only() {
        let routes = routes::cluster::<u32>(false);
        let mut writer = writer(&routes);
        let reader = writer.reader().unwrap();
        let traffic = some_traffic(&routes);
        let ours = Ours::<u32, u64>::new(&reader);
        let bare = BareLoads::new(&reader);
        let peer = OfCrate(<u32 as CratePeers>::Poptrie::build(&[]));
        let all: [&dyn Competitor<u32>; 3] = [&ours, &bare, &peer];
        let core = core::last();
        for (batch, absent) in [(1, 0), (32, 1)] {
            let time = (2, Duration::from_millis(1));
            let interrupt = Interrupt::default();
            let results = measure(&traffic, batch, &all, time, core, &interrupt).unwrap();
            assert_eq!(
                results.iter().filter(|results| results.is_none()).count(),
                absent
            );
            for results in results.iter().flatten() {
                assert_eq!((results.rates.rounds(), results.busy.rounds()), (2, 2));
                assert!(results.rates.spread()[0] > 0.0);
            }
        }
    }
}
