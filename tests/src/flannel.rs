//! A node that Shunt did not write: the kernel's bridge and vxlan device, set up as Flannel does.

use std::net::Ipv4Addr;

use anyhow::Result;
use shunt_api::MacAddr;

use crate::netns::Netns;
use crate::node::{Node, pod_cidr, underlay_address};
use crate::pod::{Mode, Pod, mac_of};
use crate::wire::Wire;

/// The VXLAN network identifier of Flannel.
pub const VNI: u32 = 1;
/// The UDP port of Flannel's VXLAN: the kernel's default, from before RFC 7348.
pub const PORT: u16 = 8472;

/// A node whose pods hang on `cni0` and reach other nodes through `flannel.1`.
#[derive(Debug)]
pub struct FlannelNode {
    /// The node itself.
    pub node: Node,
    /// The MAC address of `flannel.1`.
    pub vtep_mac: MacAddr,
}

impl FlannelNode {
    /// Makes node `index`. Its `eth0` computes checksums before the cable, as a physical NIC
    /// does before its wire.
    ///
    /// # Errors
    /// When the kernel refuses: it takes the modules `bridge` and `vxlan`.
    pub fn new(netns: Netns, wire: &Wire, index: u8) -> Result<Self> {
        let node = Node::new(netns, wire, index)?;
        let ns = &node.netns;
        ns.sysctl("net.ipv4.ip_forward", "1")?;
        ns.run(&["ethtool", "-K", "eth0", "tx", "off"])?;
        let mtu = wire.mtu().saturating_sub(50);
        let network = node.pod_cidr.network();
        ns.ip(&format!(
            "link add flannel.1 mtu {mtu} type vxlan id {VNI} dstport {PORT} local {} dev eth0 \
             nolearning",
            node.address
        ))?;
        ns.ip(&format!("address add {network}/32 dev flannel.1"))?;
        ns.ip("link set flannel.1 up")?;
        ns.ip(&format!(
            "link add cni0 mtu {mtu} type bridge stp_state 0 forward_delay 0"
        ))?;
        ns.ip(&format!(
            "address add {}/24 brd + dev cni0",
            node.gateway(Mode::L2)
        ))?;
        ns.ip("link set cni0 up")?;
        let vtep_mac = mac_of(ns, "flannel.1")?;
        Ok(Self { node, vtep_mac })
    }

    /// Adds what flanneld adds for a peer's lease: a route, a neighbour and an FDB entry.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn peer(&self, index: u8, vtep_mac: MacAddr) -> Result<()> {
        let cidr = pod_cidr(index)?;
        let network: Ipv4Addr = cidr.network();
        let ns = &self.node.netns;
        ns.ip(&format!(
            "neigh replace {network} lladdr {vtep_mac} dev flannel.1 nud permanent"
        ))?;
        ns.run(&[
            "bridge",
            "fdb",
            "replace",
            &vtep_mac.to_string(),
            "dev",
            "flannel.1",
            "dst",
            &underlay_address(index).to_string(),
        ])?;
        ns.ip(&format!(
            "route replace {cidr} via {network} dev flannel.1 onlink"
        ))?;
        Ok(())
    }

    /// Makes its pod number `pod` on the bridge.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pod(&self, netns: Netns, pod: u8, mtu: u32) -> Result<Pod> {
        let pod = self.node.pod(netns, pod, Mode::L2, mtu)?;
        self.node
            .netns
            .ip(&format!("link set {} master cni0", pod.host_device))?;
        Ok(pod)
    }
}
