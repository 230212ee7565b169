//! A pod's interface beside what a runtime believes of it.

use ipnet::IpNet;
use shunt_api::{PodCheck, PodRoute};

use super::{PodLinkError, netns};
use crate::netlink::{DetailedRoute, Link, Netlink};

/// See [`super::check()`].
pub(super) fn check(check: &PodCheck) -> Result<(), PodLinkError> {
    let pod = netns::open(&check.netns)?;
    let differences = netns::run(&pod, &check.netns, || {
        let mut netlink = Netlink::open().map_err(PodLinkError::inside(&check.netns))?;
        differences(&mut netlink, check)
    })?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(PodLinkError::Different {
        netns: check.netns.clone(),
        ifname: check.key.ifname.clone(),
        differences,
    })
}

fn differences(netlink: &mut Netlink, check: &PodCheck) -> Result<Vec<String>, PodLinkError> {
    let refused = PodLinkError::inside(&check.netns);
    let Some(link) = netlink.link(&check.key.ifname).map_err(&refused)? else {
        return Ok(vec!["it is not there".to_owned()]);
    };
    let mut found = Vec::new();
    if !link.up {
        found.push("it is down".to_owned());
    }
    if let Some(mac) = check.mac
        && link.mac != Some(mac)
    {
        let there = link.mac.map_or("none".to_owned(), |mac| mac.to_string());
        found.push(format!("its MAC address is {there}, not {mac}"));
    }
    if let Some(mtu) = check.mtu
        && link.mtu != mtu
    {
        found.push(format!("its MTU is {} bytes, not {mtu}", link.mtu));
    }
    let addresses = netlink.addresses(link.index).map_err(&refused)?;
    found.extend(
        check
            .addresses
            .iter()
            .filter_map(|wanted| address(wanted, &addresses)),
    );
    for ipv6 in [false, true] {
        let mut wanted = check
            .routes
            .iter()
            .filter(|route| route.dst.addr().is_ipv6() == ipv6)
            .peekable();
        if let Some(first) = wanted.peek() {
            let routes = netlink
                .routes_of_family(first.dst.addr())
                .map_err(&refused)?;
            found.extend(wanted.filter_map(|wanted| route(wanted, &routes, &link)));
        }
    }
    Ok(found)
}

fn address(wanted: &IpNet, there: &[IpNet]) -> Option<String> {
    if there.contains(wanted) {
        return None;
    }
    Some(match there.iter().find(|net| net.addr() == wanted.addr()) {
        Some(other) => format!("its address {wanted} has become {other}"),
        None => format!("the address {wanted} is missing"),
    })
}

fn route(wanted: &PodRoute, there: &[DetailedRoute], link: &Link) -> Option<String> {
    let described = |dst: &IpNet, gw: Option<std::net::IpAddr>| match gw {
        Some(gw) => format!("to {dst} by {gw}"),
        None => format!("to {dst} on the link"),
    };
    let dst = wanted.dst.trunc();
    let same = |one: &&DetailedRoute| one.route.prefix == dst;
    let ours = |one: &&DetailedRoute| one.route.ifindex == link.index;
    let mut others = there.iter().filter(same);
    if others
        .clone()
        .filter(ours)
        .any(|one| one.route.via == wanted.gw)
    {
        return None;
    }
    let missing = described(&dst, wanted.gw);
    Some(
        match others.find(ours).or_else(|| there.iter().find(same)) {
            None => format!("the route {missing} is missing"),
            Some(other) if other.route.ifindex == link.index => format!(
                "the route {missing} has become one {}",
                described(&dst, other.route.via)
            ),
            Some(_) => format!("the route {missing} leads over another interface"),
        },
    )
}
