//! What may come from a port, by what its attachment says.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::{MacAddr, PortKind, PortSpec};

use crate::tables::Guard;

/// The guard of a pod's port; `None` where the attachment turns it off. `device_mac` is the
/// device's own: a TAP's is the pod's.
pub(crate) fn guard(spec: &PortSpec, device_mac: Option<MacAddr>) -> Option<Guard> {
    if spec.unguarded {
        return None;
    }
    let mut guard = Guard {
        learns: spec.addresses.is_empty(),
        ..Guard::default()
    };
    // Without a MAC of its own the pod may use any that is no other's.
    if let Some(mac) = pod_mac(spec, device_mac) {
        guard.macs.push(mac);
        guard.macs.extend(&spec.allowed_macs);
    }
    for address in &spec.addresses {
        match address {
            IpAddr::V4(v4) => guard.v4.push(*v4),
            IpAddr::V6(v6) => guard.v6.push(*v6),
        }
    }
    for net in &spec.allowed_addresses {
        match net {
            IpNet::V4(v4) => guard.nets4.push(*v4),
            IpNet::V6(v6) => guard.nets6.push(*v6),
        }
    }
    Some(guard)
}

/// The pod's MAC address, as far as it is known without asking: the one it was given, or that of
/// its TAP, which the daemon has just made.
pub(crate) fn pod_mac(spec: &PortSpec, device_mac: Option<MacAddr>) -> Option<MacAddr> {
    spec.mac
        .or(device_mac.filter(|_| spec.kind == PortKind::Tap))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const GIVEN: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const ALLOWED: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 7]);

    #[test]
    fn a_guard_holds_what_the_attachment_names() {
        let spec = PortSpec {
            addresses: vec![
                "10.244.1.11".parse().expect("an address"),
                "fd00::b".parse().expect("an address"),
            ],
            mac: Some(GIVEN),
            allowed_macs: vec![ALLOWED],
            allowed_addresses: vec![
                "10.9.0.0/24".parse().expect("a prefix"),
                "fd09::/64".parse().expect("a prefix"),
            ],
            ..PortSpec::default()
        };
        let guard = guard(&spec, Some(DEVICE)).expect("guarded");
        assert_eq!(guard.macs, [GIVEN, ALLOWED]);
        assert_eq!(guard.v4, [std::net::Ipv4Addr::new(10, 244, 1, 11)]);
        assert_eq!(guard.v6.len(), 1);
        assert_eq!((guard.nets4.len(), guard.nets6.len()), (1, 1));
        assert!(!guard.learns);
    }

    #[test]
    fn a_tap_has_its_own_mac_and_a_veth_without_one_any() {
        let mut spec = PortSpec {
            allowed_macs: vec![ALLOWED],
            ..PortSpec::default()
        };
        let veth = guard(&spec, Some(DEVICE)).expect("guarded");
        assert!(veth.macs.is_empty());
        assert!(veth.learns);
        spec.kind = PortKind::Tap;
        let tap = guard(&spec, Some(DEVICE)).expect("guarded");
        assert_eq!(tap.macs, [DEVICE, ALLOWED]);
        spec.unguarded = true;
        assert_eq!(guard(&spec, Some(DEVICE)), None);
    }
}
