//! The routes and rules that lead the node's packets to the switch.
//!
//! A prefix of pods has a route in the main table. Another node's address does not: the node talks
//! to other nodes by its NIC. But a packet that came out of the switch and was then sent to another
//! node's address by kube-proxy (a service whose endpoint is a node) goes back into the switch, so
//! that it reaches the other node with the pod's address, and so that the reply comes back by this
//! node's conntrack. Such packets are known by the device that they come in by; a rule sends them
//! to a table of our own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{HostError, HostPlan, HostSettings};
use crate::netlink::{Netlink, RTPROT_SHUNT, Route, Rule, TABLE_MAIN};

/// The routing table with other nodes' addresses, for packets that come out of the switch.
pub const TABLE_SHUNT: u32 = 8353;

/// Where the rule for [`TABLE_SHUNT`] stands: behind the host's own addresses (0), before the main
/// table (32766).
pub const RULE_PRIORITY: u32 = 8353;

/// The routes of a plan, one for each table and prefix.
pub(super) fn wanted(settings: &HostSettings, ifindex: u32, plan: &HostPlan) -> Vec<Route> {
    let route = |prefix: IpNet, mtu, table| {
        let (via, source): (IpAddr, _) = match prefix {
            IpNet::V4(_) => (settings.gateway.into(), settings.address.map(IpAddr::V4)),
            IpNet::V6(_) => (settings.gateway6.into(), settings.address6.map(IpAddr::V6)),
        };
        Route {
            prefix: prefix.trunc(),
            via: Some(via),
            ifindex,
            onlink: true,
            source,
            mtu,
            table,
            protocol: RTPROT_SHUNT,
        }
    };
    let pods = plan
        .prefixes
        .iter()
        .map(|one| route(one.prefix, one.mtu, TABLE_MAIN));
    let nodes = remote_nodes(settings, plan).map(|node| Route {
        // Only forwarded packets get there, and those have a source.
        source: None,
        ..route(IpNet::from(node), plan.nodes_mtu, TABLE_SHUNT)
    });
    let unique: BTreeMap<_, _> = pods
        .chain(nodes)
        .map(|route| ((route.table, route.prefix), route))
        .collect();
    unique.into_values().collect()
}

/// The rules of a plan: one for each family with remote nodes.
pub(super) fn wanted_rules(settings: &HostSettings, plan: &HostPlan) -> Vec<Rule> {
    [false, true]
        .into_iter()
        .filter(|&ipv6| remote_nodes(settings, plan).any(|node| node.is_ipv6() == ipv6))
        .map(|ipv6| Rule {
            ipv6,
            iifname: settings.device.clone(),
            table: TABLE_SHUNT,
            priority: RULE_PRIORITY,
            protocol: RTPROT_SHUNT,
        })
        .collect()
}

/// The plan's nodes without this one.
fn remote_nodes<'a>(
    settings: &'a HostSettings,
    plan: &'a HostPlan,
) -> impl Iterator<Item = IpAddr> + 'a {
    plan.nodes.iter().copied().filter(|&node| {
        node != settings.address.unwrap_or(Ipv4Addr::UNSPECIFIED)
            && node != settings.address6.unwrap_or(Ipv6Addr::UNSPECIFIED)
    })
}

/// Makes our routes and rules of the device these, and leaves all others. What is missing comes
/// before what is no longer wanted goes, so that a prefix which is split stays reachable. True when
/// anything was changed. One that fails does not keep the others.
pub(super) fn reconcile(
    netlink: &mut Netlink,
    device: &str,
    ifindex: u32,
    routes: &[Route],
    rules: &[Rule],
) -> Result<bool, HostError> {
    let found = netlink.routes_of(ifindex, RTPROT_SHUNT)?;
    let found_rules = netlink.rules_of(device, RTPROT_SHUNT)?;
    let (mut changed, mut errors) = (false, Vec::new());
    let mut note = |result: Result<bool, HostError>| match result {
        Ok(done) => changed |= done,
        Err(error) => errors.push(error),
    };
    // A cluster has thousands of nodes.
    let key = |route: &Route| (route.table, route.prefix);
    let there: BTreeMap<_, _> = found.iter().map(|route| (key(route), route)).collect();
    let asked: BTreeSet<_> = routes.iter().map(key).collect();
    for route in routes {
        let ours = there.get(&key(route));
        if ours == Some(&route) {
            continue;
        }
        note(if ours.is_some() {
            netlink
                .replace_route(route)
                .map(|()| true)
                .map_err(HostError::from)
        } else {
            match netlink.add_route(route) {
                Ok(true) => Ok(true),
                Ok(false) => Err(HostError::RouteTaken {
                    prefix: route.prefix,
                    table: route.table,
                }),
                Err(error) => Err(error.into()),
            }
        });
    }
    for rule in rules.iter().filter(|r| !found_rules.contains(r)) {
        note(netlink.add_rule(rule).map_err(HostError::from));
    }
    for rule in found_rules.iter().filter(|r| !rules.contains(r)) {
        note(netlink.delete_rule(rule).map_err(HostError::from));
    }
    for route in found.iter().filter(|one| !asked.contains(&key(one))) {
        note(netlink.delete_route(route).map_err(HostError::from));
    }
    HostError::from_many(errors)?;
    Ok(changed)
}
