//! ARP (RFC 826): the gateway's answers, and what pods say of themselves.

use shunt_afxdp::Frame;
use shunt_api::MacAddr;
use shunt_encap::ethernet::{EthernetFrame, HEADER_LEN};
use shunt_encap::{ArpOperation, ArpPacket, ArpRepr};
use shunt_fib::NextHopIndex;

use super::{Context, Event, Verdict};
use crate::config::Mode;
use crate::stats::DropReason;
use crate::tables::{Action, DomainId, PortId};

/// ARP that only the switch hears: to the gateway's MAC, or any in L3 mode, where the gateway
/// answers for every address but the asker's own (proxy ARP, RFC 1027).
pub(super) fn hear(context: &mut Context<'_>, frame: &mut Frame) -> Verdict {
    let packet = match read(context, frame) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(reason),
    };
    learn(context, &packet);
    let asks = packet.operation == ArpOperation::Request;
    let for_gateway = packet.target_protocol_addr == context.tables.gateway;
    // A probe (RFC 5227, 2.1.1: sender address zero) asks whether an address is taken, and an
    // announcement tells: proxying for either would take the pod's own address from it.
    let probe = packet.sender_protocol_addr.is_unspecified();
    let about_itself = packet.sender_protocol_addr == packet.target_protocol_addr;
    let proxied = context.tables.mode == Mode::L3
        && !probe
        && !about_itself
        && local_port(context, packet.target_protocol_addr.into()) != Some(context.port);
    if asks && (for_gateway || proxied) {
        answer(context, frame, &packet)
    } else {
        Verdict::Consumed
    }
}

/// ARP that the whole domain hears (L2 mode): requests for the gateway are answered, the rest is
/// flooded.
pub(super) fn overhear(context: &mut Context<'_>, frame: &mut Frame, domain: DomainId) -> Verdict {
    let packet = match read(context, frame) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(reason),
    };
    learn(context, &packet);
    let for_gateway = packet.target_protocol_addr == context.tables.gateway;
    if packet.operation == ArpOperation::Request && for_gateway {
        answer(context, frame, &packet)
    } else {
        Verdict::Flood(domain)
    }
}

fn read(context: &mut Context<'_>, frame: &Frame) -> Result<ArpRepr, DropReason> {
    *context.slow_budget = context
        .slow_budget
        .checked_sub(1)
        .ok_or(DropReason::SlowPathLimit)?;
    let data = frame.data(context.pool.umem());
    let bytes = data.get(HEADER_LEN..).ok_or(DropReason::BadArp)?;
    let packet = ArpPacket::new_checked(bytes).map_err(|_| DropReason::BadArp)?;
    Ok(ArpRepr::parse(&packet))
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
    if address.is_unspecified() || mac.is_multicast() || mac.is_zero() {
        return;
    }
    if !is_known(context, address.into(), mac) {
        context.report(Event::Binding {
            address,
            mac,
            port: context.port,
        });
    }
}

fn is_known(context: &Context<'_>, address: u32, mac: MacAddr) -> bool {
    let hop = context.fib.lookup(address.into()).map(NextHopIndex::get);
    hop.and_then(|hop| context.tables.next_hops.get(usize::from(hop)))
        .is_some_and(|hop| {
            hop.action == Action::Deliver
                && hop.port == context.port
                && hop.header.as_bytes().starts_with(&mac.0)
        })
}

/// The port of the local pod that has `address`.
fn local_port(context: &Context<'_>, address: u32) -> Option<PortId> {
    let hop = context.fib.lookup(address.into())?;
    let hop = context.tables.next_hops.get(usize::from(hop.get()))?;
    (hop.action == Action::Deliver).then_some(hop.port)
}
