//! What the switch says as a router and as a neighbour: each hop of a traceroute, destinations
//! that are not there, the gateway's ping, and addresses that are taken.

use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shunt_api::{Encap, StatsReport};
use shunt_tests::balance::drops_between;
use shunt_tests::cluster::{Cluster, Site, Spec};
use shunt_tests::daemon::shunt;
use shunt_tests::family::Family;
use shunt_tests::hops::{must_be_told, must_trace, ping_words, traceroute};
use shunt_tests::netns::Netns;
use shunt_tests::outside::Outside;
use shunt_tests::pod::{GATEWAY6, L3_GATEWAY, Pod};
use shunt_tests::probe::must_ping;
use shunt_tests::testbed::Testbed;

/// The constant MAC address of the gateway.
const GATEWAY_MAC: &str = "EE:EE:EE:EE:EE:EE";
/// Addresses of node 1's pod CIDRs that no pod has.
const NOBODY: [&str; 2] = ["10.244.1.99", "fd00:10:244:1::99"];
/// Addresses that no route of a switch without a host port covers.
const NOWHERE: [&str; 2] = ["198.51.100.7", "2001:db8:ffff::7"];
/// What a pod asks for the whole link, which goes no further.
const LINK_LOCAL: &str = "multicast_not_routed";

fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => L3_GATEWAY.into(),
        Family::V6 => GATEWAY6.into(),
    }
}

/// The gateway as a pod's tools want it.
const GATEWAYS: [&str; 2] = ["169.254.1.1", "fe80::1%eth0"];

/// Every way across two nodes.
fn trace(encap: Encap, underlay: Family) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let spec = Spec {
        pods: 1,
        ..Spec::whole(encap, underlay)
    };
    let cluster = Cluster::build(&spec, Netns::new)?;
    let ([one, two], [a1, b1]) = (
        &cluster.sites[..],
        &cluster.pods().collect::<Vec<&Pod>>()[..],
    ) else {
        bail!("two nodes with a pod each");
    };
    for family in Family::ALL {
        let (node1, node2) = (one.node.underlay(family), two.node.underlay(family));
        let (a, b) = (a1.address_of(family)?, b1.address_of(family)?);
        let (gateway, outside) = (gateway(family), Outside::address(family));
        let (pod, host) = (&a1.netns, &one.node.netns);
        // Node 2's switch hears of what is for its node only out of a tunnel.
        let to_node2 = match encap {
            Encap::Direct => vec![node1, node2],
            _ => vec![node1, node2, node2],
        };
        for (from, to, expected) in [
            (pod, b, vec![node1, node2, b]),
            (&b1.netns, a, vec![node2, node1, a]),
            (host, a, vec![gateway, a]),
            (host, b, vec![gateway, node2, b]),
            // The switch, then the node's own stack, by the same address.
            (pod, outside, vec![node1, node1, outside]),
            (pod, node1, vec![node1, node1]),
            (pod, node2, to_node2),
        ] {
            must_trace(from, &to.to_string(), &expected)?;
        }
    }
    for site in &cluster.sites {
        let stats = site.daemon.must_return_all_frames()?;
        ensure!(stats.icmp_sent > 0, "node {}", site.node.index);
    }
    Ok(())
}

#[test]
fn hops_over_vxlan() -> Result<()> {
    trace(Encap::Vxlan, Family::V4)
}

#[test]
fn hops_over_vxlan_over_ipv6() -> Result<()> {
    trace(Encap::Vxlan, Family::V6)
}

#[test]
fn hops_over_ipip() -> Result<()> {
    trace(Encap::Ipip, Family::V4)
}

#[test]
fn hops_over_ipip_over_ipv6() -> Result<()> {
    trace(Encap::Ipip, Family::V6)
}

#[test]
fn hops_direct() -> Result<()> {
    trace(Encap::Direct, Family::V4)
}

/// One node with two dual-stack pods, without the node's own stack.
fn lone(extra: &str) -> Result<Cluster> {
    let spec = Spec {
        nodes: 1,
        dual: true,
        extra: extra.to_owned(),
        ..Spec::new(shunt_tests::pod::Mode::L3, Encap::Vxlan)
    };
    Cluster::build(&spec, Netns::new)
}

fn parts(cluster: &Cluster) -> Result<(&Site, &Pod, &Pod)> {
    let site = cluster.sites.first().context("one node")?;
    let [a1, a2, ..] = &site.pods[..] else {
        bail!("two pods");
    };
    Ok((site, a1, a2))
}

/// What was dropped since, but for what dual-stack pods tell their link.
fn dropped(site: &Site, before: &StatsReport) -> Result<Vec<(String, u64)>> {
    let mut drops = drops_between(before, &site.daemon.stats()?);
    drops.remove(LINK_LOCAL);
    Ok(drops.into_iter().collect())
}

#[test]
fn the_gateway_answers_ping() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = lone("")?;
    let (site, a1, a2) = parts(&cluster)?;
    let before = site.daemon.stats()?;
    for pod in [a1, a2] {
        for to in GATEWAYS {
            // Its own hop is none: a TTL of 1 will do.
            for options in ["", "-t 1", "-s 0", "-s 1400", "-M do -s 1400"] {
                let words = format!("-c 2 -i 0.05 -W 2 {options} {to}");
                let seen = ping_words(&pod.netns, &words)?;
                ensure!(
                    seen.replies == 2 && seen.errors.is_empty(),
                    "ping {words}: {}",
                    seen.text
                );
            }
        }
    }
    let drops = dropped(site, &before)?;
    ensure!(drops.is_empty(), "{drops:?}");
    site.daemon.must_return_all_frames()?;
    Ok(())
}

/// What traceroute sends to the gateway's ports is refused there, whatever the pod's own address.
#[test]
fn the_gateway_is_one_hop_away() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = lone("")?;
    let (site, a1, _) = parts(&cluster)?;
    let own = a1.address_of(Family::V6)?;
    for words in [
        GATEWAYS[0].to_owned(),
        format!("-s {own} {}", GATEWAYS[1]),
        GATEWAYS[1].to_owned(),
    ] {
        let hops = traceroute(&a1.netns, &words)?;
        let family = [Family::V4, Family::V6][usize::from(words.contains(GATEWAYS[1]))];
        ensure!(hops == [Some(gateway(family))], "{words}: {hops:?}");
    }
    let stats = site.daemon.must_return_all_frames()?;
    let refused = stats.drops.get("gateway_no_service").copied();
    ensure!(refused == Some(3), "{:?}", stats.drops);
    Ok(())
}

/// A pod that is not there is found out by asking for it; where there is no route, at once.
#[test]
fn unknown_destinations_are_unreachable() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = lone("[neighbours]\ntimeout = 1000\n")?;
    let (site, a1, _) = parts(&cluster)?;
    let before = site.daemon.stats()?;
    let words = [
        "Destination Host Unreachable",
        "Destination unreachable: Address unreachable",
        "Destination Net Unreachable",
        "Destination unreachable: No route",
    ];
    for (at, to) in NOBODY.into_iter().chain(NOWHERE).enumerate() {
        let family = [Family::V4, Family::V6][at % 2];
        let begin = Instant::now();
        must_be_told(
            &a1.netns,
            &format!("-c 1 -W 4 {to}"),
            site.node.underlay(family),
            words[at],
        )?;
        let (took, waits) = (begin.elapsed(), at < 2);
        ensure!(
            waits == (took > Duration::from_millis(900)) && took < Duration::from_secs(4),
            "{to}: told after {took:?}"
        );
    }
    let drops = dropped(site, &before)?;
    ensure!(
        drops
            == [
                ("neighbour_timeout".to_owned(), 2),
                ("no_route".to_owned(), 2)
            ],
        "{drops:?}"
    );
    let stats = site.daemon.must_return_all_frames()?;
    ensure!(stats.icmp_sent - before.icmp_sent == 4, "{stats:?}");
    Ok(())
}

/// With `icmp.unreachable = false` they vanish, by name; other errors are told as before.
#[test]
fn unknown_destinations_are_silent_when_wanted() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = lone("[icmp]\nunreachable = false\n[neighbours]\ntimeout = 500\n")?;
    let (site, a1, a2) = parts(&cluster)?;
    let before = site.daemon.stats()?;
    for to in NOBODY.into_iter().chain(NOWHERE) {
        let seen = ping_words(&a1.netns, &format!("-c 1 -W 2 {to}"))?;
        ensure!(seen.replies == 0 && seen.errors.is_empty(), "{}", seen.text);
    }
    let drops = dropped(site, &before)?;
    ensure!(
        drops
            == [
                ("neighbour_timeout".to_owned(), 2),
                ("no_route".to_owned(), 2)
            ],
        "{drops:?}"
    );
    let socket = site.daemon.socket().to_str().context("socket's path")?;
    let (status, text) = shunt(&site.node.netns, &["--socket", socket, "stats"])?;
    ensure!(
        status.success() && text.contains("neighbour_timeout") && text.contains("no_route"),
        "{text}"
    );
    for (family, what) in [
        (Family::V4, "Time to live exceeded"),
        (Family::V6, "Time exceeded: Hop limit"),
    ] {
        let words = format!("-c 1 -W 2 -t 1 {}", a2.address_of(family)?);
        must_be_told(&a1.netns, &words, site.node.underlay(family), what)?;
    }
    site.daemon.must_return_all_frames()?;
    Ok(())
}

/// A flood of packets that each deserve an error gets ten a second; the rest is counted.
#[test]
fn errors_are_limited() -> Result<()> {
    const PACKETS: u64 = 600;
    let _testbed = Testbed::acquire()?;
    let cluster = lone("[icmp]\nrate = 10\n")?;
    let (site, a1, a2) = parts(&cluster)?;
    for family in Family::ALL {
        let before = site.daemon.stats()?;
        let to = a2.address_of(family)?;
        let begin = Instant::now();
        let seen = ping_words(
            &a1.netns,
            &format!("-q -c {PACKETS} -i 0.005 -W 1 -t 1 {to}"),
        )?;
        let seconds = begin.elapsed().as_secs();
        let after = site.daemon.stats()?;
        let (sent, limited) = (
            after.icmp_sent - before.icmp_sent,
            after.icmp_limited - before.icmp_limited,
        );
        let drops = dropped(site, &before)?;
        ensure!(
            drops == [("ttl_expired".to_owned(), PACKETS)] && sent + limited == PACKETS,
            "{sent} sent, {limited} not: {drops:?}"
        );
        // The budget is of the clock's seconds, of which the flood touches one more at each end.
        ensure!(
            (20..=10 * (seconds + 2)).contains(&sent),
            "{sent} errors in {seconds} s"
        );
        ensure!(
            seen.text.contains(&format!("+{sent} errors")),
            "{sent} errors sent, {}",
            seen.text
        );
    }
    must_ping(&a1.netns, a2.address, 2, "")?;
    site.daemon.must_return_all_frames()?;
    Ok(())
}

/// Runs a tool whose exit status is a finding.
fn output(netns: &Netns, line: &str) -> Result<String> {
    netns.run(&["sh", "-c", &format!("{line} 2>&1; echo status $?")])
}

/// The daemon's log tells of another's claim to the address.
fn must_warn(site: &Site, address: IpAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let named = |line: &str| line.contains(&address.to_string()) && line.contains("WARN");
    while !site.daemon.log().lines().any(named) {
        ensure!(
            Instant::now() < deadline,
            "no warning of {address}: {}",
            site.daemon.log()
        );
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// ARP for the gateway and for all that is behind it, and RFC 5227's probes.
#[test]
fn arp_tells_of_taken_addresses() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = lone("")?;
    let (site, a1, a2) = parts(&cluster)?;
    let ask = |options: &str, address: Ipv4Addr| {
        output(
            &a1.netns,
            &format!("arping {options} -c 2 -w 2 -I eth0 {address}"),
        )
    };
    for address in [L3_GATEWAY, a2.address, Ipv4Addr::new(10, 244, 2, 11)] {
        let text = ask("-f", address)?;
        ensure!(
            text.contains(GATEWAY_MAC) && text.contains("status 0"),
            "{text}"
        );
    }
    // Nobody else has these.
    for address in [a1.address, Ipv4Addr::new(10, 244, 1, 99)] {
        let text = ask("-D", address)?;
        ensure!(
            text.contains("Received 0 response") && text.contains("status 0"),
            "{text}"
        );
    }
    // An announcement of one's own address asks nobody.
    let text = ask("-A", a1.address)?;
    ensure!(text.contains("Received 0 response"), "{text}");
    for address in [L3_GATEWAY, a2.address] {
        let text = ask("-D", address)?;
        ensure!(
            text.contains(GATEWAY_MAC) && text.contains("status 1"),
            "{text}"
        );
    }
    must_warn(site, a2.address.into())?;
    must_ping(&a1.netns, a2.address, 2, "")?;
    site.daemon.must_return_all_frames()?;
    Ok(())
}

/// Adds an address to a pod with duplicate address detection, and returns how that ends.
fn detect(pod: &Pod, address: IpAddr) -> Result<String> {
    let _ = pod.netns.ip(&format!("address del {address}/128 dev eth0"));
    pod.netns
        .ip(&format!("address add {address}/128 dev eth0"))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let text = pod
            .netns
            .ip(&format!("-o -6 address show dev eth0 to {address}"))?;
        ensure!(text.contains(&address.to_string()), "{address} is gone");
        if !text.contains("tentative") || text.contains("dadfailed") {
            return Ok(text);
        }
        ensure!(Instant::now() < deadline, "{text}");
        sleep(Duration::from_millis(50));
    }
}

/// Neighbour discovery for the gateway, and duplicate address detection (RFC 4862, 5.4).
#[test]
fn discovery_tells_of_taken_addresses() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = lone("")?;
    let (site, a1, a2) = parts(&cluster)?;
    let (own, taken) = (a1.address_of(Family::V6)?, a2.address_of(Family::V6)?);
    let ask = |address: IpAddr| output(&a1.netns, &format!("ndisc6 -n -r 2 {address} eth0"));
    let text = ask(GATEWAY6.into())?;
    ensure!(
        text.contains(GATEWAY_MAC) && text.contains("status 0"),
        "{text}"
    );
    // The gateway stands for all that is behind it. Of a global address ndisc6 shows no
    // advertisement that comes from a link-local one, so it is the kernel that asks.
    a1.netns.ip(&format!("-6 route add {taken}/128 dev eth0"))?;
    must_ping(&a1.netns, taken, 2, "")?;
    let text = a1.netns.ip(&format!("-6 neigh show {taken} dev eth0"))?;
    ensure!(text.contains(&GATEWAY_MAC.to_lowercase()), "{text}");
    a1.netns.ip(&format!("-6 route del {taken}/128 dev eth0"))?;
    let text = ask(own)?;
    ensure!(!text.contains(GATEWAY_MAC), "{text}");

    a1.netns.sysctl("net.ipv6.conf.eth0.accept_dad", "1")?;
    for free in [own, NOBODY[1].parse()?] {
        let text = detect(a1, free)?;
        ensure!(!text.contains("dadfailed"), "{text}");
    }
    let text = detect(a1, taken)?;
    ensure!(text.contains("dadfailed"), "{text}");
    must_warn(site, taken)?;
    a1.netns.ip(&format!("address del {taken}/128 dev eth0"))?;
    must_ping(&a1.netns, taken, 2, &format!("-I {own}"))?;
    must_ping(&a2.netns, own, 2, "")?;
    site.daemon.must_return_all_frames()?;
    Ok(())
}
