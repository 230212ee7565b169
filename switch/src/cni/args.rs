//! What `shunt cni` understands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use serde::Serialize;

/// `shunt cni`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CniCommand {
    /// Put the CNI plugin and its configuration in place, or replace them by these
    Install(InstallArgs),
    /// Remove what install has put in place; remove the pods first
    Remove(RemoveArgs),
    /// Print the configuration that install would write
    Print(ConflistArgs),
}

/// `shunt cni install`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct InstallArgs {
    /// Where the runtime looks for plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
    /// Where the runtime looks for configurations; the first by name is in force
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
    /// The plugin's binary [default: shunt-cni beside this program]
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// The configuration's file name
    #[arg(long, value_name = "NAME", default_value = "10-shunt.conflist", value_parser = conf_name)]
    pub conf_name: String,
    /// What is in it.
    #[command(flatten)]
    pub conflist: ConflistArgs,
}

/// `shunt cni remove`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RemoveArgs {
    /// Where the plugin is
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
    /// Where the configuration is; every one that names shunt-cni goes
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
}

/// What goes into the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConflistArgs {
    /// The network's name
    #[arg(long, value_name = "NAME", default_value = "shunt", value_parser = network_name)]
    pub network_name: String,
    /// The version of the CNI specification; with 1.1.0 a runtime that only knows 1.0.0 still works
    #[arg(long, value_name = "VERSION", default_value = "1.0.0", value_parser = VERSIONS)]
    pub cni_version: String,
    /// Where pods' addresses come from; repeat for IPv6 and more [default: the daemon's
    /// node.pod_cidrs]
    #[arg(long = "subnet", visible_alias = "pod-cidr", value_name = "CIDR")]
    pub subnets: Vec<IpNet>,
    /// How pods are joined to the switch
    #[arg(long, value_enum, default_value_t = PodPort::Veth)]
    pub port: PodPort,
    /// The MTU of the pods' interfaces in bytes [default: what the uplink takes]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
    pub mtu: Option<u32>,
    /// Where the plugin queues what it cannot tell the daemon; as the daemon's state_dir
    /// [default: /var/lib/shunt]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where host-local keeps the addresses in use [default: /var/lib/cni/networks]
    #[arg(long, value_name = "DIR")]
    pub ipam_dir: Option<PathBuf>,
    /// Leave out the plugin portmap, which makes hostPort work
    #[arg(long)]
    pub no_portmap: bool,
}

/// `--port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PodPort {
    /// A veth with an AF_XDP socket
    Veth,
    /// A TAP device
    Tap,
}

/// Versions with configuration lists that the plugin speaks.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// By what it ends a runtime knows a list from a single plugin, and by its first character a
/// reader a hidden file.
fn conf_name(text: &str) -> Result<String, String> {
    let plain = !text.contains('/') && !text.starts_with('.') && text.len() <= 200;
    if plain
        && text
            .strip_suffix(".conflist")
            .is_some_and(|stem| !stem.is_empty())
    {
        Ok(text.to_owned())
    } else {
        Err("a file name that ends in .conflist, such as 10-shunt.conflist".to_owned())
    }
}

/// CNI 1.1.0, section 1, "name".
fn network_name(text: &str) -> Result<String, String> {
    let first = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if first && text.chars().all(rest) {
        Ok(text.to_owned())
    } else {
        Err("a letter or digit, then those, _ . or -".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_runtime_would_not_take_are_refused() {
        for name in ["10-shunt.conflist", "a.conflist"] {
            assert_eq!(conf_name(name), Ok(name.to_owned()));
        }
        for name in [
            "",
            ".conflist",
            "10-shunt.conf",
            "../10-shunt.conflist",
            ".10-shunt.conflist",
        ] {
            assert!(conf_name(name).is_err(), "{name}");
        }
        for name in ["shunt", "0", "a_b.c-d"] {
            assert_eq!(network_name(name), Ok(name.to_owned()));
        }
        for name in ["", "-a", "a b", "a/b", "größe"] {
            assert!(network_name(name).is_err(), "{name}");
        }
    }
}
