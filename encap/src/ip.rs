//! What IPv4 and IPv6 share: the two families, and IANA's protocol numbers.

use std::net::IpAddr;

use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of an address.
    #[inline]
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The EtherType of its packets: 0x0800 (RFC 894) or 0x86dd (RFC 2464, section 3).
    #[inline]
    #[must_use]
    pub const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => ETHERTYPE_IPV4,
            Self::V6 => ETHERTYPE_IPV6,
        }
    }

    /// The protocol number (IPv4) or next header (IPv6) of an IP header in front of its packets:
    /// [`PROTOCOL_IPIP`] or [`PROTOCOL_IPV6`], whatever the family of that header.
    #[inline]
    #[must_use]
    pub const fn tunnel_protocol(self) -> u8 {
        match self {
            Self::V4 => PROTOCOL_IPIP,
            Self::V6 => PROTOCOL_IPV6,
        }
    }
}

/// ICMP for IPv4.
pub const PROTOCOL_ICMP: u8 = 1;
/// IPv4 in IP, RFC 2003 and RFC 2473.
pub const PROTOCOL_IPIP: u8 = 4;
/// TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// DCCP.
pub const PROTOCOL_DCCP: u8 = 33;
/// IPv6 in IP, RFC 4213 and RFC 2473.
pub const PROTOCOL_IPV6: u8 = 41;
/// ICMP for IPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;
/// SCTP.
pub const PROTOCOL_SCTP: u8 = 132;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn each_family_has_its_numbers() {
        let v4 = IpFamily::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let v6 = IpFamily::of(IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!((v4, v6), (IpFamily::V4, IpFamily::V6));
        assert_eq!((v4.ethertype(), v4.tunnel_protocol()), (0x0800, 4));
        assert_eq!((v6.ethertype(), v6.tunnel_protocol()), (0x86dd, 41));
        // The wire decides, not how an address is written: this one is carried by IPv6.
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        assert_eq!(IpFamily::of(IpAddr::V6(mapped)), IpFamily::V6);
    }
}
