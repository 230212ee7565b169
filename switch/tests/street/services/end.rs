//! How recorded connections end, and what they outlive.

use super::*;

#[test]
fn connections_end() {
    let state = |node: &Node| {
        let rows = node.switch.flows().list(node.switch.clock().now());
        let row = rows.into_iter().find(|row| row.key.source_port != 0);
        row.map(|row| row.state)
    };
    let last: [&[(bool, u8)]; 2] = [
        &[(true, FIN | ACK), (false, FIN | ACK)],
        &[(false, RST | ACK)],
    ];
    for family in FAMILIES {
        let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
        for end in last {
            let mut node = joined(Mode::L3);
            let reply = tcp(two, one, back(PORTS), SYN | ACK);
            from_host(&mut node, &tcp(one, two, PORTS, SYN), "pod 2");
            assert_eq!(state(&node), Some(FlowState::Opening));
            from_pod(&mut node, 2, &reply, "host");
            from_host(&mut node, &tcp(one, two, PORTS, ACK), "pod 2");
            assert_eq!(state(&node), Some(FlowState::Established));
            for (forward, flags) in end {
                if *forward {
                    from_host(&mut node, &tcp(one, two, PORTS, *flags), "pod 2");
                } else {
                    let packet = tcp(two, one, back(PORTS), *flags);
                    from_pod(&mut node, 2, &packet, "host");
                }
            }
            assert_eq!(state(&node), Some(FlowState::Closing));
            assert_eq!(node.switch.flows().age(100), 0);
            assert_eq!(node.switch.flows().age(1000), 2);
            assert!(node.switch.flows().is_empty());
            from_pod(&mut node, 2, &reply, "pod 1");
            node.finish();
        }
    }
}

#[test]
fn what_is_idle_is_forgotten_and_packets_keep_it() {
    let (one, two) = (pod_ip(V4, 1, 1), pod_ip(V4, 1, 2));
    let mut node = joined(Mode::L3);
    let reply = udp_ports(two, one, back(PORTS), 20);
    from_host(&mut node, &udp_ports(one, two, PORTS, 20), "pod 2");
    for second in [150, 300, 450] {
        node.switch.clock().set(second);
        assert_eq!(node.switch.flows().age(second), 0);
        from_pod(&mut node, 2, &reply, "host");
    }
    assert_eq!(node.switch.flows().age(450 + 180), 2);
    from_pod(&mut node, 2, &reply, "pod 1");
    node.finish();
}

#[test]
fn errors_about_a_connection_go_by_the_node() {
    for family in FAMILIES {
        let (one, two) = (pod_ip(family, 1, 1), pod_ip(family, 1, 2));
        let mut node = joined(Mode::L3);
        let sent = udp_ports(one, two, PORTS, 20);
        from_host(&mut node, &sent, "pod 2");
        let unreachable = if family == V4 { (3, 3) } else { (1, 4) };
        let error = |kind, quoted: &[u8]| {
            let (protocol, message) = icmp(two, one, kind, [0; 4], quoted);
            ip(two, one, 64, protocol, &message)
        };
        from_pod(&mut node, 2, &error(unreachable, &sent), "host");
        // About something else, or no error at all.
        let other = udp_ports(one, two, (40001, 8080), 20);
        from_pod(&mut node, 2, &error(unreachable, &other), "pod 1");
        let turned = udp_ports(two, one, back(PORTS), 20);
        from_pod(&mut node, 2, &error(unreachable, &turned), "pod 1");
        let reply = if family == V4 { (0, 0) } else { (129, 0) };
        from_pod(&mut node, 2, &error(reply, &sent), "pod 1");
        // The switch's own, which the node's stack translates: from the endpoint.
        let packet = {
            let bytes = datagram(one, two, PORTS, b"late");
            ip(one, two, 1, UDP, &bytes)
        };
        node.send_host(&by_host(&packet));
        let heard = complaint(&node.host.receive().expect("an error"));
        assert_eq!((heard.from, heard.to), (two, one));
        assert_eq!(heard.quoted, packet);
        node.finish();
    }
}
