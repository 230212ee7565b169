//! The program of the node's NIC: a pinhole that takes our packets and leaves all others to the
//! kernel.
//!
//! Redirected are:
//! - to the node's IPv4 address: VXLAN (UDP to the configured port), and IPv4 and IPv6 in IPv4
//!   (protocols 4 and 41), unless fragmented, as only the kernel reassembles;
//! - to the node's IPv6 address: the same, where the fixed header names UDP, IPv4 or IPv6 (next
//!   headers 17, 4 and 41), so never fragments nor what lies behind extension headers;
//! - to other addresses: what lies in one of the direct prefixes, fragments included. IPv6
//!   multicast and link-local addresses lie in none.
//!
//! Everything else passes: other traffic of the node, ARP, neighbour discovery (to the node or to
//! a multicast group), VLAN-tagged and truncated packets.
//!
//! Header fields: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 768 (UDP), RFC 7348 (VXLAN), RFC 2003 (IPv4
//! in IPv4), RFC 4213 (IPv6 in IPv4), RFC 2473 (both in IPv6). IPv6 scopes: RFC 4291, section 2.4.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::{BPF_FUNC_REDIRECT_MAP, MAX_DIRECT, Pinhole, XDP_PASS, XSKMAP};
use crate::error::Error;

/// The four words of an IPv6 destination, as [`ipv6`] loads them.
const WORDS: [&str; 4] = ["r5", "r7", "r8", "r9"];

/// The program's source for a pinhole.
///
/// # Errors
/// [`Error::Config`] for more than [`MAX_DIRECT`] prefixes, both families together.
pub fn source(pinhole: &Pinhole) -> Result<String, Error> {
    let prefixes = pinhole.direct.len().saturating_add(pinhole.direct6.len());
    if prefixes > MAX_DIRECT {
        return Err(Error::Config(format!(
            "{prefixes} direct prefixes, the pinhole holds at most {MAX_DIRECT}; aggregate them"
        )));
    }
    // A family of which nothing is taken has no code: the verifier refuses what is unreachable.
    let (ipv4, ipv6) = (ipv4(pinhole), ipv6(pinhole));
    if ipv4.is_none() && ipv6.is_none() {
        return Ok(format!("mov r0, {XDP_PASS}\nexit\n"));
    }
    let mut dispatch = String::new();
    for (part, ethertype, label) in [(&ipv4, 0x0800, "ipv4"), (&ipv6, 0x86dd, "ipv6")] {
        if part.is_some() {
            let _ = write!(
                dispatch,
                "
        jeq r4, {}, {label}",
                network16(ethertype)
            );
        }
    }
    Ok(format!(
        "
        mov r6, r1                      ; r6 = struct xdp_md
        ldxw r2, [r1+0]                 ; r2 = start of packet
        ldxw r3, [r1+4]                 ; r3 = end of packet
        mov r4, r2
        add r4, 34                      ; Ethernet (14) and the fixed IPv4 header (20)
        jgt r4, r3, pass
        ldxh r4, [r2+12]                ; EtherType
        {dispatch}
        ja pass
        {ipv4}
        {ipv6}
    redirect:
        ldxw r2, [r6+16]                ; xdp_md.rx_queue_index
        lddw r1, {XSKMAP:#x}             ; the XSKMAP
        mov r3, {XDP_PASS}              ; the action when the queue has no socket
        call {BPF_FUNC_REDIRECT_MAP}
        exit

    pass:
        mov r0, {XDP_PASS}
        exit
        ",
        ipv4 = ipv4.unwrap_or_default(),
        ipv6 = ipv6.unwrap_or_default(),
    ))
}

/// What is done with IPv4 packets; `None` where none is taken.
fn ipv4(pinhole: &Pinhole) -> Option<String> {
    let tunnels = pinhole.node.and_then(|_| tunnels4(pinhole));
    if tunnels.is_none() && pinhole.direct.is_empty() {
        return None;
    }
    let mut text = String::from(
        "
    ipv4:
        ldxb r5, [r2+14]                ; version and header length
        mov r4, r5
        and r4, 0xf0
        jne r4, 0x40, pass
        and r5, 0x0f
        jlt r5, 5, pass
        lsh r5, 2                       ; r5 = header length in bytes
        ldxw r7, [r2+30]                ; r7 = destination address",
    );
    if let Some(node) = pinhole.node {
        let _ = write!(
            text,
            "
        jeq32 r7, {}, {}                ; the node",
            immediate4(node),
            if tunnels.is_some() { "node4" } else { "pass" },
        );
    }
    for prefix in &pinhole.direct {
        let _ = write!(
            text,
            "
        mov32 r4, r7
        and32 r4, {}
        jeq32 r4, {}, redirect          ; {prefix}",
            immediate4(prefix.netmask()),
            immediate4(prefix.network()),
        );
    }
    text.push_str(
        "
        ja pass
",
    );
    if let Some(tunnels) = tunnels {
        text.push_str(&tunnels);
    }
    Some(text)
}

/// Looks into IPv4 packets to the node; `r5` is the header length. `None` without tunnels.
fn tunnels4(pinhole: &Pinhole) -> Option<String> {
    if !pinhole.ipip && pinhole.vxlan_port.is_none() {
        return None;
    }
    let mut text = format!(
        "
    node4:
        ldxh r4, [r2+20]                ; flags and fragment offset
        and r4, {}                      ; more fragments, or an offset
        jne r4, 0, pass
        ldxb r4, [r2+23]                ; protocol",
        network16(0x3fff),
    );
    if pinhole.ipip {
        text.push_str(IP_IN_IP);
    }
    if let Some(port) = pinhole.vxlan_port {
        let _ = write!(
            text,
            "
        jne r4, 17, pass                ; UDP
        add r2, r5                      ; r2 + 14 = UDP header
        mov r4, r2
        add r4, 22
        jgt r4, r3, pass
        ldxh r4, [r2+16]                ; destination port
        jeq r4, {}, redirect",
            network16(port),
        );
    }
    text.push_str(
        "
        ja pass
",
    );
    Some(text)
}

/// What is done with IPv6 packets; `None` where none is taken.
fn ipv6(pinhole: &Pinhole) -> Option<String> {
    let tunnels = pinhole.node6.and_then(|_| tunnels6(pinhole));
    if tunnels.is_none() && pinhole.direct6.is_empty() {
        return None;
    }
    let [word0, word1, word2, word3] = WORDS;
    let mut text = format!(
        "
    ipv6:
        mov r4, r2
        add r4, 54                      ; Ethernet (14) and the fixed IPv6 header (40)
        jgt r4, r3, pass
        ldxb r4, [r2+14]                ; version and half of the traffic class
        and r4, 0xf0
        jne r4, 0x60, pass
        ldxw {word0}, [r2+38]           ; destination address
        ldxw {word1}, [r2+42]
        ldxw {word2}, [r2+46]
        ldxw {word3}, [r2+50]"
    );
    if let Some(node) = pinhole.node6 {
        let then = if tunnels.is_some() { "node6" } else { "pass" };
        in_prefix(&mut text, Ipv6Net::from(node), then, "not_node6");
    }
    if !pinhole.direct6.is_empty() {
        for (scope, length) in [(0xff00, 8), (0xfe80, 10)] {
            let prefix = Ipv6Net::new_assert(Ipv6Addr::new(scope, 0, 0, 0, 0, 0, 0, 0), length);
            in_prefix(&mut text, prefix, "pass", "");
        }
    }
    for (n, prefix) in pinhole.direct6.iter().enumerate() {
        in_prefix(&mut text, *prefix, "redirect", &format!("not_direct6_{n}"));
    }
    text.push_str(
        "
        ja pass
",
    );
    if let Some(tunnels) = tunnels {
        text.push_str(&tunnels);
    }
    Some(text)
}

/// Goes to `then` if the destination lies in the prefix, else on behind; `otherwise` is a label of
/// its own for that.
///
/// Words are compared under the mask in a copy, also where the mask is all ones: so the verifier
/// learns nothing of the word itself, and need not look at each later comparison once more for
/// each outcome of this one.
fn in_prefix(text: &mut String, prefix: Ipv6Net, then: &str, otherwise: &str) {
    // Also of ::/0 a word is compared: a plain jump would leave unreachable code behind.
    let last = usize::from(prefix.prefix_len()).div_ceil(32).max(1) - 1;
    let words = immediates6(prefix.netmask())
        .into_iter()
        .zip(immediates6(prefix.network()));
    for (n, (word, (mask, network))) in WORDS.iter().zip(words).take(last + 1).enumerate() {
        let _ = write!(
            text,
            "
        mov32 r4, {word}
        and32 r4, {mask}
        "
        );
        let _ = if n == last {
            write!(text, "jeq32 r4, {network}, {then} ; {prefix}")
        } else {
            write!(text, "jne32 r4, {network}, {otherwise}")
        };
    }
    if last > 0 {
        let _ = write!(
            text,
            "
    {otherwise}:"
        );
    }
}

/// Looks into IPv6 packets to the node; `None` without tunnels.
fn tunnels6(pinhole: &Pinhole) -> Option<String> {
    if !pinhole.ipip && pinhole.vxlan_port.is_none() {
        return None;
    }
    let mut text = String::from(
        "
    node6:
        ldxb r4, [r2+20]                ; next header",
    );
    if pinhole.ipip {
        text.push_str(IP_IN_IP);
    }
    if let Some(port) = pinhole.vxlan_port {
        let _ = write!(
            text,
            "
        jne r4, 17, pass                ; UDP
        mov r4, r2
        add r4, 62                      ; Ethernet, IPv6 and the UDP header (8)
        jgt r4, r3, pass
        ldxh r4, [r2+56]                ; destination port
        jeq r4, {}, redirect",
            network16(port),
        );
    }
    text.push_str(
        "
        ja pass
",
    );
    Some(text)
}

/// Takes both tunnels without a header of their own; `r4` is the protocol or next header.
const IP_IN_IP: &str = "
        jeq r4, 4, redirect             ; IPv4
        jeq r4, 41, redirect            ; IPv6";

/// An address as the signed 32-bit immediate that compares with four bytes loaded from a packet.
fn immediate4(address: Ipv4Addr) -> i32 {
    i32::from_ne_bytes(address.octets())
}

/// The same for the four words of an IPv6 address.
fn immediates6(address: Ipv6Addr) -> [i32; 4] {
    let value = address.to_bits();
    [96, 64, 32, 0].map(|shift| i32::from_ne_bytes(((value >> shift) as u32).to_be_bytes()))
}

/// A 16-bit field as it reads when loaded from a packet.
fn network16(value: u16) -> u16 {
    value.to_be()
}
