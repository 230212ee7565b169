//! Each reason for which a frame is not sent, declared once.

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $description:literal;)*) => {
        /// Why a frame was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $description] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in `shunt stats`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, for people.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }
        }
    };
}

drop_reasons! {
    // Malformed.
    TruncatedFrame "truncated_frame" "shorter than its headers need";
    BadIpHeader "bad_ip_header" "IP version, header length or total length is wrong";
    BadExtension "bad_extension" "IPv6 extension headers are malformed, out of order, or of a kind that is not allowed (routing type 0)";
    ExtensionLimit "extension_limit" "more IPv6 extension headers than the switch looks through";
    BadIpChecksum "bad_ip_checksum" "IPv4 header checksum is wrong";
    BadArp "bad_arp" "ARP packet is malformed or not Ethernet/IPv4";
    BadNdp "bad_ndp" "neighbour discovery packet is malformed or came through a router (RFC 4861, 6.1 and 7.1)";
    BadMembership "bad_membership" "L2 mode: IGMP or MLD packet is malformed";
    BadSourceMac "bad_source_mac" "source MAC address is a group address or zero";
    SpoofedGateway "spoofed_gateway" "source MAC address is the gateway's own";
    MartianSource "martian_source" "IP source cannot be a host's: multicast, loopback or broadcast (RFC 1812, 5.3.7)";

    // Guards of a pod's port.
    SpoofedMac "spoofed_mac" "guard: source MAC address is not the pod's";
    SpoofedSource "spoofed_source" "guard: IP source address is not the pod's";
    SpoofedArp "spoofed_arp" "guard: ARP sender is not the pod";
    SpoofedNdp "spoofed_ndp" "guard: neighbour discovery for an address that is not the pod's";
    TinyFragment "tiny_fragment" "guard: fragments that hide or overwrite the transport header (RFC 1858)";
    RogueQuerier "rogue_querier" "guard: multicast query from a pod";
    RogueRouter "rogue_router" "guard: router advertisement or redirect from a pod";
    DhcpServer "dhcp_server" "guard: DHCP server's answer from a pod";
    TunnelFromPod "tunnel_from_pod" "guard: tunnel packet from a pod to a node";
    StormLimit "storm_limit" "L2 mode: more frames to flood than one port may send a second";

    // Not for this switch.
    NotForGateway "not_for_gateway" "L3 mode: addressed to neither the gateway's MAC nor a protocol the switch answers";
    UnsupportedEthertype "unsupported_ethertype" "neither IPv4, IPv6 nor ARP (L3 mode), or hidden behind a VLAN tag or SNAP (guarded ports)";
    LinkLocal "link_local" "link-local address, which is not routed (RFC 4291, 2.5.6)";
    MulticastNotRouted "multicast_not_routed" "multicast or broadcast destination is not routed";
    GatewayNoService "gateway_no_service" "sent to the gateway's own address, where nothing listens";

    // From the underlay.
    NotOurMac "not_our_mac" "uplink: addressed to another station's MAC";
    UnexpectedProtocol "unexpected_protocol" "uplink: to this node, but no tunnel packet";
    OuterFragment "outer_fragment" "uplink: tunnel packet is an IP fragment";
    BadUdpLength "bad_udp_length" "VXLAN: UDP length disagrees with the IP packet's";
    BadVxlanHeader "bad_vxlan_header" "VXLAN: I flag clear or reserved bits set";
    WrongVni "wrong_vni" "VXLAN: another network's VNI";
    WrongVtepMac "wrong_vtep_mac" "VXLAN: inner destination is not this node's VTEP MAC";
    UnknownPeer "unknown_peer" "tunnel packet from an address that no route names";
    InnerSourceMismatch "inner_source_mismatch" "tunnel packet whose inner source is not routed to the peer that sent it";
    InnerUnsupported "inner_unsupported" "tunnel packet whose payload is not IP";
    NestedTunnel "nested_tunnel" "tunnel packet inside a tunnel packet";
    EcnIllegal "ecn_illegal" "outer says congestion, inner cannot carry it (RFC 6040, figure 4)";
    TransitRefused "transit_refused" "from the underlay and not for a pod of this node";

    // From the node's own stack.
    HostLoop "host_loop" "from the node's stack, which is where it would go";

    // Forwarding.
    TtlExpired "ttl_expired" "TTL would reach zero";
    NoRoute "no_route" "no route to the destination";
    BlackholeRoute "blackhole_route" "the route says so";
    NextHopGone "next_hop_gone" "the route's next hop was removed meanwhile";
    SamePort "same_port" "L2 mode: destination is behind the port it came from";
    NoFloodTarget "no_flood_target" "L2 mode: nobody else is in the domain";
    FdbLimit "fdb_limit" "L2 mode: source MAC is unknown and the MAC table has no room for it";
    NeighbourQueueFull "neighbour_queue_full" "too many frames wait for link-layer addresses";
    NeighbourTimeout "neighbour_timeout" "the link-layer address was not found in time";
    SlowPathLimit "slow_path_limit" "more requests to the switch itself (ARP, NDP, echo) than one port may send a second";

    // Sending.
    MtuExceeded "mtu_exceeded" "larger than the path to the next hop takes";
    RateLimit "rate_limit" "more than the pod may receive, and its queue is full";
    NoHeadroom "no_headroom" "no room in front for the outer header";
    PoolEmpty "pool_empty" "no free frame for a copy or an answer";
    TxQueueFull "tx_queue_full" "the outgoing port does not keep up";
    TxRejected "tx_rejected" "the outgoing device refused the frame";
    LinkFull "link_full" "the link to the worker that owns the outgoing port is full";
    PortGone "port_gone" "the outgoing port was removed meanwhile";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_in_snake_case() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        assert!(names.iter().all(|n| {
            n.bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
        }));
    }

    #[test]
    fn discriminants_index_the_counters() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
