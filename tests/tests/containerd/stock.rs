//! The fixture itself, without Shunt: Debian's bridge and host-local.

use anyhow::{Result, ensure};
use serde_json::json;
use shunt_tests::cni::{Network, STOCK, host_local};
use shunt_tests::cri::{Containerd, CriPod};
use shunt_tests::netns::Netns;
use shunt_tests::testbed::Testbed;

#[test]
fn the_stock_bridge_passes_what_is_asked_of_shunt() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let leases = tempfile::tempdir()?;
    let node = Netns::new("node1")?;
    let mut containerd = Containerd::start(&node, STOCK.as_ref())?;
    let subnets = ["10.244.9.0/24".parse()?];
    let network = Network::new(
        "stock",
        json!({
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": true,
            "ipam": host_local(&subnets, leases.path()),
        }),
    );
    let file = containerd.conf_dir().join("10-stock.conflist");
    std::fs::write(file, network.conflist().to_string())?;
    containerd.wait_network()?;
    let web = CriPod::run(&containerd, "web")?;
    let client = CriPod::run(&containerd, "client")?;
    client.must_fetch(&containerd, &web)?;
    containerd.stop()?;
    containerd.start_again()?;
    client.must_fetch(&containerd, &web)?;
    for pod in [&web, &client] {
        ensure!(pod.netns.exists(), "{} is gone", pod.netns.display());
        pod.remove(&containerd)?;
        ensure!(!pod.netns.exists(), "{} is left", pod.netns.display());
    }
    let left = (
        containerd.shims()?,
        containerd.bundles()?,
        containerd.mounts()?,
    );
    ensure!(left == (0, 0, 0), "shims, bundles, mounts: {left:?}");
    Ok(())
}
