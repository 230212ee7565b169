use super::*;
use etherparse::{IpNumber, Ipv6ExtensionsSlice};

/// A packet of these extension headers (type, bytes after the next-header octet) and an upper one.
fn packet(extensions: &[(u8, &[u8])], upper: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0u8; HEADER_LEN];
    bytes[0] = 0x60;
    bytes[6] = extensions.first().map_or(upper, |(kind, _)| *kind);
    for (at, (_, body)) in extensions.iter().enumerate() {
        bytes.push(extensions.get(at + 1).map_or(upper, |(kind, _)| *kind));
        bytes.extend_from_slice(body);
    }
    bytes.extend_from_slice(payload);
    let length = (bytes.len() - HEADER_LEN) as u16;
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// Options of 8 bytes: PadN.
const OPTIONS: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
const FIRST: &[u8] = &[0, 0x00, 0x01, 0xde, 0xad, 0xbe, 0xef];
const LATER: &[u8] = &[0, 0x05, 0xa9, 0xde, 0xad, 0xbe, 0xef];
/// A segment routing header (type 4) without segments.
const SEGMENTS: &[u8] = &[0, 4, 0, 0, 0, 0, 0];

#[test]
fn upper_layers_without_extensions() {
    for protocol in [6, 17, 58, 132, 4, 41, 50, 59, 254] {
        let upper = walk_v6(&packet(&[], protocol, b"abcd")).expect("no extension headers");
        assert_eq!(
            (
                upper.protocol,
                upper.offset,
                upper.fragment,
                upper.fragment_header
            ),
            (protocol, 40, None, None)
        );
    }
}

#[test]
fn every_extension_is_walked_and_agrees_with_etherparse() {
    let authentication: &[u8] = &[2, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0];
    let chain: [(u8, &[u8]); 5] = [
        (HOP_BY_HOP, OPTIONS),
        (DESTINATION_OPTIONS, OPTIONS),
        (ROUTING, SEGMENTS),
        (FRAGMENT, FIRST),
        (AUTHENTICATION, authentication),
    ];
    for count in 0..=chain.len() {
        let bytes = packet(&chain[..count], 132, b"payload!");
        let upper = walk_v6(&bytes).expect("a sound chain");
        let (slice, protocol, rest) =
            Ipv6ExtensionsSlice::from_slice(IpNumber(bytes[6]), &bytes[40..]).expect("sound");
        assert_eq!(upper.protocol, protocol.0);
        assert_eq!(upper.offset, bytes.len() - rest.len());
        assert_eq!(upper.fragment.is_some(), slice.is_fragmenting_payload());
    }
    for kind in [MOBILITY, HIP, SHIM6] {
        let bytes = packet(&[(kind, OPTIONS)], 59, b"");
        let upper = walk_v6(&bytes).expect("a sound chain");
        assert_eq!((upper.protocol, upper.offset), (59, 48));
    }
}

#[test]
fn fragments() {
    let first = walk_v6(&packet(
        &[(HOP_BY_HOP, OPTIONS), (FRAGMENT, FIRST)],
        17,
        b"x",
    ))
    .expect("sound");
    assert_eq!(
        first,
        Upper {
            protocol: 17,
            offset: 56,
            fragment: Some(V6Fragment {
                offset_bytes: 0,
                more: true,
                id: 0xdead_beef
            }),
            fragment_header: Some(48),
        }
    );
    assert!(!first.is_later_fragment());
    // What lies behind a later fragment's header is data, even if it names an extension.
    let later = walk_v6(&packet(&[(FRAGMENT, LATER)], DESTINATION_OPTIONS, b"")).expect("sound");
    assert_eq!((later.protocol, later.offset), (DESTINATION_OPTIONS, 48));
    assert!(later.is_later_fragment());
    assert_eq!(
        later.fragment.map(|f| (f.offset_bytes, f.more)),
        Some((0x5a8, true))
    );
    let twice = packet(&[(FRAGMENT, FIRST), (FRAGMENT, FIRST)], 17, b"x");
    assert_eq!(walk_v6(&twice), Err(ExtensionError::Malformed));
}

#[test]
fn limits() {
    let options = (DESTINATION_OPTIONS, OPTIONS);
    assert!(walk_v6(&packet(&[options; 8], 17, b"")).is_ok());
    assert_eq!(
        walk_v6(&packet(&[options; 9], 17, b"")),
        Err(ExtensionError::TooMany)
    );
    let chain = vec![options; 3000];
    assert_eq!(
        walk_v6(&packet(&chain, 17, b"")),
        Err(ExtensionError::TooMany)
    );
    for (units, ok) in [(63u8, true), (64, false)] {
        let mut body = vec![0u8; (usize::from(units) + 1) * 8 - 1];
        body[0] = units;
        let upper = walk_v6(&packet(&[(DESTINATION_OPTIONS, &body)], 17, b""));
        assert_eq!(upper.is_ok(), ok, "{units}");
    }
}

#[test]
fn refuses_what_is_malformed() {
    let late = packet(
        &[(DESTINATION_OPTIONS, OPTIONS), (HOP_BY_HOP, OPTIONS)],
        6,
        b"",
    );
    assert_eq!(walk_v6(&late), Err(ExtensionError::Malformed));
    for left in [0, 1] {
        let source_route = packet(&[(ROUTING, &[0, 0, left, 0, 0, 0, 0])], 6, b"");
        assert_eq!(walk_v6(&source_route), Err(ExtensionError::Type0Routing));
    }
    let short = packet(&[(AUTHENTICATION, OPTIONS)], 6, b"");
    assert_eq!(walk_v6(&short), Err(ExtensionError::Malformed));
    let mut version = packet(&[], 6, b"");
    version[0] = 0x45;
    assert_eq!(walk_v6(&version), Err(ExtensionError::Malformed));
}

#[test]
fn every_cut_within_the_headers_is_truncated() {
    let bytes = packet(&[(HOP_BY_HOP, OPTIONS), (ROUTING, SEGMENTS)], 17, b"data");
    for len in 0..bytes.len() {
        let found = walk_v6(&bytes[..len]);
        if len < 56 {
            assert_eq!(found, Err(ExtensionError::Truncated), "{len} bytes");
        } else {
            assert_eq!(found.map(|upper| upper.offset), Ok(56));
        }
    }
    // The payload length counts, not what follows it in the buffer.
    let mut padded = bytes;
    padded[4..6].copy_from_slice(&12u16.to_be_bytes());
    assert_eq!(walk_v6(&padded), Err(ExtensionError::Truncated));
}
