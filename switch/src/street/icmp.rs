//! What the switch says as a router: ICMP and ICMPv6 errors (RFC 1812, 4.3; RFC 4443), few enough
//! not to be a weapon, and the gateway's answers to ping.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_afxdp::Frame;
use shunt_encap::Ipv4Packet;
use shunt_encap::ethernet::{ETHERTYPE_IPV6, EthernetFrame, HEADER_LEN};
use shunt_encap::extension::walk_v6;
use shunt_encap::icmp::{
    self, Embedded, ErrorV4, answer_echo_v4, embedded, emit_error_v4, may_answer_v4,
};
use shunt_encap::icmpv6::{ErrorV6, answer_echo_v6, emit_error_v6, may_answer_v6};
use shunt_encap::ip::{PROTOCOL_TCP, PROTOCOL_UDP};

use super::packet::{self, Routable};
use super::{Context, Verdict, egress};
use crate::stats::DropReason;
use crate::tables::{Action, Role};

/// The largest error: IPv6's minimum MTU (RFC 4443, 2.4 (c)).
const MAX_ERROR: usize = 1280;

/// An error, in the words of both families; `None` where one has no such.
#[derive(Debug, Clone, Copy)]
struct Error {
    v4: Option<ErrorV4>,
    v6: Option<ErrorV6>,
}

/// How an error gets to the sender of the packet that it is about.
enum Way {
    /// By the next hop with this index.
    By(u16),
    /// By this one, seeming to come from the packet's destination.
    As(u16),
    /// Out of the port that the packet came in by: link-local addresses have no routes.
    Back,
}

/// What a drop reason is to the sender, if he is to know.
fn meaning(context: &Context<'_>, reason: DropReason) -> Option<Error> {
    let unreachable = |v4, v6| {
        let error = Error {
            v4: Some(v4),
            v6: Some(v6),
        };
        context.tables.policy.unreachable.then_some(error)
    };
    match reason {
        DropReason::TtlExpired => Some(Error {
            v4: Some(ErrorV4::TimeExceeded),
            v6: Some(ErrorV6::HopLimitExceeded),
        }),
        DropReason::NoRoute | DropReason::HostLoop => {
            unreachable(ErrorV4::NetUnreachable, ErrorV6::NoRoute)
        }
        DropReason::NeighbourTimeout => {
            unreachable(ErrorV4::HostUnreachable, ErrorV6::AddressUnreachable)
        }
        DropReason::GatewayNoService => {
            unreachable(ErrorV4::PortUnreachable, ErrorV6::PortUnreachable)
        }
        // Whose tunnel a packet came out of is not known when this is found out.
        DropReason::LinkLocal if context.entry.role != Role::Uplink => Some(Error {
            v4: None,
            v6: Some(ErrorV6::BeyondScope),
        }),
        _ => None,
    }
}

/// Tells the sender of a frame that is dropped, where the standards want him to know.
#[inline]
pub(super) fn report(context: &mut Context<'_>, frame: &Frame, reason: DropReason) {
    if let Some(error) = meaning(context, reason) {
        send(context, frame, error);
    }
}

/// Tells the sender how large a packet may be.
pub(super) fn too_big(context: &mut Context<'_>, frame: &Frame, mtu: u16) {
    let error = Error {
        v4: Some(ErrorV4::FragmentationNeeded { mtu }),
        v6: Some(ErrorV6::PacketTooBig { mtu: mtu.into() }),
    };
    send(context, frame, error);
}

/// Sends an error about the packet that starts 14 bytes into `frame`, as it arrived.
#[cold]
fn send(context: &mut Context<'_>, frame: &Frame, error: Error) {
    // Asked first: what is not sent costs nothing.
    let Some(left) = context.budget.icmp.checked_sub(1) else {
        context.worker.icmp_limited += 1;
        return;
    };
    let mut bytes = [0; HEADER_LEN + MAX_ERROR];
    let made = {
        let data = frame.data(context.pool.umem());
        let (front, out) = bytes.split_at_mut(HEADER_LEN);
        // For the way back; any other is written over.
        if let (Some(own), Some(source)) = (front.get_mut(..12), data.get(6..12)) {
            let (to, from) = own.split_at_mut(6);
            to.copy_from_slice(source);
            from.copy_from_slice(&context.tables.gateway_mac.0);
        }
        if let Some(ethertype) = front.get_mut(12..14) {
            ethertype.copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
        }
        make(context, error, data, out)
    };
    let Some((way, length)) = made else {
        return;
    };
    context.budget.icmp = left;
    let Some(frame) = bytes
        .get(..HEADER_LEN + length)
        .and_then(|bytes| context.make(bytes))
    else {
        return;
    };
    context.worker.icmp_sent += 1;
    match way {
        Way::By(hop) | Way::As(hop) => egress::send_via(context, frame, hop),
        Way::Back => context.send(context.port, frame),
    }
}

/// Writes an error about the frame `data` as an IP packet, and says which way it goes and how long
/// it is.
fn make(context: &Context<'_>, error: Error, data: &[u8], out: &mut [u8]) -> Option<(Way, usize)> {
    let original = data.get(HEADER_LEN..)?;
    match packet::addresses(data)? {
        Routable::V4 {
            source,
            destination,
        } => {
            let (to, about) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
            v4(context, error.v4?, to, about, original, out)
        }
        Routable::V6 {
            source,
            destination,
        } => {
            let (to, about) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
            v6(context, error.v6?, to, about, original, out)
        }
    }
}

fn v4(
    context: &Context<'_>,
    error: ErrorV4,
    to: Ipv4Addr,
    about: Ipv4Addr,
    original: &[u8],
    out: &mut [u8],
) -> Option<(Way, usize)> {
    // Nothing but UDP and TCP has ports to be unreachable.
    let protocol = original.get(9).copied()?;
    if error == ErrorV4::PortUnreachable && !matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        return None;
    }
    if !may_answer_v4(original) {
        return None;
    }
    let way = way_back(context, to.into())?;
    let from = match (&way, context.entry.role) {
        (Way::As(_), _) => about,
        // The gateway's own address answers for itself (RFC 1122, 3.2.2.1).
        _ if about == context.tables.gateway => about,
        // The kernel would take a packet from its own address for a forged one.
        (_, Role::Host) => context.tables.gateway,
        _ => context.router_v4(),
    };
    let length = emit_error_v4(out, error, from, to, original).ok()?;
    Some((way, length))
}

fn v6(
    context: &Context<'_>,
    error: ErrorV6,
    to: Ipv6Addr,
    about: Ipv6Addr,
    original: &[u8],
    out: &mut [u8],
) -> Option<(Way, usize)> {
    let upper = walk_v6(original).ok()?;
    let ported = matches!(upper.protocol, PROTOCOL_TCP | PROTOCOL_UDP);
    if error == ErrorV6::PortUnreachable && !ported {
        return None;
    }
    // Only the source's scope is what a packet can go beyond (RFC 4443, 3.1).
    if error == ErrorV6::BeyondScope && !to.is_unicast_link_local() {
        return None;
    }
    if !may_answer_v6(original, &upper, error) {
        return None;
    }
    let way = if to.is_unicast_link_local() {
        // A neighbour's, and no tunnel brings any.
        (context.entry.role != Role::Uplink).then_some(Way::Back)?
    } else {
        way_back(context, to.into())?
    };
    let from = match (&way, context.entry.role) {
        (Way::As(_), _) => about,
        // RFC 4443, 2.2 (a).
        _ if about == context.tables.gateway6 => about,
        (Way::Back, _) | (_, Role::Host) => context.tables.gateway6,
        _ => context.router_v6(),
    };
    // To another node a link-local address would say nothing.
    if from.is_unicast_link_local() && context.entry.role == Role::Uplink {
        return None;
    }
    let length = emit_error_v6(out, error, from, to, original).ok()?;
    Some((way, length))
}

/// The way to a packet's source. What comes from the node's stack with another source than the
/// node's own has been translated, or is routed by the node: the error goes back there, to be
/// translated too, and must seem to come from the packet's destination.
fn way_back(context: &Context<'_>, source: IpAddr) -> Option<Way> {
    let (index, hop) = context.next_hop(source)?;
    match (hop.action, context.entry.role) {
        (Action::Deliver | Action::Wait | Action::Glean | Action::Underlay, Role::Host) => {
            let family = usize::from(source.is_ipv6());
            let host = context.tables.to_host.get(family).copied().flatten()?;
            Some(Way::As(host))
        }
        (Action::Outside, Role::Host) => Some(Way::As(index)),
        (Action::Deliver | Action::Underlay | Action::Wait | Action::Glean | Action::Node, _) => {
            Some(Way::By(index))
        }
        _ => None,
    }
}

/// A packet to the gateway's own address: ping is answered, and nothing else listens there.
pub(super) fn to_gateway(context: &mut Context<'_>, frame: &mut Frame) -> Verdict {
    if let Err(reason) = context.spend_slow() {
        return Verdict::Drop(reason);
    }
    super::rewrite::complete_checksum(frame, context.pool);
    let own = context.tables.gateway_mac.0;
    let data = frame.data_mut(context.pool.umem());
    let answered = match packet::version(data) {
        4 => data.get_mut(HEADER_LEN..).is_some_and(answer_echo_v4),
        6 => data.get_mut(HEADER_LEN..).is_some_and(answer_echo_v6),
        _ => false,
    };
    if !answered {
        return Verdict::Drop(DropReason::GatewayNoService);
    }
    let Ok(mut header) = EthernetFrame::new_checked(data) else {
        return Verdict::Drop(DropReason::TruncatedFrame);
    };
    let asker = header.src();
    header.set_dst(asker);
    header.set_src(own);
    Verdict::Answer
}

/// The tuple of the packet that an ICMP or ICMPv6 error is about; `None` for other packets.
pub(super) fn about(data: &[u8]) -> Option<Embedded> {
    let bytes = data.get(HEADER_LEN..)?;
    let message = match packet::version(data) {
        4 => {
            let packet = Ipv4Packet::new_checked_head(bytes, usize::MAX).ok()?;
            let message = bytes.get(packet.header_len()..)?;
            // Destination unreachable, time exceeded, parameter problem (RFC 1122, 3.2.2).
            matches!(message.first(), Some(3 | 11 | 12)).then_some(message)?
        }
        6 => {
            let message = bytes.get(walk_v6(bytes).ok()?.offset..)?;
            // Errors are the types below 128 (RFC 4443, 2.1).
            matches!(message.first(), Some(..128)).then_some(message)?
        }
        _ => return None,
    };
    embedded(message.get(icmp::HEADER_LEN..)?)
}
