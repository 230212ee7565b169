//! ARP (RFC 826): the gateway's answers, and what pods say of themselves.

use shunt_afxdp::Frame;
use shunt_api::MacAddr;
use shunt_encap::ethernet::{EthernetFrame, HEADER_LEN};
use shunt_encap::{ArpOperation, ArpPacket, ArpRepr};

use super::ingress::Link;
use super::{Context, Event, Verdict, guard};
use crate::config::Mode;
use crate::stats::DropReason;
use crate::tables::{Action, Role};

/// ARP that only the switch hears: to the gateway's MAC, or any in L3 mode, where the gateway
/// answers for every address but the asker's own (proxy ARP, RFC 1027).
pub(super) fn hear(
    context: &mut Context<'_>,
    frame: &mut Frame,
    link: Link,
) -> Result<Verdict, DropReason> {
    let packet = read(context, frame, link)?;
    let target = packet.target_protocol_addr;
    if packet.operation != ArpOperation::Request {
        return Ok(Verdict::Consumed);
    }
    if target == context.tables.gateway {
        if packet.sender_protocol_addr.is_unspecified() {
            context.conflict(target.into(), MacAddr(packet.sender_hardware_addr));
        }
        return Ok(answer(context, frame, &packet));
    }
    if context.tables.mode == Mode::L2 {
        return Ok(Verdict::Consumed);
    }
    let owner = context.local_port(target.into());
    // A probe (RFC 5227, 2.1.1: sender address zero) asks whether an address is taken. Only where
    // another pod has it is that so: to answer for it is what reports the conflict.
    let proxied = if packet.sender_protocol_addr.is_unspecified() {
        let taken = owner.is_some_and(|port| port != context.port);
        if taken {
            context.conflict(target.into(), MacAddr(packet.sender_hardware_addr));
        }
        taken
    } else {
        // An announcement asks nothing, and to proxy for the asker's own addresses would take them
        // from it.
        packet.sender_protocol_addr != target && owner != Some(context.port)
    };
    Ok(if proxied {
        answer(context, frame, &packet)
    } else {
        Verdict::Consumed
    })
}

/// ARP that the whole domain hears (L2 mode): requests for the gateway are answered, the rest is
/// bridged (`None`).
pub(super) fn overhear(
    context: &mut Context<'_>,
    frame: &mut Frame,
    link: Link,
) -> Result<Option<Verdict>, DropReason> {
    let packet = read(context, frame, link)?;
    let for_gateway = packet.target_protocol_addr == context.tables.gateway;
    if packet.operation == ArpOperation::Request && for_gateway && link.dst.is_multicast() {
        return Ok(Some(answer(context, frame, &packet)));
    }
    Ok(None)
}

/// Reads a packet, checks that the sender may say what it says, and learns from it.
fn read(context: &mut Context<'_>, frame: &Frame, link: Link) -> Result<ArpRepr, DropReason> {
    context.spend_slow()?;
    let data = frame.data(context.pool.umem());
    let bytes = data.get(HEADER_LEN..).ok_or(DropReason::BadArp)?;
    let packet = ArpPacket::new_checked(bytes).map_err(|_| DropReason::BadArp)?;
    let packet = ArpRepr::parse(&packet);
    if context.entry.role != Role::Pod {
        return Ok(packet);
    }
    check(context, &packet, link)?;
    learn(context, &packet);
    Ok(packet)
}

/// The sender's fields must be the pod's own.
fn check(context: &mut Context<'_>, packet: &ArpRepr, link: Link) -> Result<(), DropReason> {
    let Some(guard) = &context.entry.guard else {
        return Ok(());
    };
    let sender = packet.sender_protocol_addr;
    if MacAddr(packet.sender_hardware_addr) != link.src && !guard_names(guard, packet) {
        return Err(DropReason::SpoofedArp);
    }
    let gateway = sender == context.tables.gateway;
    if sender.is_unspecified()
        || (!gateway && guard.has_v4(sender))
        || guard::is_own(context, guard, sender.into())
    {
        return Ok(());
    }
    if gateway || context.local_port(sender.into()).is_some() {
        context.conflict(sender.into(), MacAddr(packet.sender_hardware_addr));
    }
    Err(DropReason::SpoofedArp)
}

/// Whether the sender is a MAC address that the attachment names: a virtual router announces its
/// own (RFC 5798, 7.3) in frames from another.
fn guard_names(guard: &crate::tables::Guard, packet: &ArpRepr) -> bool {
    guard.macs.contains(&MacAddr(packet.sender_hardware_addr))
}

/// Turns the request in `frame` into the gateway's reply.
fn answer(context: &mut Context<'_>, frame: &mut Frame, request: &ArpRepr) -> Verdict {
    let gateway = context.tables.gateway_mac.0;
    let data = frame.data_mut(context.pool.umem());
    let Ok(mut header) = EthernetFrame::new_checked(&mut *data) else {
        return Verdict::Drop(DropReason::TruncatedFrame);
    };
    header.set_dst(request.sender_hardware_addr);
    header.set_src(gateway);
    match request.answer(gateway).emit(header.payload_mut()) {
        Ok(()) => Verdict::Answer,
        Err(_) => Verdict::Drop(DropReason::BadArp),
    }
}

/// Tells the control thread which address a pod says is its, unless that is known.
fn learn(context: &mut Context<'_>, packet: &ArpRepr) {
    let address = packet.sender_protocol_addr;
    let mac = MacAddr(packet.sender_hardware_addr);
    if !address.is_unspecified() {
        heard(context, address.into(), mac);
    }
}

/// A pod says by ARP or NDP that an address is at a MAC address.
pub(super) fn heard(context: &mut Context<'_>, address: std::net::IpAddr, mac: MacAddr) {
    if mac.is_multicast() || mac.is_zero() {
        return;
    }
    let known = context.next_hop(address).is_some_and(|(_, hop)| {
        hop.action == Action::Deliver
            && hop.port == context.port
            && hop.header.as_bytes().starts_with(&mac.0)
    });
    if !known {
        context.report(Event::Binding {
            address,
            mac,
            port: context.port,
        });
    }
}
