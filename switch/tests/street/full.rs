//! What has no room: too few frames for copies, too long a queue.

use shunt_api::MacAddr;
use shunt_switch::config::Mode;
use shunt_switch::stats::DropReason;

use crate::node::*;

/// A broadcast of pod 1.
fn broadcast(payload: usize) -> Vec<u8> {
    let everybody = MacAddr([0xff; 6]);
    udp(pod_mac(1), everybody, pod(1, 1), pod(1, 200), 64, payload)
}

#[test]
fn a_flood_without_frames_for_copies_reaches_whom_it_can() {
    let mut node = Node::with(1, Mode::L2, 7, |setup| setup.frames = 4);
    let sent = broadcast(100);
    for round in 1..=3 {
        node.send(1, &sent);
        let mut reached = 0;
        for pod in &node.pods {
            while let Some(got) = pod.receive() {
                assert!(got == sent);
                reached += 1;
            }
        }
        // The frame itself and three copies, of six targets.
        assert_eq!(reached, 4);
        assert_eq!(node.drops(DropReason::PoolEmpty), 2 * round);
        node.must_balance();
    }
    // A copy that fails half way through its chain gives back what it has.
    node.send(1, &broadcast(5000));
    assert!(node.drops(DropReason::PoolEmpty) > 6);
    node.finish();
}

#[test]
fn a_batch_longer_than_the_queue_is_cut_by_name() {
    const SENT: usize = 700;
    const QUEUE: usize = 512;
    let mut node = Node::with(1, Mode::L3, 2, |setup| {
        setup.batch = 1024;
        setup.frames = 2048;
    });
    for n in 0..SENT {
        node.pods[0].send(&udp_to(pod(1, 2), n));
    }
    node.settle();
    for n in 0..QUEUE {
        let got = node.pods[1].receive().expect("a frame");
        assert_eq!(got.len(), 42 + n, "in order, from the first");
    }
    assert_eq!(node.pods[1].receive(), None);
    assert_eq!(node.drops(DropReason::TxQueueFull), (SENT - QUEUE) as u64);
    // The queue is empty again.
    assert!(node.exchange(1, &udp_to(pod(1, 2), 9), 2).is_some());
    node.finish();
}
