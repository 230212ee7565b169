//! podman with its CNI backend: its containers on a Shunt network.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;
use shunt_tests::cni::{CniNode, Options};
use shunt_tests::netns::Netns;
use shunt_tests::outside::Outside;
use shunt_tests::podman::Podman;
use shunt_tests::probe::curl;
use shunt_tests::testbed::Testbed;

const MAC: &str = "02:00:00:00:00:17";

/// The fixture itself: containers on the stock bridge.
#[test]
fn stock_bridge() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let node = Netns::new("node1")?;
    let podman = Podman::new(&node, Path::new("/usr/lib/cni"))?;
    let leases = tempfile::tempdir()?;
    podman.add_network(&json!({
        "cniVersion": "1.0.0",
        "name": "stock",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": leases.path(),
                "ranges": [[{"subnet": "10.88.0.0/24"}]],
            },
        }],
    }))?;
    let one = podman.serve("one", "stock", &["--mac-address", MAC])?;
    let two = podman.serve("two", "stock", &["--ip", "10.88.0.77"])?;
    let (at_one, at_two) = (one.attached("stock")?, two.attached("stock")?);
    assert_eq!(at_one.mac, MAC);
    assert_eq!(at_two.address, "10.88.0.77");
    assert_eq!(
        one.ask(&at_two.address)?,
        ("two".into(), at_one.address.clone())
    );
    assert_eq!(
        two.ask(&at_one.address)?,
        ("one".into(), at_two.address.clone())
    );
    one.restart()?;
    let again = one.attached("stock")?;
    assert_ne!(again.sandbox, at_one.sandbox);
    assert_eq!(two.ask(&again.address)?.0, "one");
    one.remove()?;
    two.remove()?;
    assert_eq!(podman.containers()?, [""; 0]);
    for sandbox in [again.sandbox, at_two.sandbox] {
        ensure!(!sandbox.exists(), "{} is left", sandbox.display());
    }
    Ok(())
}

/// Two containers talk, in both families, by the addresses they asked for; one starts again; and
/// nothing is left of them.
#[test]
fn containers_talk() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let node = CniNode::lone(&Options {
        dual: true,
        ..Options::default()
    })?;
    let podman = Podman::new(&node.node.netns, &node.plugins.bin())?;
    podman.add_network(&node.network().conflist())?;
    let one = podman.serve("one", "pods", &["--mac-address", MAC])?;
    let two = podman.serve("two", "pods", &["--ip", "10.244.1.77"])?;
    let (at_one, at_two) = (one.attached("pods")?, two.attached("pods")?);
    assert_eq!(at_one.mac, MAC);
    assert!(at_one.ip("link show dev eth0")?.contains(MAC));
    assert_eq!(at_two.address, "10.244.1.77");
    for (from, at, to) in [
        (&one, &at_one, (&two, &at_two)),
        (&two, &at_two, (&one, &at_one)),
    ] {
        let seen = from.ask(&to.1.address)?;
        assert_eq!(seen, (to.0.name.clone(), at.address.clone()));
        let seen = from.ask(&to.1.address6)?;
        assert_eq!(seen, (to.0.name.clone(), at.address6.clone()));
    }
    let attached = node.pods()?;
    assert_eq!(attached.len(), 2);
    assert!(attached.iter().all(|pod| pod.state == "up"), "{attached:?}");

    one.restart()?;
    let again = one.attached("pods")?;
    assert_ne!(again.sandbox, at_one.sandbox);
    assert_eq!(again.mac, MAC);
    assert_eq!(
        one.ask(&at_two.address)?,
        ("two".into(), again.address.clone())
    );
    assert_eq!(
        two.ask(&again.address6)?,
        ("one".into(), at_two.address6.clone())
    );
    assert_eq!(node.pods()?.len(), 2);

    one.remove()?;
    two.remove()?;
    assert_eq!(podman.containers()?, [""; 0]);
    for sandbox in [again.sandbox, at_two.sandbox] {
        ensure!(!sandbox.exists(), "{} is left", sandbox.display());
    }
    node.must_be_clean()
}

/// `podman run --publish` by the stock plugin behind ours.
#[test]
fn a_published_port_leads_to_a_container() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let node = CniNode::lone(&Options {
        dual: true,
        host: Some(String::new()),
        ..Options::default()
    })?;
    let wire = node.wire.as_ref().expect("a lone node's wire");
    let outside = Outside::new(Netns::new("outside")?, wire)?;
    Outside::route_from(&node.node.netns)?;
    let podman = Podman::new(&node.node.netns, &node.plugins.bin())?;
    let network = node.network().chain(json!({
        "type": "portmap",
        "capabilities": { "portMappings": true },
    }));
    podman.add_network(&network.conflist())?;
    let web = podman.serve("web", "pods", &["--publish", "8080:80"])?;
    let ask = || {
        let url = format!(
            "http://{}/cgi-bin/who",
            SocketAddr::new(node.node.address.into(), 8080)
        );
        curl(&outside.netns, 5, &[], &url)
    };
    let seen = ask()?;
    assert!(
        seen.starts_with("web ") && seen.contains(&shunt_tests::outside::ADDRESS4.to_string()),
        "{seen}"
    );
    web.remove()?;
    assert!(ask().is_err());
    node.must_be_clean()
}
