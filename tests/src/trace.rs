//! What a capture shows of each IP packet: how it was carried, from whom to whom, and its mark.
//!
//! Read without tshark: the matrix asks for every packet of many captures, and needs four fields.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use shunt_api::MacAddr;

use crate::capture::Captured;
use crate::flannel;

/// How a packet travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carried {
    /// As it is.
    Plain,
    /// In VXLAN.
    Vxlan,
    /// In IPv4 or IPv6, without anything between.
    Ipip,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Vxlan => "vxlan",
            Self::Ipip => "ipip",
        })
    }
}

/// An IP packet in a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The frame's source MAC address.
    pub mac: MacAddr,
    /// How it is carried.
    pub carried: Carried,
    /// The tunnel's two ends, where it is in one.
    pub outer: Option<(IpAddr, IpAddr)>,
    /// The (inner) packet's source.
    pub source: IpAddr,
    /// The (inner) packet's destination.
    pub destination: IpAddr,
    /// Its protocol, or the first next header.
    pub protocol: u8,
    /// What follows its header.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Whether the payload contains `mark`.
    pub fn is_marked(&self, mark: &[u8]) -> bool {
        self.payload.windows(mark.len()).any(|part| part == mark)
    }

    /// Whether it is an ICMP error (RFC 792) or an ICMPv6 one (RFC 4443, 2.1).
    pub fn is_icmp_error(&self) -> bool {
        match (self.protocol, self.payload.first()) {
            (1, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
            (58, Some(kind)) => *kind < 128,
            _ => false,
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            carried,
            source,
            destination,
            protocol,
            ..
        } = self;
        write!(f, "{carried} {source} -> {destination} protocol {protocol}")?;
        if let Some((from, to)) = self.outer {
            write!(f, " in {from} -> {to}")?;
        }
        Ok(())
    }
}

/// The IP packets of a capture, in order; frames of other protocols are left out.
///
/// # Errors
/// When the file is no capture of Ethernet frames in pcap format, or a frame is cut.
pub fn packets(captured: &Captured) -> Result<Vec<Packet>> {
    let bytes = std::fs::read(captured.file())?;
    Ok(frames(&bytes)?.filter_map(ethernet).collect())
}

/// The frames of a pcap file written on this machine (pcap-savefile(5)).
fn frames(bytes: &[u8]) -> Result<impl Iterator<Item = &[u8]>> {
    let word = |at: usize| -> Result<u32> {
        let field = bytes.get(at..at + 4).context("truncated capture")?;
        Ok(u32::from_ne_bytes(field.try_into()?))
    };
    let magic = word(0)?;
    ensure!(
        matches!(magic, 0xa1b2_c3d4 | 0xa1b2_3c4d),
        "magic number {magic:#x} is not pcap's"
    );
    let link = word(20)?;
    ensure!(link == 1, "link type {link} is not Ethernet");
    let mut found = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let (length, original) = (word(at + 8)?, word(at + 12)?);
        if length != original {
            bail!("{length} of a frame's {original} bytes were captured");
        }
        let begin = at + 16;
        at = begin + usize::try_from(length)?;
        found.push(bytes.get(begin..at).context("truncated capture")?);
    }
    Ok(found.into_iter())
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn ethernet(frame: &[u8]) -> Option<Packet> {
    let mac = MacAddr(frame.get(6..12)?.try_into().ok()?);
    let (mut at, mut ethertype) = (14, be16(frame, 12)?);
    if ethertype == 0x8100 {
        (at, ethertype) = (18, be16(frame, 16)?);
    }
    matches!(ethertype, 0x0800 | 0x86dd).then_some(())?;
    let outer = ip(mac, frame.get(at..)?)?;
    let payload = &outer.payload;
    let (carried, inner) = match outer.protocol {
        4 | 41 => (Carried::Ipip, ip(mac, payload)),
        // UDP (8 bytes) and VXLAN (8 bytes, RFC 7348, 5).
        17 if be16(payload, 2) == Some(flannel::PORT) => {
            (Carried::Vxlan, ethernet(payload.get(16..)?))
        }
        _ => (Carried::Plain, None),
    };
    Some(match inner {
        Some(inner) => Packet {
            mac,
            carried,
            outer: Some((outer.source, outer.destination)),
            ..inner
        },
        None => outer,
    })
}

fn ip(mac: MacAddr, packet: &[u8]) -> Option<Packet> {
    let first = *packet.first()?;
    let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) = match first >> 4 {
        4 => {
            let address = |at: usize| -> Option<Ipv4Addr> {
                let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                Some(octets.into())
            };
            let total = usize::from(be16(packet, 2)?).min(packet.len());
            (
                address(12)?.into(),
                address(16)?.into(),
                *packet.get(9)?,
                packet.get(usize::from(first & 15) * 4..total)?,
            )
        }
        6 => {
            let address = |at: usize| -> Option<Ipv6Addr> {
                let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                Some(octets.into())
            };
            let total = (40 + usize::from(be16(packet, 4)?)).min(packet.len());
            (
                address(8)?.into(),
                address(24)?.into(),
                *packet.get(6)?,
                packet.get(40..total)?,
            )
        }
        _ => return None,
    };
    Some(Packet {
        mac,
        carried: Carried::Plain,
        outer: None,
        source,
        destination,
        protocol,
        payload: payload.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{ethernet as frame, ethernet_ipv4, ipv4, udp, vxlan};

    const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 11);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 11);
    const ONE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn tunnels_are_opened() {
        let inner = udp((POD, 7), (PEER, 9), 5, b"<mark>");
        let tunnel = vxlan(1, &ethernet_ipv4(MAC, MAC, &inner));
        let in_vxlan = ethernet_ipv4(MAC, MAC, &udp((ONE, 1), (TWO, flannel::PORT), 64, &tunnel));
        let in_ip = ethernet_ipv4(MAC, MAC, &ipv4(ONE, TWO, 4, 64, &inner));
        let plain = ethernet_ipv4(MAC, MAC, &inner);
        for (bytes, carried) in [
            (in_vxlan, Carried::Vxlan),
            (in_ip, Carried::Ipip),
            (plain, Carried::Plain),
        ] {
            let seen = ethernet(&bytes).unwrap();
            assert_eq!(seen.carried, carried);
            assert_eq!((seen.source, seen.destination), (POD.into(), PEER.into()));
            assert!(seen.is_marked(b"<mark>") && !seen.is_marked(b"<other>"));
            let ends = (carried != Carried::Plain).then_some((ONE.into(), TWO.into()));
            assert_eq!(seen.outer, ends, "{seen}");
        }
        assert_eq!(ethernet(&frame(MAC, MAC, 0x0806, &[0; 28])), None);
    }

    #[test]
    fn errors_are_told_from_echoes() {
        for (kind, error) in [(3, true), (11, true), (8, false), (0, false)] {
            let bytes = ethernet_ipv4(MAC, MAC, &ipv4(ONE, TWO, 1, 64, &[kind, 0, 0, 0]));
            assert_eq!(ethernet(&bytes).unwrap().is_icmp_error(), error, "{kind}");
        }
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let mut file = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        file.extend([0; 16]);
        file.extend(1u32.to_ne_bytes());
        file.extend([0; 8]);
        file.extend([4u32.to_ne_bytes(), 4u32.to_ne_bytes()].concat());
        assert!(frames(&file).is_err());
        file.extend([1, 2, 3, 4]);
        assert_eq!(frames(&file).unwrap().collect::<Vec<_>>(), [[1, 2, 3, 4]]);
        file.push(0);
        assert!(frames(&file).is_err());
        assert!(frames(&[0; 24]).is_err());
    }
}
