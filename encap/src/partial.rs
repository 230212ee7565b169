//! Checksums that Linux left to the hardware.
//!
//! A packet whose checksum is CHECKSUM_PARTIAL (include/linux/skbuff.h) carries in its TCP or UDP
//! checksum field the folded sum of the pseudo-header, not inverted; the device is to sum from
//! `csum_start` to the end, that field included, and store the inverse at `csum_offset`. A veth
//! hands such packets to XDP as they are, and AF_XDP tells nothing about them. They are recognised
//! by their field: it equals the pseudo-header's sum.
//!
//! # Why a mistaken match is harmless
//! A finished checksum may equal the pseudo-header's sum by chance (one packet in 65536). Let P be
//! that sum and D the sum of all else that is covered. A finished checksum C is `!(P + D)`. With
//! C = P, completion computes `!(C + D) = !(P + D) = C`: the value that was there. Only -0 (0xffff)
//! may become +0 in TCP, which a receiver cannot tell apart; UDP keeps 0xffff. The test
//! `mistaken_match_changes_nothing` shows it.
//!
//! What a match cannot tell is a packet damaged so that its field equals P: completing would make
//! it look right. Look only at packets from a local veth, which damages none, not from the wire.

use crate::checksum::Checksum;
use crate::error::{self, Error};
use crate::field::write_u16;
use crate::ip::{PROTOCOL_TCP, PROTOCOL_UDP};
use crate::ipv4::Ipv4Packet;
use crate::{tcp, udp};

/// Where to finish a checksum, in bytes from the start of the IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartialChecksum {
    /// Where the sum starts: at the transport header (`csum_start` of virtio_net_hdr, counted
    /// from the IP header).
    pub start: u16,
    /// Where the checksum field is. Unlike virtio_net_hdr's `csum_offset`, counted from the IP
    /// header, not from `start`.
    pub offset: u16,
}

impl PartialChecksum {
    /// Finishes the checksum of `packet`: exactly the IP packet, no padding behind it.
    ///
    /// A UDP checksum of 0 is written as 0xffff (RFC 768). Fails with [`Error::Truncated`], the
    /// packet unchanged.
    #[inline]
    pub fn complete(&self, packet: &mut [u8]) -> Result<(), Error> {
        self.complete_chain(packet, [])
    }

    /// As [`PartialChecksum::complete`] for a packet in several buffers: `head` from the IP header
    /// on, holding at least the transport checksum, then the `rest` in order, of any lengths.
    #[inline]
    pub fn complete_chain<'a>(
        &self,
        head: &mut [u8],
        rest: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        let (start, offset) = (usize::from(self.start), usize::from(self.offset));
        error::need("checksum field", offset + 2, head)?;
        let covered = head.get(start..).ok_or(Error::Truncated {
            what: "checksum start",
            need: start,
            have: head.len(),
        })?;
        let sum = rest
            .into_iter()
            .fold(Checksum::new().add(covered), Checksum::add);
        // A field before `start` is no transport header's, so not UDP's either.
        let checksum = sum.finish_at(offset.checked_sub(start).unwrap_or(usize::MAX));
        write_u16(head, offset..offset + 2, checksum);
        Ok(())
    }
}

/// Recognises a partial checksum in an IPv4 packet, or in the first buffer of one (only the
/// headers are read).
///
/// `None` for a finished checksum, for UDP without one (0), for fragments, for protocols other
/// than TCP and UDP, and when either header is not wholly there.
#[inline]
pub fn is_partial_l4_v4(packet: &[u8]) -> Option<PartialChecksum> {
    let ip = Ipv4Packet::new_checked_head(packet, usize::MAX).ok()?;
    if ip.is_fragment() {
        return None;
    }
    let protocol = ip.protocol();
    let (header_len, field) = match protocol {
        PROTOCOL_TCP => (tcp::HEADER_LEN, tcp::field::CHECKSUM),
        PROTOCOL_UDP => (udp::HEADER_LEN, udp::field::CHECKSUM),
        _ => return None,
    };
    let transport = ip.payload();
    if transport.len() < header_len {
        return None;
    }
    // Never 0, for the protocol is not: UDP's 0 (none) does not match.
    let len = u16::try_from(usize::from(ip.total_len()).checked_sub(ip.header_len())?).ok()?;
    let pseudo = Checksum::new()
        .add_pseudo_v4(ip.src(), ip.dst(), protocol, len)
        .folded();
    if crate::field::read_u16(transport, field.clone()) != pseudo {
        return None;
    }
    let start = u16::try_from(ip.header_len()).ok()?;
    let offset = start.checked_add(u16::try_from(field.start).ok()?)?;
    Some(PartialChecksum { start, offset })
}

/// Finishes the checksum of an IPv4 packet if it is partial, and tells whether it was. Padding
/// behind the packet is not summed.
///
/// Fails with [`Error::BadTotalLength`], the packet unchanged, when a part of it is missing; see
/// [`PartialChecksum::complete_chain`] for packets in several buffers.
#[inline]
pub fn complete_l4_v4(packet: &mut [u8]) -> Result<bool, Error> {
    let Some(partial) = is_partial_l4_v4(packet) else {
        return Ok(false);
    };
    let length = usize::from(Ipv4Packet::new_checked(&*packet)?.total_len());
    let have = packet.len();
    let exact = packet.get_mut(..length).ok_or(Error::BadTotalLength {
        what: "IPv4",
        length,
        have,
    })?;
    partial.complete(exact)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ipv4Repr, TcpPacket, UdpPacket, UdpRepr};
    use std::net::Ipv4Addr;

    const SRC: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
    const DST: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);

    fn ip(protocol: u8, transport: &[u8]) -> Vec<u8> {
        let repr = Ipv4Repr {
            src: SRC,
            dst: DST,
            protocol,
            ttl: 64,
            tos: 0,
            ident: 7,
            dont_fragment: true,
            payload_len: transport.len() as u16,
        };
        let mut packet = vec![0; 20];
        repr.emit(&mut packet).expect("20 bytes hold a header");
        packet.extend_from_slice(transport);
        packet
    }

    /// As Linux leaves it: the field holds the pseudo-header's sum.
    fn partial(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let (header_len, at) = if protocol == PROTOCOL_TCP {
            (20, 16)
        } else {
            (8, 6)
        };
        let mut transport = vec![0u8; header_len];
        transport.extend_from_slice(payload);
        if protocol == PROTOCOL_TCP {
            transport[12] = 0x50;
        } else {
            UdpRepr {
                src_port: 9,
                dst_port: 53,
                payload_len: payload.len() as u16,
            }
            .emit(&mut transport)
            .expect("8 bytes hold a header");
        }
        let len = transport.len() as u16;
        let pseudo = Checksum::new()
            .add_pseudo_v4(SRC, DST, protocol, len)
            .folded();
        transport[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
        ip(protocol, &transport)
    }

    fn is_right(packet: &[u8]) -> bool {
        let ip = Ipv4Packet::new_checked(packet).expect("sound");
        match ip.protocol() {
            PROTOCOL_TCP => TcpPacket::new_checked(ip.payload())
                .expect("sound")
                .verify_checksum_v4(ip.src(), ip.dst()),
            _ => {
                let udp = UdpPacket::new_checked(ip.payload()).expect("sound");
                udp.checksum() != 0 && udp.verify_checksum_v4(ip.src(), ip.dst())
            }
        }
    }

    #[test]
    fn recognises_and_completes_tcp_and_udp() {
        for (protocol, offset) in [(PROTOCOL_TCP, 36), (PROTOCOL_UDP, 26)] {
            for payload in [&b""[..], b"x", b"four", b"a longer payload, odd"] {
                let mut packet = partial(protocol, payload);
                assert!(!is_right(&packet));
                assert_eq!(
                    is_partial_l4_v4(&packet),
                    Some(PartialChecksum { start: 20, offset })
                );
                assert_eq!(complete_l4_v4(&mut packet), Ok(true));
                assert!(is_right(&packet));
                assert_eq!(complete_l4_v4(&mut packet), Ok(false), "now it is finished");
            }
        }
    }

    #[test]
    fn padding_is_not_summed() {
        let mut packet = partial(PROTOCOL_UDP, b"x");
        let len = packet.len();
        packet.extend_from_slice(&[0xee; 17]);
        assert_eq!(complete_l4_v4(&mut packet), Ok(true));
        assert!(is_right(&packet[..len]));
    }

    #[test]
    fn chains_cut_anywhere_equal_one_slice() {
        let payload: Vec<u8> = (0..=200u8).collect();
        for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
            let packet = partial(protocol, &payload);
            let mut whole = packet.clone();
            let partial = is_partial_l4_v4(&packet).expect("partial");
            partial.complete(&mut whole).expect("whole");
            for first in usize::from(partial.offset) + 2..packet.len() {
                let second = first + (packet.len() - first) / 3;
                let mut head = packet[..first].to_vec();
                partial
                    .complete_chain(&mut head, [&packet[first..second], &[], &packet[second..]])
                    .expect("the head holds the field");
                assert_eq!(head, whole[..first], "cut at {first}");
            }
        }
    }

    #[test]
    fn recognised_by_the_first_buffer_alone() {
        let packet = partial(PROTOCOL_TCP, &[5; 4000]);
        assert!(is_partial_l4_v4(&packet[..64]).is_some());
        let mut cut = packet[..64].to_vec();
        assert!(matches!(
            complete_l4_v4(&mut cut),
            Err(Error::BadTotalLength { .. })
        ));
        assert_eq!(cut, packet[..64]);
    }

    #[test]
    fn leaves_alone_what_is_not_partial() {
        let mut no_checksum = partial(PROTOCOL_UDP, b"abc");
        no_checksum[26..28].fill(0);
        assert_eq!(is_partial_l4_v4(&no_checksum), None);

        let sound = partial(PROTOCOL_TCP, b"abc");
        for flags in [0x2000u16, 0x0001, 0x1fff] {
            let mut fragment = sound.clone();
            fragment[6..8].copy_from_slice(&flags.to_be_bytes());
            assert_eq!(is_partial_l4_v4(&fragment), None, "flags {flags:#x}");
        }

        for len in 0..40 {
            assert_eq!(is_partial_l4_v4(&sound[..len]), None, "{len} bytes");
        }
        let mut short = sound.clone();
        short[2..4].copy_from_slice(&39u16.to_be_bytes());
        assert_eq!(is_partial_l4_v4(&short), None);

        // The field of TCP, at the same place, in a protocol that has none there.
        let mut other = sound;
        other[9] = 132;
        assert_eq!(is_partial_l4_v4(&other), None);
    }

    /// Looks for payloads whose finished checksum equals the pseudo-header's sum, and completes.
    #[test]
    fn mistaken_match_changes_nothing() {
        for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
            let mut matches = 0;
            for word in 0..=0xffffu16 {
                let mut packet = partial(protocol, &word.to_be_bytes());
                let field = is_partial_l4_v4(&packet).expect("partial").offset as usize;
                let pseudo = [packet[field], packet[field + 1]];
                assert_eq!(complete_l4_v4(&mut packet), Ok(true));
                if [packet[field], packet[field + 1]] == pseudo {
                    matches += 1;
                    let finished = packet.clone();
                    assert_eq!(complete_l4_v4(&mut packet), Ok(true), "it looks partial");
                    assert_eq!(packet, finished);
                    assert!(is_right(&packet));
                }
            }
            assert!(matches >= 1, "protocol {protocol}");
        }
    }

    #[test]
    fn udp_zero_becomes_ffff_and_tcp_zero_stays() {
        for (protocol, expected) in [(PROTOCOL_UDP, 0xffff), (PROTOCOL_TCP, 0u16)] {
            // The checksum of this payload's packet, appended as a word, makes the sum 0xffff.
            let mut packet = partial(protocol, &[0, 0]);
            let partial_sum = is_partial_l4_v4(&packet).expect("partial");
            let field = usize::from(partial_sum.offset);
            partial_sum.complete(&mut packet).expect("whole");
            let checksum = [packet[field], packet[field + 1]];
            let mut packet = partial(protocol, &checksum);
            partial_sum.complete(&mut packet).expect("whole");
            assert_eq!([packet[field], packet[field + 1]], expected.to_be_bytes());
        }
    }

    #[test]
    fn refuses_places_outside_the_packet() {
        let mut packet = [1u8; 24];
        for (start, offset) in [(0, 23), (25, 0), (65535, 65535)] {
            let result = PartialChecksum { start, offset }.complete(&mut packet);
            assert!(
                matches!(result, Err(Error::Truncated { .. })),
                "{start} {offset}"
            );
        }
        assert_eq!(packet, [1; 24]);
    }
}
