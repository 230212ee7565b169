//! Rates of lookups, and memory.

use std::time::Instant;

use anyhow::Result;
use shunt_fib::FibError;
use shunt_rib::{Route, routes, traffic};

use super::contest::{Competitor, DpdkTable, OfCrate, Ours, Results, Traffic};
use super::contest::{agree, measure as contest};
use super::crates::CrateTable;
use super::dpdk::Built;
use super::family::{Family, Kind, Reader, Width, Writer, encode_addresses, encode_routes, index};
use super::{Run, SUITE, TIME, flat, once};
use crate::compare::Report;
use crate::figures::{Better, Row};

/// Bytes of the addresses of one pass: more than a core's own caches hold, and not so much that
/// reading them is what is measured.
const TRAFFIC_BYTES: usize = 4 << 20;
/// What is looked up at a time.
const BATCHES: [usize; 3] = [1, 32, 256];
/// Routes longer than the routers' longest, under blocks of the full table.
const POD_ROUTES: usize = 20_000;
/// Their share of the traffic.
const POD_SHARE: f64 = 0.1;
const SEED: u64 = 1;

/// Ratios to reach against the first of DPDK's tables, in batches of 32 and of 256.
type Targets = Option<[f64; 2]>;

/// Measures all sets of routes and kinds of traffic of a family.
///
/// # Errors
/// A peer fails, two tables give different answers, or the user interrupts.
pub(super) fn measure<F: Family>(run: &Run, full: &[Route<F>], report: &mut Report) -> Result<()> {
    if run.options.want(&format!("{} full table", F::NAME)) {
        full_table::<F>(run, full, report)?;
    }
    for (name, routes) in [
        ("cluster", routes::cluster::<F>(false)),
        ("100k hosts", routes::hosts_100k::<F>()),
    ] {
        if !run.options.want(&format!("{} {name}", F::NAME)) {
            continue;
        }
        let mut tables = Tables::build(run, name, &routes, 0, report)?;
        tables.memory(report);
        let traffic = traffic::table::<F>(&routes, addresses::<F>(), SEED);
        tables.rates("table traffic", traffic, None, report)?;
    }
    Ok(())
}

/// The full table, without and with pods' routes.
fn full_table<F: Family>(run: &Run, full: &[Route<F>], report: &mut Report) -> Result<()> {
    let pods = routes::pod_routes::<F>(full, POD_ROUTES, SEED);
    let table = traffic::table::<F>(full, addresses::<F>(), SEED);
    let mixed = traffic::with_pods::<F>(table.clone(), &pods, POD_SHARE, SEED);

    let mut tables = Tables::build(run, "full table", full, pods.len(), report)?;
    run.note_huge_pages(report)?;
    tables.memory(report);
    tables.slow_builds(report);
    let targets = Some(F::TARGETS);
    let best = tables.rates("table traffic", table, targets, report)?;
    if let (Some(best), Some((rate, whose))) = (best, F::PUBLISHED) {
        report.notes.push(format!(
            "{}, table traffic: our best is {best:.0} M lookups/s; the rate published for {whose}, \
             measured elsewhere, is {rate:.0} M lookups/s",
            tables.name
        ));
    }
    let zipf = traffic::zipf::<F>(full, addresses::<F>(), SEED);
    tables.rates("Zipf traffic", zipf, targets, report)?;
    let random = traffic::random::<F>(addresses::<F>(), SEED);
    tables.rates("random traffic", random, targets, report)?;
    tables.extend("full table and pod routes", &pods)?;
    tables.rates(
        "1/10 to pods",
        mixed,
        F::POD_TARGET.map(|target| [target; 2]),
        report,
    )?;
    Ok(())
}

/// How many addresses one pass has: a multiple of every batch.
const fn addresses<F>() -> usize {
    TRAFFIC_BYTES / size_of::<F>()
}

/// Everyone's table of one set of routes.
struct Tables<'a, F: Family> {
    run: &'a Run<'a>,
    name: String,
    writer: Writer<F>,
    reader: Reader<F>,
    ceiling: Option<Box<dyn Competitor<F>>>,
    dpdk: Vec<(Kind, Built)>,
    treebitmap: OfCrate<F::Treebitmap>,
    prefix_trie: OfCrate<F::PrefixTrie>,
    poptrie: OfCrate<F::Poptrie>,
    /// Seconds that our build took.
    built: f64,
}

/// Our table of `routes`, and the seconds its build took.
///
/// # Errors
/// It cannot hold them.
pub(super) fn build<F: Family>(routes: &[Route<F>]) -> Result<(Writer<F>, f64), FibError> {
    let start = Instant::now();
    let mut writer = Writer::<F>::new(F::config())?;
    for &(net, hop) in routes {
        writer.insert(net, index(hop))?;
    }
    Ok((writer, start.elapsed().as_secs_f64()))
}

fn of_crate<F, T: CrateTable<F>>(routes: &[(F, u8, u16)]) -> OfCrate<T> {
    eprintln!("  crate {}", T::NAME);
    OfCrate(T::build(routes))
}

impl<'a, F: Family> Tables<'a, F> {
    fn build(
        run: &'a Run<'a>,
        name: &str,
        routes: &[Route<F>],
        room: usize,
        report: &mut Report,
    ) -> Result<Self> {
        eprintln!("{} {name}: building", F::NAME);
        let (mut writer, built) = build::<F>(routes)?;
        let reader = writer.reader()?;
        let ceiling = F::ceiling(&reader);
        let mut dpdk = Vec::new();
        run.dpdk
            .borrow()
            .file("routes", &encode_routes::<F>(routes))?;
        // The slow ones are slow with many routes only.
        let slow = routes.len() > 500_000;
        for kind in F::DPDK {
            if slow && kind.slow && run.options.quick {
                let note = format!("{} {name}: {} is left out (--quick)", F::NAME, kind.label);
                eprintln!("{note}");
                report.notes.push(note);
                continue;
            }
            let patience = if slow && kind.slow {
                " (a minute or more)"
            } else {
                ""
            };
            eprintln!("  {}{patience}", kind.label);
            let built = run.dpdk.borrow_mut().build(kind.name, "routes", room)?;
            dpdk.push((*kind, built));
        }
        let flat = flat::<F>(routes);
        Ok(Self {
            run,
            name: format!("{} {name}", F::NAME),
            writer,
            reader,
            ceiling,
            dpdk,
            treebitmap: of_crate(&flat),
            prefix_trie: of_crate(&flat),
            poptrie: of_crate(&flat),
            built,
        })
    }

    /// Adds routes to all tables.
    fn extend(&mut self, name: &str, routes: &[Route<F>]) -> Result<()> {
        self.name = format!("{} {name}", F::NAME);
        for &(net, hop) in routes {
            self.writer.insert(net, index(hop))?;
        }
        self.run
            .dpdk
            .borrow()
            .file("more", &encode_routes::<F>(routes))?;
        for (kind, _) in &self.dpdk {
            self.run.dpdk.borrow_mut().extend(kind.name, "more")?;
        }
        for (address, len, hop) in flat::<F>(routes) {
            self.treebitmap.0.insert(address, len, hop);
            self.prefix_trie.0.insert(address, len, hop);
            self.poptrie.0.insert(address, len, hop);
        }
        Ok(())
    }

    /// Rows for a kind of traffic, in batches of all sizes. Gives the best of our rates, in
    /// million lookups/s; `None` if the user did not want this traffic.
    fn rates(
        &mut self,
        kind: &str,
        addresses: Vec<F>,
        targets: Targets,
        report: &mut Report,
    ) -> Result<Option<f64>> {
        let traffic = Traffic {
            name: format!("{}, {kind}", self.name),
            addresses,
        };
        if !self.run.options.want(&traffic.name) {
            return Ok(None);
        }
        self.run
            .dpdk
            .borrow()
            .file("traffic", &encode_addresses(&traffic.addresses))?;
        self.run.dpdk.borrow_mut().traffic("traffic", F::ENCODED)?;

        let ours = Ours::<F, u64>::new(&self.reader);
        let narrow = Ours::<F, u32>::new(&self.reader);
        let dpdk: Vec<_> = self
            .dpdk
            .iter()
            .map(|&(kind, _)| DpdkTable {
                dpdk: &self.run.dpdk,
                kind,
            })
            .collect();
        // Where nothing is asked for, nothing is limited.
        let ceiling = self.ceiling.as_deref().filter(|_| targets.is_some());
        let mut all: Vec<&dyn Competitor<F>> = ceiling.into_iter().collect();
        let own = all.len();
        all.push(&ours);
        if self.dpdk.iter().any(|(kind, _)| kind.width == Width::U32) {
            all.push(&narrow);
        }
        let peers = all.len();
        all.extend(dpdk.iter().map(|table| table as &dyn Competitor<F>));
        all.extend([
            &self.treebitmap as &dyn Competitor<F>,
            &self.prefix_trie,
            &self.poptrie,
        ]);

        let mut best = 0.0;
        for (place, batch) in BATCHES.into_iter().enumerate() {
            eprintln!("{}: batches of {batch}", traffic.name);
            agree(&traffic, batch, &all)?;
            let time = (self.run.options.rounds, TIME);
            let (core, interrupt) = (self.run.core, self.run.interrupt);
            let results = contest(&traffic, batch, &all, time, core, interrupt)?;
            let case = format!("{}, batches of {batch}", traffic.name);
            let results: Vec<_> = all.iter().zip(results).collect();
            let ceiling = results[..own]
                .first()
                .and_then(|(_, results)| results.as_ref());
            let ours_of = |width| {
                let ours = results[own..peers]
                    .iter()
                    .find(|(ours, _)| ours.width() == width);
                ours.and_then(|(_, results)| results.as_ref())
            };
            for (peer, theirs) in &results[peers..] {
                let (Some(theirs), Some(ours)) = (theirs, ours_of(peer.width())) else {
                    continue;
                };
                let first = peer.label() == F::DPDK[0].label;
                let target = targets.filter(|_| first && place > 0).map(|t| t[place - 1]);
                let mut row = self.row(&case, &peer.label(), (ours, theirs), target);
                if let (false, Some(ceiling), Some(target)) = (row.met, ceiling, target) {
                    row.limited_by = limit(ceiling, theirs, target);
                }
                report.rows.push(row);
            }
            if let Some(ours) = ours_of(Width::U64) {
                best = f64::max(best, ours.rates.median());
            }
        }
        Ok(Some(best))
    }

    fn row(
        &self,
        case: &str,
        peer: &str,
        (ours, theirs): (&Results, &Results),
        target: Option<f64>,
    ) -> Row {
        Row {
            placement: self.run.placement(),
            cpu_ours: ours.busy.median(),
            cpu_theirs: theirs.busy.median(),
            ..Row::compare(
                [SUITE.name, case, peer, "M lookups/s"],
                (&ours.rates, &theirs.rates),
                Better::Higher,
                target,
            )
        }
    }
}

/// What keeps every table of 24 bits from the target, if the bare loop does not reach it either.
fn limit(bare: &Results, theirs: &Results, target: f64) -> Option<String> {
    let (bare, theirs) = (bare.rates.median(), theirs.rates.median());
    let ratio = bare / theirs;
    (ratio < target).then(|| {
        format!(
            "bare loop, a load of 2 bytes and a store of 8 an address: {bare:.0} M/s, {ratio:.2} \
             of the peer"
        )
    })
}

impl<F: Family> Tables<'_, F> {
    /// Rows for memory: what ours has touched against what DPDK's tables have allocated.
    fn memory(&self, report: &mut Report) {
        let case = format!("{}, memory (ours: touched, peer: allocated)", self.name);
        if !self.run.options.want(&case) {
            return;
        }
        let ours = once(mib(F::footprint(&self.writer).touched as u64));
        for (kind, built) in &self.dpdk {
            report.rows.push(Row::compare(
                [SUITE.name, &case, kind.label, "MiB"],
                (&ours, &once(mib(built.bytes))),
                Better::Lower,
                None,
            ));
        }
        let groups = self
            .dpdk
            .iter()
            .map(|(kind, built)| format!("{} {}", kind.label, built.groups));
        report.notes.push(format!(
            "{}: second-level groups that the peers were given: {}",
            self.name,
            groups.collect::<Vec<_>>().join(", ")
        ));
    }

    /// Rows for the builds that are too slow to be repeated in turns, as the others are.
    fn slow_builds(&self, report: &mut Report) {
        let case = format!("{}, build, once, with room for the pods' routes", self.name);
        if !self.run.options.want(&case) {
            return;
        }
        for (kind, built) in self.dpdk.iter().filter(|(kind, _)| kind.slow) {
            report.rows.push(Row {
                placement: self.run.placement(),
                ..Row::compare(
                    [SUITE.name, &case, kind.label, "s"],
                    (&once(self.built), &once(built.seconds)),
                    Better::Lower,
                    None,
                )
            });
        }
    }
}

impl<F: Family> Drop for Tables<'_, F> {
    fn drop(&mut self) {
        for (kind, _) in &self.dpdk {
            // Fails only if the process has ended, which the next command will tell.
            let _ = self.run.dpdk.borrow_mut().free(kind.name);
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_loop_is_a_limit_only_where_it_is_below_the_target() {
        let results = |rate| Results {
            rates: once(rate),
            busy: once(1.0),
        };
        let limit = |bare| limit(&results(bare), &results(100.0), 1.2);
        assert!(limit(119.0).unwrap().contains("1.19 of the peer"));
        assert_eq!(limit(120.0), None);
    }
}
