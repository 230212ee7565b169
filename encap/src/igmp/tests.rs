use super::*;
use crate::membership::{MAX_RECORDS, Membership};
use etherparse::{IgmpSlice, IgmpType, IpNumber, Ipv4Header, PacketBuilder, SlicedPacket, igmp};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 4);

/// A message with its right checksums, by etherparse.
fn packet(kind: IgmpType, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(HOST.octets(), GROUP.octets(), 1)
        .igmp(kind)
        .write(&mut bytes, payload)
        .expect("it fits");
    bytes
}

fn news(bytes: &[u8]) -> Result<Vec<Membership<Ipv4Addr>>, MembershipError> {
    parse_igmp(bytes).map(Iterator::collect)
}

/// Records of type, sources and auxiliary words, all for [`GROUP`] but the last.
fn report(records: &[(u8, u16, u8)]) -> Vec<u8> {
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
        body.resize(
            body.len() + usize::from(*sources + u16::from(*auxiliary)) * 4,
            0xee,
        );
    }
    let header = igmp::MembershipReportV3Header {
        flags: [0; 2],
        num_of_records: records.len() as u16,
    };
    packet(IgmpType::MembershipReportV3(header), &body)
}

#[test]
fn older_versions() {
    let group_address = igmp::GroupAddress::new(GROUP.octets());
    let v1 = IgmpType::MembershipReportV1(igmp::MembershipReportV1Type { group_address });
    let v2 = IgmpType::MembershipReportV2(igmp::MembershipReportV2Type { group_address });
    let leave = IgmpType::LeaveGroup(igmp::LeaveGroupType { group_address });
    assert_eq!(news(&packet(v1, &[])), Ok(vec![Membership::Join(GROUP)]));
    assert_eq!(
        news(&packet(v2.clone(), &[])),
        Ok(vec![Membership::Join(GROUP)])
    );
    assert_eq!(
        news(&packet(leave, &[])),
        Ok(vec![Membership::Leave(GROUP)])
    );
    for (address, group) in [(GROUP, Some(GROUP)), (Ipv4Addr::UNSPECIFIED, None)] {
        let query = IgmpType::MembershipQuery(igmp::MembershipQueryType {
            max_response_time: 100,
            group_address: igmp::GroupAddress::new(address.octets()),
        });
        assert_eq!(
            news(&packet(query, &[])),
            Ok(vec![Membership::Query {
                querier: HOST,
                group
            }])
        );
    }
    let mut padded = packet(v2, &[]);
    padded.resize(46, 0xee);
    assert_eq!(news(&padded), Ok(vec![Membership::Join(GROUP)]));
}

#[test]
fn records_of_version_3() {
    use Membership::{Join, Leave};
    for (kind, with_sources, without) in [
        (1, Some(Join(OTHER)), Some(Leave(OTHER))),
        (2, Some(Join(OTHER)), Some(Join(OTHER))),
        (3, Some(Join(OTHER)), Some(Leave(OTHER))),
        (4, Some(Join(OTHER)), Some(Join(OTHER))),
        (5, Some(Join(OTHER)), None),
        (6, None, None),
        (7, None, None),
    ] {
        let one = |sources| news(&report(&[(kind, sources, 1)]));
        assert_eq!(one(3), Ok(with_sources.into_iter().collect()), "{kind}");
        assert_eq!(one(0), Ok(without.into_iter().collect()), "{kind}");
    }
    // One after another, sources and auxiliary data skipped.
    let several = report(&[(4, 0, 0), (6, 2, 3), (3, 0, 1), (1, 5, 0)]);
    assert_eq!(
        news(&several),
        Ok(vec![Join(GROUP), Leave(GROUP), Join(OTHER)])
    );
    assert_eq!(news(&report(&[])), Ok(vec![]));
}

#[test]
fn bounds() {
    let most = vec![(4, 0, 0); MAX_RECORDS];
    assert_eq!(news(&report(&most)).map(|news| news.len()), Ok(MAX_RECORDS));
    let more = vec![(4, 0, 0); MAX_RECORDS + 1];
    assert_eq!(news(&report(&more)), Err(MembershipError::TooMany(65)));
    // A record that promises more than there is; nothing of the message counts then.
    let sound = report(&[(4, 0, 0), (1, 2, 1)]);
    for len in 36..sound.len() {
        let mut cut = sound[..len].to_vec();
        cut[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        cut[22..24].fill(0);
        let sum = Checksum::new().add(&cut[20..]).finish();
        cut[22..24].copy_from_slice(&sum.to_be_bytes());
        assert!(
            matches!(
                news(&cut),
                Err(MembershipError::Header(Error::Truncated { .. }))
            ),
            "{len} bytes"
        );
    }
    for len in 0..sound.len() {
        assert!(news(&sound[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn what_is_not_believed() {
    let sound = report(&[(4, 0, 0)]);
    for (at, value, wanted) in [
        (6, 0x20, MembershipError::Fragmented),
        (8, 2, MembershipError::BadTtl(2)),
        (9, 17, MembershipError::NotMembership),
        (20, 0x23, MembershipError::BadChecksum),
        (33, 9, MembershipError::BadChecksum),
    ] {
        let mut bad = sound.clone();
        bad[at] = value;
        assert_eq!(news(&bad), Err(wanted), "byte {at}");
    }
    let group_address = igmp::GroupAddress::new([10, 0, 0, 1]);
    let unicast = IgmpType::MembershipReportV2(igmp::MembershipReportV2Type { group_address });
    assert_eq!(news(&packet(unicast, &[])), Err(MembershipError::BadGroup));
    let leave = IgmpType::LeaveGroup(igmp::LeaveGroupType { group_address });
    assert_eq!(news(&packet(leave, &[])), Err(MembershipError::BadGroup));
    let mut other = Vec::new();
    let dvmrp = [0x13, 0, 0xec, 0xff, 0, 0, 0, 0];
    Ipv4Header::new(8, 1, IpNumber::IGMP, HOST.octets(), GROUP.octets())
        .expect("it fits")
        .write(&mut other)
        .expect("room");
    other.extend(dvmrp);
    assert_eq!(news(&other), Err(MembershipError::NotMembership));
}

#[test]
fn queries_read_back_by_etherparse() {
    let mut out = [0xa5; MAX_QUERY_LEN];
    for (version, length) in [(QueryVersion::Old, 32), (QueryVersion::New, 36)] {
        assert_eq!(emit_query_v4(&mut out, HOST, version, 100), Ok(length));
        let written = out;
        let sliced = SlicedPacket::from_ip(&written[..length]).expect("sound");
        let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
            panic!("no IPv4");
        };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(header.options.as_slice(), [0x94, 4, 0, 0]);
        assert_eq!(
            (header.time_to_live, header.destination),
            (1, [224, 0, 0, 1])
        );
        let igmp = IgmpSlice::from_slice(ip.payload().payload).expect("sound");
        assert!(igmp.is_checksum_valid());
        assert_eq!(igmp.slice()[..2], [0x11, 100]);
        assert_eq!(igmp.bytes4to7(), [0; 4]);
        if let IgmpType::MembershipQueryWithSources(new) = igmp.igmp_type() {
            assert_eq!(version, QueryVersion::New);
            assert_eq!(
                (new.qrv().value(), new.qqic, new.num_of_sources),
                (2, 125, 0)
            );
        } else {
            assert_eq!(version, QueryVersion::Old);
        }
        let query = Membership::Query {
            querier: HOST,
            group: None,
        };
        assert_eq!(news(&out[..length]), Ok(vec![query]));
        assert!(emit_query_v4(&mut out[..length - 1], HOST, version, 100).is_err());
    }
}
