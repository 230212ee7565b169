//! IPv6: the fixed header, what follows it, and what senders left to hardware.

use shunt_encap::extension::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HIP, HOP_BY_HOP, MAX_EXTENSIONS_LEN, MOBILITY,
    ROUTING, SHIM6, walk_v6,
};
use shunt_encap::ip::{PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use shunt_encap::ipv6::HEADER_LEN;
use shunt_encap::{
    Checksum, Ipv6Packet, Ipv6Repr, TcpPacket, UdpPacket, complete_l4_v6, flow_hash_v6,
    is_partial_l4_v6,
};

/// An IPv6 packet and its transport, forwarded by one hop.
pub fn ipv6(data: &[u8]) {
    let hash = flow_hash_v6(data);
    extension(data);
    let Ok(packet) = Ipv6Packet::new_checked(data) else {
        return;
    };
    assert_eq!(packet.payload().len(), usize::from(packet.payload_len()));
    let repr = Ipv6Repr::parse(&packet);
    let mut again = data.to_vec();
    repr.emit(&mut again).expect("the packet was long enough");
    let view = Ipv6Packet::new_checked(&again[..]).expect("our own header is sound");
    assert_eq!(Ipv6Repr::parse(&view), repr);

    let mut copy = data.to_vec();
    let mut forwarded = Ipv6Packet::new_checked(&mut copy[..]).expect("a copy is as sound");
    match forwarded.decrement_hop_limit() {
        Ok(left) => assert_eq!(left + 1, packet.hop_limit()),
        Err(_) => assert!(packet.hop_limit() <= 1),
    }
    forwarded.set_traffic_class(!packet.traffic_class());
    assert_eq!(forwarded.flow_label(), packet.flow_label());
    assert_eq!(
        flow_hash_v6(&copy),
        hash,
        "what routers change is not hashed"
    );
    tcp_and_udp(&packet);
    partial(data);
    made_partial(&packet, data);
}

/// Extension headers of any packet, beside a plain walk without limits.
pub fn extension(data: &[u8]) {
    let Ok(upper) = walk_v6(data) else {
        let plain = data.len() >= HEADER_LEN
            && data[0] >> 4 == 6
            && matches!(data[6], PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMPV6);
        assert!(!plain, "without extension headers nothing is refused");
        return;
    };
    assert!((HEADER_LEN..=data.len()).contains(&upper.offset));
    assert!(upper.offset - HEADER_LEN <= MAX_EXTENSIONS_LEN);
    assert_eq!(plain_walk(data), (upper.protocol, upper.offset));
    assert_eq!(
        walk_v6(&data[..upper.offset]),
        Ok(upper),
        "what follows does not matter"
    );
    assert_eq!(upper.fragment.is_some(), upper.fragment_header.is_some());
    if let (Some(fragment), Some(at)) = (upper.fragment, upper.fragment_header) {
        assert!(at >= HEADER_LEN && at + 8 <= upper.offset);
        assert_eq!(fragment.offset_bytes % 8, 0);
        assert_eq!(upper.is_later_fragment(), fragment.offset_bytes != 0);
        assert!(!upper.is_later_fragment() || at + 8 == upper.offset);
    }
    // A fragment's hash may use nothing that its siblings lack.
    let split = upper
        .fragment
        .is_some_and(|it| it.offset_bytes != 0 || it.more);
    if split {
        let mut other = data.to_vec();
        other[upper.offset..].fill(0x5a);
        assert_eq!(flow_hash_v6(&other), flow_hash_v6(data));
    }
}

/// Next header by next header (RFC 8200, section 4) in a packet known to be sound.
fn plain_walk(data: &[u8]) -> (u8, usize) {
    let (mut next, mut at) = (data[6], HEADER_LEN);
    loop {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => {
                8 + 8 * usize::from(data[at + 1])
            }
            AUTHENTICATION => 8 + 4 * usize::from(data[at + 1]),
            FRAGMENT if data[at + 2] != 0 || data[at + 3] >> 3 != 0 => return (data[at], at + 8),
            FRAGMENT => 8,
            _ => return (next, at),
        };
        next = data[at];
        at += length;
    }
}

fn tcp_and_udp(packet: &Ipv6Packet<&[u8]>) {
    let (src, dst) = (packet.src(), packet.dst());
    let mut copy = packet.payload().to_vec();
    if let Ok(mut segment) = TcpPacket::new_checked(&mut copy[..]) {
        segment.fill_checksum_v6(src, dst);
        assert!(segment.verify_checksum_v6(src, dst));
    }
    if let Ok(mut datagram) = UdpPacket::new_checked(&mut copy[..]) {
        datagram.fill_checksum_v6(src, dst);
        assert!(datagram.checksum() != 0 && datagram.verify_checksum_v6(src, dst));
    }
}

/// The same packet with only the pseudo-header's sum in its checksum field.
fn made_partial(packet: &Ipv6Packet<&[u8]>, data: &[u8]) {
    let Ok(upper) = walk_v6(data) else {
        return;
    };
    let (header_len, at) = match upper.protocol {
        PROTOCOL_TCP => (20, 16),
        PROTOCOL_UDP => (8, 6),
        _ => return,
    };
    let end = HEADER_LEN + packet.payload().len();
    let split = upper
        .fragment
        .is_some_and(|it| it.offset_bytes != 0 || it.more);
    if split || end.saturating_sub(upper.offset) < header_len {
        return;
    }
    let len = (end - upper.offset) as u32;
    let pseudo = Checksum::new()
        .add_pseudo_v6(packet.src(), packet.dst(), upper.protocol, len)
        .folded();
    let mut copy = data.to_vec();
    let field = upper.offset + at;
    copy[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    let place = is_partial_l4_v6(&copy);
    assert!(
        place.is_some() || upper.offset != HEADER_LEN,
        "the field holds the pseudo-header's sum"
    );
    if let Some(place) = place {
        assert_eq!(usize::from(place.start), upper.offset);
        assert_eq!(usize::from(place.offset), field);
    }
    partial(&copy);
}

/// A partial checksum, when the packet has one, is right once completed.
fn partial(data: &[u8]) {
    let mut copy = data.to_vec();
    let Some(place) = is_partial_l4_v6(data) else {
        assert_eq!(complete_l4_v6(&mut copy), Ok(false));
        return;
    };
    assert_eq!(complete_l4_v6(&mut copy), Ok(true));
    let (start, offset) = (usize::from(place.start), usize::from(place.offset));
    let packet = Ipv6Packet::new_checked(&copy[..]).expect("only the checksum changed");
    let end = HEADER_LEN + packet.payload().len();
    let protocol = if offset - start == 6 {
        PROTOCOL_UDP
    } else {
        PROTOCOL_TCP
    };
    let covered = &copy[start..end];
    let sum = Checksum::new()
        .add_pseudo_v6(packet.src(), packet.dst(), protocol, covered.len() as u32)
        .add(covered);
    assert_eq!(sum.finish(), 0, "a completed checksum is right");
    assert_eq!(copy[end..], data[end..], "padding stays");

    let mut head = data[..offset + 2].to_vec();
    let rest = &data[offset + 2..end];
    let (first, second) = rest.split_at(rest.len() / 3);
    place
        .complete_chain(&mut head, [first, second])
        .expect("the head holds the field");
    assert_eq!(
        head,
        copy[..offset + 2],
        "a chain is completed as one slice is"
    );
}
