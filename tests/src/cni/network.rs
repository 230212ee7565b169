//! Network configuration lists (CNI 1.1.0, section 1).

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// A network configuration list: our plugin, and what is chained behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its `cniVersion`.
    pub version: String,
    /// Its plugins in order; ours is the first.
    pub plugins: Vec<Value>,
}

impl Network {
    /// A network of one plugin, in version 1.0.0: the newest that Debian 12's plugins speak.
    pub fn new(name: &str, plugin: Value) -> Self {
        Self {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            plugins: vec![plugin],
        }
    }

    /// With another name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// In another version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// With a key of the first plugin set.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Some(first) = self.plugins.first_mut().and_then(Value::as_object_mut) {
            first.insert(key.to_owned(), value.into());
        }
        self
    }

    /// With addresses by another IPAM plugin, which gets the same configuration.
    #[must_use]
    pub fn ipam_type(mut self, kind: &str) -> Self {
        if let Some(first) = self.plugins.first_mut() {
            first["ipam"]["type"] = kind.into();
        }
        self
    }

    /// With host-local's first range beginning at this address: networks whose pods share a subnet
    /// do not know of each other's leases.
    #[must_use]
    pub fn range_start(mut self, address: IpAddr) -> Self {
        if let Some(first) = self.plugins.first_mut() {
            first["ipam"]["ranges"][0][0]["rangeStart"] = address.to_string().into();
        }
        self
    }

    /// With another plugin behind those that there are.
    #[must_use]
    pub fn chain(mut self, plugin: Value) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// As a `.conflist` file holds it.
    pub fn conflist(&self) -> Value {
        json!({
            "cniVersion": self.version,
            "name": self.name,
            "plugins": self.plugins,
        })
    }

    /// What a plugin gets on standard input, but for `prevResult` (section 3, "Deriving execution
    /// configuration from plugin configuration"): of the runtime's offers those that it has
    /// declared in `capabilities`.
    pub fn execution(&self, plugin: &Value, offers: &Map<String, Value>) -> Map<String, Value> {
        let mut config = plugin.as_object().cloned().unwrap_or_default();
        let declared = |key: &str| plugin["capabilities"][key] == Value::Bool(true);
        let taken: Map<String, Value> = offers
            .iter()
            .filter(|(key, _)| declared(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        config.insert("cniVersion".to_owned(), self.version.clone().into());
        config.insert("name".to_owned(), self.name.clone().into());
        if !taken.is_empty() {
            config.insert("runtimeConfig".to_owned(), taken.into());
        }
        config
    }
}

/// The `ipam` of host-local: an address of each of these subnets.
pub fn host_local(subnets: &[IpNet], data_dir: &Path) -> Value {
    let ranges: Vec<Value> = subnets
        .iter()
        .map(|subnet| json!([{ "subnet": subnet.to_string() }]))
        .collect();
    json!({ "type": "host-local", "dataDir": data_dir, "ranges": ranges })
}

/// The `ipam` of static: these addresses.
pub fn fixed(addresses: &[(IpAddr, u8)]) -> Value {
    let addresses: Vec<Value> = addresses
        .iter()
        .map(|(address, length)| json!({ "address": format!("{address}/{length}") }))
        .collect();
    json!({ "type": "static", "addresses": addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_told_what_it_asked_for() {
        let network = Network::new(
            "pods",
            json!({"type": "x", "capabilities": {"mac": true, "ips": false}}),
        )
        .set("mtu", 1400)
        .chain(json!({"type": "y"}));
        let offers = json!({"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1"], "dns": {}});
        let offers = offers.as_object().expect("an object");
        let told = Value::from(network.execution(&network.plugins[0], offers));
        assert_eq!(told["runtimeConfig"], json!({"mac": "02:00:00:00:00:01"}));
        assert_eq!(
            (&told["name"], &told["mtu"]),
            (&json!("pods"), &json!(1400))
        );
        let told = Value::from(network.execution(&network.plugins[1], offers));
        assert_eq!(
            told,
            json!({"type": "y", "name": "pods", "cniVersion": "1.0.0"})
        );
        assert_eq!(network.conflist()["plugins"][1]["type"], "y");
    }
}
