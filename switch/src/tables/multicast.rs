//! Who listens to which multicast group of an L2 domain (RFC 4541).

use std::net::IpAddr;

use super::PortId;

/// The memberships of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Multicast {
    /// Somebody asks for memberships, so that those here are all there are. Without a querier they
    /// would run out while pods still listen.
    pub pruning: bool,
    /// Ports with a multicast router behind them, which want everything.
    pub routers: Vec<PortId>,
    /// Sorted by group; each with the routers' ports.
    groups: Vec<(IpAddr, Vec<PortId>)>,
}

impl Multicast {
    /// Puts them together.
    pub fn new(
        pruning: bool,
        routers: Vec<PortId>,
        members: impl IntoIterator<Item = (IpAddr, PortId)>,
    ) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_unstable();
        let mut groups: Vec<(IpAddr, Vec<PortId>)> = Vec::new();
        for (group, port) in members {
            match groups.last_mut() {
                Some((last, ports)) if *last == group => ports.push(port),
                _ => groups.push((group, vec![port])),
            }
        }
        for (_, ports) in &mut groups {
            ports.extend(&routers);
            ports.sort_unstable();
            ports.dedup();
        }
        Self {
            pruning,
            routers,
            groups,
        }
    }

    /// The ports that want packets to `group`: its members and the routers, or the routers alone.
    pub fn ports(&self, group: IpAddr) -> &[PortId] {
        match self
            .groups
            .binary_search_by_key(&group, |(group, _)| *group)
        {
            Ok(at) => &self.groups[at].1,
            Err(_) => &self.routers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_routers_get_a_group_and_routers_the_rest() {
        let group: IpAddr = "239.1.2.3".parse().expect("a group");
        let other: IpAddr = "ff05::7".parse().expect("a group");
        let none: IpAddr = "239.9.9.9".parse().expect("a group");
        let members = [
            (other, PortId(1)),
            (group, PortId(4)),
            (group, PortId(2)),
            (group, PortId(4)),
        ];
        let multicast = Multicast::new(true, vec![PortId(3)], members);
        assert_eq!(multicast.ports(group), [PortId(2), PortId(3), PortId(4)]);
        assert_eq!(multicast.ports(other), [PortId(1), PortId(3)]);
        assert_eq!(multicast.ports(none), [PortId(3)]);
    }
}
