//! Tunnel packets that did not fit on their way: routers say so to the node's address, and the
//! kernel, which has not sent them, does not listen.

use std::net::IpAddr;

use shunt_encap::icmp::read_too_big_v4;
use shunt_encap::icmpv6::read_too_big_v6;
use shunt_encap::ip::{PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP};
use shunt_encap::{IpFamily, Ipv4Packet, Ipv6Packet, ipv6};

use super::daemon::Daemon;
use crate::sys::icmp::IcmpSocket;

/// The first of the source ports that VXLAN packets of ours have (RFC 7348, 5).
const FIRST_SOURCE_PORT: u16 = 0xc000;
/// The longest message that is read: it quotes the packet's first bytes, and those are enough.
const MESSAGE: usize = 2048;
/// Messages that are read at one go: a flood of them must not keep the rest from being done.
const AT_ONCE: usize = 64;

/// Who sent the packet that did not fit, to whom, and what it was.
struct Quoted {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: Option<(u16, u16)>,
    /// Bytes of the packet.
    length: u32,
}

impl Daemon {
    /// Reads what has come in.
    pub(crate) fn too_big(&mut self, socket: &IcmpSocket) {
        let mut buffer = [0; MESSAGE];
        for _ in 0..AT_ONCE {
            match socket.receive(&mut buffer) {
                Ok(Some(message)) => {
                    if let Some((mtu, quoted)) = read(socket.family(), message)
                        && quoted.length > mtu
                        && self.is_ours(&quoted)
                    {
                        self.note_path_mtu(quoted.destination, mtu);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    log::debug!("ICMP errors cannot be read: {error}");
                    return;
                }
            }
        }
    }

    /// Whether the switch has sent the packet: a message about any other, true or forged, says
    /// nothing about a tunnel.
    fn is_ours(&self, quoted: &Quoted) -> bool {
        let node = &self.config.node;
        let own =
            node.address == quoted.source || node.address6.map(IpAddr::V6) == Some(quoted.source);
        let tunnel = match quoted.protocol {
            PROTOCOL_IPIP | PROTOCOL_IPV6 => true,
            PROTOCOL_UDP => quoted.ports.is_some_and(|(source, destination)| {
                source >= FIRST_SOURCE_PORT && destination == self.config.vxlan.port
            }),
            _ => false,
        };
        let peers = &self.workers.current().underlay.peers;
        own && tunnel && peers.binary_search(&quoted.destination).is_ok()
    }
}

/// The MTU that a message names, and what it quotes.
fn read(family: IpFamily, message: &[u8]) -> Option<(u32, Quoted)> {
    let too_big = match family {
        IpFamily::V4 => read_too_big_v4(message)?,
        IpFamily::V6 => read_too_big_v6(message)?,
    };
    Some((too_big.mtu, quoted(family, too_big.outer)?))
}

fn quoted(family: IpFamily, packet: &[u8]) -> Option<Quoted> {
    let length;
    let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) = match family {
        IpFamily::V4 => {
            let header = Ipv4Packet::new_checked_head(packet, usize::MAX).ok()?;
            let payload = packet.get(header.header_len()..)?;
            length = u32::from(header.total_len());
            (
                header.src().into(),
                header.dst().into(),
                header.protocol(),
                payload,
            )
        }
        IpFamily::V6 => {
            let header = Ipv6Packet::new_checked_head(packet, usize::MAX).ok()?;
            let payload = packet.get(ipv6::HEADER_LEN..)?;
            length = ipv6::HEADER_LEN as u32 + u32::from(header.payload_len());
            (
                header.src().into(),
                header.dst().into(),
                header.next_header(),
                payload,
            )
        }
    };
    let ports = payload.first_chunk().map(|[a, b, c, d]| {
        let source = u16::from_be_bytes([*a, *b]);
        (source, u16::from_be_bytes([*c, *d]))
    });
    Some(Quoted {
        source,
        destination,
        protocol,
        ports,
        length,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shunt_encap::icmp::{ErrorV4, emit_error_v4};
    use shunt_encap::{Ipv4Repr, UdpRepr};

    use super::*;

    #[test]
    fn a_routers_message_about_a_vxlan_packet_is_read() {
        let (node, peer) = (
            Ipv4Addr::new(192, 168, 77, 1),
            Ipv4Addr::new(192, 168, 77, 2),
        );
        let mut packet = [0; 1000];
        let header = Ipv4Repr {
            src: node,
            dst: peer,
            protocol: PROTOCOL_UDP,
            ttl: 60,
            tos: 0,
            ident: 0,
            dont_fragment: true,
            payload_len: 980,
        };
        header.emit(&mut packet).expect("room");
        let udp = UdpRepr {
            src_port: 50_000,
            dst_port: 8472,
            payload_len: 972,
        };
        udp.emit(&mut packet[20..]).expect("room");
        let mut message = [0; 600];
        let router = Ipv4Addr::new(192, 168, 78, 9);
        let error = ErrorV4::FragmentationNeeded { mtu: 1400 };
        let length = emit_error_v4(&mut message, error, router, node, &packet).expect("a message");
        let (mtu, quoted) = read(IpFamily::V4, &message[..length]).expect("read");
        assert_eq!(mtu, 1400);
        assert_eq!(
            (quoted.source, quoted.destination),
            (node.into(), peer.into())
        );
        assert_eq!(
            (quoted.protocol, quoted.ports),
            (PROTOCOL_UDP, Some((50_000, 8472)))
        );
        assert_eq!(quoted.length, 1000);
        // Cut off before the ports, there is no telling what it was about.
        let short = read(IpFamily::V4, &message[..20 + 8 + 21]);
        assert!(short.is_none_or(|(_, quoted)| quoted.ports.is_none()));
    }
}
