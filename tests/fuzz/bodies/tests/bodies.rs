//! The fuzz bodies on deterministic inputs: random bytes, and sound ones with bytes changed.

mod seeds;

use seeds::seeds;
use shunt_encap::extension::walk_v6;
use shunt_encap::icmp::{may_answer_v4, read_too_big_v4};
use shunt_encap::igmp::parse_igmp;
use shunt_encap::mld::parse_mld;
use shunt_encap::mss::clamp_mss;
use shunt_encap::ndp::parse_ndp;
use shunt_encap::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, is_partial_l4_v4, is_partial_l4_v6,
    needs_sctp_crc_v4, needs_sctp_crc_v6,
};
use shunt_fuzz_bodies::BODIES;

const ROUNDS: u32 = 4000;

/// Marsaglia's xorshift: the same inputs at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound.max(1)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 24) as u8).collect()
    }
}

#[test]
fn random_bytes() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (_, body) in BODIES {
        for _ in 0..ROUNDS {
            let len = random.below(200);
            body(&random.bytes(len));
        }
    }
}

#[test]
fn sound_inputs_and_every_cut_of_them() {
    for (name, body) in BODIES {
        for seed in seeds(name) {
            for len in 0..=seed.len() {
                body(&seed[..len]);
            }
        }
    }
}

#[test]
fn sound_inputs_with_bytes_changed() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for (name, body) in BODIES {
        let seeds = seeds(name);
        for round in 0..ROUNDS as usize {
            let mut input = seeds[round % seeds.len()].clone();
            for _ in 0..=random.below(4) {
                let at = random.below(input.len());
                input[at] = match random.below(3) {
                    0 => input[at] ^ 1 << random.below(8),
                    1 => [0x00, 0xff, 0x7f, 0x80][random.below(4)],
                    _ => random.next() as u8,
                };
            }
            if random.below(4) == 0 {
                let padding = random.below(20);
                input.extend(random.bytes(padding));
            }
            body(&input);
        }
    }
}

/// The seeds must reach the code behind the first checks, or the tests above show little.
#[test]
fn seeds_reach_the_deep_ends() {
    assert!(
        seeds("ipv4")
            .iter()
            .all(|packet| is_partial_l4_v4(packet).is_some())
    );
    let kinds: Vec<u16> = seeds("vxlan")
        .iter()
        .map(|bytes| u16::from_be_bytes([bytes[8 + 12], bytes[8 + 13]]))
        .collect();
    assert_eq!(
        kinds,
        [
            ETHERTYPE_ARP,
            ETHERTYPE_IPV6,
            ETHERTYPE_IPV4,
            ETHERTYPE_IPV4
        ]
    );
}

#[test]
fn newer_seeds_are_sound_too() {
    assert!(seeds("extension").iter().all(|it| walk_v6(it).is_ok()));
    assert!(
        seeds("ipv6")
            .iter()
            .any(|it| is_partial_l4_v6(it).is_some())
    );
    assert!(seeds("ndp").iter().all(|it| parse_ndp(it).is_ok()));
    assert!(seeds("igmp").iter().all(|it| parse_igmp(it).is_ok()));
    assert!(seeds("mld").iter().all(|it| parse_mld(it).is_ok()));
    for seed in seeds("mss") {
        assert!(clamp_mss(&mut seed[2..].to_vec(), 500, false));
    }
    let sctp = seeds("sctp");
    let left = |it: &Vec<u8>| needs_sctp_crc_v4(it).or(needs_sctp_crc_v6(it)).is_some();
    assert!(sctp.iter().all(left));
    let icmp = seeds("icmp");
    assert!(icmp.iter().any(|it| may_answer_v4(&it[3..])));
    assert!(icmp.iter().any(|it| read_too_big_v4(&it[3..]).is_some()));
}
