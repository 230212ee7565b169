//! Frames made by hand, right and wrong ones, and a raw socket to send them.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use shunt_api::MacAddr;
use smoltcp::phy::{ChecksumCapabilities, Device, Medium, RawSocket, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet, Icmpv4Repr,
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use crate::netns::Netns;

/// The broadcast MAC address.
pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

/// Sends frames out of `device` as they are, through an AF_PACKET socket.
///
/// # Errors
/// When the socket cannot be opened or is busy.
///
/// # Panics
/// When the kernel refuses a frame: it takes 14 bytes at least and the device's MTU at most.
pub fn inject(netns: &Netns, device: &str, frames: &[Vec<u8>]) -> Result<()> {
    netns.within(|| -> Result<()> {
        let mut socket = RawSocket::new(device, Medium::Ethernet)
            .with_context(|| format!("AF_PACKET socket on {device}"))?;
        for frame in frames {
            let token = socket
                .transmit(Instant::now())
                .context("AF_PACKET socket is busy")?;
            token.consume(frame.len(), |buffer| buffer.copy_from_slice(frame));
        }
        Ok(())
    })?
}

/// An Ethernet II frame.
pub fn ethernet(source: MacAddr, destination: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let repr = EthernetRepr {
        src_addr: EthernetAddress(source.0),
        dst_addr: EthernetAddress(destination.0),
        ethertype: EthernetProtocol::from(ethertype),
    };
    let mut bytes = vec![0; repr.buffer_len() + payload.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    repr.emit(&mut frame);
    frame.payload_mut().copy_from_slice(payload);
    bytes
}

/// An Ethernet frame with an IPv4 packet.
pub fn ethernet_ipv4(source: MacAddr, destination: MacAddr, packet: &[u8]) -> Vec<u8> {
    ethernet(source, destination, 0x0800, packet)
}

/// An IPv4 packet (RFC 791) with a right checksum.
pub fn ipv4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    payload: &[u8],
) -> Vec<u8> {
    let repr = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::from(protocol),
        payload_len: payload.len(),
        hop_limit: ttl,
    };
    let mut bytes = vec![0; repr.buffer_len() + payload.len()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    repr.emit(&mut packet, &ChecksumCapabilities::default());
    packet.payload_mut().copy_from_slice(payload);
    bytes
}

/// Sets an IPv4 packet's checksum right again after its header was changed by hand.
pub fn fix_checksum(packet: &mut [u8]) {
    Ipv4Packet::new_unchecked(packet).fill_checksum();
}

/// A UDP datagram (RFC 768) in an IPv4 packet, with right checksums.
pub fn udp(
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    ttl: u8,
    payload: &[u8],
) -> Vec<u8> {
    let repr = UdpRepr {
        src_port: source.1,
        dst_port: destination.1,
    };
    let mut bytes = vec![0; repr.header_len() + payload.len()];
    repr.emit(
        &mut UdpPacket::new_unchecked(&mut bytes),
        &IpAddress::Ipv4(source.0),
        &IpAddress::Ipv4(destination.0),
        payload.len(),
        |buffer| buffer.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    ipv4(source.0, destination.0, 17, ttl, &bytes)
}

/// An ICMP echo request (RFC 792) in an IPv4 packet.
pub fn echo_request(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest {
        ident: 0x5348,
        seq_no: 1,
        data: b"shunt",
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &mut Icmpv4Packet::new_unchecked(&mut bytes),
        &ChecksumCapabilities::default(),
    );
    ipv4(source, destination, 1, ttl, &bytes)
}

/// A VXLAN header (RFC 7348, 5) and the frame within.
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x08, 0, 0, 0];
    bytes.extend_from_slice(&(vni << 8).to_be_bytes());
    bytes.extend_from_slice(frame);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn a_packet_parses_as_what_it_was_made_of() {
        let bytes = udp((A, 7), (B, 9), 5, b"hello");
        let packet = Ipv4Packet::new_checked(&bytes).unwrap();
        assert!(packet.verify_checksum());
        assert_eq!(
            (packet.src_addr(), packet.dst_addr(), packet.hop_limit()),
            (A, B, 5)
        );
        let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
        assert!(datagram.verify_checksum(&IpAddress::Ipv4(A), &IpAddress::Ipv4(B)));
        assert_eq!(datagram.payload(), b"hello");
        assert_eq!(
            vxlan(0x123456, &[0xaa])[..],
            [8, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0xaa]
        );
        let frame = ethernet_ipv4(MacAddr([2; 6]), BROADCAST, &bytes);
        assert_eq!(
            frame[..14],
            [255, 255, 255, 255, 255, 255, 2, 2, 2, 2, 2, 2, 8, 0]
        );
    }
}
