//! IPv4 packets that are cut because they do not fit, and what a receiver makes of the pieces.

use std::net::IpAddr;

use etherparse::SlicedPacket;
use etherparse::defrag::IpDefragPool;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::tables::NextHop;

use crate::node::*;

fn one() -> IpAddr {
    pod(1, 1).into()
}

fn two() -> IpAddr {
    pod(1, 2).into()
}

/// Node 1, whose pod 2 takes packets of `mtu` bytes.
fn narrow(mtu: u16) -> Node {
    let mut node = Node::with(1, Mode::L3, 2, |setup| setup.frames = 1024);
    let hop = NextHop {
        mtu,
        ..Node::to_pod(node.ids[1], pod_mac(2))
    };
    node.switch.set_next_hop(node.hops[1], hop);
    node
}

/// The IP payload that a receiver puts together of all pieces; `None` if one is missing.
fn reassembled(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut pool: IpDefragPool<(), ()> = IpDefragPool::new();
    let mut whole = None;
    for piece in pieces {
        assert!(whole.is_none(), "a piece behind the last");
        let sliced = SlicedPacket::from_ethernet(piece).expect("a packet");
        let done = pool.process_sliced_packet(&sliced, (), ());
        whole = done.expect("a fragment").map(|done| done.payload);
    }
    whole
}

fn received(node: &Node) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| node.pods[1].receive()).collect()
}

/// Every piece is a sound packet with one hop less, full but the last, and of one datagram.
#[track_caller]
fn sound(pieces: &[Vec<u8>], mtu: u16) {
    let (last, full) = pieces.split_last().expect("pieces");
    for piece in pieces {
        assert_eq!(seen(piece).ways(), (one(), two(), 63));
        assert!(
            piece.len() - 14 <= usize::from(mtu),
            "{} bytes",
            piece.len()
        );
        assert_eq!(piece[18..20], [0x12, 0x34], "identification");
    }
    for piece in full {
        assert!(piece.len() - 14 > usize::from(mtu) - 8, "room was left");
        assert_eq!(piece[20] >> 5, 1, "more fragments");
    }
    assert!(last.len() > 34);
}

#[test]
fn the_pieces_make_the_packet_again() {
    for mtu in [68, 69, 75, 76, 576, 577, 1001, 1400, 1499, 1500] {
        for payload in [1, 1473, 1500, 2000, 2049, 4001, 8000] {
            let mut node = narrow(mtu);
            let datagram = datagram(one(), two(), (1000, 2000), &pattern(payload));
            let mut partial = datagram.clone();
            leave(one(), two(), UDP, &mut partial);
            node.send(1, &routed(1, &ip(one(), two(), 64, UDP, &partial)));
            let pieces = received(&node);
            if datagram.len() + 20 <= usize::from(mtu) {
                assert_eq!(pieces.len(), 1);
                assert_eq!(seen(&pieces[0]).payload, datagram);
            } else {
                sound(&pieces, mtu);
                let whole = reassembled(&pieces).expect("every piece");
                assert!(whole == datagram, "{payload} bytes by {mtu}");
            }
            assert_eq!(node.drop_names(), Vec::<&str>::new());
            node.finish();
        }
    }
}

#[test]
fn options_go_where_they_belong() {
    // Router alert (RFC 2113), which is copied, and record route (RFC 791, 3.1), which is not.
    let options = [0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0];
    let datagram = datagram(one(), two(), (1000, 2000), &pattern(3000));
    let mut packet = ip(one(), two(), 64, UDP, &datagram);
    packet.splice(20..20, options);
    packet[0] = 0x48;
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    seal_ip(&mut packet);
    for mtu in [100, 576, 1001] {
        let mut node = narrow(mtu);
        node.send(1, &routed(1, &packet));
        let pieces = received(&node);
        sound(&pieces, mtu);
        let (first, rest) = pieces.split_first().expect("pieces");
        assert_eq!(first[14] & 15, 8);
        assert_eq!(first[34..46], options);
        for piece in rest {
            assert_eq!(piece[14] & 15, 6);
            assert_eq!(piece[34..38], options[..4]);
        }
        assert!(reassembled(&pieces).expect("every piece") == datagram);
        node.finish();
    }
}

#[test]
fn fragments_are_cut_again() {
    let datagram = datagram(one(), two(), (1000, 2000), &pattern(4000));
    let mut node = narrow(300);
    let mut pieces = Vec::new();
    for (place, part) in datagram.chunks(1400).enumerate() {
        let mut packet = ip(one(), two(), 64, UDP, part);
        let more = u16::from((place + 1) * 1400 < datagram.len()) << 13;
        let offset = (place * 1400 / 8) as u16 | more;
        packet[6..8].copy_from_slice(&offset.to_be_bytes());
        seal_ip(&mut packet);
        node.send(1, &routed(1, &packet));
        let cut = received(&node);
        sound(&cut, 300);
        pieces.extend(cut);
    }
    assert!(pieces.len() > 14);
    assert!(reassembled(&pieces).expect("every piece") == datagram);
    node.finish();
}

#[test]
fn the_tunnel_carries_the_pieces_and_is_not_cut_itself() {
    for (kind, outer, mtu) in [(VXLAN, V4, 1450), (Kind::Ipip, V4, 1480), (VXLAN, V6, 1430)] {
        let mut from = Node::new(1, Mode::L3, 1);
        let mut to = Node::new(2, Mode::L3, 2);
        from.tunnel(2, kind, outer, V4, 1500);
        to.tunnel(1, kind, outer, V4, 1500);
        let there: IpAddr = pod(2, 2).into();
        let datagram = datagram(one(), there, (1000, 2000), &pattern(5000));
        from.send(1, &routed(1, &ip(one(), there, 64, UDP, &datagram)));
        let wires: Vec<_> = std::iter::from_fn(|| from.uplink.receive()).collect();
        assert_eq!(wires.len(), 4);
        for wire in &wires {
            assert!(wire.len() <= 1514, "{}", wire.len());
            if outer == V4 {
                // Don't fragment, and no fragment.
                assert_eq!(wire[20..22], [0x40, 0]);
            }
            to.send_uplink(wire);
        }
        let pieces = received(&to);
        assert!(pieces.iter().all(|piece| piece.len() - 14 <= mtu));
        assert!(reassembled(&pieces).expect("every piece") == datagram);
        from.finish();
        to.finish();
    }
}

#[test]
fn without_frames_for_the_pieces_it_is_named() {
    let mut node = Node::with(1, Mode::L3, 2, |setup| setup.frames = 8);
    let hop = NextHop {
        mtu: 300,
        ..Node::to_pod(node.ids[1], pod_mac(2))
    };
    node.switch.set_next_hop(node.hops[1], hop);
    node.send(1, &routed(1, &udp_ip(one(), two(), 64, 3000)));
    assert!(node.drops(DropReason::PoolEmpty) > 0);
    assert!(reassembled(&received(&node)).is_none());
    node.finish();
}
