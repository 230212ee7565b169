//! Multicast groups of the L2 domain: memberships as the workers hear them, and the querier that
//! keeps them alive (RFC 2236; RFC 2710; RFC 4541).

use std::collections::BTreeMap;
use std::net::IpAddr;

use shunt_encap::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetRepr, HEADER_LEN};
use shunt_encap::igmp::{self, ALL_SYSTEMS, emit_query_v4};
use shunt_encap::membership::QueryVersion;
use shunt_encap::mld::{self, emit_query_v6};
use shunt_encap::ndp::{ALL_NODES, multicast_mac};

use super::daemon::Daemon;
use crate::config::Mode;
use crate::street::Said;
use crate::tables::{Multicast, PortId, Role};

/// Seconds between two general queries (RFC 2236, 8.2).
const QUERY_INTERVAL: u32 = 125;
/// Seconds without a report after which nobody listens (RFC 2236, 8.4).
const MEMBERSHIP_INTERVAL: u32 = 260;
/// Seconds without a query after which a querier is gone (RFC 2236, 8.5).
const QUERIER_INTERVAL: u32 = 255;
/// Time to answer a query: ten seconds, in tenths for IGMP and in milliseconds for MLD.
const RESPONSE_V4: u8 = 100;
const RESPONSE_V6: u16 = 10_000;
/// Memberships of one port: a pod that joins everything must not fill the memory.
const MAX_PER_PORT: usize = 256;

/// All memberships, each with the second of the switch's clock in which it ends.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    members: BTreeMap<(PortId, IpAddr), u32>,
    /// Ports from which a query came.
    routers: BTreeMap<PortId, u32>,
    /// When we ask next.
    next_query: u32,
}

impl Groups {
    /// Takes over what was heard; true when it changes who gets what.
    pub(crate) fn hear(&mut self, group: IpAddr, port: PortId, said: Said, now: u32) -> bool {
        match said {
            Said::Join => {
                let known = self.members.contains_key(&(port, group));
                if !known && self.of(port) >= MAX_PER_PORT {
                    log::debug!("{port} has joined {MAX_PER_PORT} groups: {group} is one too many");
                    return false;
                }
                self.members
                    .insert((port, group), now.saturating_add(MEMBERSHIP_INTERVAL));
                !known
            }
            // One pod is behind a port, so nobody else has to be asked.
            Said::Leave => self.members.remove(&(port, group)).is_some(),
            Said::Query => {
                let until = now.saturating_add(QUERIER_INTERVAL);
                self.routers.insert(port, until).is_none()
            }
        }
    }

    /// Forgets a port.
    pub(crate) fn forget(&mut self, port: PortId) {
        self.members.retain(|(member, _), _| *member != port);
        self.routers.remove(&port);
    }

    /// Forgets what has run out; true when there was any.
    pub(crate) fn expire(&mut self, now: u32) -> bool {
        let before = self.members.len() + self.routers.len();
        self.members.retain(|_, until| now < *until);
        self.routers.retain(|_, until| now < *until);
        self.members.len() + self.routers.len() != before
    }

    /// Whether it is time for a query of our own: a querier that is heard does it instead.
    pub(crate) fn asks(&mut self, now: u32) -> bool {
        if !self.routers.is_empty() || now < self.next_query {
            return false;
        }
        self.next_query = now.saturating_add(QUERY_INTERVAL);
        true
    }

    /// A port is new: what its pod has joined it says when it is asked, so ask soon.
    pub(crate) fn ask_soon(&mut self, now: u32) {
        self.next_query = self.next_query.min(now.saturating_add(1));
    }

    /// For the workers; `querier`: whether we ask ourselves.
    pub(crate) fn table(&self, querier: bool) -> Multicast {
        let routers = self.routers.keys().copied().collect();
        let members = self.members.keys().map(|(port, group)| (*group, *port));
        Multicast::new(querier || !self.routers.is_empty(), routers, members)
    }

    fn of(&self, port: PortId) -> usize {
        self.members
            .keys()
            .filter(|(member, _)| *member == port)
            .count()
    }
}

impl Daemon {
    /// A pod has spoken of a group.
    pub(super) fn membership(&mut self, group: IpAddr, port: PortId, said: Said) {
        let pod = self.ports.by_id(port).is_some_and(|r| r.role == Role::Pod);
        if pod && self.snoops() && self.groups.hear(group, port, said, self.clock.now()) {
            self.touch();
        }
    }

    /// Who gets which group; `None` where multicast is simply flooded.
    pub(super) fn multicast(&self) -> Option<Multicast> {
        self.snoops()
            .then(|| self.groups.table(self.config.l2.querier))
    }

    /// Every tick: memberships end, and the querier asks.
    pub(super) fn tend_groups(&mut self) {
        if !self.snoops() {
            return;
        }
        let now = self.clock.now();
        if self.groups.expire(now) {
            self.touch();
        }
        if self.config.l2.querier && self.groups.asks(now) {
            for frame in self.queries() {
                self.send_to_pods(&frame, |_| true);
            }
        }
    }

    fn snoops(&self) -> bool {
        self.config.mode == Mode::L2 && self.config.l2.snooping
    }

    /// A general query of each family, as whole frames.
    fn queries(&self) -> Vec<Vec<u8>> {
        let gateway = &self.config.gateway;
        let mut v4 = vec![0; HEADER_LEN + igmp::MAX_QUERY_LEN];
        let mut v6 = vec![0; HEADER_LEN + mld::MAX_QUERY_LEN];
        let made = [
            emit_query_v4(
                &mut v4[HEADER_LEN..],
                gateway.address,
                QueryVersion::New,
                RESPONSE_V4,
            ),
            emit_query_v6(
                &mut v6[HEADER_LEN..],
                gateway.address6,
                QueryVersion::New,
                RESPONSE_V6,
            ),
        ];
        let [a, b, c] = [1, 0, 0x5e];
        let [_, _, _, low] = ALL_SYSTEMS.octets();
        let headers = [
            ([a, b, c, 0, 0, low], ETHERTYPE_IPV4),
            (multicast_mac(ALL_NODES), ETHERTYPE_IPV6),
        ];
        let mut frames = Vec::new();
        for ((mut frame, length), (dst, ethertype)) in [v4, v6].into_iter().zip(made).zip(headers) {
            let header = EthernetRepr {
                dst,
                src: gateway.mac.0,
                ethertype,
            };
            // The buffers are long enough for both.
            if let Ok(length) = length
                && header.emit(&mut frame).is_ok()
            {
                frame.truncate(HEADER_LEN + length);
                frames.push(frame);
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> IpAddr {
        "239.1.2.3".parse().expect("a group")
    }

    #[test]
    fn members_come_stay_while_they_report_and_go() {
        let mut groups = Groups::default();
        assert!(groups.hear(group(), PortId(1), Said::Join, 0));
        assert!(!groups.hear(group(), PortId(1), Said::Join, 100), "known");
        assert!(!groups.expire(300), "reported at 100");
        assert_eq!(groups.table(true).ports(group()), [PortId(1)]);
        assert!(groups.expire(360));
        assert!(groups.table(true).ports(group()).is_empty());
        assert!(groups.hear(group(), PortId(2), Said::Join, 400));
        assert!(groups.hear(group(), PortId(2), Said::Leave, 401));
        assert!(!groups.hear(group(), PortId(2), Said::Leave, 402));
    }

    #[test]
    fn nothing_is_pruned_without_a_querier() {
        let mut groups = Groups::default();
        assert!(!groups.table(false).pruning);
        assert!(groups.table(true).pruning);
        let router = "10.244.1.9".parse().expect("an address");
        assert!(groups.hear(router, PortId(3), Said::Query, 0));
        assert!(groups.table(false).pruning);
        assert_eq!(groups.table(false).ports(group()), [PortId(3)]);
        assert!(groups.expire(255));
        assert!(!groups.table(false).pruning);
    }

    #[test]
    fn we_ask_only_while_nobody_else_does() {
        let mut groups = Groups::default();
        assert!(groups.asks(0));
        assert!(!groups.asks(124));
        assert!(groups.asks(125));
        let router = "10.244.1.9".parse().expect("an address");
        groups.hear(router, PortId(3), Said::Query, 130);
        assert!(!groups.asks(250));
        groups.forget(PortId(3));
        assert!(groups.asks(251));
    }

    #[test]
    fn a_new_port_is_asked_soon() {
        let mut groups = Groups::default();
        assert!(groups.asks(0));
        groups.ask_soon(10);
        assert!(!groups.asks(10));
        assert!(groups.asks(11));
        assert!(!groups.asks(12));
    }

    #[test]
    fn a_port_joins_a_bounded_number_of_groups() {
        let mut groups = Groups::default();
        for n in 0..MAX_PER_PORT as u32 + 9 {
            let group = std::net::Ipv4Addr::from(0xe800_0000 + n).into();
            groups.hear(group, PortId(1), Said::Join, 0);
        }
        assert_eq!(groups.of(PortId(1)), MAX_PER_PORT);
        assert!(groups.hear(group(), PortId(2), Said::Join, 0), "others may");
    }
}
