//! Pods attached by CNI: the real plugin, the real daemon, and Debian's IPAM plugins. Each line of
//! the checklist has a test that names it.

mod admission;
mod away;
mod collect;
mod crowd;
mod environment;
mod gc;
mod halfway;
mod kinds;
mod limits;
mod restart;
mod settings;
mod stdin;
mod traffic;
mod verbs;
mod versions;

use std::path::Path;

use anyhow::Result;
use shunt_tests::cni::{CniNode, CniPod, Network, Options};
use shunt_tests::command::run;
use shunt_tests::netns::Netns;
use shunt_tests::probe::must_ping;
use shunt_tests::testbed::Testbed;
use tempfile::TempDir;

use restart::eventually;

/// A node of the usual kind, IPv4 in L3 mode.
fn lone() -> Result<(Testbed, CniNode)> {
    built(&Options::default())
}

fn built(options: &Options) -> Result<(Testbed, CniNode)> {
    let testbed = Testbed::acquire()?;
    Ok((testbed, CniNode::lone(options)?))
}

/// The node's network in version 1.1.0, which has STATUS and GC.
fn modern(node: &CniNode) -> Result<Network> {
    node.plugins.modern_host_local("modern")?;
    Ok(node.network().version("1.1.0").ipam_type("modern"))
}

/// One echo request, which must be answered.
fn must_reach(from: &CniPod, to: &CniPod) -> Result<()> {
    must_ping(&from.netns, to.address()?, 1, "").map(drop)
}

/// Demands that a pod has no `eth0`: DEL is answered when no packet passes any more, and the kernel
/// takes some time with what is left to it.
fn must_lose_eth0(netns: &Netns) -> Result<()> {
    eventually("no eth0", || Ok(netns.ip("link show dev eth0").is_err()))
}

/// A file system of a size, that goes with its handle.
#[derive(Debug)]
struct Small {
    folder: TempDir,
}

impl Small {
    fn new(options: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sh-small-").tempdir()?;
        let path = folder.path().display().to_string();
        run(&["mount", "-t", "tmpfs", "-o", options, "shunt-tests", &path])?;
        Ok(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// For everybody who has mounted it.
    fn remount(&self, options: &str) -> Result<()> {
        let path = self.path().display().to_string();
        run(&["mount", "-o", &format!("remount,{options}"), &path]).map(drop)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let path = self.path().display().to_string();
        if let Err(error) = run(&["umount", &path]) {
            eprintln!("{path} stays mounted: {error:#}");
        }
    }
}
