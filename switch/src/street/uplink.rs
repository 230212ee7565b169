//! Ingress of the uplink: tunnel packets to this node are taken out of their tunnel, plain packets
//! to its pods pass.

use std::net::IpAddr;

use shunt_afxdp::{Frame, Pool};
use shunt_api::MacAddr;
use shunt_encap::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetFrame, HEADER_LEN};
use shunt_encap::extension::walk_v6;
use shunt_encap::ip::{IpFamily, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP};
use shunt_encap::{Ipv4Packet, Ipv6Packet, VxlanHeader, decap_tos, udp, vxlan};

use super::ipv6::{Admitted, FIXED_LEN, Fixed};
use super::packet::Routable;
use super::{Context, Street, Verdict, ipv4, ipv6};
use crate::stats::DropReason;
use crate::tables::Underlay;

/// What an outer header says.
struct Outer {
    source: IpAddr,
    /// TOS or traffic class.
    tos: u8,
    family: IpFamily,
    /// Where in the frame the inner IP header is.
    inner: usize,
    /// Where in the frame the outer packet ends.
    end: usize,
}

/// What an uplink's frame is.
enum Arrived {
    /// A tunnel packet to this node.
    Tunnel(Outer),
    /// A packet in no tunnel and not to this node.
    Plain(IpFamily),
}

impl Street {
    /// One verdict per frame; routed packets are gathered for `forward`.
    pub(super) fn uplink_ingress(&mut self, context: &mut Context<'_>, batch: &mut [Frame]) {
        for frame in batch {
            match accept(context, frame) {
                Ok((
                    Routable::V4 {
                        source,
                        destination,
                    },
                    tunnel_source,
                )) => {
                    self.route_from_v4(source, destination, tunnel_source);
                }
                Ok((
                    Routable::V6 {
                        source,
                        destination,
                    },
                    tunnel_source,
                )) => {
                    self.route_from_v6(source, destination, tunnel_source);
                }
                Err(reason) => self.verdicts.push(Verdict::Drop(reason)),
            }
        }
    }
}

/// A routable packet, and the far end of the tunnel if it came out of one.
#[inline]
fn accept(
    context: &mut Context<'_>,
    frame: &mut Frame,
) -> Result<(Routable, Option<IpAddr>), DropReason> {
    let underlay = &context.tables.underlay;
    let outer = match unwrap(underlay, context.entry.mac, frame, context.pool)? {
        Arrived::Plain(family) => return Ok((admit(context, frame, family)?, None)),
        Arrived::Tunnel(outer) => outer,
    };
    // What follows the outer packet is padding, whatever the inner length says.
    frame.truncate(context.pool, outer.end);
    // The inner packet keeps 14 bytes in front for the next link-layer header.
    if !frame.pull_head(outer.inner - HEADER_LEN) {
        return Err(DropReason::TruncatedFrame);
    }
    let packet = admit(context, frame, outer.family)?;
    let data = frame.data_mut(context.pool.umem());
    let bytes = data
        .get_mut(HEADER_LEN..)
        .ok_or(DropReason::TruncatedFrame)?;
    match outer.family {
        IpFamily::V4 => {
            let available = usize::from(u16::MAX);
            let mut inner =
                Ipv4Packet::new_checked_head(bytes, available).map_err(ipv4::malformed)?;
            let payload = inner.payload();
            if is_tunnel_to(underlay, inner.dst().into(), inner.protocol(), payload) {
                return Err(DropReason::NestedTunnel);
            }
            let tos = decap_tos(outer.tos, inner.tos()).map_err(|_| DropReason::EcnIllegal)?;
            if tos != inner.tos() {
                inner.set_tos_incremental(tos);
            }
        }
        IpFamily::V6 => {
            let fixed = Fixed::read(bytes, usize::MAX)?;
            let upper = walk_v6(bytes).map_err(ipv6::refused)?;
            let payload = bytes.get(upper.offset..).unwrap_or_default();
            if is_tunnel_to(underlay, fixed.destination.into(), upper.protocol, payload) {
                return Err(DropReason::NestedTunnel);
            }
            let mut inner =
                Ipv6Packet::new_checked_head(bytes, usize::MAX).map_err(ipv4::malformed)?;
            let class = inner.traffic_class();
            let tos = decap_tos(outer.tos, class).map_err(|_| DropReason::EcnIllegal)?;
            if tos != class {
                inner.set_traffic_class(tos);
            }
        }
    }
    Ok((packet, Some(outer.source)))
}

#[inline]
fn admit(
    context: &mut Context<'_>,
    frame: &mut Frame,
    family: IpFamily,
) -> Result<Routable, DropReason> {
    match family {
        IpFamily::V4 => {
            let (source, destination) = ipv4::admit(context, frame)?;
            Ok(Routable::V4 {
                source,
                destination,
            })
        }
        IpFamily::V6 => match ipv6::admit(context, frame)? {
            Admitted::Routable(source, destination) => Ok(Routable::V6 {
                source,
                destination,
            }),
            // A neighbour on the other side of a router is none.
            Admitted::Local(_) => Err(DropReason::LinkLocal),
        },
    }
}

/// Reads the outer headers.
fn unwrap(
    underlay: &Underlay,
    mac: Option<MacAddr>,
    frame: &Frame,
    pool: &Pool,
) -> Result<Arrived, DropReason> {
    let available = frame.len().saturating_sub(HEADER_LEN);
    let data = frame.data(pool.umem());
    let ethernet = EthernetFrame::new_checked(data).map_err(|_| DropReason::TruncatedFrame)?;
    // XDP sees what a link floods for other stations too.
    if mac.is_some_and(|mac| mac.0 != ethernet.dst()) {
        return Err(DropReason::NotOurMac);
    }
    let bytes = ethernet.payload();
    let carrier = match ethernet.ethertype() {
        ETHERTYPE_IPV4 => carrier_v4(underlay, bytes, available)?,
        ETHERTYPE_IPV6 => carrier_v6(underlay, bytes, available)?,
        _ => return Err(DropReason::UnsupportedEthertype),
    };
    let carrier = match carrier {
        Ok(carrier) => carrier,
        Err(family) => return Ok(Arrived::Plain(family)),
    };
    let payload = HEADER_LEN + carrier.header_len;
    let end = HEADER_LEN + carrier.total_len;
    let (inner, family) = match carrier.protocol {
        PROTOCOL_IPIP => (payload, IpFamily::V4),
        PROTOCOL_IPV6 => (payload, IpFamily::V6),
        PROTOCOL_UDP => {
            let bytes = data.get(payload..).unwrap_or_default();
            let (length, family) = vxlan_headers(underlay, bytes, end - payload)?;
            (payload + length, family)
        }
        _ => return Err(DropReason::UnexpectedProtocol),
    };
    if inner >= end {
        return Err(DropReason::TruncatedFrame);
    }
    Ok(Arrived::Tunnel(Outer {
        source: carrier.source,
        tos: carrier.tos,
        family,
        inner,
        end,
    }))
}

/// What a packet to this node carries.
struct Carrier {
    source: IpAddr,
    tos: u8,
    protocol: u8,
    header_len: usize,
    total_len: usize,
}

/// Of an IPv4 packet to this node; else its family.
fn carrier_v4(
    underlay: &Underlay,
    bytes: &[u8],
    available: usize,
) -> Result<Result<Carrier, IpFamily>, DropReason> {
    let packet = Ipv4Packet::new_checked_head(bytes, available).map_err(ipv4::malformed)?;
    if underlay.address != Some(packet.dst()) {
        return Ok(Err(IpFamily::V4));
    }
    if !packet.verify_checksum() {
        return Err(DropReason::BadIpChecksum);
    }
    if packet.is_fragment() {
        return Err(DropReason::OuterFragment);
    }
    if ipv4::is_martian(packet.src()) {
        return Err(DropReason::MartianSource);
    }
    Ok(Ok(Carrier {
        source: packet.src().into(),
        tos: packet.tos(),
        protocol: packet.protocol(),
        header_len: packet.header_len(),
        total_len: usize::from(packet.total_len()),
    }))
}

/// Of an IPv6 packet to this node; else its family. Tunnels of ours have no extension headers.
fn carrier_v6(
    underlay: &Underlay,
    bytes: &[u8],
    available: usize,
) -> Result<Result<Carrier, IpFamily>, DropReason> {
    let fixed = Fixed::read(bytes, available)?;
    if underlay.address6 != Some(fixed.destination) {
        return Ok(Err(IpFamily::V6));
    }
    if ipv6::is_martian(fixed.source) || fixed.source.is_unspecified() {
        return Err(DropReason::MartianSource);
    }
    let packet = Ipv6Packet::new_checked_head(bytes, available).map_err(ipv4::malformed)?;
    Ok(Ok(Carrier {
        source: fixed.source.into(),
        tos: packet.traffic_class(),
        protocol: fixed.next_header,
        header_len: FIXED_LEN,
        total_len: fixed.total_len(),
    }))
}

/// Checks UDP and VXLAN (RFC 7348, 5) of a packet whose IP payload has `length` bytes, and returns
/// the length of all headers before the inner packet, and its family.
///
/// A UDP checksum is not verified (RFC 7348, 5, leaves it to the receiver; RFC 6936 allows zero over
/// IPv6): a kernel behind a veth leaves it to hardware that is not there, and the inner packet has
/// its own.
fn vxlan_headers(
    underlay: &Underlay,
    bytes: &[u8],
    length: usize,
) -> Result<(usize, IpFamily), DropReason> {
    let port = bytes.get(2..4).ok_or(DropReason::TruncatedFrame)?;
    if port != underlay.vxlan_port.to_be_bytes() {
        return Err(DropReason::UnexpectedProtocol);
    }
    let declared = bytes.get(4..6).ok_or(DropReason::TruncatedFrame)?;
    if declared
        .iter()
        .fold(0, |value, byte| value << 8 | usize::from(*byte))
        != length
    {
        return Err(DropReason::BadUdpLength);
    }
    let bytes = bytes
        .get(udp::HEADER_LEN..)
        .ok_or(DropReason::TruncatedFrame)?;
    let header = VxlanHeader::new_checked(bytes).map_err(|error| match error {
        shunt_encap::Error::Truncated { .. } => DropReason::TruncatedFrame,
        _ => DropReason::BadVxlanHeader,
    })?;
    if header.vni() != underlay.vni {
        return Err(DropReason::WrongVni);
    }
    let inner =
        EthernetFrame::new_checked(header.payload()).map_err(|_| DropReason::TruncatedFrame)?;
    let to = MacAddr(inner.dst());
    if to != underlay.vtep_mac && Some(to) != underlay.vtep_mac6 {
        return Err(DropReason::WrongVtepMac);
    }
    let family = match inner.ethertype() {
        ETHERTYPE_IPV4 => IpFamily::V4,
        ETHERTYPE_IPV6 => IpFamily::V6,
        _ => return Err(DropReason::InnerUnsupported),
    };
    Ok((udp::HEADER_LEN + vxlan::HEADER_LEN + HEADER_LEN, family))
}

/// True for a tunnel packet to this node: inside a tunnel there is no place for one.
fn is_tunnel_to(underlay: &Underlay, destination: IpAddr, protocol: u8, payload: &[u8]) -> bool {
    let to_us = match destination {
        IpAddr::V4(v4) => underlay.address == Some(v4),
        IpAddr::V6(v6) => underlay.address6 == Some(v6),
    };
    if !to_us {
        return false;
    }
    match protocol {
        PROTOCOL_IPIP | PROTOCOL_IPV6 => true,
        PROTOCOL_UDP => payload.get(2..4) == Some(&underlay.vxlan_port.to_be_bytes()),
        _ => false,
    }
}
