//! What hosts of a link tell each other: neighbour discovery and group membership.

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_encap::extension::walk_v6;
use shunt_encap::igmp::{self, emit_query_v4, parse_igmp};
use shunt_encap::membership::{MAX_RECORDS, Membership, QueryVersion};
use shunt_encap::mld::{self, emit_query_v6, mld_type, parse_mld};
use shunt_encap::ndp::{
    self, ALL_NODES, NaParams, NdpMessage, emit_advertisement, emit_solicitation, ndp_type,
    parse_ndp,
};

const MAC: [u8; 6] = [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];

/// The packet with padding behind it, as an Ethernet frame may have.
fn padded(data: &[u8]) -> Vec<u8> {
    [data, &[0x5a; 9]].concat()
}

/// Every packet with one bit of its message, which begins at `from`, flipped.
fn flipped(data: &[u8], from: usize) -> impl Iterator<Item = Vec<u8>> {
    (from..data.len()).map(move |at| {
        let mut copy = data.to_vec();
        copy[at] ^= 1 << (at % 8);
        copy
    })
}

/// Neighbour discovery: any packet, the answer to it, and a question made of its bytes.
pub fn ndp(data: &[u8]) {
    if let Ok(message) = parse_ndp(data) {
        let upper = walk_v6(data).expect("it was read");
        assert!(data[7] == 255 && ndp_type(data, &upper).is_some());
        assert_eq!(parse_ndp(&padded(data)), Ok(message), "padding is ignored");
        if let NdpMessage::NeighbourSolicitation { target, .. } = message {
            answer(data, target);
        }
    }
    let Some((src, rest)) = data.split_first_chunk::<16>() else {
        return;
    };
    let Some(target) = rest.first_chunk::<16>() else {
        return;
    };
    question(Ipv6Addr::from(*src), Ipv6Addr::from(*target));
}

fn answer(solicitation: &[u8], target: Ipv6Addr) {
    let octets: [u8; 16] = solicitation[8..24].try_into().expect("16 bytes");
    let asker = Ipv6Addr::from(octets);
    let solicited = !asker.is_unspecified();
    let params = NaParams {
        src: target,
        dst: if solicited { asker } else { ALL_NODES },
        target,
        lladdr: MAC,
        router: true,
        solicited,
        overrides: false,
    };
    let mut out = [0; ndp::MAX_LEN];
    let length = emit_advertisement(&mut out, &params).expect("it fits");
    let expected = NdpMessage::NeighbourAdvertisement {
        target,
        router: true,
        solicited,
        overrides: false,
        target_lladdr: Some(MAC),
    };
    assert_eq!(parse_ndp(&out[..length]), Ok(expected));
    for damaged in flipped(&out[..length], 40) {
        assert!(parse_ndp(&damaged).is_err(), "damage is seen");
    }
}

fn question(src: Ipv6Addr, target: Ipv6Addr) {
    let mut out = [0; ndp::MAX_LEN];
    let length = emit_solicitation(&mut out, src, target, MAC).expect("it fits");
    let read = parse_ndp(&out[..length]);
    if src.is_multicast() || target.is_multicast() {
        assert!(read.is_err(), "no host has a multicast address");
        return;
    }
    let expected = NdpMessage::NeighbourSolicitation {
        target,
        source_lladdr: (!src.is_unspecified()).then_some(MAC),
    };
    assert_eq!(read, Ok(expected));
    answer(&out[..length], target);
}

/// The version and the rest of an input's first byte.
fn version(byte: u8) -> QueryVersion {
    if byte & 1 == 0 {
        QueryVersion::Old
    } else {
        QueryVersion::New
    }
}

/// The group of a piece of news, when it names one.
fn group<A: Copy>(news: &Membership<A>) -> Option<A> {
    match news {
        Membership::Join(group) | Membership::Leave(group) => Some(*group),
        Membership::Query { group, .. } => *group,
    }
}

/// IGMP: any packet, and a query made of its bytes.
pub fn igmp(data: &[u8]) {
    if let Ok(news) = parse_igmp(data) {
        let news: Vec<_> = news.collect();
        assert!(data[8] == 1 && news.len() <= MAX_RECORDS);
        assert!(news.iter().filter_map(group).all(|it| it.is_multicast()));
        let again: Vec<_> = parse_igmp(&padded(data)).expect("as sound").collect();
        assert_eq!(news, again, "padding is ignored");
    }
    let [choice, response, a, b, c, d, ..] = data else {
        return;
    };
    let src = Ipv4Addr::new(*a, *b, *c, *d);
    let mut out = [0; igmp::MAX_QUERY_LEN];
    let length = emit_query_v4(&mut out, src, version(*choice), *response).expect("it fits");
    let news: Vec<_> = parse_igmp(&out[..length]).expect("our own").collect();
    let query = Membership::Query {
        querier: src,
        group: None,
    };
    assert_eq!(news, [query]);
    for damaged in flipped(&out[..length], 24) {
        assert!(parse_igmp(&damaged).is_err(), "damage is seen");
    }
}

/// MLD, as [`igmp()`].
pub fn mld(data: &[u8]) {
    if let Ok(news) = parse_mld(data) {
        let news: Vec<_> = news.collect();
        assert!(data[7] == 1 && news.len() <= MAX_RECORDS);
        assert!(news.iter().filter_map(group).all(|it| it.is_multicast()));
        let upper = walk_v6(data).expect("it was read");
        assert!(mld_type(data, &upper).is_some());
        let again: Vec<_> = parse_mld(&padded(data)).expect("as sound").collect();
        assert_eq!(news, again, "padding is ignored");
    }
    let Some(([choice, high, low], rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let Some(src) = rest.first_chunk::<16>() else {
        return;
    };
    let src = Ipv6Addr::from(*src);
    let response = u16::from_be_bytes([*high, *low]);
    let mut out = [0; mld::MAX_QUERY_LEN];
    let length = emit_query_v6(&mut out, src, version(*choice), response).expect("it fits");
    let read = parse_mld(&out[..length]);
    if !src.is_unicast_link_local() {
        assert!(read.is_err(), "a querier has a link-local address");
        return;
    }
    let query = Membership::Query {
        querier: src,
        group: None,
    };
    assert_eq!(read.expect("our own").collect::<Vec<_>>(), [query]);
    for damaged in flipped(&out[..length], 48) {
        assert!(parse_mld(&damaged).is_err(), "damage is seen");
    }
}
