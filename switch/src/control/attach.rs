//! Ports come and go.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use ipnet::Ipv4Net;
use shunt_afxdp::Pinhole;
use shunt_api::{ApiError, Encap, ErrorCode, MacAddr, PortKind, PortSpec, RouteTarget};

use super::daemon::Daemon;
use super::error::{refuse, system};
use super::pods::{Binding, request};
use super::ports::{self, Opened, Opening, Record};
use super::rib::{HopKey, Origin, Route};
use super::underlay::Mirror;
use crate::config::{Mode, UplinkConfig};
use crate::netlink::Link;
use crate::tables::{Learned, PortId, Role};
use crate::worker::Command;

/// Frames that no port may take: for workers, for floods, for answers.
const POOL_RESERVE: u32 = 1024;
/// Requests by ARP in one tick, each to one pod or to all: a scan of unknown addresses must not
/// become a storm.
const REQUESTS_PER_TICK: usize = 64;

impl Daemon {
    /// Attaches a pod's port. On an error nothing has changed.
    pub(super) fn port_add(&mut self, spec: PortSpec) -> Result<(), ApiError> {
        ports::check(&self.ports, &spec, &self.config)?;
        let addresses = ports::addresses(&spec);
        for address in &addresses {
            self.check_free(&spec, *address)?;
        }
        let opened = match spec.kind {
            PortKind::Tap => ports::open_tap(&spec)?,
            _ => {
                let link = self.link(&spec.device)?;
                let opening = Opening {
                    umem: &self.umem,
                    pool: &mut self.pool,
                    xdp: self.config.ports.xdp,
                    ring: self.config.ports.ring,
                    rx_frames: spec.rx_frames.unwrap_or(self.config.ports.rx_frames),
                    pinhole: None,
                };
                ports::open_afxdp(link, opening)?
            }
        };
        let name = spec.name.clone();
        let least_loaded = self.ports.least_loaded(self.workers.len());
        let worker = spec.worker.unwrap_or(least_loaded);
        let id = self.hand_over(spec, Role::Pod, worker, opened)?;
        // This also publishes the port itself.
        if let Err(error) = self.bind(id, &addresses) {
            // The refusal is what the caller has to know.
            if let Err(also) = self.port_del(&name) {
                log::error!("port {name} cannot be removed again: {also}");
            }
            return Err(error);
        }
        log::info!("port {name} attached as {id}");
        Ok(())
    }

    /// Attaches the uplink.
    pub(super) fn attach_uplink(&mut self, uplink: &UplinkConfig) -> Result<(), ApiError> {
        let link = self.link(&uplink.device)?;
        let ifindex = link.index;
        let addresses = self.netlink.addresses(ifindex).map_err(system)?;
        if !addresses
            .iter()
            .any(|net| net.addr() == IpAddr::V4(self.node))
        {
            return Err(refuse(
                ErrorCode::Invalid,
                format!(
                    "{} does not have node.address {}: give it this address (ip addr add), or set \
                     node.address or uplink.device",
                    uplink.device, self.node
                ),
            ));
        }
        if let Some(kind @ ("bond" | "team")) = link.kind.as_deref() {
            return Err(refuse(
                ErrorCode::Invalid,
                format!(
                    "{}: the kernel hands AF_XDP no frames on a {kind} device: name one of its \
                     members as uplink.device",
                    uplink.device
                ),
            ));
        }
        let pinhole = self.pinhole();
        let opening = Opening {
            umem: &self.umem,
            pool: &mut self.pool,
            xdp: self.config.ports.xdp,
            ring: uplink.ring,
            rx_frames: uplink.rx_frames,
            pinhole: Some(pinhole.clone()),
        };
        let opened = ports::open_afxdp(link, opening)?;
        let spec = PortSpec {
            name: ports::UPLINK.into(),
            kind: PortKind::Afxdp,
            device: uplink.device.clone(),
            netns: None,
            addresses: Vec::new(),
            mac: None,
            worker: None,
            rx_frames: Some(uplink.rx_frames),
        };
        let worker = self.ports.least_loaded(self.workers.len());
        self.ports.remove(ports::UPLINK);
        self.hand_over(spec, Role::Uplink, worker, opened)?;
        self.open_pinhole = Some(pinhole);
        self.mirror = Some(Mirror::new(ifindex, &mut self.netlink));
        self.commit()?;
        log::info!("uplink {} attached", uplink.device);
        Ok(())
    }

    /// Attaches the uplink again when its device, once lost, is back.
    pub(super) fn recover_uplink(&mut self) {
        if self.ports.uplink().is_none_or(|record| record.slot.is_ok()) {
            return;
        }
        let Some(uplink) = self.config.uplink.clone() else {
            return;
        };
        if let Err(error) = self.attach_uplink(&uplink) {
            log::debug!("uplink {}: {error}", uplink.device);
        }
    }

    /// Detaches a port and forgets it.
    pub(super) fn port_del(&mut self, name: &str) -> Result<(), ApiError> {
        let Some(record) = self.ports.by_name(name) else {
            return Err(refuse(
                ErrorCode::NotFound,
                format!("there is no port `{name}`: see shunt port list"),
            ));
        };
        if record.role == Role::Uplink {
            return Err(refuse(
                ErrorCode::Invalid,
                "the uplink stays as long as the daemon runs: take [uplink] out of the \
                 configuration and restart",
            ));
        }
        if let Ok(id) = record.slot {
            self.detach(id, "removed")?;
        }
        self.ports.remove(name);
        Ok(())
    }

    /// The device behind a port is gone: its frames come back, its record stays and says so.
    pub(super) fn port_dead(&mut self, id: PortId) {
        let name = self.port_name(id);
        if self
            .ports
            .by_id(id)
            .is_some_and(|record| record.role == Role::Uplink)
        {
            log::error!("the uplink's device is gone: it is attached again when it is back");
        } else {
            log::warn!("port {name}: its device is gone; remove it with: shunt port del {name}");
        }
        if let Err(error) = self.detach(id, "down: its device is gone") {
            log::error!("port {name}: {error}");
        }
    }

    /// Takes an open port out of tables and worker, closes it, and marks its record. On an error
    /// it is still open and can be detached again.
    fn detach(&mut self, id: PortId, why: &str) -> Result<(), ApiError> {
        let Some(record) = self.ports.by_id_mut(id) else {
            return Ok(());
        };
        record.slot = Err(why.to_owned());
        let (name, worker, role) = (record.spec.name.clone(), record.worker, record.role);
        if role == Role::Uplink {
            self.mirror = None;
        }
        self.bindings.remove_port(id);
        for prefix in self.rib.through(id) {
            if let Some(route) = self.rib.remove(prefix).map_err(system)?
                && route.target.is_some()
            {
                log::warn!("route {prefix} is removed: it led to port {name}");
            }
        }
        self.touch();
        self.commit_or_log("tables");
        // After the workers have passed: none of them reports a station there any more.
        self.fdb.remove_if(|row| row.port == id);
        self.count_stations();
        match self.workers.remove_port(worker, id) {
            Ok(port) => {
                if let Some(port) = port {
                    port.close(&mut self.pool);
                }
                self.ports.give_slot(id);
                Ok(())
            }
            Err(error) => {
                if let Some(record) = self.ports.by_name_mut(&name) {
                    record.slot = Ok(id);
                }
                Err(error.into())
            }
        }
    }

    fn hand_over(
        &mut self,
        spec: PortSpec,
        role: Role,
        worker: usize,
        opened: Opened,
    ) -> Result<PortId, ApiError> {
        let room = self.check_room(&spec, &opened);
        let slot = room.and_then(|()| {
            self.ports.take_slot().ok_or_else(|| {
                refuse(
                    ErrorCode::Exhausted,
                    "all port slots are in use: remove ports first",
                )
            })
        });
        let id = match slot {
            Ok(id) => id,
            Err(error) => {
                opened.port.close(&mut self.pool);
                return Err(error);
            }
        };
        let Opened {
            port,
            link,
            xdp,
            frames,
            max_mtu,
        } = opened;
        self.ports.push(Record {
            spec,
            role,
            worker,
            ifindex: link.index,
            device_mac: link.mac,
            up: link.up,
            mtu: ports::mtu(&link, max_mtu),
            max_mtu,
            xdp,
            // Only on these does a frame come straight from another stack, never off a wire.
            partial_checksums: link.kind.as_deref() == Some("veth"),
            fdb_full: Arc::default(),
            stations: 0,
            frames,
            slot: Ok(id),
        });
        self.workers.send(
            worker,
            Command::AddPort {
                id,
                port: Box::new(port),
            },
        );
        self.update_fdb_limits();
        self.touch();
        Ok(id)
    }

    /// Binds the given addresses (and MAC) to a port.
    fn bind(&mut self, id: PortId, addresses: &[Ipv4Addr]) -> Result<(), ApiError> {
        let Some(record) = self.ports.by_id(id) else {
            return Ok(());
        };
        let given = record.spec.mac;
        // A TAP's MAC is the pod's own: the daemon has just made the device.
        let tap = record
            .device_mac
            .filter(|_| record.spec.kind == PortKind::Tap);
        let mac = given.or(tap);
        if let (Mode::L2, Some(mac)) = (self.config.mode, given) {
            self.pin_station(mac, id)?;
        }
        let now = Instant::now();
        for address in addresses {
            let binding = Binding {
                port: id,
                mac,
                address_given: true,
                mac_given: given.is_some(),
            };
            self.bindings.insert(*address, binding);
            self.bind_route(*address, id, Origin::Pod)?;
            if mac.is_none() {
                self.bindings
                    .want(*address, now, now + self.config.neighbours.timeout);
            }
        }
        self.commit()?;
        self.send_requests();
        Ok(())
    }

    /// The host route of a bound address.
    pub(super) fn bind_route(
        &mut self,
        address: Ipv4Addr,
        port: PortId,
        origin: Origin,
    ) -> Result<(), ApiError> {
        let route = Route {
            key: HopKey::Pod { port, address },
            origin,
            target: None,
        };
        self.touch();
        self.rib.add(Ipv4Net::from(address), route).map_err(system)
    }

    /// Somebody waits to know who has a local address.
    pub(super) fn ask_pod(&mut self, address: Ipv4Addr) {
        let now = Instant::now();
        self.bindings
            .want(address, now, now + self.config.neighbours.timeout);
    }

    /// Sends the gateway's ARP requests that are due: to the port that an address is bound to, or
    /// to all pods.
    pub(super) fn send_requests(&mut self) {
        if self.request_budget == 0 {
            return;
        }
        let due = self.bindings.due(Instant::now(), self.request_budget);
        self.request_budget -= due.len();
        for address in due {
            let bound = self.bindings.get(address).map(|binding| binding.port);
            let mut ports = vec![Vec::new(); self.workers.len()];
            for record in self.ports.iter().filter(|record| record.role == Role::Pod) {
                let Ok(id) = record.slot else { continue };
                if bound.is_none_or(|bound| bound == id) {
                    ports[record.worker].push(id);
                }
            }
            let frame = request(self.gateway, self.config.gateway.mac, address);
            for (worker, ports) in ports.into_iter().enumerate().filter(|(_, p)| !p.is_empty()) {
                self.workers.send(
                    worker,
                    Command::Send {
                        ports,
                        frame: frame.clone(),
                    },
                );
            }
        }
    }

    /// A new tick, with a new budget of requests.
    pub(super) fn ask_again(&mut self) {
        self.request_budget = REQUESTS_PER_TICK;
        self.send_requests();
    }

    fn link(&mut self, device: &str) -> Result<Link, ApiError> {
        self.netlink.link(device).map_err(system)?.ok_or_else(|| {
            refuse(
                ErrorCode::NotFound,
                format!("there is no device {device} in this network namespace: see ip link"),
            )
        })
    }

    /// An attachment may take over what was only learned, and nothing else.
    fn check_free(&self, spec: &PortSpec, address: Ipv4Addr) -> Result<(), ApiError> {
        if let Some(binding) = self
            .bindings
            .get(address)
            .filter(|binding| binding.address_given)
        {
            return Err(refuse(
                ErrorCode::Exists,
                format!(
                    "port `{}`: {address} belongs to port `{}` already",
                    spec.name,
                    self.port_name(binding.port)
                ),
            ));
        }
        let route = self.rib.get(&Ipv4Net::from(address));
        if route.is_some_and(|route| route.origin != Origin::Learned) {
            return Err(refuse(
                ErrorCode::Exists,
                format!(
                    "port `{}`: there is a route to {address}/32 already: remove it first (shunt \
                     route del {address}/32)",
                    spec.name
                ),
            ));
        }
        Ok(())
    }

    fn check_room(&self, spec: &PortSpec, opened: &Opened) -> Result<(), ApiError> {
        let reserved = self.reserved() + POOL_RESERVE;
        if reserved + opened.frames > self.config.memory.frames {
            return Err(refuse(
                ErrorCode::Exhausted,
                format!(
                    "port `{}` needs {} frames, but {reserved} of {} are set aside already: raise \
                     memory.frames or lower rx_frames",
                    spec.name, opened.frames, self.config.memory.frames
                ),
            ));
        }
        Ok(())
    }

    /// What the uplink lets through, by what the routes need.
    pub(super) fn pinhole(&self) -> Pinhole {
        let mut pinhole = Pinhole {
            node: Some(self.node),
            ..Pinhole::default()
        };
        let mut direct = false;
        for (_, route) in self.rib.iter() {
            let Some(RouteTarget::Node { encap, .. }) = &route.target else {
                continue;
            };
            match encap {
                Encap::Vxlan => pinhole.vxlan_port = Some(self.config.vxlan.port),
                Encap::Ipip => pinhole.ipip = true,
                Encap::Direct => direct = true,
                Encap::CrossSubnetVxlan => {
                    pinhole.vxlan_port = Some(self.config.vxlan.port);
                    direct = true;
                }
                Encap::CrossSubnetIpip => {
                    pinhole.ipip = true;
                    direct = true;
                }
            }
        }
        if direct {
            pinhole
                .direct
                .extend(
                    self.config
                        .node
                        .pod_cidrs
                        .iter()
                        .filter_map(|cidr| match cidr {
                            ipnet::IpNet::V4(cidr) => Some(*cidr),
                            ipnet::IpNet::V6(_) => None,
                        }),
                );
        }
        pinhole
    }

    /// Pins a pod's MAC to its port.
    fn pin_station(&mut self, mac: MacAddr, id: PortId) -> Result<(), ApiError> {
        match self.fdb.pin(mac, id) {
            Learned::Full => Err(refuse(
                ErrorCode::Exhausted,
                format!("the MAC table has no room for {mac}: raise l2.max_macs"),
            )),
            _ => {
                self.count_stations();
                Ok(())
            }
        }
    }
}
