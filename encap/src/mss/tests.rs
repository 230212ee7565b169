use super::*;
use etherparse::{PacketBuilder, PacketHeaders, TcpOptionElement, TransportHeader};

const PAYLOAD: &[u8] = b"early data";

fn v4(options: &[u8], syn: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4);
    let builder = if syn { builder.syn() } else { builder };
    builder
        .options_raw(options)
        .expect("room")
        .write(&mut bytes, PAYLOAD)
        .expect("it fits");
    bytes
}

fn v6(options: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64)
        .tcp(1, 2, 3, 4)
        .syn()
        .ack(9)
        .options_raw(options)
        .expect("room")
        .write(&mut bytes, PAYLOAD)
        .expect("it fits");
    bytes
}

/// The MSS that etherparse reads, and whether it finds the checksum right.
fn read_back(packet: &[u8]) -> (Option<u16>, bool) {
    let headers = PacketHeaders::from_ip_slice(packet).expect("sound");
    let Some(TransportHeader::Tcp(tcp)) = &headers.transport else {
        panic!("no TCP: {headers:?}");
    };
    let mss = tcp.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
        _ => None,
    });
    let net = headers.net.as_ref().expect("IP");
    let payload = &packet[packet.len() - PAYLOAD.len()..];
    let sum = match net {
        etherparse::NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(ip, payload),
        etherparse::NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, payload),
        etherparse::NetHeaders::Arp(_) => panic!("ARP"),
    };
    (mss, sum.is_ok_and(|sum| sum == tcp.checksum))
}

/// Options before an MSS of 1460, which comes to lie at an even and at an odd place.
const OPTIONS: [&[u8]; 4] = [
    &[2, 4, 0x05, 0xb4],
    &[1, 2, 4, 0x05, 0xb4],
    &[4, 2, 3, 3, 7, 2, 4, 0x05, 0xb4],
    &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 2, 4, 0x05, 0xb4],
];

#[test]
fn lowers_and_keeps_the_checksum_right() {
    for options in OPTIONS {
        for sound in [v4(options, true), v6(options)] {
            for max in [1, 0xff, 536, 1220, 1410, 1459] {
                let mut packet = sound.clone();
                assert!(clamp_mss(&mut packet, max, false));
                assert_eq!(read_back(&packet), (Some(max), true), "{options:?} {max}");
                assert!(!clamp_mss(&mut packet, max, false), "low enough now");
            }
            let mut packet = sound.clone();
            assert!(!clamp_mss(&mut packet, 1460, false));
            assert_eq!(packet, sound);
        }
    }
}

#[test]
fn a_partial_checksum_is_left_alone() {
    let sound = v4(OPTIONS[0], true);
    let mut packet = sound.clone();
    assert!(clamp_mss(&mut packet, 1000, true));
    assert_eq!(packet[36..38], sound[36..38]);
    assert_eq!(read_back(&packet), (Some(1000), false));
}

#[test]
fn the_header_alone_is_enough_and_less_is_not() {
    let sound = v6(OPTIONS[0]);
    let mut whole = sound.clone();
    assert!(clamp_mss(&mut whole, 1000, false));
    for len in 0..sound.len() {
        let mut head = sound[..len].to_vec();
        assert_eq!(clamp_mss(&mut head, 1000, false), len >= 64, "{len} bytes");
        let wanted = if len >= 64 { &whole } else { &sound };
        assert_eq!(head, wanted[..len]);
    }
}

#[test]
fn all_else_stays_as_it_is() {
    let syn = v4(OPTIONS[0], true);
    let mut cases = vec![v4(OPTIONS[0], false), v4(&[], true)];
    // No MSS: malformed lengths, an end before it, another length of it.
    for options in [
        [3, 0, 2, 4, 5, 180],
        [0, 0, 2, 4, 5, 180],
        [5, 1, 2, 4, 5, 180],
        [2, 3, 5, 1, 1, 9],
    ] {
        cases.push(v4(&options, true));
    }
    for (at, value) in [(0, 0x50), (7, 1), (9, 17), (32, 0x40), (32, 0xf0)] {
        let mut packet = syn.clone();
        packet[at] = value;
        cases.push(packet);
    }
    for sound in cases {
        let mut packet = sound.clone();
        assert!(!clamp_mss(&mut packet, 1, false), "{sound:?}");
        assert_eq!(packet, sound);
    }
}
