//! Reading rtnetlink messages: headers by offset, attributes by need. Any bytes are taken; what
//! is malformed ends the walk.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_HEADER_SIZE, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, NlasIterator};
use shunt_api::MacAddr;

/// `struct nlmsghdr`: length, type, flags, sequence number and port id.
const HEADER: usize = 16;

/// `NLMSGERR_ATTR_MSG` of `enum nlmsgerr_attrs`, include/uapi/linux/netlink.h: words for people.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message of a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    /// `nlmsg_type`: `RTM_*`.
    pub(super) kind: u16,
    /// `nlmsg_flags`: `NLM_F_*`.
    pub(super) flags: u16,
    /// `nlmsg_seq` of the request that it answers.
    pub(super) sequence: u32,
    /// What follows the header.
    pub(super) payload: &'a [u8],
}

/// The messages of a datagram (netlink(7)), up to its end or the first malformed one.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message = Message {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            sequence: u32_at(datagram, 8)?,
            payload: datagram.get(HEADER..length)?,
        };
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(message)
    })
}

impl<'a> Message<'a> {
    /// When the message ends an answer: 0, or the negative error number. Err when it ends one but
    /// does not say how.
    pub(super) fn outcome(&self) -> Option<Result<i32, &'static str>> {
        let code = u32_at(self.payload, 0).map(u32::cast_signed);
        match self.kind {
            NLMSG_ERROR => Some(code.ok_or("an acknowledgement without an error number")),
            NLMSG_DONE => Some(Ok(code.unwrap_or(0))),
            NLMSG_OVERRUN => Some(Err("data lost")),
            _ => None,
        }
    }

    /// The words with which the kernel explains a refusal (`NLMSGERR_ATTR_MSG`), when the request
    /// is not echoed (`NETLINK_CAP_ACK`).
    pub(super) fn explanation(&self) -> Option<String> {
        let echoed_header = if self.kind == NLMSG_ERROR { HEADER } else { 0 };
        let text = attribute(self.payload.get(4 + echoed_header..)?, NLMSGERR_ATTR_MSG)?;
        string(text)
    }

    /// The attribute `kind` behind a family header of `header` bytes.
    pub(super) fn attribute(&self, header: usize, kind: u16) -> Option<&'a [u8]> {
        attribute(self.payload.get(header..)?, kind)
    }
}

/// The value of the first attribute `kind` in a sequence of attributes.
pub(super) fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|found| found.kind() == kind)
        .and_then(|found| {
            let length = usize::from(found.length());
            found.into_inner().get(NLA_HEADER_SIZE..length)
        })
}

pub(super) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// An attribute that is a number of 32 bits.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// An attribute that is an IPv4 or IPv6 address, by its length.
pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(*value.first_chunk::<4>()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(*value.first_chunk::<16>()?))),
        _ => None,
    }
}

/// An attribute that is an Ethernet address; None for other link layers, and for all zeros, which
/// `lo` has.
pub(super) fn mac(value: &[u8]) -> Option<MacAddr> {
    let mac = MacAddr(value.try_into().ok()?);
    (!mac.is_zero()).then_some(mac)
}

/// An attribute that is a string, with or without its NUL.
pub(super) fn string(value: &[u8]) -> Option<String> {
    let text = value.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32 + 16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_datagram_is_split_at_aligned_lengths() {
        let datagram = [message(16, 7, &[1, 2, 3]), message(3, 7, &[])].concat();
        let found: Vec<_> = messages(&datagram).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].kind, found[0].sequence, found[0].payload),
            (16, 7, &[1, 2, 3][..])
        );
        assert_eq!(found[0].outcome(), None);
        assert_eq!(found[1].outcome(), Some(Ok(0)));
    }

    #[test]
    fn refusals_carry_their_number_and_words() {
        let mut payload = (-95i32).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend(nla(2, &[0; 4]));
        payload.extend(nla(NLMSGERR_ATTR_MSG, b"Not today\0"));
        let datagram = message(NLMSG_ERROR, 1, &payload);
        let refusal = messages(&datagram).next().unwrap();
        assert_eq!(refusal.outcome(), Some(Ok(-95)));
        assert_eq!(refusal.explanation().as_deref(), Some("Not today"));
        let bare = message(NLMSG_ERROR, 1, &[]);
        assert!(matches!(
            messages(&bare).next().unwrap().outcome(),
            Some(Err(_))
        ));
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        let good = message(16, 1, &[0; 8]);
        for length in [0u32, 1, 15, 25, 1 << 20, u32::MAX] {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(messages(&bad).count(), 0, "{length}");
        }
        for cut in 0..good.len() {
            assert_eq!(messages(&good[..cut]).count(), 0, "{cut}");
        }
        let attributes = [nla(3, b"eth0\0"), nla(4, &[0; 4])].concat();
        assert_eq!(attribute(&attributes, 3), Some(&b"eth0\0"[..]));
        assert_eq!(attribute(&attributes, 4), Some(&[0; 4][..]));
        assert_eq!(attribute(&attributes, 5), None);
        for length in [0u16, 3, 10, u16::MAX] {
            let mut bad = attributes.clone();
            bad[12..14].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(attribute(&bad, 4), None, "{length}");
        }
    }

    #[test]
    fn values_of_the_wrong_size_are_no_values() {
        assert_eq!(address(&[10, 0, 0, 1]), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(address(&[0; 5]), None);
        assert_eq!(mac(&[2, 0, 0, 0, 0, 1]), Some(MacAddr([2, 0, 0, 0, 0, 1])));
        assert_eq!(mac(&[0; 6]), None);
        assert_eq!(mac(&[1; 20]), None);
        assert_eq!(number(&[1, 0]), None);
        assert_eq!(string(b"veth"), Some("veth".to_owned()));
    }
}
