//! The control thread's state: it alone writes tables.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use mio::Waker;
use shunt_afxdp::{Pinhole, Pool, Umem, UmemConfig};
use shunt_api::ApiError;
use shunt_fib::{Fib4Config, Fib4Writer};

use super::error::{RunError, system};
use super::pods::Bindings;
use super::ports::Ports;
use super::rib::{HopKey, Origin, Rib, Route};
use super::underlay::Mirror;
use super::workers::{WorkerSetup, Workers};
use crate::config::Config;
use crate::netlink::Netlink;
use crate::street::PendingLimits;
use crate::tables::{Clock, Domain, Fdb, Role, Tables, Underlay};

/// Room behind the kernel's own headroom for outer headers: VXLAN needs 50 bytes.
const HEADROOM: u32 = 64;
/// How long a route change waits for the workers to leave the memory it reuses.
const FIB_PATIENCE: Duration = Duration::from_millis(500);

/// Seconds after which the kernel's ways to other nodes are read again: not every change of them,
/// such as one of a rule, comes with a notice.
const REREAD_PATHS: u32 = 10;

/// Everything the control thread owns.
pub(crate) struct Daemon {
    pub(super) config: Config,
    pub(super) node: Ipv4Addr,
    pub(super) gateway: Ipv4Addr,
    pub(super) umem: Arc<Umem>,
    pub(super) pool: Pool,
    pub(super) workers: Workers,
    pub(super) clock: Arc<Clock>,
    pub(super) started: Instant,
    pub(super) rib: Rib,
    pub(super) ports: Ports,
    pub(super) fdb: Arc<Fdb>,
    pub(super) bindings: Bindings,
    pub(super) netlink: Netlink,
    pub(super) mirror: Option<Mirror>,
    /// The second in which the kernel's ways to other nodes were last read for certain.
    paths_read: u32,
    /// ARP requests that may still be sent in this tick.
    pub(super) request_budget: usize,
    /// What the uplink lets through at present.
    pub(super) open_pinhole: Option<Pinhole>,
    version: u64,
    dirty: bool,
}

impl Daemon {
    /// Brings up workers and tables; no port yet.
    pub(crate) fn new(config: Config, waker: &Arc<Waker>) -> Result<Self, RunError> {
        let kernel = |what| move |why: String| RunError::Kernel { what, why };
        let IpAddr::V4(node) = config.node.address else {
            return Err(kernel("node.address")("IPv6 is not supported yet".into()));
        };
        let IpAddr::V4(gateway) = config.gateway.address else {
            return Err(kernel("gateway.address")(
                "IPv6 is not supported yet".into(),
            ));
        };
        let umem = Umem::new(UmemConfig {
            chunk_size: config.memory.frame_size,
            chunks: config.memory.frames,
            headroom: HEADROOM,
        })
        .map_err(|error| kernel("packet memory")(error.to_string()))?;
        let mut fib = Fib4Writer::new(Fib4Config {
            groups: Fib4Config::MAX_GROUPS,
            readers: config.workers.cores.len(),
            reclaim_wait: FIB_PATIENCE,
        })
        .map_err(|error| kernel("FIB")(error.to_string()))?;
        let netlink = Netlink::open().map_err(|error| kernel("netlink")(error.to_string()))?;
        let clock = Arc::new(Clock::default());
        let fdb = Arc::new(Fdb::new(config.l2.max_macs));
        let tables = Tables {
            version: 1,
            mode: config.mode,
            gateway,
            gateway_mac: config.gateway.mac,
            underlay: Underlay {
                address: node,
                vni: config.vxlan.vni,
                vxlan_port: config.vxlan.port,
                vtep_mac: config.vxlan.vtep_mac,
                peers: Vec::new(),
            },
            ports: Vec::new(),
            domains: vec![Domain {
                fdb: Arc::clone(&fdb),
                members: Vec::new(),
            }],
            next_hops: Vec::new(),
        };
        let setup = WorkerSetup {
            cores: &config.workers.cores,
            batch: config.workers.batch,
            umem: &umem,
            clock: &clock,
            pending: PendingLimits {
                per_neighbour: config.neighbours.queue,
                total: config.neighbours.total,
                timeout: config.neighbours.timeout,
            },
            waker,
        };
        let workers = Workers::start(&setup, &mut fib, tables)
            .map_err(|error| kernel("workers")(error.to_string()))?;
        let mut daemon = Self {
            node,
            gateway,
            pool: Pool::new(&umem),
            umem,
            workers,
            clock,
            started: Instant::now(),
            rib: Rib::new(fib),
            ports: Ports::default(),
            fdb,
            bindings: Bindings::default(),
            netlink,
            mirror: None,
            paths_read: 0,
            request_budget: 0,
            open_pinhole: None,
            version: 1,
            dirty: false,
            config,
        };
        daemon.own_routes().map_err(|source| RunError::Refused {
            what: "gateway".into(),
            source,
        })?;
        Ok(daemon)
    }

    /// Attaches the uplink, the ports and the routes that the configuration names.
    pub(crate) fn configure(&mut self) -> Result<(), RunError> {
        let refused = |what: String| move |source| RunError::Refused { what, source };
        if let Some(uplink) = self.config.uplink.clone() {
            self.attach_uplink(&uplink)
                .map_err(refused(format!("uplink {}", uplink.device)))?;
        }
        for spec in self.config.port.clone() {
            let what = format!("port {}", spec.name);
            self.port_add(spec).map_err(refused(what))?;
        }
        for spec in self.config.route.clone() {
            let what = format!("route {}", spec.prefix);
            self.route_add(spec, Origin::Config)
                .map_err(refused(what))?;
        }
        Ok(())
    }

    /// The gateway's address, and the pods' CIDRs, whose unknown addresses are asked for.
    fn own_routes(&mut self) -> Result<(), ApiError> {
        let route = |key, origin| Route {
            key,
            origin,
            target: None,
        };
        for cidr in self.config.node.pod_cidrs.clone() {
            if let IpNet::V4(cidr) = cidr {
                self.rib
                    .add(cidr, route(HopKey::Connected, Origin::Connected))
                    .map_err(system)?;
            }
        }
        let gateway = route(HopKey::Gateway, Origin::Gateway);
        self.rib
            .add(Ipv4Net::from(self.gateway), gateway)
            .map_err(system)?;
        self.commit()
    }

    /// Notes that the tables differ from what the workers have.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Brings the workers' tables and the FIB up to date.
    pub(super) fn commit(&mut self) -> Result<(), ApiError> {
        if !self.dirty && !self.rib.is_dirty() {
            return Ok(());
        }
        self.version += 1;
        let tables = self.tables();
        self.workers.publish(tables)?;
        self.dirty = false;
        let installed = self.rib.install();
        if installed.any {
            // Frames may wait for just these routes: the workers had their turn before the FIB.
            self.workers.resume();
        }
        installed
            .refused
            .into_iter()
            .next()
            .map_or(Ok(()), |error| Err(system(error)))
    }

    fn tables(&mut self) -> Tables {
        let mut ports = vec![None; self.ports.slots()];
        let mut members = Vec::new();
        for record in self.ports.iter() {
            let Ok(id) = record.slot else { continue };
            if !record.up {
                continue;
            }
            ports[id.index()] = Some(record.entry());
            if record.role == Role::Pod {
                members.push(id);
            }
        }
        let next_hops = self.next_hops();
        let mut peers: Vec<_> = next_hops.iter().filter_map(|hop| hop.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        let current = self.workers.current();
        Tables {
            version: self.version,
            mode: current.mode,
            gateway: current.gateway,
            gateway_mac: current.gateway_mac,
            underlay: Underlay {
                peers,
                ..current.underlay.clone()
            },
            ports,
            domains: vec![Domain {
                fdb: Arc::clone(&self.fdb),
                members,
            }],
            next_hops,
        }
    }

    /// A few times a second: the clock, ageing, neighbours.
    pub(crate) fn tick(&mut self) {
        self.clock
            .set(u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX - 1));
        self.age_stations();
        self.ask_again();
        self.recover_uplink();
        if self.clock.now().saturating_sub(self.paths_read) >= REREAD_PATHS {
            self.paths_read = self.clock.now();
            self.paths_changed();
        }
        self.refresh_underlay();
        self.commit_or_log("tables");
    }

    /// For changes that nobody waits for an answer to.
    pub(super) fn commit_or_log(&mut self, what: &str) {
        if let Err(error) = self.commit() {
            log::error!("{what}: {error}");
        }
    }

    /// Gives everything back to the kernel.
    pub(crate) fn shut_down(self) {
        let Self {
            workers, mut pool, ..
        } = self;
        for port in workers.stop() {
            port.close(&mut pool);
        }
    }

    /// Names a port for an error or a list.
    pub(super) fn port_name(&self, id: crate::tables::PortId) -> String {
        self.ports
            .by_id(id)
            .map_or_else(|| id.to_string(), |record| record.spec.name.clone())
    }

    /// Frames set aside for open ports.
    pub(super) fn reserved(&self) -> u32 {
        self.ports
            .iter()
            .filter(|record| record.slot.is_ok())
            .map(|record| record.frames)
            .sum()
    }
}
