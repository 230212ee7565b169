//! A port on a TAP device, one system call per frame: for pods that have no veth.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use rustix::io::{Errno, IoSlice, read, write, writev};
use shunt_afxdp::{Frame, Pool};
use shunt_api::MacAddr;

use super::Sent;
use crate::sys::{Tap, TapError, in_netns};

/// Room for the largest frame of a TAP: an IP packet of 65,521 bytes (`MAX_MTU` less the Ethernet
/// header, drivers/net/tun.c), Ethernet header and VLAN tag; one byte more tells a longer one.
const FRAME_MAX: usize = 65_521 + 14 + 4;

/// Most segments of a frame that is sent; the frames of `shunt-afxdp` have no more.
const SEGMENTS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Errors {
    oversize: u64,
    reads: u64,
    writes: u64,
}

/// A TAP as a port. Its frames carry complete checksums both ways; one with a pending checksum
/// ([`Frame::offload`]) is rejected.
pub struct TapPort {
    tap: Tap,
    scratch: Box<[u8]>,
    /// Bytes in `scratch` of a frame that was read when the pool was empty; 0 for none.
    held: usize,
    dead: bool,
    errors: Errors,
}

impl TapPort {
    /// Makes the TAP `device` in the network namespace `netns` (the calling thread's when None)
    /// with an MTU of `mtu` bytes (the kernel's default when None), and sets it up. It vanishes
    /// with the port. Until then the port keeps the namespace alive, also without a name and
    /// processes: close it when the pod goes.
    ///
    /// # Errors
    /// See [`TapError`].
    pub fn open(device: &str, netns: Option<&Path>, mtu: Option<u32>) -> Result<Self, TapError> {
        Self::open_with_mac(device, netns, mtu, None)
    }

    /// As [`open`](Self::open), with this Ethernet address.
    ///
    /// # Errors
    /// See [`TapError`].
    pub fn open_with_mac(
        device: &str,
        netns: Option<&Path>,
        mtu: Option<u32>,
        mac: Option<MacAddr>,
    ) -> Result<Self, TapError> {
        let tap = match netns {
            None => Tap::create(device, mtu, mac)?,
            Some(path) => {
                in_netns(path, || Tap::create(device, mtu, mac)).map_err(|source| {
                    TapError::Netns {
                        device: device.to_owned(),
                        netns: path.to_owned(),
                        source,
                    }
                })??
            }
        };
        let scratch = vec![0; FRAME_MAX + 1].into_boxed_slice();
        Ok(Self {
            tap,
            scratch,
            held: 0,
            dead: false,
            errors: Errors::default(),
        })
    }

    /// Appends up to `max` received frames to `out`; returns how many. Never blocks. A frame that
    /// finds the pool empty is kept for the next call.
    pub fn rx(&mut self, pool: &mut Pool, out: &mut Vec<Frame>, max: usize) -> usize {
        let mut received = 0;
        while received < max {
            if self.held == 0 && !self.read_one() {
                break;
            }
            let Some(frame) = pool.alloc_copy(&self.scratch[..self.held]) else {
                break;
            };
            out.push(frame);
            self.held = 0;
            received += 1;
        }
        received
    }

    /// Reads the next frame into `scratch`. False when there is none.
    fn read_one(&mut self) -> bool {
        loop {
            match read(&self.tap, &mut self.scratch[..]) {
                Ok(0) => return false,
                Ok(length) if length > FRAME_MAX => self.errors.oversize += 1,
                Ok(length) => {
                    self.held = length;
                    return true;
                }
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.errors.reads += 1;
                    self.dead |= is_gone(error);
                    return false;
                }
            }
        }
    }

    /// Sends from the front of `frames` and gives them back to `pool`; what the device has no room
    /// for now stays there. Frames that it refuses, because it is down or gone or because they are
    /// no Ethernet frames, are given back and counted as rejected.
    pub fn tx(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>) -> Sent {
        let mut sent = Sent::default();
        let mut taken = 0;
        for frame in frames.iter() {
            match self.write_one(pool, frame) {
                Ok(()) => {
                    sent.packets += 1;
                    sent.bytes += frame.len();
                }
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    sent.rejected += 1;
                    self.errors.writes += 1;
                    self.dead |= is_gone(error);
                }
            }
            taken += 1;
        }
        for frame in frames.drain(..taken) {
            pool.free(frame);
        }
        sent
    }

    fn write_one(&self, pool: &Pool, frame: &Frame) -> Result<(), Errno> {
        if frame.offload().csum.is_some() {
            return Err(Errno::INVAL);
        }
        loop {
            let written = if frame.segments() == 1 {
                write(&self.tap, frame.data(pool.umem()))
            } else {
                let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
                let mut segments = 0;
                frame.for_each_segment(pool.umem(), |segment| {
                    if let Some(slice) = slices.get_mut(segments) {
                        *slice = IoSlice::new(segment);
                    }
                    segments += 1;
                });
                match slices.get(..segments) {
                    Some(slices) => writev(&self.tap, slices),
                    None => Err(Errno::MSGSIZE),
                }
            };
            match written {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        }
    }

    /// True once the device was found deleted.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The device's MTU in bytes, as made.
    pub fn mtu(&self) -> u32 {
        self.tap.mtu()
    }

    /// The device's MAC address, as made: that of the pod behind it.
    pub fn mac(&self) -> Option<MacAddr> {
        self.tap.mac()
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        self.tap.device()
    }

    /// What went wrong so far, by name: frames from the device that were longer than any can be
    /// and were dropped; reads that failed; writes that failed, whose frames were rejected.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let Errors {
            oversize,
            reads,
            writes,
        } = self.errors;
        vec![
            ("tap_rx_oversize", oversize),
            ("tap_rx_errors", reads),
            ("tap_tx_errors", writes),
        ]
    }
}

/// True for the answer of a TAP descriptor whose device is gone (`tun_get` finds none,
/// drivers/net/tun.c). A device that is only down answers EIO.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::BADFD | Errno::NODEV)
}

impl AsFd for TapPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

impl AsRawFd for TapPort {
    fn as_raw_fd(&self) -> RawFd {
        self.tap.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use shunt_afxdp::{Csum, Offload, Umem, UmemConfig};

    use super::*;
    use crate::sys::testing::TestNetns;

    const CHUNKS: u32 = 64;

    fn umem(chunks: u32) -> (Arc<Umem>, Pool) {
        let config = UmemConfig {
            chunks,
            chunk_size: 2048,
            ..UmemConfig::default()
        };
        let umem = Umem::new(config).unwrap();
        let pool = Pool::new(&umem);
        (umem, pool)
    }

    fn free_chunks(umem: &Umem, pool: &Pool) -> usize {
        umem.available() + pool.local()
    }

    /// An Ethernet frame to everybody, of the EtherType for experiments (IEEE 802, 0x88b5), whose
    /// payload of `payload` bytes counts up from `seed`.
    fn frame_bytes(seed: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 9, seed, 0x88, 0xb5]);
        bytes.extend((0..payload).map(|n| (n as u8).wrapping_mul(7).wrapping_add(seed)));
        bytes
    }

    /// Two TAPs that the kernel's bridge joins.
    fn bridged(netns: &TestNetns, mtu: Option<u32>) -> (TapPort, TapPort) {
        netns.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0");
        let [a, b] = ["t0", "t1"].map(|device| {
            let port = TapPort::open(device, Some(&netns.path()), mtu).unwrap();
            netns.ip(&format!("link set {device} master br0"));
            port
        });
        netns.ip("link set br0 up");
        (a, b)
    }

    fn wait_readable(port: &TapPort) {
        let timeout = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(port, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "nothing arrives at {}", port.device());
    }

    /// Receives `count` experimental frames within a few seconds; others are skipped.
    fn receive(port: &mut TapPort, pool: &mut Pool, count: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        while found.len() < count {
            assert!(
                Instant::now() < deadline,
                "{} of {count} frames arrived",
                found.len()
            );
            let mut frames = Vec::new();
            if port.rx(pool, &mut frames, 8) == 0 {
                wait_readable(port);
            }
            for frame in frames {
                let bytes = frame.copy_to_vec(pool.umem());
                pool.free(frame);
                if bytes[12..14] == [0x88, 0xb5] {
                    found.push(bytes);
                }
            }
        }
        found
    }

    #[test]
    fn frames_pass_unchanged_and_return_to_the_pool() {
        let netns = TestNetns::new();
        let (umem, mut pool) = umem(CHUNKS);
        let (mut a, mut b) = bridged(&netns, None);
        assert_eq!((a.device(), a.mtu(), a.is_dead()), ("t0", 1500, false));
        let sent: Vec<_> = (0..20)
            .map(|n| frame_bytes(n, 46 + usize::from(n) * 76))
            .collect();
        let mut frames: Vec<_> = sent.iter().map(|f| pool.alloc_copy(f).unwrap()).collect();
        let outcome = a.tx(&mut pool, &mut frames);
        let bytes = sent.iter().map(Vec::len).sum();
        assert_eq!(
            outcome,
            Sent {
                packets: 20,
                bytes,
                rejected: 0
            }
        );
        assert!(frames.is_empty());
        assert_eq!(receive(&mut b, &mut pool, 20), sent);
        assert_eq!(b.rx(&mut pool, &mut Vec::new(), 8), 0, "never blocks");
        assert_eq!(free_chunks(&umem, &pool), CHUNKS as usize);
    }

    #[test]
    fn no_more_than_asked_for_is_received() {
        let netns = TestNetns::new();
        let (_umem, mut pool) = umem(CHUNKS);
        let (mut a, mut b) = bridged(&netns, None);
        let mut frames: Vec<_> = (0..5)
            .map(|n| pool.alloc_copy(&frame_bytes(n, 46)).unwrap())
            .collect();
        assert_eq!(a.tx(&mut pool, &mut frames).packets, 5);
        let mut sources = Vec::new();
        for _ in 0..5 {
            wait_readable(&b);
            let mut out = Vec::new();
            assert_eq!(b.rx(&mut pool, &mut out, 1), 1);
            assert_eq!(out.len(), 1);
            for frame in out {
                sources.push(frame.copy_to_vec(pool.umem())[11]);
                pool.free(frame);
            }
        }
        assert_eq!(sources, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn jumbo_frames_are_chains() {
        let netns = TestNetns::new();
        let (umem, mut pool) = umem(CHUNKS);
        let (mut a, mut b) = bridged(&netns, Some(9000));
        assert_eq!(a.mtu(), 9000);
        let sent = frame_bytes(1, 9000);
        let mut frames = vec![pool.alloc_copy(&sent).unwrap()];
        assert!(frames[0].segments() > 4);
        assert_eq!(a.tx(&mut pool, &mut frames).bytes, 9014);
        wait_readable(&b);
        assert_eq!(b.rx(&mut pool, &mut frames, 8), 1);
        assert!(frames[0].segments() > 4);
        assert_eq!(frames[0].copy_to_vec(&umem), sent);
        frames.drain(..).for_each(|frame| pool.free(frame));
        assert_eq!(free_chunks(&umem, &pool), CHUNKS as usize);
    }

    #[test]
    fn the_nodes_own_stack_answers() {
        let netns = TestNetns::new();
        let (_umem, mut pool) = umem(CHUNKS);
        let mut port = TapPort::open("t0", Some(&netns.path()), None).unwrap();
        netns.ip("addr add 10.5.0.1/24 dev t0");
        let mac = port.mac().unwrap();
        // RFC 826: who has 10.5.0.1, tell 10.5.0.2 at 02:00:00:00:00:02.
        let mut request = vec![0xff; 6];
        request.extend([
            2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2,
        ]);
        request.extend([10, 5, 0, 2, 0, 0, 0, 0, 0, 0, 10, 5, 0, 1]);
        let mut frames = vec![pool.alloc_copy(&request).unwrap()];
        assert_eq!(port.tx(&mut pool, &mut frames).packets, 1);
        let deadline = Instant::now() + Duration::from_secs(5);
        let reply = loop {
            assert!(Instant::now() < deadline, "no ARP reply");
            wait_readable(&port);
            if port.rx(&mut pool, &mut frames, 1) == 0 {
                continue;
            }
            let bytes = frames[0].copy_to_vec(pool.umem());
            frames.drain(..).for_each(|frame| pool.free(frame));
            if bytes[12..14] == [8, 6] && bytes[20..22] == [0, 2] {
                break bytes;
            }
        };
        assert_eq!(reply[..6], [2, 0, 0, 0, 0, 2]);
        assert_eq!(reply[22..28], mac.0);
        assert_eq!(reply[28..32], [10, 5, 0, 1]);
    }

    #[test]
    fn a_frame_waits_for_an_empty_pool() {
        let netns = TestNetns::new();
        let (umem, mut pool) = umem(2);
        let (mut a, mut b) = bridged(&netns, None);
        for seed in 1..=2 {
            let mut frames = vec![pool.alloc_copy(&frame_bytes(seed, 60)).unwrap()];
            assert_eq!(a.tx(&mut pool, &mut frames).packets, 1);
        }
        wait_readable(&b);
        let taken = [pool.alloc().unwrap(), pool.alloc().unwrap()];
        let mut out = Vec::new();
        assert_eq!(b.rx(&mut pool, &mut out, 8), 0);
        taken.into_iter().for_each(|frame| pool.free(frame));
        assert_eq!(
            receive(&mut b, &mut pool, 2),
            [frame_bytes(1, 60), frame_bytes(2, 60)]
        );
        assert_eq!(free_chunks(&umem, &pool), 2);
    }

    #[test]
    fn what_is_no_frame_is_rejected_and_freed() {
        let netns = TestNetns::new();
        let (umem, mut pool) = umem(CHUNKS);
        let (mut a, mut b) = bridged(&netns, None);
        let mut partial = pool.alloc_copy(&frame_bytes(1, 60)).unwrap();
        partial.set_offload(Offload {
            csum: Some(Csum {
                start: 34,
                offset: 6,
            }),
        });
        let mut frames = vec![
            pool.alloc().unwrap(),
            pool.alloc_copy(&[0xff; 13]).unwrap(),
            pool.alloc_copy(&frame_bytes(7, 60)).unwrap(),
            partial,
        ];
        let outcome = a.tx(&mut pool, &mut frames);
        assert_eq!(
            outcome,
            Sent {
                packets: 1,
                bytes: 74,
                rejected: 3
            }
        );
        assert!(frames.is_empty() && !a.is_dead());
        assert_eq!(receive(&mut b, &mut pool, 1), [frame_bytes(7, 60)]);
        assert_eq!(a.counters()[2], ("tap_tx_errors", 3));
        assert_eq!(free_chunks(&umem, &pool), CHUNKS as usize);
    }

    #[test]
    fn a_device_that_is_down_rejects_and_comes_back() {
        let netns = TestNetns::new();
        let (umem, mut pool) = umem(CHUNKS);
        let (mut a, mut b) = bridged(&netns, None);
        let send = |a: &mut TapPort, pool: &mut Pool| {
            let mut frames = vec![pool.alloc_copy(&frame_bytes(3, 60)).unwrap()];
            a.tx(pool, &mut frames)
        };
        netns.ip("link set t0 down");
        assert_eq!(
            send(&mut a, &mut pool),
            Sent {
                packets: 0,
                bytes: 0,
                rejected: 1
            }
        );
        assert_eq!(a.rx(&mut pool, &mut Vec::new(), 8), 0);
        assert!(!a.is_dead());
        netns.ip("link set t0 up");
        assert_eq!(send(&mut a, &mut pool).packets, 1);
        assert_eq!(receive(&mut b, &mut pool, 1), [frame_bytes(3, 60)]);
        assert_eq!(free_chunks(&umem, &pool), CHUNKS as usize);
    }

    #[test]
    fn a_deleted_device_is_dead_in_both_directions() {
        let netns = TestNetns::new();
        let (umem, mut pool) = umem(CHUNKS);
        let (mut a, mut b) = bridged(&netns, None);
        netns.ip("link del t0");
        netns.ip("link del t1");
        assert_eq!(a.rx(&mut pool, &mut Vec::new(), 8), 0);
        assert!(a.is_dead());
        let mut frames = vec![pool.alloc_copy(&frame_bytes(3, 60)).unwrap()];
        assert_eq!(b.tx(&mut pool, &mut frames).rejected, 1);
        assert!(b.is_dead());
        assert_eq!(free_chunks(&umem, &pool), CHUNKS as usize);
    }

    #[test]
    fn the_port_keeps_its_namespace() {
        let netns = TestNetns::new();
        let (_umem, mut pool) = umem(CHUNKS);
        let mut port = TapPort::open("t0", Some(&netns.path()), None).unwrap();
        drop(netns);
        std::thread::sleep(Duration::from_millis(100));
        let mut frames = vec![pool.alloc_copy(&frame_bytes(3, 60)).unwrap()];
        assert_eq!(port.tx(&mut pool, &mut frames).packets, 1);
        assert!(!port.is_dead());
    }

    #[test]
    fn a_missing_namespace_is_named() {
        let error = TapPort::open("t0", Some(Path::new("/run/netns/no-such")), None)
            .err()
            .unwrap();
        assert!(matches!(error, TapError::Netns { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("t0") && text.contains("/run/netns/no-such"),
            "{text}"
        );
    }
}
