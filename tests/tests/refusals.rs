//! Configurations that the daemon must not take: it names file, key and remedy, and attaches
//! nothing.

use std::path::Path;

use anyhow::{Context, Result};
use shunt_tests::config::Config;
use shunt_tests::daemon::{Daemon, shunt};
use shunt_tests::netns::Netns;
use shunt_tests::node::Node;
use shunt_tests::pod::Mode;
use shunt_tests::testbed::Testbed;
use shunt_tests::wire::Wire;

/// Runs the daemon on `text`; it must refuse with a message that has all of `words`.
fn refused(node: &Node, text: &str, words: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shunt.toml");
    std::fs::write(&file, text)?;
    let file = file.to_str().context("temporary folder")?;
    let (status, output) = shunt(&node.netns, &["run", "--config", file])?;
    assert!(!status.success(), "taken: {text}");
    for word in words.iter().chain(&[file]) {
        assert!(output.contains(word), "no {word:?} in: {output}");
    }
    let link = node.netns.ip("link show dev eth0")?;
    assert!(!link.contains("xdp"), "something is attached: {link}");
    assert!(!folder.path().join("shunt.sock").exists());
    Ok(())
}

#[test]
fn bad_configurations_name_file_key_and_remedy() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let wire = Wire::new(Netns::new("wire")?, 1500)?;
    let node = Node::new(Netns::new("node1")?, &wire, 1)?;
    let socket = std::env::temp_dir().join(format!("shunt-refused-{}.sock", std::process::id()));
    let good = Config::new(Mode::L3, 0).text(&node, &socket);
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        good.replace(from, to)
    };

    refused(
        &node,
        &with("cores = [0]", "coers = [0]"),
        &["coers", "did you mean `cores`"],
    )?;
    refused(
        &node,
        &with("cores = [0]", "cores = [0, 0]"),
        &["workers.cores"],
    )?;
    refused(
        &node,
        &with("cores = [0]", "cores = [4095]"),
        &["workers.cores", "4095"],
    )?;
    refused(
        &node,
        &with("cores = [0]", "cores = []"),
        &["workers.cores"],
    )?;
    refused(
        &node,
        &with("device = \"eth0\"", "device = \"nosuch0\""),
        &["uplink.device", "nosuch0"],
    )?;
    refused(
        &node,
        &with("vni = 1", "vni = 16777216"),
        &["vxlan.vni", "16777215"],
    )?;
    refused(
        &node,
        &with("mode = \"l3\"", "mode = \"l4\""),
        &["mode", "\"l2\""],
    )?;
    refused(&node, &with("mode = \"l3\"", "mode = "), &["TOML"])?;
    refused(
        &node,
        &with("address = \"192.168.77.1\"\n", ""),
        &["node.address", "missing"],
    )?;
    // Two mistakes are told at once.
    let two = with("vni = 1", "vni = -1").replace("cores = [0]", "coers = [0]");
    refused(&node, &two, &["vxlan.vni", "coers"])?;

    let (status, output) = shunt(&node.netns, &["run", "--config", "/nonexistent/shunt.toml"])?;
    assert!(!status.success());
    assert!(output.contains("/nonexistent/shunt.toml"), "{output}");
    assert!(!socket.exists());

    // After all of that the good one is taken.
    let daemon = Daemon::start(&node, &Config::new(Mode::L3, 0))?;
    let (status, output) = shunt(&node.netns, &["--socket", path(daemon.socket())?, "status"])?;
    assert!(status.success(), "{output}");
    assert!(output.contains("192.168.77.1"), "{output}");
    let (status, output) = shunt(&node.netns, &["--socket", path(daemon.socket())?, "stats"])?;
    assert!(status.success(), "{output}");
    daemon.must_return_all_frames()?;
    daemon.stop()?;
    let (status, output) = shunt(&node.netns, &["--socket", path(&socket)?, "stats"])?;
    assert_eq!(status.code(), Some(3), "{output}");
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("path")
}
