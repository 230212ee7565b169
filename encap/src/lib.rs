//! Bytes and headers: views over frames, tunnel headers, Internet checksums. No I/O.
//!
//! # Contract
//! - A view (`EthernetFrame`, `Ipv4Packet`, ...) is made by `new_checked`, which refuses with a
//!   named [`Error`] whatever its getters could not read.
//! - Nothing here panics, whatever the bytes, and whatever a setter wrote into them. A getter that
//!   follows a length field (a payload, options) clamps it to the buffer.
//! - Numbers are in host byte order on the Rust side and in network byte order in the buffer.
//! - `…Repr::emit` writes a new header; `new_checked` reads one.
//!
//! # Where to look
//! - wire views: [`ethernet`], [`arp`], [`ipv4`], [`ipv6`], [`udp`], [`tcp`], [`vxlan`]
//! - sums: [`checksum`] (RFC 1071, RFC 1624), [`partial`] and [`sctp`] (what Linux leaves to the
//!   NIC)
//! - tunnels: [`tunnel`] (outer headers ready to paste), [`ecn`] (RFC 6040), [`flow`] (the hash
//!   behind the UDP source port)
//! - control: [`icmp`] and [`icmpv6`] (errors and echo), [`ndp`], [`igmp`] and [`mld`] (both give
//!   [`membership`]), [`dhcp`]
//! - sizes and chains: [`extension`] (where IPv6's upper layer begins), [`fragment`], [`mss`]

#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod dhcp;
pub mod ecn;
pub mod error;
pub mod ethernet;
pub mod extension;
mod field;
pub mod flow;
pub mod fragment;
pub mod icmp;
pub mod icmpv6;
pub mod igmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod membership;
pub mod mld;
pub mod mss;
pub mod ndp;
pub mod partial;
pub mod sctp;
pub mod tcp;
pub mod tunnel;
pub mod udp;
pub mod vxlan;

pub use arp::{ArpOperation, ArpPacket, ArpRepr};
pub use checksum::Checksum;
pub use ecn::{Ecn, EcnError, decap_ecn, decap_tos};
pub use error::Error;
pub use ethernet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, EthernetFrame, EthernetRepr, Mac,
};
pub use flow::{flow_hash_v4, flow_hash_v6};
pub use ip::IpFamily;
pub use ipv4::{Ipv4Packet, Ipv4Repr};
pub use ipv6::{Ipv6Packet, Ipv6Repr};
pub use partial::{
    PartialChecksum, complete_l4_v4, complete_l4_v6, is_partial_l4_v4, is_partial_l4_v6,
};
pub use sctp::{SctpChecksum, needs_sctp_crc_v4, needs_sctp_crc_v6};
pub use tcp::TcpPacket;
pub use tunnel::{DscpPolicy, IpipParams, OuterHeader, OuterKind, VxlanParams};
pub use udp::{UdpPacket, UdpRepr};
pub use vxlan::{VxlanHeader, VxlanRepr};
