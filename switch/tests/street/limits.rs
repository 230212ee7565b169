//! How much a pod may send and receive. Time is real here, so bounds are generous.

use std::time::{Duration, Instant};

use shunt_api::RateLimit;
use shunt_switch::config::Mode;
use shunt_switch::port::{MemoryPort, Port};
use shunt_switch::stats::DropReason;
use shunt_switch::tables::{NextHop, Role};
use shunt_switch::worker::Limits;

use crate::node::*;

/// 8 Mbit/s: a byte in a microsecond.
const RATE: u64 = 8_000_000;
/// Bytes that may pass at once.
const BURST: u64 = 20_000;
/// Bytes of each frame here.
const FRAME: u64 = 1000;

const LIMIT: Option<RateLimit> = Some(RateLimit {
    rate: RATE,
    burst: BURST * 8,
});

/// Two pods without limits, and pod 3 with them.
fn limited(limits: Limits) -> Node {
    let mut node = Node::with(1, Mode::L3, 2, |setup| setup.frames = 1024);
    let (port, wire) = MemoryPort::wire();
    let id = node
        .switch
        .add_port_with(Port::Memory(port), Role::Pod, 9000, true, limits);
    let hop: NextHop = Node::to_pod(id, pod_mac(3));
    let hop = node.hop(hop);
    node.route(pod_ip(V4, 1, 3), hop);
    node.pods.push(wire);
    node.ids.push(id);
    node
}

/// A frame of [`FRAME`] bytes.
fn sized(from: u8, to: u8) -> Vec<u8> {
    let (source, destination) = (pod_ip(V4, 1, from), pod_ip(V4, 1, to));
    let frame = routed(from, &udp_ip(source, destination, 64, FRAME as usize - 42));
    assert_eq!(frame.len() as u64, FRAME);
    frame
}

fn received(node: &Node, n: usize) -> u64 {
    std::iter::from_fn(|| node.pods[n - 1].receive()).count() as u64
}

/// What may have passed, in frames, in so much time.
fn most(since: Instant) -> u64 {
    let bytes = RATE / 8 * since.elapsed().as_micros() as u64 / 1_000_000;
    (BURST + bytes) / FRAME
}

#[test]
fn a_pod_receives_no_more_than_it_may_and_the_rest_is_dropped_by_name() {
    let mut node = limited(Limits {
        ingress: LIMIT,
        egress: None,
    });
    let begin = Instant::now();
    for _ in 0..200 {
        node.send(1, &sized(1, 3));
    }
    let at_once = received(&node, 3);
    let bound = most(begin);
    assert!(
        (BURST / FRAME..=bound).contains(&at_once),
        "{at_once} of {bound}"
    );
    let dropped = node.drops(DropReason::RateLimit);
    let held = node.switch.counters().0.worker.held;
    assert!(held > 0 && dropped > 0, "{held} held, {dropped} dropped");
    assert_eq!(node.drop_names(), ["rate_limit"]);
    assert_eq!(at_once + held + dropped, 200);
    node.must_balance();
    // What waits goes out in time, and nothing more is dropped.
    let mut late = 0;
    while late < held {
        assert!(begin.elapsed() < Duration::from_secs(5), "{late} of {held}");
        node.settle();
        late += received(&node, 3);
        assert!(at_once + late <= most(begin));
    }
    assert_eq!(late, held);
    assert_eq!(node.drops(DropReason::RateLimit), dropped);
    node.finish();
}

#[test]
fn over_time_a_pod_receives_what_it_may() {
    let mut node = limited(Limits {
        ingress: LIMIT,
        egress: None,
    });
    let (begin, mut got) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(200) {
        node.send(1, &sized(1, 3));
        got += received(&node, 3);
        // Others are not held up.
        assert!(node.exchange(1, &sized(1, 2), 2).is_some());
        std::thread::sleep(Duration::from_micros(300));
    }
    let bound = most(begin);
    assert!(got <= bound, "{got} of {bound}");
    assert!(got >= bound / 2, "{got} of {bound}");
    node.finish();
}

#[test]
fn a_pod_sends_no_more_than_it_may_and_the_rest_stays_unread() {
    let mut node = limited(Limits {
        ingress: None,
        egress: LIMIT,
    });
    const SENT: u64 = 100;
    let begin = Instant::now();
    for _ in 0..SENT {
        node.pods[2].send(&sized(3, 1));
    }
    node.settle();
    let at_once = received(&node, 1);
    // A batch of eight may be started with what is left.
    let bound = most(begin) + 8;
    assert!(
        (BURST / FRAME..=bound).contains(&at_once),
        "{at_once} of {bound}"
    );
    assert!(at_once < SENT);
    let total = node.switch.counters().1;
    assert_eq!((total.rx_packets, total.dropped()), (at_once, 0));
    // Other pods send meanwhile.
    assert!(node.exchange(2, &sized(2, 1), 1).is_some());
    let (mut got, late) = (at_once, Duration::from_secs(5));
    while got < SENT {
        assert!(begin.elapsed() < late, "{got} of {SENT}");
        node.settle();
        got += received(&node, 1);
        assert!(got <= most(begin) + 8);
    }
    assert_eq!(node.drop_names(), Vec::<&str>::new());
    node.finish();
}

#[test]
fn frames_that_wait_for_their_turn_at_the_end_are_not_lost() {
    let mut node = limited(Limits {
        ingress: LIMIT,
        egress: LIMIT,
    });
    for _ in 0..60 {
        node.send(1, &sized(1, 3));
        node.pods[2].send(&sized(3, 1));
    }
    assert!(node.switch.counters().0.worker.held > 0);
    node.finish();
}

#[test]
fn without_limits_everything_passes_at_once() {
    let mut node = limited(Limits::default());
    for _ in 0..200 {
        node.send(1, &sized(1, 3));
        node.send(3, &sized(3, 1));
    }
    assert_eq!((received(&node, 3), received(&node, 1)), (200, 200));
    node.finish();
}
