//! The rules of the uplink for IPv4.

use super::*;

const NODE: [u8; 4] = [192, 168, 1, 10];
/// In a direct prefix of [`pinhole`].
pub(super) const DIRECT: [u8; 4] = [10, 244, 3, 7];

pub(super) fn pinhole() -> Pinhole {
    Pinhole {
        node: Some(NODE.into()),
        vxlan_port: Some(4789),
        ipip: true,
        direct: vec![
            "10.244.3.0/24".parse().unwrap(),
            "200.0.0.128/25".parse().unwrap(),
        ],
        ..Pinhole::default()
    }
}

/// An Ethernet frame with an IPv4 packet.
#[derive(Clone)]
pub(super) struct Packet {
    ethertype: u16,
    version: u8,
    options: usize,
    fragment: u16,
    pub(super) protocol: u8,
    pub(super) to: [u8; 4],
    port: u16,
    payload: usize,
}

impl Packet {
    pub(super) fn vxlan() -> Self {
        Self {
            ethertype: 0x0800,
            version: 4,
            options: 0,
            fragment: 0x4000,
            protocol: 17,
            to: NODE,
            port: 4789,
            payload: 40,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x02; 12];
        bytes.extend(self.ethertype.to_be_bytes());
        let words = 5 + self.options as u8;
        bytes.extend([self.version << 4 | words, 0]);
        let total = usize::from(words) * 4 + 8 + self.payload;
        bytes.extend((total as u16).to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        bytes.extend([192, 168, 1, 11]);
        bytes.extend(self.to);
        bytes.extend(vec![1; self.options * 4]);
        bytes.extend(50000u16.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(vec![0xab; self.payload]);
        bytes
    }
}

fn check(pinhole: &Pinhole, packet: Packet, expected: u64, what: &str) {
    assert_verdict(pinhole, &packet.bytes(), expected, what);
}

#[test]
fn vxlan_to_the_node() {
    let p = pinhole();
    check(&p, Packet::vxlan(), REDIRECT, "vxlan");
    check(
        &p,
        Packet {
            port: 8472,
            ..Packet::vxlan()
        },
        PASS,
        "other port",
    );
    check(
        &p,
        Packet {
            to: [192, 168, 1, 11],
            ..Packet::vxlan()
        },
        PASS,
        "other node",
    );
    check(
        &p,
        Packet {
            protocol: 6,
            ..Packet::vxlan()
        },
        PASS,
        "TCP with that port",
    );
    let flannel = Pinhole {
        vxlan_port: Some(8472),
        ..p.clone()
    };
    check(
        &flannel,
        Packet {
            port: 8472,
            ..Packet::vxlan()
        },
        REDIRECT,
        "configured port",
    );
    check(
        &flannel,
        Packet::vxlan(),
        PASS,
        "no longer the default port",
    );
    let off = Pinhole {
        vxlan_port: None,
        ..p
    };
    check(&off, Packet::vxlan(), PASS, "vxlan off");
}

#[test]
fn ip_in_ip_to_the_node() {
    let p = pinhole();
    for protocol in [4, 41] {
        let tunnel = Packet {
            protocol,
            ..Packet::vxlan()
        };
        let elsewhere = Packet {
            to: [192, 168, 1, 9],
            ..tunnel.clone()
        };
        let fragment = Packet {
            fragment: 0x2000,
            ..tunnel.clone()
        };
        let options = Packet {
            options: 3,
            ..tunnel.clone()
        };
        check(&p, tunnel.clone(), REDIRECT, "tunnel");
        check(&p, elsewhere, PASS, "other node");
        check(&p, fragment, PASS, "fragment");
        check(&p, options, REDIRECT, "with options");
        let off = Pinhole {
            ipip: false,
            ..p.clone()
        };
        check(&off, tunnel.clone(), PASS, "ipip off");
        let only = Pinhole {
            vxlan_port: None,
            direct: vec![],
            ..p.clone()
        };
        check(&only, tunnel, REDIRECT, "only ipip");
        check(&only, Packet::vxlan(), PASS, "only ipip, vxlan comes");
    }
}

#[test]
fn fragments_to_the_node_pass() {
    let p = pinhole();
    for (fragment, expected, what) in [
        (0x0000, REDIRECT, "no flags"),
        (0x4000, REDIRECT, "don't fragment"),
        (0x2000, PASS, "first fragment"),
        (0x20b9, PASS, "middle fragment"),
        (0x00b9, PASS, "last fragment"),
        (0x0001, PASS, "least offset"),
        (0x1000, PASS, "greatest offset bit"),
    ] {
        check(
            &p,
            Packet {
                fragment,
                ..Packet::vxlan()
            },
            expected,
            what,
        );
    }
}

#[test]
fn ip_options_move_the_ports() {
    let p = pinhole();
    for options in 0..=10 {
        let packet = Packet {
            options,
            ..Packet::vxlan()
        };
        check(
            &p,
            packet.clone(),
            REDIRECT,
            &format!("{options} option words"),
        );
        check(
            &p,
            Packet { port: 53, ..packet },
            PASS,
            &format!("{options} option words, DNS"),
        );
    }
    // A header length below five words is no IPv4 header.
    let mut bytes = Packet::vxlan().bytes();
    for words in 0..5 {
        bytes[14] = 0x40 | words;
        assert_verdict(&p, &bytes, PASS, &format!("{words} header words"));
    }
    check(
        &p,
        Packet {
            version: 6,
            ..Packet::vxlan()
        },
        PASS,
        "version 6 as IPv4",
    );
}

#[test]
fn direct_prefixes_have_exact_edges() {
    let p = pinhole();
    for (to, expected) in [
        ([10, 244, 2, 255], PASS),
        ([10, 244, 3, 0], REDIRECT),
        ([10, 244, 3, 255], REDIRECT),
        ([10, 244, 4, 0], PASS),
        ([200, 0, 0, 127], PASS),
        ([200, 0, 0, 128], REDIRECT),
        ([200, 0, 0, 255], REDIRECT),
        ([200, 0, 1, 128], PASS),
    ] {
        for (protocol, fragment) in [(6, 0x4000), (17, 0x2000), (1, 0), (4, 0x0010)] {
            let packet = Packet {
                to,
                protocol,
                fragment,
                ..Packet::vxlan()
            };
            check(
                &p,
                packet,
                expected,
                &format!("to {to:?}, protocol {protocol}"),
            );
        }
    }
}

#[test]
fn direct_prefixes_of_every_length() {
    for length in 0..=32 {
        let net = Ipv4Net::new([203, 113, 170, 85].into(), length).unwrap();
        let p = Pinhole {
            direct: vec![net],
            ..pinhole()
        };
        let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
        let near = [
            first.checked_sub(1),
            Some(first),
            Some(last),
            last.checked_add(1),
        ];
        for to in near.into_iter().flatten() {
            let expected = if (first..=last).contains(&to) {
                REDIRECT
            } else {
                PASS
            };
            let packet = Packet {
                to: to.to_be_bytes(),
                ..Packet::vxlan()
            };
            check(
                &p,
                packet,
                expected,
                &format!("{net}, to {}", Ipv4Addr::from(to)),
            );
        }
    }
}

#[test]
fn the_node_itself_is_never_direct() {
    let p = Pinhole {
        direct: vec!["192.168.0.0/16".parse().unwrap()],
        ..pinhole()
    };
    let tcp = Packet {
        protocol: 6,
        ..Packet::vxlan()
    };
    check(&p, tcp.clone(), PASS, "TCP to the node");
    check(
        &p,
        Packet {
            to: [192, 168, 2, 2],
            ..tcp
        },
        REDIRECT,
        "TCP to its network",
    );
}

#[test]
fn a_full_pinhole_loads_and_works_to_the_last_prefix() {
    let net = |n: u8| Ipv4Net::new([10, n, 0, 0].into(), 16).unwrap();
    let p = Pinhole {
        direct: (0..MAX_DIRECT as u8).map(net).collect(),
        ..pinhole()
    };
    check(
        &p,
        Packet {
            to: [10, 63, 1, 1],
            ..Packet::vxlan()
        },
        REDIRECT,
        "last prefix",
    );
    check(
        &p,
        Packet {
            to: [10, 64, 1, 1],
            ..Packet::vxlan()
        },
        PASS,
        "behind the last",
    );
    check(&p, Packet::vxlan(), REDIRECT, "vxlan still");
    let mut over = p;
    over.direct.push(net(64));
    let error = ProgramKind::Uplink(over).source().unwrap_err().to_string();
    assert!(error.contains("65") && error.contains("64"), "{error}");
}

#[test]
fn other_ethertypes_pass() {
    let p = Pinhole {
        direct: vec!["0.0.0.0/0".parse().unwrap()],
        ..pinhole()
    };
    for (ethertype, what) in [
        (0x0806, "ARP"),
        (0x86dd, "IPv6"),
        (0x8100, "VLAN"),
        (0x88a8, "QinQ"),
    ] {
        check(
            &p,
            Packet {
                ethertype,
                ..Packet::vxlan()
            },
            PASS,
            what,
        );
    }
    let mut tagged = Packet::vxlan().bytes();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x64]);
    assert_verdict(&p, &tagged, PASS, "VLAN-tagged vxlan");
}

#[test]
fn truncated_packets_pass() {
    let p = pinhole();
    for options in [0, 10] {
        let whole = Packet {
            options,
            ..Packet::vxlan()
        }
        .bytes();
        let headers = 14 + 20 + options * 4 + 8;
        for len in 0..=whole.len() {
            let expected = if len >= headers { REDIRECT } else { PASS };
            assert_verdict(&p, &whole[..len], expected, &format!("{len} bytes"));
        }
    }
    let direct = Packet {
        to: [10, 244, 3, 1],
        ..Packet::vxlan()
    }
    .bytes();
    for len in 0..=direct.len() {
        let expected = if len >= 34 { REDIRECT } else { PASS };
        assert_verdict(
            &p,
            &direct[..len],
            expected,
            &format!("direct, {len} bytes"),
        );
    }
}
