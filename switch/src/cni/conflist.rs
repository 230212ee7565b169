//! The configuration list (CNI 1.1.0, section 1) that puts shunt-cni in charge of a node's pods.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Serialize;
use shunt_api::StatusReport;

use super::{CniError, ConflistArgs, PLUGIN, PodPort};

/// The IPAM plugin.
pub(super) const IPAM: &str = "host-local";

/// A configuration list, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Conflist {
    /// What a runtime goes by that does not know `cniVersions`.
    cni_version: String,
    /// What others choose from: the newest that they know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cni_versions: Vec<String>,
    name: String,
    plugins: Vec<Plugin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Plugin {
    Shunt(Box<Shunt>),
    Portmap {
        r#type: &'static str,
        capabilities: PortmapCapabilities,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortmapCapabilities {
    port_mappings: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shunt {
    r#type: &'static str,
    port: PodPort,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<PathBuf>,
    capabilities: Capabilities,
    ipam: Ipam,
}

/// What of `runtimeConfig` the plugin takes (CONVENTIONS.md of the CNI project).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Capabilities {
    bandwidth: bool,
    mac: bool,
    ips: bool,
    dns: bool,
    aliases: bool,
}

/// The configuration of host-local.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ipam {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// A pod gets an address out of each.
    ranges: Vec<Vec<Subnet>>,
}

/// A range of host-local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Subnet {
    subnet: IpNet,
    /// No pod gets it; the subnet's first address when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

impl Subnet {
    pub(super) fn new(subnet: IpNet) -> Self {
        Self {
            subnet: subnet.trunc(),
            gateway: None,
        }
    }

    /// Those of a node's pods.
    pub(super) fn of_node(status: &StatusReport) -> Vec<Self> {
        let gateways = [status.gateway, status.gateway6];
        let inside = |net: &IpNet| gateways.into_iter().find(|gateway| net.contains(gateway));
        let with_gateway = |net: &IpNet| Self {
            gateway: inside(net),
            ..Self::new(*net)
        };
        status.pod_cidrs.iter().map(with_gateway).collect()
    }

    /// Host-local sets network, gateway and broadcast address aside.
    fn has_room(&self) -> bool {
        self.subnet.max_prefix_len() - self.subnet.prefix_len() >= 2
    }
}

impl Conflist {
    /// `socket` is the daemon's where it is not the usual one.
    ///
    /// # Errors
    /// A path is relative, or a subnet has no room for pods.
    pub(super) fn new(
        args: &ConflistArgs,
        subnets: Vec<Subnet>,
        socket: Option<&Path>,
    ) -> Result<Self, CniError> {
        let ConflistArgs {
            network_name,
            cni_version,
            subnets: _,
            port,
            mtu,
            state_dir,
            ipam_dir,
            no_portmap,
        } = args;
        if let Some(small) = subnets.iter().find(|subnet| !subnet.has_room()) {
            return Err(CniError::Options(format!(
                "the subnet {} has no room for pods: name a larger one by --subnet",
                small.subnet
            )));
        }
        // The plugin runs in whatever folder the runtime is.
        let absolute = |option: &str, path: Option<&Path>| match path {
            Some(path) if !path.is_absolute() => Err(CniError::Options(format!(
                "{option} {}: write an absolute path, for the plugin runs in another folder",
                path.display()
            ))),
            path => Ok(path.map(Path::to_owned)),
        };
        let (v4, v6): (Vec<_>, Vec<_>) = subnets
            .into_iter()
            .partition(|subnet| matches!(subnet.subnet, IpNet::V4(_)));
        let shunt = Shunt {
            r#type: PLUGIN,
            port: *port,
            mtu: *mtu,
            socket: absolute("--socket", socket)?,
            state_dir: absolute("--state-dir", state_dir.as_deref())?,
            capabilities: Capabilities {
                bandwidth: true,
                mac: true,
                ips: true,
                dns: true,
                aliases: true,
            },
            ipam: Ipam {
                r#type: IPAM,
                data_dir: absolute("--ipam-dir", ipam_dir.as_deref())?,
                ranges: [v4, v6].into_iter().filter(|set| !set.is_empty()).collect(),
            },
        };
        let mut plugins = vec![Plugin::Shunt(Box::new(shunt))];
        if !no_portmap {
            plugins.push(Plugin::Portmap {
                r#type: "portmap",
                capabilities: PortmapCapabilities {
                    port_mappings: true,
                },
            });
        }
        let older = "1.0.0".to_owned();
        let (cni_version, cni_versions) = match cni_version.as_str() {
            "1.1.0" => (older.clone(), vec![older, cni_version.clone()]),
            _ => (cni_version.clone(), Vec::new()),
        };
        Ok(Self {
            cni_version,
            cni_versions,
            name: network_name.clone(),
            plugins,
        })
    }

    /// The plugins that are run beside shunt-cni, and those that runtimes run on their own account.
    pub(super) fn companions(&self) -> Vec<&'static str> {
        let chained = self.plugins.iter().filter_map(|plugin| match plugin {
            Plugin::Shunt(_) => None,
            Plugin::Portmap { r#type, .. } => Some(*r#type),
        });
        ["loopback", IPAM].into_iter().chain(chained).collect()
    }

    /// The newest version of the protocol that plugins may be called in.
    pub(super) fn newest_version(&self) -> &str {
        self.cni_versions.last().unwrap_or(&self.cni_version)
    }

    /// The file's text.
    ///
    /// # Errors
    /// A path in it is not UTF-8.
    pub(super) fn text(&self) -> Result<String, CniError> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| CniError::Options(format!("the configuration: {error}")))?;
        text.push('\n');
        Ok(text)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ConflistArgs,
    }

    pub(in crate::cni) fn args(line: &str) -> ConflistArgs {
        Line::parse_from(std::iter::once("print").chain(line.split_whitespace())).args
    }

    fn subnets(args: &ConflistArgs) -> Vec<Subnet> {
        args.subnets.iter().copied().map(Subnet::new).collect()
    }

    fn made(line: &str) -> Value {
        let args = args(line);
        let conflist = Conflist::new(&args, subnets(&args), None).expect("good options");
        serde_json::from_str(&conflist.text().expect("text")).expect("JSON")
    }

    #[test]
    fn unless_told_otherwise_it_is_for_debians_containerd() {
        let capabilities =
            json!({"bandwidth": true, "mac": true, "ips": true, "dns": true, "aliases": true});
        let expected = json!({
            "cniVersion": "1.0.0",
            "name": "shunt",
            "plugins": [
                {
                    "type": "shunt-cni",
                    "port": "veth",
                    "capabilities": capabilities,
                    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]]},
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        assert_eq!(made("--subnet 10.244.1.7/24"), expected);
    }

    #[test]
    fn every_option_has_its_key() {
        let line = "--network-name pods --cni-version 1.1.0 --port tap --mtu 1400 --no-portmap \
                    --state-dir /s --ipam-dir /i --subnet 10.1.0.0/24 --subnet 10.2.0.0/24 \
                    --pod-cidr fd00::/64";
        let args = args(line);
        let socket = Path::new("/run/other.sock");
        let conflist = Conflist::new(&args, subnets(&args), Some(socket)).expect("good options");
        assert_eq!(conflist.newest_version(), "1.1.0");
        assert_eq!(conflist.companions(), ["loopback", "host-local"]);
        let made = serde_json::to_value(conflist).expect("JSON");
        assert_eq!(made["cniVersion"], "1.0.0");
        assert_eq!(made["cniVersions"], json!(["1.0.0", "1.1.0"]));
        assert_eq!(made["name"], "pods");
        assert_eq!(made["plugins"].as_array().map(Vec::len), Some(1));
        let shunt = &made["plugins"][0];
        assert_eq!(shunt["port"], "tap");
        assert_eq!(shunt["mtu"], 1400);
        assert_eq!(shunt["socket"], "/run/other.sock");
        assert_eq!(shunt["stateDir"], "/s");
        let ranges = json!([
            [{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24"}],
            [{"subnet": "fd00::/64"}],
        ]);
        let ipam = json!({"type": "host-local", "dataDir": "/i", "ranges": ranges});
        assert_eq!(shunt["ipam"], ipam);
    }

    #[test]
    fn the_switchs_gateway_is_no_pods_address() {
        let status = StatusReport {
            version: String::new(),
            pid: 1,
            mode: "l2".to_owned(),
            node: [192, 168, 0, 1].into(),
            node6: None,
            pod_cidrs: vec![
                "10.244.1.0/24".parse().unwrap(),
                "fd00::/64".parse().unwrap(),
            ],
            gateway: [10, 244, 1, 254].into(),
            gateway6: "fe80::1".parse().unwrap(),
            gateway_mac: shunt_api::MacAddr([0; 6]),
            vtep_mac: shunt_api::MacAddr([0; 6]),
            cores: vec![],
            uptime: 0,
            drop_reasons: vec![],
        };
        assert_eq!(
            serde_json::to_value(Subnet::of_node(&status)).unwrap(),
            json!([
                {"subnet": "10.244.1.0/24", "gateway": "10.244.1.254"},
                {"subnet": "fd00::/64"},
            ])
        );
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for line in [
            "--subnet 10.0.0.0/31",
            "--subnet fd00::/127",
            "--subnet 10.0.0.0/24 --state-dir s",
            "--subnet 10.0.0.0/24 --ipam-dir i",
        ] {
            let args = args(line);
            let error = Conflist::new(&args, subnets(&args), None).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }
}
