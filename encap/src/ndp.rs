//! Neighbour discovery for IPv6 over Ethernet (RFC 4861; duplicate address detection, RFC 4862;
//! addresses on Ethernet, RFC 2464).

use std::net::Ipv6Addr;

use crate::error::{self, Error};
use crate::ethernet::Mac;
use crate::extension::{ExtensionError, Upper, walk_v6};
use crate::field::{clamped, read, read_u8, write, write_u16};
use crate::icmpv6::checksum_v6;
use crate::ip::PROTOCOL_ICMPV6;
use crate::ipv6::{HEADER_LEN, Ipv6Packet, Ipv6Repr};

/// Router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect.
pub const REDIRECT: u8 = 137;

/// All nodes of the link (RFC 4291, section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Bytes of the longest packet written here: a message with a target and one option.
pub const MAX_LEN: usize = HEADER_LEN + TARGET_LEN + OPTION_LEN;

/// Bytes of a message with a target, without options.
const TARGET_LEN: usize = 24;
/// Bytes of a link-layer address option for Ethernet (RFC 2464, section 6).
const OPTION_LEN: usize = 8;
/// It shows that no router has forwarded the packet.
const HOP_LIMIT: u8 = 255;
const SOURCE_LLADDR: u8 = 1;
const TARGET_LLADDR: u8 = 2;

/// A message that passed the checks of RFC 4861.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NdpMessage {
    /// Who has `target`? From the unspecified address: is it free (RFC 4862, section 5.4)?
    NeighbourSolicitation {
        /// The address in question.
        target: Ipv6Addr,
        /// The asker's MAC; never in a probe for a duplicate.
        source_lladdr: Option<Mac>,
    },
    /// `target` is here.
    NeighbourAdvertisement {
        /// The address.
        target: Ipv6Addr,
        /// The R flag: from a router.
        router: bool,
        /// The S flag: in answer to a solicitation.
        solicited: bool,
        /// The O flag: replaces what a neighbour had noted.
        overrides: bool,
        /// The MAC of `target`.
        target_lladdr: Option<Mac>,
    },
    /// Where are routers?
    RouterSolicitation,
    /// Here is one.
    RouterAdvertisement,
    /// There is a better first hop.
    Redirect,
}

/// Why a packet is no valid message of neighbour discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NdpError {
    /// The IPv6 header is not sound.
    #[error(transparent)]
    Header(#[from] Error),
    /// The extension headers are not.
    #[error(transparent)]
    Extension(#[from] ExtensionError),
    /// Not ICMPv6 of a type from 133 to 137: another protocol.
    #[error("NDP: no neighbour discovery message")]
    NotNdp,
    /// Neighbour discovery is never fragmented (RFC 6980, section 5).
    #[error("NDP: fragmented (RFC 6980)")]
    Fragmented,
    /// It has been forwarded, so it is from another link.
    #[error("NDP: hop limit {0}, not 255")]
    BadHopLimit(u8),
    /// The checksum is wrong.
    #[error("NDP: wrong checksum")]
    BadChecksum,
    /// The code is not 0.
    #[error("NDP: code {0}, not 0")]
    BadCode(u8),
    /// Shorter than its type demands.
    #[error("NDP: type {kind} in {have} bytes")]
    TooShort {
        /// Type.
        kind: u8,
        /// Bytes of the ICMPv6 message.
        have: usize,
    },
    /// An option of length zero, one that does not fit, or a link-layer address that is not
    /// Ethernet's.
    #[error("NDP: bad option")]
    BadOption,
    /// Addresses or flags that RFC 4861, sections 6.1, 7.1 and 8.1, forbid together.
    #[error("NDP: type {0} with addresses that cannot be")]
    BadAddress(u8),
}

/// The type of a message, 133 to 137, in a packet whose extension headers end at `upper`; also in
/// the first fragment of one, and whatever else may be wrong with it. For guards, which must
/// also stop what [`parse_ndp`] refuses (RFC 7113).
#[inline]
#[must_use]
pub fn ndp_type(packet: &[u8], upper: &Upper) -> Option<u8> {
    if upper.protocol != PROTOCOL_ICMPV6 || upper.is_later_fragment() {
        return None;
    }
    let kind = packet.get(upper.offset).copied()?;
    (ROUTER_SOLICITATION..=REDIRECT)
        .contains(&kind)
        .then_some(kind)
}

/// Reads a whole IPv6 packet. Bytes behind the packet (padding) are ignored.
///
/// What a node must verify is verified: RFC 4861, sections 6.1.1, 6.1.2, 7.1.1, 7.1.2 and 8.1.
/// Whether the sender may say so is the caller's to judge.
pub fn parse_ndp(packet: &[u8]) -> Result<NdpMessage, NdpError> {
    let ip = Ipv6Packet::new_checked(packet)?;
    let upper = walk_v6(packet)?;
    let kind = ndp_type(packet, &upper).ok_or(NdpError::NotNdp)?;
    if upper.fragment.is_some() {
        return Err(NdpError::Fragmented);
    }
    if ip.hop_limit() != HOP_LIMIT {
        return Err(NdpError::BadHopLimit(ip.hop_limit()));
    }
    let end = HEADER_LEN + usize::from(ip.payload_len());
    let message = clamped(packet, upper.offset, end);
    let (src, dst) = (ip.src(), ip.dst());
    if checksum_v6(src, dst, message) != 0 {
        return Err(NdpError::BadChecksum);
    }
    let code = read_u8(message, 1);
    if code != 0 {
        return Err(NdpError::BadCode(code));
    }
    let fixed = match kind {
        ROUTER_SOLICITATION => 8,
        ROUTER_ADVERTISEMENT => 16,
        REDIRECT => 40,
        _ => TARGET_LEN,
    };
    let options = message.get(fixed..).ok_or(NdpError::TooShort {
        kind,
        have: message.len(),
    })?;
    let options = Options::read(options)?;
    let target = Ipv6Addr::from(read::<16>(message, 8..24));
    let flags = read_u8(message, 4);
    let solicited = flags & 0x40 != 0;
    let unspecified = src.is_unspecified();
    let sound = match kind {
        ROUTER_SOLICITATION => !(unspecified && options.source.is_some()),
        ROUTER_ADVERTISEMENT => src.is_unicast_link_local(),
        NEIGHBOUR_SOLICITATION => {
            !target.is_multicast()
                && !(unspecified && (options.source.is_some() || !is_solicited_node(dst)))
        }
        NEIGHBOUR_ADVERTISEMENT => !(target.is_multicast() || (solicited && dst.is_multicast())),
        _ => {
            let destination = Ipv6Addr::from(read::<16>(message, 24..40));
            src.is_unicast_link_local()
                && !destination.is_multicast()
                && (target.is_unicast_link_local() || target == destination)
        }
    };
    if !sound || src.is_multicast() {
        return Err(NdpError::BadAddress(kind));
    }
    Ok(match kind {
        ROUTER_SOLICITATION => NdpMessage::RouterSolicitation,
        ROUTER_ADVERTISEMENT => NdpMessage::RouterAdvertisement,
        NEIGHBOUR_SOLICITATION => NdpMessage::NeighbourSolicitation {
            target,
            source_lladdr: options.source,
        },
        NEIGHBOUR_ADVERTISEMENT => NdpMessage::NeighbourAdvertisement {
            target,
            router: flags & 0x80 != 0,
            solicited,
            overrides: flags & 0x20 != 0,
            target_lladdr: options.target,
        },
        _ => NdpMessage::Redirect,
    })
}

/// The link-layer addresses among a message's options; the last of a kind counts.
#[derive(Default)]
struct Options {
    source: Option<Mac>,
    target: Option<Mac>,
}

impl Options {
    fn read(mut rest: &[u8]) -> Result<Self, NdpError> {
        let mut options = Self::default();
        while let Some(kind) = rest.first() {
            let length = usize::from(read_u8(rest, 1)) * 8;
            let (option, behind) = rest
                .split_at_checked(length)
                .filter(|(option, _)| !option.is_empty())
                .ok_or(NdpError::BadOption)?;
            if matches!(*kind, SOURCE_LLADDR | TARGET_LLADDR) {
                if length != OPTION_LEN {
                    return Err(NdpError::BadOption);
                }
                let mac = Some(read(option, 2..8));
                if *kind == SOURCE_LLADDR {
                    options.source = mac;
                } else {
                    options.target = mac;
                }
            }
            rest = behind;
        }
        Ok(options)
    }
}

/// What [`emit_advertisement`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NaParams {
    /// Source of the packet.
    pub src: Ipv6Addr,
    /// Destination: the asker, or [`ALL_NODES`] when its address is unspecified.
    pub dst: Ipv6Addr,
    /// The address that is here.
    pub target: Ipv6Addr,
    /// Its MAC.
    pub lladdr: Mac,
    /// The R flag.
    pub router: bool,
    /// The S flag; not with a multicast destination.
    pub solicited: bool,
    /// The O flag; not from a proxy (RFC 4861, section 7.2.8).
    pub overrides: bool,
}

/// Writes a neighbour advertisement with its target's MAC as a whole IPv6 packet, hop limit 255,
/// and returns its length: [`MAX_LEN`]. Fails with [`Error::Truncated`].
pub fn emit_advertisement(out: &mut [u8], params: &NaParams) -> Result<usize, Error> {
    let flags = u8::from(params.router) << 7
        | u8::from(params.solicited) << 6
        | u8::from(params.overrides) << 5;
    let head = [NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    let option = Some((TARGET_LLADDR, params.lladdr));
    emit(out, params.src, params.dst, head, params.target, option)
}

/// Writes a neighbour solicitation for `target` to its [`solicited_node`] address as a whole IPv6
/// packet, hop limit 255, and returns its length: [`MAX_LEN`], or 8 less from the unspecified
/// address, which asks for a duplicate and says no MAC (RFC 4861, section 4.3). Fails with
/// [`Error::Truncated`].
pub fn emit_solicitation(
    out: &mut [u8],
    src: Ipv6Addr,
    target: Ipv6Addr,
    lladdr: Mac,
) -> Result<usize, Error> {
    let head = [NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    let option = (!src.is_unspecified()).then_some((SOURCE_LLADDR, lladdr));
    emit(out, src, solicited_node(target), head, target, option)
}

fn emit(
    out: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    head: [u8; 8],
    target: Ipv6Addr,
    option: Option<(u8, Mac)>,
) -> Result<usize, Error> {
    let message_len = TARGET_LEN + option.map_or(0, |_| OPTION_LEN);
    let length = HEADER_LEN + message_len;
    error::need("NDP", length, out)?;
    let (header, message) = out
        .get_mut(..length)
        .and_then(|out| out.split_at_mut_checked(HEADER_LEN))
        .unwrap_or_default();
    Ipv6Repr {
        src,
        dst,
        next_header: PROTOCOL_ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        payload_len: message_len as u16,
    }
    .emit(header)?;
    write(message, 0..8, head);
    write(message, 8..24, target.octets());
    if let Some((kind, [a, b, c, d, e, f])) = option {
        write(message, 24..32, [kind, 1, a, b, c, d, e, f]);
    }
    let checksum = checksum_v6(src, dst, message);
    write_u16(message, 2..4, checksum);
    Ok(length)
}

/// The multicast address where a node listens for solicitations of `address` (RFC 4291, section
/// 2.7.1): ff02::1:ff00:0/104 and the lower 24 bits.
#[inline]
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

/// True for an address that [`solicited_node`] gives.
fn is_solicited_node(address: Ipv6Addr) -> bool {
    address == solicited_node(address)
}

/// The MAC of a multicast address (RFC 2464, section 7): 33:33 and its lower 32 bits.
#[inline]
#[must_use]
pub const fn multicast_mac(address: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = address.octets();
    [0x33, 0x33, a, b, c, d]
}

#[cfg(test)]
mod tests;
