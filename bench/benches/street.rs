//! The street over memory ports, one core, 64-byte frames, batches of 32: `cargo bench -p
//! shunt-bench --bench street`. Criterion's Melem/s is Mpps.
//!
//! The memory ports are a part of every figure: `memory_ports_alone` is what a frame costs
//! without any street (copied into a chunk, and the chunk freed). As in DPDK's pools the chunk
//! freed last is the next one used, so frames stay in the cache; the tables of 512 flows do not
//! all stay in the first level.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "criterion_group! makes undocumented functions")]

use std::time::Duration;

use anyhow::Result;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shunt_bench::core;
use shunt_bench::scenario::{BATCH, Baseline, Scenario};

fn street(criterion: &mut Criterion) {
    if let Err(error) = measure(criterion) {
        // Without a proof there is no figure.
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}

fn measure(criterion: &mut Criterion) -> Result<()> {
    let core = core::last();
    core::pin(core)?;
    println!("pinned to core {core}; Melem/s is Mpps");
    let mut group = criterion.benchmark_group("street");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    let mut ports = Baseline::new()?;
    group.bench_function("memory_ports_alone", |b| b.iter(|| ports.turn()));
    for scenario in Scenario::all() {
        let mut running = scenario.start()?;
        group.bench_function(scenario.to_string(), |b| b.iter(|| running.turn()));
        running.check()?;
    }
    group.finish();
    Ok(())
}

criterion_group!(benches, street);
criterion_main!(benches);
