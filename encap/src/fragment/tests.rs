use super::*;
use crate::Ipv4Repr;
use etherparse::Ipv4HeaderSlice;
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// A packet with DF clear; the flags and offset field may be set after.
fn packet(options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    Ipv4Repr {
        src: Ipv4Addr::new(10, 0, 0, 1),
        dst: Ipv4Addr::new(10, 0, 0, 2),
        protocol: 17,
        ttl: 7,
        tos: 0xb8,
        ident: 0x1234,
        dont_fragment: false,
        payload_len: (options.len() + payload.len()) as u16,
    }
    .emit(&mut bytes)
    .expect("room");
    bytes.extend_from_slice(options);
    bytes.extend_from_slice(payload);
    bytes[0] = 0x45 + (options.len() / 4) as u8;
    Ipv4Packet::new_checked(&mut bytes[..])
        .expect("sound")
        .fill_checksum();
    bytes
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 131) >> 3) as u8).collect()
}

/// Each fragment whole, its checksum verified by etherparse.
fn cut(bytes: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let header_len = usize::from(bytes[0] & 15) * 4;
    Fragments::new(&bytes[..header_len], bytes.len(), mtu)
        .expect("it may be cut")
        .map(|piece| {
            let mut fragment = piece.header[..piece.header_len].to_vec();
            fragment.extend_from_slice(&bytes[header_len..][piece.payload]);
            let header = Ipv4HeaderSlice::from_slice(&fragment).expect("sound");
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            assert_eq!(usize::from(header.total_len()), fragment.len());
            assert!(fragment.len() <= usize::from(mtu));
            assert_eq!(
                (
                    header.identification(),
                    header.ttl(),
                    header.dont_fragment()
                ),
                (0x1234, 7, false)
            );
            fragment
        })
        .collect()
}

/// Puts payloads where their offsets say; the flags must be right.
fn reassemble(fragments: &[Vec<u8>], base: u16, last_has_more: bool) -> Vec<u8> {
    let mut whole = Vec::new();
    for (at, bytes) in fragments.iter().enumerate() {
        let ip = Ipv4Packet::new_checked(&bytes[..]).expect("sound");
        assert_eq!(usize::from(ip.fragment_offset() - base), whole.len());
        let last = at + 1 == fragments.len();
        assert_eq!(ip.more_fragments(), !last || last_has_more);
        whole.extend_from_slice(ip.payload());
    }
    whole
}

proptest! {
    #[test]
    fn pieces_make_the_packet_again(len in 0usize..9000, mtu in 68u16..3000) {
        let (bytes, payload) = (packet(&[], &payload(len)), payload(len));
        let fragments = cut(&bytes, mtu);
        prop_assert_eq!(reassemble(&fragments, 0, false), payload);
        let room = usize::from(mtu - 20);
        if len <= room {
            prop_assert_eq!(fragments, vec![bytes]);
        } else {
            // No more fragments than needed.
            let by_eight = room & !7;
            prop_assert_eq!(fragments.len(), 1 + (len - room).div_ceil(by_eight));
        }
    }
}

#[test]
fn a_fragment_is_cut_again() {
    for (flags, more) in [(0x2000u16 | 100, true), (100, false)] {
        let mut bytes = packet(&[], &payload(1480));
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        let fragments = cut(&bytes, 600);
        assert_eq!(fragments.len(), 3);
        assert_eq!(reassemble(&fragments, 800, more), payload(1480));
    }
}

#[test]
fn only_copied_options_go_on() {
    // NOP, record route (7, not copied), loose source route (131, copied), end.
    let options = [1, 7, 7, 4, 0, 0, 0, 0, 131, 7, 4, 10, 0, 0, 9, 0];
    let bytes = packet(&options, &payload(300));
    let fragments = cut(&bytes, 100);
    assert_eq!(fragments[0][20..36], options);
    for fragment in &fragments[1..] {
        assert_eq!(fragment[0], 0x47);
        assert_eq!(fragment[20..28], [131, 7, 4, 10, 0, 0, 9, 0]);
    }
    assert_eq!(reassemble(&fragments, 0, false), payload(300));
    // The longest header and the smallest MTU: 8 bytes a piece.
    let mut longest = [1u8; 40];
    longest[..2].copy_from_slice(&[0x94, 40]);
    let fragments = cut(&packet(&longest, &payload(33)), 68);
    assert_eq!(fragments.len(), 5);
    assert_eq!(reassemble(&fragments, 0, false), payload(33));
}

#[test]
fn what_cannot_be_cut() {
    let bytes = packet(&[], &payload(100));
    let new = |bytes: &[u8], len, mtu| Fragments::new(bytes, len, mtu).err();
    assert_eq!(new(&bytes, 120, 67), Some(FragmentError::MtuTooSmall(67)));
    assert_eq!(new(&bytes, 120, 68), None);
    assert_eq!(new(&bytes, 19, 68), Some(FragmentError::BadLength(19)));
    assert_eq!(new(&bytes, 65535, 68), None);
    assert_eq!(
        new(&bytes, 65536, 68),
        Some(FragmentError::BadLength(65536))
    );
    assert!(matches!(
        new(&bytes[..19], 120, 68),
        Some(FragmentError::Header(_))
    ));
    let mut late = bytes.clone();
    late[6..8].copy_from_slice(&0x1fffu16.to_be_bytes());
    assert_eq!(new(&late, 120, 68), Some(FragmentError::BadLength(120)));
    let mut dont = bytes;
    dont[6] = 0x40;
    assert_eq!(new(&dont, 120, 68), Some(FragmentError::DontFragment));
    for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
        let bytes = packet(&options, &payload(100));
        assert_eq!(
            new(&bytes, 124, 68),
            Some(FragmentError::BadOptions),
            "{options:?}"
        );
    }
}
