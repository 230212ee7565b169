//! What makes one value what it is to be: each function tells what keeps it from that, if anything
//! does, and what to write instead.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use shunt_api::MacAddr;

/// `IFNAMSIZ` (include/uapi/linux/if.h) without the terminating zero.
const MAX_DEVICE_NAME: usize = 15;
const MAX_PORT_NAME: usize = 32;

/// The address of a node: unicast, and the same wherever it is asked from.
pub(super) fn node_address(address: IpAddr) -> Option<String> {
    let (unfit, example) = match address {
        IpAddr::V4(v4) => (
            v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast(),
            "192.168.50.1",
        ),
        IpAddr::V6(v6) => (!routable(v6), "fd00:50::1"),
    };
    unfit.then(|| {
        format!(
            "{address} is not the address of one host: write one such as {example}{}",
            hint(address)
        )
    })
}

/// Why an IPv6 address is refused that names one host, but only on its link.
fn hint(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            " (a link-local address is the same on every link)"
        }
        _ => "",
    }
}

/// Unicast beyond a link (RFC 4291, 2.4). IPv4-mapped addresses (2.5.5.2) never travel in packets.
fn routable(address: Ipv6Addr) -> bool {
    let unfit = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some();
    !unfit
}

/// A prefix of unicast addresses with nothing beyond its length.
pub(super) fn canonical(prefix: IpNet) -> Option<String> {
    if prefix != prefix.trunc() {
        return Some(format!(
            "{prefix} has bits set beyond its length: write {}",
            prefix.trunc()
        ));
    }
    let unfit = match prefix.addr() {
        // The default route's address is the unspecified one.
        address if address.is_unspecified() => prefix.prefix_len() == prefix.max_prefix_len(),
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_loopback() || v4.is_broadcast(),
        IpAddr::V6(v6) => !routable(v6),
    };
    unfit.then(|| format!("{prefix} is not a prefix of unicast addresses: write another"))
}

/// The MAC address of one station.
pub(super) fn station(mac: MacAddr) -> Option<String> {
    let remedy = "write a unicast address, as in 02:00:00:00:00:01";
    if mac.is_multicast() {
        Some(format!("{mac} is a multicast address: {remedy}"))
    } else if mac.is_zero() {
        Some(format!("{mac} names no station: {remedy}"))
    } else {
        None
    }
}

/// The name of a port.
pub(super) fn port_name(name: &str) -> Option<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let good = (1..=MAX_PORT_NAME).contains(&name.len()) && name.bytes().all(fits);
    (!good).then(|| {
        format!("\"{name}\" is no port name: write 1 to {MAX_PORT_NAME} of A-Z a-z 0-9 _ . -")
    })
}

/// The name of a kernel interface (`dev_valid_name`, net/core/dev.c).
pub(super) fn device_name(name: &str) -> Option<String> {
    unnamed(name, MAX_DEVICE_NAME).then(|| {
        format!(
            "\"{name}\" is no interface name: write 1 to {MAX_DEVICE_NAME} bytes without spaces, \
             `/` or `:`, as `ip link` shows them"
        )
    })
}

/// The name of the host port's interface, which leaves room for its peer's ([`host_peer`]).
pub(super) fn host_device_name(name: &str) -> Option<String> {
    let longest = MAX_DEVICE_NAME - HOST_PEER_SUFFIX.len();
    unnamed(name, longest).then(|| {
        format!(
            "\"{name}\" will not do for the host port: write an interface name of 1 to {longest} \
             bytes without spaces, `/` or `:`, since its other end is named with \
             `{HOST_PEER_SUFFIX}` appended"
        )
    })
}

const HOST_PEER_SUFFIX: &str = "-sw";

/// The switch's end of the pair that joins the node's stack.
pub(super) fn host_peer(device: &str) -> String {
    format!("{device}{HOST_PEER_SUFFIX}")
}

/// Whether the name is no interface's.
fn unnamed(name: &str, longest: usize) -> bool {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    !(1..=longest).contains(&name.len()) || name == "." || name == ".." || name.contains(bad)
}

/// Prefixes, for people.
pub(super) fn list(cidrs: &[IpNet]) -> String {
    let texts: Vec<String> = cidrs.iter().map(IpNet::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_unicast_addresses_beyond_their_link() {
        for good in ["192.168.50.1", "169.254.7.7", "fd00::1", "2001:db8::1"] {
            assert_eq!(node_address(good.parse().unwrap()), None, "{good}");
        }
        for (bad, word) in [
            ("0.0.0.0", "192.168.50.1"),
            ("127.0.0.1", "one host"),
            ("224.0.0.1", "one host"),
            ("255.255.255.255", "one host"),
            ("::", "fd00:50::1"),
            ("::1", "one host"),
            ("ff02::1", "one host"),
            ("fe80::1", "every link"),
            ("::ffff:10.0.0.1", "one host"),
        ] {
            let message = node_address(bad.parse().unwrap()).expect(bad);
            assert!(message.contains(bad) && message.contains(word), "{message}");
        }
    }

    #[test]
    fn prefixes_are_unicast_and_end_where_they_say() {
        for good in [
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/8",
            "10.9.0.1/32",
            "fd00::/48",
            "2000::/3",
        ] {
            assert_eq!(canonical(good.parse().unwrap()), None, "{good}");
        }
        for (bad, word) in [
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("fd00::1/64", "write fd00::/64"),
            ("0.0.0.0/32", "unicast"),
            ("::/128", "unicast"),
            ("127.0.0.0/8", "unicast"),
            ("224.0.0.0/4", "unicast"),
            ("255.255.255.255/32", "unicast"),
            ("ff00::/8", "unicast"),
            ("fe80::/10", "unicast"),
            ("::1/128", "unicast"),
            ("::ffff:0.0.0.0/96", "unicast"),
        ] {
            let message = canonical(bad.parse().unwrap()).expect(bad);
            assert!(message.contains(bad) && message.contains(word), "{message}");
        }
    }

    #[test]
    fn the_host_device_leaves_room_for_its_peer() {
        assert_eq!(host_device_name("shunt0-12byt"), None);
        assert!(device_name(&host_peer("shunt0-12byt")).is_none());
        for bad in ["", "shunt0-13byte", "a b", "a/b", "a:b", ".", ".."] {
            let message = host_device_name(bad).expect(bad);
            assert!(
                message.contains("1 to 12") && message.contains("`-sw`"),
                "{message}"
            );
        }
    }
}
