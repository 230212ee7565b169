//! What an outer header is built from, once per next hop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    ETHERNET_LEN, FIRST_SRC_PORT, IP, IPIP_V4_LEN, IPIP_V6_LEN, L4_V4, L4_V6, Layout, MAX_LEN,
    OuterHeader, VXLAN_V4_LEN, VXLAN_V6_LEN,
};
use crate::checksum::Checksum;
use crate::ecn::DscpPolicy;
use crate::error::Error;
use crate::ethernet::{EthernetRepr, Mac};
use crate::ip::{IpFamily, PROTOCOL_UDP};
use crate::ipv4::{self, Ipv4Repr};
use crate::ipv6::Ipv6Repr;
use crate::udp::{self, UdpRepr};
use crate::vxlan::{self, VxlanRepr};

/// A VXLAN tunnel to one remote VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanParams {
    /// The uplink's MAC address.
    pub src_mac: Mac,
    /// The underlay next hop's MAC address.
    pub dst_mac: Mac,
    /// This node's underlay address.
    pub src_ip: IpAddr,
    /// The remote node's underlay address, of the same family.
    pub dst_ip: IpAddr,
    /// Outer TTL or hop limit, hops.
    pub ttl: u8,
    /// UDP destination port: [`vxlan::PORT`], [`vxlan::PORT_LINUX`], ...
    pub dst_port: u16,
    /// The network, 24 bits.
    pub vni: u32,
    /// This node's VTEP MAC address.
    pub inner_src_mac: Mac,
    /// The remote VTEP's MAC address.
    pub inner_dst_mac: Mac,
    /// The family of the inner packets: the inner Ethernet header's EtherType.
    pub inner: IpFamily,
    /// Whether to set DF on an outer IPv4 header. Set it: the path MTU is kept before
    /// encapsulation, and the identification may then be constant (RFC 6864). IPv6 is never
    /// fragmented on its way and ignores this.
    pub df: bool,
    /// Where the outer DSCP comes from.
    pub dscp: DscpPolicy,
    /// Whether the caller will add a UDP checksum by [`OuterHeader::fill_udp_checksum`].
    ///
    /// Over IPv6 too a tunnel may go without (RFC 6935, section 5; RFC 6936), at the price that
    /// nothing protects the outer addresses. A receiver must have agreed: a Linux VXLAN device
    /// takes such packets with `udp6zerocsumrx` only.
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
    pub src_ip: IpAddr,
    /// The remote node's underlay address, of the same family.
    pub dst_ip: IpAddr,
    /// Outer TTL or hop limit, hops.
    pub ttl: u8,
    /// The family of the inner packets: the outer header's protocol, 4 or 41.
    pub inner: IpFamily,
    /// As [`VxlanParams::df`].
    pub df: bool,
    /// Where the outer DSCP comes from.
    pub dscp: DscpPolicy,
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
            layout: Layout::Ethernet,
            tos_mask: 0,
            tos_fixed: 0,
            udp_checksum: false,
        }
    }

    /// An IP in IP header: protocol 4 (RFC 2003) or 41 (RFC 4213) over IPv4, next header 4 or 41
    /// over IPv6 (RFC 2473).
    ///
    /// Over IPv6 there is no tunnel encapsulation limit option (RFC 2473, section 4.1.1): it
    /// would cost 8 bytes of a destination options header to guard against tunnels in tunnels,
    /// which the hop limit and the MTU end as well. A peer may still send it.
    ///
    /// Fails with [`Error::MixedFamilies`] or [`Error::BadDscp`].
    pub fn ipip(params: IpipParams) -> Result<Self, Error> {
        let (tos_mask, tos_fixed) = params.dscp.mask_and_fixed()?;
        let family = IpFamily::of(params.src_ip);
        let (layout, len) = match family {
            IpFamily::V4 => (Layout::IpipV4, IPIP_V4_LEN),
            IpFamily::V6 => (Layout::IpipV6, IPIP_V6_LEN),
        };
        let mut header = Self {
            len: len as u8,
            layout,
            tos_mask,
            tos_fixed,
            ..Self::ethernet(params.src_mac, params.dst_mac, family.ethertype())
        };
        header.set_ip(
            (params.src_ip, params.dst_ip),
            params.inner.tunnel_protocol(),
            params.ttl,
            params.df,
        )?;
        Ok(header)
    }

    /// A VXLAN header (RFC 7348).
    ///
    /// Fails with [`Error::MixedFamilies`], [`Error::BadVni`] or [`Error::BadDscp`].
    pub fn vxlan(params: VxlanParams) -> Result<Self, Error> {
        let (tos_mask, tos_fixed) = params.dscp.mask_and_fixed()?;
        let family = IpFamily::of(params.src_ip);
        let (layout, len, udp_at) = match family {
            IpFamily::V4 => (Layout::VxlanV4, VXLAN_V4_LEN, L4_V4),
            IpFamily::V6 => (Layout::VxlanV6, VXLAN_V6_LEN, L4_V6),
        };
        let mut header = Self {
            len: len as u8,
            layout,
            tos_mask,
            tos_fixed,
            udp_checksum: params.udp_checksum,
            ..Self::ethernet(params.src_mac, params.dst_mac, family.ethertype())
        };
        header.set_ip(
            (params.src_ip, params.dst_ip),
            PROTOCOL_UDP,
            params.ttl,
            params.df,
        )?;
        let (_, from_udp) = header.bytes.split_at_mut(udp_at);
        let (udp, from_vxlan) = from_udp.split_at_mut(udp::HEADER_LEN);
        let (vxlan, from_inner) = from_vxlan.split_at_mut(vxlan::HEADER_LEN);
        UdpRepr {
            src_port: FIRST_SRC_PORT,
            dst_port: params.dst_port,
            payload_len: 0,
        }
        .emit(udp)?;
        VxlanRepr { vni: params.vni }.emit(vxlan)?;
        EthernetRepr {
            dst: params.inner_dst_mac,
            src: params.inner_src_mac,
            ethertype: params.inner.ethertype(),
        }
        .emit(from_inner)?;
        Ok(header)
    }

    fn set_ip(
        &mut self,
        (src, dst): (IpAddr, IpAddr),
        protocol: u8,
        hops: u8,
        dont_fragment: bool,
    ) -> Result<(), Error> {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                self.set_ipv4(src, dst, protocol, hops, dont_fragment)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.set_ipv6(src, dst, protocol, hops),
            _ => Err(Error::MixedFamilies),
        }
    }

    fn set_ipv4(
        &mut self,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        protocol: u8,
        ttl: u8,
        dont_fragment: bool,
    ) -> Result<(), Error> {
        let to = &mut self.bytes[IP..L4_V4];
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

    fn set_ipv6(
        &mut self,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        next_header: u8,
        hop_limit: u8,
    ) -> Result<(), Error> {
        let repr = Ipv6Repr {
            src,
            dst,
            next_header,
            hop_limit,
            traffic_class: 0,
            payload_len: 0,
        };
        repr.emit(&mut self.bytes[IP..L4_V6])
    }
}
