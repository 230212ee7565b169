//! Changes of the kernel's links, neighbours, routes and addresses as they happen.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::Socket;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use super::messages::{Message, messages};
use super::{DATAGRAM_MAX, Link, Neighbour, NetlinkError, open_socket, receive_datagram};

/// What the kernel may queue for the monitor, in bytes, before it drops.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link is new or changed.
    LinkChanged(Link),
    /// A link was deleted or moved to another network namespace.
    LinkGone {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// A neighbour is new or changed.
    NeighbourChanged(Neighbour),
    /// A neighbour was deleted.
    NeighbourGone {
        /// The link's index.
        ifindex: u32,
        /// Its address.
        address: IpAddr,
    },
    /// Routes were added or deleted.
    RoutesChanged,
    /// Addresses were added or deleted.
    AddressesChanged,
}

/// A socket that hears of changes, in the network namespace of the thread that opened it.
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Opens the socket and subscribes; it never blocks.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = subscribe().map_err(NetlinkError::Open)?;
        Ok(Self {
            socket,
            buffer: vec![0; DATAGRAM_MAX],
        })
    }

    /// Appends all that happened since the last call to `events`, in the kernel's order;
    /// [`Event::RoutesChanged`] and [`Event::AddressesChanged`] at most once each. True when
    /// events were lost (ENOBUFS): what is mirrored has to be dumped again.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`] when the socket fails otherwise.
    pub fn read(&mut self, events: &mut Vec<Event>) -> Result<bool, NetlinkError> {
        let mut lost = false;
        let (mut routes, mut addresses) = (false, false);
        loop {
            let length = match receive_datagram(&self.socket, &mut self.buffer) {
                Ok(Some(length)) => length,
                Ok(None) => {
                    lost = true;
                    continue;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(lost),
                    Some(libc::EINTR) => continue,
                    Some(libc::ENOBUFS) => {
                        lost = true;
                        continue;
                    }
                    _ => {
                        let operation = "listening to rtnetlink".to_owned();
                        return Err(NetlinkError::Socket {
                            operation,
                            source: error,
                        });
                    }
                },
            };
            for event in messages(&self.buffer[..length]).filter_map(|m| event(&m)) {
                let repeated = match event {
                    Event::RoutesChanged => std::mem::replace(&mut routes, true),
                    Event::AddressesChanged => std::mem::replace(&mut addresses, true),
                    _ => false,
                };
                if !repeated {
                    events.push(event);
                }
            }
        }
    }
}

fn subscribe() -> io::Result<Socket> {
    let socket = open_socket()?;
    // More than `net.core.rmem_max` takes CAP_NET_ADMIN; less costs only more dumps.
    if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        let _ = set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    }
    socket.set_non_blocking(true)?;
    for group in [
        libc::RTNLGRP_LINK,
        libc::RTNLGRP_NEIGH,
        libc::RTNLGRP_IPV4_ROUTE,
        libc::RTNLGRP_IPV4_IFADDR,
        libc::RTNLGRP_IPV6_ROUTE,
        libc::RTNLGRP_IPV6_IFADDR,
    ] {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

fn event(message: &Message<'_>) -> Option<Event> {
    match message.kind {
        libc::RTM_NEWLINK => Link::parse(message).map(Event::LinkChanged),
        libc::RTM_DELLINK => Link::parse(message).map(|link| Event::LinkGone {
            index: link.index,
            name: link.name,
        }),
        libc::RTM_NEWNEIGH => Neighbour::parse(message).map(Event::NeighbourChanged),
        libc::RTM_DELNEIGH => Neighbour::parse(message).map(|gone| Event::NeighbourGone {
            ifindex: gone.ifindex,
            address: gone.address,
        }),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Some(Event::RoutesChanged),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Event::AddressesChanged),
        _ => None,
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, poll};
    use shunt_api::MacAddr;

    use super::super::{NeighbourState, Netlink};
    use super::*;
    use crate::sys::testing::TestNetns;

    fn read(monitor: &mut Monitor) -> Vec<Event> {
        let mut events = Vec::new();
        assert!(!monitor.read(&mut events).unwrap(), "events were lost");
        events
    }

    /// Reads until `wanted`, at most a few seconds.
    fn wait_for(monitor: &mut Monitor, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let deadline = Instant::now() + Duration::from_secs(8);
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            let timeout = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            };
            let mut fds = [PollFd::new(&*monitor, PollFlags::IN)];
            poll(&mut fds, Some(&timeout)).unwrap();
            let events = read(monitor);
            if let Some(event) = events.iter().find(|event| wanted(event)) {
                return event.clone();
            }
            seen.extend(events);
        }
        panic!("the event did not come, but {seen:?}");
    }

    #[test]
    fn links_come_change_and_go() {
        let netns = TestNetns::new();
        let mut monitor = netns.run(Monitor::open).unwrap();
        netns.link("d0", "");
        let Event::LinkChanged(link) = wait_for(
            &mut monitor,
            |e| matches!(e, Event::LinkChanged(l) if l.name == "d0"),
        ) else {
            unreachable!()
        };
        assert!(!link.up);
        assert_eq!(link.kind.as_deref(), Some("veth"));
        netns.ip("link set d0 up mtu 1300");
        wait_for(
            &mut monitor,
            |e| matches!(e, Event::LinkChanged(l) if l.index == link.index && l.up && l.mtu == 1300),
        );
        netns.ip("link del d0");
        let gone = Event::LinkGone {
            index: link.index,
            name: "d0".to_owned(),
        };
        wait_for(&mut monitor, |e| *e == gone);
        assert_eq!(read(&mut monitor), []);
    }

    #[test]
    fn leaving_a_bridge_is_not_going_away() {
        let netns = TestNetns::new();
        netns.ip("link add br0 type bridge");
        netns.link("d0", "");
        let mut monitor = netns.run(Monitor::open).unwrap();
        netns.ip("link set d0 master br0");
        netns.ip("link set d0 nomaster");
        netns.ip("link set d0 mtu 1000");
        let events = read(&mut monitor);
        assert!(
            events
                .iter()
                .any(|e| matches!(e, Event::LinkChanged(l) if l.mtu == 1000))
        );
        assert!(
            events.iter().all(|e| matches!(e, Event::LinkChanged(_))),
            "also no forwarding entries as neighbours: {events:?}"
        );
    }

    #[test]
    fn neighbours_come_change_and_go() {
        let (a, _b) = TestNetns::veth_pair();
        let mut netlink = a.run(Netlink::open).unwrap();
        let ifindex = netlink.link("v0").unwrap().unwrap().index;
        let mut monitor = a.run(Monitor::open).unwrap();
        let address: IpAddr = "10.9.0.2".parse().unwrap();
        let changed = |mac, state| {
            Event::NeighbourChanged(Neighbour {
                ifindex,
                address,
                mac: Some(MacAddr([2, 0, 0, 0, 0, mac])),
                state,
            })
        };

        netlink.resolve(ifindex, address).unwrap();
        wait_for(&mut monitor, |e| {
            *e == changed(2, NeighbourState::Reachable)
        });
        a.ip("neigh replace 10.9.0.2 lladdr 02:00:00:00:00:09 dev v0 nud permanent");
        wait_for(&mut monitor, |e| {
            *e == changed(9, NeighbourState::Permanent)
        });
        a.ip("neigh del 10.9.0.2 dev v0");
        let gone = |e: &Event| match e {
            Event::NeighbourGone {
                ifindex: i,
                address: a,
            } => (*i, *a) == (ifindex, address),
            Event::NeighbourChanged(n) => n.address == address && !n.usable(),
            _ => false,
        };
        wait_for(&mut monitor, gone);
    }

    #[test]
    fn a_neighbour_that_moves_is_told() {
        let (a, b) = TestNetns::veth_pair();
        let mut netlink = a.run(Netlink::open).unwrap();
        let ifindex = netlink.link("v0").unwrap().unwrap().index;
        let mut monitor = a.run(Monitor::open).unwrap();
        netlink
            .resolve(ifindex, "10.9.0.2".parse().unwrap())
            .unwrap();
        wait_for(
            &mut monitor,
            |e| matches!(e, Event::NeighbourChanged(n) if n.state == NeighbourState::Reachable),
        );
        a.command("sysctl", &["-qw", "net.ipv4.neigh.v0.locktime=0"]);
        b.command("sysctl", &["-qw", "net.ipv4.conf.v1.arp_notify=1"]);
        b.ip("link set v1 address 02:00:00:00:00:55");
        wait_for(
            &mut monitor,
            |e| matches!(e, Event::NeighbourChanged(n) if n.mac == Some(MacAddr([2, 0, 0, 0, 0, 0x55]))),
        );
    }

    #[test]
    fn routes_and_addresses_are_told_once_per_read() {
        let netns = TestNetns::new();
        netns.link("d0", "");
        netns.ip("link set d0 up");
        let mut monitor = netns.run(Monitor::open).unwrap();
        netns.ip("addr add 10.1.0.1/24 dev d0");
        netns.ip("addr add 10.1.0.2/24 dev d0");
        let events = read(&mut monitor);
        for wanted in [Event::AddressesChanged, Event::RoutesChanged] {
            assert_eq!(
                events.iter().filter(|e| **e == wanted).count(),
                1,
                "{events:?}"
            );
        }
        netns.ip("route add 10.2.0.0/16 via 10.1.0.9");
        assert_eq!(read(&mut monitor), [Event::RoutesChanged]);
        netns.ip("route del 10.2.0.0/16");
        assert_eq!(read(&mut monitor), [Event::RoutesChanged]);
        netns.ip("addr del 10.1.0.2/24 dev d0");
        assert!(read(&mut monitor).contains(&Event::AddressesChanged));
        assert_eq!(read(&mut monitor), []);
    }

    #[test]
    fn those_of_ipv6_are_told_too() {
        let netns = TestNetns::new();
        netns.link("d0", "");
        netns.command("sysctl", &["-qw", "net.ipv6.conf.d0.disable_ipv6=0"]);
        netns.ip("link set d0 up");
        let mut monitor = netns.run(Monitor::open).unwrap();
        netns.ip("addr add fd09::1/64 dev d0 nodad");
        wait_for(&mut monitor, |e| *e == Event::AddressesChanged);
        netns.ip("route add fd20::/64 via fd09::2");
        wait_for(&mut monitor, |e| *e == Event::RoutesChanged);
    }

    #[test]
    fn lost_events_are_told() {
        let netns = TestNetns::new();
        let mut monitor = netns.run(Monitor::open).unwrap();
        // The kernel's minimum: a few messages fill it.
        set_socket_recv_buffer_size(&monitor.socket, 1).unwrap();
        for n in 0..16 {
            netns.link(&format!("d{n}"), "");
        }
        let mut events = Vec::new();
        assert!(monitor.read(&mut events).unwrap());
        assert!(events.len() < 16);
        events.clear();
        set_socket_recv_buffer_size(&monitor.socket, 1 << 20).unwrap();
        netns.ip("link del d0");
        assert!(!monitor.read(&mut events).unwrap(), "told once");
        assert!(!events.is_empty());
    }

    #[test]
    fn any_bytes_are_taken() {
        // Real messages, then each byte of them changed to each of a few values.
        let netns = TestNetns::new();
        let monitor = netns.run(Monitor::open).unwrap();
        netns.link("d0", "address 02:00:00:00:00:07");
        netns.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev d0 nud permanent");
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut whole = 0;
        while let Ok(Some(length)) = receive_datagram(&monitor.socket, &mut buffer) {
            let real = buffer[..length].to_vec();
            let understood = |bytes: &[u8]| messages(bytes).filter_map(|m| event(&m)).count();
            whole += understood(&real);
            for at in 0..real.len() {
                let mut damaged = real.clone();
                for value in [0, 1, 3, 4, 0x7f, 0xff] {
                    damaged[at] = value;
                    assert!(understood(&damaged) <= damaged.len() / 16);
                }
                assert!(understood(&real[..at]) <= understood(&real));
            }
        }
        assert!(whole >= 2, "a link and a neighbour");
    }
}
