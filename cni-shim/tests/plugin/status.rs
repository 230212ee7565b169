//! STATUS: 0, 50 or 51.

use super::harness::{AT_ONCE, Node, Say};

#[test]
fn a_node_that_is_ready_is_silent() {
    let node = Node::new();
    node.call("STATUS").run().is_silent();
    assert_eq!(node.calls(), ["daemon readiness", "ipam STATUS c1"]);
}

#[test]
fn it_needs_nothing_of_a_container() {
    let node = Node::new();
    let call = node
        .call("STATUS")
        .with("CNI_CONTAINERID", "")
        .without("CNI_NETNS");
    call.without("CNI_IFNAME")
        .without("CNI_ARGS")
        .without("CNI_PATH")
        .run()
        .is_silent();
    assert_eq!(node.calls(), ["daemon readiness"]);
}

#[test]
fn without_a_daemon_it_is_51() {
    let node = Node::without_daemon();
    node.call("STATUS")
        .run()
        .fails(51, "cannot reach the daemon");
}

#[test]
fn with_a_hung_daemon_it_is_51_within_a_second() {
    let node = Node::new();
    node.daemon().always_says(&Say::Silence);
    let answer = node.call("STATUS").run();
    answer.fails(51, "no answer from the daemon");
    assert!(answer.took < AT_ONCE, "{:?}", answer.took);
}

#[test]
fn a_daemon_that_cannot_attach_is_50() {
    let node = Node::new();
    node.daemon()
        .readiness(false, true, "/var/lib/shunt: no space left");
    node.call("STATUS").run().fails(50, "no space left");
}

#[test]
fn a_daemon_without_uplink_is_51() {
    let node = Node::new();
    for can_attach in [true, false] {
        node.daemon()
            .readiness(can_attach, false, "uplink eth9 is down");
        node.call("STATUS").run().fails(51, "uplink eth9 is down");
    }
}

#[test]
fn ipam_without_addresses_is_50() {
    let node = Node::new();
    for (own, told) in [(50, 50), (51, 51), (142, 50)] {
        node.ipam_fails("STATUS", own, "no addresses left", "in 10.244.1.0/24");
        node.call("STATUS").run().fails(told, "10.244.1.0/24");
    }
}

#[test]
fn an_ipam_plugin_that_does_not_know_it_has_nothing_to_say() {
    let node = Node::new();
    for (code, msg) in [
        (4, "unknown CNI_COMMAND: STATUS"),
        (3, "missing containerID"),
        (100, "unknown CNI_COMMAND: STATUS"),
    ] {
        node.ipam_fails("STATUS", code, msg, "");
        node.call("STATUS").run().is_silent();
    }
}

#[test]
fn an_ipam_plugin_of_another_version_is_50() {
    let node = Node::new();
    node.ipam_fails("STATUS", 1, "incompatible CNI versions", "1.1.0");
    node.call("STATUS").run().fails(50, "1.1.0");
}

#[test]
fn it_came_with_1_1() {
    let node = Node::new();
    node.call("STATUS")
        .conf(&node.conf_of("1.0.0"))
        .run()
        .fails(1, "1.1.0");
}
