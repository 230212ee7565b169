//! Ports come and go.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::Ipv4Net;
use shunt_afxdp::Pinhole;
use shunt_api::{ApiError, Encap, ErrorCode, MacAddr, PortKind, PortSpec, RouteTarget};

use super::daemon::Daemon;
use super::error::{refuse, system};
use super::pods::{Binding, request};
use super::ports::{self, Opening, Record};
use super::rib::{HopKey, Origin, Route};
use super::underlay::Mirror;
use crate::config::{Mode, UplinkConfig};
use crate::netlink::Link;
use crate::port::Port;
use crate::tables::{PortId, Role};
use crate::worker::Command;

/// Frames that no port may take: for workers, for floods, for answers.
const POOL_RESERVE: u32 = 1024;

impl Daemon {
    /// Attaches a pod's port. On an error nothing has changed.
    pub(super) fn port_add(&mut self, spec: PortSpec) -> Result<(), ApiError> {
        ports::check(&self.ports, &spec, &self.config)?;
        let addresses = ports::addresses(&spec);
        for address in &addresses {
            self.check_free(&spec, *address)?;
        }
        let least_loaded = self.ports.least_loaded(self.workers.len());
        let worker = spec.worker.unwrap_or(least_loaded);
        self.check_room(spec.rx_frames.unwrap_or(self.config.ports.rx_frames))?;
        let (port, link, xdp) = match spec.kind {
            PortKind::Tap => {
                let tap = ports::open_tap(&spec)?;
                // Its device may be in another namespace: the number means nothing here.
                let link = Link {
                    index: 0,
                    name: spec.device.clone(),
                    mac: None,
                    mtu: tap.mtu(),
                    up: true,
                    running: true,
                    kind: Some("tun".into()),
                };
                (Port::Tap(tap), link, "-".to_owned())
            }
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
                let (port, xdp) = ports::open_afxdp(&link, opening)?;
                (port, link, xdp)
            }
        };
        let name = spec.name.clone();
        let id = self.hand_over(spec, Role::Pod, worker, port, &link, xdp)?;
        // `bind` also publishes the port itself.
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
        let addresses = self.netlink.addresses(link.index).map_err(system)?;
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
        self.check_room(uplink.rx_frames)?;
        let worker = self.ports.least_loaded(self.workers.len());
        let pinhole = self.pinhole();
        self.open_pinhole = Some(pinhole.clone());
        let opening = Opening {
            umem: &self.umem,
            pool: &mut self.pool,
            xdp: self.config.ports.xdp,
            ring: uplink.ring,
            rx_frames: uplink.rx_frames,
            pinhole: Some(pinhole),
        };
        let (port, xdp) = ports::open_afxdp(&link, opening)?;
        let spec = Self::uplink_spec(&uplink.device, uplink.rx_frames);
        self.hand_over(spec, Role::Uplink, worker, port, &link, xdp)?;
        self.commit()?;
        self.mirror = Some(Mirror::new(link.index, &mut self.netlink));
        log::info!("uplink {} attached", uplink.device);
        Ok(())
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
                "the uplink stays as long as the daemon runs: take [uplink] out of the configuration",
            ));
        }
        if let Ok(id) = record.slot {
            self.detach(id, "removed")?;
        }
        self.ports.remove(name);
        self.commit()
    }

    /// The device behind a port is gone: its frames come back, its record stays and says so.
    pub(super) fn port_dead(&mut self, id: PortId) {
        let name = self.port_name(id);
        log::warn!("port {name}: its device is gone; remove it with: shunt port del {name}");
        if let Err(error) = self.detach(id, "down: its device is gone") {
            log::error!("port {name}: {error}");
        }
    }

    /// Takes an open port out of tables and worker, closes it, and marks its record.
    fn detach(&mut self, id: PortId, why: &str) -> Result<(), ApiError> {
        self.bindings.remove_port(id);
        for prefix in self.rib.through(id) {
            self.rib.remove(prefix).map_err(system)?;
        }
        let Some(record) = self.ports.by_id_mut(id) else {
            return Ok(());
        };
        record.slot = Err(why.to_owned());
        record.stations = 0;
        let (worker, role) = (record.worker, record.role);
        if role == Role::Uplink {
            self.mirror = None;
        }
        self.fdb.remove_if(|row| row.port == id);
        self.touch();
        self.commit()?;
        if let Some(port) = self.workers.remove_port(worker, id)? {
            port.close(&mut self.pool);
        }
        self.ports.give_slot(id);
        self.update_fdb_limits();
        Ok(())
    }

    fn hand_over(
        &mut self,
        spec: PortSpec,
        role: Role,
        worker: usize,
        port: Port,
        link: &Link,
        xdp: String,
    ) -> Result<PortId, ApiError> {
        let Some(id) = self.ports.take_slot() else {
            port.close(&mut self.pool);
            return Err(refuse(
                ErrorCode::Exhausted,
                "all port slots are in use: remove ports first",
            ));
        };
        self.ports.push(Record {
            spec,
            role,
            worker,
            ifindex: link.index,
            device_mac: link.mac.unwrap_or_default(),
            mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
            xdp,
            // Only on these does a frame come straight from another stack, never off a wire.
            partial_checksums: link.kind.as_deref() == Some("veth"),
            fdb_full: Arc::default(),
            stations: 0,
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
        let mac = self.ports.by_id(id).and_then(|record| record.spec.mac);
        if let (Mode::L2, Some(mac)) = (self.config.mode, mac) {
            self.pin_station(mac, id)?;
        }
        for address in addresses {
            let binding = Binding {
                port: id,
                mac,
                address_given: true,
                mac_given: mac.is_some(),
            };
            self.bindings.insert(*address, binding);
            self.bind_route(*address, id, Origin::Pod)?;
        }
        self.commit()?;
        if mac.is_none() {
            for address in addresses {
                self.ask_pod(*address, Some(id));
            }
        }
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

    /// Sends the gateway's ARP request for a local address: to one port, or to all pods.
    pub(super) fn ask_pod(&mut self, address: Ipv4Addr, port: Option<PortId>) {
        if !self.bindings.may_ask(address, std::time::Instant::now()) {
            return;
        }
        let frame = request(self.gateway, self.config.gateway.mac, address);
        for record in self.ports.iter().filter(|record| record.role == Role::Pod) {
            let Ok(id) = record.slot else { continue };
            if port.is_none_or(|port| port == id) {
                let command = Command::Send {
                    port: id,
                    frames: vec![frame.clone()],
                };
                self.workers.send(record.worker, command);
            }
        }
    }

    fn link(&mut self, device: &str) -> Result<Link, ApiError> {
        self.netlink.link(device).map_err(system)?.ok_or_else(|| {
            refuse(
                ErrorCode::NotFound,
                format!("there is no device {device} in this network namespace: see ip link"),
            )
        })
    }

    fn check_free(&self, spec: &PortSpec, address: Ipv4Addr) -> Result<(), ApiError> {
        if let Some(binding) = self.bindings.get(address) {
            return Err(refuse(
                ErrorCode::Exists,
                format!(
                    "port `{}`: {address} belongs to port `{}` already",
                    spec.name,
                    self.port_name(binding.port)
                ),
            ));
        }
        if self.rib.get(&Ipv4Net::from(address)).is_some() {
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

    fn check_room(&self, rx_frames: u32) -> Result<(), ApiError> {
        let wanted = self.reserved() + rx_frames + POOL_RESERVE;
        if wanted > self.config.memory.frames {
            return Err(refuse(
                ErrorCode::Exhausted,
                format!(
                    "the port needs {rx_frames} frames, but {} of {} are set aside already: raise \
                     memory.frames or lower rx_frames",
                    self.reserved() + POOL_RESERVE,
                    self.config.memory.frames
                ),
            ));
        }
        Ok(())
    }

    /// What the uplink lets through, by what the routes need.
    pub(super) fn pinhole(&self) -> Pinhole {
        let mut pinhole = Pinhole {
            node: self.node,
            vxlan_port: None,
            ipip: false,
            direct: Vec::new(),
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
            crate::tables::Learned::Full => Err(refuse(
                ErrorCode::Exhausted,
                "the MAC table is full: raise l2.max_macs",
            )),
            _ => {
                self.count_stations();
                Ok(())
            }
        }
    }
}
