//! What a pod gets: judged, and worked out before anything is made.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::{ApiError, Attachment, ErrorCode, MacAddr, PodRoute, PodSpec, PortKind, PortSpec};
use shunt_encap::IpFamily;

use super::store::Stored;
use crate::config::Mode;
use crate::control::error::refuse;
use crate::podlink::NetnsId;

/// `RT_SCOPE_LINK` (include/uapi/linux/rtnetlink.h).
const SCOPE_LINK: u8 = 253;
/// `ETH_MIN_MTU` (include/uapi/linux/if_ether.h).
const LEAST_MTU: u32 = 68;
/// Every IPv6 link takes so much (RFC 8200, 5).
const LEAST_MTU_V6: u32 = 1280;
/// The names are parts of an interface's alias, which the kernel cuts at 255 bytes (`IFALIASZ`,
/// include/uapi/linux/if.h).
const MAX_NAMES: usize = 200;

/// The MTU that a pod gets when neither it nor an uplink says one, in bytes.
pub(super) const DEFAULT_MTU: u32 = 1500;

/// Refuses what no attachment can be, naming all of it.
pub(super) fn check(spec: &PodSpec) -> Result<(), ApiError> {
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(text);
    let key = &spec.key;
    for (what, name) in [
        ("network", &key.network),
        ("container id", &key.container_id),
    ] {
        if !is_identifier(name) {
            fault(format!(
                "{what} \"{name}\": write a letter or digit, then those, `_`, `.` or `-`"
            ));
        }
    }
    if key.network.len() + key.container_id.len() > MAX_NAMES {
        fault(format!(
            "network and container id have more than {MAX_NAMES} bytes together"
        ));
    }
    if !crate::sys::interface::is_valid_name(&key.ifname) {
        fault(format!(
            "ifname \"{}\": write 1 to 15 bytes without spaces, `/` or `:`",
            key.ifname
        ));
    }
    if !spec.netns.is_absolute() {
        fault(format!(
            "netns \"{}\": write an absolute path, such as /run/netns/NAME",
            spec.netns.display()
        ));
    }
    if spec.kind == PortKind::Memory {
        fault("kind: a pod's port is afxdp or tap".to_owned());
    }
    for (i, net) in spec.addresses.iter().enumerate() {
        let mut before = spec.addresses.iter().take(i);
        if before.any(|other| other.addr() == net.addr()) {
            fault(format!("addresses: {} is there twice", net.addr()));
        }
    }
    let has = |family| has(&spec.addresses, family);
    let least = match has(IpFamily::V6) {
        true => LEAST_MTU_V6,
        false => LEAST_MTU,
    };
    if let Some(mtu) = spec.mtu
        && !(least..=u32::from(u16::MAX)).contains(&mtu)
    {
        fault(format!(
            "mtu: {mtu} will not do: write {least} to {} bytes",
            u16::MAX
        ));
    }
    for route in &spec.routes {
        let family = IpFamily::of(route.dst.addr());
        if !has(family) {
            fault(format!(
                "routes: {}: the pod has no address of its family",
                route.dst
            ));
        }
        if route.gw.is_some_and(|gw| IpFamily::of(gw) != family) {
            fault(format!(
                "routes: {}: its gateway is of the other family",
                route.dst
            ));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let text = format!("pod {key}: {}", faults.join("; "));
    Err(refuse(ErrorCode::Invalid, text))
}

/// CNI 1.1.0, section 2, `CNI_CONTAINERID`.
fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn has(addresses: &[IpNet], family: IpFamily) -> bool {
    addresses
        .iter()
        .any(|net| IpFamily::of(net.addr()) == family)
}

/// The MTU of a pod's interface in bytes: what it asks for, or what the uplink takes; never more
/// than `port` takes.
pub(super) fn mtu(given: Option<u32>, uplink: Option<u16>, port: u16) -> u32 {
    given
        .or(uplink.map(u32::from))
        .unwrap_or(DEFAULT_MTU)
        .min(u32::from(port))
}

/// A MAC address nobody else has: locally administered, unicast (IEEE 802c), random.
pub(super) fn random_mac(taken: impl Fn(MacAddr) -> bool) -> MacAddr {
    // Keyed by the operating system's randomness.
    let random = std::hash::RandomState::new();
    let mut made = MacAddr::default();
    for turn in 0..u32::from(u8::MAX) {
        let [a, b, c, d, e, f, ..] = random.hash_one(turn).to_be_bytes();
        made = MacAddr([a & 0xfc | 0x02, b, c, d, e, f]);
        if !taken(made) {
            break;
        }
    }
    made
}

/// The port behind a pod's interface.
pub(super) fn port_spec(stored: &Stored) -> PortSpec {
    let spec = &stored.spec;
    let tap = stored.is_tap();
    PortSpec {
        name: stored.host_device.clone(),
        kind: spec.kind,
        device: match tap {
            true => spec.key.ifname.clone(),
            false => stored.host_device.clone(),
        },
        netns: tap.then(|| spec.netns.clone()),
        addresses: stored.addresses.iter().map(IpNet::addr).collect(),
        mac: Some(stored.mac),
        worker: None,
        rx_frames: None,
        allowed_addresses: spec.allowed_addresses.clone(),
        allowed_macs: spec.allowed_macs.clone(),
        unguarded: spec.unguarded,
        ingress: spec.ingress,
        egress: spec.egress,
    }
}

/// Works out what the pod gets. `told` is what its port says of MTUs and gateways, for a port of
/// the pod's MTU.
pub(super) fn stored(
    spec: PodSpec,
    netns: NetnsId,
    mode: Mode,
    mac: MacAddr,
    told: &Attachment,
    pod_cidrs: &[IpNet],
) -> Stored {
    let addresses: Vec<IpNet> = spec
        .addresses
        .iter()
        .map(|net| match mode {
            Mode::L3 => IpNet::from(net.addr()),
            Mode::L2 => *net,
        })
        .collect();
    let gateways: Vec<IpAddr> = told
        .gateways
        .iter()
        .copied()
        .filter(|gateway| has(&addresses, IpFamily::of(*gateway)))
        .collect();
    let routes = routes(&spec, mode, &addresses, &gateways, told, pod_cidrs);
    let mut stored = Stored::new(spec, mac, told.mtu);
    stored.netns_id = Some(netns);
    stored.addresses = addresses;
    stored.gateways = gateways;
    stored.routes = routes;
    stored
}

fn routes(
    spec: &PodSpec,
    mode: Mode,
    addresses: &[IpNet],
    gateways: &[IpAddr],
    told: &Attachment,
    pod_cidrs: &[IpNet],
) -> Vec<PodRoute> {
    let gateway = |dst: &IpNet| {
        let family = IpFamily::of(dst.addr());
        let mut gateways = gateways.iter().copied();
        gateways.find(|gateway| IpFamily::of(*gateway) == family)
    };
    let smaller = |mtu: u32| (mtu < told.mtu).then_some(mtu);
    let mut routes = Vec::new();
    for own in told.routes.iter().filter(|_| spec.default_route) {
        let Some(gateway) = gateway(&own.prefix) else {
            continue;
        };
        // The pod's subnet is on-link and takes all that the interface does.
        let mut subnets = addresses.iter().map(IpNet::trunc);
        let on_link = mode == Mode::L2
            && own.prefix.prefix_len() > 0
            && subnets.any(|subnet| subnet.contains(&own.prefix));
        let explicit = |route: &PodRoute| {
            route.dst == own.prefix && route.table.is_none() && route.priority.is_none()
        };
        if on_link || spec.routes.iter().any(explicit) {
            continue;
        }
        routes.push(PodRoute {
            // Those of this node's pods are there for their MTU, which is the interface's.
            mtu: smaller(own.mtu),
            ..PodRoute::new(own.prefix, Some(gateway))
        });
    }
    for asked in &spec.routes {
        let mut route = asked.clone();
        let on_link = route.gw.is_none() && route.scope == Some(SCOPE_LINK);
        // CNI 1.1.0, section 5: without a gateway it is the plugin's to choose. In L3 mode the
        // switch's FIB decides by the destination, whatever router the pod names.
        if !on_link && (route.gw.is_none() || mode == Mode::L3) {
            route.gw = gateway(&route.dst);
        }
        let family = IpFamily::of(route.dst.addr());
        let remote = told
            .routes
            .iter()
            .find(|own| own.prefix.prefix_len() == 0 && IpFamily::of(own.prefix.addr()) == family);
        let local = pod_cidrs.iter().any(|cidr| cidr.contains(&route.dst));
        if route.mtu.is_none() && !on_link && !local {
            route.mtu = remote.and_then(|remote| smaller(remote.mtu));
        }
        routes.push(route);
    }
    routes
}

#[cfg(test)]
mod tests;
