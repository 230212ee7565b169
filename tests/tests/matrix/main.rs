//! Every kind of a node's traffic, in both families and transports: each cell of the matrix must
//! be reached, be seen by the right address, and take no other way than it should.

use anyhow::Result;
use shunt_api::Encap;
use shunt_tests::balance::drops_between;
use shunt_tests::cluster::{Cluster, Spec};
use shunt_tests::family::Family;
use shunt_tests::matrix::{Watch, World, run};
use shunt_tests::netns::Netns;
use shunt_tests::services::Flavour;
use shunt_tests::testbed::Testbed;

/// Why what a dual-stack pod tells its link, of the multicast groups it listens to, goes no further.
const LINK_LOCAL: &str = "multicast_not_routed";

/// Builds two nodes, runs the matrix, and asks for the books.
fn matrix(encap: Encap, underlay: Family) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let spec = Spec::whole(encap, underlay);
    let cluster = Cluster::build(&spec, Netns::new)?;
    let before = cluster
        .sites
        .iter()
        .map(|site| site.daemon.stats())
        .collect::<Result<Vec<_>>>()?;
    let watch = Watch::start(&cluster, &spec)?;
    let title = format!("{encap:?} over {underlay}");
    let world = World::of(&cluster)?;
    let flavours = [Flavour::Iptables, Flavour::Nftables];
    let mut table = run(&title, &world, &flavours, Some(watch))?;
    for (site, before) in cluster.sites.iter().zip(before) {
        let mut drops = drops_between(&before, &site.daemon.stats()?);
        drops.retain(|reason, _| reason != LINK_LOCAL);
        if !drops.is_empty() {
            table.blame(format!("node {} dropped {drops:?}", site.node.index));
        }
    }
    table.must_pass()?;
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    for site in cluster.sites {
        site.daemon.stop()?;
    }
    Ok(())
}

#[test]
fn vxlan() -> Result<()> {
    matrix(Encap::Vxlan, Family::V4)
}

#[test]
fn vxlan_over_ipv6() -> Result<()> {
    matrix(Encap::Vxlan, Family::V6)
}

#[test]
fn ipip() -> Result<()> {
    matrix(Encap::Ipip, Family::V4)
}

#[test]
fn ipip_over_ipv6() -> Result<()> {
    matrix(Encap::Ipip, Family::V6)
}

#[test]
fn direct() -> Result<()> {
    matrix(Encap::Direct, Family::V4)
}

/// The kernel alone, whose nodes route between their pods: what the matrix says of it, it may say
/// of Shunt too. It proves the rules, the addresses that servers must see, and the probes.
#[test]
fn the_kernel_alone() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let kernel = kernel::KernelCluster::build()?;
    let flavours = [Flavour::Iptables, Flavour::Nftables];
    run("the kernel alone", &kernel.world()?, &flavours, None)?.must_pass()
}

mod kernel;
