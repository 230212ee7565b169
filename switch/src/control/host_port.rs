//! The port to the node's own stack.

use ipnet::IpNet;
use shunt_api::{ApiError, MacAddr, PortKind, PortSpec};
use shunt_encap::IpFamily;

use super::daemon::Daemon;
use super::error::system;
use super::pinhole::{own_v4, own_v6};
use super::ports::{self, Opening, Record};
use super::rib::{HopKey, Route};
use crate::config::HostConfig;
use crate::host::{HostDevice, HostPlan, HostRoute, HostSettings};
use crate::tables::Role;

/// The MTU of the host port on a node without uplink, in bytes.
const ETHERNET_MTU: u32 = 1500;

impl Daemon {
    /// Joins the node's stack by the pair of devices that the configuration names, which is made,
    /// or taken over from an earlier run.
    pub(super) fn attach_host(&mut self, host: &HostConfig) -> Result<(), ApiError> {
        let settings = self.host_settings(host);
        let prepared = HostDevice::prepare(&mut self.netlink, settings).map_err(system)?;
        let ifindex = prepared.ifindex();
        let device = prepared.switch_end().to_owned();
        // Where it goes if anything fails from here on.
        self.host = Some(prepared);
        if let Err(error) = self.open_host(host, ifindex, device) {
            self.remove_host();
            return Err(error);
        }
        log::info!("the node's stack is joined by {}", host.device);
        Ok(())
    }

    fn open_host(
        &mut self,
        host: &HostConfig,
        ifindex: u32,
        device: String,
    ) -> Result<(), ApiError> {
        let node_end = self.link(&host.device)?;
        let link = self.link(&device)?;
        let opening = Opening {
            umem: &self.umem,
            pool: &mut self.pool,
            xdp: self.config.ports.xdp,
            ring: self.config.ports.ring,
            rx_frames: self.config.ports.host_rx_frames(),
            adaptive: false,
            pinhole: None,
        };
        let opened = ports::open_afxdp(link, opening)?;
        let spec = PortSpec {
            name: ports::HOST.into(),
            kind: PortKind::Afxdp,
            device,
            // Where its frames go to.
            mac: node_end.mac,
            ..PortSpec::default()
        };
        let worker = self.ports.least_loaded(self.workers.len());
        self.ports.remove(ports::HOST);
        let id = self.hand_over(spec, Role::Host, worker, opened)?;
        self.host_ifindex = Some(ifindex);
        let joined = self.join(true).and_then(|()| self.commit());
        if let Err(error) = joined {
            if let Err(also) = self.detach(id, "not joined") {
                log::error!("the host port cannot be removed again: {also}");
            }
            return Err(error);
        }
        Ok(())
    }

    fn host_settings(&self, host: &HostConfig) -> HostSettings {
        let config = &self.config;
        // The VTEP's, and with it the node's, in another range: the same after a restart.
        let [_, _, a, b, c, d] = config.vxlan.vtep_mac.0;
        HostSettings {
            device: host.device.clone(),
            mac: MacAddr([0x02, 0x54, a, b, c, d]),
            mtu: self
                .ports
                .uplink()
                .map_or(ETHERNET_MTU, |uplink| uplink.mtu.into()),
            gateway: config.gateway.address,
            gateway6: config.gateway.address6,
            gateway_mac: config.gateway.mac,
            address: own_v4(&config.node),
            address6: own_v6(&config.node),
            masquerade: host.masquerade,
            pod_cidrs: config.node.pod_cidrs.clone(),
            cluster_cidrs: config.node.cluster_cidrs.clone(),
            non_masquerade: host.non_masquerade_cidrs.clone(),
            keep: host.keep,
        }
    }

    /// Gives the node's stack back what it was, unless the configuration says to keep it.
    fn remove_host(&mut self) {
        if let Some(host) = self.host.take()
            && let Err(error) = host.remove(&mut self.netlink)
        {
            log::error!("the host port's traces cannot all be removed: {error}");
        }
    }

    /// Puts back what somebody else has taken away.
    pub(super) fn restore_host(&mut self) {
        if !self.nodes.joined() {
            return;
        }
        let Some(host) = &mut self.host else { return };
        match host.restore_if_lost(&mut self.netlink) {
            Ok(false) => {}
            Ok(true) => log::warn!("routes or rules of the host port were gone: they are back"),
            Err(error) => log::error!("host port: {error}"),
        }
    }

    /// Whether it is time to try again what has been lost.
    pub(super) fn may_recover(&self) -> bool {
        self.clock.now() >= self.recovers_at
    }

    /// Joins the node's stack again when the devices, once lost, are back.
    pub(super) fn recover_host(&mut self) {
        let open = |record: &Record| record.slot.is_ok();
        if self.ports.host().is_some_and(open) || !self.may_recover() {
            return;
        }
        let Some(host) = self.config.host.clone() else {
            return;
        };
        match self.attach_host(&host) {
            Ok(()) => self.update_host(),
            Err(error) => log::warn!("host port {}: {error}", host.device),
        }
    }

    /// Lets routes lead to the node's stack, or no longer.
    pub(super) fn join(&mut self, joined: bool) -> Result<(), ApiError> {
        for family in [IpFamily::V4, IpFamily::V6] {
            let key = HopKey::Host(family);
            if joined {
                self.rib.hold(key).map_err(system)?;
            } else {
                self.rib.let_go(key);
            }
        }
        if !joined {
            self.host_ifindex = None;
            self.host_plan = None;
        }
        self.touch();
        let changed = self.nodes.join(joined);
        self.settle(&changed)
    }

    /// What the node's stack ought to send to the switch at present.
    fn host_plan(&self) -> HostPlan {
        let node = &self.config.node;
        let remote = self.remote_mtu();
        let mut plan = plan(
            &node.cluster_cidrs,
            &node.pod_cidrs,
            remote,
            self.rib.iter(),
        );
        plan.nodes.extend(self.nodes.vias());
        plan.nodes.sort_unstable();
        plan.nodes.dedup();
        plan
    }

    /// Brings the node's stack up to date with the routes. What cannot be done now is tried again.
    pub(super) fn update_host(&mut self) {
        if let Err(error) = self.apply_host() {
            log::error!("host port: {error}");
        }
    }

    fn apply_host(&mut self) -> Result<(), ApiError> {
        if !self.nodes.joined() {
            return Ok(());
        }
        let plan = self.host_plan();
        if self.host_plan.as_ref() == Some(&plan) {
            return Ok(());
        }
        let applied = match &mut self.host {
            Some(host) => host.apply(&mut self.netlink, &plan).map_err(system),
            None => Ok(()),
        };
        self.host_plan = Some(plan);
        applied
    }
}

/// The pods that the routes lead to, and the remote nodes' addresses that users have given routes
/// of their own.
///
/// A route to a remote node is one to pods, unless it is of the full length and outside the
/// cluster's CIDRs: then it is another address of that node. A default route says nothing of the
/// cluster.
fn plan<'a>(
    cluster: &[IpNet],
    pods: &[IpNet],
    remote: Option<u32>,
    routes: impl Iterator<Item = (&'a IpNet, &'a Route)>,
) -> HostPlan {
    let given = |inner: IpFamily| {
        cluster
            .iter()
            .any(|cidr| IpFamily::of(cidr.addr()) == inner)
    };
    let away = |prefix: &IpNet| HostRoute {
        prefix: *prefix,
        mtu: remote,
    };
    let mut prefixes: Vec<HostRoute> = pods.iter().map(|cidr| HostRoute::from(*cidr)).collect();
    prefixes.extend(cluster.iter().filter(|cidr| !pods.contains(cidr)).map(away));
    let mut nodes = Vec::new();
    for (prefix, route) in routes.filter(|(_, route)| route.is_users()) {
        if !matches!(route.key, HopKey::Node { .. }) || prefix.prefix_len() == 0 {
            continue;
        }
        let inside = cluster.iter().any(|cidr| cidr.contains(prefix));
        if prefix.prefix_len() == prefix.max_prefix_len() && !inside {
            nodes.push(prefix.addr());
        } else if !given(IpFamily::of(prefix.addr())) {
            prefixes.push(away(prefix));
        }
    }
    HostPlan {
        prefixes,
        nodes,
        nodes_mtu: remote,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use shunt_api::Encap;

    use super::*;
    use crate::control::rib::Origin;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        let nets = texts.iter().map(|text| text.parse().expect("a prefix"));
        nets.collect()
    }

    fn planned(cluster: &[&str]) -> (Vec<String>, Vec<String>) {
        let node = HopKey::Node {
            via: IpAddr::from([192, 168, 77, 2]),
            encap: Encap::Vxlan,
            vtep_mac: MacAddr::default(),
            inner: IpFamily::V4,
        };
        let routes = [
            ("0.0.0.0/0", node, Origin::Api),
            ("10.244.2.0/24", node, Origin::Config),
            ("10.244.3.0/24", HopKey::Blackhole, Origin::Api),
            ("192.168.77.2/32", node, Origin::Node),
            ("172.16.0.2/32", node, Origin::Api),
            ("fd00:2::/64", node, Origin::Api),
            ("fd77::2/128", node, Origin::Api),
        ];
        let routes = routes.map(|(prefix, key, origin)| {
            let prefix: IpNet = prefix.parse().expect("a prefix");
            (prefix, Route::own(key, origin))
        });
        let routes = routes.iter().map(|(prefix, route)| (prefix, route));
        let pods = nets(&["10.244.1.0/24", "fd00:1::/64"]);
        let plan = plan(&nets(cluster), &pods, Some(1450), routes);
        let away = |route: &&HostRoute| !pods.contains(&route.prefix);
        assert!(
            plan.prefixes
                .iter()
                .filter(away)
                .all(|route| route.mtu == Some(1450))
        );
        let prefixes = plan.prefixes.iter();
        let texts = prefixes.map(|route| route.prefix.to_string()).collect();
        (texts, plan.nodes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_clusters_cidrs_are_enough_where_they_are_given() {
        let (prefixes, nodes) = planned(&["10.244.0.0/16", "fd00::/16"]);
        assert_eq!(
            prefixes,
            ["10.244.1.0/24", "fd00:1::/64", "10.244.0.0/16", "fd00::/16"]
        );
        assert_eq!(nodes, ["172.16.0.2", "fd77::2"]);
    }

    #[test]
    fn else_the_routes_say_where_pods_are_by_family() {
        let (prefixes, nodes) = planned(&[]);
        assert_eq!(
            prefixes,
            [
                "10.244.1.0/24",
                "fd00:1::/64",
                "10.244.2.0/24",
                "fd00:2::/64"
            ]
        );
        assert_eq!(nodes, ["172.16.0.2", "fd77::2"]);
        let (prefixes, _) = planned(&["10.244.0.0/16"]);
        assert_eq!(
            prefixes,
            [
                "10.244.1.0/24",
                "fd00:1::/64",
                "10.244.0.0/16",
                "fd00:2::/64"
            ]
        );
    }
}
