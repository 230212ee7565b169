//! Which pod has which address, and asking when that is not known.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use shunt_api::MacAddr;
use shunt_encap::ArpRepr;
use shunt_encap::ethernet::{BROADCAST, ETHERTYPE_ARP, EthernetRepr, HEADER_LEN};

use crate::tables::PortId;

/// Between two requests for the same address.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long an address that nobody answered for is still listed.
const REMEMBER: Duration = Duration::from_secs(10);
/// Addresses that nobody has answered for, remembered at most.
const MAX_UNANSWERED: usize = 4096;
/// Addresses learned from the ARP of one port, whose attachment named none.
const MAX_LEARNED: usize = 64;
/// The shortest Ethernet frame without its frame check sequence (IEEE 802.3).
const MIN_FRAME: usize = 60;

/// What is known of a local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) port: PortId,
    pub(crate) mac: Option<MacAddr>,
    /// Given at the attachment: ARP does not move it to another port.
    pub(crate) address_given: bool,
    /// The MAC too was given: ARP does not change it.
    pub(crate) mac_given: bool,
}

/// An address that is asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The last request; `None` before the first.
    last: Option<Instant>,
    /// Nobody waits for the answer any longer after this.
    until: Instant,
}

impl Asked {
    fn is_due(&self, now: Instant) -> bool {
        now < self.until && self.last.is_none_or(|last| now - last >= ASK_AGAIN)
    }
}

/// All local addresses.
#[derive(Default)]
pub(crate) struct Bindings {
    by_address: BTreeMap<Ipv4Addr, Binding>,
    asked: BTreeMap<Ipv4Addr, Asked>,
}

impl Bindings {
    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Binding> {
        self.by_address.get(&address)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Ipv4Addr, &Binding)> {
        self.by_address.iter()
    }

    pub(crate) fn insert(&mut self, address: Ipv4Addr, binding: Binding) {
        if binding.mac.is_some() {
            self.asked.remove(&address);
        }
        self.by_address.insert(address, binding);
    }

    pub(crate) fn remove(&mut self, address: Ipv4Addr) {
        self.by_address.remove(&address);
    }

    /// Forgets the addresses of a port.
    pub(crate) fn remove_port(&mut self, port: PortId) {
        let gone: Vec<_> = self.of(port).collect();
        for address in gone {
            self.by_address.remove(&address);
            self.asked.remove(&address);
        }
    }

    /// The addresses of a port.
    pub(crate) fn of(&self, port: PortId) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.by_address
            .iter()
            .filter(move |(_, b)| b.port == port)
            .map(|(address, _)| *address)
    }

    /// Whether a further address may be learned from a port: one whose attachment named addresses
    /// has no others.
    pub(crate) fn may_learn(&self, port: PortId) -> bool {
        let mut learned = 0;
        for binding in self
            .by_address
            .values()
            .filter(|binding| binding.port == port)
        {
            if binding.address_given {
                return false;
            }
            learned += 1;
        }
        learned < MAX_LEARNED
    }

    /// A station has moved: learned addresses with its MAC move along. Returns them.
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

    /// Somebody wants to know until then who has `address`: [`Self::due`] will name it.
    pub(crate) fn want(&mut self, address: Ipv4Addr, now: Instant, until: Instant) {
        if let Some(asked) = self.asked.get_mut(&address) {
            asked.until = asked.until.max(until);
            return;
        }
        if self.asked.len() >= MAX_UNANSWERED {
            self.asked.retain(|_, asked| asked.until > now);
        }
        if self.asked.len() < MAX_UNANSWERED {
            self.asked.insert(address, Asked { last: None, until });
        }
    }

    /// Up to `limit` addresses to ask for now, those never asked for first.
    pub(crate) fn due(&mut self, now: Instant, limit: usize) -> Vec<Ipv4Addr> {
        self.asked.retain(|_, asked| now < asked.until + REMEMBER);
        let mut due: Vec<_> = self
            .asked
            .iter_mut()
            .filter(|(_, asked)| asked.is_due(now))
            .collect();
        due.sort_by_key(|(_, asked)| asked.last);
        due.truncate(limit);
        due.into_iter()
            .map(|(address, asked)| {
                asked.last = Some(now);
                *address
            })
            .collect()
    }

    /// Addresses that were asked for lately and are not known.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.asked.keys().copied()
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

    fn learned(port: PortId) -> Binding {
        Binding {
            port,
            mac: Some(MAC),
            address_given: false,
            mac_given: false,
        }
    }

    #[test]
    fn asks_again_while_somebody_waits_and_stops_when_answered() {
        let mut bindings = Bindings::default();
        let address = Ipv4Addr::new(10, 0, 0, 2);
        let now = Instant::now();
        let until = now + ASK_AGAIN * 2;
        bindings.want(address, now, until);
        assert_eq!(bindings.due(now, 9), [address]);
        assert!(
            bindings.due(now + ASK_AGAIN / 2, 9).is_empty(),
            "not again so soon"
        );
        assert_eq!(
            bindings.due(now + ASK_AGAIN, 9),
            [address],
            "although nobody has said so again"
        );
        assert!(bindings.due(until, 9).is_empty(), "nobody waits any more");
        assert_eq!(bindings.unanswered().collect::<Vec<_>>(), [address]);
        bindings.want(address, until, until + ASK_AGAIN);
        assert_eq!(bindings.due(until, 9), [address]);
        bindings.insert(address, learned(PortId(1)));
        assert_eq!(bindings.unanswered().count(), 0);
    }

    #[test]
    fn a_scan_does_not_keep_others_from_being_asked_for() {
        let mut bindings = Bindings::default();
        let now = Instant::now();
        for n in 0..20 {
            bindings.want(Ipv4Addr::new(10, 0, 0, n), now, now + ASK_AGAIN * 9);
        }
        assert_eq!(bindings.due(now, 15).len(), 15);
        let late = Ipv4Addr::new(10, 0, 0, 99);
        bindings.want(late, now, now + ASK_AGAIN * 9);
        assert!(bindings.due(now + ASK_AGAIN, 15).contains(&late));
    }

    #[test]
    fn learned_addresses_move_with_their_station_and_are_few() {
        let mut bindings = Bindings::default();
        let address = Ipv4Addr::new(10, 0, 0, 2);
        bindings.insert(address, learned(PortId(1)));
        assert_eq!(bindings.move_station(MAC, PortId(1), PortId(2)), [address]);
        assert_eq!(bindings.of(PortId(2)).collect::<Vec<_>>(), [address]);
        for n in 0..MAX_LEARNED as u32 - 1 {
            assert!(bindings.may_learn(PortId(2)));
            bindings.insert(Ipv4Addr::from(0x0a00_0100 + n), learned(PortId(2)));
        }
        assert!(!bindings.may_learn(PortId(2)));
        bindings.remove_port(PortId(2));
        assert_eq!(bindings.get(address), None);
        let given = Binding {
            address_given: true,
            ..learned(PortId(2))
        };
        bindings.insert(address, given);
        assert!(!bindings.may_learn(PortId(2)), "its attachment said all");
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
