//! Checklist: "GC: drop everything not in `cni.dev/valid-attachments` [{containerID, ifname}];
//! continue past errors; silent on success."

use anyhow::{Result, ensure};
use rustix::process::Signal;
use shunt_tests::cni::CniPod;

use crate::{lone, modern, must_lose_eth0, must_reach};

#[test]
fn gc_frees_ports_addresses_and_leases() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(modern(&node)?);
    let other = node.network().name("other");
    let other = node.runtime(other.range_start("10.244.1.200".parse()?));
    let foreign = CniPod::add(&other, "foreign")?;
    let pods = ["a", "b", "c", "d"]
        .map(|role| CniPod::add(&runtime, role))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let [a, b, c, d] = &pods[..] else {
        anyhow::bail!("four pods")
    };
    assert!(runtime.gc(&[&a.container, &b.container])?.ok()?.is_null());
    assert!(node.plugins.calls("modern").contains(&"GC".to_owned()));
    let heard = node.plugins.heard("modern", "GC")?;
    ensure!(heard.contains("cni.dev/valid-attachments"), "{heard}");

    assert_eq!(node.pods()?.len(), 3);
    let leases = node.leases().of("pods")?;
    assert_eq!(leases.len(), 2);
    for pod in [a, b] {
        assert!(leases.contains_key(&pod.address()?));
    }
    must_reach(a, b)?;
    must_reach(a, &foreign)?;
    for pod in [c, d] {
        must_lose_eth0(&pod.netns)?;
        ensure!(!node.daemon.routes()?.iter().any(|route| {
            pod.address()
                .is_ok_and(|address| route.prefix.addr() == address)
        }));
    }
    // Once more changes nothing; the same interface of another container does not keep it.
    assert!(runtime.gc(&[&a.container, &b.container])?.ok()?.is_null());
    assert_eq!(node.pods()?.len(), 3);
    assert!(runtime.gc(&[])?.ok()?.is_null());
    assert_eq!(node.pods()?.len(), 1);
    // The runtime's late DEL of what was collected.
    for pod in &pods {
        runtime.del(&pod.container)?;
    }
    other.del(&foreign.container)?;
    node.must_be_clean()
}

/// "continue past errors": IPAM's failure is told, and keeps nothing from being dropped.
#[test]
fn gc_continues_past_errors() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(modern(&node)?);
    let pods = ["a", "b"]
        .map(|role| CniPod::add(&runtime, role))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    node.plugins.script(
        "modern",
        r#"echo '{"cniVersion":"1.1.0","code":177,"msg":"out of order"}'; exit 1"#,
    )?;
    runtime.gc(&[])?.error()?;
    for pod in &pods {
        must_lose_eth0(&pod.netns)?;
    }
    assert_eq!(node.pods()?, []);
    node.plugins.modern_host_local("modern")?;
    for pod in &pods {
        runtime.del(&pod.container)?;
    }
    node.must_be_clean()
}

#[test]
fn gc_with_the_daemon_down_is_an_error_and_harmless() -> Result<()> {
    let (_testbed, mut node) = lone()?;
    let runtime = node.runtime(modern(&node)?);
    let [a, b] = [CniPod::add(&runtime, "a")?, CniPod::add(&runtime, "b")?];
    node.daemon.halt(Signal::TERM)?;
    runtime.gc(&[&a.container])?.error()?;
    node.daemon.start_again()?;
    must_reach(&a, &b)?;
    runtime.gc(&[&a.container])?.ok()?;
    assert_eq!(node.pods()?.len(), 1);
    runtime.del(&a.container)?;
    runtime.del(&b.container)?;
    ensure!(node.leases().all()?.is_empty());
    Ok(())
}
