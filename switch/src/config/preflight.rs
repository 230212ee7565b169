//! What the running machine must offer before anything is attached: capabilities and devices.

use std::path::{Path, PathBuf};

use shunt_api::PortKind;

use super::Config;

/// What the machine lacks: all of it, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Capabilities (capabilities(7)) that the process does not have.
    #[error(
        "missing {}: run as root, or grant them, with `AmbientCapabilities=` in the systemd unit, \
         `securityContext.capabilities.add` in the pod, or `setcap` on the binary",
        .0.join(", ")
    )]
    Capabilities(Vec<&'static str>),
    /// The process's own capabilities cannot be read.
    #[error(
        "cannot read the process's capabilities from {}: {reason}; is /proc mounted?",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Interfaces or namespaces that do not exist: one line for each.
    #[error("{}", .0.join("\n"))]
    Devices(Vec<String>),
}

/// Numbers from include/uapi/linux/capability.h. `CAP_BPF` (Linux 5.8) was a part of
/// `CAP_SYS_ADMIN` and is still implied by it.
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Checks that the process may open AF_XDP and packet sockets, load XDP programs and make TAPs.
///
/// # Errors
/// Names every capability that is missing.
pub fn check_capabilities() -> Result<(), PreflightError> {
    let path = Path::new("/proc/self/status");
    let unreadable = |reason| PreflightError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let status = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let effective = effective_capabilities(&status)
        .ok_or_else(|| unreadable("it has no line `CapEff:` with a number".to_owned()))?;
    match missing_capabilities(effective) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(PreflightError::Capabilities(missing)),
    }
}

/// The line `CapEff:` of /proc/PID/status (proc_pid_status(5)): a bit set in hexadecimal.
fn effective_capabilities(status: &str) -> Option<u64> {
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    let wanted = [
        (has(CAP_NET_ADMIN), "CAP_NET_ADMIN"),
        (has(CAP_NET_RAW), "CAP_NET_RAW"),
        (
            has(CAP_BPF) || has(CAP_SYS_ADMIN),
            "CAP_BPF (or CAP_SYS_ADMIN)",
        ),
    ];
    wanted
        .into_iter()
        .filter(|(has, _)| !has)
        .map(|(_, name)| name)
        .collect()
}

impl Config {
    /// Checks that every interface and network namespace the configuration names exists: the
    /// uplink's and the AF_XDP ports' devices (a TAP is made later), the TAP ports' namespaces.
    ///
    /// # Errors
    /// Lists everything that is missing.
    pub fn check_devices(&self) -> Result<(), PreflightError> {
        let mut missing = Vec::new();
        let file = self.path.display();
        if let Some(uplink) = &self.uplink
            && !interface_exists(&uplink.device)
        {
            missing.push(no_device(&format!("{file}: uplink.device"), &uplink.device));
        }
        for (i, port) in self.port.iter().enumerate() {
            let number = i + 1;
            if port.kind == PortKind::Afxdp && !interface_exists(&port.device) {
                let key = format!("{file}: port[{number}].device (port `{}`)", port.name);
                missing.push(no_device(&key, &port.device));
            }
            if let Some(netns) = port.netns.as_ref().filter(|netns| !netns.exists()) {
                missing.push(format!(
                    "{file}: port[{number}].netns (port `{}`): there is no network namespace {}: \
                     make it with `ip netns add`, or correct the name (`ip netns` lists them)",
                    port.name,
                    netns.display()
                ));
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(PreflightError::Devices(missing))
        }
    }
}

fn no_device(key: &str, device: &str) -> String {
    format!(
        "{key}: there is no interface `{device}` in this network namespace: make it, or correct \
         the name (`ip link` lists them)"
    )
}

/// Asks the kernel: if_nametoindex(3) works without /sys and without capabilities.
fn interface_exists(name: &str) -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let kind = (AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC);
    socket_with(kind.0, kind.1, kind.2, None)
        .and_then(|socket| netdevice::name_to_index(&socket, name))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_missing_capability() {
        let all = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_BPF;
        let old_kernel = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_SYS_ADMIN;
        for (effective, missing) in [
            (all, vec![]),
            (old_kernel, vec![]),
            (all & !(1 << CAP_NET_ADMIN), vec!["CAP_NET_ADMIN"]),
            (all & !(1 << CAP_NET_RAW), vec!["CAP_NET_RAW"]),
            (all & !(1 << CAP_BPF), vec!["CAP_BPF (or CAP_SYS_ADMIN)"]),
            (
                0,
                vec!["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF (or CAP_SYS_ADMIN)"],
            ),
        ] {
            assert_eq!(missing_capabilities(effective), missing, "{effective:#x}");
        }
        let text = PreflightError::Capabilities(missing_capabilities(0)).to_string();
        assert!(
            text.contains("CAP_NET_RAW") && text.contains("run as root"),
            "{text}"
        );
    }

    #[test]
    fn reads_the_effective_set() {
        let status = "Name:\tshunt\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective_capabilities(status), Some(0x1ff_ffff_ffff));
        for status in ["", "CapEff:\tnothing\n", "CapPrm:\t01\n"] {
            assert_eq!(effective_capabilities(status), None, "{status}");
        }
    }

    #[test]
    fn finds_interfaces_and_misses_others() {
        assert!(interface_exists("lo"));
        assert!(!interface_exists("shunt-absent0"));
        assert!(!interface_exists(
            "a-name-longer-than-an-interface-can-have"
        ));
    }

    #[test]
    fn lists_every_missing_device() {
        let text = "[node]\naddress = '192.168.50.1'\npod_cidrs = ['10.244.1.0/24']\n\
                    [uplink]\ndevice = 'shunt-absent0'\n\
                    [[port]]\nname = 'a'\ndevice = 'lo'\n\
                    [[port]]\nname = 'b'\ndevice = 'shunt-absent1'\n\
                    [[port]]\nname = 'c'\nkind = 'tap'\ndevice = 't0'\nnetns = 'shunt-absent-ns'\n";
        let config = Config::parse_for(text, Path::new("s.toml"), &[0]).unwrap();
        let PreflightError::Devices(missing) = config.check_devices().unwrap_err() else {
            panic!("another error");
        };
        assert_eq!(missing.len(), 3, "{missing:?}");
        assert!(missing[0].contains("s.toml: uplink.device") && missing[0].contains("ip link"));
        assert!(missing[1].contains("port[2].device") && missing[1].contains("shunt-absent1"));
        assert!(
            missing[2].contains("/run/netns/shunt-absent-ns")
                && missing[2].contains("ip netns add")
        );
    }
}
