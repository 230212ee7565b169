//! Ingress of the uplink: tunnel packets to this node are taken out of their tunnel, plain packets
//! to its pods pass.

use shunt_afxdp::{Frame, Pool};
use shunt_api::MacAddr;
use shunt_encap::ethernet::{ETHERTYPE_IPV4, EthernetFrame, HEADER_LEN};
use shunt_encap::ip::{PROTOCOL_IPIP, PROTOCOL_UDP};
use shunt_encap::{Ipv4Packet, VxlanHeader, decap_tos, udp, vxlan};

use super::{Context, Street, Verdict, ipv4};
use crate::stats::DropReason;
use crate::tables::Underlay;

/// What an outer header says.
struct Outer {
    source: u32,
    tos: u8,
    /// Where in the frame the inner IP header is.
    inner: usize,
    /// Where in the frame the outer packet ends.
    end: usize,
}

impl Street {
    /// One verdict per frame; routed packets are gathered for `forward`.
    pub(super) fn uplink_ingress(&mut self, context: &mut Context<'_>, batch: &mut [Frame]) {
        for frame in batch {
            let routed = accept(context, frame);
            match routed {
                Ok((packet, tunnel_source)) => {
                    self.route(packet.source, packet.destination, tunnel_source);
                }
                Err(reason) => self.verdicts.push(Verdict::Drop(reason)),
            }
        }
    }
}

/// A routable packet, and the far end of the tunnel if it came out of one.
fn accept(
    context: &mut Context<'_>,
    frame: &mut Frame,
) -> Result<(ipv4::Routable, Option<u32>), DropReason> {
    let tables = context.tables;
    let underlay = &tables.underlay;
    let Some(outer) = unwrap(underlay, context.entry.mac, frame, context.pool)? else {
        let packet = ipv4::admit(frame, context.pool, context.entry.partial_checksums)?;
        return Ok((packet, None));
    };
    // What follows the outer packet is padding, whatever the inner length says.
    frame.truncate(context.pool, outer.end);
    // The inner packet keeps 14 bytes in front for the next link-layer header.
    if !frame.pull_head(outer.inner - HEADER_LEN) {
        return Err(DropReason::TruncatedFrame);
    }
    let packet = ipv4::admit(frame, context.pool, context.entry.partial_checksums)?;
    let data = frame.data_mut(context.pool.umem());
    let bytes = data
        .get_mut(HEADER_LEN..)
        .ok_or(DropReason::TruncatedFrame)?;
    let available = usize::from(u16::MAX);
    let mut inner = Ipv4Packet::new_checked_head(bytes, available).map_err(ipv4::malformed)?;
    if is_tunnel_to(underlay, &inner) {
        return Err(DropReason::NestedTunnel);
    }
    let tos = decap_tos(outer.tos, inner.tos()).map_err(|_| DropReason::EcnIllegal)?;
    if tos != inner.tos() {
        inner.set_tos_incremental(tos);
    }
    Ok((packet, Some(outer.source)))
}

/// Reads the outer headers; `None` for a packet that is in no tunnel and not to this node.
fn unwrap(
    underlay: &Underlay,
    mac: Option<MacAddr>,
    frame: &Frame,
    pool: &Pool,
) -> Result<Option<Outer>, DropReason> {
    let available = frame.len().saturating_sub(HEADER_LEN);
    let data = frame.data(pool.umem());
    let ethernet = EthernetFrame::new_checked(data).map_err(|_| DropReason::TruncatedFrame)?;
    // XDP sees what a link floods for other stations too.
    if mac.is_some_and(|mac| mac.0 != ethernet.dst()) {
        return Err(DropReason::NotOurMac);
    }
    if ethernet.ethertype() != ETHERTYPE_IPV4 {
        return Err(DropReason::UnsupportedEthertype);
    }
    let bytes = ethernet.payload();
    let packet = Ipv4Packet::new_checked_head(bytes, available).map_err(ipv4::malformed)?;
    if packet.dst() != underlay.address {
        return Ok(None);
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
    let payload = HEADER_LEN + packet.header_len();
    let end = HEADER_LEN + usize::from(packet.total_len());
    let inner = match packet.protocol() {
        PROTOCOL_IPIP => payload,
        PROTOCOL_UDP => {
            let bytes = data.get(payload..).unwrap_or_default();
            payload + vxlan_headers(underlay, bytes, end - payload)?
        }
        _ => return Err(DropReason::UnexpectedProtocol),
    };
    if inner >= end {
        return Err(DropReason::TruncatedFrame);
    }
    Ok(Some(Outer {
        source: packet.src().into(),
        tos: packet.tos(),
        inner,
        end,
    }))
}

/// Checks UDP and VXLAN (RFC 7348, 5) of a packet whose IP payload has `length` bytes, and returns
/// the length of all headers before the inner packet.
///
/// A UDP checksum is not verified (RFC 7348, 5, leaves it to the receiver): a kernel behind a veth
/// leaves it to hardware that is not there, and the inner packet has its own.
fn vxlan_headers(underlay: &Underlay, bytes: &[u8], length: usize) -> Result<usize, DropReason> {
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
    if inner.dst() != underlay.vtep_mac.0 {
        return Err(DropReason::WrongVtepMac);
    }
    if inner.ethertype() != ETHERTYPE_IPV4 {
        return Err(DropReason::InnerUnsupported);
    }
    Ok(udp::HEADER_LEN + vxlan::HEADER_LEN + HEADER_LEN)
}

/// True for a tunnel packet to this node: inside a tunnel there is no place for one.
fn is_tunnel_to<T: AsRef<[u8]>>(underlay: &Underlay, packet: &Ipv4Packet<T>) -> bool {
    if packet.dst() != underlay.address {
        return false;
    }
    match packet.protocol() {
        PROTOCOL_IPIP => true,
        PROTOCOL_UDP => packet.payload().get(2..4) == Some(&underlay.vxlan_port.to_be_bytes()),
        _ => false,
    }
}
