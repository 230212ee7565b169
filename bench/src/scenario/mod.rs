//! The street between two memory ports: a generator of 64-byte frames, one worker, and a port that
//! swallows.
//!
//! A scenario proves itself before anyone measures it: every frame of every flow must come out of
//! the right port, byte by byte as a second implementation (smoltcp, by way of
//! [`shunt_tests::frames`]; for IPv6 a plain sum of words) makes it.

mod baseline;
mod traffic;
mod world;

use std::fmt;

use anyhow::{Context, Result, ensure};
use shunt_switch::port::{MemoryPort, Port};
use shunt_switch::standalone::Standalone;

pub use baseline::Baseline;
use traffic::Flow;
use world::World;

/// Frames per batch.
pub const BATCH: usize = 32;

/// Bytes of a frame at the pod's side, without the frame check sequence.
pub const FRAME_LEN: usize = 64;

/// What happens to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// L2 mode: source known and refreshed, destination found in the MAC table.
    L2Forward,
    /// L3 mode: longest-prefix match, TTL, new Ethernet header, to a local pod.
    L3Route,
    /// The same with IPv6.
    L3RouteV6,
    /// As [`L3Route`](Self::L3Route), but towards another node, in VXLAN.
    VxlanEncap,
    /// Out of VXLAN with every check, routed to a local pod.
    VxlanDecap,
    /// Towards another node, in IP in IP.
    IpipEncap,
    /// Out of IP in IP with every check, routed to a local pod.
    IpipDecap,
}

/// One measured case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// What happens to each frame.
    pub path: Path,
    /// How many flows, each with its own addresses and ports, take turns.
    pub flows: usize,
}

impl Scenario {
    /// Every case: each path with one flow, the hot-cache best case, and with 512.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Path::L2Forward,
            Path::L3Route,
            Path::L3RouteV6,
            Path::VxlanEncap,
            Path::VxlanDecap,
            Path::IpipEncap,
            Path::IpipDecap,
        ]
        .into_iter()
        .flat_map(|path| [1, 512].map(|flows| Self { path, flows }))
    }

    /// Sends each flow's frame through the street once and compares what comes out.
    ///
    /// # Errors
    /// A frame is lost, changed wrongly, or comes out of the wrong port; or one is not back in the
    /// pool at the end.
    pub fn prove(self) -> Result<()> {
        let (from, sender) = MemoryPort::wire();
        let (to, receiver) = MemoryPort::wire();
        let flows = traffic::flows(self);
        let mut world = World::build(self.path, Port::Memory(from), Port::Memory(to))?;
        for (number, flow) in flows.iter().enumerate() {
            sender.send(&flow.sent);
            world.switch.turn();
            let got = receiver.receive();
            let got = got.with_context(|| format!("{self}: frame {number} is lost"))?;
            let expected = flow.expected(&got);
            ensure!(
                got == expected,
                "{self}: frame {number} came out as {got:02x?}, expected {expected:02x?}"
            );
        }
        ensure!(
            receiver.receive().is_none() && sender.receive().is_none(),
            "{self}: more frames came out than went in"
        );
        let missing = world.switch.finish();
        ensure!(
            missing == 0,
            "{self}: {missing} frames are not back in the pool"
        );
        Ok(())
    }

    /// The running set-up, proven before.
    ///
    /// # Errors
    /// As [`Scenario::prove`], and as [`Running::check`] after a first round over all flows.
    pub fn start(self) -> Result<Running> {
        self.prove()?;
        let templates: Vec<_> = traffic::flows(self)
            .into_iter()
            .map(Flow::into_sent)
            .collect();
        let rounds = templates.len().div_ceil(BATCH);
        let from = Port::Memory(MemoryPort::generator(templates));
        let to = Port::Memory(MemoryPort::generator(Vec::new()));
        let world = World::build(self.path, from, to)?;
        let mut running = Running {
            scenario: self,
            switch: world.switch,
        };
        for _ in 0..rounds {
            running.turn();
        }
        running.check()?;
        Ok(running)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path {
            Path::L2Forward => "l2_forward",
            Path::L3Route => "l3_route",
            Path::L3RouteV6 => "l3_route_v6",
            Path::VxlanEncap => "vxlan_encap",
            Path::VxlanDecap => "vxlan_decap",
            Path::IpipEncap => "ipip_encap",
            Path::IpipDecap => "ipip_decap",
        };
        let plural = if self.flows == 1 { "" } else { "s" };
        write!(f, "{path}/{}_flow{plural}", self.flows)
    }
}

/// A scenario ready to be turned.
pub struct Running {
    scenario: Scenario,
    switch: Standalone,
}

impl Running {
    /// Carries one batch of [`BATCH`] frames from the generator down the street.
    #[inline]
    pub fn turn(&mut self) {
        self.switch.turn();
    }

    /// Demands that every frame of every turn so far was transmitted. Returns how many that were.
    ///
    /// # Errors
    /// One was not; the message names the reasons.
    pub fn check(&mut self) -> Result<u64> {
        let (worker, total) = self.switch.counters();
        ensure!(
            total.rx_packets > 0 && total.rx_packets == total.tx_packets && total.dropped() == 0,
            "{}: {} frames received, {} transmitted, {worker:?}",
            self.scenario,
            total.rx_packets,
            total.tx_packets,
        );
        Ok(total.tx_packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_does_what_it_says() {
        for scenario in Scenario::all() {
            scenario.prove().unwrap();
        }
    }

    #[test]
    fn a_turn_carries_one_batch() {
        for scenario in Scenario::all() {
            let mut running = scenario.start().unwrap();
            let before = running.check().unwrap();
            for _ in 0..100 {
                running.turn();
            }
            assert_eq!(running.check().unwrap() - before, 100 * BATCH as u64);
        }
    }
}
