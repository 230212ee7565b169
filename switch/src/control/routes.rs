//! Routes come and go, and are shown.

use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use shunt_api::{ApiError, Encap, ErrorCode, MacAddr, RouteInfo, RouteSpec, RouteTarget, vtep_mac};
use shunt_encap::IpFamily;

use super::daemon::Daemon;
use super::error::{refuse, system};
use super::hops::{too_small, travels};
use super::nodes::gives_way;
use super::ports::faults;
use super::rib::{HopKey, Origin, Route};
use crate::tables::{Action, Role};

impl Daemon {
    /// Installs or replaces a route.
    pub(super) fn route_add(&mut self, spec: RouteSpec, origin: Origin) -> Result<(), ApiError> {
        let prefix = spec.prefix.trunc();
        faults(&format!("route {prefix}"), &self.config.check_route(&spec))?;
        let old = self.rib.get(&prefix).cloned();
        if let Some(old) = old.as_ref().filter(|old| !gives_way(old)) {
            return Err(refuse(
                ErrorCode::Exists,
                format!(
                    "{prefix} is the switch's own ({}): it cannot be replaced",
                    old.origin.name()
                ),
            ));
        }
        let key = self.key(prefix, &spec.to)?;
        let route = Route {
            key,
            origin,
            target: Some(spec.to),
        };
        self.rib.add(prefix, route).map_err(system)?;
        self.touch();
        let changed = self.nodes.note(prefix, Some(key));
        if let Err(error) = self.settle(&changed).and_then(|()| self.commit_routes()) {
            self.put_back(prefix, old);
            return Err(error);
        }
        if let HopKey::Node { via, .. } = key {
            self.ask_node(via);
        }
        Ok(())
    }

    /// Removes a route; one of the switch's own that it stood before comes back.
    pub(super) fn route_del(&mut self, prefix: IpNet) -> Result<(), ApiError> {
        let prefix = prefix.trunc();
        match self.rib.get(&prefix) {
            None => {
                return Err(refuse(
                    ErrorCode::NotFound,
                    format!("there is no route {prefix}: see shunt route list"),
                ));
            }
            Some(route) if !route.is_users() => {
                let remedy = match route.origin {
                    Origin::Node => "it goes with the routes to that node, or with the host port",
                    _ => "it goes with its port",
                };
                return Err(refuse(
                    ErrorCode::Invalid,
                    format!(
                        "{prefix} is the switch's own ({}): {remedy}",
                        route.origin.name()
                    ),
                ));
            }
            Some(_) => {}
        }
        let changed = self.nodes.note(prefix, None);
        self.withdraw(prefix)?;
        self.settle(&changed)?;
        self.commit_routes()
    }

    /// Takes a route away; see [`NodeRoutes::withdraw`](super::nodes::NodeRoutes::withdraw).
    pub(super) fn withdraw(&mut self, prefix: IpNet) -> Result<Option<Route>, ApiError> {
        self.touch();
        self.nodes.withdraw(&mut self.rib, prefix).map_err(system)
    }

    /// Makes the switch's own routes to nodes what they ought to be, at these prefixes.
    pub(super) fn settle(&mut self, prefixes: &[IpNet]) -> Result<(), ApiError> {
        if self.nodes.settle(&mut self.rib, prefixes).map_err(system)? {
            self.touch();
        }
        Ok(())
    }

    /// Brings workers, the uplink's pinhole and the node's stack up to date.
    fn commit_routes(&mut self) -> Result<(), ApiError> {
        self.commit()?;
        self.update_pinhole()?;
        self.update_host();
        Ok(())
    }

    /// After a failed change: the route that stood before, or none.
    fn put_back(&mut self, prefix: IpNet, old: Option<Route>) {
        let key = old.as_ref().filter(|old| old.is_users()).map(|old| old.key);
        let changed = self.nodes.note(prefix, key);
        let undone = match old {
            Some(old) => self.rib.add(prefix, old).map_err(system),
            None => self.rib.remove(prefix).map(drop).map_err(system),
        };
        if let Err(error) = undone.and_then(|()| self.settle(&changed)) {
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
    pub(super) fn ask_node(&mut self, via: IpAddr) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        if let Some(path) = mirror.path(via, &mut self.netlink) {
            mirror.ask(path.first_hop, &mut self.netlink, Instant::now());
        }
    }

    /// Asks for what has no link-layer address and for what has grown stale.
    pub(super) fn refresh_underlay(&mut self) {
        let nodes: Vec<_> = self.nodes.vias().collect();
        for via in nodes {
            self.ask_node(via);
        }
    }

    fn key(&self, prefix: IpNet, target: &RouteTarget) -> Result<HopKey, ApiError> {
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
                    Ok(HopKey::Port {
                        port: id,
                        family: IpFamily::of(prefix.addr()),
                    })
                }
                Some(_) => Err(refuse(
                    ErrorCode::Invalid,
                    format!("{prefix}: `{name}` is no pod's port: give the remote node with --via"),
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
                let vtep_mac = given.unwrap_or_else(|| vtep_mac(*via));
                Ok(HopKey::Node {
                    via: *via,
                    encap: *encap,
                    vtep_mac,
                    inner: IpFamily::of(prefix.addr()),
                })
            }
        }
    }

    /// A route with its next hop, as it stands.
    pub(super) fn describe(&mut self, prefix: IpNet, route: &Route) -> RouteInfo {
        let hop = self.next_hop(route.key);
        let encap = match route.key {
            HopKey::Pod { .. } | HopKey::Port { .. } | HopKey::Connected => "local",
            HopKey::Host(_) => "host",
            HopKey::Outside(_) => "outside",
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
        let resolved = matches!(
            hop.action,
            Action::Deliver | Action::Underlay | Action::Node | Action::Outside
        );
        let state = match (hop.action, route.key) {
            (Action::Wait, HopKey::Node { via, encap, .. }) => match self.path(via) {
                None => format!("unreachable: the kernel has no route to {via} over the uplink"),
                Some(path) if encap == Encap::Direct && !path.on_link => {
                    format!("unreachable: {via} is not on-link, so direct cannot work")
                }
                Some(_) => "incomplete".to_owned(),
            },
            (Action::Gone, HopKey::Node { inner, .. }) if too_small(hop.mtu, inner) => format!(
                "unreachable: the path takes packets of {} bytes, and IPv6 needs 1280: raise the \
                 MTU of the uplink",
                hop.mtu
            ),
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
            prefix,
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
