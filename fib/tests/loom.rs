//! Models for loom: a reader beside a few updates, in every order in which their steps can meet
//! (with a bounded number of switches between the threads) and with every value that a load may
//! see. Every answer must be one that the address had during the lookup, and each model must reach
//! what it is about. The tables are as in use, but with tiny arrays.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p shunt-fib --release --test loom --target-dir target/loom
//! ```
#![cfg(loom)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use loom::model::Builder;
use loom::sync::atomic::AtomicBool;
use loom::thread;
use shunt_fib::{
    Fib4Config, Fib4Reader, Fib4Writer, Fib6Config, Fib6Reader, Fib6Writer, NextHopIndex,
};

/// How often something has happened, in all runs of a model together.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn add(&self, happened: bool) {
        self.0.fetch_add(usize::from(happened), Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// Runs a model with so many switches between threads that their own steps do not ask for.
fn check(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(switches);
    builder.max_branches = 100_000;
    builder.check(model);
}

fn hop(index: u16) -> NextHopIndex {
    NextHopIndex::new(index).unwrap()
}

fn writer4(groups: u16) -> Fib4Writer {
    Fib4Writer::new(Fib4Config {
        groups,
        readers: 1,
        reclaim_wait: Duration::ZERO,
    })
    .unwrap()
}

fn insert4(writer: &mut Fib4Writer, net: &str, index: u16) -> bool {
    writer.insert(net.parse().unwrap(), hop(index)).is_ok()
}

fn remove4(writer: &mut Fib4Writer, net: &str) {
    writer.remove(net.parse().unwrap()).unwrap().unwrap();
}

fn batch4<const N: usize>(reader: &Fib4Reader, addresses: [[u8; 4]; N]) -> [u16; N] {
    let mut raw = [0u32; N];
    reader.lookup_batch(&addresses.map(u32::from_be_bytes), &mut raw);
    raw.map(|raw| NextHopIndex::from_raw(raw as u16).map_or(u16::MAX, NextHopIndex::get))
}

fn single4(reader: &Fib4Reader, address: [u8; 4]) -> u16 {
    let found = reader.lookup(Ipv4Addr::from(address));
    found.map_or(u16::MAX, NextHopIndex::get)
}

/// A longer route comes, goes, and another /24 takes over its group.
#[test]
fn a_group_is_used_again() {
    let reused = Count::default();
    let count = reused.clone();
    check(5, move || {
        let mut writer = writer4(1);
        insert4(&mut writer, "0.0.0.0/24", 1);
        insert4(&mut writer, "0.0.1.0/24", 2);
        let reader = writer.reader().unwrap();
        let thread = thread::spawn(move || {
            let [long, beside, other] = batch4(&reader, [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]);
            assert!([1, 3].contains(&long), "{long}");
            assert_eq!(beside, 1);
            assert!([2, 4].contains(&other), "{other}");
            reader.quiescent();
            let long = single4(&reader, [0, 0, 0, 0]);
            assert!([1, 3].contains(&long), "{long}");
            let other = single4(&reader, [0, 0, 1, 0]);
            assert!([2, 4].contains(&other), "{other}");
        });
        assert!(insert4(&mut writer, "0.0.0.0/32", 3));
        remove4(&mut writer, "0.0.0.0/32");
        count.add(insert4(&mut writer, "0.0.1.0/32", 4));
        thread.join().unwrap();
        assert!(insert4(&mut writer, "0.0.1.0/32", 4));
    });
    assert!(reused.get() > 0);
}

/// A reader that comes back is waited for; one that is gone is not.
#[test]
fn a_reader_leaves_and_comes_back() {
    let (reused, refused) = (Count::default(), Count::default());
    let counts = (reused.clone(), refused.clone());
    check(5, move || {
        let mut writer = writer4(1);
        insert4(&mut writer, "0.0.0.0/24", 1);
        insert4(&mut writer, "0.0.1.0/24", 2);
        insert4(&mut writer, "0.0.0.0/32", 3);
        let reader = writer.reader().unwrap();
        reader.offline();
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                let long = single4(&reader, [0, 0, 0, 0]);
                assert!([1, 3].contains(&long), "{long}");
                reader.offline();
            }
            reader.online();
            let [long] = batch4(&reader, [[0, 0, 0, 0]]);
            assert!([1, 3].contains(&long), "{long}");
        });
        remove4(&mut writer, "0.0.0.0/32");
        let done = insert4(&mut writer, "0.0.1.0/32", 4);
        counts.0.add(done);
        counts.1.add(!done);
        thread.join().unwrap();
        // The reader has been dropped.
        assert!(insert4(&mut writer, "0.0.1.0/32", 4));
    });
    assert!(reused.get() > 0 && refused.get() > 0);
}

/// With the default route 1 and a route of next hop 3, the default becomes 2, then the route goes:
/// its addresses never have 1. `longer` stays and has the last address of the route's /24.
fn default_and_route(route: &'static str, longer: Option<&'static str>) {
    let seen = Count::default();
    let count = seen.clone();
    check(5, move || {
        let mut writer = writer4(1);
        insert4(&mut writer, "0.0.0.0/0", 1);
        if let Some(longer) = longer {
            assert!(insert4(&mut writer, longer, 4));
        }
        assert!(insert4(&mut writer, route, 3));
        let reader = writer.reader().unwrap();
        let count = count.clone();
        let filled = loom::sync::Arc::new(AtomicBool::new(false));
        let is_filled = loom::sync::Arc::clone(&filled);
        let thread = thread::spawn(move || {
            let [inside, outside, last] =
                batch4(&reader, [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 255]]);
            assert!([3, 2].contains(&inside), "{inside}");
            assert!([1, 2].contains(&outside), "{outside}");
            match longer {
                Some(_) => assert_eq!(last, 4),
                None => assert!([3, 2].contains(&last), "{last}"),
            }
            count.add(outside == 1);
            // What the writer's thread did before is seen with the route.
            assert!(outside == 1 || is_filled.load(Relaxed));
            let inside = single4(&reader, [0, 0, 0, 0]);
            assert!([3, 2].contains(&inside), "{inside}");
        });
        filled.store(true, Relaxed);
        insert4(&mut writer, "0.0.0.0/0", 2);
        remove4(&mut writer, route);
        thread.join().unwrap();
    });
    assert!(seen.get() > 0);
}

#[test]
fn an_old_default_is_not_taken_for_a_newer_miss() {
    default_and_route("0.0.0.0/24", None);
}

/// The miss is found by the pass over the groups.
#[test]
fn an_old_default_is_not_taken_for_a_newer_miss_in_a_group() {
    default_and_route("0.0.0.0/32", Some("0.0.0.128/25"));
}

fn insert6(writer: &mut Fib6Writer, net: &str, index: u16) -> bool {
    writer.insert(net.parse().unwrap(), hop(index)).is_ok()
}

fn single6(reader: &Fib6Reader, address: &str) -> u16 {
    let found = reader.lookup(address.parse().unwrap());
    found.map_or(u16::MAX, NextHopIndex::get)
}

fn batch6<const N: usize>(reader: &Fib6Reader, addresses: [&str; N]) -> [u16; N] {
    let mut raw = [0u16; N];
    let addresses = addresses.map(|text| text.parse::<Ipv6Addr>().unwrap().into());
    reader.lookup_batch(&addresses, &mut raw);
    raw.map(|raw| NextHopIndex::from_raw(raw).map_or(u16::MAX, NextHopIndex::get))
}

fn writer6(lines: u32) -> Fib6Writer {
    Fib6Writer::new(Fib6Config {
        groups: 1,
        lines,
        readers: 1,
        reclaim_wait: Duration::ZERO,
    })
    .unwrap()
}

fn remove6(writer: &mut Fib6Writer, net: &str) {
    writer.remove(net.parse().unwrap()).unwrap().unwrap();
}

/// A line is replaced by one with another route, and used again in another place.
#[test]
fn a_line_is_used_again() {
    let reused = Count::default();
    let count = reused.clone();
    check(5, move || {
        let mut writer = writer6(2);
        // 0:1::/32 and its neighbour share the group of a /24.
        assert!(insert6(&mut writer, "0:1::/32", 1));
        assert!(insert6(&mut writer, "0:2::/32", 2));
        assert!(insert6(&mut writer, "0:1:5::/48", 3));
        let reader = writer.reader().unwrap();
        let thread = thread::spawn(move || {
            let [standing, new, other] = batch6(&reader, ["0:1:5::", "0:1:9::", "0:2:5::"]);
            assert_eq!(standing, 3);
            assert!([1, 4].contains(&new), "{new}");
            assert!([2, 5].contains(&other), "{other}");
            reader.quiescent();
            assert_eq!(single6(&reader, "0:1:5::"), 3);
            let other = single6(&reader, "0:2:5::");
            assert!([2, 5].contains(&other), "{other}");
        });
        assert!(insert6(&mut writer, "0:1:9::/48", 4));
        count.add(insert6(&mut writer, "0:2:5::/48", 5));
        thread.join().unwrap();
        assert!(insert6(&mut writer, "0:2:5::/48", 5));
    });
    assert!(reused.get() > 0);
}

/// A next hop that no route had before. The pass over the groups, which another address of the
/// batch needs, takes it to the cell of its own.
#[test]
fn a_next_hop_is_used_for_the_first_time() {
    let seen = Count::default();
    let count = seen.clone();
    check(5, move || {
        let mut writer = writer6(1);
        // The first /24 has a group, the second none.
        assert!(insert6(&mut writer, "0:1::/32", 1));
        assert!(insert6(&mut writer, "0:100::/24", 2));
        let reader = writer.reader().unwrap();
        let count = count.clone();
        let thread = thread::spawn(move || {
            let [in_group, beside, direct] = batch6(&reader, ["0:1::", "0:2::", "0:100::"]);
            assert!([1, 8].contains(&in_group), "{in_group}");
            assert_eq!(beside, u16::MAX);
            assert!([2, 7].contains(&direct), "{direct}");
            count.add(direct == 7);
        });
        assert!(insert6(&mut writer, "0:100::/24", 7));
        assert!(insert6(&mut writer, "0:1::/32", 8));
        thread.join().unwrap();
    });
    assert!(seen.get() > 0);
}

/// A run of a line gets a child and loses it, and the child's line is used again elsewhere.
#[test]
fn a_child_comes_and_goes() {
    let (seen, reused) = (Count::default(), Count::default());
    let counts = (seen.clone(), reused.clone());
    check(4, move || {
        let mut writer = writer6(2);
        assert!(insert6(&mut writer, "0:1::/32", 1));
        assert!(insert6(&mut writer, "0:2::/32", 2));
        assert!(insert6(&mut writer, "0:1:5::/48", 3));
        let reader = writer.reader().unwrap();
        let seen = counts.0.clone();
        let thread = thread::spawn(move || {
            // Most are in the child, if it is there; then few, which are taken out of the batch.
            let [child, beside, above] = batch6(&reader, ["0:1:5:6::", "0:1:5:7::", "0:1:9::"]);
            assert!([3, 4].contains(&child), "{child}");
            assert_eq!((beside, above), (3, 1));
            seen.add(child == 4);
            reader.quiescent();
            let [above, other, child] = batch6(&reader, ["0:1:9::", "0:2:5::", "0:1:5:6::"]);
            assert!([3, 4].contains(&child), "{child}");
            assert!([2, 5].contains(&other), "{other}");
            assert_eq!(above, 1);
            let child = single6(&reader, "0:1:5:6::");
            assert!([3, 4].contains(&child), "{child}");
        });
        assert!(insert6(&mut writer, "0:1:5:6::/64", 4));
        remove6(&mut writer, "0:1:5:6::/64");
        counts.1.add(insert6(&mut writer, "0:2:5::/48", 5));
        thread.join().unwrap();
        assert!(insert6(&mut writer, "0:2:5::/48", 5));
    });
    assert!(seen.get() > 0 && reused.get() > 0);
}
