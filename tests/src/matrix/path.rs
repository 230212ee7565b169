//! The way that a packet should take, worked out from who sends it to whom.

use std::fmt;
use std::net::IpAddr;

use crate::trace::Carried;

/// Where a packet begins or ends, or is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A pod of this node.
    Pod(u8),
    /// The kernel of this node, and its processes.
    Kernel(u8),
    /// The host outside of the cluster.
    Outside,
}

/// Where a capture can see a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spot {
    /// On the wire, sent by this node.
    Wire(u8),
    /// On the wire, sent by the host outside.
    FromOutside,
    /// On this node's host port, from the switch to the kernel.
    Up(u8),
    /// On this node's host port, from the kernel to the switch.
    Down(u8),
}

/// A packet where a capture should see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leg {
    /// Where.
    pub spot: Spot,
    /// How it is carried there.
    pub carried: Carried,
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spot {
            Spot::Wire(node) => write!(f, "wire from node {node}, {}", self.carried)?,
            Spot::FromOutside => f.write_str("wire from outside")?,
            Spot::Up(node) => write!(f, "node {node} shunt0 up")?,
            Spot::Down(node) => write!(f, "node {node} shunt0 down")?,
        }
        write!(f, ": {} > {}", self.source, self.destination)
    }
}

/// From one place to the next with these addresses, which change at places only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The next place.
    pub to: Place,
    /// Its source on the way.
    pub source: IpAddr,
    /// Its destination on the way.
    pub destination: IpAddr,
    /// Whether the destination is a pod's address.
    pub to_pod: bool,
    /// Whether the source is a pod's address: what replies to the move goes to a pod.
    pub from_pod: bool,
}

/// What has the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Switch(u8),
    /// `service`: it came out of the host port, so its way to other nodes is back through it.
    Kernel {
        node: u8,
        service: bool,
    },
    Outside,
}

/// The legs of a packet that starts at `from` and makes these moves, where nodes carry what is
/// for each other's pods as `carried`.
///
/// Plain (direct) packets to a node's own address arrive at its kernel by the NIC; all others
/// from the wire pass the switch. What the node's own processes send to another node never
/// touches the switch.
pub fn legs(from: Place, moves: &[Move], carried: Carried) -> Vec<Leg> {
    let mut legs = Vec::new();
    let mut holder = match from {
        Place::Pod(node) => Holder::Switch(node),
        Place::Kernel(node) => Holder::Kernel {
            node,
            service: false,
        },
        Place::Outside => Holder::Outside,
    };
    for step in moves {
        // Each turn takes the packet from one holder to another, or to its place.
        loop {
            let leg = |spot, carried| Leg {
                spot,
                carried,
                source: step.source,
                destination: step.destination,
            };
            holder = match (holder, step.to) {
                (Holder::Switch(at), Place::Pod(node)) if at == node => break,
                (Holder::Kernel { node: at, .. }, Place::Kernel(node)) if at == node => break,
                (Holder::Outside, Place::Outside) => break,
                (Holder::Switch(at), Place::Kernel(node)) if at == node => {
                    legs.push(leg(Spot::Up(at), Carried::Plain));
                    Holder::Kernel {
                        node,
                        service: true,
                    }
                }
                (Holder::Switch(at), Place::Pod(node) | Place::Kernel(node)) => {
                    legs.push(leg(Spot::Wire(at), carried));
                    if carried != Carried::Plain || step.to_pod {
                        Holder::Switch(node)
                    } else {
                        Holder::Kernel {
                            node,
                            service: false,
                        }
                    }
                }
                (Holder::Switch(at), Place::Outside) => {
                    legs.push(leg(Spot::Up(at), Carried::Plain));
                    Holder::Kernel {
                        node: at,
                        service: true,
                    }
                }
                (Holder::Kernel { node, service }, to) => {
                    if step.to_pod || (service && to != Place::Outside) {
                        legs.push(leg(Spot::Down(node), Carried::Plain));
                        Holder::Switch(node)
                    } else {
                        legs.push(leg(Spot::Wire(node), Carried::Plain));
                        match to {
                            Place::Outside => Holder::Outside,
                            Place::Pod(node) | Place::Kernel(node) => Holder::Kernel {
                                node,
                                service: false,
                            },
                        }
                    }
                }
                (Holder::Outside, Place::Pod(node) | Place::Kernel(node)) => {
                    legs.push(leg(Spot::FromOutside, Carried::Plain));
                    Holder::Kernel {
                        node,
                        service: false,
                    }
                }
            };
        }
    }
    legs
}

/// The moves of the reply: the same places in the other order, the addresses changed over.
pub fn reply(from: Place, moves: &[Move]) -> (Place, Vec<Move>) {
    let places: Vec<Place> = std::iter::once(from)
        .chain(moves.iter().map(|step| step.to))
        .collect();
    let back = moves.iter().zip(&places).rev();
    let moves = back.map(|(step, to)| Move {
        to: *to,
        source: step.destination,
        destination: step.source,
        to_pod: step.from_pod,
        from_pod: step.to_pod,
    });
    (places.last().copied().unwrap_or(from), moves.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(from: Place, moves: &[Move], carried: Carried) -> Vec<String> {
        let legs = legs(from, moves, carried);
        legs.iter().map(ToString::to_string).collect()
    }

    fn step(
        to: Place,
        (source, from_pod): (&str, bool),
        (destination, to_pod): (&str, bool),
    ) -> Move {
        Move {
            to,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            to_pod,
            from_pod,
        }
    }

    /// A pod of node 1 asks a service whose endpoint is node 2 itself.
    #[test]
    fn a_service_on_another_node() {
        let (pod, node) = (("10.1.0.1", true), ("192.0.0.2", false));
        let moves = [
            step(Place::Kernel(1), pod, ("10.96.0.1", false)),
            step(Place::Kernel(2), pod, node),
        ];
        assert_eq!(
            text(Place::Pod(1), &moves, Carried::Vxlan),
            [
                "node 1 shunt0 up: 10.1.0.1 > 10.96.0.1",
                "node 1 shunt0 down: 10.1.0.1 > 192.0.0.2",
                "wire from node 1, vxlan: 10.1.0.1 > 192.0.0.2",
                "node 2 shunt0 up: 10.1.0.1 > 192.0.0.2",
            ]
        );
        let (from, back) = reply(Place::Pod(1), &moves);
        assert_eq!(from, Place::Kernel(2));
        assert_eq!(
            text(from, &back, Carried::Plain),
            [
                "node 2 shunt0 down: 192.0.0.2 > 10.1.0.1",
                "wire from node 2, plain: 192.0.0.2 > 10.1.0.1",
                "node 1 shunt0 up: 192.0.0.2 > 10.1.0.1",
                "node 1 shunt0 down: 10.96.0.1 > 10.1.0.1",
            ]
        );
    }

    #[test]
    fn nodes_talk_past_the_switch() {
        let moves = [step(
            Place::Kernel(2),
            ("192.0.0.1", false),
            ("192.0.0.2", false),
        )];
        assert_eq!(
            text(Place::Kernel(1), &moves, Carried::Vxlan),
            ["wire from node 1, plain: 192.0.0.1 > 192.0.0.2"]
        );
    }

    #[test]
    fn a_pod_goes_outside_through_its_node() {
        let moves = [
            step(Place::Kernel(1), ("10.1.0.1", true), ("203.0.0.1", false)),
            step(Place::Outside, ("192.0.0.1", false), ("203.0.0.1", false)),
        ];
        assert_eq!(
            text(Place::Pod(1), &moves, Carried::Ipip),
            [
                "node 1 shunt0 up: 10.1.0.1 > 203.0.0.1",
                "wire from node 1, plain: 192.0.0.1 > 203.0.0.1",
            ]
        );
        let (from, back) = reply(Place::Pod(1), &moves);
        assert_eq!(
            text(from, &back, Carried::Ipip),
            [
                "wire from outside: 203.0.0.1 > 192.0.0.1",
                "node 1 shunt0 down: 203.0.0.1 > 10.1.0.1",
            ]
        );
    }
}
