//! Links that name their owner, and the other end of a veth in another network namespace, read
//! from here (`IFLA_LINK_NETNSID`, `IFLA_TARGET_NETNSID`, `IFA_TARGET_NETNSID` of rtnetlink(7)).

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use shunt_api::MacAddr;

use super::links::{IFADDRMSG, IFINFOMSG, Link, parse_address};
use super::messages::{self, Message};
use super::{Netlink, NetlinkError};

/// `IFLA_LINK`, `IFLA_QDISC`, `IFLA_OPERSTATE`, `IFLA_IFALIAS`, `IFLA_LINK_NETNSID` and
/// `IFLA_TARGET_NETNSID`, include/uapi/linux/if_link.h.
const IFLA_LINK: u16 = 5;
const IFLA_QDISC: u16 = 6;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_IFALIAS: u16 = 20;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;
/// `IFA_TARGET_NETNSID`, include/uapi/linux/if_addr.h.
const IFA_TARGET_NETNSID: u16 = 10;
/// `IF_OPER_UNKNOWN` and `IF_OPER_UP`, include/uapi/linux/if.h (RFC 2863).
const IF_OPER_UNKNOWN: u8 = 0;
const IF_OPER_UP: u8 = 6;

/// A link, whose it is, and where its other end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkDetails {
    /// The link.
    pub link: Link,
    /// The alias (`IFLA_IFALIAS`) that somebody gave it.
    pub alias: Option<String>,
    /// The other end, when that is in another network namespace.
    pub other_end: Option<OtherEnd>,
    /// It is up with a carrier, and the kernel has put its queue in place: what is sent goes out.
    /// Before, there is a moment in which it is thrown away (`noop_qdisc`, net/sched/sch_generic.c).
    pub ready: bool,
}

/// A veth's other end in another network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherEnd {
    /// Its index there.
    pub index: u32,
    /// The number by which this network namespace knows the other one.
    pub netns: i32,
}

impl LinkDetails {
    fn parse(message: &Message<'_>) -> Option<Self> {
        let link = Link::parse(message)?;
        let attribute = |kind| message.attribute(IFINFOMSG, kind);
        let other_end = || {
            Some(OtherEnd {
                index: attribute(IFLA_LINK).and_then(messages::number)?,
                netns: attribute(IFLA_LINK_NETNSID)
                    .and_then(messages::number)?
                    .cast_signed(),
            })
        };
        let state = attribute(IFLA_OPERSTATE).and_then(|state| messages::u8_at(state, 0));
        let queue = attribute(IFLA_QDISC).and_then(messages::string);
        Some(Self {
            alias: attribute(IFLA_IFALIAS).and_then(messages::string),
            other_end: other_end(),
            ready: link.up
                && link.running
                // Devices without a carrier's notion, such as a TAP, stay unknown.
                && matches!(state, Some(IF_OPER_UNKNOWN | IF_OPER_UP))
                && queue.is_none_or(|queue| queue != "noop"),
            link,
        })
    }
}

impl Netlink {
    /// The link of that name with its details; None when there is none.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn link_details(&mut self, name: &str) -> Result<Option<LinkDetails>, NetlinkError> {
        self.link_by_name(name, LinkDetails::parse)
    }

    /// All veths of the network namespace.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn veths(&mut self) -> Result<Vec<LinkDetails>, NetlinkError> {
        let mut request = LinkMessage::default();
        // The kernel sorts out the others itself where it can.
        request
            .attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
                InfoKind::Veth,
            )]));
        let request = RouteNetlinkMessage::GetLink(request);
        self.dump("RTM_GETLINK of veths", &request, |message| {
            LinkDetails::parse(message)
                .filter(|details| details.link.kind.as_deref() == Some("veth"))
        })
    }

    /// The MAC address of a veth's other end. None when it is gone.
    ///
    /// # Errors
    /// See [`NetlinkError`]: EPERM when that network namespace is none of ours.
    pub fn mac_elsewhere(&mut self, end: OtherEnd) -> Result<Option<MacAddr>, NetlinkError> {
        let mut request = LinkMessage::default();
        request.header.index = end.index;
        request.attributes.push(LinkAttribute::IfNetnsId(end.netns));
        let request = RouteNetlinkMessage::GetLink(request);
        let mut mac = None;
        let answered = self.request(&operation("RTM_GETLINK", end), request, 0, |message| {
            // An old kernel ignores the attribute and tells of a link here.
            if message.attribute(IFINFOMSG, IFLA_TARGET_NETNSID).is_some() {
                mac = mac.or_else(|| Link::parse(message)?.mac);
            }
        });
        gone_is_none(answered)?;
        Ok(mac)
    }

    /// The addresses of a veth's other end, each with its prefix length; none when it is gone.
    ///
    /// # Errors
    /// See [`NetlinkError`]: EPERM when that network namespace is none of ours.
    pub fn addresses_elsewhere(&mut self, end: OtherEnd) -> Result<Vec<IpNet>, NetlinkError> {
        let operation = operation("RTM_GETADDR", end);
        // Without it the kernel ignores what the request says (`inet_dump_ifaddr`,
        // net/ipv4/devinet.c), Linux 4.20 and newer.
        self.socket
            .set_netlink_get_strict_chk(true)
            .map_err(|source| NetlinkError::Socket {
                operation: operation.clone(),
                source,
            })?;
        let mut found = Ok(Vec::new());
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = AddressMessage::default();
            request.header.family = family;
            request.header.index = end.index;
            request
                .attributes
                .push(AddressAttribute::TargetNetNsId(end.netns));
            let request = RouteNetlinkMessage::GetAddress(request);
            let dumped = self.dump(&operation, &request, |message| {
                message.attribute(IFADDRMSG, IFA_TARGET_NETNSID)?;
                parse_address(message)
                    .and_then(|(of, address)| (of == end.index).then_some(address))
            });
            match gone_is_none(dumped) {
                Ok(more) => found
                    .iter_mut()
                    .for_each(|all: &mut Vec<IpNet>| all.extend(more.iter().flatten())),
                Err(error) => found = found.and(Err(error)),
            }
        }
        let _ = self.socket.set_netlink_get_strict_chk(false);
        found
    }
}

fn operation(kind: &str, end: OtherEnd) -> String {
    format!(
        "{kind} of link {} in the network namespace {}",
        end.index, end.netns
    )
}

/// None for the refusals that mean that link or namespace is gone: ENODEV, and EINVAL for a number
/// that names no namespace (`rtnl_get_net_ns_capable`, net/core/rtnetlink.c). EOPNOTSUPP is a
/// kernel without IPv6.
fn gone_is_none<T>(answer: Result<T, NetlinkError>) -> Result<Option<T>, NetlinkError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.refusal(),
                Some(libc::ENODEV | libc::EINVAL | libc::EOPNOTSUPP)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
