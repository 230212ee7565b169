//! Frames that wait for a link-layer address.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;
use shunt_switch::street::Event;
use shunt_switch::tables::{Action, NextHop};

use crate::node::*;

#[test]
fn frames_wait_and_go_on_in_order_when_the_neighbour_is_found() {
    let mut node = Node::new(1, Mode::L3, 2);
    node.switch
        .set_next_hop(node.hops[1], NextHop::inert(Action::Wait));
    for payload in [10, 11] {
        node.send(1, &udp_to(pod(1, 2), payload));
    }
    assert_eq!(node.pods[1].receive(), None);
    assert_eq!(
        node.events(),
        [Event::Miss {
            address: pod(1, 2).into()
        }; 2]
    );
    assert_eq!(node.switch.counters().0.worker.held, 2);
    node.switch
        .set_next_hop(node.hops[1], Node::to_pod(node.ids[1], pod_mac(2)));
    let lengths: Vec<_> = std::iter::from_fn(|| node.pods[1].receive())
        .map(|frame| frame.len() - 42)
        .collect();
    assert_eq!(lengths, [10, 11]);
    node.finish();
}

#[test]
fn more_frames_than_a_batch_go_on_in_the_order_of_each_port() {
    let mut node = Node::with(1, Mode::L3, 3, |setup| {
        (setup.pending.per_neighbour, setup.pending.total) = (50, 50);
    });
    let wait = NextHop::inert(Action::Wait);
    node.switch.set_next_hop(node.hops[2], wait);
    for payload in 0..25 {
        for from in [1, 2] {
            let (mac, source) = (pod_mac(from), pod(1, from));
            let frame = udp(mac, GATEWAY_MAC, source, pod(1, 3), 64, payload);
            node.send(from, &frame);
        }
    }
    assert_eq!(node.switch.counters().0.worker.held, 50);
    let found = Node::to_pod(node.ids[2], pod_mac(3));
    node.switch.set_next_hop(node.hops[2], found);
    let mut next = [0, 0];
    while let Some(frame) = node.pods[2].receive() {
        let (source, _, _) = check_udp(&frame);
        let from = usize::from(source.octets()[3]) - 1;
        assert_eq!(frame.len() - 42, next[from], "from {source}");
        next[from] += 1;
    }
    assert_eq!(next, [25, 25]);
    node.finish();
}

#[test]
fn the_queues_are_bounded_per_neighbour_and_in_total() {
    let mut node = Node::new(1, Mode::L3, 2);
    let glean = node.hop(NextHop::inert(Action::Glean));
    node.route("10.50.0.0/16".parse::<Ipv4Net>().expect("a prefix"), glean);
    // Two for each host, three in all.
    for (host, fits) in [(1, true), (1, true), (1, false), (2, true), (3, false)] {
        let before = node.drops(DropReason::NeighbourQueueFull);
        node.send(1, &udp_to([10, 50, 0, host].into(), 10));
        let dropped = node.drops(DropReason::NeighbourQueueFull) - before;
        assert_eq!(dropped, u64::from(!fits), "host {host}");
    }
    assert!(node.events().contains(&Event::Miss {
        address: Ipv4Addr::new(10, 50, 0, 3).into()
    }));
    node.finish();
}

#[test]
fn nobody_waits_for_ever() {
    let mut node = Node::with(1, Mode::L3, 2, |setup| {
        setup.pending.timeout = Duration::from_millis(30);
    });
    node.switch
        .set_next_hop(node.hops[1], NextHop::inert(Action::Wait));
    node.send(1, &udp_to(pod(1, 2), 10));
    std::thread::sleep(Duration::from_millis(40));
    // News that does not concern it must not give it another turn.
    node.switch
        .set_next_hop(node.hops[1], NextHop::inert(Action::Wait));
    node.settle();
    assert_eq!(node.drops(DropReason::NeighbourTimeout), 1);
    node.finish();
}

#[test]
fn frames_for_a_connected_subnet_go_on_when_their_host_has_a_route() {
    let mut node = Node::new(1, Mode::L3, 2);
    let glean = node.hop(NextHop::inert(Action::Glean));
    node.route("10.50.0.0/16".parse::<Ipv4Net>().expect("a prefix"), glean);
    // The hop is there before the route names it, and no snapshot comes after.
    let found = node.hop(Node::to_pod(node.ids[1], pod_mac(7)));
    let (host, other) = (Ipv4Addr::new(10, 50, 0, 1), Ipv4Addr::new(10, 50, 0, 2));
    for (to, payload) in [(host, 10), (other, 20), (host, 11)] {
        node.send(1, &udp_to(to, payload));
    }
    node.switch.resume();
    assert_eq!(node.pods[1].receive(), None, "no news yet");

    node.route(Ipv4Net::from(host), found);
    node.switch.resume();
    for payload in [10, 11] {
        let got = node.pods[1].receive().expect("a frame that waited");
        assert_eq!(got.len(), 42 + payload);
        assert_eq!(got[..6], pod_mac(7).0);
        assert_eq!(check_udp(&got), (pod(1, 1), host, 63));
    }
    assert_eq!(node.pods[1].receive(), None, "{other} is still unknown");
    assert_eq!(node.switch.counters().0.worker.held, 1);
    // Nor does a route that is taken back meanwhile lose it without a name.
    let gone = node.hop(NextHop::inert(Action::Gone));
    node.route(Ipv4Net::from(other), gone);
    node.switch.resume();
    assert_eq!(node.drops(DropReason::NextHopGone), 1);
    node.finish();
}

#[test]
fn frames_outlive_the_port_they_came_from() {
    let mut node = Node::new(1, Mode::L3, 2);
    node.switch
        .set_next_hop(node.hops[1], NextHop::inert(Action::Wait));
    node.send(1, &udp_to(pod(1, 2), 10));
    let gone = node.ids[0];
    node.switch.remove_port(gone);
    node.switch
        .set_next_hop(node.hops[1], Node::to_pod(node.ids[1], pod_mac(2)));
    assert!(node.pods[1].receive().is_some());
    node.finish();
}

#[test]
fn frames_that_wait_at_the_end_are_not_lost() {
    let mut node = Node::new(1, Mode::L3, 2);
    node.switch
        .set_next_hop(node.hops[1], NextHop::inert(Action::Wait));
    node.send(1, &udp_to(pod(1, 2), 10));
    node.finish();
}

#[test]
fn what_becomes_of_frames_that_waited_is_counted_at_their_own_port() {
    let mut node = Node::new(1, Mode::L3, 3);
    let wait = NextHop::inert(Action::Wait);
    node.switch.set_next_hop(node.hops[2], wait);
    for from in [1, 2] {
        let (mac, source) = (pod_mac(from), pod(1, from));
        let frame = udp(mac, GATEWAY_MAC, source, pod(1, 3), 64, 10);
        node.send(from, &frame);
    }
    let blackhole = NextHop::inert(Action::Blackhole);
    node.switch.set_next_hop(node.hops[2], blackhole);
    let (snapshot, _) = node.switch.counters();
    for (id, dropped) in [(node.ids[0], 1), (node.ids[1], 1), (node.ids[2], 0)] {
        let mut ports = snapshot.ports.iter();
        let port = ports.find(|port| port.id == id).expect("a port");
        let drops = port.counters.drops[DropReason::BlackholeRoute as usize];
        assert_eq!(drops, dropped, "{id:?}");
    }
    node.finish();
}
