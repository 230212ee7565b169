//! Ingress of a pod's port: what is this frame, and is it for the gateway?

use std::sync::atomic::Ordering;

use shunt_afxdp::Frame;
use shunt_api::MacAddr;
use shunt_encap::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetFrame};

use super::{Context, Event, Street, Verdict, arp, ipv4};
use crate::config::Mode;
use crate::stats::DropReason;

impl Street {
    /// One verdict per frame; routed packets are gathered for `forward`.
    pub(super) fn pod_ingress(&mut self, context: &mut Context<'_>, batch: &mut [Frame]) {
        let gateway = context.tables.gateway_mac;
        for frame in batch {
            let (dst, src, ethertype) =
                match EthernetFrame::new_checked(frame.data(context.pool.umem())) {
                    Ok(header) => (
                        MacAddr(header.dst()),
                        MacAddr(header.src()),
                        header.ethertype(),
                    ),
                    Err(_) => {
                        self.verdicts
                            .push(Verdict::Drop(DropReason::TruncatedFrame));
                        continue;
                    }
                };
            let verdict = if src.is_multicast() || src.is_zero() {
                Verdict::Drop(DropReason::BadSourceMac)
            } else if src == gateway {
                Verdict::Drop(DropReason::SpoofedGateway)
            } else {
                match context.tables.mode {
                    Mode::L3 => l3(context, frame, dst, ethertype),
                    Mode::L2 => l2(context, frame, dst, src, ethertype),
                }
            };
            if verdict != Verdict::Route {
                self.verdicts.push(verdict);
                continue;
            }
            match ipv4::admit(frame, context.pool, context.entry.partial_checksums) {
                Ok(packet) => self.route(packet.source, packet.destination, None),
                Err(reason) => self.verdicts.push(Verdict::Drop(reason)),
            }
        }
    }
}

/// L3 mode: everything goes through the gateway.
#[inline]
fn l3(context: &mut Context<'_>, frame: &mut Frame, dst: MacAddr, ethertype: u16) -> Verdict {
    let to_gateway = dst == context.tables.gateway_mac;
    match ethertype {
        ETHERTYPE_IPV4 if to_gateway => Verdict::Route,
        ETHERTYPE_ARP if to_gateway || dst.is_multicast() => arp::hear(context, frame),
        ETHERTYPE_IPV4 if dst.is_multicast() => Verdict::Drop(DropReason::MulticastNotRouted),
        ETHERTYPE_IPV6 => Verdict::Drop(DropReason::Ipv6Unsupported),
        ETHERTYPE_IPV4 | ETHERTYPE_ARP => Verdict::Drop(DropReason::NotForGateway),
        _ => Verdict::Drop(DropReason::UnsupportedEthertype),
    }
}

/// L2 mode: the gateway is one station among others.
#[inline]
fn l2(
    context: &mut Context<'_>,
    frame: &mut Frame,
    dst: MacAddr,
    src: MacAddr,
    ethertype: u16,
) -> Verdict {
    let tables = context.tables;
    let domain = context.entry.domain;
    let Some(bridge) = tables.domains.get(domain.index()) else {
        return Verdict::Drop(DropReason::NoFloodTarget);
    };
    if bridge.fdb.refresh(src, context.now) != Some(context.port)
        && let Err(reason) = station(context, src)
    {
        return Verdict::Drop(reason);
    }
    if dst == tables.gateway_mac {
        return match ethertype {
            ETHERTYPE_IPV4 => Verdict::Route,
            ETHERTYPE_ARP => arp::hear(context, frame),
            ETHERTYPE_IPV6 => Verdict::Drop(DropReason::Ipv6Unsupported),
            _ => Verdict::Drop(DropReason::UnsupportedEthertype),
        };
    }
    if ethertype == ETHERTYPE_ARP && dst.is_multicast() {
        return arp::overhear(context, frame, domain);
    }
    if ethertype == ETHERTYPE_IPV4 && context.entry.partial_checksums {
        ipv4::note_partial_l4(frame, context.pool);
    }
    if dst.is_multicast() {
        return Verdict::Flood(domain);
    }
    match bridge.fdb.lookup(dst) {
        Some(port) if port == context.port => Verdict::Drop(DropReason::SamePort),
        Some(port) => Verdict::Out(port),
        None => Verdict::Flood(domain),
    }
}

/// A station that is not known behind this port: tell the control thread, unless there is no room.
fn station(context: &mut Context<'_>, mac: MacAddr) -> Result<(), DropReason> {
    if context.entry.fdb_full.load(Ordering::Relaxed) {
        return Err(DropReason::FdbLimit);
    }
    context.report(Event::Station {
        mac,
        port: context.port,
    });
    Ok(())
}
