//! Outer headers, built once per next hop and pasted in front of each packet.
//!
//! An [`OuterHeader`] ends where the inner IP packet begins: it replaces the frame's own 14-byte
//! Ethernet header, so a frame grows by [`OuterHeader::overhead`] bytes. What differs between
//! packets (lengths, ports, TOS, identification, header checksum) is set by
//! [`OuterHeader::write`]; all else is copied.

use std::net::Ipv4Addr;

use crate::checksum::Checksum;
pub use crate::ecn::DscpPolicy;
use crate::error::Error;
use crate::ethernet::{self, ETHERTYPE_IPV4, EthernetRepr, Mac};
use crate::field::{read, read_u16};
use crate::ip::{PROTOCOL_IPIP, PROTOCOL_UDP};
use crate::ipv4::{self, Ipv4Repr};
use crate::udp::{self, UdpRepr};
use crate::vxlan::{self, VxlanRepr};

/// Bytes of the longest outer header.
pub const MAX_LEN: usize = VXLAN_LEN;

/// Outer Ethernet, IPv4, UDP, VXLAN, inner Ethernet.
const VXLAN_LEN: usize = UDP + udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN;
/// Outer Ethernet, IPv4.
const IPIP_LEN: usize = UDP;
const ETHERNET_LEN: usize = ethernet::HEADER_LEN;

/// Where the outer IPv4 header begins.
const IP: usize = ethernet::HEADER_LEN;
/// Where the outer UDP header begins.
const UDP: usize = IP + ipv4::HEADER_LEN;
/// Where the VXLAN header begins.
const VXLAN: usize = UDP + udp::HEADER_LEN;
/// Where the inner Ethernet header begins.
const INNER: usize = VXLAN + vxlan::HEADER_LEN;

/// First UDP source port: RFC 7348, section 5 recommends the dynamic range 49152-65535.
const FIRST_SRC_PORT: u16 = 0xc000;

/// What an outer header is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OuterKind {
    /// Ethernet: 14 bytes.
    Ethernet,
    /// Ethernet, IPv4: 34 bytes (RFC 2003).
    Ipip,
    /// Ethernet, IPv4, UDP, VXLAN, Ethernet: 64 bytes (RFC 7348).
    Vxlan,
}

/// A VXLAN tunnel to one remote VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanParams {
    /// The uplink's MAC address.
    pub src_mac: Mac,
    /// The underlay next hop's MAC address.
    pub dst_mac: Mac,
    /// This node's underlay address.
    pub src_ip: Ipv4Addr,
    /// The remote node's underlay address.
    pub dst_ip: Ipv4Addr,
    /// Outer TTL, hops.
    pub ttl: u8,
    /// UDP destination port: [`vxlan::PORT`], [`vxlan::PORT_LINUX`], ...
    pub dst_port: u16,
    /// The network, 24 bits.
    pub vni: u32,
    /// This node's VTEP MAC address.
    pub inner_src_mac: Mac,
    /// The remote VTEP's MAC address.
    pub inner_dst_mac: Mac,
    /// Whether to set DF on the outer header. Set it: the path MTU is kept before encapsulation,
    /// and the identification may then be constant (RFC 6864).
    pub df: bool,
    /// Where the outer DSCP comes from.
    pub dscp: DscpPolicy,
    /// Whether the caller will add a UDP checksum by [`OuterHeader::fill_udp_checksum`].
    pub udp_checksum: bool,
}

/// An IP in IP tunnel to one remote node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpipParams {
    /// The uplink's MAC address.
    pub src_mac: Mac,
    /// The underlay next hop's MAC address.
    pub dst_mac: Mac,
    /// This node's underlay address.
    pub src_ip: Ipv4Addr,
    /// The remote node's underlay address.
    pub dst_ip: Ipv4Addr,
    /// Outer TTL, hops.
    pub ttl: u8,
    /// As [`VxlanParams::df`].
    pub df: bool,
    /// Where the outer DSCP comes from.
    pub dscp: DscpPolicy,
}

/// A header ready to paste in front of an inner IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterHeader {
    bytes: [u8; MAX_LEN],
    /// One's complement sum, not folded, of the outer IPv4 header without TOS, total length,
    /// identification and checksum.
    ip_sum: u32,
    len: u8,
    kind: OuterKind,
    tos_mask: u8,
    tos_fixed: u8,
    udp_checksum: bool,
}

impl OuterHeader {
    /// A plain Ethernet header, for local ports and direct routes.
    pub fn ethernet(src: Mac, dst: Mac, ethertype: u16) -> Self {
        let mut bytes = [0; MAX_LEN];
        let (to, _) = bytes.split_at_mut(ETHERNET_LEN);
        // The only failure would be a place of less than 14 bytes.
        let _ = EthernetRepr {
            dst,
            src,
            ethertype,
        }
        .emit(to);
        Self {
            bytes,
            ip_sum: 0,
            len: ETHERNET_LEN as u8,
            kind: OuterKind::Ethernet,
            tos_mask: 0,
            tos_fixed: 0,
            udp_checksum: false,
        }
    }

    /// An IP in IP header (RFC 2003) for inner IPv4 packets. Fails with [`Error::BadDscp`].
    pub fn ipip(params: IpipParams) -> Result<Self, Error> {
        let IpipParams {
            src_mac,
            dst_mac,
            src_ip,
            dst_ip,
            ttl,
            df,
            dscp,
        } = params;
        let (tos_mask, tos_fixed) = dscp.mask_and_fixed()?;
        let mut header = Self {
            len: IPIP_LEN as u8,
            kind: OuterKind::Ipip,
            tos_mask,
            tos_fixed,
            ..Self::ethernet(src_mac, dst_mac, ETHERTYPE_IPV4)
        };
        header.set_ip(src_ip, dst_ip, PROTOCOL_IPIP, ttl, df)?;
        Ok(header)
    }

    /// A VXLAN header (RFC 7348) for inner IPv4 packets. Fails with [`Error::BadVni`] or
    /// [`Error::BadDscp`].
    pub fn vxlan(params: VxlanParams) -> Result<Self, Error> {
        let (tos_mask, tos_fixed) = params.dscp.mask_and_fixed()?;
        let mut header = Self {
            len: VXLAN_LEN as u8,
            kind: OuterKind::Vxlan,
            tos_mask,
            tos_fixed,
            udp_checksum: params.udp_checksum,
            ..Self::ethernet(params.src_mac, params.dst_mac, ETHERTYPE_IPV4)
        };
        header.set_ip(
            params.src_ip,
            params.dst_ip,
            PROTOCOL_UDP,
            params.ttl,
            params.df,
        )?;
        let bytes = &mut header.bytes;
        UdpRepr {
            src_port: FIRST_SRC_PORT,
            dst_port: params.dst_port,
            payload_len: 0,
        }
        .emit(&mut bytes[UDP..VXLAN])?;
        VxlanRepr { vni: params.vni }.emit(&mut bytes[VXLAN..INNER])?;
        EthernetRepr {
            dst: params.inner_dst_mac,
            src: params.inner_src_mac,
            ethertype: ETHERTYPE_IPV4,
        }
        .emit(&mut bytes[INNER..])?;
        Ok(header)
    }

    fn set_ip(
        &mut self,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        protocol: u8,
        ttl: u8,
        dont_fragment: bool,
    ) -> Result<(), Error> {
        let to = &mut self.bytes[IP..UDP];
        let repr = Ipv4Repr {
            src,
            dst,
            protocol,
            ttl,
            tos: 0,
            ident: 0,
            dont_fragment,
            payload_len: 0,
        };
        repr.emit(to)?;
        to[ipv4::field::TOTAL_LEN].fill(0);
        to[ipv4::field::CHECKSUM].fill(0);
        self.ip_sum = u32::from(Checksum::new().add(to).folded());
        Ok(())
    }

    /// Bytes of the header: what [`OuterHeader::write`] wants.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no outer header is empty")]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// What it is made of.
    #[inline]
    pub const fn kind(&self) -> OuterKind {
        self.kind
    }

    /// Bytes by which a frame grows when this replaces its Ethernet header, and by which the
    /// inner packet must stay below the underlay's MTU: 50 for VXLAN, 20 for IPIP, 0 for Ethernet.
    #[inline]
    pub const fn overhead(&self) -> usize {
        self.len as usize - ETHERNET_LEN
    }

    /// Whether a UDP checksum was asked for: call [`OuterHeader::fill_udp_checksum`] after
    /// [`OuterHeader::write`].
    #[inline]
    pub const fn wants_udp_checksum(&self) -> bool {
        self.udp_checksum
    }

    /// The header as built, before any packet's values are set.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or(&self.bytes)
    }

    /// Writes the header of one packet into `out`: exactly [`OuterHeader::len`] bytes, directly
    /// before the inner IP packet of `inner_len` bytes.
    ///
    /// `inner_tos` is the inner TOS octet; `flow_hash`, of which the upper 14 bits count, chooses
    /// the UDP source port in 49152-65535; `ident` is the outer identification, 0 being fine with
    /// DF. The UDP checksum is 0, none. Plain Ethernet ignores all four.
    ///
    /// Fails with [`Error::WrongSize`], or with [`Error::TooLong`] when the outer packet would
    /// exceed 65535 bytes; `out` then holds nothing useful.
    #[inline]
    pub fn write(
        &self,
        out: &mut [u8],
        inner_len: u16,
        inner_tos: u8,
        flow_hash: u32,
        ident: u16,
    ) -> Result<(), Error> {
        match self.kind {
            OuterKind::Ethernet => {
                let out: &mut [u8; ETHERNET_LEN] = exact(out)?;
                out.copy_from_slice(&self.bytes[..ETHERNET_LEN]);
            }
            OuterKind::Ipip => {
                let out: &mut [u8; IPIP_LEN] = exact(out)?;
                out.copy_from_slice(&self.bytes[..IPIP_LEN]);
                let total_len = outer_len(inner_len, IPIP_LEN - IP)?;
                self.fix_ip(out, total_len, inner_tos, ident);
            }
            OuterKind::Vxlan => {
                let out: &mut [u8; VXLAN_LEN] = exact(out)?;
                *out = self.bytes;
                let total_len = outer_len(inner_len, VXLAN_LEN - IP)?;
                self.fix_ip(out, total_len, inner_tos, ident);
                put(out, UDP, FIRST_SRC_PORT | (flow_hash >> 18) as u16);
                put(out, UDP + 4, total_len - ipv4::HEADER_LEN as u16);
            }
        }
        Ok(())
    }

    /// Sets TOS, total length, identification and header checksum.
    #[inline]
    fn fix_ip<const N: usize>(&self, out: &mut [u8; N], total_len: u16, inner_tos: u8, ident: u16) {
        let tos = inner_tos & self.tos_mask | self.tos_fixed;
        out[IP + ipv4::field::TOS] = tos;
        put(out, IP + ipv4::field::TOTAL_LEN.start, total_len);
        put(out, IP + ipv4::field::IDENT.start, ident);
        // Four values of 16 bits: two folds leave 16, and one is never 0.
        let sum = self.ip_sum + u32::from(tos) + u32::from(total_len) + u32::from(ident);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        put(out, IP + ipv4::field::CHECKSUM.start, !(sum as u16));
    }

    /// Computes the UDP checksum of a VXLAN packet whose header [`OuterHeader::write`] has put
    /// into `out`; `inner` is the sum over the inner IP packet as it leaves. Nothing to do for
    /// other kinds.
    ///
    /// Fails with [`Error::WrongSize`].
    #[inline]
    pub fn fill_udp_checksum(&self, out: &mut [u8], inner: Checksum) -> Result<(), Error> {
        if self.kind != OuterKind::Vxlan {
            return Ok(());
        }
        let out: &mut [u8; VXLAN_LEN] = exact(out)?;
        put(out, UDP + udp::field::CHECKSUM.start, 0);
        let ip = &out[IP..UDP];
        let src = Ipv4Addr::from(read::<4>(ip, ipv4::field::SRC));
        let dst = Ipv4Addr::from(read::<4>(ip, ipv4::field::DST));
        let len = read_u16(&out[UDP..VXLAN], udp::field::LENGTH);
        let checksum = Checksum::new()
            .add_pseudo_v4(src, dst, PROTOCOL_UDP, len)
            .add(&out[UDP..])
            .combine(inner)
            .finish_udp();
        put(out, UDP + udp::field::CHECKSUM.start, checksum);
        Ok(())
    }
}

#[inline]
fn exact<const N: usize>(out: &mut [u8]) -> Result<&mut [u8; N], Error> {
    let have = out.len();
    out.try_into()
        .map_err(|_| Error::WrongSize { need: N, have })
}

#[inline]
fn outer_len(inner_len: u16, headers: usize) -> Result<u16, Error> {
    inner_len.checked_add(headers as u16).ok_or(Error::TooLong {
        what: "outer IPv4",
        payload: usize::from(inner_len),
    })
}

/// `at` is a constant below N - 1 at each call, so the compiler drops the bounds checks.
#[inline(always)]
fn put<const N: usize>(out: &mut [u8; N], at: usize, value: u16) {
    let [high, low] = value.to_be_bytes();
    out[at] = high;
    out[at + 1] = low;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ecn, EthernetFrame, Ipv4Packet, UdpPacket, VxlanHeader};

    fn vxlan_params() -> VxlanParams {
        VxlanParams {
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [2, 0, 0, 0, 0, 2],
            src_ip: Ipv4Addr::new(192, 168, 77, 1),
            dst_ip: Ipv4Addr::new(192, 168, 77, 2),
            ttl: 64,
            dst_port: vxlan::PORT_LINUX,
            vni: 4096,
            inner_src_mac: [0x66, 0, 0, 0, 0, 1],
            inner_dst_mac: [0x66, 0, 0, 0, 0, 2],
            df: true,
            dscp: DscpPolicy::Copy,
            udp_checksum: false,
        }
    }

    fn ipip_params() -> IpipParams {
        let VxlanParams {
            src_mac,
            dst_mac,
            src_ip,
            dst_ip,
            ttl,
            df,
            dscp,
            ..
        } = vxlan_params();
        IpipParams {
            src_mac,
            dst_mac,
            src_ip,
            dst_ip,
            ttl,
            df,
            dscp,
        }
    }

    /// Header and inner packet of `inner_len` bytes in one buffer.
    fn encapsulate(header: &OuterHeader, inner_len: u16, tos: u8, hash: u32, id: u16) -> Vec<u8> {
        let mut frame = vec![0x5a; header.len() + usize::from(inner_len)];
        header
            .write(&mut frame[..header.len()], inner_len, tos, hash, id)
            .expect("it fits");
        frame
    }

    #[test]
    fn vxlan_reads_back() {
        let header = OuterHeader::vxlan(vxlan_params()).expect("sound parameters");
        assert_eq!(
            (header.len(), header.overhead(), header.kind()),
            (64, 50, OuterKind::Vxlan)
        );
        let frame = encapsulate(&header, 1001, 0xb9, 0xffff_ffff, 0x1234);

        let ethernet = EthernetFrame::new_checked(&frame).expect("Ethernet");
        assert_eq!(ethernet.src(), [2, 0, 0, 0, 0, 1]);
        assert_eq!(ethernet.dst(), [2, 0, 0, 0, 0, 2]);
        assert_eq!(ethernet.ethertype(), ETHERTYPE_IPV4);
        let ip = Ipv4Packet::new_checked(ethernet.payload()).expect("IPv4");
        assert!(ip.verify_checksum() && ip.dont_fragment() && !ip.is_fragment());
        assert_eq!(ip.total_len(), 1051);
        assert_eq!((ip.tos(), ip.ttl(), ip.ident()), (0xb9, 64, 0x1234));
        assert_eq!(ip.src(), Ipv4Addr::new(192, 168, 77, 1));
        assert_eq!(ip.dst(), Ipv4Addr::new(192, 168, 77, 2));
        let udp = UdpPacket::new_checked(ip.payload()).expect("UDP");
        assert_eq!((udp.src_port(), udp.dst_port()), (65535, 8472));
        assert_eq!((udp.length(), udp.checksum()), (1031, 0));
        let vxlan = VxlanHeader::new_checked(udp.payload()).expect("VXLAN");
        assert_eq!(vxlan.vni(), 4096);
        let inner = EthernetFrame::new_checked(vxlan.payload()).expect("inner Ethernet");
        assert_eq!(inner.src(), [0x66, 0, 0, 0, 0, 1]);
        assert_eq!(inner.dst(), [0x66, 0, 0, 0, 0, 2]);
        assert_eq!(inner.ethertype(), ETHERTYPE_IPV4);
        assert_eq!(inner.payload(), vec![0x5a; 1001]);
    }

    #[test]
    fn ipip_reads_back() {
        let header = OuterHeader::ipip(IpipParams {
            df: false,
            ..ipip_params()
        })
        .expect("sound");
        assert_eq!(
            (header.len(), header.overhead(), header.kind()),
            (34, 20, OuterKind::Ipip)
        );
        let frame = encapsulate(&header, 84, 2, 0, 0xffff);
        let ethernet = EthernetFrame::new_checked(&frame).expect("Ethernet");
        let ip = Ipv4Packet::new_checked(ethernet.payload()).expect("IPv4");
        assert!(ip.verify_checksum() && !ip.dont_fragment());
        assert_eq!(
            (ip.total_len(), ip.protocol(), ip.ident()),
            (104, PROTOCOL_IPIP, 0xffff)
        );
        assert_eq!(ip.ecn(), Ecn::Ect0);
        assert_eq!(ip.payload(), [0x5a; 84]);
    }

    #[test]
    fn ethernet_is_only_pasted() {
        let header = OuterHeader::ethernet([1; 6], [2; 6], ethernet::ETHERTYPE_IPV6);
        assert_eq!((header.len(), header.overhead()), (14, 0));
        let mut out = [0; 14];
        header
            .write(&mut out, u16::MAX, 0xff, u32::MAX, 1)
            .expect("14 bytes");
        assert_eq!(out, [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 0x86, 0xdd]);
        assert_eq!(header.as_bytes(), out);
    }

    #[test]
    fn ip_checksum_is_right_for_every_tos_length_and_ident() {
        let headers = [
            OuterHeader::vxlan(vxlan_params()).expect("sound"),
            OuterHeader::ipip(ipip_params()).expect("sound"),
        ];
        for header in headers {
            let mut out = [0u8; MAX_LEN];
            let out = &mut out[..header.len()];
            let right = |out: &[u8]| Checksum::new().add(&out[IP..UDP]).finish() == 0;
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
        let header = OuterHeader::vxlan(vxlan_params()).expect("sound");
        let mut out = [0u8; MAX_LEN];
        for upper in 0..1u32 << 14 {
            header
                .write(&mut out, 20, 0, upper << 18 | 0x3ffff, 0)
                .expect("it fits");
            assert_eq!(
                u32::from(u16::from_be_bytes([out[34], out[35]])),
                49152 + upper
            );
        }
    }

    #[test]
    fn dscp_policies_copy_ecn_always() {
        let fixed = VxlanParams {
            dscp: DscpPolicy::Fixed(46),
            ..vxlan_params()
        };
        let copy = OuterHeader::vxlan(vxlan_params()).expect("sound");
        let fixed = OuterHeader::vxlan(fixed).expect("sound");
        for tos in 0..=255u8 {
            assert_eq!(encapsulate(&copy, 20, tos, 0, 0)[15], tos);
            assert_eq!(encapsulate(&fixed, 20, tos, 0, 0)[15], 46 << 2 | tos & 3);
        }
        let bad = IpipParams {
            dscp: DscpPolicy::Fixed(64),
            ..ipip_params()
        };
        assert_eq!(OuterHeader::ipip(bad).err(), Some(Error::BadDscp(64)));
    }

    #[test]
    fn udp_checksum_on_demand() {
        let params = VxlanParams {
            udp_checksum: true,
            ..vxlan_params()
        };
        let header = OuterHeader::vxlan(params).expect("sound");
        assert!(header.wants_udp_checksum());
        for inner_len in [0u16, 1, 20, 1399, 1400] {
            let mut frame = encapsulate(&header, inner_len, 0, 99, 0);
            let (out, inner) = frame.split_at_mut(64);
            header
                .fill_udp_checksum(out, Checksum::new().add(inner))
                .expect("64 bytes");
            let ip = Ipv4Packet::new_checked(&frame[14..]).expect("IPv4");
            let udp = UdpPacket::new_checked(ip.payload()).expect("UDP");
            assert_ne!(udp.checksum(), 0);
            assert!(
                udp.verify_checksum_v4(ip.src(), ip.dst()),
                "{inner_len} bytes"
            );
        }
    }

    #[test]
    fn refuses_wrong_places_lengths_and_vnis() {
        let header = OuterHeader::vxlan(vxlan_params()).expect("sound");
        let mut out = [0u8; 65];
        for len in [0, 63, 65] {
            assert_eq!(
                header.write(&mut out[..len], 20, 0, 0, 0),
                Err(Error::WrongSize {
                    need: 64,
                    have: len
                })
            );
        }
        assert_eq!(header.write(&mut out[..64], 65485, 0, 0, 0), Ok(()));
        assert_eq!(
            header.write(&mut out[..64], 65486, 0, 0, 0),
            Err(Error::TooLong {
                what: "outer IPv4",
                payload: 65486
            })
        );
        let params = VxlanParams {
            vni: 1 << 24,
            ..vxlan_params()
        };
        assert_eq!(
            OuterHeader::vxlan(params).err(),
            Some(Error::BadVni(1 << 24))
        );
    }
}
