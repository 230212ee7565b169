//! What a next-hop slot holds: the outgoing port, the ready-made header, the path's MTU.

use std::net::IpAddr;

use shunt_api::{Encap, MacAddr};
use shunt_encap::{DscpPolicy, IpFamily, IpipParams, OuterHeader, VxlanParams};

use super::daemon::Daemon;
use super::path_mtu::FLOOR_V6;
use super::rib::HopKey;
use super::underlay::Path;
use crate::config::Dscp;
use crate::tables::{Action, NextHop, PortId};

impl Daemon {
    /// Every slot's next hop, by slot.
    pub(super) fn next_hops(&mut self) -> Vec<NextHop> {
        let keys: Vec<_> = self.rib.keys().collect();
        keys.into_iter()
            .map(|key| key.map_or_else(|| NextHop::inert(Action::Gone), |key| self.next_hop(key)))
            .collect()
    }

    pub(super) fn next_hop(&mut self, key: HopKey) -> NextHop {
        match key {
            HopKey::Pod { port, address } => {
                let mac = self.bindings.get(address).and_then(|binding| binding.mac);
                self.deliver(port, mac, IpFamily::of(address))
            }
            HopKey::Port { port, family } => {
                let learned = self
                    .bindings
                    .iter()
                    .find(|(_, b)| b.port == port && b.mac.is_some());
                let given = self.ports.by_id(port).and_then(|record| record.spec.mac);
                let mac = given.or(learned.and_then(|(_, binding)| binding.mac));
                self.deliver(port, mac, family)
            }
            HopKey::Node {
                via,
                encap,
                vtep_mac,
                inner,
            } => self.node_hop(via, encap, vtep_mac, inner),
            HopKey::Host(family) => self.host_hop(Action::Node, family),
            HopKey::Outside(family) => self.host_hop(Action::Outside, family),
            HopKey::Connected => NextHop::inert(Action::Glean),
            HopKey::Gateway => NextHop::inert(Action::Gateway),
            HopKey::Blackhole => NextHop::inert(Action::Blackhole),
        }
    }

    fn deliver(&self, port: PortId, mac: Option<MacAddr>, family: IpFamily) -> NextHop {
        let (Some(record), Some(mac)) = (self.ports.by_id(port), mac) else {
            return NextHop::inert(Action::Wait);
        };
        self.plain(Action::Deliver, port, record.mtu, mac, family)
    }

    /// Into the node's own stack.
    fn host_hop(&self, action: Action, family: IpFamily) -> NextHop {
        let host = self.ports.host();
        let open = host.and_then(|host| Some((host, host.id()?, host.spec.mac?)));
        match open {
            Some((host, port, mac)) => self.plain(action, port, host.mtu, mac, family),
            None => NextHop::inert(Action::Gone),
        }
    }

    /// From the gateway to a station of this node.
    fn plain(
        &self,
        action: Action,
        port: PortId,
        mtu: u16,
        mac: MacAddr,
        family: IpFamily,
    ) -> NextHop {
        NextHop {
            action,
            port,
            mtu,
            remote: false,
            peer: None,
            header: OuterHeader::ethernet(self.config.gateway.mac.0, mac.0, family.ethertype()),
        }
    }

    fn node_hop(
        &mut self,
        via: IpAddr,
        encap: Encap,
        remote_vtep: MacAddr,
        inner: IpFamily,
    ) -> NextHop {
        let path = self.path(via);
        let travels = travels(encap, path.is_none_or(|path| path.on_link));
        let peer = (encap != Encap::Direct).then_some(via);
        let idle = |action| NextHop {
            remote: true,
            peer,
            ..NextHop::inert(action)
        };
        let waiting = idle(Action::Wait);
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
        let (Some(port), Some(src_ip)) = (uplink.id(), self.own_address(IpFamily::of(via))) else {
            return waiting;
        };
        let (src_mac, dst_mac) = (uplink.device_mac.unwrap_or_default().0, mac.0);
        let config = &self.config;
        let header = match travels {
            Encap::Vxlan => OuterHeader::vxlan(VxlanParams {
                src_mac,
                dst_mac,
                src_ip,
                dst_ip: via,
                inner,
                ttl: config.vxlan.ttl,
                dst_port: config.vxlan.port,
                vni: config.vxlan.vni,
                inner_src_mac: config.vxlan.vtep_mac.0,
                inner_dst_mac: remote_vtep.0,
                df: true,
                dscp: dscp(config.vxlan.dscp),
                udp_checksum: config.vxlan.udp_checksum,
            }),
            Encap::Ipip => OuterHeader::ipip(IpipParams {
                src_mac,
                dst_mac,
                src_ip,
                dst_ip: via,
                inner,
                ttl: config.ipip.ttl,
                df: true,
                dscp: dscp(config.ipip.dscp),
            }),
            _ => Ok(OuterHeader::ethernet(src_mac, dst_mac, inner.ethertype())),
        };
        let header = match header {
            Ok(header) => header,
            Err(error) => {
                log::error!("outer header to {via}: {error}");
                return waiting;
            }
        };
        let route_mtu = path.mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
        let mut mtu = inner_mtu(uplink.mtu, route_mtu, header.overhead());
        if let Some(learned) = self.path_mtus.get(via) {
            mtu = mtu.min(believed(learned, header.overhead(), inner));
        }
        if too_small(mtu, inner) {
            // The MTU tells why (see `describe`).
            return NextHop {
                mtu,
                ..idle(Action::Gone)
            };
        }
        NextHop {
            action: Action::Underlay,
            port,
            mtu,
            remote: true,
            peer,
            header,
        }
    }

    pub(super) fn path(&mut self, via: IpAddr) -> Option<Path> {
        self.mirror.as_mut()?.path(via, &mut self.netlink)
    }
}

/// Whether IPv6 cannot use a path with this MTU (RFC 8200, 5).
pub(super) fn too_small(mtu: u16, inner: IpFamily) -> bool {
    inner == IpFamily::V6 && mtu < FLOOR_V6
}

/// The largest inner packet: what the narrowest part of the path takes, less the outer headers.
fn inner_mtu(link: u16, route: Option<u16>, overhead: usize) -> u16 {
    let outer = route.map_or(link, |route| route.min(link));
    outer.saturating_sub(u16::try_from(overhead).unwrap_or(u16::MAX))
}

/// The largest inner packet by what the network says of the path. IPv6 never goes below its
/// minimum: anyone may say so, and must not cut it off.
fn believed(learned: u16, overhead: usize, inner: IpFamily) -> u16 {
    let mtu = inner_mtu(learned, None, overhead);
    match inner {
        IpFamily::V4 => mtu,
        IpFamily::V6 => mtu.max(FLOOR_V6),
    }
}

/// What travels to a node that is on-link or not.
pub(super) fn travels(encap: Encap, on_link: bool) -> Encap {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_part_of_the_path_counts() {
        assert_eq!(inner_mtu(1500, None, 50), 1450);
        assert_eq!(inner_mtu(1500, Some(9000), 0), 1500);
        assert_eq!(inner_mtu(1500, Some(1400), 20), 1380);
        assert_eq!(inner_mtu(1500, Some(30), 50), 0);
        assert_eq!(believed(1300, 20, IpFamily::V4), 1280);
        assert_eq!(believed(1300, 50, IpFamily::V4), 1250);
        assert_eq!(believed(576, 50, IpFamily::V6), 1280);
    }

    #[test]
    fn ipv6_takes_1280_bytes_or_nothing() {
        assert!(too_small(1279, IpFamily::V6));
        assert!(!too_small(1280, IpFamily::V6));
        assert!(!too_small(576, IpFamily::V4));
    }
}
