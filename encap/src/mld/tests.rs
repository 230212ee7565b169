use super::*;
use crate::membership::{MAX_RECORDS, Membership};
use etherparse::{Icmpv6Slice, IpNumber, Ipv6ExtensionsSlice, Ipv6Header, PacketBuilder};

const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 2);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
/// PadN first, as some send it.
const ALERT: [u8; 8] = [58, 0, 1, 0, 5, 2, 0, 0];

/// A message by etherparse, behind hop-by-hop options.
fn packet(src: Ipv6Addr, options: &[u8], kind: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv6(src.octets(), GROUP.octets(), 1)
        .icmpv6_raw(kind, 0, rest)
        .write(&mut bytes, body)
        .expect("it fits");
    bytes.splice(40..40, options.iter().copied());
    let length = (bytes.len() - 40) as u16;
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    bytes[6] = 0;
    bytes
}

fn news(bytes: &[u8]) -> Result<Vec<Membership<Ipv6Addr>>, MembershipError> {
    parse_mld(bytes).map(Iterator::collect)
}

fn report(count: u16, records: &[(u8, u16, u8)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (at, (kind, sources, auxiliary)) in records.iter().enumerate() {
        let group = if at + 1 == records.len() {
            OTHER
        } else {
            GROUP
        };
        body.extend([*kind, *auxiliary]);
        body.extend(sources.to_be_bytes());
        body.extend(group.octets());
        let more = usize::from(*sources) * 16 + usize::from(*auxiliary) * 4;
        body.resize(body.len() + more, 0xee);
    }
    let [high, low] = count.to_be_bytes();
    packet(HOST, &ALERT, REPORT_V2, [0, 0, high, low], &body)
}

#[test]
fn version_1() {
    let group = GROUP.octets();
    let one = |kind| news(&packet(HOST, &ALERT, kind, [0; 4], &group));
    assert_eq!(one(REPORT_V1), Ok(vec![Membership::Join(GROUP)]));
    assert_eq!(one(DONE), Ok(vec![Membership::Leave(GROUP)]));
    let querier = HOST;
    assert_eq!(
        one(QUERY),
        Ok(vec![Membership::Query {
            querier,
            group: Some(GROUP)
        }])
    );
    let general = packet(HOST, &ALERT, QUERY, [0; 4], &[0; 16]);
    assert_eq!(
        news(&general),
        Ok(vec![Membership::Query {
            querier,
            group: None
        }])
    );
    let upper = walk_v6(&general).expect("sound");
    assert_eq!(mld_type(&general, &upper), Some(QUERY));
}

#[test]
fn records_of_version_2() {
    use Membership::{Join, Leave};
    let several = [
        (4, 0, 0),
        (6, 2, 3),
        (3, 0, 1),
        (5, 0, 0),
        (9, 0, 0),
        (1, 5, 0),
    ];
    assert_eq!(
        news(&report(6, &several)),
        Ok(vec![Join(GROUP), Leave(GROUP), Join(OTHER)])
    );
    assert!(matches!(
        news(&report(7, &several)),
        Err(MembershipError::Header(Error::Truncated { .. }))
    ));
    let most = vec![(2, 0, 0); MAX_RECORDS];
    assert_eq!(news(&report(64, &most)).map(|news| news.len()), Ok(64));
    assert_eq!(news(&report(65, &most)), Err(MembershipError::TooMany(65)));
    let sound = report(6, &several);
    for len in 0..sound.len() {
        assert!(news(&sound[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn what_is_not_believed() {
    use MembershipError::*;
    let group = GROUP.octets();
    let sound = packet(HOST, &ALERT, REPORT_V1, [0; 4], &group);
    assert!(news(&sound).is_ok());
    for (at, value, wanted) in [
        (7, 2, BadTtl(2)),
        (44, 99, NoRouterAlert),
        (47, 1, NoRouterAlert),
        (71, 9, BadChecksum),
        (48, 135, NotMembership),
    ] {
        let mut bad = sound.clone();
        bad[at] = value;
        assert_eq!(news(&bad), Err(wanted), "byte {at}");
    }
    let fragment = [44, 0, 5, 2, 0, 0, 1, 0, 58, 0, 0, 1, 0, 0, 0, 7];
    let fragment = packet(HOST, &fragment, REPORT_V1, [0; 4], &group);
    assert_eq!(news(&fragment), Err(Fragmented));
    let global = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);
    for (src, kind, wanted) in [
        (global, REPORT_V1, Err(BadSource)),
        (global, QUERY, Err(BadSource)),
        (Ipv6Addr::UNSPECIFIED, QUERY, Err(BadSource)),
        (
            Ipv6Addr::UNSPECIFIED,
            DONE,
            Ok(vec![Membership::Leave(GROUP)]),
        ),
    ] {
        assert_eq!(news(&packet(src, &ALERT, kind, [0; 4], &group)), wanted);
    }
    for kind in [QUERY, REPORT_V1, DONE] {
        let unicast = packet(HOST, &ALERT, kind, [0; 4], &HOST.octets());
        assert_eq!(news(&unicast), Err(BadGroup));
        let short = packet(HOST, &ALERT, kind, [0; 4], &group[..15]);
        assert!(matches!(news(&short), Err(Header(_))));
    }
}

#[test]
fn queries_read_back_by_etherparse() {
    let mut out = [0xa5; MAX_QUERY_LEN];
    for (version, length) in [(QueryVersion::Old, 72), (QueryVersion::New, 76)] {
        assert_eq!(emit_query_v6(&mut out, HOST, version, 10_000), Ok(length));
        let (header, rest) = Ipv6Header::from_slice(&out[..length]).expect("sound");
        assert_eq!(usize::from(header.payload_length), rest.len());
        assert_eq!(
            (header.hop_limit, header.destination),
            (1, ALL_NODES.octets())
        );
        let (options, next, rest) =
            Ipv6ExtensionsSlice::from_slice(header.next_header, rest).expect("sound");
        assert_eq!(next, IpNumber::IPV6_ICMP);
        assert_eq!(options.slice(), [58, 0, 5, 2, 0, 0, 1, 0]);
        let icmp = Icmpv6Slice::from_slice(rest).expect("sound");
        assert!(icmp.is_checksum_valid(header.source, header.destination));
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (130, 0));
        assert_eq!(icmp.bytes5to8(), [0x27, 0x10, 0, 0]);
        let tail: &[u8] = if version == QueryVersion::New {
            &[2, 125, 0, 0]
        } else {
            &[]
        };
        assert_eq!(icmp.payload(), [&[0; 16], tail].concat());
        let query = Membership::Query {
            querier: HOST,
            group: None,
        };
        assert_eq!(news(&out[..length]), Ok(vec![query]));
        assert!(emit_query_v6(&mut out[..length - 1], HOST, version, 1).is_err());
    }
}
