//! Links and their addresses: `RTM_*LINK` and `RTM_*ADDR` of rtnetlink(7).

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use shunt_api::MacAddr;

use super::messages::{self, Message};
use super::{Netlink, NetlinkError};
use crate::sys::interface::is_valid_name;

/// Size of `struct ifinfomsg`: family, type (ARPHRD), index, flags, change mask.
pub(super) const IFINFOMSG: usize = 16;
/// Size of `struct ifaddrmsg`: family, prefix length, flags, scope, index.
pub(super) const IFADDRMSG: usize = 8;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; None for other link layers and for `lo`.
    pub mac: Option<MacAddr>,
    /// Its largest IP packet in bytes.
    pub mtu: u32,
    /// Set up by the administrator (`IFF_UP`).
    pub up: bool,
    /// Up and with a carrier (`IFF_RUNNING`).
    pub running: bool,
    /// The driver's kind, such as `veth` or `vxlan`; physical devices have none.
    pub kind: Option<String>,
}

impl Link {
    /// Reads `RTM_NEWLINK` or `RTM_DELLINK`. None for other messages, and for those of the family
    /// AF_BRIDGE: they tell of a bridge's ports, and their RTM_DELLINK says only that an interface
    /// left its bridge.
    pub(super) fn parse(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, libc::RTM_NEWLINK | libc::RTM_DELLINK)
            || messages::u8_at(message.payload, 0)? != libc::AF_UNSPEC as u8
        {
            return None;
        }
        let flags = messages::u32_at(message.payload, 8)?;
        let attribute = |kind| message.attribute(IFINFOMSG, kind);
        Some(Self {
            index: messages::u32_at(message.payload, 4)?,
            name: attribute(libc::IFLA_IFNAME).and_then(messages::string)?,
            mac: attribute(libc::IFLA_ADDRESS).and_then(messages::mac),
            mtu: attribute(libc::IFLA_MTU)
                .and_then(messages::number)
                .unwrap_or(0),
            up: flags & libc::IFF_UP as u32 != 0,
            running: flags & libc::IFF_RUNNING as u32 != 0,
            kind: attribute(libc::IFLA_LINKINFO)
                .and_then(|info| messages::attribute(info, libc::IFLA_INFO_KIND))
                .and_then(messages::string),
        })
    }
}

impl Netlink {
    /// The link of that name; None when there is none.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        self.link_by_name(name, Link::parse)
    }

    /// What `parse` makes of the link of that name; None when there is none.
    pub(super) fn link_by_name<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        if !is_valid_name(name) {
            return Ok(None);
        }
        let mut request = LinkMessage::default();
        request
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let mut link = None;
        let request = RouteNetlinkMessage::GetLink(request);
        match self.request(&format!("RTM_GETLINK `{name}`"), request, 0, |message| {
            link = link.take().or_else(|| parse(message));
        }) {
            Ok(()) => Ok(link),
            Err(error) if error.refusal() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links of the network namespace.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump("RTM_GETLINK", &request, Link::parse)
    }

    /// The addresses of the link with that index, IPv4 and IPv6, each with its prefix length.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn addresses(&mut self, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump("RTM_GETADDR", &request, |message| {
            parse_address(message).and_then(|(of, address)| (of == index).then_some(address))
        })
    }
}

/// The link's index and the address of an `RTM_NEWADDR`.
pub(super) fn parse_address(message: &Message<'_>) -> Option<(u32, IpNet)> {
    if message.kind != libc::RTM_NEWADDR {
        return None;
    }
    let prefix = messages::u8_at(message.payload, 1)?;
    let index = messages::u32_at(message.payload, 4)?;
    let attribute = |kind| {
        message
            .attribute(IFADDRMSG, kind)
            .and_then(messages::address)
    };
    // On a point-to-point link IFA_ADDRESS is the peer's (rtnetlink(7)); IPv6 has only that one
    // unless there is a peer.
    let address: IpAddr = attribute(libc::IFA_LOCAL).or_else(|| attribute(libc::IFA_ADDRESS))?;
    Some((index, IpNet::new(address, prefix).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::TestNetns;

    #[test]
    fn links_are_read_as_ip_made_them() {
        let netns = TestNetns::new();
        netns.link("d0", "address 02:00:00:00:00:07 mtu 1400");
        netns.ip("link add br0 type bridge");
        netns.ip("link set d0 up");
        let mut netlink = netns.run(Netlink::open).unwrap();

        let veth = netlink.link("d0").unwrap().unwrap();
        assert_eq!(veth.name, "d0");
        assert_eq!(veth.mac, Some(MacAddr([2, 0, 0, 0, 0, 7])));
        assert_eq!((veth.mtu, veth.kind.as_deref()), (1400, Some("veth")));
        assert_eq!((veth.up, veth.running), (true, false), "the peer is down");
        let shown = netns.ip("-o link show d0");
        assert!(shown.starts_with(&format!("{}: d0", veth.index)), "{shown}");

        netns.ip("link set d0p up");
        let veth = netlink.link("d0").unwrap().unwrap();
        assert_eq!((veth.up, veth.running), (true, true));
        let bridge = netlink.link("br0").unwrap().unwrap();
        assert_eq!((bridge.up, bridge.kind.as_deref()), (false, Some("bridge")));
        let loopback = netlink.link("lo").unwrap().unwrap();
        assert_eq!(
            (loopback.index, loopback.mac, loopback.kind),
            (1, None, None)
        );

        let mut names: Vec<_> = netlink
            .links()
            .unwrap()
            .into_iter()
            .map(|l| l.name)
            .collect();
        names.sort();
        assert_eq!(names, ["br0", "d0", "d0p", "lo"]);
    }

    #[test]
    fn a_missing_link_is_none() {
        let netns = TestNetns::new();
        let mut netlink = netns.run(Netlink::open).unwrap();
        for name in ["nothere", "", "a name that no link can have"] {
            assert_eq!(netlink.link(name).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn a_dump_of_many_links_is_whole() {
        let netns = TestNetns::new();
        for n in 0..60 {
            netns.link(&format!("d{n}"), "");
        }
        let mut netlink = netns.run(Netlink::open).unwrap();
        assert_eq!(netlink.links().unwrap().len(), 121);
    }

    #[test]
    fn addresses_are_those_of_the_link_alone() {
        let netns = TestNetns::new();
        netns.link("d0", "");
        netns.link("d1", "");
        netns.ip("addr add 10.1.0.5/24 dev d0");
        netns.ip("addr add 10.1.0.6/24 dev d0");
        netns.ip("addr add 10.2.0.1 peer 10.2.0.2/32 dev d0");
        netns.ip("addr add 10.3.0.1/16 dev d1");
        netns.command("sysctl", &["-qw", "net.ipv6.conf.d0.disable_ipv6=0"]);
        netns.ip("addr add fd00::5/64 dev d0 nodad");
        netns.ip("addr add fd01::1 peer fd01::2/127 dev d0 nodad");
        let mut netlink = netns.run(Netlink::open).unwrap();
        let index = netlink.link("d0").unwrap().unwrap().index;
        let mut found = netlink.addresses(index).unwrap();
        found.sort();
        let wanted = [
            "10.1.0.5/24",
            "10.1.0.6/24",
            "10.2.0.1/32",
            "fd00::5/64",
            "fd01::1/127",
        ];
        assert_eq!(found, wanted.map(|a| a.parse::<IpNet>().unwrap()));
        assert_eq!(netlink.addresses(9999).unwrap(), []);
    }
}
