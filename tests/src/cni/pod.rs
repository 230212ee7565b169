//! A pod that was attached by the plugin.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::Value;
use shunt_api::MacAddr;

use super::{Container, Runtime};
use crate::family::Family;
use crate::netns::Netns;
use crate::pod::mac_of;

/// A pod: its namespace, and what the plugin made of it. Dropping it deletes the namespace, and
/// tells nobody.
#[derive(Debug)]
pub struct CniPod {
    /// Its namespace.
    pub netns: Netns,
    /// Its attachment.
    pub container: Container,
    /// What ADD printed.
    pub result: Value,
}

impl CniPod {
    /// Makes a namespace and attaches it.
    ///
    /// # Errors
    /// When the kernel or the plugin refuses.
    pub fn add(runtime: &Runtime, role: &str) -> Result<Self> {
        Self::add_with(runtime, role, |container| container)
    }

    /// [`CniPod::add`] with the container's description changed before.
    ///
    /// # Errors
    /// As [`CniPod::add`].
    pub fn add_with(
        runtime: &Runtime,
        role: &str,
        change: impl FnOnce(Container) -> Container,
    ) -> Result<Self> {
        let netns = Netns::new(role)?;
        let container = change(Container::new(&netns.path()).of_pod("default", role));
        let result = runtime.add(&container)?;
        Ok(Self {
            netns,
            container,
            result,
        })
    }

    /// Its addresses, as the result says.
    ///
    /// # Errors
    /// When the result has something else in their place.
    pub fn addresses(&self) -> Result<Vec<IpNet>> {
        let ips = self.result["ips"]
            .as_array()
            .context("a result without ips")?;
        ips.iter()
            .map(|ip| Ok(ip["address"].as_str().context("no address")?.parse()?))
            .collect()
    }

    /// Its first address.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self) -> Result<IpAddr> {
        let first = self.addresses()?.first().map(IpNet::addr);
        first.context("no address")
    }

    /// Its address of a family.
    ///
    /// # Errors
    /// When it has none.
    pub fn address_of(&self, family: Family) -> Result<IpAddr> {
        let addresses = self.addresses()?;
        let mut found = addresses.iter().map(IpNet::addr);
        found
            .find(|address| Family::of(*address) == family)
            .with_context(|| format!("no such address among {addresses:?}"))
    }

    /// The MAC address of its interface, as its kernel says.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn mac(&self) -> Result<MacAddr> {
        mac_of(&self.netns, &self.container.ifname)
    }
}
