//! Making, changing and deleting routes: `RTM_NEWROUTE` and `RTM_DELROUTE` of rtnetlink(7).

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};

use super::super::messages::{self, Message};
use super::super::{Netlink, NetlinkError};
use super::family;

/// Who made a route or a rule (`rtm_protocol`, `FRA_PROTOCOL`): ours. Of the numbers that
/// include/uapi/linux/rtnetlink.h and iproute2's `rt_protos` leave free.
pub const RTPROT_SHUNT: u8 = 83;

/// The routing table that holds a host's usual routes (`RT_TABLE_MAIN`).
pub const TABLE_MAIN: u32 = 254;

/// Size of `struct rtmsg`: family, prefix lengths, TOS, table, protocol, scope, type, flags.
pub(super) const RTMSG: usize = 12;
/// `RTAX_MTU`, include/uapi/linux/rtnetlink.h.
const RTAX_MTU: u16 = 2;
/// `RTNH_F_ONLINK`, include/uapi/linux/rtnetlink.h.
const RTNH_F_ONLINK: u32 = 4;
/// `RTM_F_CLONED`, include/uapi/linux/rtnetlink.h: no route but what was learned of one address.
const RTM_F_CLONED: u32 = 0x200;

/// A unicast route out of one link, as the kernel keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// The addresses that it leads to.
    pub prefix: IpNet,
    /// The router, of the same family; None when they are on the link.
    pub via: Option<IpAddr>,
    /// The link's index.
    pub ifindex: u32,
    /// The router is reached over the link even though no address of the link says so
    /// (`RTNH_F_ONLINK`).
    pub onlink: bool,
    /// The source address of packets of this host that do not choose one: one of its own.
    pub source: Option<IpAddr>,
    /// The path's MTU in bytes; None for the link's.
    pub mtu: Option<u32>,
    /// The routing table.
    pub table: u32,
    /// Who made it: [`RTPROT_SHUNT`].
    pub protocol: u8,
}

impl Route {
    /// Reads an `RTM_NEWROUTE`; None for other messages, types of routes, and for routes with
    /// several next hops.
    pub(super) fn parse(message: &Message<'_>) -> Option<Self> {
        if message.kind != libc::RTM_NEWROUTE
            || messages::u8_at(message.payload, 7)? != libc::RTN_UNICAST
        {
            return None;
        }
        let flags = messages::u32_at(message.payload, 8)?;
        if flags & RTM_F_CLONED != 0 {
            return None;
        }
        let any = match i32::from(messages::u8_at(message.payload, 0)?) {
            libc::AF_INET => IpAddr::from([0u8; 4]),
            libc::AF_INET6 => IpAddr::from([0u8; 16]),
            _ => return None,
        };
        let attribute = |kind| message.attribute(RTMSG, kind);
        let address = |kind| attribute(kind).and_then(messages::address);
        let length = messages::u8_at(message.payload, 1)?;
        let table = u32::from(messages::u8_at(message.payload, 4)?);
        Some(Self {
            prefix: IpNet::new(address(libc::RTA_DST).unwrap_or(any), length).ok()?,
            via: address(libc::RTA_GATEWAY),
            ifindex: attribute(libc::RTA_OIF).and_then(messages::number)?,
            onlink: flags & RTNH_F_ONLINK != 0,
            source: address(libc::RTA_PREFSRC),
            mtu: attribute(libc::RTA_METRICS)
                .and_then(|metrics| messages::attribute(metrics, RTAX_MTU))
                .and_then(messages::number)
                .filter(|&mtu| mtu > 0),
            table: attribute(libc::RTA_TABLE)
                .and_then(messages::number)
                .unwrap_or(table),
            protocol: messages::u8_at(message.payload, 5)?,
        })
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.prefix.addr());
        message.header.destination_prefix_length = self.prefix.prefix_len();
        message.header.protocol = RouteProtocol::from(self.protocol);
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::from(self.prefix.network())),
            RouteAttribute::Oif(self.ifindex),
            RouteAttribute::Table(self.table),
        ];
        if let Some(via) = self.via {
            message
                .attributes
                .push(RouteAttribute::Gateway(RouteAddress::from(via)));
        }
        message
    }

    pub(super) fn new_message(&self) -> RouteMessage {
        let mut message = self.message();
        message.header.kind = RouteType::Unicast;
        message.header.scope = match self.via {
            Some(_) => RouteScope::Universe,
            None => RouteScope::Link,
        };
        if self.onlink {
            message.header.flags = RouteFlags::Onlink;
        }
        if let Some(source) = self.source {
            message
                .attributes
                .push(RouteAttribute::PrefSource(RouteAddress::from(source)));
        }
        if let Some(mtu) = self.mtu {
            message
                .attributes
                .push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        }
        message
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.prefix)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " on link {}", self.ifindex)?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        match self.table {
            TABLE_MAIN => Ok(()),
            table => write!(f, " table {table}"),
        }
    }
}

/// What the kernel's refusals of a route mean (`fib_create_info`, net/ipv4/fib_semantics.c;
/// `ip6_route_info_create`, net/ipv6/route.c).
pub(super) const REMEDIES: &[(i32, &str)] = &[
    (libc::ENODEV, "there is no such link (any more)"),
    (libc::ENETDOWN, "the link is down: set it up"),
    (
        libc::ENETUNREACH,
        "the router is not on the link: set the link up, or make the route `onlink`",
    ),
    (
        libc::EHOSTUNREACH,
        "the router is not on the link: set the link up, or make the route `onlink`",
    ),
    (
        libc::EINVAL,
        "are router and source of the prefix's family, and is the source this host's own?",
    ),
];

impl Netlink {
    /// Adds a route with the family's usual metric. False when there is one to that prefix with
    /// that metric in that table, whatever it looks like and whoever made it.
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENETDOWN or ENETUNREACH while the link is down.
    pub fn add_route(&mut self, route: &Route) -> Result<bool, NetlinkError> {
        self.change(
            &format!("RTM_NEWROUTE {route}"),
            RouteNetlinkMessage::NewRoute(route.new_message()),
            NLM_F_CREATE | NLM_F_EXCL,
            &[libc::EEXIST],
            REMEDIES,
        )
    }

    /// Adds a route, or puts it in the place of the one to that prefix with the family's usual
    /// metric in that table, whoever made that: ask before.
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENETDOWN or ENETUNREACH while the link is down.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.change(
            &format!("RTM_NEWROUTE {route}"),
            RouteNetlinkMessage::NewRoute(route.new_message()),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
            REMEDIES,
        )
        .map(drop)
    }

    /// Deletes the route to that prefix over that router and link in that table, if it is of that
    /// protocol; source and MTU do not matter. False when there is none.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn delete_route(&mut self, route: &Route) -> Result<bool, NetlinkError> {
        let mut request = route.message();
        // IPv4 compares the scope unless it is this one (`fib_table_delete`, net/ipv4/fib_trie.c).
        request.header.scope = RouteScope::NoWhere;
        self.change(
            &format!("RTM_DELROUTE {route}"),
            RouteNetlinkMessage::DelRoute(request),
            0,
            &[libc::ESRCH, libc::ENODEV],
            &[],
        )
    }

    /// The routes of one protocol out of the link with that index, of both families and all tables.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn routes_of(&mut self, ifindex: u32, protocol: u8) -> Result<Vec<Route>, NetlinkError> {
        let mut found = Vec::new();
        for any in [IpAddr::from([0u8; 4]), IpAddr::from([0u8; 16])] {
            let mut request = RouteMessage::default();
            request.header.address_family = family(any);
            request.header.protocol = RouteProtocol::from(protocol);
            request.attributes.push(RouteAttribute::Oif(ifindex));
            // The kernel sorts out the others itself (Linux 4.20 and newer), which counts where
            // it holds the Internet's table. Without, it tells of all, and the filter is below.
            let _ = self.socket.set_netlink_get_strict_chk(true);
            let dumped = self.dump(
                &format!("RTM_GETROUTE of link {ifindex}"),
                &RouteNetlinkMessage::GetRoute(request),
                |message| {
                    Route::parse(message)
                        .filter(|route| route.ifindex == ifindex && route.protocol == protocol)
                },
            );
            let _ = self.socket.set_netlink_get_strict_chk(false);
            match dumped {
                Ok(routes) => found.extend(routes),
                // A kernel without IPv6, and a link that is gone.
                Err(error) if matches!(error.refusal(), Some(libc::EOPNOTSUPP | libc::ENODEV)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
