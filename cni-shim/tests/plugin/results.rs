//! What the runtime gets from ADD, in each version.

use serde_json::{Value, json};

use super::harness::{NETNS, Node, key};

fn dual_stack(node: &Node) {
    let lease = r#"{"ips": [{"address": "fd00::5/64"}, {"address": "10.244.1.5/24"}],
        "routes": [{"dst": "10.0.0.0/8", "mtu": 1400}], "dns": {"nameservers": ["10.96.0.9"]}}"#;
    node.ipam_says("ADD", lease);
}

/// What 1.1.0 gets.
fn newest() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": key("c1").short_name(), "mac": "ee:ee:ee:ee:ee:ee"},
            {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": NETNS},
        ],
        "ips": [
            {"address": "10.244.1.5/32", "gateway": "169.254.1.1", "interface": 1},
            {"address": "fd00::5/128", "gateway": "fe80::1", "interface": 1},
        ],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1", "mtu": 1450},
            {"dst": "::/0", "gw": "fe80::1", "mtu": 1450},
            {"dst": "10.0.0.0/8", "gw": "169.254.1.1", "mtu": 1400},
        ],
        "dns": {"nameservers": ["10.96.0.9"]},
    })
}

#[test]
fn version_1_1_has_everything() {
    let node = Node::new();
    dual_stack(&node);
    assert_eq!(node.call("ADD").run().result(), newest());
}

#[test]
fn versions_before_1_1_have_no_mtu() {
    let node = Node::new();
    dual_stack(&node);
    let mut expected = newest();
    expected["interfaces"][1]
        .as_object_mut()
        .unwrap()
        .remove("mtu");
    for route in expected["routes"].as_array_mut().unwrap() {
        route.as_object_mut().unwrap().remove("mtu");
    }
    for version in ["1.0.0", "0.4.0", "0.3.1", "0.3.0"] {
        if version == "0.4.0" {
            expected["ips"][0]["version"] = "4".into();
            expected["ips"][1]["version"] = "6".into();
        }
        expected["cniVersion"] = version.into();
        let result = node.call("ADD").conf(&node.conf_of(version)).run().result();
        assert_eq!(result, expected);
    }
}

#[test]
fn a_previous_result_comes_first() {
    for version in ["1.1.0", "0.4.0"] {
        let node = Node::new();
        let mut conf = node.conf_of(version);
        conf["prevResult"] = json!({
            "cniVersion": version,
            "interfaces": [{"name": "br0", "mac": "02:00:00:00:00:99"},
                           {"name": "net1", "sandbox": NETNS}],
            "ips": [{"version": "4", "address": "192.0.2.9/24", "interface": 1}],
            "routes": [{"dst": "198.51.100.0/24"}],
            "dns": {"nameservers": ["192.0.2.53"], "domain": "before"},
        });
        let result = node.call("ADD").conf(&conf).run().result();
        let names = result["interfaces"].as_array().unwrap().iter();
        let names: Vec<_> = names
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["br0", "net1", &key("c1").short_name(), "eth0"]);
        assert_eq!(result["ips"][0]["address"], "192.0.2.9/24");
        assert_eq!(result["ips"][0]["interface"], 1);
        assert_eq!(result["ips"][1]["address"], "10.244.1.5/32");
        assert_eq!(result["ips"][1]["interface"], 3);
        assert_eq!(result["routes"][0]["dst"], "198.51.100.0/24");
        assert_eq!(result["routes"][1]["dst"], "0.0.0.0/0");
        assert_eq!(result["dns"]["domain"], "before");
    }
}

#[test]
fn a_tap_has_no_host_end() {
    let node = Node::new();
    let result = node
        .call("ADD")
        .conf(&node.conf_with("port", "tap".into()))
        .run()
        .result();
    assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(1));
    assert_eq!(result["interfaces"][0]["name"], "eth0");
    assert_eq!(result["ips"][0]["interface"], 0);
}

#[test]
fn dns_is_the_runtimes_before_the_networks_before_ipams() {
    let node = Node::new();
    dual_stack(&node);
    let nameserver = |conf: &Value| {
        let result = node.call("ADD").conf(conf).run().result();
        result["dns"]["nameservers"][0].as_str().unwrap().to_owned()
    };
    let mut conf = node.conf();
    assert_eq!(nameserver(&conf), "10.96.0.9");
    conf["dns"] = json!({"nameservers": ["10.96.0.10"], "search": ["cluster.local"]});
    assert_eq!(nameserver(&conf), "10.96.0.10");
    conf["runtimeConfig"] = json!({"dns": {"Servers": ["10.96.0.11"], "Searches": ["a.local"]}});
    assert_eq!(nameserver(&conf), "10.96.0.11");
}
