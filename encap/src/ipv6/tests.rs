use super::*;

fn repr() -> Ipv6Repr {
    Ipv6Repr {
        src: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        dst: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
        next_header: 17,
        hop_limit: 64,
        traffic_class: 0xb9,
        payload_len: 2,
    }
}

#[test]
fn emits_what_it_parses() {
    let mut bytes = [0xa5u8; 44];
    repr().emit(&mut bytes).expect("44 bytes hold a header");
    assert_eq!(&bytes[..8], [0x6b, 0x90, 0, 0, 0, 2, 17, 64]);
    let packet = Ipv6Packet::new_checked(&bytes).expect("just written");
    assert_eq!(Ipv6Repr::parse(&packet), repr());
    assert_eq!(packet.payload(), [0xa5, 0xa5]);
}

#[test]
fn refuses_bad_headers() {
    let mut bytes = [0u8; 41];
    repr().emit(&mut bytes).expect("41 bytes hold a header");
    assert_eq!(
        Ipv6Packet::new_checked(&bytes).err(),
        Some(Error::BadTotalLength {
            what: "IPv6",
            length: 2,
            have: 41
        })
    );
    assert_eq!(
        Ipv6Packet::new_checked(&bytes[..39]).err(),
        Some(Error::Truncated {
            what: "IPv6",
            need: 40,
            have: 39
        })
    );
    bytes[0] = 0x45;
    assert_eq!(
        Ipv6Packet::new_checked(&bytes).err(),
        Some(Error::BadVersion {
            what: "IPv6",
            version: 4
        })
    );
}

#[test]
fn traffic_class_keeps_version_and_flow_label() {
    let mut bytes = [0u8; HEADER_LEN];
    bytes[..4].copy_from_slice(&[0x6f, 0xf5, 0x12, 0x34]);
    let mut packet = Ipv6Packet::new_checked(&mut bytes).expect("an empty packet");
    packet.set_traffic_class(0x01);
    assert_eq!(packet.traffic_class(), 0x01);
    assert_eq!(&bytes[..4], [0x60, 0x15, 0x12, 0x34]);
}

#[test]
fn a_head_may_promise_more_than_it_holds() {
    let mut bytes = [0u8; HEADER_LEN];
    let long = Ipv6Repr {
        payload_len: 1000,
        ..repr()
    };
    long.emit(&mut bytes).expect("40 bytes");
    assert!(Ipv6Packet::new_checked(&bytes).is_err());
    let head = Ipv6Packet::new_checked_head(&bytes, 1040).expect("enough in all");
    assert_eq!((head.payload_len(), head.payload().len()), (1000, 0));
    assert_eq!(
        Ipv6Packet::new_checked_head(&bytes, 1039).err(),
        Some(Error::BadTotalLength {
            what: "IPv6",
            length: 1000,
            have: 1039
        })
    );
}

#[test]
fn label_and_ecn_are_read_beside_the_class() {
    let mut bytes = [0u8; HEADER_LEN];
    bytes[..4].copy_from_slice(&[0x6f, 0xea, 0xbc, 0xde]);
    let packet = Ipv6Packet::new_checked(&bytes).expect("an empty packet");
    assert_eq!(
        (packet.traffic_class(), packet.flow_label()),
        (0xfe, 0xabcde)
    );
    assert_eq!(packet.ecn(), Ecn::Ect0);
}

#[test]
fn hop_limit_is_not_taken_below_one() {
    let mut bytes = [0u8; HEADER_LEN + 2];
    repr().emit(&mut bytes).expect("42 bytes");
    let mut packet = Ipv6Packet::new_checked(bytes).expect("sound");
    for left in (1..64).rev() {
        assert_eq!(packet.decrement_hop_limit(), Ok(left));
    }
    for none_left in [1, 0] {
        packet.set_hop_limit(none_left);
        let before = packet.clone();
        assert_eq!(packet.decrement_hop_limit(), Err(Error::HopLimitExpired));
        assert_eq!(packet, before);
    }
}

/// A fixed header and these extension headers: type, length octet, octets 2 and 3.
fn chain(headers: &[(u8, u8, [u8; 2])], last: u8) -> Vec<u8> {
    let mut packet = vec![0u8; HEADER_LEN];
    packet[0] = 0x60;
    let mut next_at = field::NEXT_HEADER;
    for (header, length, [high, low]) in headers {
        packet[next_at] = *header;
        next_at = packet.len();
        let units = if *header == FRAGMENT {
            1
        } else {
            usize::from(*length) + 1
        };
        packet.extend([0, *length, *high, *low]);
        packet.resize(next_at + units * 8, 0);
    }
    packet[next_at] = last;
    packet.extend([0; 20]);
    packet
}

#[test]
fn extension_headers_are_walked_to_the_upper_layer() {
    let walk = |headers: &[(u8, u8, [u8; 2])], last| {
        let found = upper_layer(&chain(headers, last));
        (found.protocol, found.start, found.routed)
    };
    assert_eq!(walk(&[], 6), (6, 40, false));
    assert_eq!(walk(&[(HOP_BY_HOP, 0, [5, 2])], 17), (17, 48, false));
    let two = [(HOP_BY_HOP, 1, [1, 0]), (DESTINATION_OPTIONS, 3, [1, 0])];
    assert_eq!(walk(&two, 132), (132, 40 + 16 + 32, false));
    assert_eq!(walk(&[(ROUTING, 2, [4, 0])], 6), (6, 64, false));
    assert_eq!(walk(&[(ROUTING, 2, [4, 1])], 6), (6, 64, true));
    // An atomic fragment: its length octet is reserved, and its reserved bits do not count.
    assert_eq!(walk(&[(FRAGMENT, 9, [0, 6])], 6), (6, 48, false));
    for fragment in [[0, 1], [0, 8], [0x80, 0]] {
        assert_eq!(walk(&[(FRAGMENT, 0, fragment)], 6), (FRAGMENT, 40, false));
    }
    // ESP, no next header and what nobody knows end it.
    for last in [50, 59, 253] {
        assert_eq!(walk(&[(HOP_BY_HOP, 0, [1, 4])], last), (last, 48, false));
    }
}

#[test]
fn the_walk_ends() {
    let options = (DESTINATION_OPTIONS, 0, [1, 4]);
    let most = upper_layer(&chain(&[options; MAX_EXTENSIONS], 6));
    assert_eq!((most.protocol, most.start), (6, 40 + 8 * MAX_EXTENSIONS));
    let more = upper_layer(&chain(&[options; MAX_EXTENSIONS + 1], 6));
    assert_eq!(
        (more.protocol, more.start),
        (DESTINATION_OPTIONS, 40 + 8 * MAX_EXTENSIONS)
    );
    // A header whose length leads behind the packet, and one that is cut.
    let mut long = chain(&[options], 6);
    long[41] = 255;
    assert_eq!(upper_layer(&long).start, 40 + 2048);
    let cut = upper_layer(&chain(&[options], 6)[..47]);
    assert_eq!((cut.protocol, cut.start), (DESTINATION_OPTIONS, 40));
}
