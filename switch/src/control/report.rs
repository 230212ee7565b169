//! What the API shows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use shunt_api::{
    ApiError, FdbEntry, FlowEntry, NeighbourEntry, PortInfo, PortRole, PortStats, Reply, Request,
    StatsReport, StatusReport,
};

use super::daemon::Daemon;
use super::error::system;
use super::rib::Origin;
use super::server::Asker;
use crate::config::Mode;
use crate::stats::{DropReason, PortCounters};
use crate::tables::{FlowRow, FlowState, PortId, Role};
use crate::worker::PortSnapshot;

impl Daemon {
    /// Carries out one request; `None` when the answer comes later, by
    /// [`next_reply`](Self::next_reply).
    pub(crate) fn answer(&mut self, asker: Asker, request: Request) -> Option<Reply> {
        let reply = match request {
            Request::PodAttach(spec) => self.pod_attach(asker, spec),
            Request::PodDetach { key } => self.pod_detach(asker, &key),
            Request::PodCheck(check) => self.pod_check(asker, check),
            Request::Readiness { key } => self.readiness(asker, key),
            request => self.answer_now(request).map(Some),
        };
        reply.unwrap_or_else(|error| Some(Reply::Error(error)))
    }

    fn answer_now(&mut self, request: Request) -> Result<Reply, ApiError> {
        let done = |result: Result<(), ApiError>| result.map(|()| Reply::Done);
        match request {
            Request::PortAdd(spec) => self.port_add(spec).map(Reply::Attached),
            Request::PortDel { name } => done(self.port_del(&name)),
            Request::PortList => Ok(Reply::Ports(self.port_list())),
            Request::RouteAdd(spec) => done(self.route_add(spec, Origin::Api)),
            Request::RouteDel { prefix } => done(self.route_del(prefix)),
            Request::RouteList => Ok(Reply::Routes(self.route_list())),
            Request::RouteGet { prefix, covered } => {
                self.route_get(prefix, covered).map(Reply::Route)
            }
            Request::FdbList => Ok(Reply::Fdb(self.fdb_list())),
            Request::NeighList => Ok(Reply::Neighbours(self.neigh_list())),
            Request::FlowList => Ok(Reply::Flows(self.flow_list())),
            Request::Stats => self.stats().map(Reply::Stats),
            Request::Status => Ok(Reply::Status(self.status())),
            Request::PodList { network } => Ok(Reply::Pods(self.pod_list(network.as_deref()))),
            Request::PodAttach(_)
            | Request::PodDetach { .. }
            | Request::PodCheck(_)
            | Request::Readiness { .. } => Err(system("this is answered elsewhere")),
        }
    }

    fn port_list(&self) -> Vec<PortInfo> {
        let ports = self.ports.iter().map(|record| {
            let bound = match record.slot {
                Ok(id) => self.bindings.of(id).collect(),
                Err(_) => record.spec.addresses.clone(),
            };
            let learned = self
                .bindings
                .iter()
                .find_map(|(_, binding)| binding.mac.filter(|_| record.slot == Ok(binding.port)));
            PortInfo {
                name: record.spec.name.clone(),
                role: match record.role {
                    Role::Pod => PortRole::Pod,
                    Role::Uplink => PortRole::Uplink,
                    Role::Host => PortRole::Host,
                },
                kind: record.spec.kind,
                device: record.spec.device.clone(),
                worker: record.worker,
                xdp: record.xdp.clone(),
                mtu: record.mtu.into(),
                mac: match record.role {
                    Role::Pod | Role::Host => record.spec.mac.or(learned),
                    Role::Uplink => record.device_mac,
                },
                addresses: match record.role {
                    Role::Pod => bound,
                    Role::Uplink | Role::Host => self.own_addresses().collect(),
                },
                state: record.state(),
            }
        });
        ports.collect()
    }

    fn fdb_list(&self) -> Vec<FdbEntry> {
        let now = self.clock.now();
        let mut rows = self.fdb.list();
        rows.sort_unstable_by_key(|row| row.mac);
        rows.into_iter()
            .map(|row| FdbEntry {
                mac: row.mac,
                port: self.port_name(row.port),
                age: row.seen.map(|seen| now.saturating_sub(seen)),
            })
            .collect()
    }

    fn neigh_list(&self) -> Vec<NeighbourEntry> {
        let mut entries: Vec<_> = self
            .bindings
            .iter()
            .map(|(address, binding)| NeighbourEntry {
                address: *address,
                mac: binding.mac,
                port: self.port_name(binding.port),
                state: match binding.mac {
                    None => "incomplete",
                    Some(_) if binding.mac_given => "static",
                    Some(_) => "learned",
                }
                .to_owned(),
            })
            .collect();
        let unanswered = self.bindings.unanswered();
        for address in unanswered.filter(|a| self.bindings.get(*a).is_none()) {
            entries.push(NeighbourEntry {
                address,
                mac: None,
                port: "-".to_owned(),
                state: "incomplete".to_owned(),
            });
        }
        if let (Some(mirror), Some(uplink)) = (&self.mirror, self.ports.uplink()) {
            let mut nodes: Vec<_> = mirror.neighbours().collect();
            nodes.sort_unstable_by_key(|(address, _)| **address);
            entries.extend(nodes.into_iter().map(|(address, neighbour)| {
                NeighbourEntry {
                    address: *address,
                    mac: neighbour.mac.filter(|_| neighbour.usable()),
                    port: uplink.spec.name.clone(),
                    state: if neighbour.usable() {
                        "kernel"
                    } else {
                        "incomplete"
                    }
                    .to_owned(),
                }
            }));
        }
        entries
    }

    fn flow_list(&self) -> Vec<FlowEntry> {
        let mut rows = self.workers.current().flows.list(self.clock.now());
        rows.sort_unstable_by_key(|FlowRow { key, .. }| {
            let ports = (key.source_port, key.destination_port);
            (key.source, key.destination, key.protocol, ports)
        });
        rows.into_iter().map(flow_entry).collect()
    }

    fn stats(&self) -> Result<StatsReport, ApiError> {
        let mut report = StatsReport {
            pool_total: self.umem.chunks() as u64,
            pool_free: self.pool.local() as u64,
            ..StatsReport::default()
        };
        let mut total = PortCounters::default();
        let (mut to_links, mut from_links) = (0, 0);
        let mut ports: BTreeMap<PortId, PortStats> = BTreeMap::new();
        for snapshot in self.workers.snapshots()? {
            let worker = &snapshot.worker;
            report.generated += worker.generated;
            report.consumed += worker.consumed;
            report.icmp_sent += worker.icmp_sent;
            report.icmp_limited += worker.icmp_limited;
            report.in_flight += worker.held;
            to_links += worker.to_links;
            from_links += worker.from_links;
            report.pool_free += snapshot.pool_free as u64;
            total.add(&worker.retired);
            for port in &snapshot.ports {
                total.add(&port.counters);
                ports.insert(port.id, port_stats(self.port_name(port.id), port));
            }
        }
        report.flows_refused = self.workers.current().flows.refused();
        // The depot last: a worker may have moved frames there since its copy.
        report.pool_free += self.umem.available() as u64;
        // Each copy balances, but they are not of the same moment. Frames that a worker took over
        // after the copy of the one that sent them had been received by then.
        report.in_flight += u64::saturating_sub(to_links, from_links);
        report.received = total.rx_packets + u64::saturating_sub(from_links, to_links);
        report.transmitted = total.tx_packets;
        report.drops = named(&total);
        report.ports = ports.into_values().collect();
        Ok(report)
    }

    fn status(&self) -> StatusReport {
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mode: match self.config.mode {
                Mode::L3 => "l3",
                Mode::L2 => "l2",
            }
            .to_owned(),
            node: self.config.node.address,
            pod_cidrs: self.config.node.pod_cidrs.clone(),
            node6: self.config.node.address6.map(IpAddr::V6),
            gateway: IpAddr::V4(self.config.gateway.address),
            gateway6: IpAddr::V6(self.config.gateway.address6),
            gateway_mac: self.config.gateway.mac,
            vtep_mac: self.config.vxlan.vtep_mac,
            cores: self.config.workers.cores.clone(),
            uptime: self.started.elapsed().as_secs(),
            drop_reasons: DropReason::ALL
                .iter()
                .map(|reason| (reason.name().to_owned(), reason.description().to_owned()))
                .collect(),
        }
    }
}

fn flow_entry(row: FlowRow) -> FlowEntry {
    FlowEntry {
        source: row.key.source,
        source_port: row.key.source_port,
        destination: row.key.destination,
        destination_port: row.key.destination_port,
        protocol: row.key.protocol,
        state: match row.state {
            FlowState::Opening => "opening",
            FlowState::Established => "established",
            FlowState::Closing => "closing",
            FlowState::Other => "other",
        }
        .to_owned(),
        idle: row.idle,
        expires_in: row.expires_in,
    }
}

fn named(counters: &PortCounters) -> BTreeMap<String, u64> {
    let drops = DropReason::ALL.iter().zip(&counters.drops);
    drops
        .filter(|(_, n)| **n > 0)
        .map(|(reason, n)| (reason.name().to_owned(), *n))
        .collect()
}

fn port_stats(name: String, port: &PortSnapshot) -> PortStats {
    let counters = &port.counters;
    PortStats {
        name,
        rx_packets: counters.rx_packets,
        rx_bytes: counters.rx_bytes,
        tx_packets: counters.tx_packets,
        tx_bytes: counters.tx_bytes,
        drops: named(counters),
        kernel: port
            .kernel
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect(),
    }
}
