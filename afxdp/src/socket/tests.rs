//! A socket against a kernel played by the test, over plain memory.

use std::fs::File;

use super::*;
use crate::UmemConfig;
use crate::ring::{self, Consumer, Producer};

/// The kernel's side of the four rings.
struct Kernel {
    rx: Producer<Descriptor>,
    tx: Consumer<Descriptor>,
    fill: Consumer<u64>,
    completion: Producer<u64>,
}

impl Kernel {
    /// Receives a packet: writes nothing, only says where it would be. Returns the descriptor.
    fn receive(&mut self, len: u32, more: bool) -> Descriptor {
        let addr = self.fill.pop().unwrap() + 256;
        self.fill.release();
        let descriptor = Descriptor {
            addr,
            len,
            options: u32::from(more),
        };
        self.deliver(descriptor);
        descriptor
    }

    fn deliver(&mut self, descriptor: Descriptor) {
        assert!(self.rx.push(descriptor));
        self.rx.submit();
    }

    fn complete(&mut self, addr: u64) {
        assert!(self.completion.push(addr));
        self.completion.submit();
    }
}

const CHUNKS: u32 = 64;

fn setup(multi_buffer: bool) -> (Arc<Umem>, Pool, Socket, Kernel) {
    let umem = Umem::new(UmemConfig {
        chunk_size: 2048,
        chunks: CHUNKS,
        headroom: 0,
    })
    .unwrap();
    let mut pool = Pool::new(&umem);
    let (rx_kernel, rx) = ring::pair(16).unwrap();
    let (tx, tx_kernel) = ring::pair(8).unwrap();
    let (fill, fill_kernel) = ring::pair(16).unwrap();
    let (completion_kernel, completion) = ring::pair(16).unwrap();
    // No socket: waking it fails with ENOTSOCK, which is not the death of a device.
    let fd = File::open("/dev/null").unwrap().into();
    let rings = xsk::Rings {
        rx,
        tx,
        fill,
        completion,
        fd,
    };
    let config = SocketConfig {
        rx_frames: 16,
        tx_size: 8,
        multi_buffer,
        ..SocketConfig::default()
    };
    let mut socket = Socket::over(&umem, rings, config);
    socket.refill(&mut pool);
    let kernel = Kernel {
        rx: rx_kernel,
        tx: tx_kernel,
        fill: fill_kernel,
        completion: completion_kernel,
    };
    (umem, pool, socket, kernel)
}

/// All chunks come back, whatever has happened before.
fn assert_conserved(umem: &Umem, mut pool: Pool, socket: Socket, frames: Vec<Frame>) {
    for frame in frames {
        pool.free(frame);
    }
    let _ = socket.close(&mut pool);
    drop(pool);
    assert_eq!(umem.available(), CHUNKS as usize);
}

#[test]
fn received_chunks_are_replaced_up_to_the_quota() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    assert_eq!(kernel.fill.available(16), 16);
    kernel.receive(60, false);
    kernel.receive(61, false);
    let mut out = Vec::with_capacity(8);
    assert_eq!(socket.rx(&mut pool, &mut out, 8), 2);
    assert_eq!(out.iter().map(Frame::len).collect::<Vec<_>>(), [60, 61]);
    assert_eq!(out[0].headroom(), 256);
    assert_eq!(kernel.fill.available(16), 16);
    assert_conserved(&umem, pool, socket, out);
}

#[test]
fn rx_stops_at_the_capacity_and_at_max() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    for _ in 0..8 {
        kernel.receive(60, false);
    }
    let mut out = Vec::with_capacity(5);
    assert_eq!(socket.rx(&mut pool, &mut out, 2), 2);
    assert_eq!(socket.rx(&mut pool, &mut out, 100), 3);
    assert_eq!(socket.rx(&mut pool, &mut out, 100), 0);
    assert_eq!((out.len(), out.capacity()), (5, 5));
    assert_conserved(&umem, pool, socket, out);
}

#[test]
fn chains_are_assembled_across_calls() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let mut out = Vec::with_capacity(8);
    kernel.receive(1792, true);
    kernel.receive(1792, true);
    assert_eq!(socket.rx(&mut pool, &mut out, 8), 0);
    kernel.receive(100, false);
    kernel.receive(64, false);
    assert_eq!(socket.rx(&mut pool, &mut out, 8), 2);
    assert_eq!((out[0].segments(), out[0].len()), (3, 2 * 1792 + 100));
    assert_eq!((out[1].segments(), out[1].len()), (1, 64));
    let lengths: Vec<usize> = out[0].iter(&umem).map(<[u8]>::len).collect();
    assert_eq!(lengths, [1792, 1792, 100]);
    // An unfinished frame is not lost either.
    kernel.receive(1792, true);
    assert_eq!(socket.rx(&mut pool, &mut out, 8), 0);
    assert_conserved(&umem, pool, socket, out);
}

#[test]
fn bad_descriptors_are_counted_and_ignored() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let mut out = Vec::with_capacity(16);
    let good = kernel.receive(60, false);
    // The same chunk twice, a chunk never given, one outside, one far outside.
    kernel.deliver(good);
    let ours = pool.alloc().unwrap();
    let never = u64::from(ours.parts(&umem).next().unwrap().chunk) * 2048;
    kernel.deliver(Descriptor {
        addr: never,
        len: 60,
        options: 0,
    });
    kernel.deliver(Descriptor {
        addr: u64::from(CHUNKS) * 2048,
        len: 60,
        options: 0,
    });
    kernel.deliver(Descriptor {
        addr: u64::MAX,
        len: u32::MAX,
        options: !1,
    });
    assert_eq!(socket.rx(&mut pool, &mut out, 16), 1);
    assert_eq!(socket.bad_descriptors, 4);
    // Beyond the end of its chunk, and empty: the chunks come back.
    kernel.receive(2048 - 256 + 1, false);
    kernel.receive(0, false);
    kernel.receive(2048 - 256, false);
    assert_eq!(socket.rx(&mut pool, &mut out, 16), 1);
    assert_eq!(socket.bad_descriptors, 6);
    assert_eq!(out.iter().map(Frame::len).collect::<Vec<_>>(), [60, 1792]);
    out.push(ours);
    assert_conserved(&umem, pool, socket, out);
}

#[test]
fn a_bad_descriptor_spoils_its_whole_frame_only() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let mut out = Vec::with_capacity(16);
    kernel.receive(1000, true);
    kernel.receive(0, true);
    kernel.receive(1000, true);
    kernel.receive(1000, false);
    kernel.receive(77, false);
    assert_eq!(socket.rx(&mut pool, &mut out, 16), 1);
    assert_eq!((out[0].len(), socket.bad_descriptors), (77, 1));
    assert_conserved(&umem, pool, socket, out);
}

#[test]
fn tx_takes_whole_frames_and_leaves_the_rest_in_order() {
    let (umem, mut pool, mut socket, mut kernel) = setup(true);
    let mut frames: Vec<Frame> = [100, 5000, 200, 5000, 300]
        .iter()
        .map(|&n| pool.alloc_copy(&vec![n as u8; n]).unwrap())
        .collect();
    // 1 + 3 + 1 + 3 descriptors fill the ring of eight.
    assert_eq!(socket.tx(&mut pool, &mut frames), 4);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].len(), 300);
    assert!(socket.needs_kick() || !socket.rings.tx.needs_wakeup());
    let mut sent = Vec::new();
    while let Some(descriptor) = kernel.tx.pop() {
        sent.push(descriptor);
    }
    kernel.tx.release();
    let shape: Vec<(u32, u32)> = sent.iter().map(|d| (d.len, d.options)).collect();
    let big = [(1792, 1), (2048, 1), (1160, 0)];
    let expected = [&[(100, 0)], &big[..], &[(200, 0)], &big[..]].concat();
    assert_eq!(shape, expected);
    for descriptor in &sent {
        kernel.complete(descriptor.addr);
    }
    assert_eq!(socket.complete(&mut pool), 8);
    assert_eq!(socket.tx(&mut pool, &mut frames), 1);
    assert_conserved(&umem, pool, socket, frames);
}

#[test]
fn completions_that_make_no_sense_are_counted() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let mut frames = vec![pool.alloc_copy(&[1; 60]).unwrap()];
    assert_eq!(socket.tx(&mut pool, &mut frames), 1);
    let addr = kernel.tx.pop().unwrap().addr;
    for addr in [addr, addr, u64::MAX, u64::from(CHUNKS) << 11] {
        kernel.complete(addr);
    }
    assert_eq!(socket.complete(&mut pool), 1);
    assert_eq!(socket.bad_descriptors, 3);
    assert_conserved(&umem, pool, socket, frames);
}

#[test]
fn what_can_never_be_sent_is_rejected() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let other = Umem::new(UmemConfig {
        chunk_size: 2048,
        chunks: 4,
        headroom: 0,
    })
    .unwrap();
    let mut frames = vec![
        pool.alloc().unwrap(),
        pool.alloc_copy(&[0; 13]).unwrap(),
        pool.alloc_copy(&[0; 3000]).unwrap(),
        Pool::new(&other).alloc_copy(&[0; 60]).unwrap(),
        pool.alloc_copy(&[0; 14]).unwrap(),
    ];
    assert_eq!(socket.tx(&mut pool, &mut frames), 1);
    assert!(frames.is_empty());
    assert_eq!(socket.tx_rejected, 4);
    assert_eq!(kernel.tx.pop().unwrap().len, 14);
    assert_eq!(kernel.tx.pop(), None);
    assert_conserved(&umem, pool, socket, frames);
}

#[test]
fn a_pool_of_another_umem_is_not_touched() {
    let (umem, pool, mut socket, mut kernel) = setup(false);
    let other = Umem::new(UmemConfig {
        chunk_size: 2048,
        chunks: 32,
        headroom: 0,
    })
    .unwrap();
    let mut wrong = Pool::new(&other);
    kernel.receive(60, false);
    let mut out = Vec::with_capacity(4);
    assert_eq!(socket.rx(&mut wrong, &mut out, 4), 0);
    assert_eq!(socket.complete(&mut wrong), 0);
    let mut frames = vec![wrong.alloc_copy(&[0; 60]).unwrap()];
    assert_eq!(socket.tx(&mut wrong, &mut frames), 0);
    assert_eq!(frames.len(), 1);
    wrong.free(frames.remove(0));
    // Closing with the wrong pool returns the chunks to the right depot.
    assert_eq!(socket.close(&mut wrong).reclaimed, 16);
    drop((pool, wrong));
    assert_eq!(umem.available(), CHUNKS as usize);
    assert_eq!(other.available(), 32);
}

#[test]
fn a_small_pool_is_no_trouble() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let mut hoard = Vec::new();
    while let Some(frame) = pool.alloc() {
        hoard.push(frame);
    }
    let mut out = Vec::with_capacity(64);
    while kernel.fill.available(1) > 0 {
        kernel.receive(60, false);
    }
    assert_eq!(socket.rx(&mut pool, &mut out, 64), 16);
    assert_eq!(kernel.fill.available(1), 0);
    // As soon as chunks are free again, receiving goes on.
    pool.free(hoard.pop().unwrap());
    assert_eq!(socket.rx(&mut pool, &mut out, 64), 0);
    assert_eq!(kernel.fill.available(16), 1);
    out.append(&mut hoard);
    assert_conserved(&umem, pool, socket, out);
}

#[test]
fn dropping_returns_everything_to_the_depot() {
    let (umem, mut pool, mut socket, mut kernel) = setup(true);
    kernel.receive(1000, true);
    let mut out = Vec::with_capacity(4);
    socket.rx(&mut pool, &mut out, 4);
    let mut frames = vec![pool.alloc_copy(&[1; 6000]).unwrap()];
    socket.tx(&mut pool, &mut frames);
    drop((socket, pool));
    assert_eq!(umem.available(), CHUNKS as usize);
}

#[test]
fn sizes_are_checked() {
    let good = SocketConfig::default();
    assert!(check(&good).is_ok());
    for bad in [
        SocketConfig { rx_size: 0, ..good },
        SocketConfig {
            tx_size: 1000,
            ..good
        },
        SocketConfig {
            completion_size: 1 << 21,
            ..good
        },
        SocketConfig {
            rx_frames: 0,
            ..good
        },
        SocketConfig {
            rx_frames: 1025,
            ..good
        },
    ] {
        assert!(matches!(check(&bad), Err(Error::Config(_))), "{bad:?}");
    }
}
