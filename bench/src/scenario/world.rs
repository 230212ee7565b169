//! The tables of a scenario: a node with 512 pods among 16 other nodes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::{Ipv4Net, Ipv6Net};
use shunt_api::{MacAddr, vtep_mac};
use shunt_encap::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use shunt_encap::{DscpPolicy, IpFamily, IpipParams, OuterHeader, VxlanParams};
use shunt_switch::config::Mode;
use shunt_switch::port::Port;
use shunt_switch::standalone::{Setup, Standalone};
use shunt_switch::street::PendingLimits;
use shunt_switch::tables::{Action, NextHop, PortId, Role, Underlay};

use super::{BATCH, Path};

/// Other nodes.
const NODES: usize = 16;
/// Routes to other nodes, /24 each.
const ROUTES: usize = 4096;
/// Pods of this node, /32 and /128 each.
const PODS: usize = 512;
/// Frames of the pool: many times what is on its way at once.
const FRAMES: u32 = 4096;
const MTU: u16 = 1500;

/// This node's address on the underlay.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// The network of the tunnels.
pub(super) const VNI: u32 = 1;
/// The UDP port of VXLAN.
pub(super) const VXLAN_PORT: u16 = 8472;
/// The pods' gateway.
pub(super) const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);
/// The uplink's MAC address.
pub(super) const UPLINK_MAC: MacAddr = MacAddr([2, 0xbb, 0, 0, 0, 1]);

/// The address of this node's pod number `index`.
pub(super) fn pod_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 0, 0)) + (index % PODS) as u32)
}

/// The IPv6 address of this node's pod number `index`.
pub(super) fn pod_address6(index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, (index % PODS) as u16)
}

/// The MAC address of this node's pod number `index`.
pub(super) fn pod_mac(index: usize) -> MacAddr {
    let [.., high, low] = (index % PODS).to_be_bytes();
    MacAddr([2, 0xaa, 0, 0, high, low])
}

/// The underlay address of the node to which route number `route` leads.
pub(super) fn remote_node(route: usize) -> Ipv4Addr {
    let [.., low] = (2 + route % NODES).to_be_bytes();
    Ipv4Addr::new(192, 168, 77, low)
}

/// The MAC address of that node's NIC.
pub(super) fn remote_mac(route: usize) -> MacAddr {
    let [.., low] = (2 + route % NODES).to_be_bytes();
    MacAddr([2, 0xbb, 0, 0, 0, low])
}

/// An address behind route number `route`.
pub(super) fn remote_address(route: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network(route)) + 10)
}

/// Spreads consecutive flows over the routes.
pub(super) fn route_of_flow(flow: usize) -> usize {
    // Odd, so that it meets every route before it repeats one.
    flow * 1021 % ROUTES
}

fn network(route: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + ((route % ROUTES) << 8) as u32)
}

/// A switch between two ports.
pub(super) struct World {
    pub(super) switch: Standalone,
}

impl World {
    /// `from` is where frames come in, `to` where they leave.
    pub(super) fn build(path: Path, from: Port, to: Port) -> Result<Self> {
        let mode = match path {
            Path::L2Forward => Mode::L2,
            _ => Mode::L3,
        };
        let mut switch = Standalone::new(Setup {
            mode,
            batch: BATCH,
            frames: FRAMES,
            pending: PendingLimits {
                per_neighbour: 16,
                total: 256,
                timeout: Duration::from_secs(1),
            },
            max_macs: 16384,
            gateway: (Ipv4Addr::new(169, 254, 1, 1), GATEWAY_MAC),
            underlay: Underlay {
                address: Some(NODE),
                address6: None,
                vni: VNI,
                vxlan_port: VXLAN_PORT,
                vtep_mac: vtep_mac(NODE.into()),
                vtep_mac6: None,
                peers: Vec::new(),
            },
        })?;
        let (from_role, to_role) = match path {
            Path::L2Forward | Path::L3Route | Path::L3RouteV6 => (Role::Pod, Role::Pod),
            Path::VxlanEncap | Path::IpipEncap => (Role::Pod, Role::Uplink),
            Path::VxlanDecap | Path::IpipDecap => (Role::Uplink, Role::Pod),
        };
        let from = add_port(&mut switch, from, from_role);
        let to = add_port(&mut switch, to, to_role);
        if mode == Mode::L2 {
            for pod in 0..PODS {
                // Odd pods send, even ones receive: see the traffic.
                let port = if pod % 2 == 0 { to } else { from };
                switch.fdb().learn(pod_mac(pod), port, 0);
            }
            return Ok(Self { switch });
        }
        let (pods, uplink) = match path {
            Path::VxlanDecap | Path::IpipDecap => (to, from),
            _ => (to, to),
        };
        add_pods(&mut switch, pods)?;
        add_nodes(&mut switch, uplink, path)?;
        Ok(Self { switch })
    }
}

fn add_port(switch: &mut Standalone, port: Port, role: Role) -> PortId {
    // As the daemon treats a veth, from which frames come with unfinished checksums, and a NIC.
    switch.add_port(port, role, MTU, role == Role::Pod)
}

fn add_pods(switch: &mut Standalone, port: PortId) -> Result<()> {
    let mut add = |pod, ethertype| {
        switch.add_next_hop(NextHop {
            action: Action::Deliver,
            port,
            mtu: MTU,
            remote: false,
            peer: None,
            header: OuterHeader::ethernet(GATEWAY_MAC.0, pod_mac(pod).0, ethertype),
        })
    };
    let mut hops = Vec::new();
    for pod in 0..PODS {
        hops.push((pod, add(pod, ETHERTYPE_IPV4)?, add(pod, ETHERTYPE_IPV6)?));
    }
    for (pod, hop, hop6) in hops {
        let address = Ipv4Net::new(pod_address(pod), 32).context("prefix length")?;
        switch.add_route(address, hop)?;
        let address = Ipv6Net::new(pod_address6(pod), 128).context("prefix length")?;
        switch.add_route(address, hop6)?;
    }
    Ok(())
}

fn add_nodes(switch: &mut Standalone, port: PortId, path: Path) -> Result<()> {
    let mut hops = Vec::new();
    for node in 0..NODES {
        let header = outer(path, node)?;
        hops.push(switch.add_next_hop(NextHop {
            action: Action::Underlay,
            port,
            mtu: MTU - header.overhead() as u16,
            remote: true,
            peer: Some(remote_node(node).into()),
            header,
        })?);
    }
    for route in 0..ROUTES {
        let prefix = Ipv4Net::new(network(route), 24).context("prefix length")?;
        switch.add_route(prefix, hops[route % NODES])?;
    }
    Ok(())
}

fn outer(path: Path, node: usize) -> Result<OuterHeader> {
    let (src_mac, dst_mac) = (UPLINK_MAC.0, remote_mac(node).0);
    let (src_ip, dst_ip) = (IpAddr::V4(NODE), IpAddr::V4(remote_node(node)));
    let header = match path {
        Path::IpipEncap | Path::IpipDecap => OuterHeader::ipip(IpipParams {
            src_mac,
            dst_mac,
            src_ip,
            dst_ip,
            ttl: 64,
            inner: IpFamily::V4,
            df: true,
            dscp: DscpPolicy::Copy,
        })?,
        _ => OuterHeader::vxlan(VxlanParams {
            src_mac,
            dst_mac,
            src_ip,
            dst_ip,
            ttl: 64,
            dst_port: VXLAN_PORT,
            vni: VNI,
            inner_src_mac: vtep_mac(NODE.into()).0,
            inner_dst_mac: vtep_mac(remote_node(node).into()).0,
            inner: IpFamily::V4,
            df: true,
            dscp: DscpPolicy::Copy,
            udp_checksum: false,
        })?,
    };
    Ok(header)
}
