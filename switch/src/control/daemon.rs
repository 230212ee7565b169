//! The control thread's state: it alone writes tables.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mio::Waker;
use shunt_afxdp::{Pinhole, Pool, Umem, UmemConfig};
use shunt_api::ApiError;
use shunt_encap::IpFamily;
use shunt_fib::{Fib4Config, Fib4Writer, Fib6Config, Fib6Writer};

use super::attachments::Attachments;
use super::conflicts::Conflicts;
use super::error::{RunError, system};
use super::flaps::Flaps;
use super::groups::Groups;
use super::nodes::NodeRoutes;
use super::path_mtu::PathMtus;
use super::pinhole::{own_v4, own_v6};
use super::pods::Bindings;
use super::ports::Ports;
use super::rib::{HopKey, Origin, Rib, Route};
use super::underlay::Mirror;
use super::workers::{WorkerSetup, Workers};
use crate::config::{Config, FlowsConfig};
use crate::host::{HostDevice, HostPlan};
use crate::netlink::Netlink;
use crate::street::PendingLimits;
use crate::tables::{
    Clock, Domain, Fdb, FlowLimits, FlowTable, HEADROOM, Policy, Role, Tables, Underlay,
};

/// The VTEP MAC that other nodes make of this node's IPv6 address when they are given no other: it
/// answers to that one too, unless it has been given one.
fn vtep_mac6(config: &Config) -> Option<shunt_api::MacAddr> {
    let made = config.vxlan.vtep_mac == shunt_api::vtep_mac(config.node.address);
    let address6 = config.node.address6.filter(|_| made)?;
    Some(shunt_api::vtep_mac(address6.into()))
}

/// How long a route change waits for the workers to leave the memory it reuses.
const FIB_PATIENCE: Duration = Duration::from_millis(500);

/// Seconds between two attempts to attach what was lost.
const RECOVER_EVERY: u32 = 2;
/// Seconds after which the kernel's ways to other nodes are read again: not every change of them,
/// such as one of a rule, comes with a notice.
const REREAD_PATHS: u32 = 10;

/// Everything the control thread owns.
pub(crate) struct Daemon {
    pub(super) config: Config,
    pub(super) umem: Arc<Umem>,
    pub(super) pool: Pool,
    pub(super) workers: Workers,
    pub(super) clock: Arc<Clock>,
    pub(super) started: Instant,
    pub(super) rib: Rib,
    /// The routes to nodes that the switch makes itself.
    pub(super) nodes: NodeRoutes,
    pub(super) ports: Ports,
    pub(super) fdb: Arc<Fdb>,
    pub(super) bindings: Bindings,
    pub(super) groups: Groups,
    pub(super) flaps: Flaps,
    pub(super) netlink: Netlink,
    pub(super) mirror: Option<Mirror>,
    pub(super) path_mtus: PathMtus,
    pub(super) conflicts: Conflicts,
    /// The second in which the kernel's ways to other nodes were last read for certain.
    paths_read: u32,
    /// The second in which flows were last looked through.
    flows_aged: u32,
    /// Requests by ARP and NDP that may still be sent in this tick.
    pub(super) request_budget: usize,
    /// The second from which a lost uplink or host port is tried again.
    pub(super) recovers_at: u32,
    /// What the uplink lets through at present.
    pub(super) open_pinhole: Option<Pinhole>,
    /// The node's side of the host port, as far as it is prepared.
    pub(super) host: Option<HostDevice>,
    /// The node's end of the host port, while the node's stack is joined.
    pub(super) host_ifindex: Option<u32>,
    /// What the node's stack sends to the switch at present.
    pub(super) host_plan: Option<HostPlan>,
    /// Pods that a container runtime has attached.
    pub(super) attachments: Attachments,
    version: u64,
    dirty: bool,
}

impl Daemon {
    /// Brings up workers and tables; no port yet.
    pub(crate) fn new(config: Config, waker: &Arc<Waker>) -> Result<Self, RunError> {
        let kernel = |what| move |why: String| RunError::Kernel { what, why };
        let umem = Umem::new(UmemConfig {
            chunk_size: config.memory.frame_size,
            chunks: config.memory.frames,
            headroom: HEADROOM,
        })
        .map_err(|error| kernel("packet memory")(error.to_string()))?;
        let readers = config.workers.cores.len();
        let mut fib4 = Fib4Writer::new(Fib4Config {
            groups: Fib4Config::MAX_GROUPS,
            readers,
            reclaim_wait: FIB_PATIENCE,
        })
        .map_err(|error| kernel("FIB of IPv4")(error.to_string()))?;
        let mut fib6 = Fib6Writer::new(Fib6Config {
            readers,
            reclaim_wait: FIB_PATIENCE,
            ..Fib6Config::default()
        })
        .map_err(|error| kernel("FIB of IPv6")(error.to_string()))?;
        let netlink = Netlink::open().map_err(|error| kernel("netlink")(error.to_string()))?;
        let clock = Arc::new(Clock::default());
        let fdb = Arc::new(Fdb::new(config.l2.max_macs));
        let tables = Tables {
            version: 1,
            mode: config.mode,
            gateway: config.gateway.address,
            gateway6: config.gateway.address6,
            gateway_mac: config.gateway.mac,
            underlay: Underlay {
                address: own_v4(&config.node),
                address6: own_v6(&config.node),
                vni: config.vxlan.vni,
                vxlan_port: config.vxlan.port,
                vtep_mac: config.vxlan.vtep_mac,
                vtep_mac6: vtep_mac6(&config),
                peers: Vec::new(),
            },
            ports: Vec::new(),
            domains: vec![Domain {
                fdb: Arc::clone(&fdb),
                members: Vec::new(),
                multicast: None,
            }],
            next_hops: Vec::new(),
            flows: Arc::new(FlowTable::new(flow_limits(&config.flows))),
            to_host: [None; 2],
            policy: Policy {
                unreachable: config.icmp.unreachable,
                icmp_rate: config.icmp.rate,
                clamp_mss: config.mtu.clamp_mss,
                storm_limit: config.l2.storm_limit,
            },
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
        let workers = Workers::start(&setup, &mut fib4, &mut fib6, tables)
            .map_err(|error| kernel("workers")(error.to_string()))?;
        let own = config.node.address6.map(IpAddr::V6);
        let own = [config.node.address].into_iter().chain(own);
        let mut daemon = Self {
            pool: Pool::new(&umem),
            umem,
            workers,
            clock,
            started: Instant::now(),
            rib: Rib::new(fib4, fib6),
            nodes: NodeRoutes::new(own.collect()),
            ports: Ports::default(),
            fdb,
            bindings: Bindings::default(),
            groups: Groups::default(),
            flaps: Flaps::default(),
            netlink,
            mirror: None,
            path_mtus: PathMtus::default(),
            conflicts: Conflicts::default(),
            paths_read: 0,
            flows_aged: 0,
            request_budget: 0,
            recovers_at: 0,
            open_pinhole: None,
            host: None,
            host_ifindex: None,
            host_plan: None,
            attachments: Attachments::new(&config.state_dir, waker)?,
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

    /// Attaches the uplink, the node's stack, the ports and the routes that the configuration names.
    pub(crate) fn configure(&mut self) -> Result<(), RunError> {
        let refused = |what: String| move |source| RunError::Refused { what, source };
        if let Some(uplink) = self.config.uplink.clone() {
            self.attach_uplink(&uplink)
                .map_err(refused(format!("uplink {}", uplink.device)))?;
        }
        if let Some(host) = self.config.host.clone() {
            self.attach_host(&host)
                .map_err(refused(format!("host port {}", host.device)))?;
        }
        for spec in self.config.port.clone() {
            let what = format!("port {}", spec.name);
            self.port_add(spec).map(drop).map_err(refused(what))?;
        }
        for spec in self.config.route.clone() {
            let what = format!("route {}", spec.prefix);
            self.route_add(spec, Origin::Config)
                .map_err(refused(what))?;
        }
        // Now that the routes are there: what an earlier run has left for them stays.
        self.update_host();
        self.restore_attachments();
        Ok(())
    }

    /// The gateway's addresses, and the pods' CIDRs, whose unknown addresses are asked for.
    fn own_routes(&mut self) -> Result<(), ApiError> {
        for cidr in self.config.node.pod_cidrs.clone() {
            let connected = Route::own(HopKey::Connected, Origin::Connected);
            self.rib.add(cidr, connected).map_err(system)?;
        }
        let gateway = self.config.gateway;
        for address in [IpAddr::V4(gateway.address), IpAddr::V6(gateway.address6)] {
            let own = Route::own(HopKey::Gateway, Origin::Gateway);
            self.rib.add(IpNet::from(address), own).map_err(system)?;
        }
        self.commit()
    }

    /// This node's addresses.
    pub(super) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let node = &self.config.node;
        [Some(node.address), node.address6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
    }

    /// This node's address of one family.
    pub(super) fn own_address(&self, wanted: IpFamily) -> Option<IpAddr> {
        self.own_addresses()
            .find(|own| IpFamily::of(*own) == wanted)
    }

    /// The network says that the path to a remote node takes packets of up to `mtu` bytes, outer
    /// headers included: believed for ten minutes, and only of a node that routes name.
    pub(crate) fn note_path_mtu(&mut self, via: IpAddr, mtu: u32) {
        if self.nodes.names(via) && self.path_mtus.note(via, mtu, self.clock.now()) {
            log::info!("the path to {via} takes packets of up to {mtu} bytes");
            self.touch();
        }
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
        let to_host =
            [IpFamily::V4, IpFamily::V6].map(|family| self.rib.slot(HopKey::Host(family)));
        let current = self.workers.current();
        Tables {
            version: self.version,
            mode: current.mode,
            gateway: current.gateway,
            gateway6: current.gateway6,
            gateway_mac: current.gateway_mac,
            underlay: Underlay {
                peers,
                ..current.underlay.clone()
            },
            ports,
            domains: vec![Domain {
                fdb: Arc::clone(&self.fdb),
                members,
                multicast: self.multicast(),
            }],
            next_hops,
            flows: Arc::clone(&current.flows),
            to_host,
            policy: current.policy,
        }
    }

    /// A few times a second: the clock, ageing, neighbours.
    pub(crate) fn tick(&mut self) {
        self.clock
            .set(u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX - 1));
        self.age_stations();
        self.age_flows();
        self.tend_groups();
        self.ask_again();
        self.recover_uplink();
        self.recover_host();
        self.tend_attachments();
        if self.may_recover() {
            self.recovers_at = self.clock.now().saturating_add(RECOVER_EVERY);
        }
        let nodes = &self.nodes;
        if self
            .path_mtus
            .expire(self.clock.now(), |via| nodes.names(via))
        {
            self.touch();
        }
        if self.clock.now().saturating_sub(self.paths_read) >= REREAD_PATHS {
            self.paths_read = self.clock.now();
            self.paths_changed();
            self.restore_host();
        }
        self.refresh_underlay();
        self.commit_or_log("tables");
    }

    /// Once a second: forgets connections to services that have been idle for too long.
    fn age_flows(&mut self) {
        let now = self.clock.now();
        let flows = &self.workers.current().flows;
        if self.flows_aged != now && !flows.is_empty() {
            flows.age(now);
        }
        self.flows_aged = now;
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
            workers,
            mut pool,
            host,
            mut netlink,
            attachments,
            ..
        } = self;
        attachments.stop();
        for port in workers.stop() {
            port.close(&mut pool);
        }
        if let Some(host) = host
            && let Err(error) = host.remove(&mut netlink)
        {
            log::error!("the host port's traces cannot all be removed: {error}");
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

fn flow_limits(config: &FlowsConfig) -> FlowLimits {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let tcp_idle = seconds(config.tcp_idle);
    let tcp_transient = seconds(config.tcp_transient);
    let usual = FlowLimits::default();
    FlowLimits {
        max: config.max,
        tcp_idle,
        tcp_half_closed: usual.tcp_half_closed.min(tcp_idle),
        tcp_closing: tcp_transient,
        tcp_opening: tcp_transient,
        idle: seconds(config.idle),
    }
}
