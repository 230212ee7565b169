//! The IPv6 table with readers beside the writer, while lines and groups come and go.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use shunt_fib::v6::V6;
use shunt_fib::{Fib6Config, Fib6Writer};
use shunt_rib::Address;

use super::pair::net;
use crate::common::hop;
use crate::common::storm::{Scene, storm};

const SITES: usize = 64;
/// Sites at the crest of a wave: so many that the /32's line becomes a group, and its busiest
/// line another.
const CREST: usize = 26;
/// The most that the sites of a crest can need, and few to spare: all are soon used again for
/// other places.
const LINES: u32 = 120;
const GROUPS: u32 = 7;

const DEFAULTS: [u16; 2] = [1, 2];
const AROUND: u16 = 3;
const BASES: [u16; 2] = [4, 5];
const STANDING: [u16; 2] = [6, 7];
/// The next hops of the sites' routes begin here, `PER_SITE` for each.
const FIRST: u16 = 100;
const PER_SITE: usize = 16;

/// A /29, in it a /32, in it sites with routes that end in every stage.
struct Sites {
    routes: Vec<Vec<(Ipv6Net, u16)>>,
}

fn around() -> Ipv6Net {
    net(0x2001_0db8 << 96, 29)
}

fn base() -> Ipv6Net {
    net(0x2001_0db8 << 96, 32)
}

/// Addresses whose routes stand while all around them comes and goes.
fn standing(n: usize) -> u128 {
    [
        0x0701_1357_9bdf_0246_8ace_1122,
        0x5000_8765_4321_fedc_ba98_3344,
    ][n] | 0x2001_0db8 << 96
}

/// An address of the site. Half of the sites are in one and the same /40, a quarter part from a
/// standing address, each at another bit.
fn pattern(site: usize) -> u128 {
    let key = match site % 4 {
        0 | 2 => 0x0700 + site * 3,
        1 => 0x1000 + site * 797,
        _ => return standing(site / 4 % 2) ^ 1 << bit(site),
    };
    let low = (site as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c) & ((1 << 80) - 1);
    0x2001_0db8 << 96 | (key as u128) << 80 | low
}

fn bit(site: usize) -> usize {
    site / 4 * 37 % 95
}

impl Sites {
    fn new() -> Self {
        let nets = |site: usize| -> Vec<Ipv6Net> {
            if site % 4 == 3 {
                return vec![net(pattern(site), 128 - bit(site) as u8)];
            }
            let lens: &[u8] = match (site * 5 + site / 8) % 8 {
                0 => &[48],
                1 => &[49, 64],
                2 => &[65, 80],
                3 => &[81],
                4 => &[97, 113],
                5 => &[128],
                6 => &[56, 120, 128],
                // A crowd that makes a group of a deep stage.
                _ => {
                    let nth = |i: u128| net(pattern(site) ^ (i * 0x0b35) << 48, 80);
                    return (0..10).map(nth).collect();
                }
            };
            lens.iter().map(|len| net(pattern(site), *len)).collect()
        };
        let routes = (0..SITES).map(|site| {
            let first = FIRST + (site * PER_SITE) as u16;
            nets(site).into_iter().zip(first..).collect()
        });
        Self {
            routes: routes.collect(),
        }
    }

    fn route(&self, index: u16) -> Option<Ipv6Net> {
        let index = usize::from(index.checked_sub(FIRST)?);
        let (net, _) = self.routes.get(index / PER_SITE)?.get(index % PER_SITE)?;
        Some(*net)
    }
}

impl Scene<V6> for Sites {
    fn address(&self, random: u64) -> u128 {
        let site = random as usize % SITES;
        let bit = (random >> 16) % 96;
        match random >> 8 & 7 {
            0 => pattern(site),
            1 => {
                let routes = &self.routes[site];
                u128::first(routes[(random >> 16) as usize % routes.len()].0)
            }
            2 => pattern(site) ^ 1 << (bit % 4 + 96),
            3 => u128::from(random) << 64,
            4 | 5 => standing(site % 2),
            // Parts from the site's routes at any depth.
            _ => pattern(site) ^ 1 << bit,
        }
    }

    /// What lies around at any time, or a route of a site; but the standing routes are always
    /// there.
    fn allows(&self, address: u128, hop: Option<u16>) -> bool {
        let Some(hop) = hop else {
            return false;
        };
        if let Some(n) = (0..STANDING.len()).find(|n| standing(*n) == address) {
            return hop == STANDING[n];
        }
        let ip: Ipv6Addr = address.into();
        match hop {
            AROUND => around().contains(&ip),
            _ if DEFAULTS.contains(&hop) => true,
            _ if BASES.contains(&hop) => base().contains(&ip),
            _ => self.route(hop).is_some_and(|net| net.contains(&ip)),
        }
    }
}

/// The writer's part: sites come in waves, and what lies around them changes.
struct Waves<'a> {
    sites: &'a Sites,
    live: VecDeque<usize>,
    next: usize,
    rising: bool,
    changes_default: bool,
    turns: usize,
}

impl Waves<'_> {
    fn turn(&mut self, writer: &mut Fib6Writer) {
        self.turns += 1;
        if self.rising {
            for (net, index) in &self.sites.routes[self.next] {
                assert_eq!(writer.insert(*net, hop(*index)), Ok(None));
            }
            self.live.push_back(self.next);
            self.next = (self.next + 1) % SITES;
            self.rising = self.live.len() < CREST;
        } else if let Some(site) = self.live.pop_front() {
            for (net, index) in &self.sites.routes[site] {
                assert_eq!(writer.remove(*net), Ok(Some(hop(*index))));
            }
        } else {
            self.rising = true;
        }
        let nth = self.turns / 3;
        match self.turns % 24 {
            0 | 3 | 6 => {
                writer.insert(base(), hop(BASES[nth % 2])).unwrap();
            }
            9 => {
                writer.remove(base()).unwrap().unwrap();
            }
            12 => {
                writer.remove(around()).unwrap().unwrap();
            }
            15 | 18 if self.changes_default => {
                writer.insert(net(0, 0), hop(DEFAULTS[nth % 2])).unwrap();
            }
            21 => {
                writer.insert(around(), hop(AROUND)).unwrap();
            }
            _ => (),
        }
    }
}

#[test]
fn readers_see_old_or_new_while_lines_and_groups_are_used_again() {
    let mut writer = Fib6Writer::new(Fib6Config {
        groups: GROUPS,
        lines: LINES,
        readers: 2,
        reclaim_wait: Duration::from_secs(20),
    })
    .unwrap();
    writer.insert(net(0, 0), hop(DEFAULTS[0])).unwrap();
    writer.insert(around(), hop(AROUND)).unwrap();
    for (n, index) in STANDING.into_iter().enumerate() {
        writer.insert(net(standing(n), 128), hop(index)).unwrap();
    }
    let sites = Sites::new();
    let mut waves = Waves {
        sites: &sites,
        live: VecDeque::new(),
        next: 0,
        rising: true,
        changes_default: false,
        turns: 0,
    };
    let mut most = (0, 0);
    // A lookup that a change of the default interrupts is done again, which hides what else a
    // reader might have seen. So the default stays at first.
    for (changes_default, time) in [(false, 1500), (true, 700)] {
        waves.changes_default = changes_default;
        let time = Duration::from_millis(time);
        storm(&mut writer, &sites, time, |writer, _| {
            waves.turn(writer);
            most.0 = most.0.max(writer.groups().used);
            most.1 = most.1.max(writer.lines().used);
        });
    }
    // A group beside that of the directory, one below it, and one in a deep stage at least.
    assert!(most.0 >= 4, "only {} groups were in use at once", most.0);
    assert_eq!(writer.lines().touched, LINES);
    // Each turn takes a line at least.
    assert!(
        waves.turns > 10 * LINES as usize,
        "lines were hardly used again: {} turns",
        waves.turns
    );

    let reader = writer.reader().unwrap();
    for random in 0..100_000_u64 {
        let address = sites.address(random.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let expected = writer.lookup(address.into()).map(|(_, hop)| hop);
        assert_eq!(reader.lookup(address.into()), expected, "{address:#034x}");
    }
    for site in waves.live {
        for (net, _) in &sites.routes[site] {
            writer.remove(*net).unwrap().unwrap();
        }
    }
    for net in [
        net(standing(0), 128),
        net(standing(1), 128),
        base(),
        around(),
    ] {
        writer.remove(net).unwrap();
    }
    assert_eq!((writer.groups().used, writer.lines().used), (0, 0));
}
