//! Checklist: "roll back wholly on failure".

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shunt_tests::cni::{CniPod, Container, Options, fixed};
use shunt_tests::netns::Netns;
use shunt_tests::probe::must_ping;

use crate::{Small, built, lone, must_lose_eth0, must_reach};

/// The address is another pod's.
#[test]
fn an_address_that_is_taken() -> Result<()> {
    let (_testbed, node) = lone()?;
    let address: IpAddr = "10.244.1.77".parse()?;
    let runtime = node.runtime(node.network().set("ipam", fixed(&[(address, 24)])));
    let dynamic = node.runtime(node.network());
    let peer = CniPod::add(&dynamic, "peer")?;
    let pod = CniPod::add(&runtime, "pod")?;
    assert_eq!(pod.address()?, address);
    let netns = Netns::new("late")?;
    let late = Container::new(&netns.path());
    runtime.try_add(&late)?.must_fail(100, &["10.244.1.77"])?;
    runtime.try_del(&late)?.ok()?;
    must_lose_eth0(&netns)?;
    must_reach(&peer, &pod)?;
    must_reach(&pod, &peer)?;
    assert_eq!(node.pods()?.len(), 2);
    runtime.del(&pod.container)?;
    // Free again.
    let netns = Netns::new("next")?;
    let next = Container::new(&netns.path());
    runtime.add(&next)?;
    must_ping(&peer.netns, address, 1, "")?;
    runtime.del(&next)?;
    dynamic.del(&peer.container)?;
    node.must_be_clean()
}

/// The namespace vanishes between IPAM's ADD and ours.
#[test]
fn the_namespace_vanishes_meanwhile() -> Result<()> {
    let (_testbed, node) = lone()?;
    let netns = Netns::new("pod")?;
    let delete = format!("ip netns del {}", netns.name());
    node.plugins.host_local_then("deadly", "ADD", &delete)?;
    let runtime = node.runtime(node.network().ipam_type("deadly"));
    let container = Container::new(&netns.path());
    runtime.try_add(&container)?.must_fail(3, &[])?;
    assert_eq!(node.plugins.calls("deadly"), ["ADD", "DEL"]);
    node.must_be_clean()?;
    runtime.try_del(&container)?.ok()?;
    node.must_be_clean()
}

/// The interface comes up between our look and our work.
#[test]
fn the_interface_appears_meanwhile() -> Result<()> {
    let (_testbed, node) = lone()?;
    let netns = Netns::new("pod")?;
    let make = format!("ip -n {} link add eth0 type veth peer name x", netns.name());
    node.plugins.host_local_then("rival", "ADD", &make)?;
    let runtime = node.runtime(node.network().ipam_type("rival"));
    let container = Container::new(&netns.path());
    runtime.try_add(&container)?.must_fail(100, &["eth0"])?;
    assert_eq!(node.plugins.calls("rival"), ["ADD", "DEL"]);
    netns.ip("link show dev eth0")?;
    runtime.try_del(&container)?.ok()?;
    netns.ip("link show dev eth0")?;
    node.must_be_clean()
}

/// The pod has a default route by another interface.
#[test]
fn the_default_route_is_taken() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    netns.ip("link add net0 type veth peer name x")?;
    netns.ip("link set net0 up")?;
    netns.ip("link set x up")?;
    netns.ip("address add 172.31.0.5/24 dev net0")?;
    netns.ip("route add default via 172.31.0.1 dev net0")?;
    let container = Container::new(&netns.path());
    runtime
        .try_add(&container)?
        .must_fail(100, &["0.0.0.0/0", "net0"])?;
    must_lose_eth0(&netns)?;
    let routes = netns.ip("route show default")?;
    ensure!(routes.contains("172.31.0.1"), "{routes}");
    assert!(node.leases().all()?.is_empty());
    // Without ours it goes.
    let second = node.runtime(node.network().set("isDefaultGateway", false));
    second.add(&container)?;
    let routes = netns.ip("route show default")?;
    ensure!(
        routes.contains("172.31.0.1") && !routes.contains("eth0"),
        "{routes}"
    );
    second.del(&container)?;
    node.must_be_clean()
}

/// "a disk that is full": refused with the file's name, and nothing is left; running pods go on.
#[test]
fn the_disk_is_full() -> Result<()> {
    let small = Small::new("size=256k")?;
    let options = Options {
        state_dir: Some(small.path().join("state")),
        ..Options::default()
    };
    let (_testbed, node) = built(&options)?;
    let runtime = node.runtime(node.network());
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    let records = node.records()?;
    let filler = small.path().join("filler");
    let full = std::fs::write(&filler, vec![1; 1 << 20]);
    ensure!(full.is_err(), "the disk is larger than thought");
    let netns = Netns::new("c")?;
    let container = Container::new(&netns.path());
    let path = small.path().display().to_string();
    for _ in 0..3 {
        // Refused when the record is written, or before, once the daemon has noticed.
        let outcome = runtime.try_add(&container)?;
        let code = outcome.error()?.code;
        ensure!([11, 102].contains(&code), "{}", outcome.stdout);
        outcome.must_fail(code, &[&path])?;
        must_lose_eth0(&netns)?;
    }
    assert_eq!(node.records()?, records);
    assert_eq!(node.leases().all()?.len(), 2);
    runtime.try_del(&container)?.ok()?;
    must_reach(&a, &b)?;
    // DEL needs no room.
    runtime.del(&a.container)?;
    std::fs::remove_file(&filler)?;
    let result = runtime.add(&container)?;
    ensure!(!result.is_null());
    runtime.del(&container)?;
    runtime.del(&b.container)?;
    node.must_be_clean()
}

/// The runtime's patience is at an end while IPAM hangs: killed at any point, then DEL.
#[test]
fn the_plugin_is_killed() -> Result<()> {
    let (_testbed, node) = lone()?;
    node.plugins.host_local_then("slow", "ADD", "sleep 60")?;
    let runtime = node.runtime(node.network().ipam_type("slow"));
    let netns = Netns::new("pod")?;
    let container = Container::new(&netns.path());
    let call = runtime.invocation("ADD", 0, &container, None)?;
    let running = call.start(runtime.node())?;
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while node.leases().all()?.is_empty() {
        ensure!(std::time::Instant::now() < deadline, "no lease");
        std::thread::sleep(Duration::from_millis(2));
    }
    running.kill();
    assert_eq!(node.leases().all()?.len(), 1);
    runtime.try_del(&container)?.ok()?;
    node.must_be_clean()
}

/// Killed while the daemon is at work: what it has made without anybody to tell goes with the
/// runtime's DEL.
#[test]
fn the_plugin_is_killed_at_any_time() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    for pause in 0..15u64 {
        let container = Container::new(&netns.path());
        let call = runtime.invocation("ADD", 0, &container, None)?;
        let running = call.start(runtime.node())?;
        std::thread::sleep(Duration::from_millis(pause));
        running.kill();
        runtime.try_del(&container)?.ok()?;
        node.must_be_clean()
            .with_context(|| format!("killed after {pause} ms"))?;
    }
    Ok(())
}

/// IPAM fails: the daemon has nothing of it.
#[test]
fn ipam_has_no_address_left() -> Result<()> {
    let (_testbed, node) = lone()?;
    let network = node.network();
    let small = network.clone().set(
        "ipam",
        serde_json::json!({
            "type": "host-local",
            "dataDir": node.plugins.lease_dir(),
            "ranges": [[{
                "subnet": "10.244.1.0/24", "rangeStart": "10.244.1.50", "rangeEnd": "10.244.1.51",
            }]],
        }),
    );
    let runtime = node.runtime(small);
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    let netns = Netns::new("c")?;
    let container = Container::new(&netns.path());
    let error = runtime.try_add(&container)?.error()?;
    ensure!(
        error.msg.contains("no IP addresses") || error.details.contains("no IP addresses"),
        "{error:?}"
    );
    runtime.try_del(&container)?.ok()?;
    must_reach(&a, &b)?;
    runtime.del(&a.container)?;
    let result = runtime.add(&container)?;
    ensure!(!result.is_null());
    runtime.del(&container)?;
    runtime.del(&b.container)?;
    node.must_be_clean()
}
