//! Checklist: "containerd does not call [GC], so the daemon also collects what is gone by itself".

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use rustix::process::Signal;
use shunt_api::PortRole;
use shunt_tests::cni::{CniPod, Container};
use shunt_tests::probe::must_ping;

use crate::restart::eventually;
use crate::{lone, must_lose_eth0, must_reach};

/// The namespace is deleted behind our back.
#[test]
fn a_namespace_that_is_gone() -> Result<()> {
    let (_testbed, node) = lone()?;
    let veths = node.runtime(node.network());
    let taps = node.runtime(node.network().set("port", "tap"));
    let peer = CniPod::add(&veths, "peer")?;
    for runtime in [&veths, &taps] {
        let pod = CniPod::add(runtime, "pod")?;
        let container = pod.container.clone();
        drop(pod);
        eventually("one lease", || Ok(node.leases().all()?.len() == 1))?;
        eventually("one record", || Ok(node.records()?.len() == 1))?;
        assert_eq!(node.pods()?.len(), 1);
        // The runtime comes late.
        runtime.del(&container)?;
        let next = CniPod::add(runtime, "next")?;
        must_reach(&next, &peer)?;
        runtime.del(&next.container)?;
    }
    veths.del(&peer.container)?;
    node.must_be_clean()
}

/// A namespace without a name, by a process in it, as other runtimes than containerd give it.
#[test]
fn a_namespace_of_a_process() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let peer = CniPod::add(&runtime, "peer")?;
    // It is in the node's namespace to begin with, and makes its own.
    let line = "unshare --net sh -c 'ip link set lo up; echo ready; exec sleep 600'";
    let mut process = node
        .node
        .netns
        .start(&["sh", "-c", &format!("exec {line}")])?;
    process.wait_output(Duration::from_secs(5), |text| text.contains("ready"))?;
    let container = Container::new(&format!("/proc/{}/ns/net", process.pid()));
    let result = runtime.add(&container)?;
    let address = result["ips"][0]["address"].as_str().context("address")?;
    let address: IpNet = address.parse()?;
    must_ping(&peer.netns, address.addr(), 1, "")?;
    runtime.check(&container)?;
    process.stop(Signal::KILL, Duration::from_secs(2))?;
    eventually("one lease", || Ok(node.leases().all()?.len() == 1))?;
    runtime.del(&container)?;
    runtime.del(&peer.container)?;
    node.must_be_clean()
}

/// The veth is deleted behind our back, on either side.
#[test]
fn an_interface_that_is_gone() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let peer = CniPod::add(&runtime, "peer")?;
    for side in ["host", "pod"] {
        let pod = CniPod::add(&runtime, "pod")?;
        let pods = node.pods()?;
        let info = pods
            .iter()
            .find(|info| info.key.container_id == pod.container.id);
        let port = &info.context("the attachment")?.port;
        match side {
            "host" => node.node.netns.ip(&format!("link del {port}"))?,
            _ => pod.netns.ip("link del eth0")?,
        };
        eventually("one lease", || Ok(node.leases().all()?.len() == 1))?;
        eventually("one record", || Ok(node.records()?.len() == 1))?;
        runtime.del(&pod.container)?;
    }
    // A TAP that is gone is seen, too.
    let taps = node.runtime(node.network().set("port", "tap"));
    let pod = CniPod::add(&taps, "pod")?;
    pod.netns.ip("link del eth0")?;
    eventually("one lease", || Ok(node.leases().all()?.len() == 1))?;
    taps.del(&pod.container)?;
    runtime.del(&peer.container)?;
    node.must_be_clean()
}

/// While IPAM cannot take an address back, the record stays, over a restart, until it can.
#[test]
fn a_release_that_fails_is_tried_again() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let broken = node.plugins.scratch().join("broken");
    let body = format!(
        "if [ -e {} ] && [ \"$CNI_COMMAND\" = DEL ]; then\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"code\":133,\"msg\":\"out of order\"}}'; exit 1\n\
         fi\n\
         exec /usr/lib/cni/host-local",
        broken.display()
    );
    node.plugins.script("shaky", &body)?;
    let runtime = node.runtime(node.network().ipam_type("shaky"));
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    std::fs::write(&broken, "")?;
    let late = a.container.clone();
    drop(a);
    // The port goes at once, the lease cannot.
    eventually("one port", || {
        let ports = node.daemon.ports()?;
        let pods = ports.iter().filter(|port| port.role == PortRole::Pod);
        Ok(pods.count() == 1)
    })?;
    assert_eq!(node.leases().all()?.len(), 2);
    assert_eq!(node.records()?.len(), 2);
    node.daemon.halt(Signal::TERM)?;
    node.daemon.start_again()?;
    assert_eq!(node.leases().all()?.len(), 2);
    assert_eq!(node.records()?.len(), 2);
    std::fs::remove_file(&broken)?;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while node.leases().all()?.len() > 1 || node.records()?.len() > 1 {
        ensure!(
            std::time::Instant::now() < deadline,
            "the lease is never given back"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    runtime.del(&late)?;
    runtime.del(&b.container)?;
    node.must_be_gone()
}

/// The runtime's own DEL fails as IPAM does, and succeeds once it can.
#[test]
fn a_del_whose_ipam_fails() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let broken = node.runtime(node.network().ipam_type("broken"));
    let pod = CniPod::add(&runtime, "pod")?;
    node.plugins.script(
        "broken",
        r#"echo '{"cniVersion":"1.0.0","code":133,"msg":"out of order"}'; exit 1"#,
    )?;
    broken
        .try_del(&pod.container)?
        .must_fail(133, &["out of order"])?;
    must_lose_eth0(&pod.netns)?;
    runtime.del(&pod.container)?;
    node.must_be_clean()
}
