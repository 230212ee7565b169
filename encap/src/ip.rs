//! Numbers that IPv4 and IPv6 share (IANA protocol numbers).

/// ICMP for IPv4.
pub const PROTOCOL_ICMP: u8 = 1;
/// IPv4 in IP, RFC 2003.
pub const PROTOCOL_IPIP: u8 = 4;
/// TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IPv6 in IP, RFC 4213.
pub const PROTOCOL_IPV6: u8 = 41;
/// ICMP for IPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;
/// SCTP.
pub const PROTOCOL_SCTP: u8 = 132;
