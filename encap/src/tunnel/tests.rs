use std::net::IpAddr;

use super::*;
use crate::ethernet::ETHERTYPE_IPV6;
use crate::ip::{PROTOCOL_IPIP, PROTOCOL_IPV6};
use crate::{Ecn, EthernetFrame, Ipv4Packet, Ipv6Packet, UdpPacket, VxlanHeader};

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

fn addresses(outer: IpFamily) -> (IpAddr, IpAddr) {
    match outer {
        IpFamily::V4 => ([192, 168, 77, 1].into(), [192, 168, 77, 2].into()),
        IpFamily::V6 => (
            [0xfd00, 0, 0, 0, 0, 0, 0x77, 1].into(),
            [0xfd00, 0, 0, 0, 0, 0, 0x77, 2].into(),
        ),
    }
}

fn vxlan_params(outer: IpFamily, inner: IpFamily) -> VxlanParams {
    let (src_ip, dst_ip) = addresses(outer);
    VxlanParams {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: [2, 0, 0, 0, 0, 2],
        src_ip,
        dst_ip,
        ttl: 64,
        dst_port: vxlan::PORT_LINUX,
        vni: 4096,
        inner_src_mac: [0x66, 0, 0, 0, 0, 1],
        inner_dst_mac: [0x66, 0, 0, 0, 0, 2],
        inner,
        df: true,
        dscp: DscpPolicy::Copy,
        udp_checksum: false,
    }
}

fn ipip_params(outer: IpFamily, inner: IpFamily) -> IpipParams {
    let (src_ip, dst_ip) = addresses(outer);
    IpipParams {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: [2, 0, 0, 0, 0, 2],
        src_ip,
        dst_ip,
        ttl: 64,
        inner,
        df: true,
        dscp: DscpPolicy::Copy,
    }
}

fn vxlan(outer: IpFamily) -> OuterHeader {
    OuterHeader::vxlan(vxlan_params(outer, IpFamily::V4)).expect("sound parameters")
}

fn ipip(outer: IpFamily) -> OuterHeader {
    OuterHeader::ipip(ipip_params(outer, IpFamily::V4)).expect("sound parameters")
}

/// Header and inner packet of `inner_len` bytes in one buffer.
fn encapsulate(header: &OuterHeader, inner_len: u16, tos: u8, hash: u32, id: u16) -> Vec<u8> {
    let mut frame = vec![0x5a; header.len() + usize::from(inner_len)];
    header
        .write(&mut frame[..header.len()], inner_len, tos, hash, id)
        .expect("it fits");
    frame
}

/// What both families' headers say: addresses, protocol, TOS, TTL, payload.
fn read_ip(frame: &[u8], outer: IpFamily) -> ((IpAddr, IpAddr), u8, u8, u8, Vec<u8>) {
    let ethernet = EthernetFrame::new_checked(frame).expect("Ethernet");
    assert_eq!(ethernet.src(), [2, 0, 0, 0, 0, 1]);
    assert_eq!(ethernet.dst(), [2, 0, 0, 0, 0, 2]);
    assert_eq!(ethernet.ethertype(), outer.ethertype());
    match outer {
        IpFamily::V4 => {
            let ip = Ipv4Packet::new_checked(ethernet.payload()).expect("IPv4");
            assert!(ip.verify_checksum() && !ip.is_fragment());
            assert_eq!(usize::from(ip.total_len()), frame.len() - 14);
            let addresses = (ip.src().into(), ip.dst().into());
            let payload = ip.payload().to_vec();
            (addresses, ip.protocol(), ip.tos(), ip.ttl(), payload)
        }
        IpFamily::V6 => {
            let ip = Ipv6Packet::new_checked(ethernet.payload()).expect("IPv6");
            assert_eq!(usize::from(ip.payload_len()), frame.len() - 54);
            let addresses = (ip.src().into(), ip.dst().into());
            let (class, hops) = (ip.traffic_class(), ip.hop_limit());
            let payload = ip.payload().to_vec();
            (addresses, ip.next_header(), class, hops, payload)
        }
    }
}

#[test]
fn vxlan_reads_back_in_all_families() {
    for outer in FAMILIES {
        for inner in FAMILIES {
            let header = OuterHeader::vxlan(vxlan_params(outer, inner)).expect("sound");
            let (len, overhead) = match outer {
                IpFamily::V4 => (64, 50),
                IpFamily::V6 => (84, 70),
            };
            assert_eq!((header.len(), header.overhead()), (len, overhead));
            assert_eq!((header.kind(), header.family()), (OuterKind::Vxlan, outer));
            assert!(header.wants_flow_hash() && !header.wants_udp_checksum());

            let frame = encapsulate(&header, 1001, 0xb9, 0xffff_ffff, 0x1234);
            let (ends, protocol, tos, ttl, payload) = read_ip(&frame, outer);
            assert_eq!(ends, addresses(outer));
            assert_eq!((protocol, tos, ttl), (PROTOCOL_UDP, 0xb9, 64));
            let udp = UdpPacket::new_checked(&payload[..]).expect("UDP");
            assert_eq!((udp.src_port(), udp.dst_port()), (65535, 8472));
            assert_eq!((udp.length(), udp.checksum()), (1031, 0));
            let vxlan = VxlanHeader::new_checked(udp.payload()).expect("VXLAN");
            assert_eq!(vxlan.vni(), 4096);
            let within = EthernetFrame::new_checked(vxlan.payload()).expect("inner Ethernet");
            assert_eq!(within.src(), [0x66, 0, 0, 0, 0, 1]);
            assert_eq!(within.dst(), [0x66, 0, 0, 0, 0, 2]);
            assert_eq!(within.ethertype(), inner.ethertype());
            assert_eq!(within.payload(), vec![0x5a; 1001]);
        }
    }
}

#[test]
fn ipip_reads_back_in_all_families() {
    for outer in FAMILIES {
        for (inner, expected) in [(IpFamily::V4, PROTOCOL_IPIP), (IpFamily::V6, PROTOCOL_IPV6)] {
            let header = OuterHeader::ipip(ipip_params(outer, inner)).expect("sound");
            let (len, overhead) = match outer {
                IpFamily::V4 => (34, 20),
                IpFamily::V6 => (54, 40),
            };
            assert_eq!((header.len(), header.overhead()), (len, overhead));
            assert_eq!((header.kind(), header.family()), (OuterKind::Ipip, outer));
            assert_eq!(header.wants_flow_hash(), outer == IpFamily::V6);

            let frame = encapsulate(&header, 84, 2, 0, 0xffff);
            let (ends, protocol, tos, ttl, payload) = read_ip(&frame, outer);
            assert_eq!(ends, addresses(outer));
            assert_eq!((protocol, ttl), (expected, 64));
            assert_eq!(Ecn::from_tos(tos), Ecn::Ect0);
            assert_eq!(payload, [0x5a; 84]);
        }
    }
}

#[test]
fn df_and_identification_are_outer_ipv4s() {
    for df in [true, false] {
        let header = OuterHeader::ipip(IpipParams {
            df,
            ..ipip_params(IpFamily::V4, IpFamily::V6)
        })
        .expect("sound");
        let frame = encapsulate(&header, 40, 0, 0, 0x1234);
        let ip = Ipv4Packet::new_checked(&frame[14..]).expect("IPv4");
        assert_eq!((ip.dont_fragment(), ip.ident()), (df, 0x1234));
    }
    let header = ipip(IpFamily::V6);
    assert_eq!(
        encapsulate(&header, 40, 0, 9, 0x1234),
        encapsulate(&header, 40, 0, 9, 0)
    );
}

#[test]
fn ethernet_is_only_pasted() {
    let header = OuterHeader::ethernet([1; 6], [2; 6], ETHERTYPE_IPV6);
    assert_eq!((header.len(), header.overhead()), (14, 0));
    assert_eq!(header.family(), IpFamily::V6);
    assert!(!header.wants_flow_hash());
    let mut out = [0; 14];
    header
        .write(&mut out, u16::MAX, 0xff, u32::MAX, 1)
        .expect("14 bytes");
    assert_eq!(out, [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 0x86, 0xdd]);
    assert_eq!(header.as_bytes(), out);
    let arp = OuterHeader::ethernet([1; 6], [2; 6], crate::ETHERTYPE_ARP);
    assert_eq!(arp.family(), IpFamily::V4);
}

#[test]
fn ip_checksum_is_right_for_every_tos_length_and_ident() {
    for header in [vxlan(IpFamily::V4), ipip(IpFamily::V4)] {
        let mut out = [0u8; MAX_LEN];
        let out = &mut out[..header.len()];
        let right = |out: &[u8]| Checksum::new().add(&out[IP..L4_V4]).finish() == 0;
        for tos in 0..=255 {
            header.write(out, 1400, tos, 0, 0).expect("it fits");
            assert!(right(out), "TOS {tos}");
        }
        for value in 0..=u16::MAX {
            let inner_len = value.min(u16::MAX - header.overhead() as u16);
            header
                .write(out, inner_len, 0xff, 0, value)
                .expect("it fits");
            assert!(right(out), "length {inner_len}, ident {value}");
        }
    }
}

#[test]
fn source_ports_stay_in_the_dynamic_range_and_reach_all_of_it() {
    for (outer, at) in [(IpFamily::V4, 34), (IpFamily::V6, 54)] {
        let header = vxlan(outer);
        let mut out = vec![0u8; header.len()];
        for upper in 0..1u32 << 14 {
            header
                .write(&mut out, 20, 0, upper << 18 | 0x3ffff, 0)
                .expect("it fits");
            assert_eq!(
                u32::from(u16::from_be_bytes([out[at], out[at + 1]])),
                49152 + upper
            );
        }
    }
}

#[test]
fn flow_labels_are_the_lower_bits_and_never_0() {
    for header in [vxlan(IpFamily::V6), ipip(IpFamily::V6)] {
        for (hash, label) in [
            (0, 1),
            (0xfff0_0000, 1),
            (1, 1),
            (0xabcd_ef01, 0xd_ef01),
            (u32::MAX, 0xf_ffff),
        ] {
            for tos in [0, 0xff, 0xb9] {
                let frame = encapsulate(&header, 20, tos, hash, 0);
                let word = u32::from_be_bytes([frame[14], frame[15], frame[16], frame[17]]);
                assert_eq!(word >> 28, 6);
                assert_eq!((word >> 20) as u8, tos);
                assert_eq!(word & 0xf_ffff, label, "hash {hash:#x}");
            }
        }
    }
}

#[test]
fn dscp_policies_copy_ecn_always() {
    for outer in FAMILIES {
        let params = vxlan_params(outer, IpFamily::V4);
        let copy = OuterHeader::vxlan(params).expect("sound");
        let fixed = OuterHeader::vxlan(VxlanParams {
            dscp: DscpPolicy::Fixed(46),
            ..params
        })
        .expect("sound");
        for tos in 0..=255u8 {
            let (_, _, copied, ..) = read_ip(&encapsulate(&copy, 20, tos, 0, 0), outer);
            assert_eq!(copied, tos);
            let (_, _, set, ..) = read_ip(&encapsulate(&fixed, 20, tos, 0, 0), outer);
            assert_eq!(set, 46 << 2 | tos & 3);
        }
        let bad = IpipParams {
            dscp: DscpPolicy::Fixed(64),
            ..ipip_params(outer, IpFamily::V4)
        };
        assert_eq!(OuterHeader::ipip(bad).err(), Some(Error::BadDscp(64)));
    }
}

#[test]
fn udp_checksum_on_demand() {
    for outer in FAMILIES {
        let header = OuterHeader::vxlan(VxlanParams {
            udp_checksum: true,
            ..vxlan_params(outer, IpFamily::V6)
        })
        .expect("sound");
        assert!(header.wants_udp_checksum());
        for inner_len in [0u16, 1, 20, 1399, 1400] {
            let mut frame = encapsulate(&header, inner_len, 0, 99, 0);
            let (out, inner) = frame.split_at_mut(header.len());
            header
                .fill_udp_checksum(out, Checksum::new().add(inner))
                .expect("a place of the right size");
            let (ends, .., payload) = read_ip(&frame, outer);
            let udp = UdpPacket::new_checked(&payload[..]).expect("UDP");
            assert_ne!(udp.checksum(), 0);
            let len = payload.len() as u16;
            let pseudo = match ends {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    Checksum::new().add_pseudo_v4(src, dst, PROTOCOL_UDP, len)
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    Checksum::new().add_pseudo_v6(src, dst, PROTOCOL_UDP, len.into())
                }
                mixed => panic!("{mixed:?}"),
            };
            assert_eq!(pseudo.add(&payload).finish(), 0, "{inner_len} bytes");
        }
    }
}

#[test]
fn refuses_wrong_places() {
    for header in [
        ipip(IpFamily::V4),
        ipip(IpFamily::V6),
        vxlan(IpFamily::V4),
        vxlan(IpFamily::V6),
    ] {
        let mut out = [0u8; MAX_LEN + 1];
        let need = header.len();
        for have in (0..=MAX_LEN + 1).filter(|have| *have != need) {
            let wrong = Err(Error::WrongSize { need, have });
            assert_eq!(header.write(&mut out[..have], 20, 0, 0, 0), wrong);
            if header.kind() == OuterKind::Vxlan {
                let sum = Checksum::new();
                assert_eq!(header.fill_udp_checksum(&mut out[..have], sum), wrong);
            }
        }
    }
}

/// The last inner length that the outer length field can say, and what comes after it.
#[test]
fn refuses_what_its_length_field_cannot_say() {
    for (header, longest, what) in [
        (ipip(IpFamily::V4), 65515, "outer IPv4"),
        (vxlan(IpFamily::V4), 65485, "outer IPv4"),
        // The payload length counts what follows the IPv6 header.
        (vxlan(IpFamily::V6), 65505, "outer IPv6"),
    ] {
        let mut out = vec![0u8; header.len()];
        assert_eq!(header.write(&mut out, longest, 0, 0, 0), Ok(()));
        for inner_len in [longest + 1, u16::MAX] {
            assert_eq!(
                header.write(&mut out, inner_len, 0, 0, 0),
                Err(Error::TooLong {
                    what,
                    payload: inner_len.into()
                })
            );
        }
    }
    let mut out = [0u8; 54];
    let header = ipip(IpFamily::V6);
    assert_eq!(header.write(&mut out, u16::MAX, 0, 0, 0), Ok(()));
    assert_eq!(out[18..20], [0xff, 0xff]);
}

#[test]
fn refuses_mixed_families_and_long_vnis() {
    let ((v4, _), (v6, _)) = (addresses(IpFamily::V4), addresses(IpFamily::V6));
    for (src_ip, dst_ip) in [(v4, v6), (v6, v4)] {
        let vxlan = VxlanParams {
            src_ip,
            dst_ip,
            ..vxlan_params(IpFamily::V4, IpFamily::V4)
        };
        let ipip = IpipParams {
            src_ip,
            dst_ip,
            ..ipip_params(IpFamily::V4, IpFamily::V4)
        };
        assert_eq!(OuterHeader::vxlan(vxlan).err(), Some(Error::MixedFamilies));
        assert_eq!(OuterHeader::ipip(ipip).err(), Some(Error::MixedFamilies));
    }
    let params = VxlanParams {
        vni: 1 << 24,
        ..vxlan_params(IpFamily::V6, IpFamily::V4)
    };
    let refused = OuterHeader::vxlan(params).err();
    assert_eq!(refused, Some(Error::BadVni(1 << 24)));
}
