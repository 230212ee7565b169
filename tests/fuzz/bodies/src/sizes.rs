//! Fragments, the MSS, SCTP's checksum and outer headers: what sizes a packet, and what ends it.

use std::net::IpAddr;

use shunt_encap::extension::walk_v6;
use shunt_encap::fragment::{FragmentError, Fragments, MIN_MTU};
use shunt_encap::ip::{PROTOCOL_SCTP, PROTOCOL_UDP};
use shunt_encap::mss::clamp_mss;
use shunt_encap::{
    Checksum, DscpPolicy, EthernetFrame, IpFamily, IpipParams, Ipv4Packet, Ipv6Packet, OuterHeader,
    OuterKind, TcpPacket, UdpPacket, VxlanHeader, VxlanParams, needs_sctp_crc_v4,
    needs_sctp_crc_v6,
};

/// Any IPv4 packet cut to any MTU (the first two bytes), and each fragment cut again.
pub fn fragment(data: &[u8]) {
    let [high, low, packet @ ..] = data else {
        return;
    };
    let mtu = u16::from_be_bytes([*high, *low]);
    for piece in cut(packet, mtu) {
        cut(&piece, MIN_MTU);
    }
}

/// The fragments of a packet, known to hold all of it in order; none when it is refused.
fn cut(packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let pieces = Fragments::new(packet, packet.len(), mtu);
    let Ok(ip) = Ipv4Packet::new_checked_head(packet, usize::MAX) else {
        assert!(matches!(pieces, Err(FragmentError::Header(_))));
        return Vec::new();
    };
    let pieces = match pieces {
        Ok(pieces) => pieces,
        Err(FragmentError::DontFragment) => {
            assert!(ip.dont_fragment());
            return Vec::new();
        }
        Err(FragmentError::MtuTooSmall(said)) => {
            assert!(said == mtu && mtu < MIN_MTU);
            return Vec::new();
        }
        Err(FragmentError::BadOptions) => {
            assert!(!ip.options().is_empty());
            return Vec::new();
        }
        Err(FragmentError::BadLength(_)) => {
            let end = usize::from(ip.fragment_offset()) + packet.len();
            assert!(end > usize::from(u16::MAX));
            return Vec::new();
        }
        Err(FragmentError::Header(error)) => panic!("the header is sound: {error}"),
    };
    let payload = &packet[ip.header_len()..];
    let mut all = Vec::new();
    let mut together = Vec::new();
    for piece in pieces {
        let bytes = &payload[piece.payload.clone()];
        let whole = [&piece.header[..piece.header_len], bytes].concat();
        assert!(whole.len() <= usize::from(mtu));
        let view = Ipv4Packet::new_checked(&whole[..]).expect("a fragment is a sound packet");
        assert!(view.verify_checksum() && !view.dont_fragment());
        assert_eq!(view.payload(), bytes);
        let kept = |ip: &Ipv4Packet<&[u8]>| (ip.src(), ip.dst(), ip.ident(), ip.protocol());
        assert_eq!(kept(&view), kept(&ip));
        assert_eq!((view.ttl(), view.tos()), (ip.ttl(), ip.tos()));
        assert_eq!(piece.payload.start, together.len(), "no gap, no overlap");
        let offset = usize::from(ip.fragment_offset()) + piece.payload.start;
        assert_eq!(usize::from(view.fragment_offset()), offset);
        together.extend_from_slice(bytes);
        let last = together.len() == payload.len();
        assert_eq!(view.more_fragments(), !last || ip.more_fragments());
        assert!(last || (!bytes.is_empty() && bytes.len().is_multiple_of(8)));
        if all.is_empty() {
            assert_eq!(view.options(), ip.options(), "the first has all options");
        } else {
            assert!(view.options().len() <= ip.options().len());
        }
        all.push(whole);
    }
    assert_eq!(together, payload, "the fragments reassemble to the packet");
    assert_eq!(all.len() == 1, packet.len() <= usize::from(mtu));
    all
}

/// The MSS of any packet lowered to any value (the first two bytes).
pub fn mss(data: &[u8]) {
    let [high, low, packet @ ..] = data else {
        return;
    };
    let max = u16::from_be_bytes([*high, *low]);
    for partial in [false, true] {
        let mut copy = packet.to_vec();
        if !clamp_mss(&mut copy, max, partial) {
            assert_eq!(copy, packet, "nothing changed");
            continue;
        }
        assert_eq!(copy.len(), packet.len());
        let mut again = copy.clone();
        assert!(!clamp_mss(&mut again, max, partial), "once is enough");
        assert_eq!(again, copy);
        if !partial {
            let right = tcp_is_right(packet);
            assert_eq!(tcp_is_right(&copy), right, "as right as it was");
        }
    }
}

/// Whether the TCP checksum is right; `None` where a part of the packet is missing.
fn tcp_is_right(packet: &[u8]) -> Option<bool> {
    if let Ok(ip) = Ipv4Packet::new_checked(packet) {
        let segment = TcpPacket::new_checked(ip.payload()).ok()?;
        return Some(segment.verify_checksum_v4(ip.src(), ip.dst()));
    }
    let ip = Ipv6Packet::new_checked(packet).ok()?;
    let at = walk_v6(packet).ok()?.offset.checked_sub(40)?;
    let segment = TcpPacket::new_checked(ip.payload().get(at..)?).ok()?;
    Some(segment.verify_checksum_v6(ip.src(), ip.dst()))
}

/// An IP packet of either version whose SCTP checksum may be left to do.
pub fn sctp(data: &[u8]) {
    crc(data);
    // The same one, left to do.
    let field = if let Ok(ip) = Ipv4Packet::new_checked(data) {
        (ip.protocol() == PROTOCOL_SCTP && !ip.is_fragment()).then(|| ip.header_len() + 8)
    } else if let Ok(ip) = Ipv6Packet::new_checked(data) {
        (ip.next_header() == PROTOCOL_SCTP).then_some(48)
    } else {
        None
    };
    let mut copy = data.to_vec();
    if let Some(field) = field
        && let Some(place) = copy.get_mut(field..field + 4)
    {
        place.fill(0);
        crc(&copy);
    }
}

fn crc(data: &[u8]) {
    let (place, end) = if let Ok(ip) = Ipv4Packet::new_checked(data) {
        (needs_sctp_crc_v4(data), usize::from(ip.total_len()))
    } else if let Ok(ip) = Ipv6Packet::new_checked(data) {
        (needs_sctp_crc_v6(data), 40 + ip.payload().len())
    } else {
        return;
    };
    let Some(place) = place else {
        return;
    };
    let start = usize::from(place.start);
    assert_eq!(data[start + 8..start + 12], [0; 4]);
    let mut copy = data[..end].to_vec();
    place.complete(&mut copy).expect("the header is there");
    let expected = crc32c(&data[start..end]).to_le_bytes();
    assert_eq!(copy[start + 8..start + 12], expected);

    let mut head = data[..start + 12].to_vec();
    let rest = &data[start + 12..end];
    let (first, second) = rest.split_at(rest.len() / 3);
    place
        .complete_chain(&mut head, [first, second])
        .expect("the head holds the header");
    assert_eq!(
        head,
        copy[..start + 12],
        "a chain is completed as one slice"
    );
}

/// CRC32c bit by bit (RFC 9260, appendix A), the polynomial reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// Outer headers of every kind and pair of families, as the first seven bytes choose, in front of
/// any bytes.
pub fn tunnel(data: &[u8]) {
    let data = data.get(..60_000).unwrap_or(data);
    let [choice, tos, dscp, a, b, high, low, inner @ ..] = data else {
        return;
    };
    let value = u32::from_be_bytes([*a, *b, *high, *low]);
    let ident = u16::from_be_bytes([*high, *low]);
    let family = |bit: u8| match choice >> bit & 1 {
        0 => IpFamily::V4,
        _ => IpFamily::V6,
    };
    let outer = family(0);
    let (src_ip, dst_ip): (IpAddr, IpAddr) = match outer {
        IpFamily::V4 => ([192, 168, 77, *a].into(), [192, 168, 77, *b].into()),
        IpFamily::V6 => ([0xfd77; 8].into(), [u16::from(*a); 8].into()),
    };
    let dscp_policy = match dscp {
        0xff => DscpPolicy::Copy,
        fixed => DscpPolicy::Fixed(*fixed),
    };
    let (src_mac, dst_mac) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let header = if choice & 4 == 0 {
        OuterHeader::ipip(IpipParams {
            src_mac,
            dst_mac,
            src_ip,
            dst_ip,
            ttl: 64,
            inner: family(1),
            df: true,
            dscp: dscp_policy,
        })
    } else {
        OuterHeader::vxlan(VxlanParams {
            src_mac,
            dst_mac,
            src_ip,
            dst_ip,
            ttl: 64,
            dst_port: 4789,
            vni: value >> 8,
            inner_src_mac: src_mac,
            inner_dst_mac: dst_mac,
            inner: family(1),
            df: true,
            dscp: dscp_policy,
            udp_checksum: choice & 8 != 0,
        })
    };
    let Ok(header) = header else {
        assert!(*dscp > 63 && *dscp != 0xff, "only the DSCP may be wrong");
        return;
    };
    let outer_tos = match dscp_policy {
        DscpPolicy::Copy => *tos,
        DscpPolicy::Fixed(dscp) => dscp << 2 | tos & 3,
    };
    let mut room = vec![0; header.len()];
    let longest = 65535 - header.overhead() + usize::from(outer == IpFamily::V6) * 40;
    let fits = usize::from(ident) <= longest;
    assert_eq!(header.write(&mut room, ident, *tos, value, 0).is_ok(), fits);

    let mut frame = [&room[..], inner].concat();
    let (head, _) = frame.split_at_mut(header.len());
    header
        .write(head, inner.len() as u16, *tos, value, ident)
        .expect("a short packet fits");
    if header.wants_udp_checksum() {
        header
            .fill_udp_checksum(head, Checksum::new().add(inner))
            .expect("the same place");
    }
    assert!(header.write(&mut room[1..], 0, 0, 0, 0).is_err());
    assert_eq!(frame[header.len()..], *inner);
    let ethernet = EthernetFrame::new_checked(&frame[..]).expect("14 bytes");
    assert_eq!((ethernet.src(), ethernet.dst()), (src_mac, dst_mac));
    assert_eq!(ethernet.ethertype(), outer.ethertype());
    let (protocol, within) = outer_ip(&ethernet, (src_ip, dst_ip), outer_tos, value, ident);
    if header.kind() == OuterKind::Ipip {
        assert_eq!(protocol, family(1).tunnel_protocol());
        assert_eq!(within, inner);
        return;
    }
    assert_eq!(protocol, PROTOCOL_UDP);
    let udp = UdpPacket::new_checked(&within[..]).expect("UDP");
    assert_eq!(udp.src_port(), 0xc000 | (value >> 18) as u16);
    assert_eq!(udp.checksum() != 0, header.wants_udp_checksum());
    if header.wants_udp_checksum() {
        assert!(match (src_ip, dst_ip) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => udp.verify_checksum_v4(src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => udp.verify_checksum_v6(src, dst),
            _ => false,
        });
    }
    let vxlan = VxlanHeader::new_checked(udp.payload()).expect("VXLAN");
    assert_eq!(vxlan.vni(), value >> 8);
    let frame = EthernetFrame::new_checked(vxlan.payload()).expect("inner Ethernet");
    assert_eq!(frame.ethertype(), family(1).ethertype());
    assert_eq!(frame.payload(), inner);
}

/// Protocol and payload of the outer IP packet, all else of its header being as asked for.
fn outer_ip(
    frame: &EthernetFrame<&[u8]>,
    ends: (IpAddr, IpAddr),
    tos: u8,
    hash: u32,
    ident: u16,
) -> (u8, Vec<u8>) {
    if let Ok(ip) = Ipv4Packet::new_checked(frame.payload()) {
        assert!(ip.verify_checksum() && ip.dont_fragment());
        assert_eq!((ip.src().into(), ip.dst().into()), ends);
        assert_eq!((ip.tos(), ip.ttl(), ip.ident()), (tos, 64, ident));
        return (ip.protocol(), ip.payload().to_vec());
    }
    let ip = Ipv6Packet::new_checked(frame.payload()).expect("either version");
    assert_eq!((ip.src().into(), ip.dst().into()), ends);
    assert_eq!((ip.traffic_class(), ip.hop_limit()), (tos, 64));
    assert_eq!(ip.flow_label(), (hash & 0xf_ffff).max(1));
    assert!(matches!(ip.next_header(), PROTOCOL_UDP | 4 | 41));
    (ip.next_header(), ip.payload().to_vec())
}
