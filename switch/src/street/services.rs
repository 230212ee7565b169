//! Connections to services. kube-proxy gives a pod's packet to a ClusterIP another destination in
//! the node's kernel, and expects to see the reply there, to undo it. So what comes from the
//! node's stack with a pod of ours as its source is such a connection: its tuple is recorded, and
//! the packets of the other direction go to the node's stack instead of straight to the pod.
//!
//! The same holds for a remote node or its pod that has asked for a port of this node (a host port,
//! a NodePort with the policy Local): it keeps its address, and the pod's reply would leave by the
//! tunnel.

use std::net::IpAddr;

use shunt_afxdp::Frame;
use shunt_encap::Ipv4Packet;
use shunt_encap::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetFrame, HEADER_LEN};
use shunt_encap::extension::walk_v6;
use shunt_encap::ip::{
    PROTOCOL_DCCP, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP,
};

use super::ipv6::Fixed;
use super::{Context, Street, Verdict, icmp, packet};
use crate::tables::{Action, FlowKey, Role};

/// Where the flags are in a TCP header (RFC 9293, 3.1).
const TCP_FLAGS: usize = 13;

impl Street {
    /// Records and steers.
    #[inline]
    pub(super) fn services(&mut self, context: &Context<'_>, batch: &[Frame]) {
        if context.entry.role == Role::Host {
            self.record(context, batch);
        } else if !context.tables.flows.is_empty() {
            self.steer(context, batch);
        }
    }

    /// From the node's stack: what has a pod of ours as its source, or goes to one from beyond the
    /// underlay.
    fn record(&self, context: &Context<'_>, batch: &[Frame]) {
        for (frame, verdict) in batch.iter().zip(&self.verdicts) {
            let Some(to) = via(context, *verdict) else {
                continue;
            };
            let data = frame.data(context.pool.umem());
            let Some((key, flags)) = tuple(data, Fragment::First) else {
                continue;
            };
            let flows = &context.tables.flows;
            match context.next_hop(key.source).map(|(_, hop)| hop.action) {
                Some(from) if is_local(from) => {
                    flows.record(key, flags, context.now);
                }
                Some(Action::Underlay) if is_local(to) => {
                    flows.record_far(key, flags, context.now);
                }
                _ => {}
            }
        }
    }

    /// From elsewhere: what answers a recorded connection.
    #[inline(never)]
    fn steer(&mut self, context: &Context<'_>, batch: &[Frame]) {
        let far = context.entry.role == Role::Pod && context.tables.flows.has_far();
        for (frame, verdict) in batch.iter().zip(&mut self.verdicts) {
            let data = frame.data(context.pool.umem());
            let to_client = match *verdict {
                Verdict::Via(_) => via(context, *verdict)
                    .is_some_and(|action| is_local(action) || (far && action == Action::Underlay)),
                Verdict::Out(_) => is_ip(data),
                _ => false,
            };
            if !to_client {
                continue;
            }
            let Some((key, flags)) = tuple(data, Fragment::Whole) else {
                continue;
            };
            let flows = &context.tables.flows;
            if !flows.is_reply(key, flags, context.now) && !is_about_flow(context, data, key) {
                continue;
            }
            let family = usize::from(key.source.is_ipv6());
            if let Some(host) = context.tables.to_host.get(family).copied().flatten() {
                *verdict = Verdict::Via(host);
            }
        }
    }
}

/// What the next hop of a routed frame does.
fn via(context: &Context<'_>, verdict: Verdict) -> Option<Action> {
    let Verdict::Via(index) = verdict else {
        return None;
    };
    let hop = context.tables.next_hops.get(usize::from(index))?;
    Some(hop.action)
}

fn is_local(action: Action) -> bool {
    matches!(action, Action::Deliver | Action::Wait)
}

fn is_ip(data: &[u8]) -> bool {
    EthernetFrame::new_checked(data)
        .is_ok_and(|header| matches!(header.ethertype(), ETHERTYPE_IPV4 | ETHERTYPE_IPV6))
}

/// Whether a packet is an ICMP error about a packet of a recorded connection.
fn is_about_flow(context: &Context<'_>, data: &[u8], key: FlowKey) -> bool {
    if !matches!(key.protocol, PROTOCOL_ICMP | PROTOCOL_ICMPV6) {
        return false;
    }
    icmp::about(data).is_some_and(|about| {
        // It quotes the packet that was sent on, and goes to whoever sent that. It keeps nothing
        // alive: anyone may quote anything.
        let quoted = FlowKey {
            source: about.src,
            destination: about.dst,
            protocol: about.protocol,
            source_port: about.src_port,
            destination_port: about.dst_port,
        };
        about.src == key.destination && context.tables.flows.contains(quoted)
    })
}

/// Which fragments are asked for their ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fragment {
    /// The one that has them: the reply of a connection may be whole.
    First,
    /// No fragment, so that all of them go one way.
    Whole,
}

/// The tuple of the IP packet that starts 14 bytes into a frame, and the flags of TCP. Most
/// fragments have no ports, nor have most protocols.
fn tuple(data: &[u8], ask: Fragment) -> Option<(FlowKey, Option<u8>)> {
    let bytes = data.get(HEADER_LEN..)?;
    let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, Option<&[u8]>) =
        match packet::version(data) {
            4 => {
                let packet = Ipv4Packet::new_checked_head(bytes, usize::from(u16::MAX)).ok()?;
                let payload = bytes.get(packet.header_len()..).unwrap_or_default();
                let whole = !packet.is_fragment()
                    || (ask == Fragment::First && packet.fragment_offset() == 0);
                (
                    packet.src().into(),
                    packet.dst().into(),
                    packet.protocol(),
                    whole.then_some(payload),
                )
            }
            6 => {
                let fixed = Fixed::read(bytes, usize::MAX).ok()?;
                let upper = walk_v6(bytes).ok()?;
                let payload = bytes.get(upper.offset..).unwrap_or_default();
                let whole = upper.fragment.is_none()
                    || (ask == Fragment::First && !upper.is_later_fragment());
                (
                    fixed.source.into(),
                    fixed.destination.into(),
                    upper.protocol,
                    whole.then_some(payload),
                )
            }
            _ => return None,
        };
    let ported = matches!(
        protocol,
        PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP | PROTOCOL_DCCP
    );
    let (source_port, destination_port) = match payload.and_then(|bytes| bytes.first_chunk()) {
        Some([a, b, c, d]) if ported => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ => (0, 0),
    };
    let flags = match payload {
        Some(payload) if protocol == PROTOCOL_TCP => payload.get(TCP_FLAGS).copied(),
        _ => None,
    };
    let key = FlowKey {
        source,
        destination,
        protocol,
        source_port,
        destination_port,
    };
    Some((key, flags))
}
