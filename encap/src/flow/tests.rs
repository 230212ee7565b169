use super::*;
use std::collections::HashSet;

fn packet(src: [u8; 4], dst: [u8; 4], protocol: u8, ports: (u16, u16)) -> [u8; 28] {
    let mut bytes = [0u8; 28];
    bytes[0] = 0x45;
    bytes[3] = 28;
    bytes[9] = protocol;
    bytes[12..16].copy_from_slice(&src);
    bytes[16..20].copy_from_slice(&dst);
    bytes[20..22].copy_from_slice(&ports.0.to_be_bytes());
    bytes[22..24].copy_from_slice(&ports.1.to_be_bytes());
    bytes
}

const A: [u8; 4] = [10, 244, 1, 2];
const B: [u8; 4] = [10, 244, 2, 3];

#[test]
fn each_part_of_the_flow_counts() {
    let flows = [
        packet(A, B, 6, (1000, 80)),
        packet(B, A, 6, (1000, 80)),
        packet(A, B, 17, (1000, 80)),
        packet(A, B, 6, (1001, 80)),
        packet(A, B, 6, (1000, 81)),
        packet(A, B, 6, (80, 1000)),
        packet([10, 244, 1, 3], B, 6, (1000, 80)),
    ];
    let hashes: HashSet<u32> = flows.iter().map(|flow| flow_hash_v4(flow)).collect();
    assert_eq!(hashes.len(), flows.len());
}

#[test]
fn nothing_else_counts() {
    let flow = packet(A, B, 6, (1000, 80));
    let mut other = flow;
    for at in [1, 2, 3, 4, 5, 8, 10, 11, 24, 25, 26, 27] {
        other[at] ^= 0xff;
    }
    other[6] ^= 0x40; // DF
    assert_eq!(flow_hash_v4(&other), flow_hash_v4(&flow));
    let icmp = packet(A, B, 1, (0x0800, 0x1234));
    assert_eq!(flow_hash_v4(&icmp), flow_hash_v4(&packet(A, B, 1, (0, 0))));
}

#[test]
fn ports_are_found_behind_options() {
    let plain = packet(A, B, 6, (1000, 80));
    let mut with_options = plain;
    with_options[0] = 0x46;
    with_options.copy_within(20..24, 24);
    with_options[20..24].fill(1);
    assert_eq!(flow_hash_v4(&with_options), flow_hash_v4(&plain));
}

#[test]
fn fragments_of_a_datagram_agree() {
    let mut first = packet(A, B, 17, (1000, 80));
    first[6] = 0x20;
    let mut last = packet(A, B, 17, (0xdead, 0xbeef));
    last[7] = 185;
    assert_eq!(flow_hash_v4(&first), flow_hash_v4(&last));
    assert_ne!(
        flow_hash_v4(&first),
        flow_hash_v4(&packet(A, B, 17, (1000, 80)))
    );
}

#[test]
fn short_packets_have_a_hash_too() {
    let flow = packet(A, B, 6, (1000, 80));
    for len in 0..20 {
        assert_eq!(flow_hash_v4(&flow[..len]), 0);
    }
    assert_eq!(
        flow_hash_v4(&flow[..23]),
        flow_hash_v4(&packet(A, B, 6, (0, 0)))
    );
}

/// Sequential values, as clients take them, must fill the buckets evenly, whichever bits of the
/// hash choose the bucket.
fn spreads(name: &str, hash: impl Fn(usize) -> u32) {
    const BUCKETS: usize = 256;
    const FLOWS: usize = BUCKETS * 64;
    let mut upper = [0u32; BUCKETS];
    let mut lower = [0u32; BUCKETS];
    for i in 0..FLOWS {
        let hash = hash(i);
        upper[(hash >> 24) as usize] += 1;
        lower[(hash & 0xff) as usize] += 1;
    }
    for counts in [upper, lower] {
        let chi_square: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - 64.0).powi(2) / 64.0)
            .sum();
        // 255 degrees of freedom: mean 255, standard deviation 22.6.
        assert!(chi_square < 255.0 + 5.0 * 22.6, "{name}: {chi_square}");
    }
}

#[test]
fn sequential_flows_spread_evenly() {
    spreads("source port", |i| {
        flow_hash_v4(&packet(A, B, 6, (32768 + i as u16, 80)))
    });
    spreads("source port by 2", |i| {
        flow_hash_v4(&packet(A, B, 6, (2 * i as u16, 443)))
    });
    spreads("source address", |i| {
        let src = [10, 244, (i >> 8) as u8, i as u8];
        flow_hash_v4(&packet(src, B, 17, (53, 53)))
    });
}

const A6: u128 = 0xfd00_0010_0244_0001_0000_0000_0000_0002;
const B6: u128 = 0xfd00_0010_0244_0002_0000_0000_0000_0003;

fn packet_v6(src: u128, dst: u128, protocol: u8, ports: (u16, u16)) -> [u8; 48] {
    let mut bytes = [0u8; 48];
    bytes[0] = 0x60;
    bytes[5] = 8;
    bytes[6] = protocol;
    bytes[8..24].copy_from_slice(&src.to_be_bytes());
    bytes[24..40].copy_from_slice(&dst.to_be_bytes());
    bytes[40..42].copy_from_slice(&ports.0.to_be_bytes());
    bytes[42..44].copy_from_slice(&ports.1.to_be_bytes());
    bytes
}

/// `packet` with an extension header of 8 bytes put before its transport.
fn extended(packet: [u8; 48], kind: u8, octets: [u8; 2]) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    let header = [packet[6], 0, octets[0], octets[1], 0, 0, 0, 7];
    bytes.splice(40..40, header);
    bytes[5] = 16;
    bytes[6] = kind;
    bytes
}

#[test]
fn v6_each_part_of_the_flow_counts() {
    let mut flows = vec![
        packet_v6(A6, B6, 6, (1000, 80)),
        packet_v6(B6, A6, 6, (1000, 80)),
        packet_v6(A6, B6, 17, (1000, 80)),
        packet_v6(A6, B6, 132, (1000, 80)),
        packet_v6(A6, B6, 33, (1000, 80)),
        packet_v6(A6, B6, 6, (1001, 80)),
        packet_v6(A6, B6, 6, (1000, 81)),
        packet_v6(A6, B6, 6, (80, 1000)),
        packet_v6(A6, A6, 6, (1000, 80)),
    ];
    for bit in 0..128 {
        flows.push(packet_v6(A6 ^ 1 << bit, B6, 6, (1000, 80)));
        flows.push(packet_v6(A6, B6 ^ 1 << bit, 6, (1000, 80)));
    }
    let hashes: HashSet<u32> = flows.iter().map(|flow| flow_hash_v6(flow)).collect();
    assert_eq!(hashes.len(), flows.len());
}

#[test]
fn v6_nothing_else_counts() {
    let flow = packet_v6(A6, B6, 6, (1000, 80));
    let mut other = flow;
    // Traffic class, flow label, payload length, hop limit, what follows the ports.
    for at in [1, 2, 3, 4, 5, 7, 44, 45, 46, 47] {
        other[at] ^= 0xff;
    }
    assert_eq!(flow_hash_v6(&other), flow_hash_v6(&flow));
    let icmp = packet_v6(A6, B6, 58, (0x8000, 0x1234));
    assert_eq!(
        flow_hash_v6(&icmp),
        flow_hash_v6(&packet_v6(A6, B6, 58, (0, 0)))
    );
}

#[test]
fn v6_ports_are_found_behind_extension_headers() {
    let plain = packet_v6(A6, B6, 6, (1000, 80));
    for (kind, octets) in [(0, [5, 2]), (60, [1, 4]), (43, [4, 1]), (44, [0, 0])] {
        assert_eq!(
            flow_hash_v6(&extended(plain, kind, octets)),
            flow_hash_v6(&plain),
            "header {kind}"
        );
    }
}

#[test]
fn v6_fragments_of_a_datagram_agree() {
    let first = extended(packet_v6(A6, B6, 17, (1000, 80)), 44, [0, 1]);
    let last = extended(packet_v6(A6, B6, 17, (0xdead, 0xbeef)), 44, [4, 0xd0]);
    let other_next_header = extended(packet_v6(A6, B6, 60, (1, 2)), 44, [4, 0xd0]);
    assert_eq!(flow_hash_v6(&first), flow_hash_v6(&last));
    assert_eq!(flow_hash_v6(&first), flow_hash_v6(&other_next_header));
    assert_ne!(
        flow_hash_v6(&first),
        flow_hash_v6(&packet_v6(A6, B6, 17, (1000, 80)))
    );
}

#[test]
fn v6_short_packets_have_a_hash_too() {
    let flow = packet_v6(A6, B6, 6, (1000, 80));
    for len in 0..40 {
        assert_eq!(flow_hash_v6(&flow[..len]), 0);
    }
    assert_eq!(
        flow_hash_v6(&flow[..43]),
        flow_hash_v6(&packet_v6(A6, B6, 6, (0, 0)))
    );
}

#[test]
fn v6_sequential_flows_spread_evenly() {
    spreads("source port", |i| {
        flow_hash_v6(&packet_v6(A6, B6, 6, (32768 + i as u16, 80)))
    });
    spreads("source port by 2", |i| {
        flow_hash_v6(&packet_v6(A6, B6, 6, (2 * i as u16, 443)))
    });
    spreads("source address", |i| {
        flow_hash_v6(&packet_v6(A6 + i as u128, B6, 17, (53, 53)))
    });
    spreads("destination network", |i| {
        flow_hash_v6(&packet_v6(A6, B6 + ((i as u128) << 64), 17, (53, 53)))
    });
}
