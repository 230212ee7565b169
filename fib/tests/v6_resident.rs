//! What an IPv6 table takes of the machine's memory. Alone in its process, to see only that.

#[path = "common/resident.rs"]
mod resident;

use resident::resident;
use shunt_fib::{Fib6Config, Fib6Writer, NextHopIndex};

#[test]
fn a_large_clusters_node_stays_below_a_mebibyte() {
    // The routes are made before, and so is all that the test itself needs.
    let routes = shunt_rib::routes::cluster::<u128>(true);
    assert_eq!(routes.len(), 5_251);
    // Before the table is made: an empty one is to take next to nothing either.
    let before = resident();
    let mut writer = Fib6Writer::new(Fib6Config::default()).unwrap();
    let reader = writer.reader().unwrap();
    for (net, hop) in routes {
        let hop = NextHopIndex::new(hop).unwrap();
        assert_eq!(writer.insert(net, hop), Ok(None));
        // The lines that an insertion replaces are used again when the readers have passed.
        reader.quiescent();
    }
    // Lookups all over the address space allocate nothing.
    for top in (0..=u32::MAX).step_by(1 << 16) {
        assert!(reader.lookup((u128::from(top) << 96).into()).is_some());
    }
    resident::check(resident() - before, writer.memory().total().touched);

    // And routes everywhere are what their 64 MiB say, so the measure measures.
    for half in ["::/1", "8000::/1"] {
        writer
            .insert(half.parse().unwrap(), NextHopIndex::MAX)
            .unwrap();
    }
    assert!(resident() - before > 60 << 20);
    assert_eq!(writer.memory().directory.touched, 64 << 20);
}
