//! L2 mode: the same guards, where neighbours hear each other.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use shunt_api::{Encap, PortSpec};
use shunt_tests::capture::Capture;
use shunt_tests::frames::{BROADCAST, ethernet, inject, udp};
use shunt_tests::lone::{Lone, plain};
use shunt_tests::packets::{
    ALL_NODES, ARP, IPV4, IPV6, advertisement, arp, group_mac6, packet_icmpv6,
    router_advertisement, solicitation, udp6,
};
use shunt_tests::pod::{GATEWAY6, Mode};
use shunt_tests::probe::{must_ping, must_tcp};
use shunt_tests::refusal::{case, must_be_as_before, received, refused, tables};
use shunt_tests::testbed::Testbed;

use crate::impostors::Stage;
use crate::{A1, A1_6, A2, A2_6, B1, B1_6, link_local};

fn stage(lone: &Lone) -> Result<Stage> {
    let status = lone.daemon().status()?;
    let other = lone.pod(1).mac()?;
    Ok(Stage {
        mac: lone.pod(0).mac()?,
        to: other,
        other,
        gateway_mac: status.gateway_mac,
        gateway: lone.site.node.gateway(Mode::L2),
        gateway6: GATEWAY6,
    })
}

fn must_talk(lone: &Lone) -> Result<()> {
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        for address in lone.pod(to).addresses() {
            must_ping(&lone.pod(from).netns, address, 2, "")?;
        }
    }
    must_tcp(lone.pod(0), lone.pod(1))?;
    Ok(())
}

#[test]
fn what_is_not_the_pods_own_ends_by_name() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = Lone::new(Mode::L2, Encap::Vxlan, "", &[&plain, &plain, &plain])?;
    let mut stage = stage(&lone)?;
    must_talk(&lone)?;
    lone.settle()?;
    let good = [
        case("IPv4", "", stage.v4(&udp((A1, 7), (A2, 9), 64, b"good"))),
        case("IPv6", "", stage.v6(&udp6((A1_6, 7), (A2_6, 9), b"good"))),
    ];
    let a1 = &lone.pod(0).netns;
    refused(lone.daemon(), a1, &good)?;
    refused(lone.daemon(), a1, &stage.all())?;
    let offer = |source| {
        let packet = udp((source, 67), (Ipv4Addr::BROADCAST, 68), 64, &[2; 240]);
        ethernet(stage.mac, BROADCAST, IPV4, &packet)
    };
    let cases = [
        case("DHCP server to all", "dhcp_server", offer(A1)),
        case(
            "DHCP server without an address",
            "dhcp_server",
            offer(Ipv4Addr::UNSPECIFIED),
        ),
    ];
    refused(lone.daemon(), a1, &cases)?;
    // What the gateway routes passes the same guards.
    stage.to = stage.gateway_mac;
    let routed = [stage.sources(), stage.tunnels(), stage.extensions()].concat();
    refused(lone.daemon(), a1, &routed)?;
    must_talk(&lone)?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

/// On a segment another's link-local address is as much worth as its global one.
#[test]
fn link_local_addresses_belong_to_their_pods_too() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = Lone::new(Mode::L2, Encap::Vxlan, "", &[&plain, &plain, &plain])?;
    let stage = stage(&lone)?;
    let (own, victim) = (link_local(lone.pod(0))?, link_local(lone.pod(1))?);
    must_talk(&lone)?;
    // The victim's own is known by use.
    let scoped = format!("ping -n -c 2 -W 2 {victim}%eth0");
    for from in [0, 2] {
        lone.pod(from).netns.run(&["sh", "-c", &scoped])?;
    }
    lone.settle()?;
    let to_all = |packet: Vec<u8>| ethernet(stage.mac, group_mac6(ALL_NODES), IPV6, &packet);
    let forged = advertisement(victim, Some(stage.mac));
    let asks = solicitation(A2_6, Some(stage.mac));
    let cases = [
        case(
            "NA of another's",
            "spoofed_ndp",
            to_all(packet_icmpv6(own, ALL_NODES, 255, forged.clone())),
        ),
        case(
            "NA of another's from it",
            "spoofed_ndp",
            to_all(packet_icmpv6(victim, ALL_NODES, 255, forged)),
        ),
        case(
            "NS from another's",
            "spoofed_ndp",
            to_all(packet_icmpv6(victim, ALL_NODES, 255, asks)),
        ),
        case(
            "UDP from another's",
            "spoofed_source",
            stage.v6(&udp6((victim, 7), (A2_6, 9), b"spoof")),
        ),
    ];
    refused(lone.daemon(), &lone.pod(0).netns, &cases)?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

#[test]
fn what_an_unguarded_pod_says_is_bridged() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let free = |spec: &mut PortSpec| spec.unguarded = true;
    let lone = Lone::new(Mode::L2, Encap::Vxlan, "", &[&free, &plain, &plain])?;
    let stage = stage(&lone)?;
    must_talk(&lone)?;
    lone.settle()?;
    let to_all = group_mac6(ALL_NODES);
    let own = link_local(lone.pod(0))?;
    let advert = packet_icmpv6(own, ALL_NODES, 255, router_advertisement(stage.mac));
    let forged = arp(2, (stage.mac, B1), (stage.mac, A2));
    let tagged = [
        &[0xe0, 0x00, 0x08, 0x00][..],
        &udp((A1, 7), (A2, 9), 64, b"tag"),
    ]
    .concat();
    let frames = [
        stage.v4(&udp((B1, 53), (A2, 9), 64, b"spoof")),
        stage.v6(&udp6((B1_6, 53), (A2_6, 9), b"spoof")),
        ethernet(stage.mac, to_all, IPV6, &advert),
        ethernet(stage.mac, stage.to, ARP, &forged),
        stage.v4(&udp((A1, 67), (A2, 68), 64, &[2; 240])),
        ethernet(stage.mac, stage.to, 0x8100, &tagged),
    ];
    let daemon = lone.daemon();
    let state = tables(daemon)?;
    let filter = format!("ether src {}", stage.mac);
    let capture = Capture::start_inbound(&lone.pod(1).netns, "eth0", &filter)?;
    let before = daemon.stats()?;
    inject(&lone.pod(0).netns, "eth0", &frames)?;
    let after = received(daemon, &before, frames.len() as u64)?;
    let heard = capture.stop()?.fields("", &["frame.protocols"])?;
    ensure!(heard.len() >= frames.len(), "only {heard:?}");
    let refusals = |stats: &shunt_api::StatsReport| {
        let port = stats.ports.iter().find(|port| port.name == "a1");
        port.map(|port| port.drops.clone())
    };
    ensure!(refusals(&before) == refusals(&after), "{:?}", after.drops);
    must_be_as_before(daemon, &state)?;
    must_talk(&lone)?;
    daemon.must_return_all_frames()?;
    Ok(())
}
