//! Ingress of a pod's port and of the node's own stack: what is this frame, may it come from here,
//! and is it for the gateway?

use std::sync::atomic::Ordering;

use shunt_afxdp::Frame;
use shunt_api::MacAddr;
use shunt_encap::Ipv4Packet;
use shunt_encap::ethernet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetFrame, HEADER_LEN,
};
use shunt_encap::extension::walk_v6;

use super::ipv6::{Admitted, Fixed};
use super::{Context, Event, Street, Verdict, arp, guard, ipv4, ipv6, multicast, ndp, partial};
use crate::config::Mode;
use crate::stats::DropReason;
use crate::tables::{DomainId, Guard};

/// Addresses and type of an Ethernet frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) dst: MacAddr,
    pub(super) src: MacAddr,
    pub(super) ethertype: u16,
}

impl Link {
    #[inline]
    pub(super) fn read(data: &[u8]) -> Result<Self, DropReason> {
        let header = EthernetFrame::new_checked(data).map_err(|_| DropReason::TruncatedFrame)?;
        Ok(Self {
            dst: MacAddr(header.dst()),
            src: MacAddr(header.src()),
            ethertype: header.ethertype(),
        })
    }
}

impl Street {
    /// One verdict per frame of a pod's; routed packets are gathered for `forward`.
    pub(super) fn pod_ingress(&mut self, context: &mut Context<'_>, batch: &mut [Frame]) {
        self.each_frame(context, batch, Self::pod_frame);
    }

    /// One verdict per frame of the node's own stack, which routes to the pods through the gateway
    /// as a pod does to the world.
    pub(super) fn host_ingress(&mut self, context: &mut Context<'_>, batch: &mut [Frame]) {
        self.each_frame(context, batch, Self::gateway_frame);
    }

    #[inline]
    fn each_frame(
        &mut self,
        context: &mut Context<'_>,
        batch: &mut [Frame],
        judge: impl Fn(&mut Self, &mut Context<'_>, &mut Frame, Link) -> Result<Verdict, DropReason>,
    ) {
        for frame in batch {
            let verdict = match Link::read(frame.data(context.pool.umem())) {
                Ok(link) => judge(self, context, frame, link),
                Err(reason) => Err(reason),
            };
            match verdict {
                // Its verdict is there already.
                Ok(Verdict::Route) => {}
                Ok(verdict) => self.verdicts.push(verdict),
                Err(reason) => self.verdicts.push(Verdict::Drop(reason)),
            }
        }
    }

    #[inline]
    fn pod_frame(
        &mut self,
        context: &mut Context<'_>,
        frame: &mut Frame,
        link: Link,
    ) -> Result<Verdict, DropReason> {
        let gateway = context.tables.gateway_mac;
        if link.src.is_multicast() || link.src.is_zero() {
            return Err(DropReason::BadSourceMac);
        }
        if link.src == gateway {
            return Err(DropReason::SpoofedGateway);
        }
        if let Some(guard) = &context.entry.guard {
            guard::mac(guard, link.src)?;
        }
        if context.tables.mode == Mode::L2 {
            let domain = station(context, link.src)?;
            if link.dst != gateway {
                return l2(context, frame, link, domain);
            }
        }
        self.gateway_frame(context, frame, link)
    }

    /// A frame that only the gateway may be meant by.
    #[inline]
    fn gateway_frame(
        &mut self,
        context: &mut Context<'_>,
        frame: &mut Frame,
        link: Link,
    ) -> Result<Verdict, DropReason> {
        let to_gateway = link.dst == context.tables.gateway_mac;
        match link.ethertype {
            ETHERTYPE_IPV4 if to_gateway => self.route_v4(context, frame),
            ETHERTYPE_IPV6 if to_gateway || link.dst.is_multicast() => {
                self.route_v6(context, frame, link)
            }
            ETHERTYPE_ARP if to_gateway || link.dst.is_multicast() => {
                arp::hear(context, frame, link)
            }
            ETHERTYPE_IPV4 if link.dst.is_multicast() => Err(DropReason::MulticastNotRouted),
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 | ETHERTYPE_ARP => Err(DropReason::NotForGateway),
            _ => Err(DropReason::UnsupportedEthertype),
        }
    }

    /// An IPv4 packet to the gateway's MAC.
    #[inline]
    fn route_v4(
        &mut self,
        context: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Result<Verdict, DropReason> {
        let (source, destination) = ipv4::admit(context, frame)?;
        self.route_from_v4(source, destination, None);
        Ok(Verdict::Route)
    }

    /// An IPv6 packet to the gateway's MAC, or one that every neighbour hears.
    #[inline]
    fn route_v6(
        &mut self,
        context: &mut Context<'_>,
        frame: &mut Frame,
        link: Link,
    ) -> Result<Verdict, DropReason> {
        // What all neighbours hear is for none of them to carry on, nor to be told about
        // (RFC 1812, 5.3.4; RFC 4443, 2.4 (e)).
        let heard_by_all = link.dst != context.tables.gateway_mac;
        match ipv6::admit(context, frame) {
            Err(DropReason::LinkLocal) | Ok(Admitted::Routable(..)) if heard_by_all => {
                Err(DropReason::NotForGateway)
            }
            Err(reason) => Err(reason),
            Ok(Admitted::Routable(source, destination)) => {
                self.route_from_v6(source, destination, None);
                Ok(Verdict::Route)
            }
            Ok(Admitted::Local(upper)) => ndp::hear(context, frame, link, &upper),
        }
    }
}

/// The MAC table hears of the sender. Returns the domain that the frame is bridged in.
#[inline]
fn station(context: &mut Context<'_>, source: MacAddr) -> Result<DomainId, DropReason> {
    let domain = context.entry.domain;
    let bridge = context
        .tables
        .domains
        .get(domain.index())
        .ok_or(DropReason::NoFloodTarget)?;
    if bridge.fdb.refresh(source, context.now) != Some(context.port) {
        unknown_station(context, source)?;
    }
    Ok(domain)
}

/// A station that is not known behind this port: tell the control thread, unless there is no room
/// or the attachment of another pod says that it is that one's.
#[cold]
fn unknown_station(context: &mut Context<'_>, mac: MacAddr) -> Result<(), DropReason> {
    let domain = context.tables.domains.get(context.entry.domain.index());
    if context.entry.guard.is_some() && domain.is_some_and(|domain| domain.fdb.is_static(mac)) {
        return Err(DropReason::SpoofedMac);
    }
    if context.entry.fdb_full.load(Ordering::Relaxed) {
        return Err(DropReason::FdbLimit);
    }
    context.report(Event::Station {
        mac,
        port: context.port,
    });
    Ok(())
}

/// L2 mode: a frame to another station than the gateway.
#[inline]
fn l2(
    context: &mut Context<'_>,
    frame: &mut Frame,
    link: Link,
    domain: DomainId,
) -> Result<Verdict, DropReason> {
    match link.ethertype {
        ETHERTYPE_ARP => {
            let verdict = arp::overhear(context, frame, link)?;
            if let Some(verdict) = verdict {
                return Ok(verdict);
            }
        }
        ETHERTYPE_IPV4 => {
            if let Some(guard) = &context.entry.guard {
                bridged_v4(context, guard, frame)?;
            }
            if context.entry.partial_checksums {
                partial::note_bridged_v4(frame, context.pool);
            }
        }
        ETHERTYPE_IPV6 => {
            if let Some(verdict) = bridged_v6(context, frame, link)? {
                return Ok(verdict);
            }
            if context.entry.partial_checksums {
                partial::note_bridged_v6(frame, context.pool);
            }
        }
        // The receiver may look behind it, so a guard would have to.
        hidden if context.entry.guard.is_some() && guard::hides(hidden) => {
            return Err(DropReason::UnsupportedEthertype);
        }
        _ => {}
    }
    if !link.dst.is_multicast() {
        let fdb = context.tables.domains.get(domain.index()).map(|d| &d.fdb);
        match fdb.and_then(|fdb| fdb.lookup(link.dst)) {
            Some(port) if port == context.port => return Err(DropReason::SamePort),
            Some(port) => return Ok(Verdict::Out(port)),
            None => {}
        }
    }
    if matches!(link.ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) && link.dst.is_multicast() {
        multicast::listen(context, frame)?;
    }
    flood(context, domain)
}

/// Takes one flood out of the port's budget.
fn flood(context: &mut Context<'_>, domain: DomainId) -> Result<Verdict, DropReason> {
    context.budget.flood = context
        .budget
        .flood
        .checked_sub(1)
        .ok_or(DropReason::StormLimit)?;
    Ok(Verdict::Flood(domain))
}

/// The guard of a bridged IPv4 packet. One without an address yet asks for one by DHCP
/// (RFC 2131, 4.1), or about its group by IGMP (RFC 3376, 4.2.13).
fn bridged_v4(context: &Context<'_>, guard: &Guard, frame: &Frame) -> Result<(), DropReason> {
    let available = frame.len().saturating_sub(HEADER_LEN);
    let data = frame.data(context.pool.umem());
    let bytes = data.get(HEADER_LEN..).ok_or(DropReason::TruncatedFrame)?;
    let packet = Ipv4Packet::new_checked_head(bytes, available).map_err(ipv4::malformed)?;
    let to_all = packet.dst().is_broadcast() || packet.dst().is_multicast();
    if packet.src().is_unspecified() && to_all {
        guard::content_v4(context, &packet)
    } else {
        guard::ipv4(context, guard, &packet)
    }
}

/// The guard of a bridged IPv6 packet; and discovery, which may be for the gateway.
fn bridged_v6(
    context: &mut Context<'_>,
    frame: &mut Frame,
    link: Link,
) -> Result<Option<Verdict>, DropReason> {
    let upper = {
        let available = frame.len().saturating_sub(HEADER_LEN);
        let data = frame.data(context.pool.umem());
        let bytes = data.get(HEADER_LEN..).ok_or(DropReason::TruncatedFrame)?;
        let fixed = Fixed::read(bytes, available)?;
        let upper = walk_v6(bytes).map_err(ipv6::refused)?;
        if let Some(guard) = &context.entry.guard {
            guard::ipv6(context, guard, &fixed, &upper, bytes)?;
        }
        if !ipv6::is_discovery(&upper, bytes) {
            return Ok(None);
        }
        upper
    };
    ndp::overhear(context, frame, link, &upper)
}
