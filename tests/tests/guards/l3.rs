//! L3 mode.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use shunt_api::{Encap, PortSpec, StatsReport};
use shunt_tests::daemon::Daemon;
use shunt_tests::frames::{echo_request, ethernet, inject, ipv4, udp};
use shunt_tests::lone::{Lone, plain};
use shunt_tests::packets::{
    ALL_NODES, DESTINATION, IPV4, IPV6, UDP, chain, group_mac6, icmp_unreachable, ipv6,
    packet_icmpv6, redirect, router_advertisement, too_big6, udp6,
};
use shunt_tests::pod::Mode;
use shunt_tests::probe::{must_ping, must_tcp};
use shunt_tests::refusal::{answered, case, must_be_as_before, received, refused, tables};
use shunt_tests::testbed::Testbed;

use crate::impostors::Stage;
use crate::{A1, A1_6, A2, A2_6, B1, B1_6, NOBODY, link_local};

fn stage(lone: &Lone) -> Result<Stage> {
    let status = lone.daemon().status()?;
    Ok(Stage {
        mac: lone.pod(0).mac()?,
        to: status.gateway_mac,
        other: lone.pod(1).mac()?,
        gateway_mac: status.gateway_mac,
        gateway: shunt_tests::pod::L3_GATEWAY,
        gateway6: shunt_tests::pod::GATEWAY6,
    })
}

fn must_talk(lone: &Lone) -> Result<()> {
    let (a1, a2) = (lone.pod(0), lone.pod(1));
    for (from, to) in [(a1, a2), (a2, a1)] {
        for address in to.addresses() {
            must_ping(&from.netns, address, 3, "")?;
        }
    }
    must_tcp(a1, a2)?;
    Ok(())
}

#[test]
fn what_is_not_the_pods_own_ends_by_name() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = Lone::new(Mode::L3, Encap::Vxlan, "", &[&plain, &plain])?;
    let stage = stage(&lone)?;
    must_talk(&lone)?;
    lone.settle()?;
    let good = [
        case("IPv4", "", stage.v4(&udp((A1, 7), (A2, 9), 64, b"good"))),
        case("IPv6", "", stage.v6(&udp6((A1_6, 7), (A2_6, 9), b"good"))),
    ];
    refused(lone.daemon(), &lone.pod(0).netns, &good)?;
    refused(lone.daemon(), &lone.pod(0).netns, &stage.all())?;
    must_talk(&lone)?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

/// More headers than the largest MTU of the underlay would hold: the pods' own may be larger.
#[test]
fn a_chain_of_three_thousand_headers() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let mut lone = Lone::new(Mode::L3, Encap::Vxlan, "", &[&plain])?;
    let pod = lone.make_pod()?;
    pod.netns.ip("link set eth0 mtu 32000")?;
    let netns = &lone.site.node.netns;
    netns.ip(&format!("link set {} mtu 32000", pod.host_device))?;
    lone.attach(pod, &plain)?;
    lone.settle()?;
    let (a1, a2) = (lone.pod(0), lone.pod(1));
    let to = lone.daemon().status()?.gateway_mac;
    let payload = chain(3000, UDP, &[0; 8]);
    let frame = |source| {
        let packet = ipv6(source, A1_6, DESTINATION, 64, &payload);
        Ok::<_, anyhow::Error>(ethernet(a2.mac()?, to, IPV6, &packet))
    };
    let cases = [
        case("from the pod", "extension_limit", frame(A2_6)?),
        case("from another", "extension_limit", frame(A1_6)?),
    ];
    refused(lone.daemon(), &a2.netns, &cases)?;
    must_ping(&a2.netns, a1.address, 3, "")?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

/// What others are told of paths and destinations is theirs to believe; the switch learns nothing.
#[test]
fn errors_about_forged_packets_change_no_table() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = Lone::new(Mode::L3, Encap::Vxlan, "", &[&plain, &plain])?;
    let stage = stage(&lone)?;
    must_talk(&lone)?;
    lone.settle()?;
    let mut cases = Vec::new();
    // About packets that their alleged senders never sent.
    let about = udp((A2, 5000), (B1, 53), 64, b"forged");
    let about6 = udp6((A2_6, 5000), (B1_6, 53), b"forged");
    let gateway = (stage.gateway, stage.gateway6);
    for (code, mtu) in [(4, 68), (4, 0), (4, 576), (0, 0), (1, 0), (3, 0), (13, 0)] {
        let message = icmp_unreachable(code, mtu, &about);
        let what = |to: &str| format!("code {code} mtu {mtu} {to}");
        let packet = ipv4(A1, A2, 1, 64, &message);
        cases.push(case(&what("to its victim"), "", stage.v4(&packet)));
        let packet = ipv4(A1, gateway.0, 1, 64, &message);
        let frame = stage.v4(&packet);
        cases.push(case(&what("to the gateway"), "gateway_no_service", frame));
        let packet = ipv4(B1, A2, 1, 64, &message);
        cases.push(case(&what("spoofed"), "spoofed_source", stage.v4(&packet)));
        // RFC 1122, 3.2.2: no error about an error.
        let packet = ipv4(A1, A2, 1, 1, &message);
        cases.push(case(
            &what("on its last hop"),
            "ttl_expired",
            stage.v4(&packet),
        ));
        let packet = ipv4(A1, [10, 99, 0, 1].into(), 1, 64, &message);
        cases.push(case(&what("to nowhere"), "no_route", stage.v4(&packet)));
    }
    for mtu in [0, 68, 1280, u32::MAX] {
        let message = too_big6(mtu, &about6);
        let what = |to: &str| format!("too big {mtu} {to}");
        let packet = |source, to, hops| {
            let packet = packet_icmpv6(source, to, hops, message.clone());
            stage.v6(&packet)
        };
        cases.push(case(&what("to its victim"), "", packet(A1_6, A2_6, 64)));
        let frame = packet(A1_6, gateway.1, 64);
        cases.push(case(&what("to the gateway"), "gateway_no_service", frame));
        let frame = packet(B1_6, A2_6, 64);
        cases.push(case(&what("spoofed"), "spoofed_source", frame));
        let frame = packet(A1_6, A2_6, 1);
        cases.push(case(&what("on its last hop"), "ttl_expired", frame));
    }
    // The same that are no errors do elicit one.
    let frame = stage.v4(&echo_request(A1, A2, 1));
    cases.push(answered(
        "echo request on its last hop",
        "ttl_expired",
        frame,
    ));
    let frame = stage.v4(&udp((A1, 7), (gateway.0, 9), 64, b"hello"));
    cases.push(answered("UDP to the gateway", "gateway_no_service", frame));
    refused(lone.daemon(), &lone.pod(0).netns, &cases)?;
    must_talk(&lone)?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

/// What was dropped of the pod's that sends; its victims may answer to nowhere.
fn refusals(stats: &StatsReport) -> Result<BTreeMap<String, u64>> {
    let port = stats.ports.iter().find(|port| port.name == "a1");
    Ok(port.context("no port a1")?.drops.clone())
}

fn must_pass(lone: &Lone, daemon: &Daemon, frames: &[(&str, Vec<u8>)]) -> Result<()> {
    let state = tables(daemon)?;
    for (what, frame) in frames {
        let before = daemon.stats()?;
        inject(&lone.pod(0).netns, "eth0", std::slice::from_ref(frame))?;
        let after = received(daemon, &before, 1)?;
        assert_eq!(refusals(&before)?, refusals(&after)?, "{what}");
    }
    must_be_as_before(daemon, &state)
}

#[test]
fn an_unguarded_pod_may_be_anybody_but_the_gateway() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let free = |spec: &mut PortSpec| spec.unguarded = true;
    let lone = Lone::new(Mode::L3, Encap::Vxlan, "", &[&free, &plain])?;
    let stage = stage(&lone)?;
    must_talk(&lone)?;
    must_ping(&lone.pod(1).netns, A1, 1, "")?;
    lone.settle()?;
    let world = [8, 8, 8, 8].into();
    let spoofed = udp((world, 53), (A2, 5000), 64, b"spoofed");
    let daemon = lone.daemon();
    must_pass(
        &lone,
        daemon,
        &[
            ("source 8.8.8.8", stage.v4(&spoofed)),
            ("another MAC", ethernet(NOBODY, stage.to, IPV4, &spoofed)),
            (
                "source of a remote pod",
                stage.v4(&udp((B1, 1), (A2, 2), 64, b"x")),
            ),
            (
                "IPv6 source of a remote pod",
                stage.v6(&udp6((B1_6, 1), (A2_6, 2), b"x")),
            ),
            (
                "DHCP server",
                stage.v4(&udp((A1, 67), (A2, 68), 64, &[2; 240])),
            ),
        ],
    )?;
    let mac = stage.mac;
    let own = link_local(lone.pod(0))?;
    let advert = packet_icmpv6(own, ALL_NODES, 255, router_advertisement(mac));
    let state = tables(daemon)?;
    let before = daemon.stats()?;
    let to = group_mac6(ALL_NODES);
    let frames = [
        ethernet(mac, to, IPV6, &advert),
        stage.v6(&packet_icmpv6(own, A2_6, 255, redirect(A1_6, B1_6))),
    ];
    inject(&lone.pod(0).netns, "eth0", &frames)?;
    received(daemon, &before, 2)?;
    // In L3 mode nobody but the switch hears of them.
    must_be_as_before(daemon, &state)?;
    let forged = ethernet(stage.gateway_mac, stage.to, IPV4, &spoofed);
    let cases = [
        case("the gateway's MAC", "spoofed_gateway", forged),
        case(
            "loopback",
            "martian_source",
            stage.v4(&udp(([127, 0, 0, 1].into(), 1), (A2, 2), 64, b"x")),
        ),
    ];
    refused(daemon, &lone.pod(0).netns, &cases)?;
    must_talk(&lone)?;
    daemon.must_return_all_frames()?;
    Ok(())
}
