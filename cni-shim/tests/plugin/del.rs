//! DEL: the attachment first, then the address; what is missing is no error.

use std::fs;
use std::time::Duration;

use serde_json::json;
use shunt_api::{ErrorCode, Request};
use shunt_cni::Patience;

use super::harness::{Node, Say, key};

const BOTH: [&str; 2] = ["daemon pod-detach c1", "ipam DEL c1"];

#[test]
fn the_attachment_goes_before_its_address() {
    let node = Node::new();
    node.call("DEL").run().is_silent();
    assert_eq!(node.calls(), BOTH);
    assert_eq!(
        node.daemon().asked(),
        [Request::PodDetach { key: key("c1") }]
    );
}

#[test]
fn twice_as_containerd_calls_it() {
    let node = Node::new();
    let with_result = node.conf_with("prevResult", json!({"ips": [{"address": "10.244.1.5/32"}]}));
    node.call("DEL").conf(&with_result).run().is_silent();
    node.call("DEL").with("CNI_NETNS", "").run().is_silent();
    node.call("DEL").without("CNI_NETNS").run().is_silent();
    assert_eq!(node.calls(), [BOTH, BOTH, BOTH].concat());
}

#[test]
fn without_the_namespace() {
    let node = Node::new();
    node.call("DEL")
        .with("CNI_NETNS", "/run/netns/long-gone")
        .run()
        .is_silent();
    assert_eq!(node.calls(), BOTH);
}

#[test]
fn of_what_never_was() {
    let node = Node::new();
    for class in [ErrorCode::NotFound, ErrorCode::Invalid] {
        let refusal = Say::Refuse(class, "no such attachment");
        node.daemon().says("pod-detach", refusal);
        node.call("DEL").run().is_silent();
    }
    assert_eq!(node.calls(), [BOTH, BOTH].concat());
}

#[test]
fn with_a_damaged_previous_result() {
    let node = Node::new();
    for damaged in [
        json!("rubbish"),
        json!({"ips": "none"}),
        json!({"cniVersion": "9.9.9"}),
    ] {
        let conf = node.conf_with("prevResult", damaged);
        node.call("DEL").conf(&conf).run().is_silent();
    }
    let conf = node.conf_with("runtimeConfig", json!({"mac": 5}));
    node.call("DEL").conf(&conf).run().is_silent();
    assert_eq!(node.calls().len(), 8);
}

#[test]
fn with_the_daemon_down_it_is_queued_and_succeeds() {
    let node = Node::without_daemon();
    node.call("DEL").run().is_silent();
    node.call("DEL").run().is_silent();
    node.call("DEL").of("c2").run().is_silent();
    assert_eq!(node.calls(), ["ipam DEL c1", "ipam DEL c1", "ipam DEL c2"]);
    let mut queued = node.queued();
    queued.sort();
    assert_eq!(queued, ["c1", "c2"]);
}

#[test]
fn with_the_daemon_hung_it_is_queued_after_a_few_seconds() {
    let node = Node::new();
    node.daemon().always_says(&Say::Silence);
    let answer = node.call("DEL").run();
    answer.is_silent();
    assert!(answer.took < Duration::from_secs(6), "{:?}", answer.took);
    assert_eq!(node.queued(), ["c1"]);
    assert_eq!(node.calls(), BOTH);
}

#[test]
fn with_another_program_on_the_socket_it_is_queued() {
    for say in [Say::HangUp, Say::Garbage("HTTP/1.1 400 Bad Request")] {
        let node = Node::new();
        node.daemon().always_says(&say);
        node.call("DEL").run().is_silent();
        assert_eq!(node.queued(), ["c1"]);
    }
}

#[test]
fn with_the_daemon_down_and_a_full_disk_the_address_is_kept() {
    let node = Node::without_daemon();
    fs::write(node.path("state"), "no folder").expect("written");
    node.call("DEL").run().fails(5, "/state/queue");
    assert_eq!(node.calls(), [""; 0]);
}

#[test]
fn refused_by_the_daemon_the_address_is_kept() {
    let node = Node::new();
    node.daemon().says(
        "pod-detach",
        Say::Refuse(ErrorCode::System, "sh1: device busy"),
    );
    node.call("DEL").run().fails(102, "sh1: device busy");
    assert_eq!(node.calls(), ["daemon pod-detach c1"]);
    assert_eq!(node.queued(), [""; 0]);
}

#[test]
fn without_ipam_there_is_nothing_to_give_back() {
    let node = Node::new();
    node.call("DEL")
        .conf(&node.conf_with("ipam", json!({})))
        .run()
        .is_silent();
    assert_eq!(node.calls(), ["daemon pod-detach c1"]);
}

#[test]
fn ipams_error_is_passed_on() {
    let node = Node::new();
    node.ipam_fails("DEL", 142, "lease file", "is damaged");
    let error = node.call("DEL").run().fails(142, "is damaged");
    assert_eq!(error["msg"], "lease file");
    let patience = Patience {
        ipam: Duration::from_millis(200),
        ..Patience::default()
    };
    node.ipam_does("DEL", "sleep 30");
    node.call("DEL").serve(&patience).fails(103, "killed");
}
