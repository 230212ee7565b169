//! What comes out of a pod's link, at an AF_XDP socket on its host end.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shunt_afxdp::{Device, DeviceConfig, ModeChoice, Pool, ProgramKind, Umem, UmemConfig};

use super::*;
use crate::sys::offload;
use crate::sys::testing::cut_into;

struct Port {
    umem: Arc<Umem>,
    pool: Pool,
    device: Device,
    received: VecDeque<Vec<u8>>,
}

impl Port {
    fn open(link: &Link, mode: ModeChoice) -> Self {
        let umem = Umem::new(UmemConfig {
            chunks: 4096,
            chunk_size: 2048,
            ..UmemConfig::default()
        })
        .unwrap();
        let mut pool = Pool::new(&umem);
        let mut config = DeviceConfig::new(&link.name, ProgramKind::Pod);
        config.mode = mode;
        let device = Device::open(&umem, config, &mut pool).unwrap();
        Self {
            umem,
            pool,
            device,
            received: VecDeque::new(),
        }
    }

    /// The next frame that `wanted` likes.
    fn expect(&mut self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut others = Vec::new();
        while Instant::now() < deadline {
            while let Some(bytes) = self.received.pop_front() {
                if wanted(&bytes) {
                    return bytes;
                }
                others.push(bytes);
            }
            let mut frames = Vec::with_capacity(64);
            self.device.rx(&mut self.pool, &mut frames, 64);
            for frame in frames {
                self.received.push_back(frame.copy_to_vec(&self.umem));
                self.pool.free(frame);
            }
        }
        panic!("{what} does not arrive, but {others:02x?}");
    }
}

fn is_ipv4_udp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17)
}

#[test]
fn the_pod_sends_at_once_and_what_af_xdp_does_not_keep_is_off() {
    for mode in [ModeChoice::Skb, ModeChoice::Native] {
        let world = World::new();
        let plan = world.plan(&["10.244.1.5/32"]);
        world.on_node(|netlink| {
            let link = build(netlink, &plan).unwrap().link;
            let mut port = Port::open(&link, mode);

            world.pod.run(|| {
                let socket = UdpSocket::bind("10.244.1.5:7000").unwrap();
                socket.send_to(b"first", "192.0.2.9:9").unwrap();
            });
            let frame = port.expect(&format!("the first datagram ({mode:?})"), is_ipv4_udp);
            assert_eq!(frame.get(..6), Some(&GATEWAY_MAC.0[..]), "to the gateway");
            assert_eq!(frame.get(6..12), Some(&POD_MAC.0[..]));

            // Large segments are cut by the pod's kernel.
            world.pod.run(|| {
                let socket = UdpSocket::bind("10.244.1.5:7001").unwrap();
                rustix::net::sockopt::set_socket_send_buffer_size(&socket, 1 << 20).unwrap();
                cut_into(&socket, 1000);
                socket.send_to(&[7; 20_000], "192.0.2.9:9").unwrap();
            });
            for _ in 0..20 {
                let is_segment = |frame: &[u8]| frame.get(34..36) == Some(&7001u16.to_be_bytes());
                let frame = port.expect("a segment", is_segment);
                assert_eq!(frame.len(), 14 + 20 + 8 + 1000, "{mode:?}");
            }

            let on = world.pod.run(|| offload::active("eth0").unwrap());
            for name in &on {
                let hidden = name.starts_with("tx-vlan")
                    || name == "tx-checksum-sctp"
                    || name.starts_with("tx-tcp")
                    || name == "tx-udp-segmentation";
                assert!(!hidden, "{name} is on ({mode:?})");
            }
            assert!(
                on.iter().any(|name| name == "tx-checksum-ip-generic"),
                "{on:?}"
            );
        });
    }
}
