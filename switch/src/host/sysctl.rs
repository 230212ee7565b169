//! The kernel's switches (Documentation/networking/ip-sysctl.rst), by way of /proc/sys/net, which
//! shows the network namespace of the thread that opens it.

use std::io;
use std::path::PathBuf;

use super::HostError;

/// A switch of one link and the value that it has to have.
type LinkValues = &'static [(&'static str, &'static str)];

/// The kernel's end of the pair, IPv4. Replies of other nodes arrive there although the kernel
/// would send to them over its NIC, so the source check is the loose one (RFC 3704, 2.4). Pods are
/// behind the switch whatever the kernel thinks: no redirects.
const DEVICE4: LinkValues = &[
    ("rp_filter", "2"),
    ("send_redirects", "0"),
    ("accept_redirects", "0"),
];

/// The kernel's end, IPv6. No address of its own making (`addr_gen_mode` 1) and nothing believed
/// of routers: what it needs is set, and the switch sees nothing but the node's packets. IPv6
/// comes on last, or it would make that address.
const DEVICE6: LinkValues = &[
    ("addr_gen_mode", "1"),
    ("accept_ra", "0"),
    ("accept_dad", "0"),
    ("accept_redirects", "0"),
    ("disable_ipv6", "0"),
];

/// The kernel's end where IPv6 is not in use.
const DEVICE6_OFF: LinkValues = &[("disable_ipv6", "1")];

/// The switch's end belongs to the switch. While that is away frames come to the kernel, which
/// would send them back to where they came from, over and over: it forwards nothing, answers no
/// ARP and believes no source.
const SWITCH_END4: LinkValues = &[("forwarding", "0"), ("rp_filter", "1"), ("arp_ignore", "8")];
const SWITCH_END6: LinkValues = &[("disable_ipv6", "1")];

/// Prepares both ends. Of both families, IPv6 only if `ipv6`.
pub(super) fn links(device: &str, switch_end: &str, ipv6: bool) -> Result<bool, HostError> {
    let mut changed = false;
    let mut all = |family, link, values: LinkValues| -> Result<(), HostError> {
        for (name, wanted) in values {
            changed |= set(&["net", family, "conf", link, name], wanted)?;
        }
        Ok(())
    };
    all("ipv4", device, DEVICE4)?;
    all("ipv4", switch_end, SWITCH_END4)?;
    all("ipv6", switch_end, SWITCH_END6)?;
    all("ipv6", device, if ipv6 { DEVICE6 } else { DEVICE6_OFF })?;
    Ok(changed)
}

/// Makes the node a router of these families. It is never undone: others may rely on it by then.
/// Before [`links`]: turning IPv4 forwarding on does so for each link.
pub(super) fn forwarding(ipv4: bool, ipv6: bool) -> Result<(), HostError> {
    if ipv4 && set(&["net", "ipv4", "ip_forward"], "1")? {
        log::info!("this node forwards IPv4 from now on: net.ipv4.ip_forward is 1, and stays so");
    }
    if ipv6 && set(&["net", "ipv6", "conf", "all", "forwarding"], "1")? {
        log::info!(
            "this node forwards IPv6 from now on: net.ipv6.conf.all.forwarding is 1, and stays so. \
             A NIC whose default route comes by router advertisements needs accept_ra = 2"
        );
    }
    Ok(())
}

/// Sets a switch unless it has that value, which a read-only /proc/sys may well have. True when it
/// was changed. A switch of IPv6 that a kernel without IPv6 lacks is as good as off.
fn set(path: &[&str], wanted: &'static str) -> Result<bool, HostError> {
    let file: PathBuf = ["/proc/sys"].iter().chain(path).collect();
    let refused = |source| HostError::Sysctl {
        key: path.join("."),
        wanted,
        source,
    };
    match std::fs::read_to_string(&file) {
        Ok(value) if value.trim() == wanted => return Ok(false),
        Ok(_) => {}
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && path.last() == Some(&"disable_ipv6")
                && wanted == "1" =>
        {
            return Ok(false);
        }
        Err(error) => return Err(refused(error)),
    }
    std::fs::write(&file, wanted).map_err(refused)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::TestNetns;

    fn value(netns: &TestNetns, key: &str) -> String {
        netns.command("sysctl", &["-n", key]).trim().to_owned()
    }

    #[test]
    fn only_what_differs_is_written() {
        let netns = TestNetns::new();
        netns.link("d0", "");
        assert!(netns.run(|| links("d0", "d0p", true)).unwrap());
        assert!(!netns.run(|| links("d0", "d0p", true)).unwrap(), "again");
        for (key, wanted) in [
            ("net.ipv4.conf.d0.rp_filter", "2"),
            ("net.ipv4.conf.d0.send_redirects", "0"),
            ("net.ipv6.conf.d0.disable_ipv6", "0"),
            ("net.ipv6.conf.d0.addr_gen_mode", "1"),
            ("net.ipv6.conf.d0.accept_ra", "0"),
            ("net.ipv4.conf.d0p.forwarding", "0"),
            ("net.ipv4.conf.d0p.arp_ignore", "8"),
            ("net.ipv6.conf.d0p.disable_ipv6", "1"),
        ] {
            assert_eq!(value(&netns, key), wanted, "{key}");
        }
        assert!(netns.run(|| links("d0", "d0p", false)).unwrap());
        assert_eq!(value(&netns, "net.ipv6.conf.d0.disable_ipv6"), "1");
    }

    #[test]
    fn forwarding_is_for_the_families_in_use() {
        let netns = TestNetns::new();
        let both = |netns: &TestNetns| {
            ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].map(|key| value(netns, key))
        };
        netns.command("sysctl", &["-qw", "net.ipv4.ip_forward=0"]);
        netns.run(|| forwarding(false, false)).unwrap();
        assert_eq!(both(&netns), ["0", "0"]);
        netns.run(|| forwarding(false, true)).unwrap();
        assert_eq!(both(&netns), ["0", "1"]);
        netns.run(|| forwarding(true, true)).unwrap();
        assert_eq!(both(&netns), ["1", "1"]);
    }

    #[test]
    fn a_missing_switch_is_named() {
        let netns = TestNetns::new();
        let error = netns.run(|| links("d0", "d0p", true)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("net.ipv4.conf.d0.rp_filter has to be 2"),
            "{text}"
        );
    }
}
