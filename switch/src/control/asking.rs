//! Asking pods who has an address.

use std::net::IpAddr;
use std::time::Instant;

use super::daemon::Daemon;
use super::pods::request;
use crate::tables::{PortId, Role};
use crate::worker::Command;

/// Requests by ARP and NDP in one tick, each to one pod or to all: a scan of unknown addresses must
/// not become a storm.
const REQUESTS_PER_TICK: usize = 64;

impl Daemon {
    /// Somebody waits to know who has a local address.
    pub(super) fn ask_pod(&mut self, address: IpAddr) {
        let now = Instant::now();
        self.bindings
            .want(address, now, now + self.config.neighbours.timeout);
    }

    /// Sends the gateway's requests that are due: to the port that an address is bound to, or to
    /// all pods.
    pub(super) fn send_requests(&mut self) {
        if self.request_budget == 0 {
            return;
        }
        let due = self.bindings.due(Instant::now(), self.request_budget);
        self.request_budget -= due.len();
        for address in due {
            let bound = self.bindings.get(address).map(|binding| binding.port);
            let frame = request(&self.config.gateway, address);
            self.send_to_pods(&frame, |id| bound.is_none_or(|bound| bound == id));
        }
    }

    /// Sends a frame to the pods' ports that are wanted.
    pub(super) fn send_to_pods(&mut self, frame: &[u8], wanted: impl Fn(PortId) -> bool) {
        let mut ports = vec![Vec::new(); self.workers.len()];
        for record in self.ports.iter().filter(|record| record.role == Role::Pod) {
            if let Some(id) = record.id().filter(|id| wanted(*id)) {
                ports[record.worker].push(id);
            }
        }
        for (worker, ports) in ports.into_iter().enumerate().filter(|(_, p)| !p.is_empty()) {
            let frame = frame.to_vec();
            self.workers.send(worker, Command::Send { ports, frame });
        }
    }

    /// A new tick, with a new budget of requests.
    pub(super) fn ask_again(&mut self) {
        self.request_budget = REQUESTS_PER_TICK;
        self.send_requests();
    }
}
