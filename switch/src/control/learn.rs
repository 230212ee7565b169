//! What workers and the kernel report: stations, addresses, misses, changes of the underlay.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use shunt_api::MacAddr;

use super::daemon::Daemon;
use super::flaps::Damped;
use super::ports;
use super::rib::HopKey;
use crate::config::Mode;
use crate::netlink;
use crate::street::Event;
use crate::tables::{Learned, PortId, Role};

impl Daemon {
    /// Deals with what workers have reported.
    pub(crate) fn worker_events(&mut self) {
        for event in self.workers.events() {
            match event {
                Event::Station { mac, port } => self.station(mac, port),
                Event::Binding { address, mac, port } => self.binding(address, mac, port),
                Event::Miss { address } => self.miss(address),
                Event::Conflict { address, mac, port } => self.conflict(address, mac, port),
                Event::Membership { group, port, said } => self.membership(group, port, said),
                Event::PortDead(port) => self.port_dead(port),
            }
        }
        self.commit_or_log("learned addresses");
        self.send_requests();
    }

    /// Deals with what the kernel has reported.
    pub(crate) fn kernel_events(&mut self, events: Vec<netlink::Event>, overflowed: bool) {
        for event in events {
            match event {
                netlink::Event::LinkGone { index, .. } => {
                    self.link_gone(index);
                    self.paths_changed();
                }
                netlink::Event::LinkChanged(link) => {
                    self.link_changed(&link);
                    // The kernel drops a downed link's routes without a notice of their own.
                    self.paths_changed();
                }
                netlink::Event::NeighbourChanged(neighbour) => {
                    let ours = self
                        .mirror
                        .as_mut()
                        .is_some_and(|mirror| mirror.note(neighbour));
                    if ours {
                        self.touch();
                    }
                }
                netlink::Event::NeighbourGone { ifindex, address } => {
                    let mirror = self.mirror.as_mut();
                    if mirror.is_some_and(|mirror| mirror.forget(ifindex, address)) {
                        self.touch();
                    }
                }
                netlink::Event::RoutesChanged | netlink::Event::AddressesChanged => {
                    self.paths_changed();
                }
            }
        }
        if overflowed {
            // Some changes were missed: read what stands now.
            if let Some(mirror) = &mut self.mirror {
                mirror.reload(&mut self.netlink);
            }
            self.missed_links();
            self.touch();
        }
        self.commit_or_log("underlay");
    }

    fn station(&mut self, mac: MacAddr, port: PortId) {
        if self.config.mode != Mode::L2 {
            return;
        }
        let Some(record) = self.ports.by_id(port) else {
            return;
        };
        if record.fdb_full.load(Ordering::Relaxed) && self.fdb.lookup(mac) != Some(port) {
            return;
        }
        let now = self.clock.now();
        if let Some(from) = self.fdb.lookup(mac)
            && from != port
            && !self.fdb.is_static(mac)
        {
            match self.flaps.moves(mac, now) {
                Damped::Moves => {}
                Damped::Held => return,
                Damped::HeldNow => {
                    log::warn!(
                        "station {mac} moves to and fro between {} and {}: it stays at the former \
                         for a minute; give each pod a MAC address of its own",
                        self.port_name(from),
                        self.port_name(port)
                    );
                    return;
                }
            }
        }
        match self.fdb.learn(mac, port, now) {
            Learned::Known | Learned::Pinned(_) => return,
            Learned::Full => {
                log::debug!("the MAC table has no room for {mac}");
                return;
            }
            Learned::New => self.count_station(port, 1),
            Learned::Moved(from) => {
                self.count_station(from, -1);
                self.count_station(port, 1);
                log::debug!(
                    "station {mac} moved from {} to {}",
                    self.port_name(from),
                    self.port_name(port)
                );
                self.move_station(mac, from, port);
            }
        }
        self.update_fdb_limits();
    }

    fn count_station(&mut self, port: PortId, change: isize) {
        if let Some(record) = self.ports.by_id_mut(port) {
            record.stations = record.stations.saturating_add_signed(change);
        }
    }

    /// Counts the stations behind each port anew and tells workers which ports are full.
    pub(super) fn count_stations(&mut self) {
        let mut counts = vec![0; self.ports.slots()];
        for row in self.fdb.list() {
            if let Some(count) = counts.get_mut(row.port.index()) {
                *count += 1;
            }
        }
        for record in self.ports.iter_mut() {
            if let Some(id) = record.id() {
                record.stations = counts[id.index()];
            }
        }
        self.update_fdb_limits();
    }

    /// Marks ports from which no further station is learned.
    pub(super) fn update_fdb_limits(&mut self) {
        let total: usize = self.ports.iter().map(|record| record.stations).sum();
        let all_full = total >= self.config.l2.max_macs;
        for record in self.ports.iter() {
            let full = all_full || record.stations >= self.config.l2.max_macs_per_port;
            record.fdb_full.store(full, Ordering::Relaxed);
        }
    }

    /// Forgets stations that have been silent for too long.
    pub(super) fn age_stations(&mut self) {
        if self.config.mode != Mode::L2 {
            return;
        }
        let now = self.clock.now();
        let ageing = u32::try_from(self.config.l2.ageing.as_secs()).unwrap_or(u32::MAX);
        let old = self.fdb.remove_if(|row| {
            row.seen
                .is_some_and(|seen| now.saturating_sub(seen) >= ageing)
        });
        if !old.is_empty() {
            self.count_stations();
        }
    }

    /// A packet waits for the link-layer address of `address` or of the way there.
    fn miss(&mut self, address: IpAddr) {
        let Some(key) = self.rib.lookup(address).map(|(_, route)| route.key) else {
            return;
        };
        match key {
            HopKey::Connected | HopKey::Pod { .. } => self.ask_pod(address),
            HopKey::Port { port, .. } => {
                let first = self.bindings.of(port).next();
                if let Some(address) = first {
                    self.ask_pod(address);
                }
            }
            HopKey::Node { via, .. } => self.ask_node(via),
            HopKey::Host(_) | HopKey::Outside(_) | HopKey::Gateway | HopKey::Blackhole => {}
        }
    }

    /// The kernel may route to other nodes differently now.
    pub(super) fn paths_changed(&mut self) {
        if let Some(mirror) = &mut self.mirror {
            mirror.routes_changed();
            self.touch();
        }
    }

    fn link_gone(&mut self, index: u32) {
        self.pod_link_gone(index);
        if let Some(id) = self
            .ports
            .by_ifindex_mut(index)
            .and_then(|record| record.id())
        {
            self.port_dead(id);
        }
    }

    fn link_changed(&mut self, link: &netlink::Link) {
        if self.host_ifindex == Some(link.index) {
            self.node_end_changed(link);
            return;
        }
        let Some(record) = self.ports.by_ifindex_mut(link.index) else {
            return;
        };
        let now = (ports::mtu(link, record.max_mtu), link.mac, link.up);
        if now != (record.mtu, record.device_mac, record.up) {
            let uplink_mtu = record.role == Role::Uplink && record.mtu != now.0;
            (record.mtu, record.device_mac, record.up) = now;
            self.touch();
            if uplink_mtu {
                self.warn_of_small_mtu();
                self.update_host();
            }
        }
    }

    /// Frames to the node's stack go to the MAC address of its end.
    fn node_end_changed(&mut self, link: &netlink::Link) {
        if let Some(host) = self.ports.by_name_mut(ports::HOST)
            && host.spec.mac != link.mac
        {
            host.spec.mac = link.mac;
            self.touch();
        }
    }

    /// After missed events: which of our devices are gone, which have changed?
    fn missed_links(&mut self) {
        let Ok(links) = self.netlink.links() else {
            return;
        };
        let open = self
            .ports
            .iter()
            .filter(|record| record.slot.is_ok() && record.ifindex != 0);
        let gone: Vec<_> = open
            .map(|record| record.ifindex)
            .filter(|index| links.iter().all(|link| link.index != *index))
            .collect();
        for index in gone {
            self.link_gone(index);
        }
        for link in &links {
            self.link_changed(link);
        }
    }
}
