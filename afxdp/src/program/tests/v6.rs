//! The rules of the uplink for IPv6.

use super::*;

const NODE: &str = "2001:db8:10::a";
/// In a direct prefix of [`pinhole`].
pub(super) const DIRECT: &str = "fd00:244:3::7";

pub(super) fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub(super) fn pinhole() -> Pinhole {
    Pinhole {
        node6: Some(address(NODE)),
        vxlan_port: Some(4789),
        ipip: true,
        direct6: vec![
            "fd00:244:3::/64".parse().unwrap(),
            "2001:db8:ffff:8000::/49".parse().unwrap(),
            "2001:db8:0:1::80/121".parse().unwrap(),
        ],
        ..Pinhole::default()
    }
}

/// An Ethernet frame with an IPv6 packet: fixed header, `extension`, UDP header, payload.
#[derive(Clone)]
pub(super) struct Packet {
    ethertype: u16,
    version: u8,
    pub(super) next_header: u8,
    pub(super) to: Ipv6Addr,
    extension: Vec<u8>,
    port: u16,
    payload: usize,
}

impl Packet {
    pub(super) fn vxlan() -> Self {
        Self {
            ethertype: 0x86dd,
            version: 6,
            next_header: 17,
            to: address(NODE),
            extension: vec![],
            port: 4789,
            payload: 40,
        }
    }

    fn to(to: &str) -> Self {
        Self {
            to: address(to),
            ..Self::vxlan()
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x02; 12];
        bytes.extend(self.ethertype.to_be_bytes());
        // With all bits of traffic class and flow label set.
        bytes.extend([self.version << 4 | 0x0f, 0xff, 0xff, 0xff]);
        let length = self.extension.len() + 8 + self.payload;
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend([self.next_header, 64]);
        bytes.extend(address("2001:db8:10::b").octets());
        bytes.extend(self.to.octets());
        bytes.extend(&self.extension);
        bytes.extend(50000u16.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(vec![0xab; self.payload]);
        bytes
    }
}

fn verdict(taken: bool) -> u64 {
    if taken { REDIRECT } else { PASS }
}

/// The addresses that differ from `to` in one bit.
fn one_bit_off(to: Ipv6Addr) -> impl Iterator<Item = Ipv6Addr> {
    (0..128).map(move |bit| Ipv6Addr::from_bits(to.to_bits() ^ 1 << bit))
}

#[test]
fn vxlan_to_the_node() {
    let machines = Machines::new(&pinhole());
    let vxlan = Packet::vxlan();
    machines.assert(&vxlan.bytes(), REDIRECT, "vxlan");
    for port in [0, 53, 4788, 4790, 8472, 0xb512] {
        let other = Packet {
            port,
            ..vxlan.clone()
        };
        machines.assert(&other.bytes(), PASS, &format!("port {port}"));
    }
    let tcp = Packet {
        next_header: 6,
        ..vxlan.clone()
    };
    machines.assert(&tcp.bytes(), PASS, "TCP with that port");

    let flannel = Machines::new(&Pinhole {
        vxlan_port: Some(8472),
        ..pinhole()
    });
    let moved = Packet {
        port: 8472,
        ..vxlan.clone()
    };
    flannel.assert(&moved.bytes(), REDIRECT, "configured port");
    flannel.assert(&vxlan.bytes(), PASS, "no longer the default port");
    let off = Pinhole {
        vxlan_port: None,
        ..pinhole()
    };
    assert_verdict(&off, &vxlan.bytes(), PASS, "vxlan off");
}

#[test]
fn ip_in_ip_to_the_node() {
    let on = Machines::new(&pinhole());
    let off = Machines::new(&Pinhole {
        ipip: false,
        ..pinhole()
    });
    let only = Machines::new(&Pinhole {
        vxlan_port: None,
        direct6: vec![],
        ..pinhole()
    });
    for next_header in 0..=255 {
        let packet = Packet {
            next_header,
            ..Packet::vxlan()
        }
        .bytes();
        let (vxlan, ip) = (next_header == 17, matches!(next_header, 4 | 41));
        let what = format!("next header {next_header}");
        on.assert(&packet, verdict(vxlan || ip), &what);
        off.assert(&packet, verdict(vxlan), &format!("{what}, ipip off"));
        only.assert(&packet, verdict(ip), &format!("{what}, ipip only"));
    }
}

#[test]
fn all_bits_of_the_nodes_address_count() {
    let machines = Machines::new(&Pinhole {
        direct6: vec![],
        ..pinhole()
    });
    for next_header in [17, 4, 41] {
        for to in one_bit_off(address(NODE)) {
            let packet = Packet {
                to,
                next_header,
                ..Packet::vxlan()
            };
            machines.assert(&packet.bytes(), PASS, &format!("{next_header} to {to}"));
        }
    }
}

/// Behind hop-by-hop options (0), routing (43), fragment (44) and destination options (60) even a
/// whole VXLAN packet is the kernel's.
#[test]
fn extension_headers_and_fragments_to_the_node_pass() {
    let machines = Machines::new(&pinhole());
    for header in [0, 43, 44, 60] {
        for inner in [17, 4, 41] {
            let packet = Packet {
                next_header: header,
                extension: vec![inner, 0, 0, 0, 0, 0, 0, 0],
                ..Packet::vxlan()
            };
            let what = format!("{inner} behind {header}");
            machines.assert(&packet.bytes(), PASS, &what);
            let direct = Packet {
                to: address(DIRECT),
                ..packet
            };
            machines.assert(&direct.bytes(), REDIRECT, &format!("direct, {what}"));
        }
    }
}

/// Neighbour discovery (next header 58) to the node, and to groups even with everything direct.
#[test]
fn neighbour_discovery_passes() {
    let machines = Machines::new(&Pinhole {
        direct6: vec!["::/0".parse().unwrap()],
        ..pinhole()
    });
    for to in [NODE, "ff02::1", "ff02::1:ff00:a", "fe80::1"] {
        let packet = Packet {
            next_header: 58,
            ..Packet::to(to)
        };
        machines.assert(&packet.bytes(), PASS, &format!("ICMPv6 to {to}"));
    }
}

#[test]
fn direct_prefixes_have_exact_edges() {
    let machines = Machines::new(&pinhole());
    for (to, taken) in [
        ("fd00:244:2:ffff:ffff:ffff:ffff:ffff", false),
        ("fd00:244:3::", true),
        ("fd00:244:3:0:ffff:ffff:ffff:ffff", true),
        ("fd00:244:3:1::", false),
        ("2001:db8:ffff:7fff:ffff:ffff:ffff:ffff", false),
        ("2001:db8:ffff:8000::", true),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ("2001:db9::", false),
        ("2001:db8:0:1::7f", false),
        ("2001:db8:0:1::80", true),
        ("2001:db8:0:1::ff", true),
        ("2001:db8:0:1::100", false),
        // Each word of a prefix that another destination has.
        ("fd00:244:ffff:8000::", false),
        ("2001:db8:3::", false),
    ] {
        for next_header in [6, 17, 44, 58, 4] {
            let packet = Packet {
                next_header,
                ..Packet::to(to)
            };
            let what = format!("to {to}, next header {next_header}");
            machines.assert(&packet.bytes(), verdict(taken), &what);
        }
    }
}

#[test]
fn direct_prefixes_of_every_length() {
    let inside = address("2d5a:a55a:1234:8765:dead:beef:5aa5:aa55");
    for length in 0..=128 {
        let net = Ipv6Net::new(inside, length).unwrap();
        let machines = Machines::new(&Pinhole {
            // As given, with host bits, which do not count.
            direct6: vec![net],
            ..pinhole()
        });
        let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
        let edges = [
            first.checked_sub(1),
            Some(first),
            Some(last),
            last.checked_add(1),
        ];
        let near = edges.into_iter().flatten().map(Ipv6Addr::from_bits);
        for to in near.chain(one_bit_off(inside)) {
            let taken = net.contains(&to) && !to.is_multicast();
            let packet = Packet {
                to,
                ..Packet::vxlan()
            };
            let what = format!("{net}, to {to}");
            machines.assert(&packet.bytes(), verdict(taken), &what);
        }
    }
}

#[test]
fn multicast_and_link_local_are_never_direct() {
    for nets in [
        &["::/0"][..],
        &["ff00::/8", "fe80::/10"],
        &["fe00::/7"],
        &["8000::/1"],
    ] {
        let direct6: Vec<Ipv6Net> = nets.iter().map(|net| net.parse().unwrap()).collect();
        let machines = Machines::new(&Pinhole {
            direct6: direct6.clone(),
            ..pinhole()
        });
        for (to, eligible) in [
            ("fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("fe80::", false),
            ("fe80::1", false),
            ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("fec0::", true),
            ("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("ff00::", false),
            ("ff02::1", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ] {
            let taken = eligible && direct6.iter().any(|net| net.contains(&address(to)));
            let what = format!("{nets:?}, to {to}");
            machines.assert(&Packet::to(to).bytes(), verdict(taken), &what);
        }
    }
}

#[test]
fn the_node_itself_is_never_direct() {
    for tunnels in [true, false] {
        let machines = Machines::new(&Pinhole {
            vxlan_port: Some(4789).filter(|_| tunnels),
            ipip: tunnels,
            direct6: vec!["2001:db8:10::/64".parse().unwrap()],
            ..pinhole()
        });
        let mut tcp = Packet {
            next_header: 6,
            ..Packet::vxlan()
        };
        machines.assert(&tcp.bytes(), PASS, "TCP to the node");
        tcp.to = address("2001:db8:10::c");
        machines.assert(&tcp.bytes(), REDIRECT, "TCP to its network");
    }
}

/// The verifier's worst: every prefix compares four words, of which each shares some with others.
#[test]
fn a_full_pinhole_loads_and_works_to_the_last_prefix() {
    let net = |n: usize| {
        let (high, low) = (n as u16 / 8, n as u16 % 8);
        let network = Ipv6Addr::new(0x2001, high, 1, low, high, 2, 3, n as u16);
        Ipv6Net::from(network)
    };
    let machines = Machines::new(&Pinhole {
        direct6: (0..MAX_DIRECT).map(net).collect(),
        ..pinhole()
    });
    for n in 0..MAX_DIRECT {
        let mut packet = Packet {
            to: net(n).addr(),
            ..Packet::vxlan()
        };
        machines.assert(&packet.bytes(), REDIRECT, &format!("prefix {n}"));
        packet.to = Ipv6Addr::from_bits(packet.to.to_bits() ^ 1 << 15);
        machines.assert(&packet.bytes(), PASS, &format!("beside prefix {n}"));
    }
    machines.assert(&Packet::vxlan().bytes(), REDIRECT, "vxlan still");
}

#[test]
fn other_ethertypes_and_versions_pass() {
    let machines = Machines::new(&Pinhole {
        node: Some([192, 168, 1, 10].into()),
        direct: vec!["0.0.0.0/0".parse().unwrap()],
        direct6: vec!["::/0".parse().unwrap()],
        ..pinhole()
    });
    for to in [NODE, DIRECT] {
        let ipv6 = Packet::to(to);
        for (ethertype, what) in [
            (0x0800, "IPv4"),
            (0x0806, "ARP"),
            (0x8100, "VLAN"),
            (0x88a8, "QinQ"),
            (0xdd86, "swapped"),
        ] {
            let other = Packet {
                ethertype,
                ..ipv6.clone()
            };
            machines.assert(&other.bytes(), PASS, what);
        }
        for version in 0..16 {
            let other = Packet {
                version,
                ..ipv6.clone()
            };
            let expected = verdict(version == 6);
            machines.assert(&other.bytes(), expected, &format!("version {version}"));
        }
        let mut tagged = ipv6.bytes();
        for (tag, what) in [([0x81, 0x00], "VLAN tag"), ([0x88, 0xa8], "two tags")] {
            tagged.splice(12..12, [tag[0], tag[1], 0x00, 0x64]);
            machines.assert(&tagged, PASS, what);
        }
    }
}

#[test]
fn truncated_packets_pass() {
    // Ethernet and the fixed header; of UDP also its header.
    let (ip, udp) = (14 + 40, 14 + 40 + 8);
    let machines = Machines::new(&pinhole());
    for (to, next_header, headers) in [
        (NODE, 17, udp),
        (NODE, 4, ip),
        (NODE, 41, ip),
        (DIRECT, 17, ip),
        (DIRECT, 44, ip),
    ] {
        let whole = Packet {
            next_header,
            ..Packet::to(to)
        }
        .bytes();
        for len in 0..=whole.len() {
            let what = format!("{next_header} to {to}, {len} bytes");
            machines.assert(&whole[..len], verdict(len >= headers), &what);
        }
    }
}
