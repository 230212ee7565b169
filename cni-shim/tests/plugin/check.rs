//! CHECK: the result of the ADD against what the daemon and IPAM have.

use serde_json::{Value, json};
use shunt_api::{ErrorCode, PodCheck, Request};

use super::harness::{NETNS, Node, Say, pod};

/// Attaches, and returns the configuration for a CHECK.
fn attached(node: &Node) -> Value {
    let result = node.call("ADD").run().result();
    node.daemon().has_pods(vec![pod(&node.daemon().attached())]);
    node.conf_with("prevResult", result)
}

#[track_caller]
fn checked(node: &Node) -> PodCheck {
    let mut asked = node.daemon().asked().into_iter().rev();
    let check = asked.find_map(|request| match request {
        Request::PodCheck(check) => Some(*check),
        _ => None,
    });
    check.expect("the daemon was asked")
}

#[test]
fn what_the_add_made_is_compared() {
    let node = Node::new();
    let conf = attached(&node);
    node.call("CHECK").conf(&conf).run().is_silent();
    assert_eq!(
        node.calls()[3..],
        ["daemon pod-list", "daemon pod-check", "ipam CHECK c1"]
    );
    let check = checked(&node);
    assert_eq!(check.netns.to_str(), Some(NETNS));
    assert_eq!(check.addresses.len(), 1);
    assert_eq!(check.addresses[0].to_string(), "10.244.1.5/32");
    assert_eq!(check.routes.len(), 1);
    assert_eq!(
        check.mac.map(|mac| mac.to_string()).as_deref(),
        Some("02:00:00:00:00:01")
    );
    let given: Value = serde_json::from_slice(&node.ipam_input("CHECK")).expect("JSON");
    assert_eq!(given, conf, "IPAM has the previous result, too");
}

#[test]
fn what_later_plugins_changed_is_tolerated() {
    let node = Node::new();
    let mut conf = attached(&node);
    let before = &mut conf["prevResult"];
    before["interfaces"][1]["mac"] = "02:00:00:00:00:77".into();
    before["interfaces"][1]["mtu"] = 1280.into();
    before["interfaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "ifb0"}));
    let more = json!({"address": "192.0.2.5/24", "interface": 2});
    before["ips"].as_array_mut().unwrap().push(more);
    before["routes"] = json!([{"dst": "203.0.113.0/24", "gw": "10.244.1.77"}]);
    node.call("CHECK").conf(&conf).run().is_silent();
    let check = checked(&node);
    assert_eq!(check.mac.map(|mac| mac.0[5]), Some(0x77));
    assert_eq!(check.mtu, None);
    assert_eq!(check.addresses.len(), 1);
    assert_eq!(check.routes, []);
}

#[test]
fn without_a_previous_result_it_is_refused() {
    let node = Node::new();
    node.call("CHECK").run().fails(7, "prevResult is missing");
    let conf = node.conf_with("prevResult", Value::Null);
    node.call("CHECK")
        .conf(&conf)
        .run()
        .fails(7, "prevResult is missing");
}

#[test]
fn the_result_of_another_network_is_refused() {
    let node = Node::new();
    let conf = attached(&node);
    node.call("CHECK")
        .conf(&conf)
        .with("CNI_IFNAME", "net1")
        .run()
        .fails(7, "another");
    let other = node
        .call("CHECK")
        .conf(&conf)
        .with("CNI_NETNS", "/run/netns/other");
    other.run().fails(7, "another");
    let mut conf = conf;
    conf["prevResult"]["ips"] = json!([{"address": "x"}]);
    node.call("CHECK").conf(&conf).run().fails(6, "prevResult");
}

#[test]
fn what_differs_is_told() {
    let node = Node::new();
    let conf = attached(&node);
    node.daemon().says(
        "pod-check",
        Say::Refuse(ErrorCode::NotFound, "eth0 has no 10.244.1.5"),
    );
    node.call("CHECK")
        .conf(&conf)
        .run()
        .fails(104, "eth0 has no 10.244.1.5");
    node.daemon().has_pods(Vec::new());
    node.call("CHECK")
        .conf(&conf)
        .run()
        .fails(104, "pods/c1/eth0");
}

#[test]
fn without_a_daemon_it_is_tried_again_later() {
    let node = Node::new();
    let conf = attached(&node);
    node.daemon().always_says(&Say::HangUp);
    node.call("CHECK").conf(&conf).run().fails(11, "daemon");
}

#[test]
fn ipams_error_is_passed_on() {
    let node = Node::new();
    let conf = attached(&node);
    node.ipam_fails("CHECK", 120, "no lease", "of c1");
    node.call("CHECK").conf(&conf).run().fails(120, "no lease");
}

#[test]
fn it_came_with_0_4() {
    let node = Node::new();
    let mut conf = attached(&node);
    conf["cniVersion"] = "0.3.1".into();
    node.call("CHECK").conf(&conf).run().fails(1, "0.4.0");
    conf["cniVersion"] = "0.4.0".into();
    conf["prevResult"]["cniVersion"] = "0.4.0".into();
    node.call("CHECK").conf(&conf).run().is_silent();
}
