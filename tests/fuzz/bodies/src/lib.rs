//! What the fuzz targets check, one function per target, so that a plain test on stable runs the
//! same code as libFuzzer.
//!
//! Each takes any bytes and panics only when something is wrong: a panic in the code under test,
//! or a broken promise such as a round trip that changes bytes.

#![forbid(unsafe_code)]

mod fib;
mod icmp;
mod ipv6;
mod neighbours;
mod sizes;

pub use fib::{fib4, fib6};
pub use icmp::{icmp, icmpv6};
pub use ipv6::{extension, ipv6};
pub use neighbours::{igmp, mld, ndp};
use shunt_encap::checksum::update_u16;
use shunt_encap::ip::{PROTOCOL_TCP, PROTOCOL_UDP};
use shunt_encap::{
    ArpPacket, ArpRepr, Checksum, Ecn, EthernetFrame, EthernetRepr, Ipv4Packet, Ipv4Repr,
    TcpPacket, UdpPacket, VxlanHeader, VxlanRepr, complete_l4_v4, decap_tos, flow_hash_v4,
    is_partial_l4_v4,
};
pub use sizes::{fragment, mss, sctp, tunnel};

/// A target's check.
pub type Body = fn(&[u8]);

/// The bodies by name, in the order of the targets.
pub const BODIES: [(&str, Body); 18] = [
    ("arp", arp),
    ("checksum", checksum),
    ("ethernet", ethernet),
    ("extension", extension),
    ("fib4", fib4),
    ("fib6", fib6),
    ("fragment", fragment),
    ("icmp", icmp),
    ("icmpv6", icmpv6),
    ("igmp", igmp),
    ("ipv4", ipv4),
    ("ipv6", ipv6),
    ("mld", mld),
    ("mss", mss),
    ("ndp", ndp),
    ("sctp", sctp),
    ("tunnel", tunnel),
    ("vxlan", vxlan),
];

/// A whole frame, as a port receives it: down through every layer that is there.
pub fn ethernet(data: &[u8]) {
    let Ok(frame) = EthernetFrame::new_checked(data) else {
        assert!(data.len() < 14, "only short frames are refused");
        return;
    };
    let mut again = [0; 14];
    let repr = EthernetRepr::parse(&frame);
    repr.emit(&mut again).expect("14 bytes hold a header");
    assert_eq!(again, data[..14], "a header survives parse and emit");

    let payload = frame.payload();
    match frame.ethertype() {
        shunt_encap::ETHERTYPE_IPV4 => ipv4(payload),
        shunt_encap::ETHERTYPE_ARP => arp(payload),
        shunt_encap::ETHERTYPE_IPV6 => ipv6(payload),
        _ => (),
    }
}

/// An ARP packet, padding behind it.
pub fn arp(data: &[u8]) {
    let Ok(packet) = ArpPacket::new_checked(data) else {
        return;
    };
    let repr = ArpRepr::parse(&packet);
    let mut again = [0; 28];
    repr.emit(&mut again).expect("28 bytes hold a packet");
    assert_eq!(again, data[..28], "a packet survives parse and emit");

    let answer = repr.answer([2; 6]);
    answer.emit(&mut again).expect("28 bytes hold a packet");
    let view = ArpPacket::new_checked(&again).expect("our own answer is sound");
    assert_eq!(ArpRepr::parse(&view), answer);
    assert_eq!(view.target_protocol_addr(), repr.sender_protocol_addr);
}

/// An IPv4 packet and its transport, forwarded by one hop.
pub fn ipv4(data: &[u8]) {
    let hash = flow_hash_v4(data);
    let Ok(packet) = Ipv4Packet::new_checked(data) else {
        return;
    };
    assert_eq!(hash, flow_hash_v4(data), "a flow has one hash");
    let total_len = usize::from(packet.total_len());
    assert_eq!(packet.header_len() + packet.payload().len(), total_len);
    assert_eq!(packet.options().len() + 20, packet.header_len());
    if packet.header_len() == 20 && !packet.is_fragment() && packet.verify_checksum() {
        let mut again = [0; 20];
        Ipv4Repr::parse(&packet)
            .emit(&mut again)
            .expect("20 bytes hold a header");
        // The reserved flag (RFC 791) is not kept, and two zeros exist in one's complement.
        if data[6] & 0x80 == 0 && packet.checksum() != 0xffff {
            assert_eq!(again, data[..20], "a header survives parse and emit");
        }
    }
    tcp_and_udp(&packet);

    let mut copy = data.to_vec();
    let mut forwarded = Ipv4Packet::new_checked(&mut copy[..]).expect("a copy is as sound");
    let was_right = forwarded.verify_checksum();
    match forwarded.decrement_ttl() {
        Ok(ttl) => assert_eq!(ttl + 1, packet.ttl()),
        Err(_) => assert!(packet.ttl() <= 1),
    }
    assert_eq!(
        forwarded.verify_checksum(),
        was_right,
        "one hop keeps right right"
    );
    if let Ok(tos) = decap_tos(packet.ttl(), packet.tos()) {
        forwarded.set_tos_incremental(tos);
        assert_eq!(forwarded.dscp(), packet.dscp());
        assert_eq!(forwarded.ecn(), Ecn::from_tos(tos));
        assert_eq!(
            forwarded.verify_checksum(),
            was_right,
            "a new TOS keeps right right"
        );
    }
    partial(data);
    if let Some(field) = checksum_field(&packet) {
        let mut copy = data.to_vec();
        let len = packet.payload().len() as u16;
        let pseudo = Checksum::new()
            .add_pseudo_v4(packet.src(), packet.dst(), packet.protocol(), len)
            .folded();
        copy[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        assert!(
            is_partial_l4_v4(&copy).is_some(),
            "the field holds the pseudo-header's sum"
        );
        partial(&copy);
    }
}

/// Where the checksum of an unfragmented TCP segment or UDP datagram is.
fn checksum_field(packet: &Ipv4Packet<&[u8]>) -> Option<usize> {
    let (header_len, at) = match packet.protocol() {
        PROTOCOL_TCP => (20, 16),
        PROTOCOL_UDP => (8, 6),
        _ => return None,
    };
    let whole = !packet.is_fragment() && packet.payload().len() >= header_len;
    whole.then(|| packet.header_len() + at)
}

/// A partial checksum, when the packet has one, is right once completed.
fn partial(data: &[u8]) {
    let mut copy = data.to_vec();
    let Some(place) = is_partial_l4_v4(data) else {
        assert_eq!(complete_l4_v4(&mut copy), Ok(false));
        return;
    };
    assert_eq!(complete_l4_v4(&mut copy), Ok(true));
    let offset = usize::from(place.offset);
    let packet = Ipv4Packet::new_checked(&copy[..]).expect("only the checksum changed");
    let end = usize::from(packet.total_len());
    let (src, dst) = (packet.src(), packet.dst());
    let covered = &copy[usize::from(place.start)..end];
    let sum = Checksum::new()
        .add_pseudo_v4(src, dst, packet.protocol(), covered.len() as u16)
        .add(covered);
    assert_eq!(sum.finish(), 0, "a completed checksum is right");

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

fn tcp_and_udp(packet: &Ipv4Packet<&[u8]>) {
    let (src, dst) = (packet.src(), packet.dst());
    if let Ok(segment) = TcpPacket::new_checked(packet.payload()) {
        assert!(segment.header_len() + segment.payload().len() == packet.payload().len());
        let mut copy = packet.payload().to_vec();
        let mut filled = TcpPacket::new_checked(&mut copy[..]).expect("a copy is as sound");
        filled.fill_checksum_v4(src, dst);
        assert!(filled.verify_checksum_v4(src, dst));
    }
    if let Ok(datagram) = UdpPacket::new_checked(packet.payload()) {
        assert!(datagram.payload().len() + 8 == usize::from(datagram.length()));
        let mut copy = packet.payload().to_vec();
        let mut filled = UdpPacket::new_checked(&mut copy[..]).expect("a copy is as sound");
        filled.fill_checksum_v4(src, dst);
        assert!(filled.checksum() != 0 && filled.verify_checksum_v4(src, dst));
    }
}

/// What comes to the tunnel's UDP port: a VXLAN header and a frame.
pub fn vxlan(data: &[u8]) {
    let Ok(header) = VxlanHeader::new_checked(data) else {
        return;
    };
    let mut again = [0xff; 8];
    VxlanRepr::parse(&header)
        .emit(&mut again)
        .expect("a checked VNI fits");
    assert_eq!(
        again,
        data[..8],
        "strict parsing leaves one way to write a header"
    );
    ethernet(header.payload());
}

/// Any bytes in any cut, against RFC 1071 word by word. The first two bytes choose cut and word.
pub fn checksum(data: &[u8]) {
    let [cut, word, bytes @ ..] = data else {
        return;
    };
    let whole = Checksum::new().add(bytes);
    assert_eq!(whole.finish(), rfc1071(bytes));

    let (first, second) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let behind = Checksum::new().add(second);
    assert_eq!(
        Checksum::new().add(first).add(second).finish(),
        whole.finish()
    );
    assert_eq!(
        Checksum::new().add(first).combine(behind).finish(),
        whole.finish()
    );

    let at = usize::from(*word) * 2;
    let mut changed = bytes.to_vec();
    let Some(field) = changed.get_mut(at..at + 2) else {
        return;
    };
    let old = u16::from_be_bytes([field[0], field[1]]);
    let new = old.rotate_left(3) ^ u16::from(*cut);
    field.copy_from_slice(&new.to_be_bytes());
    let updated = update_u16(whole.finish(), old, new);
    // All zeros have another zero than anything else (RFC 1624, section 3).
    if changed.iter().any(|byte| *byte != 0) && bytes.iter().any(|byte| *byte != 0) {
        assert_eq!(updated, rfc1071(&changed), "an update equals a new sum");
    }
}

/// RFC 1071, section 4.1.
fn rfc1071(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
