//! Everything that a node's traffic may be, once in each family and transport: who asks whom, by
//! which address, by whom the server must be asked, and which way the packets must take.

pub mod path;
mod run;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::family::Family;
use crate::netns::Netns;
use crate::node::Node;
use crate::outside::Outside;
use crate::pod::Pod;
use crate::probe::Transport;
use crate::services::Service;
use path::{Move, Place};

pub use run::{Table, run};
pub use watch::Watch;

/// Two nodes, the first with two pods, the second with one, and a host outside.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// Node 1 and node 2.
    pub nodes: [&'a Node; 2],
    /// a1 and a2 on node 1, b1 on node 2.
    pub pods: [&'a Pod; 3],
    /// The host outside.
    pub outside: &'a Outside,
}

impl<'a> World<'a> {
    /// The parts of a cluster made of [`crate::cluster::Spec::whole`].
    ///
    /// # Errors
    /// When it has fewer nodes or pods, or no host outside.
    pub fn of(cluster: &'a Cluster) -> Result<Self> {
        let [one, two, ..] = &cluster.sites[..] else {
            anyhow::bail!("the matrix takes two nodes");
        };
        let ([a1, a2, ..], [b1, ..]) = (&one.pods[..], &two.pods[..]) else {
            anyhow::bail!("the matrix takes two pods, and one");
        };
        Ok(Self {
            nodes: [&one.node, &two.node],
            pods: [a1, a2, b1],
            outside: cluster.outside.as_ref().context("no host outside")?,
        })
    }

    fn host(&self, who: Who, family: Family) -> Result<Host<'a>> {
        let pod = |number: usize, node: u8| -> Result<Host<'a>> {
            let pod: &'a Pod = self.pods.get(number).context("pod")?;
            Ok(Host {
                netns: &pod.netns,
                place: Place::Pod(node),
                address: pod.address_of(family)?,
            })
        };
        let node = |number: u8| -> Result<Host<'a>> {
            let index = usize::from(number).saturating_sub(1);
            let node: &'a Node = self.nodes.get(index).context("node")?;
            Ok(Host {
                netns: &node.netns,
                place: Place::Kernel(number),
                address: node.underlay(family),
            })
        };
        match who {
            Who::A1 => pod(0, 1),
            Who::A2 => pod(1, 1),
            Who::B1 => pod(2, 2),
            Who::Node1 => node(1),
            Who::Node2 => node(2),
            Who::Outside => Ok(Host {
                netns: &self.outside.netns,
                place: Place::Outside,
                address: Outside::address(family),
            }),
        }
    }
}

/// Everyone who asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    A1,
    A2,
    B1,
    Node1,
    Node2,
    Outside,
}

#[derive(Debug, Clone, Copy)]
struct Host<'a> {
    netns: &'a Netns,
    place: Place,
    address: IpAddr,
}

impl Host<'_> {
    fn is_pod(&self) -> bool {
        matches!(self.place, Place::Pod(_))
    }
}

/// By which address the server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Its own.
    Own,
    /// A service's ClusterIP.
    ClusterIp,
    /// A service's port on node 1's address.
    NodePort1,
    /// A service's port on node 2's address.
    NodePort2,
    /// A service's port on node 1's address, with `externalTrafficPolicy: Local`.
    LocalNodePort1,
}

/// A row: what it is called, client, server, and by which address.
type Row = (&'static str, Who, Who, By);

const ROWS: [Row; 21] = [
    ("pod, same node", Who::A1, Who::A2, By::Own),
    ("pod, other node", Who::A1, Who::B1, By::Own),
    ("pod -> own node", Who::A1, Who::Node1, By::Own),
    ("pod -> other node", Who::A1, Who::Node2, By::Own),
    ("node -> local pod", Who::Node1, Who::A1, By::Own),
    ("node -> remote pod", Who::Node1, Who::B1, By::Own),
    ("node -> other node", Who::Node1, Who::Node2, By::Own),
    ("pod -> outside", Who::A1, Who::Outside, By::Own),
    ("ClusterIP: same node", Who::A1, Who::A2, By::ClusterIp),
    ("ClusterIP: other node", Who::A1, Who::B1, By::ClusterIp),
    ("ClusterIP: itself", Who::A1, Who::A1, By::ClusterIp),
    ("ClusterIP: own node", Who::A1, Who::Node1, By::ClusterIp),
    (
        "ClusterIP: the other node itself",
        Who::A1,
        Who::Node2,
        By::ClusterIp,
    ),
    ("ClusterIP: outside", Who::A1, Who::Outside, By::ClusterIp),
    (
        "ClusterIP from the node: local pod",
        Who::Node1,
        Who::A1,
        By::ClusterIp,
    ),
    (
        "ClusterIP from the node: remote pod",
        Who::Node1,
        Who::B1,
        By::ClusterIp,
    ),
    (
        "NodePort from outside: local pod",
        Who::Outside,
        Who::A1,
        By::NodePort1,
    ),
    (
        "NodePort from outside: remote pod",
        Who::Outside,
        Who::B1,
        By::NodePort1,
    ),
    (
        "NodePort from outside, policy Local",
        Who::Outside,
        Who::A1,
        By::LocalNodePort1,
    ),
    (
        "NodePort from a pod, own node",
        Who::A1,
        Who::B1,
        By::NodePort1,
    ),
    (
        "NodePort from a pod, other node",
        Who::A1,
        Who::A2,
        By::NodePort2,
    ),
];

/// A row in one family and transport.
#[derive(Debug)]
struct Cell<'a> {
    row: usize,
    family: Family,
    transport: Transport,
    client: Host<'a>,
    server: Host<'a>,
    /// Where the server listens: a port that is this cell's alone.
    listen: SocketAddr,
    /// Whom the client asks.
    target: SocketAddr,
    /// The service behind the target, if it is one.
    service: Option<Service>,
    /// The node whose rules translate, from 0.
    translator: Option<usize>,
    /// Whether kube-proxy's rules give it that node's address.
    masqueraded: bool,
    /// The client's address as the server must see it.
    seen: IpAddr,
    moves: Vec<Move>,
}

impl<'a> Cell<'a> {
    fn new(world: &World<'a>, row: usize, family: Family, transport: Transport) -> Result<Self> {
        let (_, client, server, by) = *ROWS.get(row).context("row")?;
        let itself = client == server;
        let (client, server) = (world.host(client, family)?, world.host(server, family)?);
        // Ports of which no other cell makes use, so that no closed connection is in the way.
        let number = u16::try_from(row)? * 4
            + u16::from(family == Family::V6) * 2
            + u16::from(transport == Transport::Udp);
        let (port, node_port) = (20_000 + number, 30_000 + number);
        let listen = SocketAddr::new(server.address, port);
        let at = match client.place {
            Place::Pod(node) | Place::Kernel(node) => node,
            Place::Outside => 1,
        };
        let (target, translator) = match by {
            By::Own => (listen, None),
            By::ClusterIp => (SocketAddr::new(cluster_ip(family, row)?, 80), Some(at)),
            By::NodePort1 | By::LocalNodePort1 => {
                let node = world.host(Who::Node1, family)?;
                (SocketAddr::new(node.address, node_port), Some(1))
            }
            By::NodePort2 => {
                let node = world.host(Who::Node2, family)?;
                (SocketAddr::new(node.address, node_port), Some(2))
            }
        };
        let from_node = matches!(client.place, Place::Kernel(_));
        let masqueraded = match by {
            By::Own | By::LocalNodePort1 => false,
            By::ClusterIp => itself || from_node,
            By::NodePort1 | By::NodePort2 => true,
        };
        // Shunt masquerades what pods send outside, by whichever address they ask.
        let outwards = client.is_pod() && server.place == Place::Outside;
        let seen = if masqueraded || outwards {
            let node = if translator == Some(2) {
                Who::Node2
            } else {
                Who::Node1
            };
            world.host(node, family)?.address
        } else {
            client.address
        };
        let last = Move {
            to: server.place,
            source: seen,
            destination: server.address,
            to_pod: server.is_pod(),
            from_pod: client.is_pod() && seen == client.address,
        };
        let kernel = match translator {
            // A process of the node asks: its packets are translated before they are anywhere.
            Some(_) if from_node => None,
            Some(node) => Some(node),
            None => outwards.then_some(at),
        };
        let first = kernel.map(|node| Move {
            to: Place::Kernel(node),
            source: client.address,
            destination: target.ip(),
            to_pod: false,
            from_pod: client.is_pod(),
        });
        let service = translator.map(|_| Service {
            name: format!("s{number}"),
            transport,
            address: match by {
                By::ClusterIp => target,
                _ => SocketAddr::new(cluster_ip(family, row).unwrap_or(target.ip()), 80),
            },
            node_port: if by == By::ClusterIp { 0 } else { node_port },
            local: by == By::LocalNodePort1,
            endpoints: vec![listen],
        });
        Ok(Self {
            row,
            family,
            transport,
            client,
            server,
            listen,
            target,
            service,
            translator: translator.map(|node| usize::from(node).saturating_sub(1)),
            masqueraded,
            seen,
            moves: first.into_iter().chain([last]).collect(),
        })
    }

    fn name(&self) -> String {
        let row = ROWS.get(self.row).map_or("", |row| row.0);
        format!("{row}, {} {}", self.family, self.transport)
    }
}

/// The ClusterIP of a row's services.
fn cluster_ip(family: Family, row: usize) -> Result<IpAddr> {
    let number = u8::try_from(row + 1)?;
    Ok(match family {
        Family::V4 => Ipv4Addr::new(10, 96, 0, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number.into()).into(),
    })
}

/// Whether an address is a service's.
fn is_cluster_ip(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets().starts_with(&[10, 96]),
        IpAddr::V6(v6) => v6.segments().starts_with(&[0xfd00, 0x10, 0x96]),
    }
}

/// The four cells of every row.
fn cells<'a>(world: &World<'a>) -> Result<Vec<Cell<'a>>> {
    let mut cells = Vec::new();
    for row in 0..ROWS.len() {
        for family in Family::ALL {
            for transport in Transport::ALL {
                cells.push(Cell::new(world, row, family, transport)?);
            }
        }
    }
    Ok(cells)
}
