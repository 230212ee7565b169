//! Ports come and go.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use shunt_afxdp::Umem;
use shunt_api::{ApiError, Attachment, ErrorCode, MacAddr, PortKind, PortSpec};

use super::daemon::Daemon;
use super::error::{refuse, system};
use super::guards::{guard, pod_mac};
use super::pods::Binding;
use super::ports::{self, Opened, Opening, Record};
use super::rib::{HopKey, Origin, Route};
use crate::config::Mode;
use crate::netlink::Link;
use crate::port::Port;
use crate::tables::{Learned, PortId, Role};
use crate::worker::{Command, Limits};

/// Frames that no port may take: for workers, for floods, for answers.
const POOL_RESERVE: u32 = 1024;

/// Frames that can be promised to ports: neither the workers' own nor those lent to busy ports,
/// which come back only by being received.
pub(super) fn for_ports(umem: &Umem) -> u32 {
    let lent = u32::try_from(umem.lendable()).unwrap_or(u32::MAX);
    let all = u32::try_from(umem.chunks()).unwrap_or(u32::MAX);
    all.saturating_sub(lent).saturating_sub(POOL_RESERVE)
}

impl Daemon {
    /// Attaches a pod's port. On an error nothing has changed.
    pub(super) fn port_add(&mut self, spec: PortSpec) -> Result<Attachment, ApiError> {
        self.check_new(&spec)?;
        let addresses = spec.addresses.clone();
        let opened = match spec.kind {
            PortKind::Tap => ports::open_tap(&spec)?,
            _ => {
                let link = self.link(&spec.device)?;
                self.open_on(&spec, link)?
            }
        };
        let mtu = self.attach(spec, opened)?;
        Ok(self.attachment(&addresses, mtu))
    }

    /// Refuses a pod's port that is wrong by itself, or for what others have.
    pub(super) fn check_new(&self, spec: &PortSpec) -> Result<(), ApiError> {
        ports::check(&self.ports, spec, &self.config)?;
        spec.addresses
            .iter()
            .try_for_each(|address| self.check_free(spec, *address))
    }

    /// Opens a pod's AF_XDP port on `link`.
    pub(super) fn open_on(&mut self, spec: &PortSpec, link: Link) -> Result<Opened, ApiError> {
        let opening = Opening {
            umem: &self.umem,
            pool: &mut self.pool,
            xdp: self.config.ports.xdp,
            ring: self.config.ports.ring,
            rx_frames: spec.rx_frames.unwrap_or(self.config.ports.rx_frames),
            adaptive: true,
            pinhole: None,
        };
        ports::open_afxdp(link, opening)
    }

    /// Has a pod's open port take part; its MTU in bytes. On an error it is closed, and nothing has
    /// changed.
    pub(super) fn attach(&mut self, spec: PortSpec, opened: Opened) -> Result<u16, ApiError> {
        let addresses = spec.addresses.clone();
        let name = spec.name.clone();
        let least_loaded = self.ports.least_loaded(self.workers.len());
        let worker = spec.worker.unwrap_or(least_loaded);
        let id = self.hand_over(spec, Role::Pod, worker, opened)?;
        // This also publishes the port itself.
        if let Err(error) = self.bind(id, &addresses) {
            // The refusal is what the caller has to know.
            if let Err(also) = self.remove_port(&name) {
                log::error!("port {name} cannot be removed again: {also}");
            }
            return Err(error);
        }
        self.groups.ask_soon(self.clock.now());
        log::info!("port {name} attached as {id}");
        Ok(self.ports.by_id(id).map_or(0, |record| record.mtu))
    }

    /// Detaches a port and forgets it.
    pub(super) fn port_del(&mut self, name: &str) -> Result<(), ApiError> {
        let Some(record) = self.ports.by_name(name) else {
            return Err(refuse(
                ErrorCode::NotFound,
                format!("there is no port `{name}`: see shunt port list"),
            ));
        };
        let own = match record.role {
            Role::Pod => None,
            Role::Uplink => Some("uplink"),
            Role::Host => Some("host"),
        };
        if let Some(table) = own {
            return Err(refuse(
                ErrorCode::Invalid,
                format!(
                    "port {name} stays as long as the daemon runs: take [{table}] out of the \
                     configuration and restart"
                ),
            ));
        }
        if let Some(key) = self.attachments.of_port(name) {
            return Err(refuse(
                ErrorCode::Invalid,
                format!(
                    "port {name} is that of a container runtime's pod: remove it with shunt pod \
                     del {} {} {}",
                    key.network, key.container_id, key.ifname
                ),
            ));
        }
        self.remove_port(name)
    }

    /// Detaches a pod's port and forgets it, whoever it belongs to.
    pub(super) fn remove_port(&mut self, name: &str) -> Result<(), ApiError> {
        let open = self.ports.by_name(name).and_then(Record::id);
        if let Some(id) = open {
            self.detach(id, "removed")?;
        }
        self.ports.remove(name);
        Ok(())
    }

    /// The device behind a port is gone: its frames come back, its record stays and says so.
    pub(super) fn port_dead(&mut self, id: PortId) {
        let name = self.port_name(id);
        match self.ports.by_id(id).map(|record| record.role) {
            Some(Role::Uplink | Role::Host) => {
                log::error!(
                    "port {name}: its device is gone; it is attached again when it is back"
                );
            }
            _ if self.pod_port_dead(&name) => return,
            _ => {
                log::warn!(
                    "port {name}: its device is gone; remove it with: shunt port del {name}"
                );
            }
        }
        if let Err(error) = self.detach(id, "down: its device is gone") {
            log::error!("port {name}: {error}");
        }
    }

    /// Takes an open port out of tables and worker, closes it, and marks its record. On an error
    /// it is still open and can be detached again.
    pub(super) fn detach(&mut self, id: PortId, why: &str) -> Result<(), ApiError> {
        let Some(record) = self.ports.by_id_mut(id) else {
            return Ok(());
        };
        record.slot = Err(why.to_owned());
        let (name, worker, role) = (record.spec.name.clone(), record.worker, record.role);
        match role {
            Role::Pod => {}
            Role::Uplink => self.mirror = None,
            Role::Host => {
                if let Err(error) = self.join(false) {
                    log::error!("routes to the node's stack: {error}");
                }
            }
        }
        self.bindings.remove_port(id);
        self.groups.forget(id);
        for prefix in self.rib.through(id) {
            if let Some(route) = self.withdraw(prefix)?
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
                match port.map(|port| *port) {
                    // The kernel takes its time to remove a device.
                    Some(tap @ Port::Tap(_)) if self.attachments.of_port(&name).is_some() => {
                        self.attachments.close_later(tap);
                    }
                    Some(port) => port.retire(),
                    None => {}
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

    pub(super) fn hand_over(
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
                opened.port.retire();
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
        let guard = match role {
            Role::Pod => guard(&spec, link.mac).map(Arc::new),
            Role::Uplink | Role::Host => None,
        };
        let limits = Limits {
            ingress: spec.ingress,
            egress: spec.egress,
        };
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
            partial_checksums: role == Role::Host || link.kind.as_deref() == Some("veth"),
            guard,
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
                limits,
            },
        );
        self.update_fdb_limits();
        self.touch();
        Ok(id)
    }

    /// Binds the given addresses (and MAC) to a port.
    fn bind(&mut self, id: PortId, addresses: &[IpAddr]) -> Result<(), ApiError> {
        let Some(record) = self.ports.by_id(id) else {
            return Ok(());
        };
        let given = record.spec.mac;
        let mac = pod_mac(&record.spec, record.device_mac);
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
        address: IpAddr,
        port: PortId,
        origin: Origin,
    ) -> Result<(), ApiError> {
        let route = Route::own(HopKey::Pod { port, address }, origin);
        self.touch();
        self.rib.add(IpNet::from(address), route).map_err(system)
    }

    pub(super) fn link(&mut self, device: &str) -> Result<Link, ApiError> {
        self.netlink.link(device).map_err(system)?.ok_or_else(|| {
            refuse(
                ErrorCode::NotFound,
                format!("there is no device {device} in this network namespace: see ip link"),
            )
        })
    }

    /// An attachment may take over what was only learned, and nothing else.
    fn check_free(&self, spec: &PortSpec, address: IpAddr) -> Result<(), ApiError> {
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
        let host = IpNet::from(address);
        let route = self.rib.get(&host);
        if route.is_some_and(|route| route.origin != Origin::Learned) {
            return Err(refuse(
                ErrorCode::Exists,
                format!(
                    "port `{}`: there is a route to {host} already: remove it first (shunt route \
                     del {host})",
                    spec.name
                ),
            ));
        }
        Ok(())
    }

    /// Frames that are not to be had now: those of ports, and those of ports just closed, to which
    /// the kernel may still write.
    pub(super) fn set_aside(&self) -> u32 {
        let retiring = u32::try_from(self.umem.retiring()).unwrap_or(u32::MAX);
        self.reserved().saturating_add(retiring)
    }

    fn check_room(&self, spec: &PortSpec, opened: &Opened) -> Result<(), ApiError> {
        let taken = self.set_aside();
        let most = for_ports(&self.umem);
        if taken.saturating_add(opened.frames) > most {
            return Err(refuse(
                ErrorCode::Exhausted,
                format!(
                    "port `{}` needs {} frames, but {taken} of the {most} for ports (of {} in all) \
                     are set aside already: raise memory.frames or lower rx_frames",
                    spec.name, opened.frames, self.config.memory.frames
                ),
            ));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shunt_afxdp::{Umem, UmemConfig};

    use super::for_ports;
    use crate::config::Config;
    use crate::control::ports::TX_RESERVE;

    /// What the daemon promises to the uplink, the host port and so many pods' ports of one queue.
    fn promised(config: &Config, pods: u32) -> u32 {
        let uplink = config.uplink.as_ref().map_or(0, |uplink| uplink.rx_frames);
        let own = uplink + config.ports.host_rx_frames() + 2 * TX_RESERVE;
        own + pods * (config.ports.rx_frames + TX_RESERVE)
    }

    #[test]
    fn as_many_pods_as_the_kubelet_starts_fit_by_default() {
        let example = include_str!("../../shunt.example.toml");
        let config = Config::parse(example, Path::new("shunt.toml")).unwrap();
        let umem = Umem::new(UmemConfig {
            chunk_size: config.memory.frame_size,
            chunks: config.memory.frames,
            headroom: 0,
        })
        .unwrap();
        assert_eq!(for_ports(&umem), 16384 - 4096 - 1024);
        // maxPods of the kubelet's configuration, v1beta1.
        assert!(promised(&config, 110) <= for_ports(&umem));
        assert!(promised(&config, 130) > for_ports(&umem));
    }

    #[test]
    fn what_is_too_small_for_any_port_promises_nothing() {
        let umem = Umem::new(UmemConfig {
            chunk_size: 2048,
            chunks: 1024,
            headroom: 0,
        })
        .unwrap();
        assert_eq!(for_ports(&umem), 0);
    }
}
