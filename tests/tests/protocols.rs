//! Any IP protocol passes between pods as it is, in fragments too, and so do IP's own options and
//! extension headers. SCTP's checksum is left alone unless its sender left it out.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use shunt_api::Encap;
use shunt_tests::cluster::{Cluster, Spec};
use shunt_tests::daemon::Daemon;
use shunt_tests::family::Family;
use shunt_tests::frames::{ethernet, fix_checksum, inject, ipv4};
use shunt_tests::lone::{Lone, plain};
use shunt_tests::netns::Netns;
use shunt_tests::packets::{
    DESTINATION, FRAGMENT, HOP_BY_HOP, IPV4, IPV6, SCTP, complete_sctp, extension, fragment6, ipv6,
    sctp,
};
use shunt_tests::pod::{Mode, Pod};
use shunt_tests::probe::must_ping;
use shunt_tests::raw::RawIp;
use shunt_tests::testbed::Testbed;

const GRE: u8 = 47;
const ESP: u8 = 50;
/// For experiments (RFC 3692).
const EXPERIMENT: u8 = 253;

/// Octets that are not all alike.
fn octets(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn two_nodes(encap: Encap) -> Result<Cluster> {
    let spec = Spec {
        dual: true,
        ..Spec::new(Mode::L3, encap)
    };
    Cluster::build(&spec, Netns::new)
}

/// The first pod of the first node with its neighbour, and with a pod of the other node.
fn pairs(cluster: &Cluster) -> Result<[(&Pod, &Pod); 2]> {
    let [near, far] = &cluster.sites[..] else {
        bail!("two nodes")
    };
    let (from, to) = (near.pods.first(), near.pods.get(1));
    let from = from.context("a1")?;
    let remote = far.pods.first().context("b1")?;
    Ok([(from, to.context("a2")?), (from, remote)])
}

fn end(cluster: Cluster) -> Result<()> {
    for site in &cluster.sites {
        site.daemon.must_return_all_frames()?;
    }
    Ok(())
}

/// Payloads of each protocol in both families there and back, those larger than the MTU in
/// fragments.
fn must_carry_protocols(a: &Pod, b: &Pod) -> Result<()> {
    for family in Family::ALL {
        let (ours, theirs) = (a.address_of(family)?, b.address_of(family)?);
        for protocol in [GRE, ESP, EXPERIMENT] {
            let here = RawIp::open(&a.netns, protocol, ours)?;
            let there = RawIp::open(&b.netns, protocol, theirs)?;
            for length in [1, 100, 1300, 4000, 20_000] {
                let payload = octets(length);
                let what = || format!("{} {protocol} {length} {}", a.name, b.name);
                here.send(theirs, &payload)?;
                there.must_receive(&payload).with_context(what)?;
                there.send(ours, &payload)?;
                here.must_receive(&payload).with_context(what)?;
            }
        }
    }
    Ok(())
}

/// SCTP with a right checksum, with a wrong one that is the receiver's to refuse, and with none,
/// which is what a kernel hands over that leaves it to its device.
fn must_carry_sctp(a: &Pod, b: &Pod) -> Result<()> {
    for family in Family::ALL {
        let (ours, theirs) = (a.address_of(family)?, b.address_of(family)?);
        let here = RawIp::open(&a.netns, SCTP, ours)?;
        let there = RawIp::open(&b.netns, SCTP, theirs)?;
        for length in [1, 64, 1201] {
            let without = sctp((5000, 6000), &octets(length));
            let right = complete_sctp(without.clone());
            let mut wrong = right.clone();
            wrong[8..12].copy_from_slice(&[1, 2, 3, 4]);
            for (what, sent, expected) in [
                ("right", &right, &right),
                ("wrong", &wrong, &wrong),
                ("none", &without, &right),
            ] {
                here.send(theirs, sent)?;
                there
                    .must_receive(expected)
                    .with_context(|| format!("{family}, checksum {what}, {length}"))?;
            }
        }
        // In fragments the sender's kernel has to complete it: what is zero then is so on purpose.
        let large = complete_sctp(sctp((5000, 6000), &octets(3000)));
        here.send(theirs, &large)?;
        there.must_receive(&large).context("SCTP in fragments")?;
    }
    Ok(())
}

fn between_nodes(encap: Encap) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = two_nodes(encap)?;
    for (from, to) in pairs(&cluster)? {
        must_carry_protocols(from, to)?;
        must_carry_sctp(from, to)?;
    }
    end(cluster)
}

#[test]
fn any_protocol_over_vxlan() -> Result<()> {
    between_nodes(Encap::Vxlan)
}

#[test]
fn any_protocol_over_ipip() -> Result<()> {
    between_nodes(Encap::Ipip)
}

#[test]
fn any_protocol_direct() -> Result<()> {
    between_nodes(Encap::Direct)
}

#[test]
fn any_protocol_on_a_segment() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = Lone::new(Mode::L2, Encap::Vxlan, "", &[&plain, &plain])?;
    must_carry_protocols(lone.pod(0), lone.pod(1))?;
    must_carry_sctp(lone.pod(0), lone.pod(1))?;
    lone.daemon().must_return_all_frames()?;
    Ok(())
}

/// Sends a packet by hand to the gateway and demands its payload at the far end.
fn must_arrive(
    daemon: &Daemon,
    (from, to): (&Pod, &Pod),
    ethertype: u16,
    packets: &[Vec<u8>],
    payload: &[u8],
) -> Result<()> {
    let family = if ethertype == IPV4 {
        Family::V4
    } else {
        Family::V6
    };
    let there = RawIp::open(&to.netns, EXPERIMENT, to.address_of(family)?)?;
    let (mac, gateway) = (from.mac()?, daemon.status()?.gateway_mac);
    let frames: Vec<Vec<u8>> = packets
        .iter()
        .map(|packet| ethernet(mac, gateway, ethertype, packet))
        .collect();
    inject(&from.netns, "eth0", &frames)?;
    there.must_receive(payload)
}

fn headers_pass(encap: Encap) -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let cluster = two_nodes(encap)?;
    let daemon = &cluster.sites.first().context("node 1")?.daemon;
    let payload = octets(320);
    for (from, to) in pairs(&cluster)? {
        let (IpAddr::V6(source), IpAddr::V6(destination)) =
            (from.address_of(Family::V6)?, to.address_of(Family::V6)?)
        else {
            bail!("IPv6")
        };
        must_ping(&from.netns, destination, 2, "")?;
        must_ping(&from.netns, to.address, 2, "")?;
        let behind = |headers: &[[u8; 8]]| [&headers.concat()[..], &payload].concat();
        let (hop, options) = (extension, extension);
        for (what, next, content) in [
            ("hop-by-hop", HOP_BY_HOP, behind(&[hop(EXPERIMENT)])),
            ("destination", DESTINATION, behind(&[options(EXPERIMENT)])),
            (
                "both",
                HOP_BY_HOP,
                behind(&[hop(DESTINATION), options(EXPERIMENT)]),
            ),
            (
                "eight",
                DESTINATION,
                behind(&[[options(DESTINATION); 7].as_slice(), &[options(EXPERIMENT)]].concat()),
            ),
            (
                "an atomic fragment",
                FRAGMENT,
                fragment6(EXPERIMENT, 5, 0, false, &payload),
            ),
        ] {
            let packet = ipv6(source, destination, next, 64, &content);
            must_arrive(daemon, (from, to), IPV6, &[packet], &payload)
                .with_context(|| format!("{what} options to {}", to.name))?;
        }
        // The header that is for each node on the way comes first in each fragment.
        let pieces: Vec<Vec<u8>> = [(0, true, 0..160), (160, false, 160..320)]
            .into_iter()
            .map(|(offset, more, range)| {
                let piece = payload.get(range).unwrap_or_default();
                let fragment = fragment6(EXPERIMENT, 77, offset, more, piece);
                let content = [&hop(FRAGMENT)[..], &fragment].concat();
                ipv6(source, destination, HOP_BY_HOP, 64, &content)
            })
            .collect();
        must_arrive(daemon, (from, to), IPV6, &pieces, &payload)
            .with_context(|| format!("options before fragments to {}", to.name))?;

        // RFC 791, 3.1: three times no operation, and the end of the list.
        let mut packet = ipv4(from.address, to.address, EXPERIMENT, 64, &payload);
        packet.splice(20..20, [1, 1, 1, 0]);
        packet[0] = 0x46;
        let length = u16::try_from(packet.len())?;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        fix_checksum(&mut packet);
        must_arrive(daemon, (from, to), IPV4, &[packet], &payload)
            .with_context(|| format!("IPv4 options to {}", to.name))?;
    }
    end(cluster)
}

#[test]
fn options_and_extension_headers_pass_over_vxlan() -> Result<()> {
    headers_pass(Encap::Vxlan)
}

#[test]
fn options_and_extension_headers_pass_over_ipip() -> Result<()> {
    headers_pass(Encap::Ipip)
}
