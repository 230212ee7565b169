//! Multicast in L2 mode: what pods say of their groups (IGMP, MLD), and who gets what
//! (RFC 4541).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_afxdp::Frame;
use shunt_encap::Ipv4Packet;
use shunt_encap::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetFrame, HEADER_LEN};
use shunt_encap::extension::walk_v6;
use shunt_encap::igmp::{PROTOCOL_IGMP, parse_igmp};
use shunt_encap::membership::Membership;
use shunt_encap::mld::{mld_type, parse_mld};

use super::ipv6::Fixed;
use super::{Context, Event, Said};
use crate::stats::DropReason;
use crate::tables::{Domain, PortId};

/// Queries of IGMP (RFC 2236, 2.1) and MLD (RFC 2710, 3.1); all other types are reports.
const IGMP_QUERY: u8 = 0x11;
const MLD_QUERY: u8 = 130;

/// What a bridged IP frame says of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// Join or leave: for multicast routers alone (RFC 4541, 2.1.1).
    Report,
    /// Everyone is asked.
    Query,
}

/// Tells the control thread what a frame of IGMP or MLD says, if it is one.
#[inline]
pub(super) fn listen(context: &mut Context<'_>, frame: &Frame) -> Result<(), DropReason> {
    let domain = context.tables.domains.get(context.entry.domain.index());
    if domain.is_none_or(|domain| domain.multicast.is_none()) {
        return Ok(());
    }
    match message(frame.data(context.pool.umem())) {
        None => return Ok(()),
        // Who asks gets all multicast, and answers for the memberships of all: a router's place.
        Some(Message::Query) if context.entry.guard.is_some() => {
            return Err(DropReason::RogueQuerier);
        }
        Some(_) => {}
    }
    let umem = std::sync::Arc::clone(context.pool.umem());
    let data = frame.data(&umem);
    context.spend_slow()?;
    let packet = data.get(HEADER_LEN..).unwrap_or_default();
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let said = parse_igmp(packet).map_err(|_| DropReason::BadMembership)?;
            said.for_each(|membership| tell(context, membership));
        }
        _ => {
            let said = parse_mld(packet).map_err(|_| DropReason::BadMembership)?;
            said.for_each(|membership| tell(context, membership));
        }
    }
    Ok(())
}

fn tell<A: Copy + Into<IpAddr>>(context: &mut Context<'_>, membership: Membership<A>) {
    let (group, said) = match membership {
        Membership::Join(group) => (group.into(), Said::Join),
        Membership::Leave(group) => (group.into(), Said::Leave),
        // One about a single group, or of a switch that is no router (RFC 4541, 2.1.1), makes none.
        Membership::Query {
            querier,
            group: None,
        } if !querier.into().is_unspecified() => (querier.into(), Said::Query),
        Membership::Query { .. } => return,
    };
    let port = context.port;
    context.report(Event::Membership { group, port, said });
}

/// The ports that a frame to flood goes to.
pub(super) fn targets<'d>(domain: &'d Domain, data: &[u8]) -> &'d [PortId] {
    let Some(multicast) = domain.multicast.as_ref().filter(|m| m.pruning) else {
        return &domain.members;
    };
    match message(data) {
        Some(Message::Report) => &multicast.routers,
        Some(Message::Query) => &domain.members,
        None => match group(data) {
            Some(group) => multicast.ports(group),
            None => &domain.members,
        },
    }
}

/// Whether a frame is a report: for routers, and for nobody where there is none.
pub(super) fn is_report(data: &[u8]) -> bool {
    message(data) == Some(Message::Report)
}

/// Whether a frame is of IGMP or MLD.
fn message(data: &[u8]) -> Option<Message> {
    let packet = data.get(HEADER_LEN..)?;
    let kind = |byte: u8, query: u8| match byte == query {
        true => Message::Query,
        false => Message::Report,
    };
    match EthernetFrame::new_checked(data).ok()?.ethertype() {
        ETHERTYPE_IPV4 => {
            let header = Ipv4Packet::new_checked_head(packet, usize::MAX).ok()?;
            if header.protocol() != PROTOCOL_IGMP {
                return None;
            }
            let first = packet.get(header.header_len())?;
            Some(kind(*first, IGMP_QUERY))
        }
        ETHERTYPE_IPV6 => {
            let upper = walk_v6(packet).ok()?;
            Some(kind(mld_type(packet, &upper)?, MLD_QUERY))
        }
        _ => None,
    }
}

/// The group that a frame is for, unless everyone on the link hears that group: 224.0.0.0/24
/// (RFC 4541, 2.1.2), and what is of link-local scope or less (RFC 4291, 2.7), as neighbour
/// discovery.
fn group(data: &[u8]) -> Option<IpAddr> {
    let packet = data.get(HEADER_LEN..)?;
    match EthernetFrame::new_checked(data).ok()?.ethertype() {
        ETHERTYPE_IPV4 => {
            let header = Ipv4Packet::new_checked_head(packet, usize::MAX).ok()?;
            let group: Ipv4Addr = header.dst();
            let local = group.octets().starts_with(&[224, 0, 0]);
            (group.is_multicast() && !local).then_some(group.into())
        }
        ETHERTYPE_IPV6 => {
            let group: Ipv6Addr = Fixed::read(packet, usize::MAX).ok()?.destination;
            let scope = group.octets()[1] & 0x0f;
            (group.is_multicast() && scope > 2).then_some(group.into())
        }
        _ => None,
    }
}
