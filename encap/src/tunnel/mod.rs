//! Outer headers, built once per next hop and pasted in front of each packet.
//!
//! An [`OuterHeader`] ends where the inner IP packet begins: it replaces the frame's own 14-byte
//! Ethernet header, so a frame grows by [`OuterHeader::overhead`] bytes. What differs between
//! packets (lengths, ports, TOS or traffic class, identification or flow label, header checksum)
//! is set by [`OuterHeader::write`]; all else is copied.
//!
//! Outer and inner packet may each be IPv4 or IPv6, in all four combinations.

mod build;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use self::build::{IpipParams, VxlanParams};
use crate::checksum::Checksum;
pub use crate::ecn::DscpPolicy;
use crate::error::Error;
use crate::ethernet::{self, ETHERTYPE_IPV6};
use crate::field::{read, read_u16};
use crate::ip::{IpFamily, PROTOCOL_UDP};
use crate::{ipv4, ipv6, udp, vxlan};

/// Bytes of the longest outer header: VXLAN over IPv6.
pub const MAX_LEN: usize = VXLAN_V6_LEN;

const ETHERNET_LEN: usize = ethernet::HEADER_LEN;
/// Outer Ethernet, IP.
const IPIP_V4_LEN: usize = L4_V4;
const IPIP_V6_LEN: usize = L4_V6;
/// Outer Ethernet, IP, UDP, VXLAN, inner Ethernet.
const VXLAN_V4_LEN: usize = L4_V4 + VXLAN_FROM_UDP;
const VXLAN_V6_LEN: usize = L4_V6 + VXLAN_FROM_UDP;

/// UDP, VXLAN, inner Ethernet.
const VXLAN_FROM_UDP: usize = udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN;

/// Where the outer IP header begins.
const IP: usize = ethernet::HEADER_LEN;
/// Where it ends, and the outer UDP header begins.
const L4_V4: usize = IP + ipv4::HEADER_LEN;
const L4_V6: usize = IP + ipv6::HEADER_LEN;

/// First UDP source port: RFC 7348, section 5 recommends the dynamic range 49152-65535.
const FIRST_SRC_PORT: u16 = 0xc000;
/// A flow label has 20 bits.
const FLOW_LABEL_MASK: u32 = 0xf_ffff;

/// What an outer header is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OuterKind {
    /// Ethernet: 14 bytes.
    Ethernet,
    /// Ethernet, IP: 34 bytes over IPv4 (RFC 2003, RFC 4213), 54 over IPv6 (RFC 2473).
    Ipip,
    /// Ethernet, IP, UDP, VXLAN, Ethernet: 64 bytes over IPv4, 84 over IPv6 (RFC 7348).
    Vxlan,
}

/// Kind and family in one, so that [`OuterHeader::write`] branches on them once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Ethernet,
    IpipV4,
    IpipV6,
    VxlanV4,
    VxlanV6,
}

/// A header ready to paste in front of an inner IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterHeader {
    bytes: [u8; MAX_LEN],
    /// One's complement sum, not folded, of the outer IPv4 header without TOS, total length,
    /// identification and checksum; 0 over IPv6, which has no such checksum.
    ip_sum: u32,
    len: u8,
    layout: Layout,
    tos_mask: u8,
    tos_fixed: u8,
    udp_checksum: bool,
}

impl OuterHeader {
    /// Bytes of the header: what [`OuterHeader::write`] wants.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no outer header is empty")]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// What it is made of.
    #[inline]
    pub const fn kind(&self) -> OuterKind {
        match self.layout {
            Layout::Ethernet => OuterKind::Ethernet,
            Layout::IpipV4 | Layout::IpipV6 => OuterKind::Ipip,
            Layout::VxlanV4 | Layout::VxlanV6 => OuterKind::Vxlan,
        }
    }

    /// The family of a tunnel's outer packets. Of plain Ethernet: IPv6 where its EtherType says
    /// so, else IPv4.
    #[inline]
    pub const fn family(&self) -> IpFamily {
        match self.layout {
            Layout::IpipV4 | Layout::VxlanV4 => IpFamily::V4,
            Layout::IpipV6 | Layout::VxlanV6 => IpFamily::V6,
            Layout::Ethernet => match u16::from_be_bytes([self.bytes[12], self.bytes[13]]) {
                ETHERTYPE_IPV6 => IpFamily::V6,
                _ => IpFamily::V4,
            },
        }
    }

    /// Bytes by which a frame grows when this replaces its Ethernet header, and by which the
    /// inner packet must stay below the underlay's MTU: over IPv4 50 for VXLAN and 20 for IPIP,
    /// over IPv6 70 and 40; 0 for Ethernet.
    #[inline]
    pub const fn overhead(&self) -> usize {
        self.len as usize - ETHERNET_LEN
    }

    /// Whether [`OuterHeader::write`] looks at the flow hash: for the UDP source port of VXLAN,
    /// and for the flow label over IPv6.
    #[inline]
    pub const fn wants_flow_hash(&self) -> bool {
        match self.layout {
            Layout::Ethernet | Layout::IpipV4 => false,
            Layout::IpipV6 | Layout::VxlanV4 | Layout::VxlanV6 => true,
        }
    }

    /// Whether a UDP checksum was asked for: call [`OuterHeader::fill_udp_checksum`] after
    /// [`OuterHeader::write`].
    #[inline]
    pub const fn wants_udp_checksum(&self) -> bool {
        self.udp_checksum
    }

    /// The header as built, before any packet's values are set.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or(&self.bytes)
    }

    /// Writes the header of one packet into `out`: exactly [`OuterHeader::len`] bytes, directly
    /// before the inner IP packet of `inner_len` bytes.
    ///
    /// - `inner_tos` is the inner TOS octet or traffic class.
    /// - `flow_hash`: its upper 14 bits choose VXLAN's UDP source port in 49152-65535, its lower
    ///   20 bits are the flow label of outer IPv6 (RFC 6438, section 3; 0, which would say
    ///   "not labelled", becomes 1). See [`OuterHeader::wants_flow_hash`].
    /// - `ident` is the outer IPv4 identification, 0 being fine with DF.
    ///
    /// The UDP checksum is 0, none. Plain Ethernet ignores all four.
    ///
    /// Fails with [`Error::WrongSize`], or with [`Error::TooLong`] when the outer packet's length
    /// would exceed its field; `out` then holds nothing useful.
    #[inline]
    pub fn write(
        &self,
        out: &mut [u8],
        inner_len: u16,
        inner_tos: u8,
        flow_hash: u32,
        ident: u16,
    ) -> Result<(), Error> {
        // Apart, because the compiler makes a table of jumps for the others, which local delivery
        // need not wait for.
        if self.layout == Layout::Ethernet {
            self.paste::<ETHERNET_LEN>(out)?;
            return Ok(());
        }
        let tos = inner_tos & self.tos_mask | self.tos_fixed;
        match self.layout {
            // Done above.
            Layout::Ethernet => {}
            Layout::IpipV4 => {
                let out = self.paste::<IPIP_V4_LEN>(out)?;
                let total_len = outer_len("outer IPv4", inner_len, IPIP_V4_LEN - IP)?;
                self.fix_ipv4(out, total_len, tos, ident);
            }
            Layout::IpipV6 => {
                let out = self.paste::<IPIP_V6_LEN>(out)?;
                fix_ipv6(out, inner_len, tos, flow_hash);
            }
            Layout::VxlanV4 => {
                let out = self.paste::<VXLAN_V4_LEN>(out)?;
                let total_len = outer_len("outer IPv4", inner_len, VXLAN_V4_LEN - IP)?;
                self.fix_ipv4(out, total_len, tos, ident);
                let udp_len = total_len - ipv4::HEADER_LEN as u16;
                fix_udp::<L4_V4, _>(out, udp_len, flow_hash);
            }
            Layout::VxlanV6 => {
                let out = self.paste::<VXLAN_V6_LEN>(out)?;
                let udp_len = outer_len("outer IPv6", inner_len, VXLAN_FROM_UDP)?;
                fix_ipv6(out, udp_len, tos, flow_hash);
                fix_udp::<L4_V6, _>(out, udp_len, flow_hash);
            }
        }
        Ok(())
    }

    /// Computes the UDP checksum of a VXLAN packet whose header [`OuterHeader::write`] has put
    /// into `out`; `inner` is the sum over the inner IP packet as it leaves. Nothing to do for
    /// other kinds.
    ///
    /// Fails with [`Error::WrongSize`].
    #[inline]
    pub fn fill_udp_checksum(&self, out: &mut [u8], inner: Checksum) -> Result<(), Error> {
        match self.layout {
            Layout::VxlanV4 => {
                let out: &mut [u8; VXLAN_V4_LEN] = exact(out)?;
                let ip = &out[IP..L4_V4];
                let src = Ipv4Addr::from(read::<4>(ip, ipv4::field::SRC));
                let dst = Ipv4Addr::from(read::<4>(ip, ipv4::field::DST));
                let len = read_u16(&out[L4_V4..], udp::field::LENGTH);
                let pseudo = Checksum::new().add_pseudo_v4(src, dst, PROTOCOL_UDP, len);
                fill_udp::<L4_V4, _>(out, pseudo, inner);
            }
            Layout::VxlanV6 => {
                let out: &mut [u8; VXLAN_V6_LEN] = exact(out)?;
                let ip = &out[IP..L4_V6];
                let src = Ipv6Addr::from(read::<16>(ip, ipv6::field::SRC));
                let dst = Ipv6Addr::from(read::<16>(ip, ipv6::field::DST));
                let len = u32::from(read_u16(&out[L4_V6..], udp::field::LENGTH));
                let pseudo = Checksum::new().add_pseudo_v6(src, dst, PROTOCOL_UDP, len);
                fill_udp::<L4_V6, _>(out, pseudo, inner);
            }
            Layout::Ethernet | Layout::IpipV4 | Layout::IpipV6 => {}
        }
        Ok(())
    }

    /// Copies N bytes, a number known to the compiler.
    #[inline(always)]
    fn paste<'a, const N: usize>(&self, out: &'a mut [u8]) -> Result<&'a mut [u8; N], Error> {
        let out: &mut [u8; N] = exact(out)?;
        out.copy_from_slice(&self.bytes[..N]);
        Ok(out)
    }

    /// Sets TOS, total length, identification and header checksum.
    #[inline]
    fn fix_ipv4<const N: usize>(&self, out: &mut [u8; N], total_len: u16, tos: u8, ident: u16) {
        out[IP + ipv4::field::TOS] = tos;
        put(out, IP + ipv4::field::TOTAL_LEN.start, total_len);
        put(out, IP + ipv4::field::IDENT.start, ident);
        // Four values of 16 bits: two folds leave 16, and one is never 0.
        let sum = self.ip_sum + u32::from(tos) + u32::from(total_len) + u32::from(ident);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        put(out, IP + ipv4::field::CHECKSUM.start, !(sum as u16));
    }
}

/// Sets traffic class, flow label and payload length (RFC 8200, section 3).
#[inline]
fn fix_ipv6<const N: usize>(out: &mut [u8; N], payload_len: u16, class: u8, flow_hash: u32) {
    let label = (flow_hash & FLOW_LABEL_MASK).max(1);
    let word = 6 << 28 | u32::from(class) << 20 | label;
    put(out, IP, (word >> 16) as u16);
    put(out, IP + 2, word as u16);
    put(out, IP + ipv6::field::PAYLOAD_LEN.start, payload_len);
}

/// Sets source port and length of the UDP header `AT` bytes into `out`.
#[inline]
fn fix_udp<const AT: usize, const N: usize>(out: &mut [u8; N], length: u16, flow_hash: u32) {
    let src_port = FIRST_SRC_PORT | (flow_hash >> 18) as u16;
    put(out, AT + udp::field::SRC_PORT.start, src_port);
    put(out, AT + udp::field::LENGTH.start, length);
}

/// Sets the checksum of the UDP header `AT` bytes into `out`, which ends before `inner`.
#[inline]
fn fill_udp<const AT: usize, const N: usize>(out: &mut [u8; N], pseudo: Checksum, inner: Checksum) {
    put(out, AT + udp::field::CHECKSUM.start, 0);
    let checksum = pseudo.add(&out[AT..]).combine(inner).finish_udp();
    put(out, AT + udp::field::CHECKSUM.start, checksum);
}

#[inline]
fn exact<const N: usize>(out: &mut [u8]) -> Result<&mut [u8; N], Error> {
    let have = out.len();
    out.try_into()
        .map_err(|_| Error::WrongSize { need: N, have })
}

#[inline]
fn outer_len(what: &'static str, inner_len: u16, headers: usize) -> Result<u16, Error> {
    inner_len.checked_add(headers as u16).ok_or(Error::TooLong {
        what,
        payload: usize::from(inner_len),
    })
}

/// `at` is a constant below N - 1 at each call, so the compiler drops the bounds checks.
#[inline(always)]
fn put<const N: usize>(out: &mut [u8; N], at: usize, value: u16) {
    let [high, low] = value.to_be_bytes();
    out[at] = high;
    out[at + 1] = low;
}
