use super::*;
use crate::{Ipv4Repr, Ipv6Repr, TcpPacket, UdpPacket, UdpRepr};
use std::net::{Ipv4Addr, Ipv6Addr};

const SRC: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const DST: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);

fn ip(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr {
        src: SRC,
        dst: DST,
        protocol,
        ttl: 64,
        tos: 0,
        ident: 7,
        dont_fragment: true,
        payload_len: transport.len() as u16,
    };
    let mut packet = vec![0; 20];
    repr.emit(&mut packet).expect("20 bytes hold a header");
    packet.extend_from_slice(transport);
    packet
}

/// As Linux leaves it: the field holds the pseudo-header's sum.
fn partial(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (header_len, at) = if protocol == PROTOCOL_TCP {
        (20, 16)
    } else {
        (8, 6)
    };
    let mut transport = vec![0u8; header_len];
    transport.extend_from_slice(payload);
    if protocol == PROTOCOL_TCP {
        transport[12] = 0x50;
    } else {
        UdpRepr {
            src_port: 9,
            dst_port: 53,
            payload_len: payload.len() as u16,
        }
        .emit(&mut transport)
        .expect("8 bytes hold a header");
    }
    let len = transport.len() as u16;
    let pseudo = Checksum::new()
        .add_pseudo_v4(SRC, DST, protocol, len)
        .folded();
    transport[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    ip(protocol, &transport)
}

fn is_right(packet: &[u8]) -> bool {
    let ip = Ipv4Packet::new_checked(packet).expect("sound");
    match ip.protocol() {
        PROTOCOL_TCP => TcpPacket::new_checked(ip.payload())
            .expect("sound")
            .verify_checksum_v4(ip.src(), ip.dst()),
        _ => {
            let udp = UdpPacket::new_checked(ip.payload()).expect("sound");
            udp.checksum() != 0 && udp.verify_checksum_v4(ip.src(), ip.dst())
        }
    }
}

#[test]
fn recognises_and_completes_tcp_and_udp() {
    for (protocol, offset) in [(PROTOCOL_TCP, 36), (PROTOCOL_UDP, 26)] {
        for payload in [&b""[..], b"x", b"four", b"a longer payload, odd"] {
            let mut packet = partial(protocol, payload);
            assert!(!is_right(&packet));
            assert_eq!(
                is_partial_l4_v4(&packet),
                Some(PartialChecksum { start: 20, offset })
            );
            assert_eq!(complete_l4_v4(&mut packet), Ok(true));
            assert!(is_right(&packet));
            assert_eq!(complete_l4_v4(&mut packet), Ok(false), "now it is finished");
        }
    }
}

#[test]
fn padding_is_not_summed() {
    let mut packet = partial(PROTOCOL_UDP, b"x");
    let len = packet.len();
    packet.extend_from_slice(&[0xee; 17]);
    assert_eq!(complete_l4_v4(&mut packet), Ok(true));
    assert!(is_right(&packet[..len]));
}

#[test]
fn chains_cut_anywhere_equal_one_slice() {
    let payload: Vec<u8> = (0..=200u8).collect();
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        let packet = partial(protocol, &payload);
        let mut whole = packet.clone();
        let partial = is_partial_l4_v4(&packet).expect("partial");
        partial.complete(&mut whole).expect("whole");
        for first in usize::from(partial.offset) + 2..packet.len() {
            let second = first + (packet.len() - first) / 3;
            let mut head = packet[..first].to_vec();
            partial
                .complete_chain(&mut head, [&packet[first..second], &[], &packet[second..]])
                .expect("the head holds the field");
            assert_eq!(head, whole[..first], "cut at {first}");
        }
    }
}

#[test]
fn recognised_by_the_first_buffer_alone() {
    let packet = partial(PROTOCOL_TCP, &[5; 4000]);
    assert!(is_partial_l4_v4(&packet[..64]).is_some());
    let mut cut = packet[..64].to_vec();
    assert!(matches!(
        complete_l4_v4(&mut cut),
        Err(Error::BadTotalLength { .. })
    ));
    assert_eq!(cut, packet[..64]);
}

#[test]
fn leaves_alone_what_is_not_partial() {
    let mut no_checksum = partial(PROTOCOL_UDP, b"abc");
    no_checksum[26..28].fill(0);
    assert_eq!(is_partial_l4_v4(&no_checksum), None);

    let sound = partial(PROTOCOL_TCP, b"abc");
    for flags in [0x2000u16, 0x0001, 0x1fff] {
        let mut fragment = sound.clone();
        fragment[6..8].copy_from_slice(&flags.to_be_bytes());
        assert_eq!(is_partial_l4_v4(&fragment), None, "flags {flags:#x}");
    }

    for len in 0..40 {
        assert_eq!(is_partial_l4_v4(&sound[..len]), None, "{len} bytes");
    }
    let mut short = sound.clone();
    short[2..4].copy_from_slice(&39u16.to_be_bytes());
    assert_eq!(is_partial_l4_v4(&short), None);

    // The field of TCP, at the same place, in a protocol that has none there.
    let mut other = sound;
    other[9] = 132;
    assert_eq!(is_partial_l4_v4(&other), None);
}

/// Looks for payloads whose finished checksum equals the pseudo-header's sum, and completes.
#[test]
fn mistaken_match_changes_nothing() {
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        let mut matches = 0;
        for word in 0..=0xffffu16 {
            let mut packet = partial(protocol, &word.to_be_bytes());
            let field = is_partial_l4_v4(&packet).expect("partial").offset as usize;
            let pseudo = [packet[field], packet[field + 1]];
            assert_eq!(complete_l4_v4(&mut packet), Ok(true));
            if [packet[field], packet[field + 1]] == pseudo {
                matches += 1;
                let finished = packet.clone();
                assert_eq!(complete_l4_v4(&mut packet), Ok(true), "it looks partial");
                assert_eq!(packet, finished);
                assert!(is_right(&packet));
            }
        }
        assert!(matches >= 1, "protocol {protocol}");
    }
}

#[test]
fn udp_zero_becomes_ffff_and_tcp_zero_stays() {
    for (protocol, expected) in [(PROTOCOL_UDP, 0xffff), (PROTOCOL_TCP, 0u16)] {
        // The checksum of this payload's packet, appended as a word, makes the sum 0xffff.
        let mut packet = partial(protocol, &[0, 0]);
        let partial_sum = is_partial_l4_v4(&packet).expect("partial");
        let field = usize::from(partial_sum.offset);
        partial_sum.complete(&mut packet).expect("whole");
        let checksum = [packet[field], packet[field + 1]];
        let mut packet = partial(protocol, &checksum);
        partial_sum.complete(&mut packet).expect("whole");
        assert_eq!([packet[field], packet[field + 1]], expected.to_be_bytes());
    }
}

#[test]
fn refuses_places_outside_the_packet() {
    let mut packet = [1u8; 24];
    for (start, offset) in [(0, 23), (25, 0), (65535, 65535)] {
        let result = PartialChecksum { start, offset }.complete(&mut packet);
        assert!(
            matches!(result, Err(Error::Truncated { .. })),
            "{start} {offset}"
        );
    }
    assert_eq!(packet, [1; 24]);
}

const SRC6: Ipv6Addr = Ipv6Addr::new(0xfd00, 10, 244, 1, 0, 0, 0, 2);
const DST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 10, 244, 2, 0, 0, 0, 3);

/// As Linux leaves it, behind `extensions`, of which the last says what follows.
fn partial_v6(protocol: u8, first: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut transport = partial(protocol, payload).split_off(20);
    let at = if protocol == PROTOCOL_TCP { 16 } else { 6 };
    let pseudo = Checksum::new()
        .add_pseudo_v6(SRC6, DST6, protocol, transport.len() as u32)
        .folded();
    transport[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    let mut packet = vec![0; 40];
    Ipv6Repr {
        src: SRC6,
        dst: DST6,
        next_header: if extensions.is_empty() {
            protocol
        } else {
            first
        },
        hop_limit: 64,
        traffic_class: 0,
        payload_len: (extensions.len() + transport.len()) as u16,
    }
    .emit(&mut packet)
    .expect("40 bytes hold a header");
    packet.extend_from_slice(extensions);
    packet.extend_from_slice(&transport);
    packet
}

fn is_right_v6(packet: &[u8], protocol: u8, start: usize) -> bool {
    let transport = &packet[start..];
    if protocol == PROTOCOL_TCP {
        let tcp = TcpPacket::new_checked(transport).expect("sound");
        tcp.verify_checksum_v6(SRC6, DST6)
    } else {
        let udp = UdpPacket::new_checked(transport).expect("sound");
        udp.verify_checksum_v6(SRC6, DST6)
    }
}

#[test]
fn v6_recognises_and_completes_behind_options() {
    for (protocol, field) in [(PROTOCOL_TCP, 16), (PROTOCOL_UDP, 6)] {
        let chains: [(u8, Vec<u8>); 5] = [
            (0, vec![]),
            (0, vec![protocol, 0, 5, 2, 0, 0, 1, 0]),
            (60, [vec![protocol, 1, 1, 12], vec![0; 12]].concat()),
            // Hop-by-hop, then an atomic fragment.
            (
                0,
                vec![44, 0, 1, 4, 0, 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0, 9],
            ),
            // A segment routing header that has been walked through.
            (43, [vec![protocol, 2, 4, 0], vec![0; 20]].concat()),
        ];
        for (first, extensions) in chains {
            for payload in [&b""[..], b"x", b"a longer payload, odd"] {
                let mut packet = partial_v6(protocol, first, &extensions, payload);
                let start = 40 + extensions.len();
                assert!(!is_right_v6(&packet, protocol, start));
                assert_eq!(
                    is_partial_l4_v6(&packet),
                    Some(PartialChecksum {
                        start: start as u16,
                        offset: (start + field) as u16
                    })
                );
                let length = packet.len();
                packet.extend([0xee; 7]);
                assert_eq!(complete_l4_v6(&mut packet), Ok(true));
                assert!(is_right_v6(&packet[..length], protocol, start));
                assert_eq!(packet[length..], [0xee; 7], "padding stays");
                assert_eq!(complete_l4_v6(&mut packet), Ok(false), "now it is finished");
            }
        }
    }
}

#[test]
fn v6_leaves_alone_what_is_not_partial() {
    let fragment = partial_v6(PROTOCOL_TCP, 44, &[6, 0, 0, 1, 0, 0, 0, 9], b"abc");
    assert_eq!(is_partial_l4_v6(&fragment), None);
    let routed = [vec![PROTOCOL_TCP, 2, 4, 1], vec![0; 20]].concat();
    assert_eq!(is_partial_l4_v6(&partial_v6(6, 43, &routed, b"abc")), None);

    let mut no_checksum = partial_v6(PROTOCOL_UDP, 0, &[], b"abc");
    no_checksum[46..48].fill(0);
    assert_eq!(is_partial_l4_v6(&no_checksum), None);

    let sound = partial_v6(PROTOCOL_TCP, 0, &[], b"abc");
    for len in 0..60 {
        assert_eq!(is_partial_l4_v6(&sound[..len]), None, "{len} bytes");
    }
    for payload_len in 0..20 {
        let mut short = sound.clone();
        short[5] = payload_len;
        assert_eq!(is_partial_l4_v6(&short), None, "payload of {payload_len}");
    }
    let mut other = sound;
    other[6] = 132;
    assert_eq!(is_partial_l4_v6(&other), None);
}

#[test]
fn v6_recognised_by_the_first_buffer_alone() {
    let packet = partial_v6(PROTOCOL_TCP, 0, &[], &[5; 4000]);
    let (head, rest) = packet.split_at(64);
    let place = is_partial_l4_v6(head).expect("the head has both headers");
    let mut cut = head.to_vec();
    assert!(matches!(
        complete_l4_v6(&mut cut),
        Err(Error::BadTotalLength { .. })
    ));
    assert_eq!(cut, head);
    place
        .complete_chain(&mut cut, [rest])
        .expect("the field is there");
    assert!(is_right_v6(&[&cut[..], rest].concat(), PROTOCOL_TCP, 40));
}

#[test]
fn v6_mistaken_match_changes_nothing() {
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        let mut matches = 0;
        for word in 0..=0xffffu16 {
            let mut packet = partial_v6(protocol, 0, &[], &word.to_be_bytes());
            let field = is_partial_l4_v6(&packet).expect("partial").offset as usize;
            let pseudo = [packet[field], packet[field + 1]];
            assert_eq!(complete_l4_v6(&mut packet), Ok(true));
            if [packet[field], packet[field + 1]] == pseudo {
                matches += 1;
                let finished = packet.clone();
                assert_eq!(complete_l4_v6(&mut packet), Ok(true), "it looks partial");
                assert_eq!(packet, finished);
                assert!(is_right_v6(&packet, protocol, 40));
            }
        }
        assert!(matches >= 1, "protocol {protocol}");
    }
}
