//! Ingress of the node's own stack: the kernel routes to the pods through the gateway, as a pod
//! does to the world.

use shunt_afxdp::Frame;
use shunt_encap::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

use super::ingress::Link;
use super::{Context, Street, Verdict, arp};
use crate::stats::DropReason;

impl Street {
    /// One verdict per frame; routed packets are gathered for `forward`.
    pub(super) fn host_ingress(&mut self, context: &mut Context<'_>, batch: &mut [Frame]) {
        for frame in batch {
            let verdict = match Link::read(frame.data(context.pool.umem())) {
                Ok(link) => self.host_frame(context, frame, link),
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

    fn host_frame(
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
}
