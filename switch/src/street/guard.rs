//! What a pod may not send: as somebody else, as a router or DHCP server, or as a node.

use std::net::{IpAddr, Ipv6Addr};

use shunt_api::MacAddr;
use shunt_encap::Ipv4Packet;
use shunt_encap::dhcp::{is_dhcp_server_v4, is_dhcp_server_v6};
use shunt_encap::extension::Upper;
use shunt_encap::ip::{
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_TCP, PROTOCOL_UDP,
};

use super::Context;
use super::ipv6::Fixed;
use super::ndp::{FIRST_NDP, LAST_NDP};
use crate::config::Mode;
use crate::stats::DropReason;
use crate::tables::{Action, Guard};

/// Router advertisement and redirect (RFC 4861, 4.2 and 4.5).
const ROUTER_MESSAGES: [u8; 2] = [134, 137];

/// The sender of a frame.
#[inline]
pub(super) fn mac(guard: &Guard, source: MacAddr) -> Result<(), DropReason> {
    if guard.has_mac(source) {
        Ok(())
    } else {
        Err(DropReason::SpoofedMac)
    }
}

/// An IPv4 packet with a source that a host can have.
#[inline]
pub(super) fn ipv4(
    context: &Context<'_>,
    guard: &Guard,
    packet: &Ipv4Packet<&[u8]>,
) -> Result<(), DropReason> {
    let source = packet.src();
    if source == context.tables.gateway {
        return Err(DropReason::SpoofedSource);
    }
    if !guard.has_v4(source) && !is_own(context, guard, source.into()) {
        return Err(DropReason::SpoofedSource);
    }
    content_v4(context, packet)
}

/// Whatever its source.
#[inline]
pub(super) fn content_v4(
    context: &Context<'_>,
    packet: &Ipv4Packet<&[u8]>,
) -> Result<(), DropReason> {
    if packet.is_fragment() {
        let first = packet.fragment_offset() == 0;
        fragment(packet.protocol(), first, packet.payload())?;
        // The flags of TCP must not be overwritten by what follows (RFC 1858, 3.2).
        if packet.protocol() == PROTOCOL_TCP && packet.fragment_offset() == 1 {
            return Err(DropReason::TinyFragment);
        }
    }
    match packet.protocol() {
        PROTOCOL_UDP if packet.fragment_offset() == 0 => {
            let ports = ports(packet.payload());
            if ports.is_some_and(|(from, to)| is_dhcp_server_v4(from, to)) {
                return Err(DropReason::DhcpServer);
            }
            tunnel_port(context, ports, packet.dst().into())
        }
        PROTOCOL_IPIP | PROTOCOL_IPV6 => tunnel(context, packet.dst().into()),
        _ => Ok(()),
    }
}

/// Whether an EtherType hides another one: a length (IEEE 802.3; LLC and SNAP follow), or a VLAN
/// tag, which a kernel takes off if it names no VLAN.
pub(super) fn hides(ethertype: u16) -> bool {
    matches!(ethertype, ..0x0600 | 0x8100 | 0x88a8 | 0x9100)
}

/// An IPv6 packet, of which `bytes` has the headers.
#[inline]
pub(super) fn ipv6(
    context: &Context<'_>,
    guard: &Guard,
    fixed: &Fixed,
    upper: &Upper,
    bytes: &[u8],
) -> Result<(), DropReason> {
    let source = fixed.source;
    let payload = bytes.get(upper.offset..).unwrap_or_default();
    // What discovery says of its sender, its handler checks.
    let discovery =
        upper.protocol == PROTOCOL_ICMPV6 && matches!(payload.first(), Some(FIRST_NDP..=LAST_NDP));
    if !discovery && (source == context.tables.gateway6 || is_neighbours(context, guard, source)) {
        return Err(DropReason::SpoofedSource);
    }
    // Duplicate address detection and listener reports come before there is an address
    // (RFC 4862, 5.4.2; RFC 3590, 4): what is asked of them, their handlers check.
    let none_yet = source.is_unspecified() && upper.protocol == PROTOCOL_ICMPV6;
    if !none_yet && !guard.has_v6(source) && !is_own(context, guard, source.into()) {
        return Err(DropReason::SpoofedSource);
    }
    let first = upper
        .fragment
        .is_none_or(|fragment| fragment.offset_bytes == 0);
    if upper.fragment.is_some() {
        fragment(upper.protocol, first, payload)?;
    }
    match upper.protocol {
        PROTOCOL_UDP if first => {
            let ports = ports(payload);
            if ports.is_some_and(|(from, to)| is_dhcp_server_v6(from, to)) {
                return Err(DropReason::DhcpServer);
            }
            tunnel_port(context, ports, fixed.destination.into())
        }
        PROTOCOL_ICMPV6 if first => match payload.first() {
            Some(kind) if ROUTER_MESSAGES.contains(kind) => Err(DropReason::RogueRouter),
            // Discovery is never cut into fragments (RFC 6980, 5).
            Some(FIRST_NDP..=LAST_NDP) if upper.fragment.is_some() => Err(DropReason::BadNdp),
            _ => Ok(()),
        },
        PROTOCOL_IPIP | PROTOCOL_IPV6 => tunnel(context, fixed.destination.into()),
        _ => Ok(()),
    }
}

/// Whether an address that the attachment did not name is the port's all the same: routed to it or
/// learned from it, or nobody's yet where the attachment named none.
#[cold]
pub(super) fn is_own(context: &Context<'_>, guard: &Guard, address: IpAddr) -> bool {
    context.next_hop(address).is_some_and(|(_, hop)| {
        let own = hop.action == Action::Deliver && hop.port == context.port;
        own || (guard.learns && hop.action == Action::Glean)
    })
}

/// Whether a link-local address is that which another pod's MAC address makes (RFC 4291, appendix
/// A): in L2 mode it means something to the neighbours.
pub(super) fn is_neighbours(context: &Context<'_>, guard: &Guard, address: Ipv6Addr) -> bool {
    if context.tables.mode != Mode::L2 || !address.is_unicast_link_local() {
        return false;
    }
    let [.., a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else {
        return false;
    };
    let mac = MacAddr([a ^ 2, b, c, d, e, f]);
    let domain = context.tables.domains.get(context.entry.domain.index());
    !guard.macs.contains(&mac) && domain.is_some_and(|domain| domain.fdb.is_static(mac))
}

/// A first fragment has all that a guard looks at (RFC 1858, 3.1; RFC 7112, 5).
fn fragment(protocol: u8, first: bool, payload: &[u8]) -> Result<(), DropReason> {
    let needed = match protocol {
        PROTOCOL_TCP => 20,
        PROTOCOL_UDP | PROTOCOL_ICMP | PROTOCOL_ICMPV6 => 8,
        _ => 0,
    };
    if first && payload.len() < needed {
        return Err(DropReason::TinyFragment);
    }
    Ok(())
}

/// Source and destination port of a TCP, UDP or SCTP header.
fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *payload.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn tunnel_port(
    context: &Context<'_>,
    ports: Option<(u16, u16)>,
    destination: IpAddr,
) -> Result<(), DropReason> {
    match ports {
        Some((_, port)) if port == context.tables.underlay.vxlan_port => {
            tunnel(context, destination)
        }
        _ => Ok(()),
    }
}

fn tunnel(context: &Context<'_>, destination: IpAddr) -> Result<(), DropReason> {
    if context.is_node(destination) {
        Err(DropReason::TunnelFromPod)
    } else {
        Ok(())
    }
}
