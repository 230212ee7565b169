//! The program of the node's NIC: a pinhole that takes our packets and leaves all others to the
//! kernel.
//!
//! Redirected are, IPv4 only:
//! - to the node's address: VXLAN (UDP to the configured port) and IPIP (protocol 4), unless
//!   fragmented, as only the kernel reassembles;
//! - to other addresses: what lies in one of the direct prefixes, fragments included.
//!
//! Everything else passes: other traffic of the node, ARP, IPv6, VLAN-tagged and truncated packets.
//! Header fields: RFC 791 (IPv4), RFC 768 (UDP), RFC 7348 (VXLAN), RFC 2003 (IPIP).

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::{BPF_FUNC_REDIRECT_MAP, MAP, MAX_DIRECT, Pinhole, XDP_PASS};
use crate::error::Error;

/// The program's source for a pinhole.
///
/// # Errors
/// [`Error::Config`] for more than [`MAX_DIRECT`] prefixes.
pub fn source(pinhole: &Pinhole) -> Result<String, Error> {
    if pinhole.direct.len() > MAX_DIRECT {
        return Err(Error::Config(format!(
            "{} direct prefixes, the pinhole holds at most {MAX_DIRECT}; aggregate them",
            pinhole.direct.len()
        )));
    }
    if pinhole.direct.is_empty() && !pinhole.ipip && pinhole.vxlan_port.is_none() {
        // The verifier refuses unreachable instructions, here all of the redirect.
        return Ok(format!("mov r0, {XDP_PASS}\nexit\n"));
    }
    let direct = direct(pinhole);
    let tunnels = tunnels(pinhole);
    let (node, ipv4) = (immediate(pinhole.node), network16(0x0800));
    Ok(format!(
        "
        mov r6, r1                      ; r6 = struct xdp_md
        ldxw r2, [r1+0]                 ; r2 = start of packet
        ldxw r3, [r1+4]                 ; r3 = end of packet
        mov r4, r2
        add r4, 34                      ; Ethernet (14) and the fixed IPv4 header (20)
        jgt r4, r3, pass
        ldxh r4, [r2+12]                ; EtherType
        jne r4, {ipv4}, pass            ; the place for IPv6
        ldxb r5, [r2+14]                ; version and header length
        mov r4, r5
        and r4, 0xf0
        jne r4, 0x40, pass
        and r5, 0x0f
        jlt r5, 5, pass
        lsh r5, 2                       ; r5 = IPv4 header length in bytes
        ldxw r7, [r2+30]                ; r7 = destination address
        mov32 r4, {node}
        jeq32 r7, r4, to_node
        {direct}
        ja pass

    to_node:
        ldxh r4, [r2+20]                ; flags and fragment offset
        and r4, {fragment}              ; more fragments, or an offset
        jne r4, 0, pass
        ldxb r7, [r2+23]                ; r7 = protocol
        {tunnels}
        ja pass

    redirect:
        ldxw r2, [r6+16]                ; xdp_md.rx_queue_index
        lddw r1, {MAP}                  ; the XSKMAP
        mov r3, {XDP_PASS}              ; the action when the queue has no socket
        call {BPF_FUNC_REDIRECT_MAP}
        exit

    pass:
        mov r0, {XDP_PASS}
        exit
        ",
        fragment = network16(0x3fff),
    ))
}

/// Compares the destination (`r7`) with every direct prefix.
fn direct(pinhole: &Pinhole) -> String {
    let mut text = String::new();
    for prefix in &pinhole.direct {
        let _ = write!(
            text,
            "
        mov r4, r7
        and32 r4, {mask}
        mov32 r8, {network}
        jeq32 r4, r8, redirect          ; {prefix}",
            mask = immediate(prefix.netmask()),
            network = immediate(prefix.network()),
        );
    }
    text
}

/// Looks into unfragmented packets to the node; `r5` is the header length, `r7` the protocol.
fn tunnels(pinhole: &Pinhole) -> String {
    let mut text = String::new();
    if pinhole.ipip {
        text.push_str(
            "
        jeq r7, 4, redirect             ; IPIP",
        );
    }
    if let Some(port) = pinhole.vxlan_port {
        let _ = write!(
            text,
            "
        jne r7, 17, pass                ; UDP
        add r2, r5                      ; r2 + 14 = UDP header
        mov r4, r2
        add r4, 22
        jgt r4, r3, pass
        ldxh r4, [r2+16]                ; destination port
        jeq r4, {}, redirect",
            network16(port),
        );
    }
    text
}

/// An address as the signed 32-bit immediate that compares with four bytes loaded from a packet.
fn immediate(address: Ipv4Addr) -> i32 {
    i32::from_ne_bytes(address.octets())
}

/// A 16-bit field as it reads when loaded from a packet.
fn network16(value: u16) -> u16 {
    value.to_be()
}
