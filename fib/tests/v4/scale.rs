//! Millions of routes, and every next hop there can be.

use std::time::Duration;

use shunt_fib::{Fib4Config, Fib4Writer, NextHopIndex};

use super::oracle::{hop, net};

const WIDE: u32 = 1 << 20;
const HOPS: u32 = NextHopIndex::MAX.get() as u32 + 1;

fn hop_of(number: u32) -> NextHopIndex {
    hop((number % HOPS) as u16)
}

#[test]
fn five_million_routes_and_all_next_hops() {
    let mut writer = Fib4Writer::new(Fib4Config {
        groups: 0,
        readers: 1,
        reclaim_wait: Duration::ZERO,
    })
    .unwrap();
    // A /22 in every fourth of the address space's /22s, and the four /24s in it.
    for i in 0..WIDE {
        writer.insert(net(i << 12, 22), hop_of(i)).unwrap();
        for j in 0..4 {
            let inner = net(i << 12 | j << 8, 24);
            writer.insert(inner, hop_of(i + j + 1)).unwrap();
        }
    }
    assert_eq!(writer.len(), 5 * WIDE as usize);
    let reader = writer.reader().unwrap();
    let answers = |j: u32| {
        let addresses: Vec<u32> = (0..WIDE).map(|i| i << 12 | j << 8 | 0xff).collect();
        let mut raw = vec![0_u32; addresses.len()];
        reader.lookup_batch(&addresses, &mut raw);
        raw
    };
    for (j, i) in (0..4)
        .flat_map(|j| (0..WIDE).map(move |i| (j, i)))
        .step_by(9_973)
    {
        let address = i << 12 | j << 8 | 0xff;
        assert_eq!(reader.lookup(address.into()), Some(hop_of(i + j + 1)));
        assert_eq!(reader.lookup((address | 0x400).into()), None);
    }
    for j in 0..4 {
        let wrong = (0..WIDE)
            .zip(answers(j))
            .find(|(i, raw)| *raw != (i + j + 1) % HOPS + 1);
        assert_eq!(wrong, None, "/24 number {j}");
    }
    reader.quiescent();

    // What the /24s covered comes out again.
    for i in 0..WIDE {
        writer.remove(net(i << 12 | 2 << 8, 24)).unwrap();
    }
    let wrong = (0..WIDE)
        .zip(answers(2))
        .find(|(i, raw)| *raw != i % HOPS + 1);
    assert_eq!(wrong, None);
    assert_eq!(writer.len(), 4 * WIDE as usize);
    let memory = writer.memory();
    assert_eq!(memory.first_level.touched, memory.first_level.reserved);
    assert!(memory.total().touched < 400 << 20, "{memory:?}");
}
