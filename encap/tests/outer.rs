//! Outer headers of every family against an independent reading: `etherparse`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{EtherType, IpNumber, LinkSlice, NetSlice, PacketBuilder, SlicedPacket};
use etherparse::{TransportSlice, UdpSlice};
use proptest::collection::vec;
use proptest::prelude::*;
use shunt_encap::{
    Checksum, DscpPolicy, IpFamily, IpipParams, OuterHeader, OuterKind, VxlanParams,
};

type MacPair = ([u8; 6], [u8; 6]);

fn family() -> impl Strategy<Value = IpFamily> {
    prop_oneof![Just(IpFamily::V4), Just(IpFamily::V6)]
}

/// Two addresses of one family.
fn ends() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(u32, u32)>()
            .prop_map(|(src, dst)| (Ipv4Addr::from(src).into(), Ipv4Addr::from(dst).into())),
        any::<(u128, u128)>()
            .prop_map(|(src, dst)| (Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into())),
    ]
}

/// A UDP packet by etherparse.
fn inner_packet(family: IpFamily, ends: (u128, u128), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = match family {
        IpFamily::V4 => {
            let (src, dst) = ((ends.0 as u32).to_be_bytes(), (ends.1 as u32).to_be_bytes());
            PacketBuilder::ipv4(src, dst, 64)
        }
        IpFamily::V6 => PacketBuilder::ipv6(ends.0.to_be_bytes(), ends.1.to_be_bytes(), 64),
    };
    ip.udp(5000, 53)
        .write(&mut bytes, payload)
        .expect("it fits");
    bytes
}

/// What [`OuterHeader::write`] is given, and what of it an outer header must show.
#[derive(Debug, Clone, Copy)]
struct Sent {
    ends: (IpAddr, IpAddr),
    macs: MacPair,
    ttl: u8,
    df: bool,
    dscp: Option<u8>,
    tos: u8,
    flow_hash: u32,
    ident: u16,
}

fn sent() -> impl Strategy<Value = Sent> {
    (
        ends(),
        any::<(MacPair, u8, bool)>(),
        prop::option::of(0u8..64),
        any::<(u8, u32, u16)>(),
    )
        .prop_map(
            |(ends, (macs, ttl, df), dscp, (tos, flow_hash, ident))| Sent {
                ends,
                macs,
                ttl,
                df,
                dscp,
                tos,
                flow_hash,
                ident,
            },
        )
}

impl Sent {
    fn policy(&self) -> DscpPolicy {
        self.dscp.map_or(DscpPolicy::Copy, DscpPolicy::Fixed)
    }

    /// Header and inner packet in one frame.
    fn encapsulate(&self, header: &OuterHeader, inner: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xa5; header.len()];
        frame.extend_from_slice(inner);
        let (out, behind) = frame.split_at_mut(header.len());
        let length = behind.len() as u16;
        header
            .write(out, length, self.tos, self.flow_hash, self.ident)
            .expect("it fits");
        if header.wants_udp_checksum() {
            header
                .fill_udp_checksum(out, Checksum::new().add(behind))
                .expect("a place of the right size");
        }
        frame
    }

    /// Checks Ethernet and IP of `frame`, and gives its IP protocol and payload.
    fn check(
        &self,
        frame: &[u8],
        outer: &SlicedPacket<'_>,
    ) -> Result<(IpNumber, Vec<u8>), TestCaseError> {
        let Some(LinkSlice::Ethernet2(link)) = &outer.link else {
            return Err(TestCaseError::fail("no Ethernet"));
        };
        prop_assert_eq!((link.source(), link.destination()), self.macs);
        let dscp = self.dscp.unwrap_or(self.tos >> 2);
        match (&outer.net, self.ends) {
            (Some(NetSlice::Ipv4(ip)), (IpAddr::V4(src), IpAddr::V4(dst))) => {
                prop_assert_eq!(link.ether_type(), EtherType::IPV4);
                let header = ip.header().to_header();
                prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
                let addresses = (header.source, header.destination);
                prop_assert_eq!(addresses, (src.octets(), dst.octets()));
                prop_assert_eq!(header.time_to_live, self.ttl);
                prop_assert_eq!(header.identification, self.ident);
                prop_assert_eq!(header.dont_fragment, self.df);
                prop_assert!(!header.more_fragments);
                prop_assert_eq!(usize::from(header.total_len), frame.len() - 14);
                prop_assert_eq!(header.dscp.value(), dscp);
                prop_assert_eq!(header.ecn.value(), self.tos & 3);
                Ok((header.protocol, ip.payload().payload.to_vec()))
            }
            (Some(NetSlice::Ipv6(ip)), (IpAddr::V6(src), IpAddr::V6(dst))) => {
                prop_assert_eq!(link.ether_type(), EtherType::IPV6);
                let header = ip.header();
                let addresses = (header.source(), header.destination());
                prop_assert_eq!(addresses, (src.octets(), dst.octets()));
                prop_assert_eq!(header.hop_limit(), self.ttl);
                prop_assert_eq!(usize::from(header.payload_length()), frame.len() - 54);
                prop_assert_eq!(header.traffic_class(), dscp << 2 | self.tos & 3);
                let label = (self.flow_hash & 0xf_ffff).max(1);
                prop_assert_eq!(header.flow_label().value(), label);
                Ok((header.next_header(), ip.payload().payload.to_vec()))
            }
            _ => Err(TestCaseError::fail("another family")),
        }
    }

    /// The checksum of `udp` as etherparse computes it.
    fn expected_checksum(&self, udp: &UdpSlice<'_>) -> u16 {
        let header = udp.to_header();
        match self.ends {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), udp.payload())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), udp.payload())
            }
            mixed => panic!("{mixed:?}"),
        }
        .expect("it fits")
    }
}

proptest! {
    #[test]
    fn vxlan_is_read_by_etherparse(
        sent in sent(), inner in family(), inner_macs: MacPair, inner_ends: (u128, u128),
        dst_port: u16, vni in 0u32..1 << 24, udp_checksum: bool,
        payload in vec(any::<u8>(), 0..1400),
    ) {
        let header = OuterHeader::vxlan(VxlanParams {
            src_mac: sent.macs.0, dst_mac: sent.macs.1,
            src_ip: sent.ends.0, dst_ip: sent.ends.1, ttl: sent.ttl, dst_port, vni,
            inner_src_mac: inner_macs.0, inner_dst_mac: inner_macs.1, inner,
            df: sent.df, dscp: sent.policy(), udp_checksum,
        }).expect("sound parameters");
        prop_assert_eq!(header.kind(), OuterKind::Vxlan);
        let packet = inner_packet(inner, inner_ends, &payload);
        let frame = sent.encapsulate(&header, &packet);

        let outer = SlicedPacket::from_ethernet(&frame).expect("etherparse reads it");
        let (protocol, _) = sent.check(&frame, &outer)?;
        prop_assert_eq!(protocol, IpNumber::UDP);
        let Some(TransportSlice::Udp(udp)) = &outer.transport else { panic!("no UDP") };
        prop_assert_eq!(u32::from(udp.source_port()), 49152 + (sent.flow_hash >> 18));
        prop_assert_eq!(udp.destination_port(), dst_port);
        prop_assert_eq!(usize::from(udp.length()), packet.len() + 30);
        let expected = if udp_checksum { sent.expected_checksum(udp) } else { 0 };
        prop_assert_eq!(udp.checksum(), expected);
        let [_, high, middle, low] = vni.to_be_bytes();
        prop_assert_eq!(&udp.payload()[..8], [8, 0, 0, 0, high, middle, low, 0]);

        let decapsulated = SlicedPacket::from_ethernet(&udp.payload()[8..]).expect("inner frame");
        let Some(LinkSlice::Ethernet2(link)) = &decapsulated.link else { panic!("no Ethernet") };
        prop_assert_eq!((link.source(), link.destination()), inner_macs);
        prop_assert_eq!(link.ether_type().0, inner.ethertype());
        let Some(TransportSlice::Udp(inner_udp)) = &decapsulated.transport else {
            panic!("no inner UDP")
        };
        prop_assert_eq!(inner_udp.payload(), &payload[..]);
        prop_assert_eq!(&frame[header.len()..], &packet[..]);
    }

    #[test]
    fn ipip_is_read_by_etherparse(
        sent in sent(), inner in family(), inner_ends: (u128, u128),
        payload in vec(any::<u8>(), 0..1400),
    ) {
        let header = OuterHeader::ipip(IpipParams {
            src_mac: sent.macs.0, dst_mac: sent.macs.1,
            src_ip: sent.ends.0, dst_ip: sent.ends.1, ttl: sent.ttl, inner,
            df: sent.df, dscp: sent.policy(),
        }).expect("sound parameters");
        prop_assert_eq!(header.kind(), OuterKind::Ipip);
        let packet = inner_packet(inner, inner_ends, &payload);
        let frame = sent.encapsulate(&header, &packet);

        let outer = SlicedPacket::from_ethernet(&frame).expect("etherparse reads it");
        let (protocol, behind) = sent.check(&frame, &outer)?;
        let expected = match inner {
            IpFamily::V4 => IpNumber::IPV4,
            IpFamily::V6 => IpNumber::IPV6,
        };
        prop_assert_eq!(protocol, expected);
        prop_assert_eq!(&behind, &packet);
    }
}
