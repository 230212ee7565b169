//! The IPv4 table with readers beside the writer, while groups come and go.

use std::time::Duration;

use ipnet::Ipv4Net;
use shunt_fib::v4::V4;

use super::oracle::{hop, net};
use crate::common::Tested;
use crate::common::storm::{Scene, storm};

const SLOTS: u32 = 64;
/// /24s with longer routes at a time.
const LIVE: u32 = 6;
/// Few to spare, so that every group is soon used again for another /24.
const GROUPS: u16 = 8;

const BASE: [u16; 2] = [1, 2];

/// /24s under one /16, all of which come and go.
struct Slots;

fn base() -> Ipv4Net {
    net(0x0a00_0000, 16)
}

/// The upper half of a /24, and one address of the lower half.
fn routes(slot: u32) -> [(Ipv4Net, u16); 2] {
    let start = 0x0a00_0000 | slot << 8;
    [
        (net(start | 128, 25), 100 + slot as u16),
        (net(start | 5, 32), 200 + slot as u16),
    ]
}

impl Scene<V4> for Slots {
    fn address(&self, random: u64) -> u32 {
        let random = random as u32;
        let low = match random & 0x300 {
            0 => 5,
            _ => random & 0xff,
        };
        0x0a00_0000 | ((random >> 16) % SLOTS) << 8 | low
    }

    /// That of the /16, or its own /24's.
    fn allows(&self, address: u32, hop: Option<u16>) -> bool {
        let slot = (address >> 8 & 0xff) as u16;
        hop.is_some_and(|hop| {
            BASE.contains(&hop)
                || address & 0x80 != 0 && hop == 100 + slot
                || address & 0xff == 5 && hop == 200 + slot
        })
    }
}

#[test]
fn readers_see_old_or_new_while_groups_are_used_again() {
    let mut writer = V4::writer(GROUPS, 2, Duration::from_secs(20));
    writer.insert(base(), hop(BASE[0])).unwrap();
    let turns = storm(
        &mut writer,
        &Slots,
        Duration::from_millis(1200),
        |writer, turn| {
            for (net, index) in routes(turn % SLOTS) {
                writer.insert(net, hop(index)).unwrap();
            }
            if turn >= LIVE {
                for (net, index) in routes((turn - LIVE) % SLOTS) {
                    assert_eq!(writer.remove(net), Ok(Some(hop(index))));
                }
            }
            if turn.is_multiple_of(16) {
                let index = BASE[turn as usize / 16 % 2];
                writer.insert(base(), hop(index)).unwrap();
            }
        },
    );
    assert!(
        turns > 10 * u32::from(GROUPS),
        "groups were hardly used again: {turns} turns"
    );

    let reader = writer.reader().unwrap();
    for address in 0x0a00_0000..0x0a01_0000u32 {
        let expected = writer.lookup(address.into()).map(|(_, hop)| hop);
        assert_eq!(reader.lookup(address.into()), expected, "{address:#010x}");
    }
}
