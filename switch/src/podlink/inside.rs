//! What is set up inside a pod. All of it runs on a thread in the pod's network namespace.

use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::Instant;

use ipnet::IpNet;
use shunt_api::{PodRoute, PortKind};

use super::{PodLinkError, PodLinkPlan, READY_MAX, READY_PAUSE, sysctl};
use crate::netlink::{DetailedRoute, Link, LinkChange, Netlink, Route, RouteAnswer, TABLE_MAIN};
use crate::sys::offload;

/// Who made the pod's routes (`rtm_protocol`): an administrator (`RTPROT_STATIC`).
const RTPROT_STATIC: u8 = 4;

/// What a veth promises to its sender and AF_XDP does not keep. A VLAN tag or an SCTP checksum that
/// was put beside the frame is lost; the kernel itself withholds large segments from a veth with
/// native XDP (`veth_xdp_set`, drivers/net/veth.c), but not from one with generic XDP. With these
/// off the pod's kernel does it in software before it sends. Plain checksums may stay incomplete:
/// the switch completes them where needed.
const OFFLOADS: &[&str] = &[
    "tx-vlan-hw-insert",
    "tx-vlan-stag-hw-insert",
    "tx-checksum-sctp",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-sctp-segmentation",
    "tx-gso-list",
];

/// Sets up the interface, which is there, and waits until it can send.
pub(super) fn configure(plan: &PodLinkPlan) -> Result<Link, PodLinkError> {
    let refused = PodLinkError::inside(&plan.netns);
    let ifname = &plan.key.ifname;
    let mut netlink = Netlink::open().map_err(&refused)?;
    let index = netlink
        .link(ifname)
        .map_err(&refused)?
        .ok_or_else(|| gone(ifname))?
        .index;
    if plan.kind == PortKind::Afxdp {
        offload::turn_off(ifname, OFFLOADS).map_err(|error| {
            PodLinkError::kernel(format!("turning off the offloads of `{ifname}`"), error)
        })?;
    }
    if plan.addresses.iter().any(|net| net.addr().is_ipv6()) {
        sysctl::pod_ipv6(ifname)?;
    }
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.set_link(index, &up).map_err(&refused)?;
    for &address in &plan.addresses {
        if address.prefix_len() == address.max_prefix_len() {
            netlink.add_address(index, address)
        } else {
            netlink.add_subnet_address(index, address)
        }
        .map_err(&refused)?;
    }
    for &gateway in &plan.gateways {
        netlink
            .set_neighbour(index, gateway, plan.gateway_mac)
            .map_err(&refused)?;
        if needs_route(plan, gateway) {
            let on_link = PodRoute::new(IpNet::from(gateway), None);
            match add_route(&mut netlink, plan, index, &on_link) {
                // The pod is on another network of ours as well, with the same gateway: routes that
                // name this interface find the one behind it.
                Err(PodLinkError::RouteExists { .. }) => {
                    let behind = PodRoute {
                        priority: Some(index),
                        ..on_link
                    };
                    add_route(&mut netlink, plan, index, &behind)
                }
                done => done,
            }?;
        }
    }
    for route in &plan.routes {
        add_route(&mut netlink, plan, index, route)?;
    }
    let link = wait_ready(&mut netlink, ifname).map_err(|error| match error {
        PodLinkError::Netlink(error) => refused(error),
        error => error,
    })?;
    for address in plan.addresses.iter().map(IpNet::addr) {
        wait_local(&mut netlink, plan, address)?;
    }
    Ok(link)
}

/// Waits until the pod takes what is sent to an address. The kernel adds the local route of an IPv6
/// address from a work queue, without duplicate address detection as well (`addrconf_dad_work`,
/// net/ipv6/addrconf.c).
fn wait_local(
    netlink: &mut Netlink,
    plan: &PodLinkPlan,
    address: IpAddr,
) -> Result<(), PodLinkError> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        let way = netlink
            .route_to(address)
            .map_err(PodLinkError::inside(&plan.netns))?;
        if way == RouteAnswer::Local {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(PodLinkError::NotReady {
                device: plan.key.ifname.clone(),
            });
        }
        thread::sleep(READY_PAUSE);
    }
}

/// Waits until the link of that name, in the socket's network namespace, can send.
pub(super) fn wait_ready(netlink: &mut Netlink, device: &str) -> Result<Link, PodLinkError> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        let details = netlink.link_details(device)?.ok_or_else(|| gone(device))?;
        if details.ready {
            return Ok(details.link);
        }
        if Instant::now() >= deadline {
            return Err(PodLinkError::NotReady {
                device: device.to_owned(),
            });
        }
        thread::sleep(READY_PAUSE);
    }
}

pub(super) fn gone(device: &str) -> PodLinkError {
    PodLinkError::kernel(
        format!("the device `{device}` vanished while it was set up: is the pod gone?"),
        std::io::Error::from_raw_os_error(libc::ENODEV),
    )
}

/// True for a gateway that is in no subnet of the pod's. Link-local addresses of IPv6 are on every
/// link (RFC 4291, 2.5.6).
fn needs_route(plan: &PodLinkPlan, gateway: IpAddr) -> bool {
    let link_local = match gateway {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => Ipv6Addr::is_unicast_link_local(&address),
    };
    !link_local && !plan.addresses.iter().any(|net| net.contains(&gateway))
}

fn add_route(
    netlink: &mut Netlink,
    plan: &PodLinkPlan,
    index: u32,
    wanted: &PodRoute,
) -> Result<(), PodLinkError> {
    let refused = PodLinkError::inside(&plan.netns);
    let route = DetailedRoute {
        route: Route {
            prefix: wanted.dst.trunc(),
            via: wanted.gw,
            ifindex: index,
            onlink: false,
            source: None,
            mtu: wanted.mtu,
            // RT_TABLE_UNSPEC stands for the main one.
            table: wanted
                .table
                .filter(|&table| table != 0)
                .unwrap_or(TABLE_MAIN),
            protocol: RTPROT_STATIC,
        },
        priority: wanted.priority,
        advmss: wanted.advmss,
        scope: wanted.scope,
    };
    if netlink.add_detailed_route(&route).map_err(&refused)? {
        return Ok(());
    }
    let there = netlink
        .routes_of_family(route.route.prefix.addr())
        .map_err(&refused)?
        .into_iter()
        .find(|there| {
            there.route.prefix == route.route.prefix
                && there.route.table == route.route.table
                && there.effective_priority() == route.effective_priority()
        });
    if there
        .as_ref()
        .is_some_and(|there| there.route.ifindex == index)
    {
        // The kernel's own for the subnet, or one of this plan's: the later word counts.
        return netlink.replace_detailed_route(&route).map_err(&refused);
    }
    let there = match there {
        Some(there) => through(netlink, &there),
        None => "which is none to a single neighbour".to_owned(),
    };
    Err(PodLinkError::RouteExists {
        netns: plan.netns.clone(),
        dst: route.route.prefix.to_string(),
        there,
    })
}

fn through(netlink: &mut Netlink, there: &DetailedRoute) -> String {
    let index = there.route.ifindex;
    let name = netlink
        .links()
        .unwrap_or_default()
        .into_iter()
        .find(|link| link.index == index)
        .map_or_else(
            || format!("link {index}"),
            |link| format!("`{}`", link.name),
        );
    match there.route.via {
        Some(via) => format!("through {name} by {via}"),
        None => format!("through {name}"),
    }
}
