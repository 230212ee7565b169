//! Services under load: whole transfers, large datagrams, many endpoints, and what the switch
//! remembers of them.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shunt_api::{Encap, FlowEntry};
use shunt_tests::cluster::{Cluster, Spec};
use shunt_tests::daemon::shunt;
use shunt_tests::family::Family;
use shunt_tests::netns::Netns;
use shunt_tests::probe::{Transport, must_tcp, tcp, tcp_by, udp_by};
use shunt_tests::services::{Flavour, Proxy, Service};
use shunt_tests::testbed::Testbed;

fn service(
    name: &str,
    transport: Transport,
    address: &str,
    endpoints: &[IpAddr],
) -> Result<Service> {
    Ok(Service {
        name: name.to_owned(),
        transport,
        address: address.parse()?,
        node_port: 0,
        local: false,
        endpoints: endpoints
            .iter()
            .map(|e| SocketAddr::new(*e, 8080))
            .collect(),
    })
}

/// Bulk TCP and fragmented UDP from a pod to a service of one endpoint: on the same node, on
/// the other, and the pod itself.
fn transfers(encap: Encap, flavour: Flavour) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = Cluster::build(&Spec::whole(encap, Family::V4), Netns::new)?;
    let (one, two) = (&cluster.sites[0], &cluster.sites[1]);
    let (a1, a2, b1) = (&one.pods[0], &one.pods[1], &two.pods[0]);
    let mut services = Vec::new();
    let mut cases = Vec::new();
    for (number, (pod, seen)) in [(a2, false), (b1, false), (a1, true)]
        .into_iter()
        .enumerate()
    {
        for (family, vip) in [
            (Family::V4, format!("10.96.1.{}:80", number + 1)),
            (Family::V6, format!("[fd00:10:96:1::{}]:80", number + 1)),
        ] {
            let endpoint = pod.address_of(family)?;
            let own = match seen {
                true => one.node.underlay(family),
                false => a1.address_of(family)?,
            };
            for transport in Transport::ALL {
                let name = format!("n{number}{transport}{}", family.header());
                services.push(service(&name, transport, &vip, &[endpoint])?);
            }
            cases.push((pod, vip.parse::<SocketAddr>()?, endpoint, own));
        }
    }
    Proxy::install(flavour, &one.node, &services)?;
    for (pod, vip, endpoint, own) in cases {
        let server = (&pod.netns, SocketAddr::new(endpoint, 8080));
        let seen = tcp_by(&a1.netns, vip, server, Duration::from_millis(200))?;
        ensure!(seen.client == own, "{vip}: TCP seen as {}", seen.client);
        ensure!(seen.bytes > 1_000_000, "{vip}: {} bytes only", seen.bytes);
        let seen = udp_by(&a1.netns, vip, server, &[1, 1000, 1401, 5000, 20_000])?;
        ensure!(seen == own, "{vip}: UDP seen as {seen}");
        // What goes past the service stays direct, with the same two pods.
        let direct = tcp(&a1.netns, (&pod.netns, endpoint), Duration::ZERO)?;
        let address = a1.address_of(Family::of(endpoint))?;
        ensure!(direct.client == address, "seen as {}", direct.client);
    }
    must_tcp(a1, a2)?;
    must_tcp(b1, a1)?;
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

#[test]
fn transfers_over_vxlan_with_iptables() -> Result<()> {
    transfers(Encap::Vxlan, Flavour::Iptables)
}

#[test]
fn transfers_over_vxlan_with_nftables() -> Result<()> {
    transfers(Encap::Vxlan, Flavour::Nftables)
}

#[test]
fn transfers_over_ipip_with_nftables() -> Result<()> {
    transfers(Encap::Ipip, Flavour::Nftables)
}

#[test]
fn transfers_direct_with_iptables() -> Result<()> {
    transfers(Encap::Direct, Flavour::Iptables)
}

/// A service with an endpoint here, one there, and the client itself: every connection succeeds,
/// whichever endpoint it is given, and all are given some.
#[test]
fn endpoints_share_connections() -> Result<()> {
    const CONNECTIONS: usize = 60;
    let _testbed = Testbed::acquire()?;
    let cluster = Cluster::build(&Spec::whole(Encap::Vxlan, Family::V4), Netns::new)?;
    let (one, two) = (&cluster.sites[0], &cluster.sites[1]);
    let pods = [&one.pods[0], &one.pods[1], &two.pods[0]];
    for flavour in [Flavour::Iptables, Flavour::Nftables] {
        for (family, vip) in [
            (Family::V4, "10.96.0.1:80"),
            (Family::V6, "[fd00:10:96::1]:80"),
        ] {
            let endpoints = pods
                .iter()
                .map(|pod| pod.address_of(family))
                .collect::<Result<Vec<_>>>()?;
            let shared = service("shared", Transport::Tcp, vip, &endpoints)?;
            let proxy = Proxy::install(flavour, &one.node, std::slice::from_ref(&shared))?;
            let mut listeners = Vec::new();
            for (pod, endpoint) in pods.iter().zip(&shared.endpoints) {
                let listener = pod.netns.within(|| TcpListener::bind(endpoint))??;
                listener.set_nonblocking(true)?;
                listeners.push(listener);
            }
            let mut streams = Vec::new();
            for number in 0..CONNECTIONS {
                let connect =
                    || TcpStream::connect_timeout(&shared.address, Duration::from_secs(3));
                let stream = pods[0]
                    .netns
                    .within(connect)?
                    .with_context(|| format!("{flavour} {family}: connection {number}"))?;
                streams.push(stream);
            }
            let mut shares = Vec::new();
            // The last packet of a handshake may still be on its way.
            std::thread::sleep(Duration::from_millis(300));
            for listener in &listeners {
                let mut share = 0;
                while listener.accept().is_ok() {
                    share += 1;
                }
                shares.push(share);
            }
            ensure!(
                shares.iter().sum::<usize>() == CONNECTIONS && shares.iter().all(|n| *n > 0),
                "{flavour} {family}: {shares:?}"
            );
            drop(streams);
            proxy.remove(&one.node)?;
        }
    }
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

/// The connections of services are listed while they live, with what the switch knows of them, and
/// no other connection is.
#[test]
fn flows_are_seen() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = Cluster::build(&Spec::whole(Encap::Vxlan, Family::V4), Netns::new)?;
    let (one, two) = (&cluster.sites[0], &cluster.sites[1]);
    let (a1, a2, b1) = (&one.pods[0], &one.pods[1], &two.pods[0]);
    let mut services = Vec::new();
    for (number, pod) in [a2, b1].into_iter().enumerate() {
        for (family, vip) in [
            (Family::V4, format!("10.96.0.{}:80", number + 1)),
            (Family::V6, format!("[fd00:10:96::{}]:80", number + 1)),
        ] {
            let name = format!("n{number}{}", family.header());
            let endpoint = pod.address_of(family)?;
            services.push((pod, service(&name, Transport::Tcp, &vip, &[endpoint])?));
        }
    }
    let rules: Vec<Service> = services
        .iter()
        .map(|(_, service)| service.clone())
        .collect();
    Proxy::install(Flavour::Nftables, &one.node, &rules)?;
    must_tcp(a1, a2)?;
    must_tcp(a1, b1)?;
    ensure!(one.daemon.flows()?.is_empty(), "pods talk past any service");

    for (pod, service) in &services {
        let endpoint = service.endpoints[0];
        let listener = pod.netns.within(|| TcpListener::bind(endpoint))??;
        let connect = || TcpStream::connect_timeout(&service.address, Duration::from_secs(3));
        let client = a1.netns.within(connect)??;
        let source = client.local_addr()?;
        let (server, _) = listener.accept()?;
        let flow = || -> Result<Option<FlowEntry>> {
            let mut flows = one.daemon.flows()?;
            flows.retain(|flow| SocketAddr::new(flow.source, flow.source_port) == source);
            ensure!(flows.len() < 2, "{flows:?}");
            Ok(flows.pop())
        };
        let open = flow()?.with_context(|| format!("no flow to {endpoint}"))?;
        ensure!(
            SocketAddr::new(open.destination, open.destination_port) == endpoint
                && (open.protocol, open.state.as_str()) == (6, "established")
                && open.expires_in > 3600,
            "{open:?}"
        );
        let socket = one.daemon.socket().to_str().context("path of the socket")?;
        let (status, text) = shunt(&one.node.netns, &["--socket", socket, "flow", "list"])?;
        ensure!(
            status.success() && text.contains(&endpoint.ip().to_string()),
            "{status}: {text}"
        );
        drop((client, server));
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            // Closed by one side it may live on for long; closed by both it is soon forgotten.
            let ended = match flow()? {
                Some(flow) => flow.state == "closing" && flow.expires_in <= 120,
                None => true,
            };
            if ended {
                break;
            }
            ensure!(Instant::now() < deadline, "the flow does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    ensure!(two.daemon.flows()?.is_empty(), "node 2 translates nothing");
    Ok(())
}
