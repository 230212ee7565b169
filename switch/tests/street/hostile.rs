//! Any bytes at all: no panic, every frame accounted for, nothing lost.

use proptest::prelude::*;
use shunt_switch::config::Mode;

use crate::bench_node::*;

fn good_frames() -> Vec<Vec<u8>> {
    let mut one = Node::new(1, Mode::L3, 1);
    let mut frames = vec![udp_to(pod(1, 2), 60), udp_to(pod(2, 1), 60)];
    one.vxlan_to(2, false);
    one.send(1, &frames[1].clone());
    frames.extend(one.uplink.receive());
    one.finish();
    let mut one = Node::new(1, Mode::L3, 1);
    one.ipip_to(2);
    one.send(1, &frames[1].clone());
    frames.extend(one.uplink.receive());
    one.finish();
    assert_eq!(frames.len(), 4);
    frames
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_are_accounted_for(
        frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..200), any::<bool>()), 1..20),
        l2 in any::<bool>(),
    ) {
        let mut node = Node::new(2, if l2 { Mode::L2 } else { Mode::L3 }, 2);
        node.vxlan_to(1, false);
        for (frame, uplink) in &frames {
            if *uplink { node.send_uplink(frame) } else { node.send(1, frame) }
        }
        node.finish();
    }

    #[test]
    fn damaged_packets_are_accounted_for(
        which in 0usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        uplink in any::<bool>(),
        l2 in any::<bool>(),
    ) {
        let mut frame = good_frames().swap_remove(which);
        for (at, value) in &damage {
            let at = at.index(frame.len());
            frame[at] = *value;
        }
        frame.truncate(cut.index(frame.len()).max(1));
        let mut node = Node::new(2, if l2 { Mode::L2 } else { Mode::L3 }, 2);
        node.vxlan_to(1, false);
        if uplink { node.send_uplink(&frame) } else { node.send(1, &frame) }
        node.finish();
    }
}
