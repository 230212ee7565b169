//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use crate::error::{self, Error};
use crate::ethernet::{ETHERTYPE_IPV4, Mac};
use crate::field::{read, read_u8, read_u16, write, write_u8, write_u16};

/// Bytes of a packet; Ethernet padding may follow.
pub const PACKET_LEN: usize = 28;

/// `ar$hrd` of Ethernet.
const HARDWARE_ETHERNET: u16 = 1;

mod field {
    use std::ops::Range;

    pub(super) const HARDWARE_TYPE: Range<usize> = 0..2;
    pub(super) const PROTOCOL_TYPE: Range<usize> = 2..4;
    pub(super) const HARDWARE_LEN: usize = 4;
    pub(super) const PROTOCOL_LEN: usize = 5;
    pub(super) const OPERATION: Range<usize> = 6..8;
    pub(super) const SENDER_HARDWARE: Range<usize> = 8..14;
    pub(super) const SENDER_PROTOCOL: Range<usize> = 14..18;
    pub(super) const TARGET_HARDWARE: Range<usize> = 18..24;
    pub(super) const TARGET_PROTOCOL: Range<usize> = 24..28;
}

/// `ar$op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArpOperation {
    /// Who has the target protocol address?
    Request,
    /// The sender has the sender protocol address.
    Reply,
}

impl ArpOperation {
    /// The number on the wire.
    #[inline]
    pub const fn code(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
        }
    }
}

impl TryFrom<u16> for ArpOperation {
    type Error = Error;

    fn try_from(code: u16) -> Result<Self, Error> {
        match code {
            1 => Ok(Self::Request),
            2 => Ok(Self::Reply),
            other => Err(Error::BadArpOperation(other)),
        }
    }
}

/// A request or reply for IPv4 over Ethernet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArpPacket<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> ArpPacket<T> {
    /// Fails with [`Error::Truncated`], [`Error::BadArpFormat`] or [`Error::BadArpOperation`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let data = buffer.as_ref();
        error::need("ARP", PACKET_LEN, data)?;
        let hardware_type = read_u16(data, field::HARDWARE_TYPE);
        let protocol_type = read_u16(data, field::PROTOCOL_TYPE);
        let hardware_len = read_u8(data, field::HARDWARE_LEN);
        let protocol_len = read_u8(data, field::PROTOCOL_LEN);
        let format = (hardware_type, protocol_type, hardware_len, protocol_len);
        if format != (HARDWARE_ETHERNET, ETHERTYPE_IPV4, 6, 4) {
            return Err(Error::BadArpFormat {
                hardware_type,
                protocol_type,
                hardware_len,
                protocol_len,
            });
        }
        ArpOperation::try_from(read_u16(data, field::OPERATION))?;
        Ok(Self { buffer })
    }

    /// Gives the buffer back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// `ar$op`.
    #[inline]
    pub fn operation(&self) -> ArpOperation {
        match read_u16(self.buffer.as_ref(), field::OPERATION) {
            2 => ArpOperation::Reply,
            _ => ArpOperation::Request,
        }
    }

    /// `ar$sha`.
    #[inline]
    pub fn sender_hardware_addr(&self) -> Mac {
        read(self.buffer.as_ref(), field::SENDER_HARDWARE)
    }

    /// `ar$spa`; unspecified in a probe (RFC 5227).
    #[inline]
    pub fn sender_protocol_addr(&self) -> Ipv4Addr {
        Ipv4Addr::from(read(self.buffer.as_ref(), field::SENDER_PROTOCOL))
    }

    /// `ar$tha`; means nothing in a request.
    #[inline]
    pub fn target_hardware_addr(&self) -> Mac {
        read(self.buffer.as_ref(), field::TARGET_HARDWARE)
    }

    /// `ar$tpa`.
    #[inline]
    pub fn target_protocol_addr(&self) -> Ipv4Addr {
        Ipv4Addr::from(read(self.buffer.as_ref(), field::TARGET_PROTOCOL))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> ArpPacket<T> {
    /// Sets `ar$op`.
    #[inline]
    pub fn set_operation(&mut self, value: ArpOperation) {
        write_u16(self.buffer.as_mut(), field::OPERATION, value.code());
    }

    /// Sets `ar$sha`.
    #[inline]
    pub fn set_sender_hardware_addr(&mut self, value: Mac) {
        write(self.buffer.as_mut(), field::SENDER_HARDWARE, value);
    }

    /// Sets `ar$spa`.
    #[inline]
    pub fn set_sender_protocol_addr(&mut self, value: Ipv4Addr) {
        write(self.buffer.as_mut(), field::SENDER_PROTOCOL, value.octets());
    }

    /// Sets `ar$tha`.
    #[inline]
    pub fn set_target_hardware_addr(&mut self, value: Mac) {
        write(self.buffer.as_mut(), field::TARGET_HARDWARE, value);
    }

    /// Sets `ar$tpa`.
    #[inline]
    pub fn set_target_protocol_addr(&mut self, value: Ipv4Addr) {
        write(self.buffer.as_mut(), field::TARGET_PROTOCOL, value.octets());
    }
}

/// A packet in host terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpRepr {
    /// `ar$op`.
    pub operation: ArpOperation,
    /// `ar$sha`.
    pub sender_hardware_addr: Mac,
    /// `ar$spa`.
    pub sender_protocol_addr: Ipv4Addr,
    /// `ar$tha`.
    pub target_hardware_addr: Mac,
    /// `ar$tpa`.
    pub target_protocol_addr: Ipv4Addr,
}

impl ArpRepr {
    /// Asks who has `target`; the unknown hardware address is zero.
    pub fn request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self {
            operation: ArpOperation::Request,
            sender_hardware_addr: mac,
            sender_protocol_addr: sender,
            target_hardware_addr: [0; 6],
            target_protocol_addr: target,
        }
    }

    /// Answers this request: `mac` has the target protocol address.
    pub fn answer(&self, mac: Mac) -> Self {
        Self {
            operation: ArpOperation::Reply,
            sender_hardware_addr: mac,
            sender_protocol_addr: self.target_protocol_addr,
            target_hardware_addr: self.sender_hardware_addr,
            target_protocol_addr: self.sender_protocol_addr,
        }
    }

    /// Reads a checked packet.
    pub fn parse<T: AsRef<[u8]>>(packet: &ArpPacket<T>) -> Self {
        Self {
            operation: packet.operation(),
            sender_hardware_addr: packet.sender_hardware_addr(),
            sender_protocol_addr: packet.sender_protocol_addr(),
            target_hardware_addr: packet.target_hardware_addr(),
            target_protocol_addr: packet.target_protocol_addr(),
        }
    }

    /// Writes [`PACKET_LEN`] bytes. Fails with [`Error::Truncated`].
    pub fn emit(&self, buffer: &mut [u8]) -> Result<(), Error> {
        error::need("ARP", PACKET_LEN, buffer)?;
        write_u16(buffer, field::HARDWARE_TYPE, HARDWARE_ETHERNET);
        write_u16(buffer, field::PROTOCOL_TYPE, ETHERTYPE_IPV4);
        write_u8(buffer, field::HARDWARE_LEN, 6);
        write_u8(buffer, field::PROTOCOL_LEN, 4);
        let mut packet = ArpPacket { buffer };
        packet.set_operation(self.operation);
        packet.set_sender_hardware_addr(self.sender_hardware_addr);
        packet.set_sender_protocol_addr(self.sender_protocol_addr);
        packet.set_target_hardware_addr(self.target_hardware_addr);
        packet.set_target_protocol_addr(self.target_protocol_addr);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; PACKET_LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
        2, 0, 0, 0, 0, 1, 10, 244, 1, 2, // sender
        0, 0, 0, 0, 0, 0, 169, 254, 1, 1, // target
    ];

    #[test]
    fn reads_a_request() {
        let packet = ArpPacket::new_checked(&REQUEST[..]).expect("a whole request");
        assert_eq!(
            ArpRepr::parse(&packet),
            ArpRepr::request(
                [2, 0, 0, 0, 0, 1],
                Ipv4Addr::new(10, 244, 1, 2),
                Ipv4Addr::new(169, 254, 1, 1)
            )
        );
    }

    #[test]
    fn emits_the_same_bytes() {
        let packet = ArpPacket::new_checked(&REQUEST[..]).expect("a whole request");
        let mut out = [0xa5; PACKET_LEN];
        ArpRepr::parse(&packet)
            .emit(&mut out)
            .expect("the buffer holds a packet");
        assert_eq!(out, REQUEST);
    }

    #[test]
    fn answers_with_the_roles_turned() {
        let packet = ArpPacket::new_checked(&REQUEST[..]).expect("a whole request");
        let reply = ArpRepr::parse(&packet).answer([0xee; 6]);
        assert_eq!(reply.operation, ArpOperation::Reply);
        assert_eq!(reply.sender_hardware_addr, [0xee; 6]);
        assert_eq!(reply.sender_protocol_addr, Ipv4Addr::new(169, 254, 1, 1));
        assert_eq!(reply.target_hardware_addr, [2, 0, 0, 0, 0, 1]);
        assert_eq!(reply.target_protocol_addr, Ipv4Addr::new(10, 244, 1, 2));
    }

    #[test]
    fn refuses_other_formats() {
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16)] {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert!(
                matches!(
                    ArpPacket::new_checked(&bytes),
                    Err(Error::BadArpFormat { .. })
                ),
                "octet {at} = {value}"
            );
        }
    }

    #[test]
    fn refuses_other_operations_and_short_packets() {
        for operation in [0u8, 3, 8] {
            let mut bytes = REQUEST;
            bytes[7] = operation;
            assert_eq!(
                ArpPacket::new_checked(&bytes).err(),
                Some(Error::BadArpOperation(u16::from(operation)))
            );
        }
        assert_eq!(
            ArpPacket::new_checked(&REQUEST[..27]).err(),
            Some(Error::Truncated {
                what: "ARP",
                need: 28,
                have: 27
            })
        );
    }

    #[test]
    fn setters_turn_a_request_into_its_reply() {
        let mut bytes = REQUEST;
        let mut packet = ArpPacket::new_checked(&mut bytes[..]).expect("a whole request");
        let reply = ArpRepr::parse(&packet).answer([0xee; 6]);
        packet.set_operation(reply.operation);
        packet.set_sender_hardware_addr(reply.sender_hardware_addr);
        packet.set_sender_protocol_addr(reply.sender_protocol_addr);
        packet.set_target_hardware_addr(reply.target_hardware_addr);
        packet.set_target_protocol_addr(reply.target_protocol_addr);
        assert_eq!(ArpRepr::parse(&packet), reply);
    }
}
