//! Checklist: "Support 0.3.1 to 1.1.0 and answer in the input's version (below 1.0:
//! `ips[].version`)"; "Result: ..."

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shunt_tests::cni::CniPod;
use shunt_tests::family::Family;

use crate::{built, modern, must_reach};
use shunt_tests::cni::Options;

#[test]
fn results_in_every_version() -> Result<()> {
    let options = Options {
        dual: true,
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let peer = CniPod::add(&node.runtime(node.network()), "peer")?;
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let network = match version {
            "1.1.0" => modern(&node)?,
            older => node.network().version(older),
        };
        let runtime = node.runtime(network);
        let pod = CniPod::add(&runtime, "pod")?;
        must_be_result(&pod, version).with_context(|| format!("{version}: {}", pod.result))?;
        must_reach(&pod, &peer)?;
        if version != "0.3.1" {
            runtime.check(&pod.container)?;
        }
        runtime.del(&pod.container)?;
    }
    node.runtime(node.network()).del(&peer.container)?;
    node.must_be_clean()
}

fn must_be_result(pod: &CniPod, version: &str) -> Result<()> {
    let result = &pod.result;
    ensure!(result["cniVersion"] == version, "cniVersion");
    let interfaces = result["interfaces"].as_array().context("interfaces")?;
    let [host, ours] = &interfaces[..] else {
        anyhow::bail!("two interfaces are due")
    };
    // Of the host's end: no sandbox.
    ensure!(
        matches!(host["sandbox"].as_str(), None | Some("")),
        "sandbox of the host's end"
    );
    ensure!(
        ours["name"] == "eth0" && ours["sandbox"] == json!(pod.netns.path()),
        "ours"
    );
    ensure!(ours["mac"] == json!(pod.mac()?.to_string()), "mac");
    ensure!((ours["mtu"] != Value::Null) == (version == "1.1.0"), "mtu");

    let ips = result["ips"].as_array().context("ips")?;
    ensure!(ips.len() == 2, "two addresses are due");
    for (ip, family) in ips.iter().zip(Family::ALL) {
        // IPv4 is primary.
        let address = pod.address_of(family)?;
        let text = ip["address"].as_str().context("address")?;
        ensure!(
            text.starts_with(&format!("{address}/")),
            "{text} is no {family}"
        );
        ensure!(ip["interface"] == json!(1), "interface");
        let gateway = ip["gateway"].as_str().context("gateway")?;
        ensure!(
            gateway.parse::<std::net::IpAddr>().is_ok(),
            "gateway {gateway}"
        );
        let told = match (version < "1.0.0", family) {
            (false, _) => Value::Null,
            (true, Family::V4) => json!("4"),
            (true, Family::V6) => json!("6"),
        };
        ensure!(ip["version"] == told, "version of {text}");
    }
    let routes = result["routes"].as_array().context("routes")?;
    for dst in ["0.0.0.0/0", "::/0"] {
        ensure!(
            routes.iter().any(|route| route["dst"] == dst),
            "no route to {dst}"
        );
    }
    for route in routes {
        let words: Vec<&str> = route
            .as_object()
            .context("a route")?
            .keys()
            .map(String::as_str)
            .collect();
        if version != "1.1.0" {
            ensure!(
                words.iter().all(|word| ["dst", "gw"].contains(word)),
                "{words:?}"
            );
        }
    }
    let known = ["cniVersion", "interfaces", "ips", "routes", "dns"];
    for key in result.as_object().context("an object")?.keys() {
        ensure!(known.contains(&key.as_str()), "{key}");
    }
    Ok(())
}
