//! The IPv6 table against a per-length hash map, address by address.

use ipnet::Ipv6Net;
use proptest::prelude::*;

use shunt_fib::Fib6Config;

use super::pair::{Pair, net, parse};

#[derive(Debug, Clone)]
enum Op {
    Insert(Ipv6Net, u16),
    Remove(usize),
    Check,
}

/// Addresses that share bytes, so that prefixes nest, meet and divide at every depth.
fn address() -> impl Strategy<Value = u128> {
    let byte = prop_oneof![
        6 => Just(0_u8),
        2 => Just(1),
        1 => Just(0xff),
        2 => any::<u8>(),
    ];
    proptest::array::uniform16(byte).prop_map(u128::from_be_bytes)
}

/// One /32, so that its stage outgrows a line, then a group's parts do.
fn crowded() -> impl Strategy<Value = Ipv6Net> {
    (any::<u16>(), 33..=50_u8).prop_map(|(low, len)| {
        // Half of them in one /40.
        let low = if low % 2 == 0 { low } else { low & 0x00ff };
        net(0x2001_0db8 << 96 | u128::from(low) << 80, len)
    })
}

fn prefix() -> impl Strategy<Value = Ipv6Net> {
    let length = prop_oneof![
        4 => 0..=128_u8,
        2 => 24..=49_u8,
        1 => prop_oneof![Just(64_u8), Just(112), Just(120), Just(128)],
    ];
    prop_oneof![
        2 => (address(), length).prop_map(|(address, len)| net(address, len)),
        1 => crowded(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (prefix(), 0..5_u16).prop_map(|(net, hop)| Op::Insert(net, hop)),
        6 => any::<usize>().prop_map(Op::Remove),
        1 => Just(Op::Check),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Any order of updates gives the oracle's answers, with pools that run out or do not, and
    /// gives back all it took.
    #[test]
    fn as_the_oracle(
        ops in proptest::collection::vec(op(), 1..300),
        pools in prop_oneof![Just((Fib6Config::MAX_GROUPS, Fib6Config::MAX_LINES)), Just((6, 20))],
    ) {
        let mut pair = Pair::with_pools(pools.0, pools.1);
        let mut inserted = Vec::new();
        for op in ops {
            match op {
                Op::Insert(net, hop) => match pair.try_insert(net, hop) {
                    Ok(()) => inserted.push(net),
                    Err(error) => prop_assert!(pools.0 == 6, "{}", error),
                },
                Op::Remove(_) if inserted.is_empty() => pair.remove(net(0, 128)),
                Op::Remove(index) => {
                    // Some are removed twice.
                    let index = index % inserted.len();
                    pair.remove(inserted[index]);
                    if index % 4 != 0 {
                        inserted.swap_remove(index);
                    }
                }
                Op::Check => pair.check(),
            }
        }
        pair.check();
        pair.remove_all();
    }
}

#[test]
fn every_length_alone_and_under_all_shorter_ones() {
    let address = 0x2001_0db8_1234_5678_9abc_def0_1357_9bdf;
    let mut pair = Pair::new();
    for len in 0..=128 {
        pair.insert(net(address, len), u16::from(len));
        pair.check();
        pair.remove_all();
    }
    for len in (0..=128).rev() {
        pair.insert(net(address, len), u16::from(len));
    }
    pair.check();
    for len in (0..=128).step_by(2) {
        pair.remove(net(address, len));
        pair.check();
    }
    pair.remove_all();
}

#[test]
fn the_ends_of_the_address_space() {
    let mut pair = Pair::new();
    for (index, text) in [
        "::/1",
        "8000::/1",
        "::/128",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
    ]
    .into_iter()
    .enumerate()
    {
        pair.insert(parse(text), index as u16);
        pair.check();
    }
    pair.insert(parse("::/0"), 9);
    pair.remove(parse("8000::/1"));
    pair.check();
    pair.remove_all();
}

#[test]
fn a_covering_route_changes_between_and_around_those_inside() {
    let mut pair = Pair::new();
    // With the same next hop as the covering route: their edges must still be found.
    pair.insert(parse("2001:db8::/29"), 1);
    for i in 0..40_u128 {
        pair.insert(net(0x2001_0db8 << 96 | (i * 3) << 84, 44), 1);
        pair.insert(net(0x2001_0db8 << 96 | (i * 3) << 84 | i << 60, 64), 1);
    }
    for (index, text) in [
        "2001:db8::/29",
        "2001:db8::/33",
        "2001:db8::/29",
        "2001:db8:10::/41",
    ]
    .into_iter()
    .enumerate()
    {
        pair.insert(parse(text), 2 + index as u16);
        pair.check();
    }
    pair.remove(parse("2001:db8::/29"));
    pair.check();
    pair.remove_all();
}

#[test]
fn routes_of_a_line_come_and_go_for_long() {
    let mut pair = Pair::new();
    pair.insert(parse("2001:db8::/32"), 1);
    // Never more than two at a time, at ever other places: what is left of those gone must not
    // turn the line into groups.
    for i in 0..1000_u128 {
        pair.insert(net(0x2001_0db8 << 96 | (i * 37 % 0x1_0000) << 80, 48), 2);
        if i > 0 {
            pair.remove(net(0x2001_0db8 << 96 | ((i - 1) * 37 % 0x1_0000) << 80, 48));
        }
        assert_eq!(pair.used(), (1, 1), "after {i}");
    }
    pair.check();
    pair.remove_all();
}

#[test]
fn a_child_at_the_last_key_of_a_groups_line() {
    let mut pair = Pair::new();
    pair.insert(parse("2001:db8::/32"), 1);
    // The stage of 16 bits behind the /32 outgrows one line.
    for i in 0..20_u128 {
        pair.insert(net(0x2001_0db8 << 96 | i << 91, 40), 2);
        pair.insert(
            net(0x2001_0db8 << 96 | i << 91 | 0xff << 80 | 0x9 << 76, 52),
            3,
        );
        pair.check();
    }
    pair.remove_all();
}
