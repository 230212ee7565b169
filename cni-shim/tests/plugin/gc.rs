//! GC: what is not valid goes, with its address.

use serde_json::{Value, json};
use shunt_api::{ErrorCode, PodInfo, PodSpec};

use super::harness::{Node, Say, key, pod};

fn standing(container: &str) -> PodInfo {
    pod(&PodSpec::new(
        key(container),
        format!("/run/netns/{container}"),
    ))
}

/// A node with three pods, of which `valid` are.
fn node_with_three(valid: &[&str]) -> (Node, Value) {
    let node = Node::new();
    let mut pods = ["c1", "c2", "c3"].map(standing).to_vec();
    pods[2].key.ifname = "net1".to_owned();
    let mut other = standing("c1");
    other.key.network = "others".to_owned();
    pods.push(other);
    node.daemon().has_pods(pods);
    let valid = valid
        .iter()
        .map(|id| json!({"containerID": id, "ifname": "eth0"}));
    let valid: Vec<Value> = valid.collect();
    let conf = node.conf_with("cni.dev/valid-attachments", valid.into());
    (node, conf)
}

#[test]
fn what_is_not_valid_goes_as_by_del() {
    // The third is valid by another interface only.
    let (node, conf) = node_with_three(&["c1", "c3"]);
    let call = node
        .call("GC")
        .without("CNI_CONTAINERID")
        .without("CNI_IFNAME");
    call.without("CNI_NETNS").conf(&conf).run().is_silent();
    assert_eq!(
        node.calls(),
        [
            "daemon pod-list",
            "daemon pod-detach c2",
            "ipam DEL c2",
            "daemon pod-detach c3",
            "ipam DEL c3",
            "ipam GC",
        ]
    );
    assert_eq!(
        node.ipam_variable("DEL", "CNI_IFNAME").as_deref(),
        Some("net1")
    );
    let netns = node.ipam_variable("DEL", "CNI_NETNS");
    assert_eq!(netns.as_deref(), Some("/run/netns/c3"));
    let given: Value = serde_json::from_slice(&node.ipam_input("GC")).expect("JSON");
    assert_eq!(given, conf);
}

#[test]
fn with_nothing_valid_all_goes() {
    let (node, mut conf) = node_with_three(&[]);
    conf["cni.dev/valid-attachments"] = Value::Null;
    node.call("GC").conf(&conf).run().is_silent();
    let detached = |call: &&String| call.starts_with("daemon pod-detach");
    assert_eq!(node.calls().iter().filter(detached).count(), 3);
}

#[test]
fn it_goes_on_past_errors_and_tells_them() {
    let (node, conf) = node_with_three(&[]);
    node.ipam_fails("DEL", 142, "lease file", "is damaged");
    let error = node.call("GC").conf(&conf).run().fails(142, "is damaged");
    let told = error["details"].as_str().expect("details");
    assert_eq!(told.matches("is damaged").count(), 3);
    assert_eq!(node.calls().last().map(String::as_str), Some("ipam GC c1"));
    assert_eq!(node.calls().len(), 8);
}

#[test]
fn what_the_daemon_keeps_keeps_its_address() {
    let (node, conf) = node_with_three(&["c1"]);
    node.daemon()
        .says("pod-detach", Say::Refuse(ErrorCode::System, "device busy"));
    node.call("GC").conf(&conf).run().fails(102, "device busy");
    assert!(!node.calls().iter().any(|call| call.starts_with("ipam")));
}

#[test]
fn without_a_daemon_addresses_stay_as_well() {
    let node = Node::without_daemon();
    let conf = node.conf_with("cni.dev/valid-attachments", json!([]));
    node.call("GC")
        .conf(&conf)
        .run()
        .fails(11, "cannot reach the daemon");
    assert_eq!(node.calls(), [""; 0]);
}

#[test]
fn an_ipam_plugin_that_does_not_know_it_has_nothing_to_do() {
    let (node, conf) = node_with_three(&["c1"]);
    node.ipam_fails("GC", 4, "unknown CNI_COMMAND: GC", "");
    node.call("GC").conf(&conf).run().is_silent();
    node.ipam_fails("GC", 142, "lease file", "is damaged");
    node.call("GC").conf(&conf).run().fails(142, "is damaged");
}

#[test]
fn without_the_list_nothing_goes() {
    let (node, _) = node_with_three(&[]);
    node.call("GC").run().fails(7, "cni.dev/valid-attachments");
    assert_eq!(node.calls(), [""; 0]);
}

#[test]
fn it_came_with_1_1_and_needs_the_path() {
    let (node, mut conf) = node_with_three(&["c1", "c2"]);
    node.call("GC")
        .without("CNI_PATH")
        .conf(&conf)
        .run()
        .fails(4, "CNI_PATH");
    conf["cniVersion"] = "1.0.0".into();
    node.call("GC").conf(&conf).run().fails(1, "1.1.0");
}
