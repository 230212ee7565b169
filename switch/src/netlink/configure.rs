//! Changing links, their addresses and their neighbours: `RTM_NEWLINK`, `RTM_SETLINK`,
//! `RTM_DELLINK`, `RTM_*ADDR` and `RTM_NEWNEIGH` of rtnetlink(7). Routes and rules have files of
//! their own.
//!
//! Each call may be repeated: what is there already, or gone already, is no error, and the answer
//! tells whether anything changed.

mod detailed;
mod pod;
mod routes;
mod rules;

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use shunt_api::MacAddr;

use super::messages;
use super::{Netlink, NetlinkError};

pub use detailed::DetailedRoute;
pub use routes::{RTPROT_SHUNT, Route, TABLE_MAIN};
pub use rules::Rule;

/// Size of `struct ifinfomsg`: family, type (ARPHRD), index, flags, change mask.
const IFINFOMSG: usize = 16;
/// `IFLA_LINK` and `IFLA_LINK_NETNSID`, include/uapi/linux/if_link.h: the index of the other end,
/// and its network namespace when that is another.
const IFLA_LINK: u16 = 5;
const IFLA_LINK_NETNSID: u16 = 37;

/// One end of a veth pair to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its largest IP packet in bytes.
    pub mtu: u32,
}

/// What to change of a link; None leaves it as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Set up or down by the administrator (`IFF_UP`).
    pub up: Option<bool>,
    /// Its largest IP packet in bytes.
    pub mtu: Option<u32>,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// How many frames a queue of its own may hold (`IFLA_TXQLEN`); 0 for none.
    pub transmit_queue: Option<u32>,
}

/// Where the other end of a veth is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// In this network namespace, with this index.
    Here(u32),
    /// In another network namespace.
    Elsewhere,
    /// The link is no pair (or the kernel does not say).
    None,
}

impl Netlink {
    /// Makes a veth pair (veth(4)), both ends in this network namespace and down.
    ///
    /// # Errors
    /// See [`NetlinkError`]: EEXIST when one of the names is taken, EOPNOTSUPP when the kernel has
    /// no veth.
    pub fn create_veth(
        &mut self,
        end: &VethEnd<'_>,
        peer: &VethEnd<'_>,
    ) -> Result<(), NetlinkError> {
        let described = |end: &VethEnd<'_>| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(end.name.to_owned()),
                LinkAttribute::Address(end.mac.0.to_vec()),
                LinkAttribute::Mtu(end.mtu),
            ];
            message
        };
        let mut request = described(end);
        request.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(described(peer)))),
        ]));
        self.change(
            &format!("RTM_NEWLINK veth `{}` and `{}`", end.name, peer.name),
            RouteNetlinkMessage::NewLink(request),
            NLM_F_CREATE | NLM_F_EXCL,
            &[],
            &[
                (
                    libc::EEXIST,
                    "a link of one of these names exists: remove it or choose another",
                ),
                (
                    libc::EOPNOTSUPP,
                    "the kernel lacks the veth driver: load the module `veth`",
                ),
                (
                    libc::EINVAL,
                    "a veth takes an MTU of 68 to 65535 bytes and a unicast address",
                ),
            ],
        )
        .map(drop)
    }

    /// Deletes the link with that index; of a veth both ends go. False when there is none.
    ///
    /// # Errors
    /// See [`NetlinkError`]: EOPNOTSUPP for a physical device.
    pub fn delete_link(&mut self, ifindex: u32) -> Result<bool, NetlinkError> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        self.change(
            &format!("RTM_DELLINK of link {ifindex}"),
            RouteNetlinkMessage::DelLink(request),
            0,
            &[libc::ENODEV],
            &[(libc::EOPNOTSUPP, "a physical device cannot be deleted")],
        )
    }

    /// Changes the link with that index.
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENODEV without such a link, EINVAL or ERANGE for an MTU that the
    /// driver does not take.
    pub fn set_link(&mut self, ifindex: u32, change: &LinkChange) -> Result<(), NetlinkError> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        if let Some(up) = change.up {
            request.header.change_mask = LinkFlags::Up;
            request.header.flags = if up {
                LinkFlags::Up
            } else {
                LinkFlags::empty()
            };
        }
        request
            .attributes
            .extend(change.mtu.map(LinkAttribute::Mtu));
        request
            .attributes
            .extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        request
            .attributes
            .extend(change.transmit_queue.map(LinkAttribute::TxQueueLen));
        self.change(
            &format!("RTM_SETLINK of link {ifindex} to {change:?}"),
            RouteNetlinkMessage::SetLink(request),
            0,
            &[],
            &[
                (libc::ENODEV, "there is no such link (any more)"),
                (libc::EINVAL, "the driver does not take this MTU"),
                (libc::ERANGE, "the driver does not take this MTU"),
                (
                    libc::EADDRNOTAVAIL,
                    "the address must be unicast and not zero",
                ),
            ],
        )
        .map(drop)
    }

    /// The other end of the veth with that index (`IFLA_LINK`, `IFLA_LINK_NETNSID`).
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENODEV without such a link.
    pub fn peer(&mut self, ifindex: u32) -> Result<Peer, NetlinkError> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        let mut peer = Peer::None;
        let request = RouteNetlinkMessage::GetLink(request);
        self.request(
            &format!("RTM_GETLINK of link {ifindex}"),
            request,
            0,
            |message| {
                let attribute = |kind| message.attribute(IFINFOMSG, kind);
                if message.kind != libc::RTM_NEWLINK {
                    return;
                }
                let other = attribute(IFLA_LINK).and_then(messages::number);
                peer = match (other, attribute(IFLA_LINK_NETNSID)) {
                    (Some(_), Some(_)) => Peer::Elsewhere,
                    (Some(other), None) if other != 0 => Peer::Here(other),
                    _ => Peer::None,
                };
            },
        )?;
        Ok(peer)
    }

    /// Gives the link with that index an address of global scope, without a route for its prefix
    /// (`IFA_F_NOPREFIXROUTE`) and, for IPv6, without duplicate address detection (`IFA_F_NODAD`):
    /// it can be used at once. False when the link has it already.
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENODEV without such a link, EACCES for IPv6 where it is off.
    pub fn add_address(&mut self, ifindex: u32, address: IpNet) -> Result<bool, NetlinkError> {
        let mut request = address_message(ifindex, address);
        let mut flags = AddressFlags::Noprefixroute | AddressFlags::Permanent;
        if matches!(address, IpNet::V6(_)) {
            flags |= AddressFlags::Nodad;
        }
        request.attributes.push(AddressAttribute::Flags(flags));
        self.new_address(address, request)
    }

    fn new_address(
        &mut self,
        address: IpNet,
        request: AddressMessage,
    ) -> Result<bool, NetlinkError> {
        let ifindex = request.header.index;
        self.change(
            &format!("RTM_NEWADDR {address} on link {ifindex}"),
            RouteNetlinkMessage::NewAddress(request),
            NLM_F_CREATE | NLM_F_EXCL,
            &[libc::EEXIST],
            &[
                (libc::ENODEV, "there is no such link (any more)"),
                (
                    libc::EACCES,
                    "IPv6 is off on this link: set its sysctl disable_ipv6 to 0",
                ),
                (libc::EOPNOTSUPP, "the kernel lacks this address family"),
                (
                    libc::EADDRNOTAVAIL,
                    "only a unicast address can be a link's own",
                ),
            ],
        )
    }

    /// Takes an address from the link with that index. False when it has no such address.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn delete_address(&mut self, ifindex: u32, address: IpNet) -> Result<bool, NetlinkError> {
        self.change(
            &format!("RTM_DELADDR {address} of link {ifindex}"),
            RouteNetlinkMessage::DelAddress(address_message(ifindex, address)),
            0,
            &[libc::EADDRNOTAVAIL, libc::ENODEV],
            &[],
        )
    }

    /// Sets the link-layer address of a neighbour for ever (`NUD_PERMANENT`): the kernel neither
    /// asks for it nor believes others. False when it is set so already.
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENODEV without such a link.
    pub fn set_neighbour(
        &mut self,
        ifindex: u32,
        address: IpAddr,
        mac: MacAddr,
    ) -> Result<bool, NetlinkError> {
        let known = self.neighbour(ifindex, address)?;
        if known.is_some_and(|known| {
            known.state == super::NeighbourState::Permanent && known.mac == Some(mac)
        }) {
            return Ok(false);
        }
        let mut request = NeighbourMessage::default();
        request.header.family = family(address);
        request.header.ifindex = ifindex;
        request.header.state = NeighbourState::Permanent;
        request.attributes = vec![
            NeighbourAttribute::Destination(address.into()),
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        ];
        self.change(
            &format!("RTM_NEWNEIGH {address} at {mac} on link {ifindex}"),
            RouteNetlinkMessage::NewNeighbour(request),
            NLM_F_CREATE | NLM_F_REPLACE,
            &[],
            &[(libc::ENODEV, "there is no such link (any more)")],
        )
    }

    /// Sends a change. `Ok(false)` for a refusal in `harmless`: it is so already. Of others, the
    /// remedy is added to the error.
    fn change(
        &mut self,
        operation: &str,
        request: RouteNetlinkMessage,
        flags: u16,
        harmless: &[i32],
        remedies: &[(i32, &str)],
    ) -> Result<bool, NetlinkError> {
        match self.request(operation, request, flags, |_| {}) {
            Ok(()) => Ok(true),
            Err(NetlinkError::Refused {
                operation,
                source,
                mut explanation,
            }) => {
                let errno = source.raw_os_error().unwrap_or_default();
                if harmless.contains(&errno) {
                    return Ok(false);
                }
                if let Some((_, remedy)) = remedies.iter().find(|(of, _)| *of == errno) {
                    explanation.push_str("; ");
                    explanation.push_str(remedy);
                }
                Err(NetlinkError::Refused {
                    operation,
                    source,
                    explanation,
                })
            }
            Err(error) => Err(error),
        }
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_message(ifindex: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = ifindex;
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    message
}

#[cfg(test)]
mod tests;
