use super::*;
use crate::{Ipv4Repr, Ipv6Repr};
use std::net::{Ipv4Addr, Ipv6Addr};

/// x^32 + 0x1edc6f41, bits reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The register of a CRC32c bit by bit, not inverted at the end.
fn register(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}

/// Ports, verification tag, no checksum, and `chunks`.
fn sctp(chunks: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x13, 0x88, 0x13, 0x89, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];
    bytes.extend_from_slice(chunks);
    bytes
}

fn v4(transport: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    Ipv4Repr {
        src: Ipv4Addr::new(10, 244, 1, 2),
        dst: Ipv4Addr::new(10, 244, 2, 3),
        protocol: PROTOCOL_SCTP,
        ttl: 64,
        tos: 2,
        ident: 0,
        dont_fragment: true,
        payload_len: transport.len() as u16,
    }
    .emit(&mut packet)
    .expect("20 bytes hold a header");
    packet.extend_from_slice(transport);
    packet
}

fn v6(first: u8, extensions: &[u8], transport: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    Ipv6Repr {
        src: Ipv6Addr::LOCALHOST,
        dst: Ipv6Addr::LOCALHOST,
        next_header: first,
        hop_limit: 64,
        traffic_class: 2,
        payload_len: (extensions.len() + transport.len()) as u16,
    }
    .emit(&mut packet)
    .expect("40 bytes hold a header");
    packet.extend_from_slice(extensions);
    packet.extend_from_slice(transport);
    packet
}

/// The receiver's check (RFC 9260, section 6.8), bit by bit.
fn is_right(transport: &[u8]) -> bool {
    let mut zeroed = transport.to_vec();
    zeroed[8..12].fill(0);
    transport[8..12] == (!register(&zeroed)).to_le_bytes()
}

#[test]
fn the_crc_is_castagnolis() {
    // RFC 3720, appendix B.4, and the check value of the usual catalogues.
    assert_eq!(!register(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(
        crc32c::crc32c(&[0; 32]).to_le_bytes(),
        [0xaa, 0x36, 0x91, 0x8a]
    );
    assert_eq!(
        crc32c::crc32c(&[0xff; 32]).to_le_bytes(),
        [0x43, 0xab, 0xa8, 0x62]
    );
}

#[test]
fn recognises_and_completes() {
    let options = [PROTOCOL_SCTP, 0, 1, 4, 0, 0, 0, 0];
    let routed = [vec![PROTOCOL_SCTP, 2, 4, 1], vec![0; 20]].concat();
    for chunks in [&b""[..], &[1, 0, 0, 4], &[0; 1001]] {
        let packets = [
            (20, v4(&sctp(chunks))),
            (40, v6(PROTOCOL_SCTP, &[], &sctp(chunks))),
            (48, v6(60, &options, &sctp(chunks))),
            (64, v6(43, &routed, &sctp(chunks))),
        ];
        for (start, mut packet) in packets {
            let needs = if start == 20 {
                needs_sctp_crc_v4
            } else {
                needs_sctp_crc_v6
            };
            let place = needs(&packet).expect("the field is 0");
            assert_eq!(usize::from(place.start), start);
            assert!(!is_right(&packet[start..]));
            place.complete(&mut packet).expect("it is all there");
            assert!(is_right(&packet[start..]));
            assert_eq!(needs(&packet), None, "now it is finished");
            // Once more, from a field that is not 0.
            let finished = packet.clone();
            place.complete(&mut packet).expect("it is all there");
            assert_eq!(packet, finished);
        }
    }
}

#[test]
fn chains_cut_anywhere_equal_one_slice() {
    let chunks: Vec<u8> = (0..=200u8).collect();
    let packet = v4(&sctp(&chunks));
    let place = needs_sctp_crc_v4(&packet[..32]).expect("the headers are enough");
    let mut whole = packet.clone();
    place.complete(&mut whole).expect("whole");
    for first in 32..packet.len() {
        let second = first + (packet.len() - first) / 3;
        let mut head = packet[..first].to_vec();
        place
            .complete_chain(&mut head, [&packet[first..second], &[], &packet[second..]])
            .expect("the head holds the field");
        assert_eq!(head, whole[..first], "cut at {first}");
    }
}

/// A packet that is finished and whose CRC is 0 looks as if it needed one.
#[test]
fn a_true_crc_of_zero_stays_zero() {
    let before = sctp(&[1, 0, 0, 8]);
    // 32 steps back from the register that gives a CRC of 0: what four bytes must lead to it.
    let target = (0..32).fold(u32::MAX, |crc, _| {
        if crc >> 31 == 1 {
            (crc ^ POLYNOMIAL) << 1 | 1
        } else {
            crc << 1
        }
    });
    let tail = (register(&before) ^ target).to_le_bytes();
    let transport = [&before[..], &tail].concat();
    assert_eq!(!register(&transport), 0);
    assert!(is_right(&transport), "0 is this packet's true checksum");
    for (packet, place) in [
        (v4(&transport), needs_sctp_crc_v4(&v4(&transport))),
        (
            v6(PROTOCOL_SCTP, &[], &transport),
            needs_sctp_crc_v6(&v6(PROTOCOL_SCTP, &[], &transport)),
        ),
    ] {
        let mut completed = packet.clone();
        let place = place.expect("it cannot be told apart");
        place.complete(&mut completed).expect("it is all there");
        assert_eq!(completed, packet);
    }
}

#[test]
fn leaves_alone_what_needs_none() {
    let packet = v4(&sctp(b"abcd"));
    for at in 28..32 {
        let mut finished = packet.clone();
        finished[at] = 1;
        assert_eq!(needs_sctp_crc_v4(&finished), None);
    }
    for flags in [0x2000u16, 0x0001, 0x1fff] {
        let mut fragment = packet.clone();
        fragment[6..8].copy_from_slice(&flags.to_be_bytes());
        assert_eq!(needs_sctp_crc_v4(&fragment), None, "flags {flags:#x}");
    }
    let mut tcp = packet.clone();
    tcp[9] = 6;
    assert_eq!(needs_sctp_crc_v4(&tcp), None);
    assert_eq!(needs_sctp_crc_v6(&packet), None);

    let fragment = v6(44, &[PROTOCOL_SCTP, 0, 0, 1, 0, 0, 0, 9], &sctp(b"abcd"));
    assert_eq!(needs_sctp_crc_v6(&fragment), None);
    let packet_v6 = v6(PROTOCOL_SCTP, &[], &sctp(b"abcd"));
    assert_eq!(needs_sctp_crc_v4(&packet_v6), None);
    for len in 0..32 {
        assert_eq!(needs_sctp_crc_v4(&packet[..len]), None, "{len} bytes");
        assert_eq!(needs_sctp_crc_v6(&packet_v6[..len + 20]), None);
    }
    // The padding behind a short packet is not its header.
    let mut short = packet;
    short[3] = 31;
    assert_eq!(needs_sctp_crc_v4(&short), None);
    let mut short = packet_v6;
    short[5] = 11;
    assert_eq!(needs_sctp_crc_v6(&short), None);
}

#[test]
fn refuses_places_outside_the_packet() {
    let mut packet = [1u8; 24];
    for start in [13, 24, u16::MAX] {
        assert!(matches!(
            SctpChecksum { start }.complete(&mut packet),
            Err(Error::Truncated { .. })
        ));
    }
    assert_eq!(packet, [1; 24]);
}
