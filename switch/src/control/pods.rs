//! Which pod has which address, and asking when that is not known.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use shunt_api::MacAddr;
use shunt_encap::ArpRepr;
use shunt_encap::ethernet::{BROADCAST, ETHERTYPE_ARP, EthernetRepr, HEADER_LEN};

use crate::tables::PortId;

/// Between two requests for the same address.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// The shortest Ethernet frame without its frame check sequence (IEEE 802.3).
const MIN_FRAME: usize = 60;
/// Addresses that nobody has answered for, remembered at most.
const MAX_UNANSWERED: usize = 4096;

/// What is known of a local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) port: PortId,
    pub(crate) mac: Option<MacAddr>,
    /// Given at the attachment, so ARP does not change its port; with `mac` known there, nor its
    /// MAC.
    pub(crate) address_given: bool,
    pub(crate) mac_given: bool,
}

/// All local addresses.
#[derive(Default)]
pub(crate) struct Bindings {
    by_address: BTreeMap<Ipv4Addr, Binding>,
    asked: BTreeMap<Ipv4Addr, Instant>,
}

impl Bindings {
    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Binding> {
        self.by_address.get(&address)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Ipv4Addr, &Binding)> {
        self.by_address.iter()
    }

    pub(crate) fn insert(&mut self, address: Ipv4Addr, binding: Binding) {
        self.asked.remove(&address);
        self.by_address.insert(address, binding);
    }

    /// Forgets the addresses of a port and returns them.
    pub(crate) fn remove_port(&mut self, port: PortId) -> Vec<Ipv4Addr> {
        let gone: Vec<_> = self.of(port).collect();
        for address in &gone {
            self.by_address.remove(address);
        }
        gone
    }

    /// The addresses of a port.
    pub(crate) fn of(&self, port: PortId) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.by_address
            .iter()
            .filter(move |(_, b)| b.port == port)
            .map(|(address, _)| *address)
    }

    /// A station has moved: learned addresses with its MAC move along. True if any did.
    pub(crate) fn move_station(&mut self, mac: MacAddr, from: PortId, to: PortId) -> Vec<Ipv4Addr> {
        let mut moved = Vec::new();
        for (address, binding) in &mut self.by_address {
            if binding.port == from && binding.mac == Some(mac) && !binding.address_given {
                binding.port = to;
                moved.push(*address);
            }
        }
        moved
    }

    /// Whether it is time to ask for `address` (again); notes that it is asked for.
    pub(crate) fn may_ask(&mut self, address: Ipv4Addr, now: Instant) -> bool {
        if self
            .asked
            .get(&address)
            .is_some_and(|last| now - *last < ASK_AGAIN)
        {
            return false;
        }
        if self.asked.len() >= MAX_UNANSWERED {
            self.asked.retain(|_, last| now - *last < ASK_AGAIN);
            if self.asked.len() >= MAX_UNANSWERED {
                return false;
            }
        }
        self.asked.insert(address, now);
        true
    }

    /// Addresses that were asked for in the last `window` and are not known.
    pub(crate) fn unanswered(&self, now: Instant, window: Duration) -> Vec<Ipv4Addr> {
        self.asked
            .iter()
            .filter(|(_, last)| now - **last < window)
            .map(|(a, _)| *a)
            .collect()
    }
}

/// The gateway's ARP request for `target`, as a whole frame (RFC 826).
pub(crate) fn request(gateway: Ipv4Addr, gateway_mac: MacAddr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; MIN_FRAME];
    let header = EthernetRepr {
        dst: BROADCAST,
        src: gateway_mac.0,
        ethertype: ETHERTYPE_ARP,
    };
    let packet = ArpRepr::request(gateway_mac.0, gateway, target);
    // The buffer is longer than both.
    if header.emit(&mut frame).is_err() || packet.emit(&mut frame[HEADER_LEN..]).is_err() {
        log::error!("an ARP request does not fit into {MIN_FRAME} bytes");
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_encap::{ArpOperation, ArpPacket};

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn asks_at_most_once_in_a_while_and_forgets_when_answered() {
        let mut bindings = Bindings::default();
        let address = Ipv4Addr::new(10, 0, 0, 2);
        let now = Instant::now();
        assert!(bindings.may_ask(address, now));
        assert!(!bindings.may_ask(address, now + ASK_AGAIN / 2));
        assert!(bindings.may_ask(address, now + ASK_AGAIN));
        assert_eq!(bindings.unanswered(now + ASK_AGAIN, ASK_AGAIN), [address]);
        let binding = Binding {
            port: PortId(1),
            mac: Some(MAC),
            address_given: false,
            mac_given: false,
        };
        bindings.insert(address, binding);
        assert!(bindings.unanswered(now + ASK_AGAIN, ASK_AGAIN).is_empty());
        assert_eq!(bindings.move_station(MAC, PortId(1), PortId(2)), [address]);
        assert_eq!(bindings.of(PortId(2)).collect::<Vec<_>>(), [address]);
        assert_eq!(bindings.remove_port(PortId(2)), [address]);
        assert_eq!(bindings.get(address), None);
    }

    #[test]
    fn a_request_is_a_full_size_arp_frame() {
        let (gateway, target) = (Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(10, 0, 0, 2));
        let frame = request(gateway, MAC, target);
        assert_eq!(frame.len(), MIN_FRAME);
        assert_eq!(frame[..6], BROADCAST);
        let packet = ArpPacket::new_checked(&frame[HEADER_LEN..]).expect("ARP");
        assert_eq!(packet.operation(), ArpOperation::Request);
        assert_eq!(packet.sender_protocol_addr(), gateway);
        assert_eq!(packet.target_protocol_addr(), target);
    }
}
