//! The street does not allocate: counted over thousands of batches of every scenario.
#![forbid(unsafe_code)]

use shunt_bench::scenario::{Baseline, Scenario};

const TURNS: usize = 3000;

#[test]
fn no_batch_allocates_on_any_path() {
    for scenario in Scenario::all() {
        let mut running = scenario.start().unwrap();
        let before = running.check().unwrap();
        let counted = allocation_counter::measure(|| {
            for _ in 0..TURNS {
                running.turn();
            }
        });
        assert!(running.check().unwrap() > before);
        assert_eq!(counted.count_total, 0, "{scenario}: {counted:?}");
    }
}

#[test]
fn memory_ports_do_not_allocate() {
    let mut ports = Baseline::new().unwrap();
    ports.turn();
    let counted = allocation_counter::measure(|| {
        for _ in 0..TURNS {
            ports.turn();
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![0u8; 64])));
    assert_eq!(counted.count_total, 1);
}
