//! The second-level groups of an IPv4 table: running out, and coming back.

use std::time::{Duration, Instant};

use shunt_fib::v4::V4;
use shunt_fib::{Fib4Config, Fib4Writer, FibError, NextHopIndex};

use super::oracle::{hop, net};
use crate::common::Tested;

#[test]
fn groups_run_out_and_come_back() {
    let mut writer = V4::writer(3, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    let host = |slot: u32, host: u32| net(slot << 8 | host, 32);
    for slot in 0..3 {
        writer.insert(host(slot, 1), hop(slot as u16)).unwrap();
    }
    let before = writer.memory();
    let error = writer.insert(host(3, 1), hop(3)).unwrap_err();
    assert_eq!(
        error,
        FibError::PoolExhausted {
            pool: "groups",
            limit: 3,
            used: 3,
            held: 0,
            lagging: 0
        }
    );
    assert!(error.to_string().contains("raise `groups`"));

    // Nothing has changed, and what needs no new group still goes in.
    assert_eq!(writer.memory(), before);
    assert_eq!(writer.get(host(3, 1)), None);
    assert_eq!(writer.len(), 3);
    assert_eq!(reader.lookup(0x301.into()), None);
    assert_eq!(writer.insert(host(2, 2), hop(4)), Ok(None));
    assert_eq!(writer.insert(host(2, 1), hop(5)), Ok(Some(hop(2))));
    assert_eq!(writer.insert(net(0x300, 24), hop(6)), Ok(None));

    // A /24 gives its group back with the last of its longer routes.
    writer.remove(host(2, 1)).unwrap();
    reader.quiescent();
    assert!(writer.insert(host(3, 1), hop(3)).is_err());
    writer.remove(host(2, 2)).unwrap();
    reader.quiescent();
    assert_eq!(writer.insert(host(3, 1), hop(3)), Ok(None));
    assert_eq!(
        [0x001, 0x101, 0x201, 0x202, 0x300, 0x301, 0x302].map(|a: u32| reader.lookup(a.into())),
        [Some(0), Some(1), None, None, Some(6), Some(3), Some(6)].map(|index| index.map(hop))
    );
}

#[test]
fn a_table_without_groups_takes_prefixes_up_to_24() {
    let mut writer = V4::writer(0, 0, Duration::from_secs(60));
    let start = Instant::now();
    let error = writer.insert(net(0, 25), hop(1)).unwrap_err();
    assert_eq!(
        error,
        FibError::PoolExhausted {
            pool: "groups",
            limit: 0,
            used: 0,
            held: 0,
            lagging: 0
        }
    );
    // There was nobody to wait for.
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(writer.insert(net(0, 24), hop(1)), Ok(None));
}

#[test]
fn too_many_groups_are_refused() {
    let config = Fib4Config {
        groups: Fib4Config::MAX_GROUPS + 1,
        ..Fib4Config::default()
    };
    let error = Fib4Writer::<NextHopIndex>::new(config).unwrap_err();
    assert_eq!(
        error,
        FibError::PoolTooLarge {
            pool: "groups",
            asked: 32_769,
            limit: 32_768
        }
    );
}

#[test]
fn all_groups_can_be_in_use() {
    let mut writer = V4::writer(Fib4Config::MAX_GROUPS, 1, Duration::ZERO);
    let reader = writer.reader().unwrap();
    let slots = u32::from(Fib4Config::MAX_GROUPS);
    let value = |slot: u32| hop((slot % 32_767) as u16);
    for slot in 0..slots {
        writer
            .insert(net(slot << 8 | 255, 32), value(slot))
            .unwrap();
    }
    assert!(writer.insert(net(slots << 8, 32), hop(0)).is_err());
    for slot in 0..slots {
        assert_eq!(reader.lookup((slot << 8 | 255).into()), Some(value(slot)));
        assert_eq!(reader.lookup((slot << 8 | 254).into()), None);
    }
    assert_eq!(writer.memory().second_level.touched, 16 << 20);
}
