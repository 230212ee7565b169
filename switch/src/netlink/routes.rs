//! Which way the kernel would send: `RTM_GETROUTE` of rtnetlink(7).

use std::net::IpAddr;

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::messages::{self, Message};
use super::{Netlink, NetlinkError};

/// Size of `struct rtmsg`: family, prefix lengths, TOS, table, protocol, scope, type, flags.
const RTMSG: usize = 12;

/// `RTAX_MTU`, include/uapi/linux/rtnetlink.h.
const RTAX_MTU: u16 = 2;

/// The way to an address by the kernel's routing tables and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteAnswer {
    /// Out of a link.
    Via {
        /// The link's index.
        ifindex: u32,
        /// The router; None when the address itself is on the link. For IPv4 it may be an IPv6
        /// address (RFC 5549).
        gateway: Option<IpAddr>,
        /// The source address that the kernel would choose.
        source: Option<IpAddr>,
        /// The route's own or learned path MTU in bytes; None when the link's counts.
        mtu: Option<u32>,
    },
    /// One of this node's own addresses.
    Local,
    /// No route, a route that forbids (unreachable, prohibit, blackhole), or no single station
    /// (broadcast, multicast).
    Unreachable,
}

impl RouteAnswer {
    fn parse(message: &Message<'_>) -> Option<Self> {
        if message.kind != libc::RTM_NEWROUTE {
            return None;
        }
        let attribute = |kind| message.attribute(RTMSG, kind);
        match messages::u8_at(message.payload, 7)? {
            libc::RTN_UNICAST => Some(Self::Via {
                ifindex: attribute(libc::RTA_OIF).and_then(messages::number)?,
                // `struct rtvia`: the family, then the address.
                gateway: attribute(libc::RTA_GATEWAY)
                    .or_else(|| attribute(libc::RTA_VIA).and_then(|via| via.get(2..)))
                    .and_then(messages::address),
                source: attribute(libc::RTA_PREFSRC).and_then(messages::address),
                mtu: attribute(libc::RTA_METRICS)
                    .and_then(|metrics| messages::attribute(metrics, RTAX_MTU))
                    .and_then(messages::number)
                    .filter(|&mtu| mtu > 0),
            }),
            libc::RTN_LOCAL | libc::RTN_ANYCAST => Some(Self::Local),
            _ => Some(Self::Unreachable),
        }
    }
}

impl Netlink {
    /// The way to `address` that the kernel would take for a packet of this node.
    ///
    /// # Errors
    /// See [`NetlinkError`]. No route is no error.
    pub fn route_to(&mut self, address: IpAddr) -> Result<RouteAnswer, NetlinkError> {
        let mut request = RouteMessage::default();
        (
            request.header.address_family,
            request.header.destination_prefix_length,
        ) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        request
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(address)));
        let operation = format!("RTM_GETROUTE {address}");
        let request = RouteNetlinkMessage::GetRoute(request);
        let mut answer = None;
        let result = self.request(&operation, request, 0, |message| {
            answer = answer.or_else(|| RouteAnswer::parse(message));
        });
        match result {
            Ok(()) => answer.ok_or(NetlinkError::Malformed {
                operation,
                what: "no route in it",
            }),
            // No route; unreachable; prohibit; blackhole (`fib_props`, net/ipv4/fib_semantics.c).
            Err(error)
                if matches!(
                    error.refusal(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                Ok(RouteAnswer::Unreachable)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::TestNetns;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn routes_of_ipv4() {
        let (a, _b) = TestNetns::veth_pair();
        a.ip("route add 10.20.0.0/16 via 10.9.0.2 mtu 1400");
        a.ip("route add 10.21.0.0/16 via 10.9.0.2");
        a.ip("route add 10.22.0.0/16 dev v0 src 10.9.0.1");
        a.ip("route add blackhole 10.30.0.0/16");
        a.ip("route add prohibit 10.31.0.0/16");
        a.ip("route add unreachable 10.32.0.0/16");
        let mut netlink = a.run(Netlink::open).unwrap();
        let ifindex = netlink.link("v0").unwrap().unwrap().index;
        let via = |gateway: Option<&str>, mtu| RouteAnswer::Via {
            ifindex,
            gateway: gateway.map(address),
            source: Some(address("10.9.0.1")),
            mtu,
        };
        let mut to = |text| netlink.route_to(address(text)).unwrap();
        assert_eq!(to("10.9.0.7"), via(None, None));
        assert_eq!(to("10.20.1.2"), via(Some("10.9.0.2"), Some(1400)));
        assert_eq!(to("10.21.1.2"), via(Some("10.9.0.2"), None));
        assert_eq!(to("10.22.1.2"), via(None, None));
        assert_eq!(to("10.9.0.1"), RouteAnswer::Local);
        assert_eq!(to("127.0.0.1"), RouteAnswer::Local);
        for nowhere in ["192.0.2.1", "10.30.0.1", "10.31.0.1", "10.32.0.1"] {
            assert_eq!(to(nowhere), RouteAnswer::Unreachable, "{nowhere}");
        }
        for nobody in ["10.9.0.255", "255.255.255.255", "239.1.2.3"] {
            assert_eq!(to(nobody), RouteAnswer::Unreachable, "{nobody}");
        }
    }

    #[test]
    fn routes_of_ipv6_and_of_ipv4_over_ipv6() {
        let (a, _b) = TestNetns::veth_pair();
        a.command("sysctl", &["-qw", "net.ipv6.conf.v0.disable_ipv6=0"]);
        a.ip("addr add fd09::1/64 dev v0 nodad");
        a.ip("route add fd20::/64 via fd09::2 mtu 1400");
        a.ip("route add blackhole fd30::/64");
        a.ip("route add 10.40.0.0/16 via inet6 fd09::2 dev v0");
        let mut netlink = a.run(Netlink::open).unwrap();
        let ifindex = netlink.link("v0").unwrap().unwrap().index;
        let mut to = |text| netlink.route_to(address(text)).unwrap();
        let source = Some(address("fd09::1"));
        assert_eq!(
            to("fd09::7"),
            RouteAnswer::Via {
                ifindex,
                gateway: None,
                source,
                mtu: None
            }
        );
        let gateway = Some(address("fd09::2"));
        assert_eq!(
            to("fd20::1"),
            RouteAnswer::Via {
                ifindex,
                gateway,
                source,
                mtu: Some(1400)
            }
        );
        let source = Some(address("10.9.0.1"));
        assert_eq!(
            to("10.40.0.1"),
            RouteAnswer::Via {
                ifindex,
                gateway,
                source,
                mtu: None
            }
        );
        assert_eq!(to("fd09::1"), RouteAnswer::Local);
        assert_eq!(to("fd30::1"), RouteAnswer::Unreachable);
        assert_eq!(to("2001:db8::1"), RouteAnswer::Unreachable);
    }
}
