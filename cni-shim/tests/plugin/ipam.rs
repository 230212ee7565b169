//! Delegation to the IPAM plugin, and what it can do wrong.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shunt_cni::Patience;

use super::harness::Node;

/// The address is given back and the daemon is not asked to attach.
#[track_caller]
fn nothing_is_left(node: &Node) {
    assert_eq!(
        node.calls(),
        ["daemon readiness", "ipam ADD c1", "ipam DEL c1"]
    );
}

#[test]
fn it_gets_the_whole_configuration_and_environment() {
    let node = Node::new();
    let mut conf = node.conf_with(
        "runtimeConfig",
        json!({"ips": ["10.244.1.5"], "aliases": ["a"]}),
    );
    conf["args"] = json!({"cni": {"ips": ["10.244.1.5/24"]}});
    let input = format!(" {conf:#}\n");
    node.call("ADD").input(input.clone()).run().result();
    assert_eq!(node.ipam_input("ADD"), input.as_bytes());
    for (name, value) in [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("FROM_THE_RUNTIME", "kept"),
    ] {
        assert_eq!(node.ipam_variable("ADD", name).as_deref(), Some(value));
    }
    let args = node.ipam_variable("ADD", "CNI_ARGS").expect("passed on");
    assert!(args.contains("K8S_POD_NAME=web-0"));
}

#[test]
fn its_error_is_passed_on_whole() {
    let node = Node::new();
    node.ipam_fails(
        "ADD",
        142,
        "failed to allocate for range 0",
        "10.244.1.0/24 is full",
    );
    let error = node.call("ADD").run().fails(142, "");
    assert_eq!(error["msg"], "failed to allocate for range 0");
    assert_eq!(error["details"], "10.244.1.0/24 is full");
    nothing_is_left(&node);
}

#[test]
fn rubbish_is_told() {
    for (lines, words) in [
        ("echo rubbish", "rubbish"),
        ("exit 0", "printed nothing"),
        ("echo '{}'", "no address"),
        ("echo '{\"ips\": []}'", "no address"),
        ("echo '{\"ips\": null}'", "no address"),
        (
            "echo '{\"ips\": [{\"address\": \"10.244.1.5\"}]}'",
            "makes no sense",
        ),
        (
            "echo '{\"ips\": [{\"address\": \"10.244.1.5/24\"}]} more'",
            "makes no sense",
        ),
        ("head -c 2000000 /dev/zero", "1048576"),
        ("printf '\\377\\376'", "makes no sense"),
        ("echo oops >&2; exit 3", "exit status: 3"),
        (
            "echo '{\"code\": 0, \"msg\": \"fine\"}'; exit 1",
            "exit status: 1",
        ),
        ("echo '{\"code\": \"x\"}'; exit 1", "exit status: 1"),
        ("kill -9 $$", "signal"),
    ] {
        let node = Node::new();
        node.ipam_does("ADD", lines);
        node.call("ADD").run().fails(103, words);
        nothing_is_left(&node);
    }
}

#[test]
fn what_hangs_is_killed() {
    let node = Node::new();
    node.ipam_does("ADD", "sleep 30");
    let patience = Patience {
        ipam: Duration::from_millis(300),
        ..Patience::default()
    };
    let start = Instant::now();
    node.call("ADD").serve(&patience).fails(103, "killed");
    assert!(start.elapsed() < Duration::from_secs(5));
    nothing_is_left(&node);
}

#[test]
fn it_is_looked_for_in_the_path_only() {
    let node = Node::new();
    let conf = node.conf_with("ipam", json!({"type": "sh"}));
    node.call("ADD").conf(&conf).run().fails(103, "CNI_PATH");
    node.call("ADD")
        .without("CNI_PATH")
        .run()
        .fails(4, "CNI_PATH");
    // Not an executable, and a folder.
    fs::write(node.path("bin/plain"), "").expect("written");
    fs::create_dir(node.path("bin/folder")).expect("a folder");
    for kind in ["plain", "folder"] {
        let conf = node.conf_with("ipam", json!({"type": kind}));
        node.call("ADD").conf(&conf).run().fails(103, kind);
    }
}

#[test]
fn results_of_older_versions_are_understood() {
    let node = Node::new();
    let lease = r#"{"cniVersion": "0.4.0", "dns": {}, "interfaces": null,
        "ips": [{"version": "4", "address": "10.244.1.5/24", "gateway": "10.244.1.1"}]}"#;
    node.ipam_says("ADD", lease);
    let result = node.call("ADD").conf(&node.conf_of("0.4.0")).run().result();
    assert_eq!(result["ips"][0]["address"], "10.244.1.5/32");
    assert_eq!(result["dns"], Value::Null);
}

#[test]
fn a_failing_give_back_does_not_hide_the_error() {
    let node = Node::new();
    node.ipam_does("ADD", "exit 9");
    node.ipam_fails("DEL", 142, "lease file", "is damaged");
    node.call("ADD").run().fails(103, "exit status: 9");
}
