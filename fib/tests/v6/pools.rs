//! Groups and lines: running out, and being used again.

use shunt_fib::{Fib6Config, Fib6Writer, FibError, NextHopIndex};

use super::pair::{Pair, net, parse};

#[test]
fn more_than_an_entry_can_name_is_refused() {
    for (pool, groups, lines, asked, limit) in [
        ("groups", Fib6Config::MAX_GROUPS + 1, 1, 65_409, 65_408),
        ("lines", 1, Fib6Config::MAX_LINES + 1, 524_289, 524_288),
    ] {
        let config = Fib6Config {
            groups,
            lines,
            ..Fib6Config::default()
        };
        let error = Fib6Writer::<NextHopIndex>::new(config).unwrap_err();
        assert_eq!(error, FibError::PoolTooLarge { pool, asked, limit });
    }
}

#[test]
fn without_groups_nothing_longer_than_a_directory_entry() {
    let mut pair = Pair::with_pools(0, 8);
    pair.insert(parse("2001:d00::/24"), 1);
    assert_eq!(
        pair.try_insert(parse("2001:d00::/25"), 2),
        Err(FibError::PoolExhausted {
            pool: "groups",
            limit: 0,
            used: 0,
            held: 0,
            lagging: 0
        })
    );
    pair.check();
}

#[test]
fn a_chain_that_ends_for_want_of_lines_leaves_nothing_behind() {
    // A /128 wants a group and a line for each of six stages.
    let mut pair = Pair::with_pools(8, 5);
    let host = parse("2001:db8::1/128");
    let error = pair.try_insert(host, 1).unwrap_err();
    assert!(error.to_string().contains("lines"), "{error}");
    pair.check();
    assert_eq!(pair.used(), (0, 0));
    pair.reader.quiescent();
    pair.insert(parse("2001:db8::/80"), 1);
    pair.check();
}

#[test]
fn a_reader_that_is_never_quiescent_holds_lines_up_until_it_is() {
    let mut pair = Pair::with_pools(8, 4);
    let writer = &mut pair.writer;
    let hop = NextHopIndex::new(1).unwrap();
    // Each insertion replaces the line.
    let mut refused = None;
    for i in 0..8_u128 {
        if let Err(error) = writer.insert(net(0x2001_0db8 << 96 | i << 84, 48), hop) {
            refused = Some((i, error));
            break;
        }
    }
    let held = FibError::PoolExhausted {
        pool: "lines",
        limit: 4,
        used: 1,
        held: 3,
        lagging: 1,
    };
    assert_eq!(refused, Some((4, held)));
    // A removal wants nothing.
    writer.remove(net(0x2001_0db8 << 96, 48)).unwrap();
    pair.reader.quiescent();
    writer_inserts_again(&mut pair);
}

fn writer_inserts_again(pair: &mut Pair) {
    let hop = NextHopIndex::new(2).unwrap();
    for i in 4..8_u128 {
        pair.reader.quiescent();
        let net = net(0x2001_0db8 << 96 | i << 84, 48);
        assert_eq!(pair.writer.insert(net, hop), Ok(None));
        assert_eq!(pair.reader.lookup(net.network()), Some(hop));
    }
    assert_eq!(pair.writer.lines().touched, 4);
}

#[test]
fn a_crowd_that_leaves_gives_back_its_groups() {
    let mut pair = Pair::new();
    for i in 0..600_u128 {
        pair.insert(net(0x2001_0db8 << 96 | i << 80, 48), (i % 7) as u16);
    }
    pair.check();
    // The directory's, the stage's, and one for each of the three crowded /40s.
    assert_eq!(pair.used().0, 5);
    pair.remove_all();
}
