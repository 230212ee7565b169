//! SCTP's checksum, and IP protocols that the switch knows nothing of.

use shunt_encap::IpFamily;
use shunt_switch::config::Mode;
use shunt_switch::tables::{Action, NextHop};

use crate::node::*;

/// CRC32c, bit by bit (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    });
    (!crc).to_le_bytes()
}

/// Common header and a chunk of data, its checksum left to hardware; and the same finished.
fn sctp(payload: usize) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = vec![0x13, 0x88, 0x13, 0x89, 1, 2, 3, 4, 0, 0, 0, 0];
    bytes.extend([0, 3]);
    bytes.extend(((16 + payload) as u16).to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend(pattern(payload));
    let mut whole = bytes.clone();
    whole[8..12].copy_from_slice(&crc32c(&bytes));
    (bytes, whole)
}

fn carry(family: IpFamily, hops: u8, protocol: u8, bytes: &[u8]) -> Vec<u8> {
    let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
    ip(one, two, hops, protocol, bytes)
}

/// Two pods that take jumbo packets.
fn jumbo(mode: Mode) -> Node {
    let mut node = Node::new(1, mode, 2);
    for (family, hop) in [(V4, node.hops[1]), (V6, node.hops6[1])] {
        let wide = NextHop {
            mtu: 9000,
            ..Node::to_station(Action::Deliver, node.ids[1], pod_mac(2), family)
        };
        node.switch.set_next_hop(hop, wide);
    }
    node
}

#[test]
fn the_oracle_knows_its_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283u32.to_le_bytes());
}

#[test]
fn a_checksum_left_to_hardware_is_finished() {
    for family in [V4, V6] {
        let mut node = jumbo(Mode::L3);
        // One segment, odd lengths, and chains of chunks (2048 bytes each).
        for payload in [0, 1, 333, 1400, 2001, 8000] {
            let (left, whole) = sctp(payload);
            let sent = routed(1, &carry(family, 64, SCTP, &left));
            let got = node.exchange(1, &sent, 2).expect("a frame");
            assert!(got[14..] == carry(family, 63, SCTP, &whole), "{payload}");
        }
        node.finish();
    }
}

#[test]
fn a_bridged_one_too() {
    for family in [V4, V6] {
        let mut node = jumbo(Mode::L2);
        node.switch.fdb().pin(pod_mac(2), node.ids[1]);
        for to in [pod_mac(2), shunt_api::MacAddr([0xff; 6])] {
            for payload in [0, 333, 8000] {
                let (left, whole) = sctp(payload);
                let sent = frame(pod_mac(1), to, &carry(family, 64, SCTP, &left));
                let expected = frame(pod_mac(1), to, &carry(family, 64, SCTP, &whole));
                let got = node.exchange(1, &sent, 2).expect("a frame");
                assert!(got == expected, "{payload} to {to}");
            }
        }
        node.finish();
    }
}

#[test]
fn it_is_finished_before_a_tunnel_takes_it() {
    for (kind, at) in [(VXLAN, 64), (Kind::Ipip, 34)] {
        let mut node = Node::new(1, Mode::L3, 1);
        node.tunnel(2, kind, V4, V4, 1500);
        let (left, whole) = sctp(100);
        let packet = |hops, bytes: &[u8]| ip(pod_ip(V4, 1, 1), pod_ip(V4, 2, 1), hops, SCTP, bytes);
        node.send(1, &routed(1, &packet(64, &left)));
        let wire = node.uplink.receive().expect("a frame on the wire");
        assert_eq!(wire[at..], packet(63, &whole));
        node.finish();
    }
}

#[test]
fn a_checksum_that_is_there_is_nobodys_business() {
    for family in [V4, V6] {
        let mut node = jumbo(Mode::L3);
        let (_, whole) = sctp(100);
        let mut wrong = whole.clone();
        wrong[8] ^= 0x55;
        // The other end drops a wrong one; to make it right would hide the damage.
        for bytes in [whole, wrong] {
            let sent = routed(1, &carry(family, 64, SCTP, &bytes));
            let got = node.exchange(1, &sent, 2).expect("a frame");
            assert_eq!(got[14..], carry(family, 63, SCTP, &bytes));
        }
        node.finish();
    }
}

#[test]
fn other_protocols_pass_unchanged() {
    for family in [V4, V6] {
        let mut node = jumbo(Mode::L3);
        // IGP, DCCP, RSVP, GRE, ESP, EIGRP, OSPF, PIM, VRRP, UDP-Lite, experiments, reserved.
        for protocol in [9, 33, 46, 47, 50, 88, 89, 103, 112, 136, 253, 255] {
            for length in [0, 1, 40, 1400] {
                let bytes = vec![0; length];
                let sent = routed(1, &carry(family, 64, protocol, &bytes));
                let names = node.drop_names();
                let got = node.exchange(1, &sent, 2);
                let got = got.unwrap_or_else(|| panic!("{protocol}: {names:?}"));
                assert_eq!(got[14..], carry(family, 63, protocol, &bytes), "{protocol}");
            }
        }
        node.finish();
    }
}
