//! What is wrong with a plan by itself.

use shunt_api::PortKind;

use super::{PodLinkError, PodLinkPlan};
use crate::sys::interface::is_valid_name;

/// Below it the kernel turns IPv6 off on a link (RFC 8200, 5).
const IPV6_MTU_MIN: u32 = 1280;
/// The least and the most that a veth takes (`ETH_MIN_MTU`, `ETH_MAX_MTU`,
/// include/uapi/linux/if_ether.h).
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65_535;

/// Refuses what the kernel would refuse without a reason, or take and not carry out.
pub(super) fn validate(plan: &PodLinkPlan) -> Result<(), PodLinkError> {
    match fault(plan) {
        Some(fault) => Err(PodLinkError::Invalid(format!("{}: {fault}", plan.key))),
        None => Ok(()),
    }
}

fn fault(plan: &PodLinkPlan) -> Option<String> {
    match plan.kind {
        PortKind::Afxdp if !is_valid_name(&plan.host_device) => {
            return Some(format!("`{}` cannot name a device", plan.host_device));
        }
        PortKind::Afxdp | PortKind::Tap => {}
        PortKind::Memory => return Some("a pod's port is `afxdp` or `tap`".to_owned()),
    }
    for mac in [plan.mac, plan.host_mac, plan.gateway_mac] {
        if mac.is_zero() || mac.is_multicast() {
            return Some(format!("{mac} is no station's MAC address"));
        }
    }
    if !(MTU_MIN..=MTU_MAX).contains(&plan.mtu) {
        return Some(format!("an MTU of {} bytes: use 68 to 65535", plan.mtu));
    }
    let ipv6 = plan.addresses.iter().any(|net| net.addr().is_ipv6());
    if ipv6 && plan.mtu < IPV6_MTU_MIN {
        return Some(format!(
            "an MTU of {} bytes: IPv6 takes at least {IPV6_MTU_MIN}",
            plan.mtu
        ));
    }
    for gateway in &plan.gateways {
        if plan.addresses.iter().any(|net| net.addr() == *gateway) {
            return Some(format!(
                "{gateway} is the pod's own address and its gateway"
            ));
        }
    }
    for route in &plan.routes {
        if let Some(gw) = route.gw
            && gw.is_ipv6() != route.dst.addr().is_ipv6()
        {
            return Some(format!(
                "the route to {}: its gateway {gw} is of the other address family",
                route.dst
            ));
        }
    }
    None
}
