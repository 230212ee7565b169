//! Fragments that overlap, are tiny or never end: the switch routes them, and what they become is
//! the receiver's kernel's business.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shunt_api::Encap;
use shunt_tests::balance::drops_between;
use shunt_tests::family::Family;
use shunt_tests::frames::{ethernet, inject, udp};
use shunt_tests::lone::{Lone, plain};
use shunt_tests::packets::{FRAGMENT, IPV4, IPV6, UDP, datagram6, fragment4, fragment6, ipv6};
use shunt_tests::pod::Mode;
use shunt_tests::probe::{must_ping, must_tcp};
use shunt_tests::refusal::{must_be_as_before, received, tables};
use shunt_tests::testbed::Testbed;

use crate::{A1, A1_6, A2, A2_6};

/// Offset, whether more follow, and which octets of the datagram.
type Piece = (u16, bool, std::ops::Range<usize>);

/// Where the receiver listens.
const PORT: u16 = 7000;
/// Octets of the datagram, its header included: 8 + 192.
const LENGTH: usize = 200;

fn datagram(family: Family) -> Vec<u8> {
    let payload: Vec<u8> = (0..192).collect();
    match family {
        Family::V4 => udp((A1, 5000), (A2, PORT), 64, &payload)[20..].to_vec(),
        Family::V6 => datagram6((A1_6, 5000), (A2_6, PORT), &payload),
    }
}

fn packet(family: Family, id: u16, (offset, more, octets): &Piece) -> Result<Vec<u8>> {
    let datagram = datagram(family);
    let piece = datagram.get(octets.clone()).context("octets")?;
    Ok(match family {
        Family::V4 => fragment4(A1, A2, UDP, (id, *offset, *more), piece),
        Family::V6 => {
            let payload = fragment6(UDP, id.into(), *offset, *more, piece);
            ipv6(A1_6, A2_6, FRAGMENT, 64, &payload)
        }
    })
}

#[test]
fn overlapping_and_tiny_fragments_are_the_receivers() -> Result<()> {
    let _testbed = Testbed::acquire()?;
    let lone = Lone::new(Mode::L3, Encap::Vxlan, "", &[&plain, &plain])?;
    let (a1, a2) = (lone.pod(0), lone.pod(1));
    let daemon = lone.daemon();
    let to = daemon.status()?.gateway_mac;
    for address in a2.addresses() {
        must_ping(&a1.netns, address, 2, "")?;
    }
    lone.settle()?;
    let state = tables(daemon)?;
    let tiny: Vec<Piece> = (0..LENGTH / 8)
        .map(|n| (n as u16 * 8, (n + 1) * 8 < LENGTH, n * 8..n * 8 + 8))
        .collect();
    let backwards: Vec<Piece> = tiny.iter().rev().cloned().collect();
    // Whether the kernel gives the datagram to its socket: it throws away what overlaps, and takes
    // what lies within a fragment for its repetition (net/ipv4/inet_fragment.c).
    let cases: [(&str, Vec<Piece>, bool); 7] = [
        (
            "in order",
            vec![(0, true, 0..96), (96, false, 96..200)],
            true,
        ),
        ("eight octets each", tiny, true),
        ("the last first", backwards, true),
        (
            "overlapping",
            vec![
                (0, true, 0..96),
                (64, true, 64..160),
                (160, false, 160..200),
            ],
            false,
        ),
        (
            "header repeated otherwise",
            vec![(0, true, 0..96), (0, true, 96..104), (96, false, 96..200)],
            true,
        ),
        (
            "beyond the longest packet",
            vec![(0, true, 0..96), (65_528, false, 0..64)],
            false,
        ),
        (
            "without an end",
            vec![(0, true, 0..96), (96, true, 96..192)],
            false,
        ),
    ];
    let mut id = 100;
    for family in Family::ALL {
        let listen = SocketAddr::new(a2.address_of(family)?, PORT);
        let socket = a2.netns.within(|| UdpSocket::bind(listen))??;
        for (what, pieces, whole) in &cases {
            id += 1;
            let ethertype = match family {
                Family::V4 => IPV4,
                Family::V6 => IPV6,
            };
            let mac = a1.mac()?;
            let frames: Vec<Vec<u8>> = pieces
                .iter()
                .map(|piece| Ok(ethernet(mac, to, ethertype, &packet(family, id, piece)?)))
                .collect::<Result<_>>()?;
            let before = daemon.stats()?;
            inject(&a1.netns, "eth0", &frames)?;
            let after = received(daemon, &before, frames.len() as u64)?;
            ensure!(
                drops_between(&before, &after).is_empty(),
                "{family} {what}: {:?}",
                drops_between(&before, &after)
            );
            let sent = after.transmitted - before.transmitted;
            ensure!(sent >= frames.len() as u64, "{family} {what}: {sent} sent");
            socket.set_read_timeout(Some(Duration::from_millis(if *whole {
                2000
            } else {
                200
            })))?;
            let mut buffer = [0; 512];
            let arrived = socket.recv_from(&mut buffer).ok();
            ensure!(
                arrived.is_some() == *whole,
                "{family} {what}: the receiver got {arrived:?}"
            );
            if let Some((length, from)) = arrived {
                let octets = datagram(family);
                ensure!(
                    buffer.get(..length) == octets.get(8..),
                    "{family} {what}: other octets"
                );
                ensure!(a1.addresses().contains(&from.ip()), "{from}");
            }
        }
    }
    must_be_as_before(daemon, &state)?;
    must_tcp(a1, a2)?;
    daemon.must_return_all_frames()?;
    Ok(())
}
