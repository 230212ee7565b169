//! Pods: a namespace with an `eth0`, an address and a way to the gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use shunt_api::MacAddr;

use crate::family::Family;
use crate::netns::Netns;
use crate::wire::veth;

/// The gateway of pods in L3 mode.
pub const L3_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The IPv6 gateway of pods in either mode: the router's link-local address.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

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
    /// Its IPv6 address, if it is a dual-stack pod.
    pub address6: Option<Ipv6Addr>,
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
            address6: None,
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

    /// Gives `eth0` an IPv6 address, in L3 mode a /128, and a default route through the gateway's
    /// link-local address.
    ///
    /// # Errors
    /// When there is no `eth0`, or the kernel refuses: IPv6 is off where nobody enabled it.
    pub fn add_ipv6(&mut self, mode: Mode, address: Ipv6Addr) -> Result<()> {
        let length = match mode {
            Mode::L3 => 128,
            Mode::L2 => 64,
        };
        self.netns
            .ip(&format!("address add {address}/{length} dev eth0 nodad"))?;
        self.netns
            .ip(&format!("-6 route add default via {GATEWAY6} dev eth0"))?;
        self.address6 = Some(address);
        Ok(())
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let four = IpAddr::from(self.address);
        std::iter::once(four)
            .chain(self.address6.map(IpAddr::from))
            .collect()
    }

    /// Its address of a family.
    ///
    /// # Errors
    /// When it has none.
    pub fn address_of(&self, family: Family) -> Result<IpAddr> {
        match family {
            Family::V4 => Ok(self.address.into()),
            Family::V6 => self
                .address6
                .map(IpAddr::from)
                .with_context(|| format!("{} has no IPv6 address", self.name)),
        }
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
