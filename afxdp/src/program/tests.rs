//! Every rule of the programs, on real packet bytes: in rbpf's interpreter, which also reports any
//! access outside the packet, and in the kernel (`BPF_PROG_TEST_RUN`), which also verifies them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::*;
use crate::sys::bpf;

mod v4;
mod v6;

const REDIRECT: u64 = 4;
const PASS: u64 = 2;

/// Runs a program in the interpreter. `data` and `data_end` of `struct xdp_md` are 32 bits wide and
/// widened by the kernel's verifier; here the program is told to read 64.
fn interpret(kind: &ProgramKind, packet: &mut [u8]) -> u64 {
    let source = kind
        .source()
        .unwrap()
        .replace("ldxw r2, [r1+0]", "ldxdw r2, [r1+0]")
        .replace("ldxw r3, [r1+4]", "ldxdw r3, [r1+8]");
    let code = assemble(&source).unwrap();
    let mut vm = rbpf::EbpfVmMbuff::new(Some(&code)).unwrap();
    // bpf_redirect_map with a socket behind the map.
    vm.register_helper(BPF_FUNC_REDIRECT_MAP, |map, queue, action, _, _| {
        assert_eq!(
            (map, queue, action),
            (u64::from(XSKMAP), 7, u64::from(XDP_PASS))
        );
        REDIRECT
    })
    .unwrap();
    let start = packet.as_ptr() as u64;
    let mut context = [
        start.to_ne_bytes(),
        (start + packet.len() as u64).to_ne_bytes(),
    ]
    .concat();
    context.extend_from_slice(&7u64.to_le_bytes());
    vm.execute_program(packet, &context).unwrap()
}

/// The program in the kernel, with a socket in slot 0. What a test run receives comes from queue 0
/// of `lo`, whose index is 1; to the pods' program `place` says where its sockets are.
struct Loaded {
    program: OwnedFd,
    sockets: OwnedFd,
    places: OwnedFd,
    _socket: OwnedFd,
}

fn load(kind: &ProgramKind, place: Option<(u32, bpf::Place)>) -> Loaded {
    let sockets = bpf::create_xskmap(4).unwrap();
    let places = bpf::create_places(4).unwrap();
    let maps = Maps {
        sockets: sockets.as_raw_fd(),
        places: Some(places.as_raw_fd()),
    };
    let code = kind.assemble(maps).unwrap();
    let program = bpf::load_xdp(kind.name(), &code, true).unwrap();
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::XDP,
        rustix::net::SocketType::RAW,
        None,
    )
    .unwrap();
    bpf::set_xsk(sockets.as_fd(), 0, socket.as_fd()).unwrap();
    if let Some((ifindex, place)) = place {
        bpf::set_place(places.as_fd(), ifindex, place).unwrap();
    }
    Loaded {
        program,
        sockets,
        places,
        _socket: socket,
    }
}

impl Loaded {
    fn run(&self, packet: &[u8]) -> u64 {
        u64::from(bpf::test_run(self.program.as_fd(), packet).unwrap())
    }
}

/// A pinhole's program in both machines.
struct Machines {
    kind: ProgramKind,
    loaded: Loaded,
}

impl Machines {
    fn new(pinhole: &Pinhole) -> Self {
        let kind = ProgramKind::Uplink(pinhole.clone());
        let loaded = load(&kind, None);
        Self { kind, loaded }
    }

    /// Asserts the verdict of both. The kernel takes no frames without an Ethernet header.
    fn assert(&self, packet: &[u8], expected: u64, what: &str) {
        let verdict = interpret(&self.kind, &mut packet.to_vec());
        assert_eq!(verdict, expected, "interpreter: {what}");
        if packet.len() >= 14 {
            assert_eq!(self.loaded.run(packet), expected, "kernel: {what}");
        }
    }
}

/// Asserts the verdict in both machines.
fn assert_verdict(pinhole: &Pinhole, packet: &[u8], expected: u64, what: &str) {
    Machines::new(pinhole).assert(packet, expected, what);
}

#[test]
fn a_pod_takes_everything_of_its_queues() {
    for packet in [&[0u8; 14][..], &v4::Packet::vxlan().bytes()] {
        // Device, slot of queue 0, queues.
        for (place, expected) in [
            (Some((1, [0, 1])), REDIRECT),
            (Some((1, [0, 64])), REDIRECT),
            // No socket in that slot, no queue, another device, none, a slot beyond the map.
            (Some((1, [1, 1])), PASS),
            (Some((1, [0, 0])), PASS),
            (Some((2, [0, 1])), PASS),
            (None, PASS),
            (Some((1, [4, 1])), PASS),
            (Some((1, [u32::MAX, 1])), PASS),
        ] {
            let loaded = load(&ProgramKind::Pod, place);
            assert_eq!(loaded.run(packet), expected, "{place:?}");
        }
    }
}

#[test]
fn a_place_is_taken_once_and_given_back() {
    let loaded = load(&ProgramKind::Pod, Some((1, [0, 1])));
    let places = loaded.places.as_fd();
    let again = bpf::set_place(places, 1, [1, 1]).unwrap_err();
    assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
    assert_eq!(loaded.run(&[0; 14]), REDIRECT);
    bpf::clear(places, 1).unwrap();
    assert_eq!(loaded.run(&[0; 14]), PASS);
    bpf::set_place(places, 1, [0, 1]).unwrap();
    assert_eq!(loaded.run(&[0; 14]), REDIRECT);
}

#[test]
fn without_a_socket_frames_pass() {
    let packet = v4::Packet::vxlan().bytes();
    for kind in [ProgramKind::Pod, ProgramKind::Uplink(v4::pinhole())] {
        let loaded = load(&kind, Some((1, [0, 1])));
        assert_eq!(loaded.run(&packet), REDIRECT, "{kind:?}");
        bpf::clear(loaded.sockets.as_fd(), 0).unwrap();
        assert_eq!(loaded.run(&packet), PASS, "{kind:?}");
    }
}

#[test]
fn an_empty_pinhole_takes_nothing() {
    let off = Pinhole {
        vxlan_port: None,
        ipip: false,
        direct: vec![],
        ..v4::pinhole()
    };
    let off6 = Pinhole {
        vxlan_port: None,
        ipip: false,
        direct6: vec![],
        ..v6::pinhole()
    };
    // Tunnels without an address to take them at.
    let nowhere = Pinhole {
        vxlan_port: Some(4789),
        ipip: true,
        ..Pinhole::default()
    };
    for pinhole in [Pinhole::default(), off, off6, nowhere] {
        let machines = Machines::new(&pinhole);
        for protocol in [17, 4, 41] {
            let (mut to4, mut to6) = (v4::Packet::vxlan(), v6::Packet::vxlan());
            (to4.protocol, to6.next_header) = (protocol, protocol);
            let what = format!("{pinhole:?}, protocol {protocol}");
            machines.assert(&to4.bytes(), PASS, &what);
            machines.assert(&to6.bytes(), PASS, &what);
        }
    }
}

/// Whatever is configured, there is no unreachable instruction, and each part works alone.
#[test]
fn every_combination_of_parts_loads_and_takes_its_own() {
    let (all4, all6) = (v4::pinhole(), v6::pinhole());
    for parts in 0..64u8 {
        let has = |part: u8| parts & 1 << part != 0;
        let pinhole = Pinhole {
            node: all4.node.filter(|_| has(0)),
            node6: all6.node6.filter(|_| has(1)),
            vxlan_port: has(2).then_some(4789),
            ipip: has(3),
            direct: all4.direct.iter().copied().filter(|_| has(4)).collect(),
            direct6: all6.direct6.iter().copied().filter(|_| has(5)).collect(),
        };
        let machines = Machines::new(&pinhole);
        let expect = |taken: bool, packet: Vec<u8>, what: &str| {
            let verdict = if taken { REDIRECT } else { PASS };
            machines.assert(&packet, verdict, &format!("{what}, {pinhole:?}"));
        };
        for (protocol, part) in [(17, 2), (4, 3), (41, 3), (6, 63)] {
            let on = part < 6 && has(part);
            let (mut to4, mut to6) = (v4::Packet::vxlan(), v6::Packet::vxlan());
            (to4.protocol, to6.next_header) = (protocol, protocol);
            expect(has(0) && on, to4.bytes(), "to the IPv4 node");
            expect(has(1) && on, to6.bytes(), "to the IPv6 node");
            (to4.to, to6.to) = (v4::DIRECT, v6::address(v6::DIRECT));
            expect(has(4), to4.bytes(), "IPv4 direct");
            expect(has(5), to6.bytes(), "IPv6 direct");
        }
    }
}

#[test]
fn a_full_pinhole_counts_both_families() {
    let full = Pinhole {
        direct: vec!["10.0.0.0/16".parse().unwrap(); MAX_DIRECT / 2],
        direct6: vec!["2001:db8:1::/48".parse().unwrap(); MAX_DIRECT / 2],
        ..v6::pinhole()
    };
    assert_verdict(&full, &v6::Packet::vxlan().bytes(), REDIRECT, "vxlan");
    for six in [false, true] {
        let mut over = full.clone();
        if six {
            over.direct6.push("2001:db8:2::/48".parse().unwrap());
        } else {
            over.direct.push("10.1.0.0/16".parse().unwrap());
        }
        let error = ProgramKind::Uplink(over).source().unwrap_err().to_string();
        assert!(error.contains("65") && error.contains("64"), "{error}");
    }
}
