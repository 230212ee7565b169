//! Packets that do not fit their path: who is told what, that nothing is lost without a word, and
//! what the underlay says of its own paths.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use shunt_api::{Attachment, Encap, StatsReport};
use shunt_tests::capture::Capture;
use shunt_tests::cluster::{Cluster, Site, Spec};
use shunt_tests::daemon::Daemon;
use shunt_tests::family::Family;
use shunt_tests::hops::{must_be_told, ping_words, tracepath};
use shunt_tests::netns::Netns;
use shunt_tests::outside::Outside;
use shunt_tests::pod::{L3_GATEWAY, Mode, Pod};
use shunt_tests::probe::{must_ping, tcp, udp};
use shunt_tests::testbed::Testbed;

/// The bytes of an echo request before its data: IP header and ICMP header.
fn echo_headers(family: Family) -> u32 {
    family.header() + 8
}

/// Attaches a dual-stack pod with this MTU to a site.
fn add_pod(site: &mut Site, number: u8, mtu: u32) -> Result<Attachment> {
    let netns = Netns::new(&site.node.pod_name(number))?;
    let pod = site.node.dual_pod(netns, number, Mode::L3, mtu)?;
    let told = site.daemon.port_add(Daemon::veth_port(&pod)?)?;
    site.pods.push(pod);
    Ok(told)
}

/// A cluster with a pod of this MTU on each node, whatever the encapsulation leaves.
fn cluster(spec: Spec, mtu: u32) -> Result<Cluster> {
    let mut cluster = Cluster::build(&Spec { pods: 0, ..spec }, Netns::new)?;
    for site in &mut cluster.sites {
        add_pod(site, 1, mtu)?;
    }
    Ok(cluster)
}

fn ends(sites: &[Site]) -> Result<[(&Site, &Pod); 2]> {
    let [one, two] = sites else {
        bail!("two nodes");
    };
    let a1 = one.pods.first().context("a pod on node 1")?;
    let b1 = two.pods.first().context("a pod on node 2")?;
    Ok([(one, a1), (two, b1)])
}

/// What ping prints of the error that names this MTU.
fn too_big(family: Family, mtu: u32) -> String {
    match family {
        Family::V4 => format!("Frag needed and DF set (mtu = {mtu})"),
        Family::V6 => format!("Packet too big: mtu={mtu}"),
    }
}

/// The MTU that the pod's kernel has for a destination, if it has learned one.
fn learned(pod: &Pod, to: IpAddr) -> Result<Option<u32>> {
    let text = pod.netns.ip(&format!("route get {to}"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).and_then(|mtu| mtu.parse().ok()))
}

/// Demands that a packet of one byte more than `mtu` is refused by `site`'s switch with that MTU,
/// and one of exactly that size is answered.
fn must_take(site: &Site, pod: &Pod, to: IpAddr, mtu: u32) -> Result<()> {
    let family = Family::of(to);
    let fits = mtu - echo_headers(family);
    let words = format!("-c 1 -W 2 -M do -s {} {to}", fits + 1);
    must_be_told(
        &pod.netns,
        &words,
        site.node.underlay(family),
        &too_big(family, mtu),
    )?;
    ensure!(
        learned(pod, to)? == Some(mtu),
        "{} -> {to}: {:?} instead of {mtu}",
        pod.name,
        learned(pod, to)?
    );
    // Now the kernel itself refuses, and what fits passes.
    let seen = ping_words(&pod.netns, &words)?;
    ensure!(
        // It writes `mtu=` of IPv4 and `mtu: ` of IPv6.
        seen.replies == 0
            && seen.text.contains("local error")
            && seen.text.contains(&mtu.to_string()),
        "{}",
        seen.text
    );
    must_ping(&pod.netns, to, 2, &format!("-M do -s {fits}"))?;
    Ok(())
}

/// A transfer of full-sized segments, which a path that swallows them would stall.
fn must_carry(from: (&Netns, IpAddr), to: (&Netns, IpAddr)) -> Result<()> {
    let seen = tcp(from.0, to, Duration::from_millis(300))
        .with_context(|| format!("TCP {} -> {}", from.1, to.1))?;
    ensure!(
        seen.bytes > 200_000,
        "TCP {} -> {}: {} bytes",
        from.1,
        to.1,
        seen.bytes
    );
    Ok(())
}

/// Pods with the underlay's MTU, between which `mtu` bytes fit.
fn larger_than_the_tunnel(encap: Encap, underlay: Family, mtu: u32) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = cluster(Spec::whole(encap, underlay), 1500)?;
    let [(one, a1), (_, b1)] = ends(&cluster.sites)?;
    for family in Family::ALL {
        let (a, b) = (a1.address_of(family)?, b1.address_of(family)?);
        let (pod, node) = ((&a1.netns, a), (&one.node.netns, one.node.underlay(family)));
        if family == Family::V4 {
            // Without "don't fragment" packets are cut on the way, before anybody knows better.
            for size in [1473, 4000, 60_000] {
                must_ping(&a1.netns, b, 2, &format!("-M dont -s {size}"))?;
            }
        }
        // The first to find out is TCP, either way.
        must_carry(pod, (&b1.netns, b))?;
        ensure!(
            learned(a1, b)? == Some(mtu),
            "{b}: {:?} after TCP",
            learned(a1, b)?
        );
        must_carry((&b1.netns, b), pod)?;
        must_carry(node, (&b1.netns, b))?;
        must_carry((&b1.netns, b), node)?;
        // Nor does it depend on what the kernel remembers.
        a1.netns.ip(&format!(
            "{} route flush cache",
            match family {
                Family::V4 => "-4",
                Family::V6 => "-6",
            }
        ))?;
        for (from, to) in [(a1, b), (b1, a)] {
            let path = tracepath(&from.netns, to)?;
            ensure!(path == (mtu, 3), "tracepath {to}: {path:?}");
        }
        udp(&a1.netns, (&b1.netns, b), &[1400, 4000, 60_000])?;
    }
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

#[test]
fn pods_of_1500_over_vxlan() -> Result<()> {
    larger_than_the_tunnel(Encap::Vxlan, Family::V4, 1450)
}

#[test]
fn pods_of_1500_over_vxlan_over_ipv6() -> Result<()> {
    larger_than_the_tunnel(Encap::Vxlan, Family::V6, 1430)
}

#[test]
fn pods_of_1500_over_ipip() -> Result<()> {
    larger_than_the_tunnel(Encap::Ipip, Family::V4, 1480)
}

#[test]
fn pods_of_1500_over_ipip_over_ipv6() -> Result<()> {
    larger_than_the_tunnel(Encap::Ipip, Family::V6, 1460)
}

/// The errors in ping's words, for every encapsulation.
#[test]
fn pings_are_told_the_mtu() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for (encap, underlay, mtu) in [
        (Encap::Vxlan, Family::V4, 1450),
        (Encap::Vxlan, Family::V6, 1430),
        (Encap::Ipip, Family::V4, 1480),
        (Encap::Ipip, Family::V6, 1460),
    ] {
        let cluster = cluster(Spec::whole(encap, underlay), 1500)?;
        let [(one, a1), (two, b1)] = ends(&cluster.sites)?;
        for family in Family::ALL {
            must_take(one, a1, b1.address_of(family)?, mtu)
                .with_context(|| format!("{encap:?} over {underlay}"))?;
            must_take(two, b1, a1.address_of(family)?, mtu)
                .with_context(|| format!("{encap:?} over {underlay}"))?;
            // What leaves the cluster is in no tunnel.
            let full = 1500 - echo_headers(family);
            let outside = Outside::address(family);
            must_ping(&a1.netns, outside, 2, &format!("-M do -s {full}"))?;
        }
        for site in &cluster.sites {
            let stats = site.daemon.must_return_all_frames()?;
            let refused = stats.drops.get("mtu_exceeded").copied();
            ensure!(refused == Some(2), "{:?}", stats.drops);
        }
    }
    Ok(())
}

fn routes(told: &Attachment) -> Vec<(String, u32)> {
    let routes = told.routes.iter();
    routes
        .map(|route| (route.prefix.to_string(), route.mtu))
        .collect()
}

/// Pods of a node may have a larger MTU among themselves: they are told so, route by route.
#[test]
fn a_node_takes_more_than_the_underlay() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    for (extra, remote) in [("", 1450), ("[mtu]\nremote = 1400\n", 1400)] {
        let mut cluster = Cluster::build(
            &Spec {
                pods: 0,
                extra: extra.to_owned(),
                ..Spec::whole(Encap::Vxlan, Family::V4)
            },
            Netns::new,
        )?;
        let [one, two] = &mut cluster.sites[..] else {
            bail!("two nodes");
        };
        for number in [1, 2] {
            let told = add_pod(one, number, 3000)?;
            ensure!(told.mtu == 3000, "{told:?}");
            let expected = [
                ("0.0.0.0/0", remote),
                ("10.244.1.0/24", 3000),
                ("::/0", remote),
                ("fd00:10:244:1::/64", 3000),
            ]
            .map(|(prefix, mtu)| (prefix.to_owned(), mtu));
            ensure!(routes(&told) == expected, "{told:?}");
        }
        add_pod(two, 1, 3000)?;
        let [(_, a1), (_, b1)] = ends(&cluster.sites)?;
        let a2 = cluster.sites[0].pods.get(1).context("a2")?;
        for family in Family::ALL {
            let (near, far) = (a2.address_of(family)?, b1.address_of(family)?);
            let full = 3000 - echo_headers(family);
            must_ping(&a1.netns, near, 3, &format!("-M do -s {full}"))?;
            must_carry((&a1.netns, a1.address_of(family)?), (&a2.netns, near))?;
            udp(&a1.netns, (&a2.netns, near), &[2900, 4000, 60_000])?;
            ensure!(learned(a1, near)?.is_none(), "{near}");
            // A pod that was not told its routes' MTU learns it.
            must_carry((&a1.netns, a1.address_of(family)?), (&b1.netns, far))?;
            ensure!(learned(a1, far)? == Some(1450), "{:?}", learned(a1, far)?);
        }
        // One that was, sends nothing that is too big.

        a2.netns.ip(&format!(
            "route replace default via {L3_GATEWAY} dev eth0 mtu {remote}"
        ))?;
        a2.netns.ip(&format!(
            "-6 route replace default via fe80::1 dev eth0 mtu {remote}"
        ))?;
        let before = cluster.sites[0].daemon.stats()?;
        for family in Family::ALL {
            let far = b1.address_of(family)?;
            must_carry((&a2.netns, a2.address_of(family)?), (&b1.netns, far))?;
        }
        let after = cluster.sites[0].daemon.stats()?;
        let refused = |stats: &StatsReport| stats.drops.get("mtu_exceeded").copied();
        ensure!(refused(&before) == refused(&after), "{:?}", after.drops);
        for site in &cluster.sites {
            site.daemon.must_return_all_frames()?;
        }
    }
    Ok(())
}

/// The maximum segment sizes that two pods of MTU 1500 see of each other, SYN and SYN-ACK.
fn segment_sizes(extra: &str) -> Result<Vec<(Family, Vec<String>)>> {
    let spec = Spec {
        extra: extra.to_owned(),
        ..Spec::whole(Encap::Vxlan, Family::V4)
    };
    let mut cluster = cluster(spec, 1500)?;
    add_pod(&mut cluster.sites[0], 2, 1500)?;
    let [(_, a1), (_, b1)] = ends(&cluster.sites)?;
    let a2 = cluster.sites[0].pods.get(1).context("a2")?;
    let mut sizes = Vec::new();
    for family in Family::ALL {
        let mut seen = Vec::new();
        for far in [b1, a2] {
            let captures = [
                Capture::start_inbound(&far.netns, "eth0", "tcp or ip6")?,
                Capture::start_inbound(&a1.netns, "eth0", "tcp or ip6")?,
            ];
            let (a, b) = (a1.address_of(family)?, far.address_of(family)?);
            must_carry((&a1.netns, a), (&far.netns, b))?;
            for capture in captures {
                let rows = capture
                    .stop()?
                    .fields("tcp.flags.syn == 1", &["tcp.options.mss_val"])?;
                seen.extend(rows.into_iter().flatten());
            }
        }
        sizes.push((family, seen));
    }
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(sizes)
}

/// The segment size in a SYN is what the path takes, if that is wanted.
#[test]
fn segment_sizes_are_clamped_when_wanted() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    // To the other node both ways, then to the same one.
    for (extra, expected) in [
        (
            "[mtu]\nclamp_mss = true\n",
            [
                ["1410", "1410", "1460", "1460"],
                ["1390", "1390", "1440", "1440"],
            ],
        ),
        ("", [["1460"; 4], ["1440"; 4]]),
    ] {
        for ((family, seen), expected) in segment_sizes(extra)?.into_iter().zip(expected) {
            ensure!(seen == expected, "{extra}{family}: {seen:?}");
        }
    }
    Ok(())
}

mod underlay;
