//! Standard input and IPAM as bad input: the right code on standard output as JSON, and nothing
//! half done.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shunt_tests::cni::{CniNode, CniPod, Container};
use shunt_tests::netns::Netns;

use crate::lone;

#[test]
fn what_is_no_configuration() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    let call = runtime.invocation("ADD", 0, &container, None)?;
    let good = String::from_utf8(call.stdin.clone())?;
    let padded = format!("{}{good}", " ".repeat(8 << 20));
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let change = |key: &str, value: Value| -> Result<Vec<u8>> {
        let mut config: Value = serde_json::from_str(&good)?;
        match value {
            Value::Null => {
                config.as_object_mut().context("an object")?.remove(key);
            }
            value => config[key] = value,
        }
        Ok(config.to_string().into_bytes())
    };
    let decode = [6];
    for (what, stdin, codes) in [
        ("nothing", Vec::new(), &decode[..]),
        ("blanks", b"  \n ".to_vec(), &decode),
        ("words", b"hello".to_vec(), &decode),
        (
            "half of it",
            good.as_bytes()[..good.len() / 2].to_vec(),
            &decode,
        ),
        ("more behind it", format!("{good}}}").into_bytes(), &decode),
        ("a list", b"[]".to_vec(), &[6, 7]),
        ("null", b"null".to_vec(), &[6, 7]),
        ("no text", vec![0xff, 0xfe, 0x7b], &decode),
        ("huge", padded.into_bytes(), &[5, 6, 7]),
        ("deep", deep.into_bytes(), &[5, 6, 7]),
        ("zeros", vec![0; 3 << 20], &[5, 6, 7]),
        (
            "an unknown version",
            change("cniVersion", json!("9.9.9"))?,
            &[1],
        ),
        (
            "a version that is none",
            change("cniVersion", json!(11))?,
            &[1, 6, 7],
        ),
        ("no name", change("name", Value::Null)?, &[7]),
        ("an empty name", change("name", json!(""))?, &[7]),
        ("a hostile name", change("name", json!("../../x"))?, &[7]),
        ("a number as name", change("name", json!(7))?, &[6, 7]),
        (
            "ipam that is none",
            change("ipam", json!("host-local"))?,
            &[6, 7],
        ),
        (
            "a hostile ipam",
            change("ipam", json!({"type": "../../bin/sh"}))?,
            &[7],
        ),
        (
            "an unknown kind of port",
            change("port", json!("carrier-pigeon"))?,
            &[2, 7],
        ),
        ("an mtu that is none", change("mtu", json!(-5))?, &[6, 7]),
        ("a tiny mtu", change("mtu", json!(10))?, &[7, 102]),
        ("a huge mtu", change("mtu", json!(1_000_000))?, &[7, 102]),
        (
            "a prevResult that is none",
            change("prevResult", json!("x"))?,
            &[6, 7],
        ),
    ] {
        let mut broken = call.clone();
        broken.stdin = stdin;
        let outcome = runtime.execute(&broken)?;
        let error = outcome.error().with_context(|| what.to_owned())?;
        ensure!(codes.contains(&error.code), "{what}: {error:?}");
        ensure!(
            outcome.took < Duration::from_secs(3),
            "{what}: {:?}",
            outcome.took
        );
        assert_eq!(node.pods()?, [], "{what}");
        assert!(node.leases().all()?.is_empty(), "{what}");
    }
    node.must_be_clean()
}

/// "a prevResult of another network": nothing of it is believed, and DEL succeeds.
#[test]
fn a_previous_result_of_another_network() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    let other = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": "/run/netns/of-another"}],
        "ips": [{"address": "172.31.0.5/24", "interface": 0}],
    });
    let check = runtime.invocation("CHECK", 0, &pod.container, Some(&other))?;
    runtime.execute(&check)?.error()?;
    assert_eq!(node.pods()?.len(), 1);
    for damaged in [other, json!("x"), json!([1]), json!({"ips": 5})] {
        let del = runtime.invocation("DEL", 0, &pod.container, Some(&damaged))?;
        let outcome = runtime.execute(&del)?;
        outcome
            .ok()
            .with_context(|| format!("DEL with {damaged}"))?;
    }
    node.must_be_clean()
}

/// Fails ADD with an IPAM plugin of this body; nothing is left.
fn fails_by(node: &CniNode, body: &str) -> Result<(u64, String)> {
    let log = node.plugins.scratch().join("verbs");
    let _ = std::fs::remove_file(&log);
    node.plugins.script(
        "rubbish",
        &format!("echo $CNI_COMMAND >> {}\n{body}", log.display()),
    )?;
    let runtime = node.runtime(node.network().ipam_type("rubbish"));
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    let error = runtime.try_add(&container)?.error()?;
    // It may have given something out before it failed.
    assert_eq!(std::fs::read_to_string(&log)?, "ADD\nDEL\n", "{body}");
    assert_eq!(node.pods()?, []);
    Ok((error.code, format!("{} {}", error.msg, error.details)))
}

/// Checklist: "DEL on a failed ADD", and IPAM that "prints rubbish or returns nothing".
#[test]
fn ipam_that_prints_rubbish() -> Result<()> {
    let (_testbed, node) = lone()?;
    let result = |ips: &str| format!(r#"echo '{{"cniVersion":"1.0.0","ips":{ips}}}'"#);
    for body in [
        "true".to_owned(),
        "echo hello".to_owned(),
        "echo '{'".to_owned(),
        "exit 3".to_owned(),
        "echo hello; exit 1".to_owned(),
        "kill -9 $$".to_owned(),
        "head -c 20000000 /dev/zero".to_owned(),
        result("[]"),
        result("5"),
        result(r#"[{"address":"10.244.1.300/24"}]"#),
        result(r#"[{"address":"10.244.1.30"}]"#),
    ] {
        let (code, text) = fails_by(&node, &body)?;
        ensure!(code == 103, "{body}: {code} {text}");
    }
    // Its own error is passed on.
    let own =
        r#"echo '{"cniVersion":"1.0.0","code":142,"msg":"none left","details":"of 10"}'; exit 1"#;
    let (code, text) = fails_by(&node, own)?;
    ensure!(
        code == 142 && text.contains("none left") && text.contains("of 10"),
        "{code} {text}"
    );
    // Addresses that are not the node's to give.
    let (code, text) = fails_by(&node, &result(r#"[{"address":"172.31.0.7/24"}]"#))?;
    ensure!(text.contains("172.31.0.7"), "{code} {text}");
    node.must_be_clean()
}

/// IPAM that is not there.
#[test]
fn ipam_that_is_missing() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network().ipam_type("no-such-plugin"));
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    let error = runtime.try_add(&container)?.error()?;
    let text = format!("{} {}", error.msg, error.details);
    ensure!(text.contains("no-such-plugin"), "{error:?}");
    node.must_be_clean()
}
