//! Routes, and the next hops they lead to.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use shunt_api::{ApiError, Encap, ErrorCode, MacAddr, RouteInfo, RouteSpec, RouteTarget, vtep_mac};
use shunt_encap::ethernet::ETHERTYPE_IPV4;
use shunt_encap::{DscpPolicy, IpFamily, IpipParams, OuterHeader, VxlanParams};

use super::daemon::Daemon;
use super::error::{refuse, system};
use super::ports::faults;
use super::rib::{HopKey, Origin, Route};
use super::underlay::Path;
use crate::config::Dscp;
use crate::tables::{Action, NextHop, PortId, Role};

impl Daemon {
    /// Installs or replaces a route.
    pub(super) fn route_add(&mut self, spec: RouteSpec, origin: Origin) -> Result<(), ApiError> {
        let prefix = v4(spec.prefix)?;
        faults(&format!("route {prefix}"), &self.config.check_route(&spec))?;
        if let Some(old) = self.rib.get(&prefix)
            && !matches!(old.origin, Origin::Config | Origin::Api)
        {
            return Err(refuse(
                ErrorCode::Exists,
                format!(
                    "{prefix} is the switch's own ({}): it cannot be replaced",
                    old.origin.name()
                ),
            ));
        }
        let key = self.key(prefix, &spec.to)?;
        let old = self.rib.get(&prefix).cloned();
        self.rib
            .add(
                prefix,
                Route {
                    key,
                    origin,
                    target: Some(spec.to),
                },
            )
            .map_err(system)?;
        self.touch();
        if let Err(error) = self.commit().and_then(|()| self.update_pinhole()) {
            self.put_back(prefix, old);
            return Err(error);
        }
        if let HopKey::Node { via, .. } = key {
            self.ask_node(via);
        }
        Ok(())
    }

    /// Removes a route.
    pub(super) fn route_del(&mut self, prefix: IpNet) -> Result<(), ApiError> {
        let prefix = v4(prefix)?;
        match self.rib.get(&prefix) {
            None => {
                return Err(refuse(
                    ErrorCode::NotFound,
                    format!("there is no route {prefix}: see shunt route list"),
                ));
            }
            Some(route) if !matches!(route.origin, Origin::Config | Origin::Api) => {
                return Err(refuse(
                    ErrorCode::Invalid,
                    format!(
                        "{prefix} is the switch's own ({}): it goes with its port",
                        route.origin.name()
                    ),
                ));
            }
            Some(_) => {}
        }
        self.rib.remove(prefix).map_err(system)?;
        self.touch();
        self.commit()?;
        self.update_pinhole()
    }

    /// After a failed change: the route that stood before, or none.
    fn put_back(&mut self, prefix: Ipv4Net, old: Option<Route>) {
        let undone = match old {
            Some(old) => self.rib.add(prefix, old),
            None => self.rib.remove(prefix).map(drop),
        };
        if let Err(error) = undone {
            log::error!("{prefix}: {error}");
        }
        self.touch();
        self.commit_or_log("routes");
    }

    /// All routes, in address order.
    pub(super) fn route_list(&mut self) -> Vec<RouteInfo> {
        let routes: Vec<_> = self
            .rib
            .iter()
            .map(|(prefix, route)| (*prefix, route.clone()))
            .collect();
        routes
            .into_iter()
            .map(|(prefix, route)| self.describe(prefix, &route))
            .collect()
    }

    /// Makes the kernel find the way to a remote node, if that is not known.
    pub(super) fn ask_node(&mut self, via: Ipv4Addr) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        if let Some(path) = mirror.path(via, &mut self.netlink) {
            mirror.ask(path.first_hop, &mut self.netlink, Instant::now());
        }
    }

    /// Asks for what has no link-layer address and for what has grown stale.
    pub(super) fn refresh_underlay(&mut self) {
        let nodes: Vec<_> = self
            .rib
            .keys()
            .flatten()
            .filter_map(|key| match key {
                HopKey::Node { via, .. } => Some(via),
                _ => None,
            })
            .collect();
        for via in nodes {
            self.ask_node(via);
        }
    }

    /// Every slot's next hop, by slot.
    pub(super) fn next_hops(&mut self) -> Vec<NextHop> {
        let keys: Vec<_> = self.rib.keys().collect();
        keys.into_iter()
            .map(|key| key.map_or_else(|| NextHop::inert(Action::Gone), |key| self.next_hop(key)))
            .collect()
    }

    fn next_hop(&mut self, key: HopKey) -> NextHop {
        match key {
            HopKey::Pod { port, address } => {
                let mac = self.bindings.get(address).and_then(|binding| binding.mac);
                self.deliver(port, mac)
            }
            HopKey::Port(port) => {
                let learned = self
                    .bindings
                    .iter()
                    .find(|(_, b)| b.port == port && b.mac.is_some());
                let given = self.ports.by_id(port).and_then(|record| record.spec.mac);
                let mac = given.or(learned.and_then(|(_, binding)| binding.mac));
                self.deliver(port, mac)
            }
            HopKey::Node {
                via,
                encap,
                vtep_mac,
            } => self.node_hop(via, encap, vtep_mac),
            HopKey::Connected => NextHop::inert(Action::Glean),
            HopKey::Gateway => NextHop::inert(Action::Gateway),
            HopKey::Blackhole => NextHop::inert(Action::Blackhole),
        }
    }

    fn deliver(&self, port: PortId, mac: Option<MacAddr>) -> NextHop {
        let (Some(record), Some(mac)) = (self.ports.by_id(port), mac) else {
            return NextHop::inert(Action::Wait);
        };
        NextHop {
            action: Action::Deliver,
            port,
            mtu: record.mtu,
            remote: false,
            peer: None,
            header: OuterHeader::ethernet(self.config.gateway.mac.0, mac.0, ETHERTYPE_IPV4),
        }
    }

    fn node_hop(&mut self, via: Ipv4Addr, encap: Encap, remote_vtep: MacAddr) -> NextHop {
        let path = self.path(via);
        let travels = travels(encap, path.is_none_or(|path| path.on_link));
        let peer = (encap != Encap::Direct).then_some(via);
        let waiting = NextHop {
            remote: true,
            peer,
            ..NextHop::inert(Action::Wait)
        };
        let Some(path) = path.filter(|path| path.on_link || travels != Encap::Direct) else {
            return waiting;
        };
        let mac = self
            .mirror
            .as_ref()
            .and_then(|mirror| mirror.mac(path.first_hop));
        let (Some(uplink), Some(mac)) = (self.ports.uplink(), mac) else {
            return waiting;
        };
        let Ok(port) = uplink.slot else {
            return waiting;
        };
        let (src_mac, dst_mac) = (uplink.device_mac.unwrap_or_default().0, mac.0);
        let config = &self.config;
        let header = match travels {
            Encap::Vxlan => OuterHeader::vxlan(VxlanParams {
                src_mac,
                dst_mac,
                src_ip: IpAddr::V4(self.node),
                dst_ip: IpAddr::V4(via),
                ttl: config.vxlan.ttl,
                dst_port: config.vxlan.port,
                vni: config.vxlan.vni,
                inner_src_mac: config.vxlan.vtep_mac.0,
                inner_dst_mac: remote_vtep.0,
                inner: IpFamily::V4,
                df: true,
                dscp: dscp(config.vxlan.dscp),
                udp_checksum: config.vxlan.udp_checksum,
            }),
            Encap::Ipip => OuterHeader::ipip(IpipParams {
                src_mac,
                dst_mac,
                src_ip: IpAddr::V4(self.node),
                dst_ip: IpAddr::V4(via),
                ttl: config.ipip.ttl,
                inner: IpFamily::V4,
                df: true,
                dscp: dscp(config.ipip.dscp),
            }),
            _ => Ok(OuterHeader::ethernet(src_mac, dst_mac, ETHERTYPE_IPV4)),
        };
        let header = match header {
            Ok(header) => header,
            Err(error) => {
                log::error!("outer header to {via}: {error}");
                return waiting;
            }
        };
        let link_mtu = path
            .mtu
            .map_or(uplink.mtu, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
        let overhead = header.overhead() as u16;
        NextHop {
            action: Action::Underlay,
            port,
            mtu: link_mtu.min(uplink.mtu).saturating_sub(overhead),
            remote: true,
            peer,
            header,
        }
    }

    fn path(&mut self, via: Ipv4Addr) -> Option<Path> {
        self.mirror.as_mut()?.path(via, &mut self.netlink)
    }

    fn key(&self, prefix: Ipv4Net, target: &RouteTarget) -> Result<HopKey, ApiError> {
        match target {
            RouteTarget::Blackhole => Ok(HopKey::Blackhole),
            RouteTarget::Port(name) => match self.ports.by_name(name) {
                Some(record) if record.role == Role::Pod => {
                    let id = record.slot.clone().map_err(|why| {
                        refuse(ErrorCode::NotFound, format!("port `{name}` is {why}"))
                    })?;
                    if record.spec.mac.is_none() && self.bindings.of(id).next().is_none() {
                        return Err(refuse(
                            ErrorCode::Invalid,
                            format!(
                                "{prefix}: port `{name}` has neither address nor MAC to send to: \
                                 add it with --address or --mac"
                            ),
                        ));
                    }
                    Ok(HopKey::Port(id))
                }
                Some(_) => Err(refuse(
                    ErrorCode::Invalid,
                    format!("{prefix}: `{name}` is the uplink: give the remote node with --via"),
                )),
                None => Err(refuse(
                    ErrorCode::NotFound,
                    format!("{prefix}: there is no port `{name}`: see shunt port list"),
                )),
            },
            RouteTarget::Node {
                via,
                encap,
                vtep_mac: given,
            } => {
                let IpAddr::V4(node) = *via else {
                    return Err(no_ipv6(*via));
                };
                let vtep_mac = given.unwrap_or_else(|| vtep_mac(*via));
                Ok(HopKey::Node {
                    via: node,
                    encap: *encap,
                    vtep_mac,
                })
            }
        }
    }

    /// Opens or closes the uplink's pinhole as the routes need.
    fn update_pinhole(&mut self) -> Result<(), ApiError> {
        let Some((Ok(id), worker)) = self
            .ports
            .uplink()
            .map(|uplink| (uplink.slot.clone(), uplink.worker))
        else {
            return Ok(());
        };
        let pinhole = self.pinhole();
        if self.open_pinhole.as_ref() == Some(&pinhole) {
            return Ok(());
        }
        self.workers
            .set_pinhole(worker, id, pinhole.clone())?
            .map_err(system)?;
        self.open_pinhole = Some(pinhole);
        Ok(())
    }

    /// A route with its next hop, as it stands.
    pub(super) fn describe(&mut self, prefix: Ipv4Net, route: &Route) -> RouteInfo {
        let hop = self.next_hop(route.key);
        let encap = match route.key {
            HopKey::Pod { .. } | HopKey::Port(_) | HopKey::Connected => "local",
            HopKey::Gateway => "gateway",
            HopKey::Blackhole => "blackhole",
            HopKey::Node { via, encap, .. } => {
                let on_link = self.path(via).is_none_or(|path| path.on_link);
                match travels(encap, on_link) {
                    Encap::Vxlan => "vxlan",
                    Encap::Ipip => "ipip",
                    _ => "direct",
                }
            }
        };
        let resolved = matches!(hop.action, Action::Deliver | Action::Underlay);
        let state = match (hop.action, route.key) {
            (Action::Wait, HopKey::Node { via, encap, .. }) => match self.path(via) {
                None => format!("unreachable: the kernel has no route to {via} over the uplink"),
                Some(path) if encap == Encap::Direct && !path.on_link => {
                    format!("unreachable: {via} is not on-link, so direct cannot work")
                }
                Some(_) => "incomplete".to_owned(),
            },
            (Action::Wait, _) => "incomplete".to_owned(),
            (Action::Gone, _) => "unreachable".to_owned(),
            _ => "reachable".to_owned(),
        };
        let neighbour = resolved
            .then(|| {
                hop.header
                    .as_bytes()
                    .first_chunk::<6>()
                    .copied()
                    .map(MacAddr)
            })
            .flatten();
        RouteInfo {
            prefix: prefix.into(),
            to: route.target.clone(),
            origin: route.origin.name().to_owned(),
            port: resolved.then(|| self.port_name(hop.port)),
            encap: encap.to_owned(),
            neighbour,
            mtu: resolved.then(|| hop.mtu.into()),
            state,
        }
    }
}

/// What travels to a node that is on-link or not.
fn travels(encap: Encap, on_link: bool) -> Encap {
    match encap {
        Encap::CrossSubnetVxlan | Encap::CrossSubnetIpip if on_link => Encap::Direct,
        Encap::CrossSubnetVxlan => Encap::Vxlan,
        Encap::CrossSubnetIpip => Encap::Ipip,
        plain => plain,
    }
}

fn dscp(dscp: Dscp) -> DscpPolicy {
    match dscp {
        Dscp::Copy => DscpPolicy::Copy,
        Dscp::Fixed(value) => DscpPolicy::Fixed(value),
    }
}

/// The prefix with its host bits cleared; IPv6 is refused.
pub(super) fn v4(prefix: IpNet) -> Result<Ipv4Net, ApiError> {
    match prefix {
        IpNet::V4(prefix) => Ok(prefix.trunc()),
        IpNet::V6(_) => Err(no_ipv6(prefix)),
    }
}

fn no_ipv6(what: impl std::fmt::Display) -> ApiError {
    refuse(
        ErrorCode::Invalid,
        format!("{what}: IPv6 routes are not supported yet"),
    )
}
