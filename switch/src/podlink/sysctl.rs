//! The kernel's switches of one interface (Documentation/networking/ip-sysctl.rst), by way of
//! /proc/sys/net, which shows the network namespace of the thread that opens it.

use std::fs;
use std::io;
use std::path::Path;

use super::PodLinkError;

/// The switches of a family and the values that they have to have, in this order.
type Values = &'static [(&'static str, &'static str)];

/// The pod's end: it believes no routers, since its routes are set, and has its link-local address
/// at once too. IPv6 comes on last.
const POD6: Values = &[
    ("accept_ra", "0"),
    ("accept_dad", "0"),
    ("disable_ipv6", "0"),
];

/// The host end belongs to the switch, which guards the pods. While it is away frames come to the
/// kernel, which would carry them anywhere: it forwards nothing, answers no ARP and believes no
/// source. Nor does it speak IPv6 to the pod of its own accord.
const HOST4: Values = &[("forwarding", "0"), ("rp_filter", "1"), ("arp_ignore", "8")];
const HOST6: Values = &[("disable_ipv6", "1")];

/// Prepares the interface of a pod with IPv6 addresses.
pub(super) fn pod_ipv6(ifname: &str) -> Result<(), PodLinkError> {
    for (name, value) in POD6 {
        set("ipv6", ifname, name, value).map_err(|error| match error {
            PodLinkError::Kernel { operation, source }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                PodLinkError::Kernel {
                    operation: format!(
                        "{operation}: the kernel has no IPv6 here, so give the pod no IPv6 address"
                    ),
                    source,
                }
            }
            error => error,
        })?;
    }
    Ok(())
}

/// Prepares a veth's host end.
pub(super) fn host(device: &str) -> Result<(), PodLinkError> {
    for (name, value) in HOST4 {
        set("ipv4", device, name, value)?;
    }
    for (name, value) in HOST6 {
        match set("ipv6", device, name, value) {
            // A kernel without IPv6.
            Err(PodLinkError::Kernel { source, .. })
                if source.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Writes only what differs: /proc/sys may be read-only and right.
fn set(family: &str, device: &str, name: &str, value: &str) -> Result<(), PodLinkError> {
    // The name is one that a link has: it holds no `/` and is not `..`.
    let file = Path::new("/proc/sys/net")
        .join(family)
        .join("conf")
        .join(device)
        .join(name);
    let failed = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                " (/proc/sys has to be writable: run privileged)"
            }
            _ => "",
        };
        PodLinkError::kernel(
            format!("setting {} to {value}{remedy}", file.display()),
            error,
        )
    };
    if fs::read_to_string(&file).map_err(failed)?.trim() == value {
        return Ok(());
    }
    fs::write(&file, value).map_err(failed)
}
