//! The fuzz bodies on deterministic inputs: random bytes, and sound ones with bytes changed.

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_encap::ip::{PROTOCOL_TCP, PROTOCOL_UDP};
use shunt_encap::{
    ArpRepr, Checksum, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetRepr, Ipv4Repr,
    Ipv6Repr, UdpRepr, VxlanRepr, is_partial_l4_v4,
};
use shunt_fuzz_bodies::BODIES;

const ROUNDS: u32 = 4000;
const SRC: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const DST: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);

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

fn in_ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14];
    let repr = EthernetRepr {
        dst: [2, 0, 0, 0, 0, 2],
        src: [2, 0, 0, 0, 0, 1],
        ethertype,
    };
    repr.emit(&mut frame).expect("14 bytes");
    frame.extend_from_slice(payload);
    frame
}

/// A packet with a partial checksum.
fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut transport = if protocol == PROTOCOL_TCP {
        let mut header = vec![0u8; 20];
        header[12] = 0x50;
        header
    } else {
        let mut header = vec![0u8; 8];
        UdpRepr {
            src_port: 5353,
            dst_port: 53,
            payload_len: payload.len() as u16,
        }
        .emit(&mut header)
        .expect("8 bytes");
        header
    };
    transport.extend_from_slice(payload);
    let len = transport.len() as u16;
    let pseudo = Checksum::new()
        .add_pseudo_v4(SRC, DST, protocol, len)
        .folded();
    let field = if protocol == PROTOCOL_TCP { 16 } else { 6 };
    transport[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());

    let mut packet = vec![0; 20];
    let repr = Ipv4Repr {
        src: SRC,
        dst: DST,
        protocol,
        ttl: 64,
        tos: 0b10,
        ident: 7,
        dont_fragment: true,
        payload_len: len,
    };
    repr.emit(&mut packet).expect("20 bytes");
    packet.extend_from_slice(&transport);
    packet
}

/// Sound inputs for the body of this name.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let packets = vec![
        ipv4(PROTOCOL_TCP, b"some payload"),
        ipv4(PROTOCOL_UDP, b"odd"),
    ];
    let mut arp = vec![0; 28];
    ArpRepr::request([2; 6], SRC, DST)
        .emit(&mut arp)
        .expect("28 bytes");
    let mut ipv6 = vec![0x5a; 48];
    Ipv6Repr {
        src: Ipv6Addr::LOCALHOST,
        dst: Ipv6Addr::LOCALHOST,
        next_header: PROTOCOL_UDP,
        hop_limit: 64,
        traffic_class: 0,
        payload_len: 8,
    }
    .emit(&mut ipv6)
    .expect("40 bytes");
    let mut frames = vec![
        in_ethernet(ETHERTYPE_ARP, &arp),
        in_ethernet(ETHERTYPE_IPV6, &ipv6),
    ];
    frames.extend(
        packets
            .iter()
            .map(|packet| in_ethernet(ETHERTYPE_IPV4, packet)),
    );

    match name {
        "arp" => vec![arp],
        "ipv4" => packets,
        "ethernet" => frames,
        "vxlan" => frames
            .iter()
            .map(|frame| {
                let mut bytes = vec![0; 8];
                VxlanRepr { vni: 1 }.emit(&mut bytes).expect("8 bytes");
                bytes.extend_from_slice(frame);
                bytes
            })
            .collect(),
        "checksum" => vec![vec![3, 1, 0, 0, 0, 0, 0], vec![0xff; 64]],
        // Operations; prefixes as block, bits, place, length and a fifth byte; hops as two bytes.
        "fib4" | "fib6" => {
            let insert = |block, bits, place, len, hop| vec![0, block, bits, place, len, 0, hop, 1];
            let nested = [0, 8, 16, 16 + 8, 25, 32, 96]
                .into_iter()
                .flat_map(|len| insert(0, 0, 0, len, len));
            let crowd = (0..20).flat_map(|n| insert(1, n, 80, 40, n));
            let look = [9, 7, 9, 1, 0, 1, 0, 1, 1, 7, 2, 0, 0, 12, 13, 14, 15, 0x8d];
            let remove = [5, 0, 0, 0, 24, 0, 6, 0, 0, 0, 16, 0];
            let around = [10, 0, 0, 0, 32, 0, 11, 0, 0, 0, 0, 0];
            vec![
                nested.clone().chain(look).chain(remove).collect(),
                nested.chain(crowd).chain(around).chain(look).collect(),
            ]
        }
        other => panic!("write seeds for the new body `{other}`"),
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
