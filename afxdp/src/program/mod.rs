//! The XDP programs: eBPF assembly text, assembled and loaded when a device is opened. No compiler
//! is needed and the source is what runs.
//!
//! Registers at entry and exit follow the kernel's convention: `r1` points to `struct xdp_md`, `r0`
//! is the returned action.

pub mod pod;
pub mod uplink;

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::error::Error;

/// Most prefixes of [`Pinhole::direct`] and [`Pinhole::direct6`] together.
pub const MAX_DIRECT: usize = 64;

/// `XDP_PASS` of `enum xdp_action`.
pub(crate) const XDP_PASS: u32 = 2;
/// `bpf_map_lookup_elem` of `enum bpf_func_id`.
pub(crate) const BPF_FUNC_MAP_LOOKUP_ELEM: u32 = 1;
/// `bpf_redirect_map` of `enum bpf_func_id`.
pub(crate) const BPF_FUNC_REDIRECT_MAP: u32 = 51;
/// `BPF_PSEUDO_MAP_FD`: as source register of a 64-bit load, says that the value is a map.
const BPF_PSEUDO_MAP_FD: u8 = 1;
/// The numbers that stand for the maps in the text; no other 64-bit loads are used.
const XSKMAP: u32 = 0x5841_504d;
const PLACES: u32 = 0x504c_4143;

/// The descriptors of a program's maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maps {
    /// Slot to socket.
    pub(crate) sockets: i32,
    /// Device to slots; an uplink's program has none.
    pub(crate) places: Option<i32>,
}

/// Which XDP program a device carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramKind {
    /// Every frame to the socket of its queue; see [`pod`]. All devices of a UMEM share one.
    Pod,
    /// Only tunnel packets and packets for our pods to the socket; see [`uplink`].
    Uplink(Pinhole),
}

/// What an uplink redirects to the switch; everything else stays with the kernel. The default takes
/// nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinhole {
    /// The node's IPv4 address: destination of tunnel packets over IPv4. Never direct.
    pub node: Option<Ipv4Addr>,
    /// The node's IPv6 address: destination of tunnel packets over IPv6. Never direct.
    pub node6: Option<Ipv6Addr>,
    /// UDP destination port of VXLAN packets to the node, if they are to be redirected.
    pub vxlan_port: Option<u16>,
    /// Redirect IPv4 (protocol 4) and IPv6 packets (41) in packets to the node.
    pub ipip: bool,
    /// Redirect packets to these prefixes, at most [`MAX_DIRECT`] of both families.
    pub direct: Vec<Ipv4Net>,
    /// Redirect packets to these prefixes, multicast and link-local addresses excepted.
    pub direct6: Vec<Ipv6Net>,
}

impl ProgramKind {
    /// The program's name in the kernel.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pod => "shunt_pod",
            Self::Uplink(_) => "shunt_uplink",
        }
    }

    /// The program's source.
    ///
    /// # Errors
    /// [`Error::Config`] for a pinhole with too many prefixes.
    pub fn source(&self) -> Result<String, Error> {
        match self {
            Self::Pod => Ok(pod::source()),
            Self::Uplink(pinhole) => uplink::source(pinhole),
        }
    }

    /// The instructions, 8 bytes each, with the descriptors of the maps.
    pub(crate) fn assemble(&self, maps: Maps) -> Result<Vec<u8>, Error> {
        let mut code = assemble(&self.source()?)?;
        relocate(&mut code, maps);
        Ok(code)
    }
}

/// Assembles a program. On top of rbpf's syntax (one instruction a line) the text has comments from
/// `;` to the end of the line, `label:` lines, and labels as jump targets.
pub(crate) fn assemble(source: &str) -> Result<Vec<u8>, Error> {
    let plain = resolve_labels(source)?;
    rbpf::assembler::assemble(&plain)
        .map_err(|error| Error::Config(format!("XDP program does not assemble: {error}")))
}

/// Turns labels into the relative offsets rbpf's assembler wants.
fn resolve_labels(source: &str) -> Result<String, Error> {
    let lines = || {
        source
            .lines()
            .map(|line| line.split(';').next().unwrap_or_default().trim())
            .filter(|line| !line.is_empty())
    };
    let mut labels = HashMap::new();
    let mut position = 0i32;
    for line in lines() {
        match line.strip_suffix(':') {
            Some(label) => {
                if labels.insert(label, position).is_some() {
                    return Err(Error::Config(format!(
                        "XDP program has label `{label}` twice"
                    )));
                }
            }
            // A 64-bit load takes two slots.
            None => position += if line.starts_with("lddw") { 2 } else { 1 },
        }
    }
    let mut plain = String::with_capacity(source.len());
    let mut position = 0;
    for line in lines().filter(|line| !line.ends_with(':')) {
        position += if line.starts_with("lddw") { 2 } else { 1 };
        let (instruction, target) = line.rsplit_once([' ', ',']).unwrap_or((line, ""));
        match labels.get(target) {
            Some(at) => {
                let comma = if instruction.contains(',') { "," } else { "" };
                let instruction = instruction.trim_end_matches([',', ' ']);
                let _ = writeln!(plain, "{instruction}{comma} {:+}", at - position);
            }
            None if line.starts_with('j') => {
                return Err(Error::Config(format!(
                    "XDP program has no label `{target}`"
                )));
            }
            None => {
                let _ = writeln!(plain, "{line}");
            }
        }
    }
    Ok(plain)
}

/// Makes the 64-bit loads references to the maps.
fn relocate(code: &mut [u8], maps: Maps) {
    const LD_DW_IMM: u8 = 0x18;
    for instruction in code.chunks_exact_mut(8) {
        if let [LD_DW_IMM, registers, _, _, immediate @ ..] = instruction {
            let map = match maps.places {
                Some(places) if *immediate == PLACES.to_ne_bytes() => places,
                _ => maps.sockets,
            };
            // Source register in the high nibble on little-endian machines, low on big-endian.
            *registers |= if cfg!(target_endian = "little") {
                BPF_PSEUDO_MAP_FD << 4
            } else {
                BPF_PSEUDO_MAP_FD
            };
            immediate.copy_from_slice(&map.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod assembler_tests {
    use super::*;

    #[test]
    fn labels_become_offsets() {
        let plain = resolve_labels(
            "start: ; here\n lddw r1, 5\n jeq r1, 5, out ; forward\n ja start\nout:\n exit\n",
        )
        .unwrap();
        assert_eq!(plain, "lddw r1, 5\njeq r1, 5, +1\nja -4\nexit\n");
    }

    #[test]
    fn label_slips_are_errors() {
        for source in ["ja nowhere\nexit", "a:\na:\nexit", "jeq r1, 2, nowhere\n"] {
            assert!(
                matches!(resolve_labels(source), Err(Error::Config(_))),
                "{source}"
            );
        }
        assert!(matches!(assemble("frobnicate r1"), Err(Error::Config(_))));
    }

    #[test]
    fn the_maps_are_patched_into_their_loads() {
        let maps = Maps {
            sockets: 0x1234_5678,
            places: Some(0x0765_4321),
        };
        let code = ProgramKind::Pod.assemble(maps).unwrap();
        let loads: Vec<_> = code.chunks_exact(8).filter(|i| i[0] == 0x18).collect();
        // The place is looked up first.
        let immediates: Vec<_> = loads.iter().map(|load| &load[4..]).collect();
        assert_eq!(
            immediates,
            [0x0765_4321i32.to_ne_bytes(), 0x1234_5678i32.to_ne_bytes()]
        );
        assert!(loads.iter().all(|load| load[1] & 0xf0 == 0x10));
    }
}

#[cfg(test)]
mod tests;
