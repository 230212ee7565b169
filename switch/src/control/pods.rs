//! Which pod has which address, and asking when that is not known.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use shunt_api::MacAddr;
use shunt_encap::ethernet::{BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV6, EthernetRepr, HEADER_LEN};
use shunt_encap::ndp::{emit_solicitation, multicast_mac, solicited_node};
use shunt_encap::{ArpRepr, Error, Mac};

use crate::config::GatewayConfig;
use crate::tables::PortId;

/// Between two requests for the same address.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long an address that nobody answered for is still listed.
const REMEMBER: Duration = Duration::from_secs(10);
/// Addresses that nobody has answered for, remembered at most.
const MAX_UNANSWERED: usize = 4096;
/// Addresses learned from one port at most.
pub(crate) const MAX_LEARNED: usize = 64;
/// Bytes of an ARP packet (RFC 826).
const ARP_LEN: usize = shunt_encap::arp::PACKET_LEN;
/// Room for a request: a neighbour solicitation takes 72 bytes.
const MAX_REQUEST: usize = 128;
/// The shortest Ethernet frame without its frame check sequence (IEEE 802.3).
const MIN_FRAME: usize = 60;

/// What is known of a local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) port: PortId,
    pub(crate) mac: Option<MacAddr>,
    /// Given at the attachment: ARP and NDP do not move it to another port.
    pub(crate) address_given: bool,
    /// The MAC too was given: ARP and NDP do not change it.
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
    by_address: BTreeMap<IpAddr, Binding>,
    asked: BTreeMap<IpAddr, Asked>,
}

impl Bindings {
    pub(crate) fn get(&self, address: IpAddr) -> Option<&Binding> {
        self.by_address.get(&address)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Binding)> {
        self.by_address.iter()
    }

    pub(crate) fn insert(&mut self, address: IpAddr, binding: Binding) {
        if binding.mac.is_some() {
            self.asked.remove(&address);
        }
        self.by_address.insert(address, binding);
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
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
    pub(crate) fn of(&self, port: PortId) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_address
            .iter()
            .filter(move |(_, b)| b.port == port)
            .map(|(address, _)| *address)
    }

    /// How many addresses of a port were learned.
    pub(crate) fn learned(&self, port: PortId) -> usize {
        let bindings = self.by_address.values();
        bindings
            .filter(|binding| binding.port == port && !binding.address_given)
            .count()
    }

    /// The addresses learned behind a port with this MAC.
    pub(crate) fn learned_at(&self, mac: MacAddr, port: PortId) -> Vec<IpAddr> {
        let there = |b: &Binding| b.port == port && b.mac == Some(mac) && !b.address_given;
        self.by_address
            .iter()
            .filter(|(_, binding)| there(binding))
            .map(|(address, _)| *address)
            .collect()
    }

    /// A learned address is behind another port now.
    pub(crate) fn move_to(&mut self, address: IpAddr, port: PortId) {
        if let Some(binding) = self.by_address.get_mut(&address) {
            binding.port = port;
        }
    }

    /// Somebody wants to know until then who has `address`: [`Self::due`] will name it.
    pub(crate) fn want(&mut self, address: IpAddr, now: Instant, until: Instant) {
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
    pub(crate) fn due(&mut self, now: Instant, limit: usize) -> Vec<IpAddr> {
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
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.asked.keys().copied()
    }
}

/// The gateway's request for `target`, as a whole frame: by ARP (RFC 826), or by a neighbour
/// solicitation to the solicited-node group (RFC 4861, 7.2.2).
pub(crate) fn request(gateway: &GatewayConfig, target: IpAddr) -> Vec<u8> {
    let frame = match target {
        IpAddr::V4(target) => {
            let packet = ArpRepr::request(gateway.mac.0, gateway.address, target);
            frame(gateway, BROADCAST, ETHERTYPE_ARP, |out| {
                packet.emit(out)?;
                Ok(ARP_LEN)
            })
        }
        IpAddr::V6(target) => solicitation(gateway, target),
    };
    frame.unwrap_or_else(|error| {
        log::error!("a request for {target} cannot be written: {error}");
        Vec::new()
    })
}

fn solicitation(gateway: &GatewayConfig, target: Ipv6Addr) -> Result<Vec<u8>, Error> {
    let group = multicast_mac(solicited_node(target));
    frame(gateway, group, ETHERTYPE_IPV6, |out| {
        emit_solicitation(out, gateway.address6, target, gateway.mac.0)
    })
}

/// A frame from the gateway, no shorter than Ethernet allows; `emit` says how long its packet is.
fn frame(
    gateway: &GatewayConfig,
    dst: Mac,
    ethertype: u16,
    emit: impl FnOnce(&mut [u8]) -> Result<usize, Error>,
) -> Result<Vec<u8>, Error> {
    let mut frame = vec![0; HEADER_LEN + MAX_REQUEST];
    let (header, packet) = frame.split_at_mut(HEADER_LEN);
    EthernetRepr {
        dst,
        src: gateway.mac.0,
        ethertype,
    }
    .emit(header)?;
    let length = emit(packet)?;
    frame.truncate((HEADER_LEN + length).max(MIN_FRAME));
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    use shunt_encap::{ArpOperation, ArpPacket, Ipv6Packet};

    const GATEWAY: GatewayConfig = GatewayConfig {
        address: Ipv4Addr::new(169, 254, 1, 1),
        address6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        mac: MAC,
    };

    fn address(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

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
        let address = address(2);
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
            bindings.want(address(n), now, now + ASK_AGAIN * 9);
        }
        assert_eq!(bindings.due(now, 15).len(), 15);
        let late = address(99);
        bindings.want(late, now, now + ASK_AGAIN * 9);
        assert!(bindings.due(now + ASK_AGAIN, 15).contains(&late));
    }

    #[test]
    fn learned_addresses_are_found_by_their_station_and_counted() {
        let mut bindings = Bindings::default();
        let [v4, v6] = [address(2), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        bindings.insert(v6, learned(PortId(1)));
        bindings.insert(v4, learned(PortId(1)));
        let given = Binding {
            address_given: true,
            ..learned(PortId(1))
        };
        bindings.insert(address(3), given);
        assert_eq!(bindings.learned_at(MAC, PortId(1)), [v4, v6]);
        assert_eq!(bindings.learned(PortId(1)), 2, "given ones do not count");
        bindings.move_to(v4, PortId(2));
        assert_eq!(bindings.of(PortId(2)).collect::<Vec<_>>(), [v4]);
        assert_eq!(bindings.learned(PortId(1)), 1);
        bindings.remove_port(PortId(1));
        assert_eq!(bindings.get(v6), None);
        assert_eq!(bindings.iter().count(), 1);
    }

    #[test]
    fn a_request_for_ipv4_is_a_full_size_arp_frame() {
        let target = Ipv4Addr::new(10, 0, 0, 2);
        let frame = request(&GATEWAY, target.into());
        assert_eq!(frame.len(), MIN_FRAME);
        assert_eq!(frame[..6], BROADCAST);
        let packet = ArpPacket::new_checked(&frame[HEADER_LEN..]).expect("ARP");
        assert_eq!(packet.operation(), ArpOperation::Request);
        assert_eq!(packet.sender_protocol_addr(), GATEWAY.address);
        assert_eq!(packet.target_protocol_addr(), target);
    }

    #[test]
    fn a_request_for_ipv6_is_a_neighbour_solicitation() {
        let target: Ipv6Addr = "fd00:1::12:3456".parse().expect("an address");
        let frame = request(&GATEWAY, target.into());
        assert_eq!(frame.len(), HEADER_LEN + 72);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(frame[6..12], MAC.0);
        assert_eq!(frame[12..14], ETHERTYPE_IPV6.to_be_bytes());
        let packet = Ipv6Packet::new_checked(&frame[HEADER_LEN..]).expect("IPv6");
        assert_eq!((packet.src(), packet.hop_limit()), (GATEWAY.address6, 255));
        assert_eq!(packet.dst(), solicited_node(target));
        // Type 135, the target, and the option with the gateway's MAC.
        let icmp = &frame[HEADER_LEN + 40..];
        assert_eq!(icmp[0], 135);
        assert_eq!(icmp[8..24], target.octets());
        assert_eq!(icmp[24..26], [1, 1]);
        assert_eq!(icmp[26..32], MAC.0);
    }
}
