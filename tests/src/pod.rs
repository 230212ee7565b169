//! Pods: a namespace with an `eth0`, an address and a way to the gateway.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use shunt_api::MacAddr;

use crate::netns::Netns;
use crate::wire::veth;

/// The gateway of pods in L3 mode.
pub const L3_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Which of the switch's two modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A pod has a /32 and a link-local gateway; the FIB decides.
    L3,
    /// Pods of a node share a subnet and an Ethernet segment.
    L2,
}

impl Mode {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Mode::L3 => "l3",
            Mode::L2 => "l2",
        }
    }
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace.
    pub netns: Netns,
    /// Its name in tables: `a1` is the first pod of the first node.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The name of the veth's host end in the node's namespace.
    pub host_device: String,
    /// Its MTU in bytes.
    pub mtu: u32,
}

impl Pod {
    /// Makes a pod without any interface.
    pub fn bare(netns: Netns, name: &str, address: Ipv4Addr, mtu: u32) -> Self {
        Self {
            netns,
            name: name.to_owned(),
            address,
            host_device: format!("v-{name}"),
            mtu,
        }
    }

    /// Joins it to `node` by a veth whose offloads stay as the kernel makes them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug(&self, node: &Netns) -> Result<()> {
        veth((node, &self.host_device), (&self.netns, "eth0"), self.mtu)
    }

    /// Gives `eth0` its address and routes. In L3 mode that is what a CNI plugin does for a /32:
    /// the gateway on-link and a default route through it. In L2 mode the address has the
    /// subnet's length and the gateway is in the subnet.
    ///
    /// # Errors
    /// When there is no `eth0` or the kernel refuses.
    pub fn configure(&self, mode: Mode, subnet: Ipv4Net, gateway: Ipv4Addr) -> Result<()> {
        let address = self.address;
        match mode {
            Mode::L3 => {
                self.netns
                    .ip(&format!("address add {address}/32 dev eth0"))?;
                self.netns
                    .ip(&format!("route add {gateway} dev eth0 scope link"))?;
            }
            Mode::L2 => {
                let length = subnet.prefix_len();
                self.netns
                    .ip(&format!("address add {address}/{length} brd + dev eth0"))?;
            }
        }
        self.netns
            .ip(&format!("route add default via {gateway} dev eth0"))?;
        Ok(())
    }

    /// The MAC address of `eth0`.
    ///
    /// # Errors
    /// When there is no `eth0`.
    pub fn mac(&self) -> Result<MacAddr> {
        mac_of(&self.netns, "eth0")
    }
}

/// The MAC address of a device.
///
/// # Errors
/// When there is no such device.
pub fn mac_of(netns: &Netns, device: &str) -> Result<MacAddr> {
    let links: serde_json::Value =
        serde_json::from_str(&netns.ip(&format!("-j link show dev {device}"))?)?;
    let text = links[0]["address"]
        .as_str()
        .context("`ip -j link` shows no address")?;
    Ok(text.parse()?)
}
