//! The result of an ADD, from a plugin before us or from IPAM, and to the runtime in its version
//! (CNI 1.1.0, section 5; the same section of 0.3.1, 0.4.0 and 1.0.0).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use shunt_api::PodRoute;

use crate::version::Version;

/// A result, with all that 1.1.0 knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Interfaces that were made.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) ips: Vec<Ip>,
    /// Routes.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) routes: Vec<Route>,
    /// Name servers.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Dns::is_empty"
    )]
    pub(crate) dns: Dns,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: String,
    /// Its hardware address.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) mac: String,
    /// Its MTU in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// The network namespace it is in; empty for the node's.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) sandbox: String,
    /// A socket that belongs to it (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket_path: Option<String>,
    /// The PCI device that belongs to it (since 1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub(crate) pci_id: Option<String>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ip {
    /// `4` or `6` (before 1.0.0); follows from the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// With the length of its subnet.
    pub(crate) address: IpNet,
    /// The subnet's gateway.
    #[serde(
        default,
        deserialize_with = "address",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) gateway: Option<IpAddr>,
    /// The place of its interface among the result's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<i64>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    /// The destination.
    pub(crate) dst: IpNet,
    /// The gateway.
    #[serde(
        default,
        deserialize_with = "address",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) gw: Option<IpAddr>,
    /// The largest packet in bytes (since 1.1.0, as all that follow).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// The largest TCP segment in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) advmss: Option<u32>,
    /// The metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    /// The table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<u32>,
    /// The scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<u8>,
}

/// Name servers and how to ask them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dns {
    /// Addresses, the preferred first.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) nameservers: Vec<String>,
    /// The local domain.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) domain: String,
    /// Search domains, the preferred first.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) search: Vec<String>,
    /// Options for the resolver.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Lets each part of `other` that says something stand for ours.
    pub(crate) fn overlay(&mut self, other: &Self) {
        let put = |ours: &mut Vec<String>, theirs: &Vec<String>| {
            if !theirs.is_empty() {
                ours.clone_from(theirs);
            }
        };
        put(&mut self.nameservers, &other.nameservers);
        put(&mut self.search, &other.search);
        put(&mut self.options, &other.options);
        if !other.domain.is_empty() {
            self.domain.clone_from(&other.domain);
        }
    }
}

impl From<&Route> for PodRoute {
    fn from(route: &Route) -> Self {
        // Zero is how other plugins write that they have no wish.
        let wish = |value: Option<u32>| value.filter(|value| *value != 0);
        Self {
            dst: route.dst.trunc(),
            gw: route.gw,
            mtu: wish(route.mtu),
            advmss: wish(route.advmss),
            priority: wish(route.priority),
            table: wish(route.table),
            scope: route.scope,
        }
    }
}

impl From<&PodRoute> for Route {
    fn from(route: &PodRoute) -> Self {
        Self {
            dst: route.dst,
            gw: route.gw,
            mtu: route.mtu,
            advmss: route.advmss,
            priority: route.priority,
            table: route.table,
            scope: route.scope,
        }
    }
}

impl Outcome {
    /// As `version` writes it, without what that does not know.
    ///
    /// # Errors
    /// None that is known; serde's, should there be one.
    pub(crate) fn in_version(mut self, version: Version) -> serde_json::Result<Value> {
        for ip in &mut self.ips {
            let family = if ip.address.addr().is_ipv4() {
                "4"
            } else {
                "6"
            };
            ip.version = (version < Version::V1_0_0).then(|| family.to_owned());
        }
        if version < Version::V1_1_0 {
            for interface in &mut self.interfaces {
                interface.mtu = None;
                interface.socket_path = None;
                interface.pci_id = None;
            }
            for route in &mut self.routes {
                *route = Route::from(&PodRoute::new(route.dst, route.gw));
            }
        }
        let mut value = serde_json::to_value(self)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("cniVersion".to_owned(), version.as_str().into());
        }
        Ok(value)
    }
}

/// `null` is how Go writes an empty list.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An empty text is how Go writes no address.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn full() -> Value {
        json!({
            "interfaces": [
                {"name": "sh1", "mac": "ee:ee:ee:ee:ee:ee"},
                {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1450, "sandbox": "/run/netns/a",
                 "socketPath": "/run/s", "pciID": "0000:00:01.0"},
            ],
            "ips": [
                {"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1},
                {"address": "fd00::2/64", "interface": 1},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400, "advmss": 1360, "priority": 5,
                 "table": 100, "scope": 0},
                {"dst": "10.9.0.0/16"},
            ],
            "dns": {"nameservers": ["10.0.0.53"], "domain": "d", "search": ["s"], "options": ["o"]},
        })
    }

    fn outcome() -> Outcome {
        serde_json::from_value(full()).expect("a result")
    }

    #[test]
    fn the_newest_version_has_everything() {
        let mut expected = full();
        expected["cniVersion"] = "1.1.0".into();
        assert_eq!(outcome().in_version(Version::V1_1_0).unwrap(), expected);
    }

    #[test]
    fn older_versions_lack_what_came_later() {
        let mut expected = full();
        expected["cniVersion"] = "1.0.0".into();
        expected["interfaces"][1] =
            json!({"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/a"});
        expected["routes"][0] = json!({"dst": "0.0.0.0/0", "gw": "10.0.0.1"});
        assert_eq!(outcome().in_version(Version::V1_0_0).unwrap(), expected);
        expected["ips"][0]["version"] = "4".into();
        expected["ips"][1]["version"] = "6".into();
        for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
            expected["cniVersion"] = version.as_str().into();
            assert_eq!(outcome().in_version(version).unwrap(), expected);
        }
    }

    #[test]
    fn what_go_writes_for_nothing_is_nothing() {
        let read: Outcome = serde_json::from_value(json!({
            "cniVersion": "0.4.0", "unknown": {},
            "interfaces": null, "routes": null, "dns": {},
            "ips": [{"version": "4", "address": "10.0.0.2/32", "gateway": ""}],
        }))
        .expect("a result");
        assert_eq!(read.ips.len(), 1);
        assert_eq!(read.ips[0].gateway, None);
        assert_eq!(
            read.in_version(Version::V1_0_0).unwrap(),
            json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/32"}]})
        );
    }

    #[test]
    fn an_address_without_a_length_is_refused() {
        for ips in [
            json!([{"address": "10.0.0.2"}]),
            json!([{}]),
            json!({}),
            json!("x"),
        ] {
            assert!(serde_json::from_value::<Outcome>(json!({"ips": ips})).is_err());
        }
    }

    #[test]
    fn dns_is_laid_over_part_by_part() {
        let mut dns = outcome().dns;
        dns.overlay(&Dns {
            nameservers: vec!["10.0.0.54".into()],
            ..Dns::default()
        });
        assert_eq!(dns.nameservers, ["10.0.0.54"]);
        assert_eq!((dns.domain.as_str(), dns.search.len()), ("d", 1));
    }
}
