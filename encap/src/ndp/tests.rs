use super::*;
use etherparse::{Icmpv6Slice, Icmpv6Type, PacketBuilder};

const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const POD: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x1234, 0x56ff, 0xfe78, 0x9abc);
const MAC: Mac = [2, 0, 0, 0xaa, 0xbb, 0xcc];

/// A message with its right checksum, by etherparse.
fn message(
    src: Ipv6Addr,
    dst: Ipv6Addr,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv6(src.octets(), dst.octets(), 255)
        .icmpv6_raw(kind, code, rest)
        .write(&mut bytes, body)
        .expect("it fits");
    bytes
}

fn with_option(target: Ipv6Addr, kind: u8) -> Vec<u8> {
    [&target.octets()[..], &[kind, 1], &MAC].concat()
}

fn solicit(src: Ipv6Addr, dst: Ipv6Addr, body: &[u8]) -> Result<NdpMessage, NdpError> {
    parse_ndp(&message(src, dst, NEIGHBOUR_SOLICITATION, 0, [0; 4], body))
}

#[test]
fn reads_what_etherparse_writes() {
    assert_eq!(
        solicit(POD, solicited_node(GATEWAY), &with_option(GATEWAY, 1)),
        Ok(NdpMessage::NeighbourSolicitation {
            target: GATEWAY,
            source_lladdr: Some(MAC)
        })
    );
    assert_eq!(
        solicit(Ipv6Addr::UNSPECIFIED, solicited_node(POD), &POD.octets()),
        Ok(NdpMessage::NeighbourSolicitation {
            target: POD,
            source_lladdr: None
        })
    );
    for flags in 0..8u8 {
        let rest = [flags << 5, 0, 0, 0];
        let packet = message(
            POD,
            GATEWAY,
            NEIGHBOUR_ADVERTISEMENT,
            0,
            rest,
            &with_option(POD, 2),
        );
        assert_eq!(
            parse_ndp(&packet),
            Ok(NdpMessage::NeighbourAdvertisement {
                target: POD,
                router: flags & 4 != 0,
                solicited: flags & 2 != 0,
                overrides: flags & 1 != 0,
                target_lladdr: Some(MAC)
            })
        );
    }
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let packet = message(POD, routers, ROUTER_SOLICITATION, 0, [0; 4], &[]);
    assert_eq!(parse_ndp(&packet), Ok(NdpMessage::RouterSolicitation));
    // With an MTU option (5), which is skipped.
    let body = [&[0; 8][..], &[5, 1, 0, 0, 0, 0, 5, 0xdc]].concat();
    let packet = message(
        POD,
        ALL_NODES,
        ROUTER_ADVERTISEMENT,
        0,
        [64, 0, 7, 8],
        &body,
    );
    assert_eq!(parse_ndp(&packet), Ok(NdpMessage::RouterAdvertisement));
    let body = [GATEWAY.octets(), [0xfd; 16]].concat();
    let packet = message(POD, GATEWAY, REDIRECT, 0, [0; 4], &body);
    assert_eq!(parse_ndp(&packet), Ok(NdpMessage::Redirect));
}

#[test]
fn emits_what_etherparse_verifies_and_it_parses() {
    let mut out = [0xa5; MAX_LEN + 8];
    for flags in 0..8u8 {
        let params = NaParams {
            src: GATEWAY,
            dst: POD,
            target: GATEWAY,
            lladdr: MAC,
            router: flags & 4 != 0,
            solicited: flags & 2 != 0,
            overrides: flags & 1 != 0,
        };
        assert_eq!(emit_advertisement(&mut out, &params), Ok(72));
        let (header, rest) = etherparse::Ipv6Header::from_slice(&out[..72]).expect("sound");
        assert_eq!((header.hop_limit, header.payload_length), (255, 32));
        let icmp = Icmpv6Slice::from_slice(rest).expect("sound");
        assert!(icmp.is_checksum_valid(GATEWAY.octets(), POD.octets()));
        let Icmpv6Type::NeighborAdvertisement(read) = icmp.icmp_type() else {
            panic!("{:?}", icmp.icmp_type());
        };
        assert_eq!(
            (read.router, read.solicited, read.r#override),
            (params.router, params.solicited, params.overrides)
        );
        assert_eq!(
            parse_ndp(&out),
            Ok(NdpMessage::NeighbourAdvertisement {
                target: GATEWAY,
                router: params.router,
                solicited: params.solicited,
                overrides: params.overrides,
                target_lladdr: Some(MAC)
            })
        );
        assert!(emit_advertisement(&mut out[..71], &params).is_err());
    }
    for (src, length, source_lladdr) in
        [(GATEWAY, 72, Some(MAC)), (Ipv6Addr::UNSPECIFIED, 64, None)]
    {
        assert_eq!(emit_solicitation(&mut out, src, POD, MAC), Ok(length));
        assert_eq!(
            parse_ndp(&out),
            Ok(NdpMessage::NeighbourSolicitation {
                target: POD,
                source_lladdr
            })
        );
        assert_eq!(
            Ipv6Packet::new_checked(&out).map(|ip| ip.dst()),
            Ok(solicited_node(POD))
        );
        assert!(emit_solicitation(&mut out[..length - 1], src, POD, MAC).is_err());
    }
}

#[test]
fn refuses_what_rfc_4861_refuses() {
    let sound = message(
        POD,
        GATEWAY,
        NEIGHBOUR_SOLICITATION,
        0,
        [0; 4],
        &with_option(GATEWAY, 1),
    );
    let mut forwarded = sound.clone();
    forwarded[7] = 254;
    assert_eq!(parse_ndp(&forwarded), Err(NdpError::BadHopLimit(254)));
    for at in 8..sound.len() {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        let error = parse_ndp(&damaged);
        assert_eq!(error, Err(NdpError::BadChecksum), "byte {at}");
    }
    let code = message(
        POD,
        GATEWAY,
        NEIGHBOUR_SOLICITATION,
        1,
        [0; 4],
        &GATEWAY.octets(),
    );
    assert_eq!(parse_ndp(&code), Err(NdpError::BadCode(1)));
    for (kind, body) in [(133u8, 0usize), (134, 8), (135, 16), (136, 16), (137, 32)] {
        let (src, body) = (POD, vec![0xfd; body]);
        let packet = message(src, GATEWAY, kind, 0, [0; 4], &body);
        assert!(parse_ndp(&packet).is_ok(), "{kind}");
        if let Some(short) = body.len().checked_sub(1) {
            assert_eq!(
                parse_ndp(&message(src, GATEWAY, kind, 0, [0; 4], &body[..short])),
                Err(NdpError::TooShort {
                    kind,
                    have: 8 + short
                })
            );
        }
    }
    for kind in [128, 132, 138] {
        let packet = message(POD, GATEWAY, kind, 0, [0; 4], &[0; 32]);
        assert_eq!(parse_ndp(&packet), Err(NdpError::NotNdp));
    }
}

#[test]
fn refuses_bad_options() {
    for option in [
        &[1u8, 0, 0, 0, 0, 0, 0, 0][..],
        &[99, 0, 0, 0, 0, 0, 0, 0],
        &[1, 2, 0, 0, 0, 0, 0, 0],
        &[1],
        &[99, 1, 0],
        &[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let body = [&GATEWAY.octets()[..], option].concat();
        assert_eq!(
            solicit(POD, GATEWAY, &body),
            Err(NdpError::BadOption),
            "{option:?}"
        );
    }
}

#[test]
fn refuses_addresses_that_cannot_be() {
    let any = Ipv6Addr::UNSPECIFIED;
    let global = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
    let bad = |kind| Err(NdpError::BadAddress(kind));
    assert_eq!(
        solicit(any, solicited_node(POD), &with_option(POD, 1)),
        bad(135)
    );
    assert_eq!(solicit(any, POD, &POD.octets()), bad(135));
    assert_eq!(solicit(POD, GATEWAY, &ALL_NODES.octets()), bad(135));
    assert_eq!(solicit(ALL_NODES, GATEWAY, &POD.octets()), bad(135));
    let solicited = message(POD, ALL_NODES, 136, 0, [0x40, 0, 0, 0], &POD.octets());
    assert_eq!(parse_ndp(&solicited), bad(136));
    let global_router = message(global, ALL_NODES, 134, 0, [0; 4], &[0; 8]);
    assert_eq!(parse_ndp(&global_router), bad(134));
    let unspecified = message(any, ALL_NODES, 133, 0, [0; 4], &[1, 1, 2, 0, 0, 0, 0, 1]);
    assert_eq!(parse_ndp(&unspecified), bad(133));
    for (src, target, destination) in [
        (global, GATEWAY, global),
        (POD, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 8), global),
        (POD, GATEWAY, ALL_NODES),
    ] {
        let body = [target.octets(), destination.octets()].concat();
        assert_eq!(
            parse_ndp(&message(src, POD, 137, 0, [0; 4], &body)),
            bad(137)
        );
    }
}

#[test]
fn extension_headers_hide_nothing() {
    let plain = message(
        POD,
        ALL_NODES,
        ROUTER_ADVERTISEMENT,
        0,
        [64, 0, 7, 8],
        &[0; 8],
    );
    let mut options = plain.clone();
    options.splice(40..40, [58, 0, 1, 4, 0, 0, 0, 0]);
    (options[5], options[6]) = (options[5] + 8, 60);
    assert_eq!(parse_ndp(&options), Ok(NdpMessage::RouterAdvertisement));
    let mut fragment = plain;
    fragment.splice(40..40, [58, 0, 0, 1, 0, 0, 0, 7]);
    (fragment[5], fragment[6]) = (fragment[5] + 8, 44);
    assert_eq!(parse_ndp(&fragment), Err(NdpError::Fragmented));
    let upper = walk_v6(&fragment).expect("sound");
    assert_eq!(ndp_type(&fragment, &upper), Some(ROUTER_ADVERTISEMENT));
    fragment[43] = 9;
    let upper = walk_v6(&fragment).expect("sound");
    assert_eq!(ndp_type(&fragment, &upper), None);
    assert_eq!(parse_ndp(&fragment), Err(NdpError::NotNdp));
}

#[test]
fn multicast_addresses() {
    // RFC 4291, section 2.7.1, and RFC 2464, section 7.
    let address = "4037::01:800:200e:8c6c".parse().expect("an address");
    let group = solicited_node(address);
    assert_eq!(
        group,
        "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().expect("an address")
    );
    assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]);
}
