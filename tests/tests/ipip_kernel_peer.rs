//! A Shunt node and a node that is another Linux kernel with Calico's IPIP set-up, on one
//! underlay: pings and TCP both ways, and what the wire carries meanwhile.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shunt_api::Encap;
use shunt_tests::capture::Capture;
use shunt_tests::cluster::{Cluster, Spec};
use shunt_tests::netns::Netns;
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::probe::must_ping;
use shunt_tests::testbed::Testbed;
use shunt_tests::uml::{Overlay, UmlPeer, UmlPeerConfig};

/// The largest echo payload through the tunnel: the underlay's 1500 bytes less outer IPv4 (20),
/// inner IPv4 (20) and ICMP (8).
const LARGEST: u32 = 1452;

/// The pod fetches the peer's file, and the peer the same file from the pod.
fn must_fetch_both_ways(pod: &Pod, peer: &UmlPeer) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("temporary folder")?;
    let copy = format!("{path}/blob");
    let url = format!("http://{}/blob", peer.pod());
    pod.netns
        .run(&["curl", "-sSf", "--max-time", "20", "-o", &copy, &url])?;
    assert!(
        std::fs::read(&copy)? == UmlPeer::blob(),
        "{}: bytes differ",
        pod.name
    );

    // Not Python's http.server, which first asks for its own name in a network without DNS.
    let listen = format!("{}:8000", pod.address);
    let mut server = pod
        .netns
        .start(&["busybox", "httpd", "-f", "-v", "-p", &listen, "-h", path])?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while pod.netns.within(|| TcpStream::connect(&listen))?.is_err() {
        assert!(Instant::now() < deadline, "{}", server.output());
        sleep(Duration::from_millis(5));
    }
    let body = peer.fetch(&format!("http://{listen}/blob"))?;
    assert!(body == UmlPeer::blob(), "peer: bytes differ");
    // The pod sees the peer's pod by its own address.
    let client = format!("{}:", peer.pod());
    server.wait_output(Duration::from_secs(5), |log| log.contains(&client))?;
    Ok(())
}

fn exchange(mode: Mode) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let mut spec = Spec::new(mode, Encap::Ipip);
    spec.nodes = 1;
    let cluster = Cluster::build(&spec, Netns::new)?;
    let [site] = &cluster.sites[..] else {
        panic!("one node was asked for");
    };
    let config = UmlPeerConfig::new(2, 1, Overlay::Ipip)?;
    let peer = UmlPeer::boot(Netns::new("uml2")?, &cluster.wire, config)?;
    // Not before: an ARP request that nobody answers keeps the kernel from the next for a second.
    site.route_to(2, Encap::Ipip)?;

    let capture = Capture::start(&cluster.wire.netns, "p1", "")?;
    for pod in &site.pods {
        must_ping(&pod.netns, peer.pod(), 5, "")?;
        must_ping(&pod.netns, peer.pod(), 3, &format!("-M do -s {LARGEST}"))?;
        peer.must_ping(pod.address, 5, 56)?;
        peer.must_ping(pod.address, 3, LARGEST)?;
        must_fetch_both_ways(pod, &peer)?;
    }
    let captured = capture.stop()?;

    let warnings = captured.warnings_among("ip.src == 192.168.77.1")?;
    assert!(
        warnings.is_empty(),
        "{} warnings, the first: {:?}",
        warnings.len(),
        warnings.first()
    );
    let pods = "ip.addr == 10.244.0.0/16";
    let tunnelled = "ip.proto == 4 && ip.addr == 192.168.77.1 && ip.addr == 192.168.77.2";
    assert_eq!(captured.count(&format!("{pods} && !({tunnelled})"))?, 0);
    assert_eq!(captured.count("frame.len > 1514")?, 0);
    for pod in &site.pods {
        let address = pod.address;
        // Requests and replies of 16 pings.
        assert_eq!(
            captured.count(&format!("icmp && ip.addr == {address}"))?,
            32
        );
        for direction in ["src", "dst"] {
            let data = format!("tcp.len > 0 && ip.{direction} == {address}");
            assert!(captured.count(&data)? > 0, "{data}");
        }
    }
    site.daemon.must_return_all_frames()?;
    Ok(())
}

#[test]
fn kernel_ipip_peer_exchanges_ping_and_tcp_with_a_shunt_node() -> Result<()> {
    exchange(Mode::L3)
}

#[test]
fn kernel_ipip_peer_exchanges_ping_and_tcp_with_a_shunt_node_in_l2_mode() -> Result<()> {
    exchange(Mode::L2)
}
