//! What pods may not send, and what they may if their attachment allows it: each frame ends in its
//! named drop or the right error, and no table changes.

mod fragments;
mod impostors;
mod l2;
mod l2_limits;
mod l3;
mod moves;

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use shunt_api::MacAddr;
use shunt_tests::pod::Pod;

const A1: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 11);
const A2: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 12);
const B1: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 11);
const NODE1: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
const NODE2: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
const A1_6: Ipv6Addr = pod6(1, 0x11);
const A2_6: Ipv6Addr = pod6(1, 0x12);
const B1_6: Ipv6Addr = pod6(2, 0x11);
const NODE1_6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
const TUNNEL_PORT: u16 = 8472;
const NOBODY: MacAddr = MacAddr([0x02, 0xee, 0, 0, 0, 1]);

const fn pod6(node: u16, number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, node, 0, 0, 0, number)
}

/// The link-local address that a pod's kernel has given itself.
fn link_local(pod: &Pod) -> Result<Ipv6Addr> {
    let text = pod.netns.ip("-o -6 address show dev eth0 scope link")?;
    let word = text
        .split_whitespace()
        .find(|word| word.starts_with("fe80"));
    let address = word.and_then(|word| word.split('/').next());
    address
        .context("no link-local address")?
        .parse()
        .context(text)
}
