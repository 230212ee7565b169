//! Multicast: in L2 mode by what pods have joined (RFC 4541), where somebody asks them; in L3 mode
//! it stays where it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shunt_api::{Encap, PortSpec};
use shunt_tests::balance::drops_between;
use shunt_tests::capture::{Capture, Captured};
use shunt_tests::family::Family;
use shunt_tests::frames::{ethernet, inject, ipv4};
use shunt_tests::lone::{Lone, plain};
use shunt_tests::packets::{
    ALL_NODES, HOP_BY_HOP, ICMPV6, IPV4, IPV6, checksum, group_mac, group_mac6, icmpv6, ipv6,
};
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::testbed::Testbed;

const PORT: u16 = 7400;
/// Datagrams to a group.
const COUNT: usize = 5;
const QUERIER: &str = "[l2]\nquerier = true";
/// What a report and the snapshot that follows take.
const REPORTED: Duration = Duration::from_millis(500);

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x1, 0x203);
/// Multicast DNS (RFC 6762), of the link.
const LOCAL: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const LOCAL6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

fn ifindex(pod: &Pod) -> Result<u32> {
    let links: serde_json::Value = serde_json::from_str(&pod.netns.ip("-j link show dev eth0")?)?;
    let index = links[0]["ifindex"].as_u64().context("no ifindex")?;
    Ok(u32::try_from(index)?)
}

/// A pod's membership; it ends with its socket.
fn join(pod: &Pod, group: IpAddr) -> Result<UdpSocket> {
    let any = Family::of(group).unspecified();
    let socket = pod.netns.within(|| UdpSocket::bind((any, PORT)))??;
    match group {
        IpAddr::V4(group) => socket.join_multicast_v4(&group, &pod.address)?,
        IpAddr::V6(group) => socket.join_multicast_v6(&group, ifindex(pod)?)?,
    }
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    sleep(REPORTED);
    Ok(socket)
}

fn leave(socket: UdpSocket) {
    drop(socket);
    sleep(REPORTED);
}

/// Packets in a capture file (pcap-savefile(5)): a header of 24 octets, then for each packet one of
/// 16, whose third word says how many octets of it follow.
fn packets(captured: &Captured) -> Result<usize> {
    let file = std::fs::read(captured.file())?;
    let mut rest = file.get(24..).context("no capture file")?;
    let mut count = 0;
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_ne_bytes(length.try_into()?) as usize;
        rest = rest.get(16 + length..).context("packet cut short")?;
        count += 1;
    }
    Ok(count)
}

/// How many of the datagrams that the first pod sends to a group reach each pod's interface.
fn heard(lone: &Lone, group: IpAddr) -> Result<Vec<usize>> {
    let from = lone.pod(0);
    let filter = format!("udp port {PORT}");
    let captures: Vec<Capture> = lone
        .site
        .pods
        .iter()
        .map(|pod| Capture::start_inbound(&pod.netns, "eth0", &filter))
        .collect::<Result<_>>()?;
    let own = from.address_of(Family::of(group))?;
    let socket = from.netns.within(|| UdpSocket::bind((own, 0)))??;
    let to = match group {
        IpAddr::V4(_) => SocketAddr::new(group, PORT),
        IpAddr::V6(v6) => std::net::SocketAddrV6::new(v6, PORT, 0, ifindex(from)?).into(),
    };
    for number in 0..COUNT {
        socket.send_to(&[number as u8; 64], to)?;
    }
    sleep(Duration::from_millis(100));
    captures
        .into_iter()
        .map(|capture| packets(&capture.stop()?))
        .collect()
}

fn segment(extra: &str) -> Result<Lone> {
    let lone = Lone::new(Mode::L2, Encap::Vxlan, extra, &[&plain, &plain, &plain])?;
    lone.settle()?;
    Ok(lone)
}

/// Pods speak this version of IGMP or MLD.
fn force(lone: &Lone, family: Family, version: u8) -> Result<()> {
    for pod in &lone.site.pods {
        let key = match family {
            Family::V4 => "net.ipv4.conf.eth0.force_igmp_version",
            Family::V6 => "net.ipv6.conf.eth0.force_mld_version",
        };
        pod.netns.sysctl(key, &version.to_string())?;
    }
    Ok(())
}

fn members_come_and_go(group: IpAddr, version: u8) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = segment(QUERIER)?;
    force(&lone, Family::of(group), version)?;
    ensure!(heard(&lone, group)? == [0, 0, 0], "nobody has joined");
    let first = join(lone.pod(1), group)?;
    let counts = heard(&lone, group)?;
    ensure!(counts == [0, COUNT, 0], "a2 has joined: {counts:?}");
    let mut buffer = [0; 128];
    let (length, from) = first
        .recv_from(&mut buffer)
        .context("the member's socket")?;
    ensure!(length == 64 && from.ip() == lone.pod(0).address_of(Family::of(group))?);
    let second = join(lone.pod(2), group)?;
    let counts = heard(&lone, group)?;
    ensure!(counts == [0, COUNT, COUNT], "both have joined: {counts:?}");
    leave(first);
    let counts = heard(&lone, group)?;
    ensure!(counts == [0, 0, COUNT], "a2 has left: {counts:?}");
    leave(second);
    let counts = heard(&lone, group)?;
    ensure!(counts == [0, 0, 0], "both have left: {counts:?}");
    // Nobody asks to be told of what the whole link hears.
    for local in [IpAddr::from(LOCAL), IpAddr::from(LOCAL6)] {
        let counts = heard(&lone, local)?;
        ensure!(counts == [0, COUNT, COUNT], "{local}: {counts:?}");
    }
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

#[test]
fn members_by_igmp_version_2() -> Result<()> {
    members_come_and_go(GROUP.into(), 2)
}

#[test]
fn members_by_igmp_version_3() -> Result<()> {
    members_come_and_go(GROUP.into(), 3)
}

#[test]
fn members_by_mld_version_1() -> Result<()> {
    members_come_and_go(GROUP6.into(), 1)
}

#[test]
fn members_by_mld_version_2() -> Result<()> {
    members_come_and_go(GROUP6.into(), 2)
}

/// Without somebody who asks, memberships would run out: all hear all.
#[test]
fn everything_is_flooded_without_a_querier() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = segment("")?;
    for group in [GROUP.into(), GROUP6.into(), LOCAL.into(), LOCAL6.into()] {
        let counts = heard(&lone, group)?;
        ensure!(counts == [0, COUNT, COUNT], "{group}: {counts:?}");
    }
    let member = join(lone.pod(1), GROUP.into())?;
    let counts = heard(&lone, GROUP.into())?;
    ensure!(counts == [0, COUNT, COUNT], "one has joined: {counts:?}");
    leave(member);
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

/// A pod that asks (a multicast router) hears all, and the others what they have joined.
#[test]
fn a_router_hears_every_group() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    // A guarded pod may not ask: it would get everything, and answer for everybody's memberships.
    let router = |spec: &mut PortSpec| spec.unguarded = true;
    let lone = Lone::new(Mode::L2, Encap::Vxlan, "", &[&plain, &plain, &router])?;
    lone.settle()?;
    let router = lone.pod(2);
    let mac = router.mac()?;
    // RFC 2236, 2: a general query, to be answered within ten seconds.
    let all = Ipv4Addr::new(224, 0, 0, 1);
    let asked_by = |router| {
        let mut query = vec![0x11, 100, 0, 0, 0, 0, 0, 0];
        let sum = checksum(&[&query]);
        query[2..4].copy_from_slice(&sum.to_be_bytes());
        ipv4(router, all, 2, 1, &query)
    };
    let query = asked_by(router.address);
    // RFC 2710, 3: the same, from a link-local address, behind a router alert.
    let own = {
        let text = router.netns.ip("-o -6 address show dev eth0 scope link")?;
        let word = text
            .split_whitespace()
            .find(|word| word.starts_with("fe80"));
        let address = word.and_then(|word| word.split('/').next());
        address
            .context("no link-local address")?
            .parse::<Ipv6Addr>()?
    };
    let mut message = vec![130, 0, 0, 0, 0x27, 0x10, 0, 0];
    message.extend([0; 16]);
    let message = icmpv6(own, ALL_NODES, message);
    let alert = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let query6 = ipv6(
        own,
        ALL_NODES,
        HOP_BY_HOP,
        1,
        &[&alert[..], &message].concat(),
    );
    let frames = [
        ethernet(mac, group_mac(all), IPV4, &query),
        ethernet(mac, group_mac6(ALL_NODES), IPV6, &query6),
    ];
    inject(&router.netns, "eth0", &frames)?;
    sleep(REPORTED);
    let guarded = lone.pod(0);
    let mac = guarded.mac()?;
    let before = lone.daemon().stats()?;
    let query = ethernet(mac, group_mac(all), IPV4, &asked_by(guarded.address));
    inject(&guarded.netns, "eth0", &[query])?;
    sleep(REPORTED);
    let drops = drops_between(&before, &lone.daemon().stats()?);
    ensure!(drops.get("rogue_querier") == Some(&1), "{drops:?}");
    for group in [IpAddr::from(GROUP), GROUP6.into()] {
        let counts = heard(&lone, group)?;
        ensure!(counts == [0, 0, COUNT], "{group}: {counts:?}");
        let member = join(lone.pod(1), group)?;
        let counts = heard(&lone, group)?;
        ensure!(counts == [0, COUNT, COUNT], "{group} joined: {counts:?}");
        leave(member);
        let counts = heard(&lone, group)?;
        ensure!(counts == [0, 0, COUNT], "{group} left: {counts:?}");
    }
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

/// A pod hears the querier soon, not only after the two minutes between queries: it may have
/// joined before it was attached, as after a restart of the daemon.
#[test]
fn a_new_pod_is_asked_what_it_has_joined() -> Result<()> {
    const SOON: Duration = Duration::from_secs(15);
    let _testbed = Testbed::acquire()?;
    let mut lone = segment(QUERIER)?;
    let pod = lone.make_pod()?;
    let members = [join(&pod, GROUP.into())?];
    let member6 = {
        let socket = pod
            .netns
            .within(|| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)))??;
        socket.join_multicast_v6(&GROUP6, ifindex(&pod)?)?;
        socket
    };
    // What its kernel says of itself when the interface is new is said into the void.
    sleep(Duration::from_secs(3));
    let capture = Capture::start_inbound(&pod.netns, "eth0", "igmp or ip6")?;
    lone.attach(pod, &plain)?;
    let deadline = Instant::now() + SOON;
    for group in [IpAddr::from(GROUP), GROUP6.into()] {
        while heard(&lone, group)?.get(3) != Some(&COUNT) {
            ensure!(
                Instant::now() < deadline,
                "{group} does not reach the pod that had joined before it was attached"
            );
        }
    }
    drop((members, member6));
    let captured = capture.stop()?;
    let gateway = lone.site.node.gateway(Mode::L2);
    let mac = lone.daemon().status()?.gateway_mac;
    let queries = captured.count(&format!(
        "igmp.type == 0x11 && ip.src == {gateway} && ip.ttl == 1 && eth.src == {mac}"
    ))?;
    let queries6 = captured.count(&format!(
        "icmpv6.type == 130 && ipv6.src == fe80::1 && ipv6.hlim == 1 && eth.src == {mac}"
    ))?;
    ensure!(
        queries >= 1 && queries6 >= 1,
        "{queries} and {queries6} queries"
    );
    let warnings = captured.warnings_among(&format!("eth.src == {mac}"))?;
    ensure!(warnings.is_empty(), "{warnings:?}");
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

#[test]
fn multicast_stays_where_it_is_in_l3_mode() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = Lone::new(Mode::L3, Encap::Vxlan, "", &[&plain, &plain, &plain])?;
    lone.settle()?;
    for group in [GROUP.into(), GROUP6.into(), LOCAL.into(), LOCAL6.into()] {
        let before = lone.daemon().stats()?;
        let counts = heard(&lone, group)?;
        ensure!(counts == [0, 0, 0], "{group}: {counts:?}");
        let drops = drops_between(&before, &lone.daemon().stats()?);
        let drops: Vec<_> = drops.into_iter().collect();
        let expected = [("multicast_not_routed".to_owned(), COUNT as u64)];
        ensure!(drops == expected, "{group}: {drops:?}");
    }
    lone.daemon().must_return_all_frames()?;
    Ok(())
}
