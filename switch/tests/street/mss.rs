//! The maximum segment size of TCP connections, lowered to what the path takes.

use std::net::IpAddr;

use shunt_encap::IpFamily;
use shunt_switch::config::Mode;
use shunt_switch::tables::Policy;

use crate::node::*;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Node 1 with a tunnel that takes `1500 - overhead` bytes.
fn node(clamp_mss: bool, kind: Kind, outer: IpFamily, inner: IpFamily) -> Node {
    let mut node = Node::new(1, Mode::L3, 2);
    node.tunnel(2, kind, outer, inner, 1500);
    node.switch.set_policy(Policy {
        clamp_mss,
        ..Policy::default()
    });
    node
}

/// Options of a SYN: a time stamp, and the segment size behind it.
fn options(mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, high, low]
}

fn handshake(from: IpAddr, to: IpAddr, flags: u8, mss: u16) -> Vec<u8> {
    let bytes = segment(from, to, (1000, 80), flags, &options(mss), &[]);
    ip(from, to, 64, TCP, &bytes)
}

/// The segment in the tunnel; every checksum is right.
fn inside(wire: &[u8], inner: IpFamily, length: usize) -> Vec<u8> {
    let packet = &wire[wire.len() - length..];
    let mut frame = vec![0; 12];
    frame.extend(inner.ethertype().to_be_bytes());
    frame.extend(packet);
    seen(&frame).payload
}

#[test]
fn handshakes_say_what_fits_the_path() {
    for (kind, outer, inner, fits) in [
        (VXLAN, V4, V4, 1410),
        (VXLAN, V4, V6, 1390),
        (VXLAN, V6, V4, 1390),
        (VXLAN, V6, V6, 1370),
        (Kind::Ipip, V4, V4, 1440),
        (Kind::Ipip, V6, V6, 1400),
    ] {
        let what = format!("{inner:?} by {kind:?} over {outer:?}");
        let (from, to) = (pod_ip(inner, 1, 1), pod_ip(inner, 2, 1));
        for clamp in [true, false] {
            let mut node = node(clamp, kind, outer, inner);
            for (flags, mss) in [
                (SYN, 1460),
                (SYN | ACK, 8960),
                (SYN, fits + 1),
                (SYN, fits),
                (SYN, 536),
                // No handshake, whatever it says.
                (ACK, 1460),
            ] {
                let packet = handshake(from, to, flags, mss);
                for partial in [false, true] {
                    let mut frame = routed(1, &packet);
                    if partial {
                        let start = frame.len() - 36;
                        leave(from, to, TCP, &mut frame[start..]);
                    }
                    node.send(1, &frame);
                    let wire = node.uplink.receive().expect("a frame on the wire");
                    let clamped = clamp && flags & SYN != 0;
                    let expected = if clamped { mss.min(fits) } else { mss };
                    let got = inside(&wire, inner, packet.len());
                    assert_eq!(got[20..], options(expected), "{what}, {mss}, {clamp}");
                }
            }
            node.finish();
        }
    }
}

#[test]
fn between_local_pods_nothing_is_too_large() {
    for family in [V4, V6] {
        let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
        let mut node = node(true, VXLAN, V4, family);
        let fits = if family == V4 { 1460 } else { 1440 };
        for mss in [fits, fits + 1] {
            let sent = routed(1, &handshake(one, two, SYN, mss));
            let got = node.exchange(1, &sent, 2).expect("a frame");
            assert_eq!(seen(&got).payload[20..], options(fits));
        }
        node.finish();
    }
}

#[test]
fn what_comes_out_of_a_tunnel_is_measured_by_the_way_to_the_pod() {
    let mut two = node(true, Kind::Ipip, V4, V4);
    let (from, to) = (pod_ip(V4, 2, 1), pod_ip(V4, 1, 1));
    let inner = handshake(from, to, SYN, 8960);
    let outer = ip(node_ip(V4, 2), node_ip(V4, 1), 64, 4, &inner);
    two.send_uplink(&frame(pod_mac(9), pod_mac(8), &outer));
    let got = two.pods[0].receive().expect("a frame");
    assert_eq!(seen(&got).payload[20..], options(1460));
    two.finish();
}
