//! Bad input: the right code, JSON on the standard output, and nobody is asked for anything.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use serde_json::{Value, json};

use super::harness::{Answer, Call, Node};

/// What is refused without asking anybody.
#[track_caller]
fn refused(node: &Node, call: Call<'_>, code: u32, words: &str) {
    refuses(node, &call.run(), code, words);
}

#[track_caller]
fn refuses(node: &Node, answer: &Answer, code: u32, words: &str) {
    answer.fails(code, words);
    assert_eq!(node.calls(), [""; 0], "nobody was asked");
    assert_eq!(node.queued(), [""; 0]);
}

#[test]
fn each_variable_that_is_needed_is_named_when_missing_or_empty() {
    let node = Node::new();
    let needs = [
        (
            "ADD",
            &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_COMMAND"][..],
        ),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
    ];
    for (verb, names) in needs {
        for name in names {
            refused(&node, node.call(verb).without(name), 4, name);
            refused(&node, node.call(verb).with(name, ""), 4, name);
        }
    }
}

#[test]
fn hostile_variables_are_named() {
    let node = Node::new();
    let long = "/".to_owned() + &"a".repeat(5000);
    for (name, value) in [
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", "ADD\n"),
        ("CNI_CONTAINERID", "../../../etc/passwd"),
        ("CNI_CONTAINERID", "-rf"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_NETNS", "../../proc/1/ns/net"),
        ("CNI_NETNS", "/run/netns/../../proc/1/ns/net"),
        ("CNI_NETNS", "run/netns/a"),
        ("CNI_NETNS", &long),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "eth0:1"),
        ("CNI_IFNAME", "eth 0"),
        ("CNI_IFNAME", "sixteen-bytes-xx"),
        ("CNI_ARGS", "no pair"),
        ("CNI_ARGS", "MAC=nonsense"),
    ] {
        refused(&node, node.call("ADD").with(name, value), 4, name);
    }
    for name in [
        "CNI_CONTAINERID",
        "CNI_NETNS",
        "CNI_IFNAME",
        "CNI_ARGS",
        "CNI_PATH",
    ] {
        let bytes = OsString::from_vec(vec![b'/', 0xff, 0xfe]);
        refused(&node, node.call("ADD").with(name, bytes), 4, name);
    }
}

#[test]
fn a_namespace_that_is_none_is_named() {
    let node = Node::new();
    std::fs::write(node.path("file"), "").expect("written");
    for path in [
        node.path("missing"),
        node.path("file"),
        node.path("bin"),
        "/dev/null".into(),
    ] {
        refused(
            &node,
            node.call("ADD").with("CNI_NETNS", path),
            4,
            "CNI_NETNS",
        );
    }
}

#[test]
fn input_that_cannot_be_decoded_is_told() {
    let node = Node::new();
    for verb in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
        refused(&node, node.call(verb).input(""), 6, "empty");
        refused(&node, node.call(verb).input("not JSON"), 6, "JSON");
        refused(&node, node.call(verb).input("[]"), 6, "JSON");
        refused(&node, node.call(verb).input(vec![0xff; 100]), 6, "JSON");
        let mut cut = node.conf().to_string();
        cut.pop();
        refused(&node, node.call(verb).input(cut), 6, "JSON");
        let deep = "{\"a\":".repeat(100_000);
        refused(&node, node.call(verb).input(deep), 6, "JSON");
    }
}

#[test]
fn huge_input_is_not_read() {
    let node = Node::new();
    let huge = json!({"cniVersion": "1.1.0", "name": "pods", "x": "x".repeat(2 << 20)});
    for verb in ["ADD", "DEL", "STATUS", "VERSION"] {
        refused(&node, node.call(verb).conf(&huge), 5, "1048576 bytes");
    }
    let large = node.conf_with("x", "x".repeat(900_000).into());
    node.call("ADD").conf(&large).run().result();
}

#[test]
fn a_version_that_is_not_spoken_is_told_with_those_that_are() {
    let node = Node::new();
    for version in ["0.1.0", "0.2.0", "1.2.0", "2.0.0", "latest", ""] {
        let conf = node.conf_of(version);
        refused(
            &node,
            node.call("ADD").conf(&conf),
            1,
            "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        );
        refused(&node, node.call("DEL").conf(&conf), 1, "1.1.0");
    }
    let mut absent = node.conf();
    absent
        .as_object_mut()
        .expect("an object")
        .remove("cniVersion");
    refused(&node, node.call("ADD").conf(&absent), 1, "0.1.0");
    refused(
        &node,
        node.call("ADD")
            .conf(&node.conf_with("cniVersion", 1.into())),
        6,
        "cniVersion",
    );
}

#[test]
fn errors_are_in_the_inputs_version() {
    let node = Node::new();
    for version in ["0.3.1", "1.0.0"] {
        let mut conf = node.conf_of(version);
        conf["name"] = Value::Null;
        let error = node.call("ADD").conf(&conf).run().fails(7, "name");
        assert_eq!(error["cniVersion"], version);
        let error = node
            .call("ADD")
            .conf(&conf)
            .without("CNI_IFNAME")
            .run()
            .fails(4, "");
        assert_eq!(error["cniVersion"], version);
    }
    let error = node
        .call("ADD")
        .conf(&node.conf_of("9.0.0"))
        .run()
        .fails(1, "9.0.0");
    assert_eq!(error["cniVersion"], "1.1.0");
}

#[test]
fn a_configuration_that_will_not_do_is_told_by_key() {
    let node = Node::new();
    for (name, value, code) in [
        ("name", json!("../pods"), 7),
        ("name", json!(""), 7),
        ("name", json!(5), 7),
        ("ipam", json!({}), 7),
        ("ipam", json!({"type": "../../bin/sh"}), 7),
        ("ipam", json!({"type": "/bin/sh"}), 7),
        ("ipam", json!("host-local"), 7),
        ("socket", json!("here"), 7),
        ("stateDir", json!("there"), 7),
        ("port", json!("sriov"), 2),
        ("mtu", json!("large"), 7),
        ("mtu", json!(-5), 7),
        ("isDefaultGateway", json!("yes"), 7),
        ("guard", json!(1), 7),
        ("allowedAddresses", json!(["everywhere"]), 7),
        ("allowedMacs", json!(["ff:ff:ff:ff:ff:ff"]), 7),
        ("dns", json!("10.0.0.1"), 7),
        ("runtimeConfig", json!("x"), 7),
        ("runtimeConfig", json!({"bandwidth": {"ingressRate": 1}}), 7),
        ("prevResult", json!("x"), 6),
        (
            "prevResult",
            json!({"ips": [{"address": "10.0.0.300/24"}]}),
            6,
        ),
        ("prevResult", json!({"cniVersion": "0.2.0"}), 1),
    ] {
        let call = node.call("ADD").conf(&node.conf_with(name, value));
        refused(&node, call, code, if code == 1 { "0.2.0" } else { name });
    }
}

#[test]
fn the_previous_result_of_another_container_is_refused() {
    let node = Node::new();
    let interfaces = json!([{"name": "net1", "sandbox": "/run/netns/other"}]);
    let conf = node.conf_with("prevResult", json!({"interfaces": interfaces}));
    refused(&node, node.call("ADD").conf(&conf), 7, "/run/netns/other");
}

#[test]
fn an_unknown_command_needs_no_input() {
    let node = Node::new();
    refused(&node, node.call("UPDATE").input(""), 4, "CNI_COMMAND");
    refused(&node, node.call("").input(""), 4, "CNI_COMMAND");
}
