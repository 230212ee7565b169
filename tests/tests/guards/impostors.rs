//! Frames of pods that say they are somebody else, for either mode.

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_api::MacAddr;
use shunt_tests::frames::{BROADCAST, echo_request, ethernet, ipv4, udp, vxlan};
use shunt_tests::packets::{
    ALL_NODES, ARP, DESTINATION, FRAGMENT, HOP_BY_HOP, ICMPV6, IPV4, IPV6, ROUTING, UDP,
    advertisement, arp, chain, extension, fragment6, group_mac6, icmpv6, ipv6, packet_icmpv6,
    redirect, router_advertisement, routing0, solicitation, udp6,
};
use shunt_tests::refusal::{Case, case};

use crate::{A1, A1_6, A2, A2_6, B1, B1_6, NOBODY, NODE1, NODE1_6, NODE2, TUNNEL_PORT};

/// Who sends, and to whom.
pub(crate) struct Stage {
    /// The sender, a1.
    pub(crate) mac: MacAddr,
    /// To whom packets go: the gateway's MAC in L3 mode, a2's in L2 mode.
    pub(crate) to: MacAddr,
    /// a2's.
    pub(crate) other: MacAddr,
    pub(crate) gateway_mac: MacAddr,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) gateway6: Ipv6Addr,
}

impl Stage {
    pub(crate) fn v4(&self, packet: &[u8]) -> Vec<u8> {
        ethernet(self.mac, self.to, IPV4, packet)
    }

    pub(crate) fn v6(&self, packet: &[u8]) -> Vec<u8> {
        ethernet(self.mac, self.to, IPV6, packet)
    }

    fn to_all(&self, packet: &[u8]) -> Vec<u8> {
        ethernet(self.mac, group_mac6(ALL_NODES), IPV6, packet)
    }

    /// Sources that are not the pod's.
    pub(crate) fn sources(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for source in [
            A2,
            B1,
            NODE1,
            NODE2,
            self.gateway,
            Ipv4Addr::new(8, 8, 8, 8),
        ] {
            let frame = self.v4(&echo_request(source, A2, 64));
            cases.push(case(
                &format!("IPv4 source {source}"),
                "spoofed_source",
                frame,
            ));
        }
        let world = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        for source in [A2_6, B1_6, NODE1_6, world, Ipv6Addr::UNSPECIFIED] {
            let frame = self.v6(&udp6((source, 7), (A2_6, 9), b"spoof"));
            cases.push(case(
                &format!("IPv6 source {source}"),
                "spoofed_source",
                frame,
            ));
        }
        let good = echo_request(A1, A2, 64);
        let good6 = udp6((A1_6, 7), (A2_6, 9), b"spoof");
        for (source, reason) in [
            (self.other, "spoofed_mac"),
            (NOBODY, "spoofed_mac"),
            (self.gateway_mac, "spoofed_gateway"),
        ] {
            for (ethertype, packet) in [(IPV4, &good), (IPV6, &good6)] {
                let frame = ethernet(source, self.to, ethertype, packet);
                cases.push(case(
                    &format!("source {source}, {ethertype:#x}"),
                    reason,
                    frame,
                ));
            }
        }
        cases
    }

    /// ARP and neighbour discovery in others' names.
    pub(crate) fn neighbours(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let me = (self.mac, A1);
        let zero = MacAddr([0; 6]);
        for (what, sender, target) in [
            (
                "for another pod's address",
                (self.mac, A2),
                (zero, self.gateway),
            ),
            (
                "an announcement of another pod's",
                (self.mac, A2),
                (zero, A2),
            ),
            (
                "for the gateway's address",
                (self.mac, self.gateway),
                (zero, A2),
            ),
            (
                "for an address of nobody",
                (self.mac, Ipv4Addr::new(10, 244, 1, 99)),
                (zero, A2),
            ),
            ("with another's MAC inside", (self.other, A1), (zero, A2)),
            (
                "with the gateway's MAC inside",
                (self.gateway_mac, A1),
                (zero, A2),
            ),
        ] {
            for operation in [1, 2] {
                for to in [BROADCAST, self.to] {
                    let packet = arp(operation, sender, target);
                    let frame = ethernet(self.mac, to, ARP, &packet);
                    let what = format!("ARP {operation} {what} to {to}");
                    cases.push(case(&what, "spoofed_arp", frame));
                }
            }
        }
        let frame = ethernet(self.other, BROADCAST, ARP, &arp(1, me, (zero, A2)));
        cases.push(case("ARP in another's frame", "spoofed_mac", frame));

        let from = |source, hops, message| packet_icmpv6(source, ALL_NODES, hops, message);
        let own = advertisement(A1_6, Some(self.other));
        for (what, reason, packet) in [
            (
                "NA of another pod's",
                "spoofed_ndp",
                from(A1_6, 255, advertisement(A2_6, Some(self.mac))),
            ),
            (
                "NA without a MAC",
                "spoofed_ndp",
                from(A1_6, 255, advertisement(A2_6, None)),
            ),
            (
                "NA of the gateway's",
                "spoofed_ndp",
                from(A1_6, 255, advertisement(self.gateway6, Some(self.mac))),
            ),
            (
                "NA of a remote pod's",
                "spoofed_ndp",
                from(A1_6, 255, advertisement(B1_6, Some(self.mac))),
            ),
            ("NA with another's MAC", "spoofed_ndp", from(A1_6, 255, own)),
            (
                "NA from another's address",
                "spoofed_source",
                from(A2_6, 255, advertisement(A2_6, None)),
            ),
            (
                "NA through a router",
                "bad_ndp",
                from(A1_6, 254, advertisement(A1_6, Some(self.mac))),
            ),
            (
                "NS with another's MAC",
                "spoofed_ndp",
                from(A1_6, 255, solicitation(A2_6, Some(self.other))),
            ),
            (
                "NS from another's address",
                "spoofed_source",
                from(A2_6, 255, solicitation(B1_6, Some(self.mac))),
            ),
        ] {
            cases.push(case(what, reason, self.to_all(&packet)));
        }
        let mut broken = from(A1_6, 255, advertisement(A1_6, Some(self.mac)));
        broken[42] ^= 0xff;
        cases.push(case(
            "NA with a wrong checksum",
            "bad_ndp",
            self.to_all(&broken),
        ));
        cases
    }

    /// What only routers and servers say.
    pub(crate) fn servers(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let mac = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);
        for source in [A1_6, mac, self.gateway6] {
            let advert = packet_icmpv6(source, ALL_NODES, 255, router_advertisement(self.mac));
            let what = format!("RA from {source}");
            cases.push(case(&what, "rogue_router", self.to_all(&advert)));
            let redirect = packet_icmpv6(source, A2_6, 255, redirect(A1_6, B1_6));
            let what = format!("redirect from {source}");
            cases.push(case(&what, "rogue_router", self.v6(&redirect)));
        }
        let message = icmpv6(mac, ALL_NODES, router_advertisement(self.mac));
        for (what, next, payload) in [
            ("RA behind options", DESTINATION, chain(2, ICMPV6, &message)),
            (
                "RA behind hop-by-hop options",
                HOP_BY_HOP,
                [&extension(ICMPV6)[..], &message].concat(),
            ),
            (
                "RA in an atomic fragment",
                FRAGMENT,
                fragment6(ICMPV6, 7, 0, false, &message),
            ),
            (
                "RA in two fragments",
                FRAGMENT,
                fragment6(ICMPV6, 7, 0, true, &message[..16]),
            ),
        ] {
            let packet = ipv6(mac, ALL_NODES, next, 255, &payload);
            cases.push(case(what, "rogue_router", self.to_all(&packet)));
        }
        let offer = udp((A1, 67), (A2, 68), 64, &[2; 240]);
        cases.push(case("DHCP server", "dhcp_server", self.v4(&offer)));
        let offer = udp6((A1_6, 547), (A2_6, 546), &[2; 60]);
        cases.push(case("DHCPv6 server", "dhcp_server", self.v6(&offer)));
        cases
    }

    /// Tunnel packets to nodes.
    pub(crate) fn tunnels(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let inner = ethernet(self.mac, NOBODY, IPV4, &echo_request(B1, A2, 64));
        let inside4 = echo_request(B1, A2, 64);
        let inside6 = udp6((B1_6, 7), (A2_6, 9), b"inner");
        for node in [NODE1, NODE2] {
            for (what, packet) in [
                (
                    "VXLAN",
                    udp((A1, 50_000), (node, TUNNEL_PORT), 64, &vxlan(1, &inner)),
                ),
                ("IPIP", ipv4(A1, node, 4, 64, &inside4)),
                ("protocol 41", ipv4(A1, node, 41, 64, &inside6)),
            ] {
                cases.push(case(
                    &format!("{what} to {node}"),
                    "tunnel_from_pod",
                    self.v4(&packet),
                ));
            }
        }
        for (what, packet) in [
            (
                "VXLAN",
                udp6((A1_6, 50_000), (NODE1_6, TUNNEL_PORT), &vxlan(1, &inner)),
            ),
            ("IPv4 in IPv6", ipv6(A1_6, NODE1_6, 4, 64, &inside4)),
            ("IPv6 in IPv6", ipv6(A1_6, NODE1_6, 41, 64, &inside6)),
            (
                "IPv6 in IPv6 behind options",
                ipv6(A1_6, NODE1_6, DESTINATION, 64, &chain(1, 41, &inside6)),
            ),
        ] {
            cases.push(case(
                &format!("{what} to {NODE1_6}"),
                "tunnel_from_pod",
                self.v6(&packet),
            ));
        }
        cases
    }

    /// IPv6 headers that nobody should follow.
    pub(crate) fn extensions(&self) -> Vec<Case> {
        let routing = [&routing0(UDP)[..], &[0; 8]].concat();
        let mut jumbo = ipv6(
            A1_6,
            A2_6,
            HOP_BY_HOP,
            64,
            &[UDP, 0, 0xc2, 4, 0, 1, 0, 0, 0, 7, 0, 9],
        );
        jumbo[4..6].fill(0);
        // The last header says that it is longer than what is left.
        let mut cut = chain(2, UDP, &[]);
        cut[9] = 5;
        let split = fragment6(DESTINATION, 9, 0, true, &[ICMPV6, 3, 1, 4, 0, 0, 0, 0]);
        [
            (
                "9 extension headers",
                "extension_limit",
                DESTINATION,
                chain(9, UDP, &[0; 8]),
            ),
            (
                "170 extension headers",
                "extension_limit",
                DESTINATION,
                chain(170, UDP, &[0; 8]),
            ),
            ("routing header 0", "bad_extension", ROUTING, routing),
            (
                "hop-by-hop in second place",
                "bad_extension",
                DESTINATION,
                [&extension(HOP_BY_HOP)[..], &extension(UDP)].concat(),
            ),
            (
                "two fragment headers",
                "bad_extension",
                FRAGMENT,
                fragment6(FRAGMENT, 1, 0, false, &fragment6(UDP, 2, 0, false, &[0; 8])),
            ),
            (
                "a header longer than the packet",
                "truncated_frame",
                DESTINATION,
                cut,
            ),
            (
                "headers cut by fragmentation",
                "truncated_frame",
                FRAGMENT,
                split,
            ),
        ]
        .into_iter()
        .map(|(what, reason, next, payload)| {
            case(what, reason, self.v6(&ipv6(A1_6, A2_6, next, 64, &payload)))
        })
        .chain([case("jumbogram", "truncated_frame", self.v6(&jumbo))])
        .collect()
    }

    /// IP behind something else than its own EtherType.
    pub(crate) fn tags(&self) -> Vec<Case> {
        let packet = echo_request(A2, A2, 64);
        let tagged = |tag: u16| [&tag.to_be_bytes()[..], &[0x08, 0x00], &packet].concat();
        let advert = packet_icmpv6(A1_6, ALL_NODES, 255, router_advertisement(self.mac));
        let advert = [&[0xe0, 0x00, 0x86, 0xdd][..], &advert].concat();
        let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &packet].concat();
        let length = u16::try_from(snap.len()).unwrap_or_default();
        let frame = |to, ethertype, payload: &[u8]| ethernet(self.mac, to, ethertype, payload);
        [
            ("priority tag", frame(self.to, 0x8100, &tagged(0xe000))),
            ("VLAN 7", frame(self.to, 0x8100, &tagged(7))),
            ("service tag", frame(self.to, 0x88a8, &tagged(0))),
            (
                "RA behind a priority tag",
                frame(group_mac6(ALL_NODES), 0x8100, &advert),
            ),
            ("SNAP", frame(self.to, length, &snap)),
        ]
        .into_iter()
        .map(|(what, frame)| case(what, "unsupported_ethertype", frame))
        .collect()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Case> {
        [
            self.sources(),
            self.neighbours(),
            self.servers(),
            self.tunnels(),
            self.extensions(),
            self.tags(),
        ]
        .concat()
    }
}
