use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn table(max: usize) -> FlowTable {
    FlowTable::new(FlowLimits {
        max,
        ..FlowLimits::default()
    })
}

fn flow(n: u32, protocol: u8) -> FlowKey {
    FlowKey {
        source: Ipv4Addr::from_bits(0x0a01_0000 + n).into(),
        destination: Ipv4Addr::new(10, 2, 0, 1).into(),
        protocol,
        source_port: 40_000,
        destination_port: 80,
    }
}

fn open(table: &FlowTable, key: FlowKey, now: u32) {
    assert_eq!(table.record(key, Some(SYN), now), Recorded::New);
    assert!(table.is_reply(key.reverse(), Some(SYN | ACK), now));
    assert_eq!(table.record(key, Some(ACK), now), Recorded::Known);
}

/// State and seconds left of the flow (not of the entry for its fragments).
fn row(table: &FlowTable, key: FlowKey, now: u32) -> Option<(FlowState, u32)> {
    let rows = table.list(now);
    let row = rows.iter().find(|row| row.key == key)?;
    Some((row.state, row.expires_in))
}

#[test]
fn replies_of_recorded_flows_are_known_and_nothing_else() {
    let table = table(64);
    let key = flow(1, UDP);
    assert!(table.is_empty());
    assert!(!table.is_reply(key.reverse(), None, 5));
    assert_eq!(table.record(key, None, 5), Recorded::New);
    assert_eq!(table.record(key, None, 5), Recorded::Known);
    assert!(!table.is_empty());
    assert!(table.is_reply(key.reverse(), None, 6));

    assert!(!table.is_reply(key, None, 6), "the same way again");
    let other = FlowKey {
        source_port: 40_001,
        ..key
    };
    assert!(!table.is_reply(other.reverse(), None, 6));
    let other = FlowKey {
        protocol: TCP,
        ..key
    };
    assert!(!table.is_reply(other.reverse(), Some(ACK), 6));
    assert!(!table.is_reply(flow(2, UDP).reverse(), None, 6));
}

#[test]
fn ipv6_flows_are_followed() {
    let table = table(64);
    let key = FlowKey {
        source: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1).into(),
        destination: Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1).into(),
        ..flow(1, TCP)
    };
    open(&table, key, 1);
    assert_eq!(row(&table, key, 1), Some((FlowState::Established, 86_400)));
    let near = FlowKey {
        source: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 1, 1).into(),
        ..key
    };
    assert!(!table.is_reply(near.reverse(), Some(ACK), 1));
    assert!(table.is_reply(key.without_ports().reverse(), None, 1));
}

#[test]
fn each_state_has_its_time() {
    let table = table(1024);
    let opening = flow(1, TCP);
    table.record(opening, Some(SYN), 0);
    let established = flow(2, TCP);
    open(&table, established, 0);
    let half = flow(3, TCP);
    open(&table, half, 0);
    assert!(table.is_reply(half.reverse(), Some(FIN | ACK), 0));
    let closed = flow(4, TCP);
    open(&table, closed, 0);
    table.record(closed, Some(FIN | ACK), 0);
    assert!(table.is_reply(closed.reverse(), Some(FIN | ACK), 0));
    let reset = flow(5, TCP);
    open(&table, reset, 0);
    assert!(table.is_reply(reset.reverse(), Some(RST), 0));
    let udp = flow(6, UDP);
    table.record(udp, None, 0);

    for (key, state, time) in [
        (opening, FlowState::Opening, 120),
        (closed, FlowState::Closing, 120),
        (reset, FlowState::Closing, 120),
        (udp, FlowState::Other, 180),
        (half, FlowState::Closing, 3600),
        (established, FlowState::Established, 86_400),
    ] {
        assert_eq!(row(&table, key, 0), Some((state, time)), "{key:?}");
        table.age(time - 1);
        assert_eq!(row(&table, key, time - 1), Some((state, 1)), "{key:?}");
    }
    assert_eq!(table.len(), 2, "a flow and its fragments");
    assert_eq!(table.age(86_400), 1);
}

#[test]
fn expired_flows_are_gone_after_ageing() {
    let table = table(1024);
    for n in 0..100 {
        table.record(flow(n, UDP), None, n);
    }
    assert_eq!(table.len(), 200);
    assert_eq!(table.age(180 + 49), 100);
    assert_eq!(table.len(), 100);
    for n in 0..100 {
        assert_eq!(table.is_reply(flow(n, UDP).reverse(), None, 229), n >= 50);
    }
    assert_eq!(table.age(229 + 179), 0, "replies have refreshed them");
    assert_eq!(table.age(229 + 180), 100);
    assert!(table.is_empty() && table.list(409).is_empty());
}

#[test]
fn fragments_follow_as_long_as_one_flow_lives() {
    let table = table(64);
    let (udp, tcp) = (flow(1, UDP), flow(1, TCP));
    table.record(udp, None, 0);
    open(&table, tcp, 0);
    assert!(table.is_reply(udp.without_ports().reverse(), None, 0));
    assert_eq!(table.age(170), 0);
    assert!(table.is_reply(udp.reverse(), None, 170));
    assert_eq!(table.age(340), 0, "the reply has refreshed both");
    assert_eq!(table.age(350), 2, "the UDP flow, and its fragments");
    assert!(!table.is_reply(udp.without_ports().reverse(), None, 350));

    // An idle TCP connection outlives the time of its fragments' entry many times.
    for hour in 1..24 {
        assert_eq!(table.age(hour * 3600), 0);
    }
    assert_eq!(table.len(), 2);
    assert!(table.is_reply(tcp.without_ports().reverse(), None, 80_000));
    assert_eq!(table.age(86_399), 0);
    assert_eq!(
        table.age(86_400),
        1,
        "the flow; its fragments a little later"
    );
    assert_eq!(table.age(86_400 + 180), 1);
    assert!(table.is_empty());
}

#[test]
fn later_fragments_are_recorded_without_ports() {
    let table = table(64);
    let key = flow(1, UDP).without_ports();
    assert_eq!(table.record(key, None, 0), Recorded::New);
    assert_eq!(table.record(key, None, 1), Recorded::Known);
    assert!(table.is_reply(key.reverse(), None, 1));
    assert!(!table.is_reply(flow(1, UDP).reverse(), None, 1));
    assert_eq!(table.list(1).len(), 1);
}

#[test]
fn a_port_used_again_begins_anew() {
    let table = table(64);
    let key = flow(1, TCP);
    open(&table, key, 0);
    table.record(key, Some(RST), 0);
    assert_eq!(row(&table, key, 0), Some((FlowState::Closing, 120)));
    assert_eq!(table.record(key, Some(SYN), 9), Recorded::Known);
    assert_eq!(row(&table, key, 9), Some((FlowState::Opening, 120)));
}

#[test]
fn closed_then_expired_then_idle_flows_yield() {
    // Two buckets: every key may take every slot. No ports: no entries for fragments.
    let table = table(4);
    let icmp = |n| FlowKey {
        protocol: 1,
        ..flow(n, 0).without_ports()
    };
    let fits = |n: u32, now| table.record(icmp(n), None, now);
    let has = |key: FlowKey| table.list(1000).iter().any(|row| row.key == key);
    open(&table, flow(1, TCP), 900);
    table.record(flow(1, TCP), Some(RST), 900);
    assert_eq!(fits(2, 810), Recorded::New);
    assert_eq!(fits(3, 950), Recorded::New);
    assert_eq!(table.len(), 4);

    assert_eq!(fits(4, 1000), Recorded::New);
    assert!(!has(flow(1, TCP)), "closed, though it could stay");
    assert_eq!(fits(5, 1000), Recorded::New);
    assert!(!has(icmp(2)), "expired");
    assert_eq!(fits(6, 1000), Recorded::New);
    assert!(!has(flow(1, TCP).without_ports()), "seen longest ago");
    assert_eq!(fits(7, 1000), Recorded::New);
    assert!(!has(icmp(3)), "seen second longest ago");
    assert!([4, 5, 6, 7].into_iter().all(|n| has(icmp(n))));
    assert_eq!((table.len(), table.refused()), (4, 0));
}

#[test]
fn established_flows_do_not_yield() {
    let table = table(4);
    for n in 1..=4 {
        // Each takes the place of the fragments' entry of an earlier one, at the latest.
        open(&table, flow(n, TCP), n);
    }
    assert_eq!((table.len(), table.refused()), (4, 0));
    assert_eq!(table.record(flow(9, TCP), Some(SYN), 50), Recorded::Full);
    assert_eq!(table.record(flow(9, UDP), None, 50), Recorded::Full);
    assert_eq!(table.refused(), 2);
    for n in 1..=4 {
        assert!(table.is_reply(flow(n, TCP).reverse(), Some(ACK), 50));
    }
    assert!(table.is_reply(flow(3, TCP).reverse(), Some(RST), 50));
    assert_eq!(table.record(flow(9, UDP), None, 50), Recorded::New);
    assert!(!table.is_reply(flow(3, TCP).reverse(), None, 50));
}

#[test]
fn a_flood_without_answers_does_not_displace_connections() {
    let table = table(1024);
    for n in 0..100 {
        open(&table, flow(n, TCP), 1);
    }
    for n in 0..100_000u32 {
        let forged = FlowKey {
            source_port: n as u16,
            ..flow(1000 + (n >> 16), TCP)
        };
        let flags = [SYN, ACK, FIN | ACK, SYN | FIN];
        let flags = flags.get(n as usize % 4).copied();
        assert_ne!(table.record(forged, flags, 2 + n / 10_000), Recorded::Full);
        assert!(table.len() <= 1024);
    }
    for n in 0..100 {
        assert!(table.is_reply(flow(n, TCP).reverse(), Some(ACK), 20));
    }
}

#[test]
fn takes_its_limit_and_no_more() {
    for max in [0, 1, 8, 1000, 65_536] {
        let table = table(max);
        for n in 0..max as u32 {
            let key = flow(n, UDP).without_ports();
            assert_eq!(table.record(key, None, 0), Recorded::New, "{n} of {max}");
        }
        for n in 0..max as u32 {
            let key = flow(n, UDP).without_ports();
            assert!(table.is_reply(key.reverse(), None, 0), "{n} of {max}");
        }
        assert_eq!((table.len(), table.list(0).len()), (max, max));
        let one_more = table.record(flow(70_000, UDP), None, 1);
        assert_eq!(one_more == Recorded::Full, max == 0, "{max}");
        assert_eq!((table.len(), table.list(1).len()), (max, max));
    }
}

proptest! {
    /// Beside a map: which flows are there, and how long they have been idle.
    #[test]
    fn agrees_with_a_map(ops in prop::collection::vec((0..4u8, 0..24u32, 0..90u32), 1..200)) {
        let table = table(1024);
        let mut map: HashMap<FlowKey, u32> = HashMap::new();
        let mut now = 0;
        for (op, n, step) in ops {
            now += step;
            // Some share addresses, some only ports, some have none.
            let mut key = FlowKey { source_port: (n % 3) as u16, ..flow(n / 6, UDP) };
            if n % 6 == 0 {
                key = key.without_ports();
            }
            let bare = key.without_ports();
            match op {
                0 | 1 => {
                    let known = map.insert(key, now).is_some();
                    map.insert(bare, now);
                    let expected = if known { Recorded::Known } else { Recorded::New };
                    prop_assert_eq!(table.record(key, None, now), expected);
                }
                2 => {
                    let known = map.contains_key(&key);
                    if known {
                        map.insert(key, now);
                        map.insert(bare, now);
                    }
                    prop_assert_eq!(table.is_reply(key.reverse(), None, now), known);
                }
                _ => {
                    let before = map.len();
                    map.retain(|_, seen| now - *seen < 180);
                    prop_assert_eq!(table.age(now), before - map.len());
                }
            }
            prop_assert_eq!(table.len(), map.len());
        }
        for row in table.list(now) {
            prop_assert_eq!(map.get(&row.key), Some(&(now - row.idle)));
        }
    }
}

/// Every part of the key is made of `n`, so a mixture of two such keys is none of them.
fn whole(n: u32) -> FlowKey {
    let n = n & 0x7fff;
    let bits = u128::from(n) * 0x0001_0001_0001_0001_0001_0001_0001_0001;
    FlowKey {
        source: Ipv6Addr::from_bits(bits).into(),
        destination: Ipv6Addr::from_bits(!bits).into(),
        protocol: UDP,
        source_port: n as u16 | 0x8000,
        destination_port: n as u16,
    }
}

#[test]
fn readers_beside_an_inserter_and_an_ager_never_find_what_was_not_there() {
    const MAX: usize = 64;
    let table = FlowTable::new(FlowLimits {
        max: MAX,
        idle: 2,
        ..FlowLimits::default()
    });
    let (stop, clock) = (AtomicBool::new(false), AtomicU64::new(0));
    let (found, removed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let now = || clock.load(Ordering::Relaxed) as u32;
    std::thread::scope(|scope| {
        let read = || {
            let mut n = 0u32;
            while !stop.load(Ordering::Relaxed) {
                n = n.wrapping_add(2);
                // Only even numbers are inserted.
                if table.is_reply(whole(n).reverse(), None, now()) {
                    found.fetch_add(1, Ordering::Relaxed);
                }
                assert!(!table.is_reply(whole(n + 1).reverse(), None, now()));
                let torn = FlowKey {
                    destination: whole(n + 2).destination,
                    ..whole(n)
                };
                assert!(!table.is_reply(torn.reverse(), None, now()));
                assert!(!table.is_reply(torn.without_ports().reverse(), None, now()));
            }
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        let ager = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                removed.fetch_add(table.age(now()), Ordering::Relaxed);
                assert!(table.len() <= MAX);
                // No snapshot: there may be more rows than were entries at any time.
                for FlowRow { key, .. } in table.list(now()) {
                    let IpAddr::V6(source) = key.source else {
                        panic!("{key:?}");
                    };
                    let n = source.to_bits() as u16;
                    let expected = whole(n.into());
                    assert!(
                        n.is_multiple_of(2) && [expected, expected.without_ports()].contains(&key)
                    );
                }
                std::thread::yield_now();
            }
        });
        // It may be: an entry that the ager has just removed counts for a moment more.
        let mut full = 0;
        // Until the others have had their turns too: there may be fewer cores than threads.
        let begin = Instant::now();
        let enough = || {
            let few = found.load(Ordering::Relaxed) < 10 || removed.load(Ordering::Relaxed) < 100;
            !few || begin.elapsed() > Duration::from_secs(30)
        };
        let mut n = 16u32;
        while n < 100_000 || !enough() {
            // Some known, most new. They expire at about the pace at which the table fills, so
            // it is now the ager that makes room and now the inserter.
            let even = if n.is_multiple_of(4) { n - 16 } else { n } * 2;
            full += u32::from(table.record(whole(even), None, now()) == Recorded::Full);
            if n.is_multiple_of(8) {
                clock.fetch_add(1, Ordering::Relaxed);
            }
            n += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(full < n / 10, "{full} of {n}");
        assert!(ager.join().is_ok());
        for reader in readers {
            assert!(reader.join().is_ok());
        }
    });
    assert!(found.into_inner() >= 10 && removed.into_inner() >= 100);
    clock.fetch_add(10, Ordering::Relaxed);
    let left = table.list(now()).len();
    assert_eq!((table.age(now()), table.len()), (left, 0));
}
