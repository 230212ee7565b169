//! Neighbour discovery (RFC 4861): the gateway's answers, and what pods say of themselves. And
//! multicast listener discovery, which in L3 mode has nobody to tell.

use std::net::Ipv6Addr;

use shunt_afxdp::Frame;
use shunt_api::MacAddr;
use shunt_encap::ethernet::{ETHERTYPE_IPV6, EthernetRepr, HEADER_LEN};
use shunt_encap::extension::Upper;
use shunt_encap::ndp::{
    ALL_NODES, NaParams, NdpMessage, emit_advertisement, multicast_mac, parse_ndp,
};

use super::arp::heard;
use super::ingress::Link;
use super::{Context, Verdict, guard};
use crate::config::Mode;
use crate::stats::DropReason;
use crate::tables::Role;

/// Room for an advertisement with its option.
const MAX_ADVERTISEMENT: usize = 96;
/// The first of the types that are neighbour discovery's and not listener discovery's.
pub(super) const FIRST_NDP: u8 = 133;
pub(super) const LAST_NDP: u8 = 137;

/// Discovery that only the switch hears (L3 mode, or to the gateway's MAC): the gateway answers for
/// itself, and in L3 mode for every address that is routed but the asker's own (proxy
/// advertisements, RFC 4861, 7.2.8).
pub(super) fn hear(
    context: &mut Context<'_>,
    frame: &Frame,
    link: Link,
    upper: &Upper,
) -> Result<Verdict, DropReason> {
    match read(context, frame, link, upper)? {
        Some((source, NdpMessage::NeighbourSolicitation { target, .. })) => {
            let proxied = context.tables.mode == Mode::L3;
            Ok(solicited(context, link, source, target, proxied))
        }
        Some(_) => Ok(Verdict::Consumed),
        // Listener reports: multicast is not routed, so there is nothing to join.
        None => Err(DropReason::MulticastNotRouted),
    }
}

/// Discovery that the whole domain hears (L2 mode): solicitations for the gateway are answered, the
/// rest is bridged (`None`).
pub(super) fn overhear(
    context: &mut Context<'_>,
    frame: &Frame,
    link: Link,
    upper: &Upper,
) -> Result<Option<Verdict>, DropReason> {
    match read(context, frame, link, upper)? {
        Some((source, NdpMessage::NeighbourSolicitation { target, .. }))
            if target == context.tables.gateway6 =>
        {
            Ok(Some(solicited(context, link, source, target, false)))
        }
        _ => Ok(None),
    }
}

/// Reads a message and its source, checks that the sender may say what it says, and learns from
/// it; `None` for listener discovery.
fn read(
    context: &mut Context<'_>,
    frame: &Frame,
    link: Link,
    upper: &Upper,
) -> Result<Option<(Ipv6Addr, NdpMessage)>, DropReason> {
    context.spend_slow()?;
    let data = frame.data(context.pool.umem());
    let packet = data.get(HEADER_LEN..).ok_or(DropReason::TruncatedFrame)?;
    let kind = packet.get(upper.offset).copied().unwrap_or_default();
    if !(FIRST_NDP..=LAST_NDP).contains(&kind) {
        return Ok(None);
    }
    let message = parse_ndp(packet).map_err(|_| DropReason::BadNdp)?;
    let source: [u8; 16] = packet
        .get(8..24)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(DropReason::BadNdp)?;
    let source = Ipv6Addr::from(source);
    if context.entry.role == Role::Pod {
        check(context, source, &message, link)?;
    }
    Ok(Some((source, message)))
}

/// What the message says of its sender must be so.
fn check(
    context: &mut Context<'_>,
    source: Ipv6Addr,
    message: &NdpMessage,
    link: Link,
) -> Result<(), DropReason> {
    let (address, mac) = match *message {
        NdpMessage::NeighbourSolicitation { source_lladdr, .. } => (source, source_lladdr),
        NdpMessage::NeighbourAdvertisement {
            target,
            target_lladdr,
            ..
        } => (target, target_lladdr),
        NdpMessage::RouterSolicitation => return Ok(()),
        NdpMessage::RouterAdvertisement | NdpMessage::Redirect => {
            return match context.entry.guard {
                Some(_) => Err(DropReason::RogueRouter),
                None => Ok(()),
            };
        }
    };
    let mac = mac.map(MacAddr);
    if let Some(guard) = &context.entry.guard {
        let foreign = |mac: MacAddr| mac != link.src && !guard.macs.contains(&mac);
        if mac.is_some_and(foreign) {
            return Err(DropReason::SpoofedNdp);
        }
        let own = address.is_unspecified()
            || (guard.has_v6(address)
                && address != context.tables.gateway6
                && !guard::is_neighbours(context, guard, address))
            || guard::is_own(context, guard, address.into());
        if !own {
            if address == context.tables.gateway6 || context.local_port(address.into()).is_some() {
                context.conflict(address.into(), link.src);
            }
            return Err(DropReason::SpoofedNdp);
        }
    }
    if !address.is_unspecified() && !address.is_unicast_link_local() {
        heard(context, address.into(), mac.unwrap_or(link.src));
    }
    Ok(())
}

/// Somebody asks who has `target`.
fn solicited(
    context: &mut Context<'_>,
    link: Link,
    source: Ipv6Addr,
    target: Ipv6Addr,
    proxied: bool,
) -> Verdict {
    let gateway = target == context.tables.gateway6;
    let owner = context.local_port(target.into());
    // Duplicate address detection (RFC 4862, 5.4.3): only where another has the address is it
    // taken, and to answer for that one is what reports the conflict.
    if source.is_unspecified() {
        let taken = gateway || owner.is_some_and(|port| port != context.port);
        if taken {
            context.conflict(target.into(), link.src);
            advertise(context, link.src, ALL_NODES, target, gateway);
        }
        return Verdict::Consumed;
    }
    let routed = proxied
        && !target.is_unicast_link_local()
        && !target.is_multicast()
        && target != source
        && owner != Some(context.port);
    if gateway || routed {
        advertise(context, link.src, source, target, gateway);
    }
    Verdict::Consumed
}

/// Says that `target` is at the gateway's MAC.
fn advertise(
    context: &mut Context<'_>,
    to_mac: MacAddr,
    to: Ipv6Addr,
    target: Ipv6Addr,
    gateway: bool,
) {
    let own_mac = context.tables.gateway_mac.0;
    let multicast = to.is_multicast();
    let params = NaParams {
        // To all nodes comes from the address in question when that is ours.
        src: context.tables.gateway6,
        dst: to,
        target,
        lladdr: own_mac,
        router: true,
        solicited: !multicast,
        // An answer by proxy must not displace one of the owner (RFC 4861, 7.2.8).
        overrides: gateway,
    };
    let header = EthernetRepr {
        dst: if multicast {
            multicast_mac(to)
        } else {
            to_mac.0
        },
        src: own_mac,
        ethertype: ETHERTYPE_IPV6,
    };
    let mut bytes = [0; HEADER_LEN + MAX_ADVERTISEMENT];
    let (front, packet) = bytes.split_at_mut(HEADER_LEN);
    let length = match (header.emit(front), emit_advertisement(packet, &params)) {
        (Ok(()), Ok(length)) => length,
        _ => return,
    };
    let port = context.port;
    if let Some(bytes) = bytes.get(..HEADER_LEN + length)
        && let Some(frame) = context.make(bytes)
    {
        context.send(port, frame);
    }
}
