//! Builds of the full table, in turns. Each begins with nothing and ends with every route in place.

use std::time::Instant;

use anyhow::Result;
use shunt_rib::Route;

use super::crates::CrateTable;
use super::family::{Family, encode_routes};
use super::lookups::build;
use super::{Run, SUITE, asked, flat};
use crate::compare::Report;
use crate::core;
use crate::figures::{Better, Row, Series};

/// Those of one competitor.
#[derive(Default)]
struct Builds {
    seconds: Series,
    busy: Series,
}

impl Builds {
    /// Adds what `build` gives: its seconds.
    fn push(&mut self, run: &Run, build: impl FnOnce() -> Result<f64>) -> Result<()> {
        run.interrupt.check()?;
        let before = core::Time::of(run.core)?;
        self.seconds.push(build()?);
        self.busy.push(core::Time::of(run.core)?.busy_since(before));
        Ok(())
    }
}

/// Measures all that do not take minutes.
///
/// # Errors
/// A table cannot hold the routes, or the user interrupts.
pub(super) fn measure<F: Family>(
    run: &Run,
    routes: &[Route<F>],
    report: &mut Report,
) -> Result<()> {
    let case = format!("{} full table, build", F::NAME);
    if !run.options.want(&case) {
        return Ok(());
    }
    run.dpdk
        .borrow()
        .file("routes", &encode_routes::<F>(routes))?;
    let flat = flat::<F>(routes);
    let kinds: Vec<_> = F::DPDK.iter().filter(|kind| !kind.slow).collect();
    let mut ours = Builds::default();
    let mut dpdk: Vec<Builds> = kinds.iter().map(|_| Builds::default()).collect();
    let mut crates: [Builds; 3] = Default::default();
    for round in 1..=run.options.rounds {
        eprintln!("{case}: round {round}");
        ours.push(run, || Ok(build::<F>(routes)?.1))?;
        for (kind, builds) in kinds.iter().zip(&mut dpdk) {
            builds.push(run, || {
                let mut dpdk = run.dpdk.borrow_mut();
                let built = dpdk.build(kind.name, "routes", 0)?;
                dpdk.free(kind.name)?;
                Ok(built.seconds)
            })?;
        }
        let [treebitmap, prefix_trie, poptrie] = &mut crates;
        treebitmap.push(run, || Ok(seconds::<F, F::Treebitmap>(&flat)))?;
        prefix_trie.push(run, || Ok(seconds::<F, F::PrefixTrie>(&flat)))?;
        poptrie.push(run, || Ok(seconds::<F, F::Poptrie>(&flat)))?;
    }

    let kinds = kinds.iter().map(|kind| kind.label.to_owned());
    let names = [F::Treebitmap::NAME, F::PrefixTrie::NAME, F::Poptrie::NAME];
    let names = names.map(|name| format!("crate {name}"));
    for (peer, theirs) in kinds.zip(&dpdk).chain(names.into_iter().zip(&crates)) {
        report.rows.push(Row {
            placement: run.placement(),
            cpu_ours: ours.busy.median(),
            cpu_theirs: theirs.busy.median(),
            ..Row::compare(
                [SUITE.name, &case, &peer, "s"],
                (&ours.seconds, &theirs.seconds),
                Better::Lower,
                None,
            )
        });
    }
    if let Some(seconds) = F::BUILD_TARGET {
        report.rows.push(Row {
            placement: run.placement(),
            cpu_ours: ours.busy.median(),
            ..asked([&case, "s"], &ours.seconds, seconds, Better::Lower)
        });
    }
    Ok(())
}

/// How long a crate's build takes. What it built goes after that.
fn seconds<F: Family, T: CrateTable<F>>(routes: &[(F, u8, u16)]) -> f64 {
    let start = Instant::now();
    let _table = T::build(routes);
    start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::crates::CratePeers;

    #[test]
    fn a_build_of_a_crate_takes_time() {
        let routes: Vec<_> = (0..1000_u32).map(|n| (n << 12, 20, 1)).collect();
        assert!(seconds::<u32, <u32 as CratePeers>::PrefixTrie>(&routes) > 0.0);
    }
}
