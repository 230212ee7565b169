//! Routes with all that a network configuration may say of them.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope};

use super::super::messages;
use super::super::{Netlink, NetlinkError};
use super::routes::{REMEDIES, RTMSG, Route};

/// The metric of IPv6 routes that name none (`IP6_RT_PRIO_USER`, include/uapi/linux/ipv6_route.h).
const IPV6_PRIORITY: u32 = 1024;

/// A unicast route out of one link with its metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailedRoute {
    /// Where to, over what.
    pub route: Route,
    /// The metric (`RTA_PRIORITY`); None for the family's usual one: 0 for IPv4, 1024 for IPv6.
    pub priority: Option<u32>,
    /// The largest TCP segment to announce in bytes (`RTAX_ADVMSS`); not read back.
    pub advmss: Option<u32>,
    /// `rtm_scope`; None for `link` without router and `universe` with one. IPv6 has none.
    pub scope: Option<u8>,
}

impl DetailedRoute {
    /// A route with nothing special about it.
    pub fn new(route: Route) -> Self {
        Self {
            route,
            priority: None,
            advmss: None,
            scope: None,
        }
    }

    /// Its metric as the kernel sees it.
    pub fn effective_priority(&self) -> u32 {
        match self.route.prefix {
            IpNet::V4(_) => self.priority.unwrap_or(0),
            IpNet::V6(_) => self.priority.filter(|&p| p > 0).unwrap_or(IPV6_PRIORITY),
        }
    }

    fn message(&self) -> RouteMessage {
        let mut message = self.route.new_message();
        if let Some(scope) = self.scope {
            message.header.scope = RouteScope::from(scope);
        }
        message
            .attributes
            .extend(self.priority.map(RouteAttribute::Priority));
        if let Some(advmss) = self.advmss {
            let advmss = RouteMetric::Advmss(advmss);
            let metrics = message.attributes.iter_mut().find_map(|one| match one {
                RouteAttribute::Metrics(metrics) => Some(metrics),
                _ => None,
            });
            match metrics {
                Some(metrics) => metrics.push(advmss),
                None => message
                    .attributes
                    .push(RouteAttribute::Metrics(vec![advmss])),
            }
        }
        message
    }
}

impl Netlink {
    /// Adds a route. False when there is one to that prefix with that metric in that table,
    /// whatever it looks like and whoever made it.
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENETDOWN or ENETUNREACH while the link is down, ENETUNREACH or
    /// EHOSTUNREACH for a router that is not on the link.
    pub fn add_detailed_route(&mut self, route: &DetailedRoute) -> Result<bool, NetlinkError> {
        self.change(
            &format!("RTM_NEWROUTE {}", route.route),
            RouteNetlinkMessage::NewRoute(route.message()),
            NLM_F_CREATE | NLM_F_EXCL,
            &[libc::EEXIST],
            REMEDIES,
        )
    }

    /// Adds a route, or puts it in the place of the one to that prefix with that metric in that
    /// table, whoever made that: ask before.
    ///
    /// # Errors
    /// As [`add_detailed_route`](Self::add_detailed_route).
    pub fn replace_detailed_route(&mut self, route: &DetailedRoute) -> Result<(), NetlinkError> {
        self.change(
            &format!("RTM_NEWROUTE {}", route.route),
            RouteNetlinkMessage::NewRoute(route.message()),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
            REMEDIES,
        )
        .map(drop)
    }

    /// The unicast routes of the family of `any`, of all tables, but those with several next hops.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn routes_of_family(&mut self, any: IpAddr) -> Result<Vec<DetailedRoute>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = super::family(any);
        let found = self.dump(
            "RTM_GETROUTE",
            &RouteNetlinkMessage::GetRoute(request),
            |message| {
                Some(DetailedRoute {
                    route: Route::parse(message)?,
                    priority: message
                        .attribute(RTMSG, libc::RTA_PRIORITY)
                        .and_then(messages::number),
                    advmss: None,
                    scope: messages::u8_at(message.payload, 6),
                })
            },
        );
        match found {
            // A kernel without IPv6.
            Err(error) if error.refusal() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            found => found,
        }
    }
}
