//! Two nodes of ours: every pair of pods, in every mode and encapsulation, and what is on the
//! wire meanwhile.

use std::time::Duration;

use anyhow::Result;
use shunt_api::{Encap, PortRole};
use shunt_tests::capture::Capture;
use shunt_tests::cluster::{Cluster, Spec};
use shunt_tests::netns::Netns;
use shunt_tests::pod::Mode;
use shunt_tests::probe::{must_ping, must_tcp, must_udp, tcp};
use shunt_tests::testbed::Testbed;

/// Builds the cluster, lets every pair talk in every way, checks the wire and the books.
fn everybody_talks(mode: Mode, encap: Encap) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let spec = Spec::new(mode, encap);
    let cluster = Cluster::build(&spec, Netns::new)?;
    let payload = usize::try_from(spec.pod_mtu())? - 28;
    let capture = Capture::start(&cluster.wire.netns, "p1", "")?;
    for (from, to) in cluster.pairs() {
        must_ping(&from.netns, to.address, 3, "")?;
        must_ping(&from.netns, to.address, 2, &format!("-M do -s {payload}"))?;
        must_udp(from, to, &[0, 1, 2, 999, payload])?;
        let short = tcp(&from.netns, (&to.netns, to.address), Duration::ZERO)?;
        assert_eq!(short.client, from.address);
    }
    let captured = capture.stop()?;
    assert_eq!(captured.warnings()?, Vec::<String>::new());
    let outer = match encap {
        Encap::Vxlan => "vxlan.vni == 1 && udp.dstport == 8472",
        Encap::Ipip => "ip.proto == 4",
        _ => "ip && !vxlan && !(ip.proto == 4)",
    };
    let pods = "ip.addr == 10.244.0.0/16";
    assert_eq!(
        captured.count(pods)?,
        captured.count(&format!("{pods} && {outer}"))?
    );
    if encap != Encap::Direct {
        let foreign = "!(ip.addr == 192.168.77.1 && ip.addr == 192.168.77.2)";
        assert_eq!(captured.count(&format!("{pods} && {foreign}"))?, 0);
    }
    let seen = captured.fields(pods, &["ip.src", "ip.dst"])?;
    let innermost = |list: &str| list.rsplit(',').next().unwrap_or_default().to_owned();
    for (from, to) in cluster.pairs() {
        let across = from.address.octets()[2] != to.address.octets()[2];
        let (source, destination) = (from.address.to_string(), to.address.to_string());
        let found = seen
            .iter()
            .any(|row| innermost(&row[0]) == source && innermost(&row[1]) == destination);
        assert_eq!(found, across, "{source} -> {destination} on the wire");
    }
    for (from, to) in cluster.pairs() {
        must_tcp(from, to)?;
    }
    for site in &cluster.sites {
        let before = site.daemon.stats()?;
        assert!(before.received > 1000, "{before:?}");
        let uplink = site
            .daemon
            .ports()?
            .into_iter()
            .find(|port| port.role == PortRole::Uplink);
        assert!(uplink.is_some_and(|port| port.state == "up" && port.device == "eth0"));
        site.daemon.must_return_all_frames()?;
    }
    for site in cluster.sites {
        site.daemon.stop()?;
    }
    Ok(())
}

#[test]
fn l3_over_vxlan() -> Result<()> {
    everybody_talks(Mode::L3, Encap::Vxlan)
}

#[test]
fn l3_over_ipip() -> Result<()> {
    everybody_talks(Mode::L3, Encap::Ipip)
}

#[test]
fn l3_direct() -> Result<()> {
    everybody_talks(Mode::L3, Encap::Direct)
}

#[test]
fn l2_over_vxlan() -> Result<()> {
    everybody_talks(Mode::L2, Encap::Vxlan)
}

#[test]
fn l2_over_ipip() -> Result<()> {
    everybody_talks(Mode::L2, Encap::Ipip)
}

#[test]
fn l2_direct() -> Result<()> {
    everybody_talks(Mode::L2, Encap::Direct)
}

/// On one underlay segment the cross-subnet modes are direct.
#[test]
fn cross_subnet_is_direct_on_one_link() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for encap in [Encap::CrossSubnetVxlan, Encap::CrossSubnetIpip] {
        let cluster = Cluster::build(&Spec::new(Mode::L3, encap), Netns::new)?;
        let capture = Capture::start(&cluster.wire.netns, "p1", "ip")?;
        let (a1, b1) = (&cluster.sites[0].pods[0], &cluster.sites[1].pods[0]);
        must_ping(&a1.netns, b1.address, 3, "")?;
        must_tcp(b1, a1)?;
        let captured = capture.stop()?;
        assert_eq!(captured.count("vxlan || ip.proto == 4")?, 0);
        assert!(captured.count(&format!("ip.src == {}", a1.address))? >= 3);
        for site in &cluster.sites {
            site.daemon.must_return_all_frames()?;
        }
    }
    Ok(())
}
