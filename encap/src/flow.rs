//! A hash that keeps the packets of a flow together and spreads flows apart.

use crate::field::{read, read_u8, read_u16};
use crate::ip::{PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::ipv4::{self, field};

// Fractional digits of pi, as in Blowfish: odd, with no structure.
const ADDRESSES: u64 = 0x243f_6a88_85a3_08d3;
const FIRST: u64 = 0x1319_8a2e_0370_7345;
const SECOND: u64 = 0xa409_3822_299f_31d1;

/// Hashes addresses, protocol and, of TCP, UDP and SCTP, ports of an IPv4 packet.
///
/// Fragments are hashed without ports, the first one too, so that all pieces of a datagram agree.
/// The two directions of a connection differ. Bytes that hold no IPv4 header hash to 0. Not keyed:
/// who chooses the ports chooses the hash, which is good enough to spread load over paths.
#[inline]
pub fn flow_hash_v4(packet: &[u8]) -> u32 {
    let Some(header) = packet.first_chunk::<{ ipv4::HEADER_LEN }>() else {
        return 0;
    };
    let addresses = u64::from_be_bytes(read(header, field::SRC.start..field::DST.end));
    let protocol = read_u8(header, field::PROTOCOL);
    let more_fragments_or_offset = read_u16(header, field::FLAGS_OFFSET) & 0x3fff;
    let has_ports = more_fragments_or_offset == 0
        && matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP);
    let ports = if has_ports {
        let start = usize::from(read_u8(header, field::VERSION_IHL) & 0x0f) * 4;
        u32::from_be_bytes(read(packet, start..start + 4))
    } else {
        0
    };
    let l4 = u64::from(ports) << 8 | u64::from(protocol);
    let hash = fold_multiply(fold_multiply(addresses ^ ADDRESSES, FIRST) ^ l4, SECOND);
    (hash >> 32) as u32 ^ hash as u32
}

/// The two halves of the 128-bit product, combined: every input bit reaches every output bit.
#[inline]
const fn fold_multiply(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
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

    /// Sequential ports, as clients take them, must fill the buckets evenly, whichever bits of
    /// the hash choose the bucket.
    #[test]
    fn sequential_flows_spread_evenly() {
        const BUCKETS: usize = 256;
        const FLOWS: usize = BUCKETS * 64;
        type Sequence = (&'static str, fn(usize) -> [u8; 28]);
        let sequences: [Sequence; 3] = [
            ("source port", |i| packet(A, B, 6, (32768 + i as u16, 80))),
            ("source port by 2", |i| packet(A, B, 6, (2 * i as u16, 443))),
            ("source address", |i| {
                packet([10, 244, (i >> 8) as u8, i as u8], B, 17, (53, 53))
            }),
        ];
        for (name, flow) in sequences {
            let mut upper = [0u32; BUCKETS];
            let mut lower = [0u32; BUCKETS];
            for i in 0..FLOWS {
                let hash = flow_hash_v4(&flow(i));
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
    }
}
