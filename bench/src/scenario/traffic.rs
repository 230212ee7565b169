//! The frames of a scenario, going in and coming out, made by smoltcp.

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_api::{MacAddr, vtep_mac};
use shunt_tests::frames::{ethernet, ethernet_ipv4, ipv4, udp, vxlan};

use super::world::{
    GATEWAY_MAC, NODE, UPLINK_MAC, VNI, VXLAN_PORT, pod_address, pod_address6, pod_mac,
    remote_address, remote_mac, remote_node, route_of_flow,
};
use super::{FRAME_LEN, Path, Scenario};

const PROTOCOL_IPIP: u8 = 4;
/// Bytes in front of a UDP payload: Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;
/// Where the source port of an outer UDP header is in the frame.
const OUTER_SOURCE_PORT: std::ops::Range<usize> = 34..36;

/// One flow: the frame that the generator repeats, and what must become of it.
pub(super) struct Flow {
    pub(super) sent: Vec<u8>,
    received: Vec<u8>,
    /// The outer UDP source port is the sender's choice (RFC 7348, 5).
    any_source_port: bool,
}

impl Flow {
    pub(super) fn into_sent(self) -> Vec<u8> {
        self.sent
    }

    /// What should have come out, given what did: that decides what the sender was free to choose.
    pub(super) fn expected(&self, got: &[u8]) -> Vec<u8> {
        let mut expected = self.received.clone();
        if self.any_source_port
            && let (Some(place), Some(port)) = (
                expected.get_mut(OUTER_SOURCE_PORT),
                got.get(OUTER_SOURCE_PORT),
            )
            // The dynamic range, 49152 to 65535.
            && port[0] >= 0xc0
        {
            place.copy_from_slice(port);
        }
        expected
    }
}

/// The flows of a scenario.
pub(super) fn flows(scenario: Scenario) -> Vec<Flow> {
    (0..scenario.flows)
        .map(|number| flow(scenario.path, number))
        .collect()
}

fn flow(path: Path, number: usize) -> Flow {
    // The sender is pod 511 of this node, or a pod behind the flow's route.
    let route = route_of_flow(number);
    let pod = pod_address(number);
    let far = remote_address(route);
    match path {
        Path::L2Forward => {
            // From odd pods to even ones: 256 pairs at most, told apart further by ports.
            let (from, to) = (number * 2 + 1, number * 2 + 6);
            let packet = packet((pod_address(from), number), pod_address(to), 64);
            let frame = ethernet_ipv4(pod_mac(from), pod_mac(to), &packet);
            Flow::to_pod(frame.clone(), frame)
        }
        Path::L3Route => {
            let sender = (pod_address(511), number);
            Flow::to_pod(
                ethernet_ipv4(pod_mac(511), GATEWAY_MAC, &packet(sender, pod, 64)),
                ethernet_ipv4(GATEWAY_MAC, pod_mac(number), &packet(sender, pod, 63)),
            )
        }
        Path::L3RouteV6 => {
            let to = pod_address6(number);
            let packet = |hop_limit| packet6(pod_address6(511), number, to, hop_limit);
            Flow::to_pod(
                ethernet(pod_mac(511), GATEWAY_MAC, 0x86dd, &packet(64)),
                ethernet(GATEWAY_MAC, pod_mac(number), 0x86dd, &packet(63)),
            )
        }
        Path::VxlanEncap | Path::IpipEncap => {
            let sender = (pod_address(511), number);
            let inner = packet(sender, far, 63);
            Flow {
                sent: ethernet_ipv4(pod_mac(511), GATEWAY_MAC, &packet(sender, far, 64)),
                received: match path {
                    Path::VxlanEncap => in_vxlan(NODE, remote_node(route), 0, &inner),
                    _ => in_ipip(NODE, remote_node(route), &inner),
                },
                any_source_port: path == Path::VxlanEncap,
            }
        }
        Path::VxlanDecap | Path::IpipDecap => {
            let inner = packet((far, number), pod, 64);
            let from = remote_node(route);
            Flow::to_pod(
                match path {
                    Path::VxlanDecap => in_vxlan(from, NODE, number, &inner),
                    _ => in_ipip(from, NODE, &inner),
                },
                ethernet_ipv4(
                    GATEWAY_MAC,
                    pod_mac(number),
                    &packet((far, number), pod, 63),
                ),
            )
        }
    }
}

impl Flow {
    fn to_pod(sent: Vec<u8>, received: Vec<u8>) -> Self {
        Self {
            sent,
            received,
            any_source_port: false,
        }
    }
}

/// A UDP packet that fills a frame of [`FRAME_LEN`].
fn packet((from, flow): (Ipv4Addr, usize), to: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let source_port = 1000 + (flow % 60_000) as u16;
    udp(
        (from, source_port),
        (to, 2000),
        ttl,
        &[0; FRAME_LEN - HEADERS],
    )
}

/// The same with IPv6 (RFC 8200, 3 and 8.1): two bytes of payload.
fn packet6(from: Ipv6Addr, flow: usize, to: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    const LENGTH: u16 = (FRAME_LEN - 14 - 40) as u16;
    let source_port = 1000 + (flow % 60_000) as u16;
    let addresses = [from.segments(), to.segments()].concat();
    let rest = [LENGTH, 17, source_port, 2000, LENGTH];
    let summed = addresses.iter().chain(&rest);
    let sum = summed.map(|word| u32::from(*word)).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(LENGTH.to_be_bytes());
    bytes.extend([17, hop_limit]);
    for word in addresses
        .into_iter()
        .chain([source_port, 2000, LENGTH, checksum, 0])
    {
        bytes.extend(word.to_be_bytes());
    }
    bytes
}

/// The underlay MAC address of a node.
fn nic(node: Ipv4Addr) -> MacAddr {
    if node == NODE {
        UPLINK_MAC
    } else {
        remote_mac(usize::from(node.octets()[3]).saturating_sub(2))
    }
}

fn in_vxlan(from: Ipv4Addr, to: Ipv4Addr, flow: usize, packet: &[u8]) -> Vec<u8> {
    let inner = ethernet_ipv4(vtep_mac(from.into()), vtep_mac(to.into()), packet);
    let source_port = 49152 + (flow % 16_384) as u16;
    let mut outer = udp(
        (from, source_port),
        (to, VXLAN_PORT),
        64,
        &vxlan(VNI, &inner),
    );
    // No UDP checksum (RFC 7348, 5).
    outer[26..28].fill(0);
    ethernet_ipv4(nic(from), nic(to), &outer)
}

fn in_ipip(from: Ipv4Addr, to: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
    ethernet_ipv4(
        nic(from),
        nic(to),
        &ipv4(from, to, PROTOCOL_IPIP, 64, packet),
    )
}
