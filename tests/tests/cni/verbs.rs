//! ADD, CHECK, DEL and VERSION as runtimes call them.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shunt_tests::cni::{CniPod, Container, Invocation};
use shunt_tests::netns::Netns;

use crate::{lone, must_lose_eth0, must_reach};

/// Checklist: "VERSION: echoes the input's cniVersion and lists supportedVersions".
#[test]
fn version_is_echoed_and_all_are_listed() -> Result<()> {
    let (_testbed, node) = lone()?;
    let plugin = node.plugins.plugin("shunt-cni");
    // As podman asks before every ADD.
    let podman = Invocation::new(plugin.clone(), "VERSION")
        .with("CNI_NETNS", "dummy")
        .with("CNI_IFNAME", "dummy")
        .with("CNI_PATH", "dummy")
        .with("CNI_CONTAINERID", "")
        .stdin(r#"{"cniVersion":"1.0.0"}"#);
    let bare = Invocation::new(plugin, "VERSION").stdin(r#"{"cniVersion":"0.4.0"}"#);
    for (call, version) in [(podman, "1.0.0"), (bare, "0.4.0")] {
        let said = call.run(&node.node.netns.path())?.ok()?;
        assert_eq!(said["cniVersion"], version);
        let known = said["supportedVersions"].as_array().context("a list")?;
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            assert!(known.contains(&json!(version)), "{version} in {said}");
        }
    }
    node.must_be_clean()
}

/// Checklist: "ADD: error if the interface exists".
#[test]
fn a_second_add_is_refused_and_harms_nothing() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let first = CniPod::add(&runtime, "first")?;
    let other = CniPod::add(&runtime, "other")?;
    let leases = node.leases().all()?;
    let records = node.records()?;
    runtime.try_add(&first.container)?.must_fail(100, &[])?;
    // Another container in the same namespace finds eth0 there.
    let stranger = Container::new(&first.netns.path());
    runtime.try_add(&stranger)?.must_fail(100, &["eth0"])?;
    runtime.try_del(&stranger)?.ok()?;
    assert_eq!(node.leases().all()?, leases);
    assert_eq!(node.records()?, records);
    must_reach(&first, &other)?;
    must_reach(&other, &first)?;
    for pod in [&first, &other] {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}

/// An interface that somebody else made stays.
#[test]
fn a_foreign_interface_of_the_name_is_left_alone() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    netns.ip("link add eth0 type veth peer name other")?;
    let container = Container::new(&netns.path());
    runtime.try_add(&container)?.must_fail(100, &["eth0"])?;
    runtime.try_del(&container)?.ok()?;
    netns.ip("link show dev eth0")?;
    node.must_be_clean()
}

/// Checklist: "honour prevResult (pass through, extend)".
#[test]
fn the_result_of_a_plugin_before_us_is_extended() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    let before = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net0", "mac": "02:00:00:00:00:07", "sandbox": netns.path()}],
        "ips": [{"address": "10.9.8.7/24", "gateway": "10.9.8.1", "interface": 0}],
        "routes": [{"dst": "10.9.0.0/16", "gw": "10.9.8.1"}],
        "dns": {"nameservers": ["10.9.8.53"]},
    });
    let call = runtime.invocation("ADD", 0, &container, Some(&before))?;
    let result = runtime.execute(&call)?.ok()?;
    let interfaces = result["interfaces"].as_array().context("interfaces")?;
    let ips = result["ips"].as_array().context("ips")?;
    assert_eq!(interfaces[0], before["interfaces"][0]);
    assert_eq!(ips[0], before["ips"][0]);
    let ours = interfaces
        .iter()
        .position(|one| one["name"] == "eth0")
        .context("our interface")?;
    let lease = node.leases().of("pods")?;
    let address = lease.keys().next().context("a lease")?.to_string();
    let own = ips
        .iter()
        .find(|ip| ip["interface"] == json!(ours))
        .with_context(|| format!("no address of interface {ours}: {result}"))?;
    assert!(
        own["address"]
            .as_str()
            .context("address")?
            .starts_with(&format!("{address}/"))
    );
    let routes = result["routes"].as_array().context("routes")?;
    assert!(
        routes.iter().any(|route| route["dst"] == "10.9.0.0/16"),
        "{result}"
    );
    assert!(
        routes.iter().any(|route| route["dst"] == "0.0.0.0/0"),
        "{result}"
    );
    // CHECK and DEL get all of it back.
    let check = runtime.invocation("CHECK", 0, &container, Some(&result))?;
    runtime.execute(&check)?.ok()?;
    let del = runtime.invocation("DEL", 0, &container, Some(&result))?;
    runtime.execute(&del)?.ok()?;
    node.must_be_clean()
}

/// Checklist: "containerd calls it TWICE: once with netns and prevResult, again with empty netns
/// and no prevResult".
#[test]
fn del_twice_as_containerd_does() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    runtime.del(&pod.container)?;
    let again = pod.container.clone().without_netns();
    let outcome = runtime.try_del(&again)?;
    assert!(outcome.ok()?.is_null(), "{outcome:?}");
    node.must_be_clean()?;
    // And a runtime that has lost count, with a namespace that is still there.
    runtime.del(&pod.container)?;
    node.must_be_clean()
}

/// Checklist: "state is keyed on (network, container id, ifname)".
#[test]
fn attachments_of_a_container_do_not_mix() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let second = node
        .network()
        .name("second")
        .range_start("10.244.1.200".parse()?)
        .set("isDefaultGateway", false);
    let second = node.runtime(second);
    let peer = CniPod::add(&runtime, "peer")?;
    let pod = CniPod::add(&runtime, "pod")?;
    let mut more = pod.container.clone();
    more.ifname = "net1".to_owned();
    second.add(&more)?;
    assert_eq!(node.pods()?.len(), 3);
    // The wrong interface, the wrong network: nothing of ours.
    second.try_del(&pod.container)?.ok()?;
    runtime.try_del(&more)?.ok()?;
    assert_eq!(node.pods()?.len(), 3);
    must_reach(&peer, &pod)?;
    second.del(&more)?;
    pod.netns.ip("link show dev eth0")?;
    must_reach(&peer, &pod)?;
    runtime.del(&pod.container)?;
    runtime.del(&peer.container)?;
    node.must_be_clean()
}

/// Checklist: "DEL: always succeeds when things are missing".
#[test]
fn del_without_namespace_interface_or_lease() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());

    // The namespace is gone, and its path is told or not.
    for told in [true, false] {
        let pod = CniPod::add(&runtime, "pod")?;
        let container = pod.container.clone();
        drop(pod);
        let container = if told {
            container
        } else {
            container.without_netns()
        };
        runtime.del(&container)?;
        node.must_be_clean()?;
    }
    // The namespace is there and not told.
    let pod = CniPod::add(&runtime, "pod")?;
    runtime.del(&pod.container.clone().without_netns())?;
    node.must_be_clean()?;
    must_lose_eth0(&pod.netns)?;

    let pod = CniPod::add(&runtime, "pod")?;
    pod.netns.ip("link del eth0")?;
    runtime.del(&pod.container)?;
    node.must_be_clean()?;

    let pod = CniPod::add(&runtime, "pod")?;
    std::fs::remove_dir_all(node.plugins.lease_dir())?;
    runtime.del(&pod.container)?;
    node.must_be_clean()
}

/// Checklist: "After a failed ADD a DEL follows at once, perhaps before any state exists".
#[test]
fn del_of_what_never_was() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    runtime.del(&container)?;
    runtime.del(&Container::new("/run/netns/never-was"))?;
    runtime.del(&Container::new(""))?;
    node.must_be_clean()?;
    ensure!(
        !node.daemon.state_dir().join("attachments").exists() || node.records()?.is_empty(),
        "records of nothing"
    );
    node.must_be_clean()
}

/// A DEL and an ADD of the same container id in a new namespace: `podman restart`.
#[test]
fn a_container_comes_back_at_once() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let peer = CniPod::add(&runtime, "peer")?;
    let mut pod = CniPod::add(&runtime, "pod")?;
    for round in 0..5 {
        runtime.del(&pod.container)?;
        if round % 2 == 0 {
            let fresh = Netns::new("pod")?;
            pod.container.netns = fresh.path();
            pod.netns = fresh;
        }
        pod.result = runtime.add(&pod.container)?;
        must_reach(&pod, &peer)?;
    }
    runtime.del(&pod.container)?;
    runtime.del(&peer.container)?;
    node.must_be_clean()
}

/// Checklist: "CHECK: compare interfaces, addresses and routes with prevResult; prints nothing or
/// an error".
#[test]
fn check_finds_what_is_different() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    let address = pod.address()?;
    let checked = || -> Result<_> {
        let result = runtime.remembered(&pod.container);
        runtime.execute(&runtime.invocation("CHECK", 0, &pod.container, result.as_ref())?)
    };
    runtime.check(&pod.container)?;

    let table = pod.netns.ip("route show")?;
    let restore = || -> Result<()> {
        // The way to the gateway comes before what goes by it.
        let (direct, by_gateway): (Vec<_>, Vec<_>) =
            table.lines().partition(|line| !line.contains(" via "));
        for line in direct.iter().chain(&by_gateway) {
            pod.netns.ip(&format!("route replace {line}"))?;
        }
        runtime.check(&pod.container)
    };

    pod.netns.ip("route del default")?;
    checked()?.must_fail(104, &["0.0.0.0/0"])?;
    restore()?;

    pod.netns
        .ip(&format!("address del {address}/32 dev eth0"))?;
    checked()?.must_fail(104, &[&address.to_string()])?;
    pod.netns
        .ip(&format!("address add {address}/32 dev eth0"))?;
    restore()?;

    pod.netns.ip("link set eth0 down")?;
    checked()?.must_fail(104, &["eth0"])?;
    pod.netns.ip("link set eth0 up")?;
    restore()?;

    // What later plugins add is none of our business.
    pod.netns.ip("address add 10.99.0.1/24 dev eth0")?;
    pod.netns
        .ip("route add 10.98.0.0/16 via 169.254.1.1 dev eth0")?;
    runtime.check(&pod.container)?;

    // The address has gone from host-local's books: IPAM's own CHECK says so.
    let lease = node
        .plugins
        .lease_dir()
        .join("pods")
        .join(address.to_string());
    let kept = std::fs::read(&lease)?;
    std::fs::remove_file(&lease)?;
    checked()?.error()?;
    std::fs::write(&lease, kept)?;
    runtime.check(&pod.container)?;

    let call = runtime.invocation("CHECK", 0, &pod.container, None)?;
    runtime.execute(&call)?.must_fail(7, &["prevResult"])?;
    pod.netns.ip("link del eth0")?;
    checked()?.error()?;
    runtime.del(&pod.container)?;
    node.must_be_clean()
}

/// CHECK of what was never attached.
#[test]
fn check_of_an_unknown_container() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    let stranger = Container::new(&pod.netns.path());
    let call = runtime.invocation("CHECK", 0, &stranger, Some(&pod.result))?;
    runtime.execute(&call)?.error()?;
    runtime.check(&pod.container)?;
    runtime.del(&pod.container)?;
    node.must_be_clean()
}

/// Checklist: "containerd runs `loopback` beside it in the same namespace".
#[test]
fn loopback_runs_beside() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let lo = runtime.with(|mut network| {
        network.name = "cni-loopback".to_owned();
        network.plugins = vec![json!({"type": "loopback"})];
        network
    });
    let netns = Netns::new("pod")?;
    netns.ip("link set lo down")?;
    let container = Container::new(&netns.path());
    let mut on_lo = container.clone();
    on_lo.ifname = "lo".to_owned();
    // At the same time.
    std::thread::scope(|scope| -> Result<()> {
        let beside = scope.spawn(|| lo.add(&on_lo));
        let result = runtime.add(&container)?;
        beside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(result["ips"] != Value::Null, "{result}");
        Ok(())
    })?;
    let state = netns.ip("-o link show dev lo")?;
    ensure!(state.contains("UP"), "{state}");
    netns.run(&["ping", "-c", "1", "-W", "1", "127.0.0.1"])?;
    runtime.del(&container)?;
    lo.del(&on_lo)?;
    sleep(Duration::from_millis(10));
    node.must_be_clean()
}
