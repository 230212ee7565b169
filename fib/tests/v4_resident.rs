//! What an IPv4 table takes of the machine's memory. Alone in its process, to see only that.

#[path = "common/resident.rs"]
mod resident;

use resident::resident;
use shunt_fib::{Fib4Config, Fib4Writer, NextHopIndex};

#[test]
fn a_large_clusters_node_stays_below_a_mebibyte() {
    // The routes are made before, and so is all that the test itself needs.
    let routes = shunt_rib::routes::cluster::<u32>(true);
    assert_eq!(routes.len(), 5_251);
    let mut writer = Fib4Writer::new(Fib4Config::default()).unwrap();
    let reader = writer.reader().unwrap();
    let (before, said_before) = (resident(), writer.memory().total().touched);
    for (net, hop) in routes {
        let hop = NextHopIndex::new(hop).unwrap();
        assert_eq!(writer.insert(net, hop), Ok(None));
    }
    // Lookups all over the address space allocate nothing.
    for address in (0..=u32::MAX).step_by(1 << 16) {
        assert!(reader.lookup(address.into()).is_some());
    }
    let said = writer.memory().total().touched - said_before;
    resident::check(resident() - before, said);

    // And routes everywhere are what their 32 MiB say, so the measure measures.
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        writer
            .insert(half.parse().unwrap(), NextHopIndex::MAX)
            .unwrap();
    }
    assert!(resident() - before > 30 << 20);
    assert_eq!(writer.memory().first_level.touched, 32 << 20);
}
