//! What only a pod's interface takes: a veth with its other end in another network namespace, an
//! alias that names its owner, and addresses with their subnets.

use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::super::{Netlink, NetlinkError};
use super::{VethEnd, address_message};

impl Netlink {
    /// Makes a veth pair of one queue each way, `end` in this network namespace and `peer` in
    /// `netns`; both are down. It is born there (`IFLA_NET_NS_FD` among the peer's attributes,
    /// `veth_newlink`, drivers/net/veth.c): moving it later would cost the kernel a grace period.
    ///
    /// # Errors
    /// See [`NetlinkError`]: EEXIST when one of the names is taken, EOPNOTSUPP when the kernel has
    /// no veth.
    pub fn create_veth_into(
        &mut self,
        end: &VethEnd<'_>,
        peer: &VethEnd<'_>,
        netns: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        let mut other = described(peer);
        other
            .attributes
            .push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        let mut request = described(end);
        request.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        self.change(
            &format!(
                "RTM_NEWLINK veth `{}` with `{}` in another network namespace",
                end.name, peer.name
            ),
            RouteNetlinkMessage::NewLink(request),
            NLM_F_CREATE | NLM_F_EXCL,
            &[],
            &[
                (libc::EEXIST, "a link of one of these names exists"),
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

    /// Gives the link with that index an alias (`IFLA_IFALIAS`, at most 255 bytes), which the
    /// kernel keeps for people and for us, and sets it up.
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENODEV without such a link, EINVAL for a longer alias.
    pub fn set_alias_and_up(&mut self, ifindex: u32, alias: &str) -> Result<(), NetlinkError> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        request.header.change_mask = LinkFlags::Up;
        request.header.flags = LinkFlags::Up;
        request
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        self.change(
            &format!("RTM_SETLINK of link {ifindex} up, with the alias `{alias}`"),
            RouteNetlinkMessage::SetLink(request),
            0,
            &[],
            &[
                (libc::ENODEV, "there is no such link (any more)"),
                (libc::EINVAL, "an alias has at most 255 bytes"),
            ],
        )
        .map(drop)
    }

    /// As [`add_address`](Self::add_address), but the kernel makes a route for the prefix: who
    /// else is in it is on the link. IPv4 gets the subnet's broadcast address.
    ///
    /// # Errors
    /// As [`add_address`](Self::add_address).
    pub fn add_subnet_address(
        &mut self,
        ifindex: u32,
        address: IpNet,
    ) -> Result<bool, NetlinkError> {
        let mut request = address_message(ifindex, address);
        let mut flags = AddressFlags::Permanent;
        match address {
            // Subnets of one or two addresses have none (RFC 3021).
            IpNet::V4(net) if net.prefix_len() < 31 => request
                .attributes
                .push(AddressAttribute::Broadcast(net.broadcast())),
            IpNet::V4(_) => {}
            IpNet::V6(_) => flags |= AddressFlags::Nodad,
        }
        request.attributes.push(AddressAttribute::Flags(flags));
        self.new_address(address, request)
    }
}

fn described(end: &VethEnd<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::Address(end.mac.0.to_vec()),
        LinkAttribute::Mtu(end.mtu),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    message
}
