//! A socket against a kernel played by the test, over plain memory.

use std::fs::File;

use super::*;
use crate::UmemConfig;
use crate::ring::{self, Consumer, Producer};

mod quota;

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
        let descriptor = self.take_fill(len, more);
        self.fill.release();
        self.deliver(descriptor);
        descriptor
    }

    /// Like `receive`, leaving its index of the fill ring as it is.
    fn receive_unseen(&mut self, len: u32) {
        let descriptor = self.take_fill(len, false);
        self.deliver(descriptor);
    }

    fn take_fill(&mut self, len: u32, more: bool) -> Descriptor {
        Descriptor {
            addr: self.fill.pop().unwrap() + 256,
            len,
            options: u32::from(more),
        }
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

const CHUNKS: u32 = 256;
/// What sockets may borrow.
const LENDABLE: usize = CHUNKS as usize / 4;

fn setup(multi_buffer: bool) -> (Arc<Umem>, Pool, Socket, Kernel) {
    setup_sized(multi_buffer, 8)
}

fn setup_sized(multi_buffer: bool, tx_size: u32) -> (Arc<Umem>, Pool, Socket, Kernel) {
    let umem = small();
    let mut pool = Pool::new(&umem);
    let config = SocketConfig {
        rx_frames: 16,
        rx_size: 16,
        fill_size: 16,
        tx_size,
        ..SocketConfig::default()
    };
    let (socket, kernel) = open(&umem, &mut pool, config, multi_buffer);
    (umem, pool, socket, kernel)
}

fn small() -> Arc<Umem> {
    Umem::new(UmemConfig {
        chunk_size: 2048,
        chunks: CHUNKS,
        headroom: 0,
    })
    .unwrap()
}

fn open(
    umem: &Arc<Umem>,
    pool: &mut Pool,
    config: SocketConfig,
    multi_buffer: bool,
) -> (Socket, Kernel) {
    let (rx_kernel, rx) = ring::pair(config.rx_size).unwrap();
    let (tx, tx_kernel) = ring::pair(config.tx_size).unwrap();
    let (fill, fill_kernel) = ring::pair(config.fill_size).unwrap();
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
    let mut socket = Socket::over(umem, rings, config, multi_buffer);
    socket.refill(pool);
    let kernel = Kernel {
        rx: rx_kernel,
        tx: tx_kernel,
        fill: fill_kernel,
        completion: completion_kernel,
    };
    (socket, kernel)
}

fn sent(packets: usize, bytes: usize, rejected: usize) -> Sent {
    Sent {
        packets,
        bytes,
        rejected,
    }
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
    assert_eq!(socket.tx(&mut pool, &mut frames), sent(4, 10_300, 0));
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].len(), 300);
    assert!(socket.needs_kick() || !socket.rings.tx.needs_wakeup());
    let mut taken = Vec::new();
    while let Some(descriptor) = kernel.tx.pop() {
        taken.push(descriptor);
    }
    kernel.tx.release();
    let shape: Vec<(u32, u32)> = taken.iter().map(|d| (d.len, d.options)).collect();
    let big = [(1792, 1), (2048, 1), (1160, 0)];
    let expected = [&[(100, 0)], &big[..], &[(200, 0)], &big[..]].concat();
    assert_eq!(shape, expected);
    for descriptor in &taken {
        kernel.complete(descriptor.addr);
    }
    assert_eq!(socket.complete(&mut pool), 8);
    assert_eq!(socket.tx(&mut pool, &mut frames), sent(1, 300, 0));
    assert_conserved(&umem, pool, socket, frames);
}

#[test]
fn completions_that_make_no_sense_are_counted() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let mut frames = vec![pool.alloc_copy(&[1; 60]).unwrap()];
    assert_eq!(socket.tx(&mut pool, &mut frames), sent(1, 60, 0));
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
    assert_eq!(socket.tx(&mut pool, &mut frames), sent(1, 14, 4));
    assert!(frames.is_empty());
    assert_eq!(socket.tx_rejected, 4);
    assert_eq!(kernel.tx.pop().unwrap().len, 14);
    assert_eq!(kernel.tx.pop(), None);
    assert_conserved(&umem, pool, socket, frames);
}

#[test]
fn the_first_segment_holds_the_ethernet_header() {
    let (umem, mut pool, mut socket, mut kernel) = setup(true);
    let cut_to = |first: usize, pool: &mut Pool| {
        let mut frame = pool.alloc_copy(&[0; 3000]).unwrap();
        assert!(frame.pull_head(1792 - first));
        frame
    };
    let mut frames = vec![cut_to(13, &mut pool), cut_to(14, &mut pool)];
    assert_eq!(
        socket.tx(&mut pool, &mut frames),
        sent(1, 14 + 3000 - 1792, 1)
    );
    assert_eq!(kernel.tx.pop().unwrap().len, 14);
    assert_conserved(&umem, pool, socket, frames);
}

#[test]
fn segments_are_bounded_by_the_kernel_and_by_the_ring() {
    let (_, _, socket, _) = setup(true);
    assert_eq!(socket.max_segments, 8);
    let (_, _, socket, _) = setup_sized(true, 128);
    assert_eq!(socket.max_segments, MAX_TX_SEGMENTS);
    let (_, _, socket, _) = setup(false);
    assert_eq!(socket.max_segments, 1);
}

#[test]
fn the_two_directions_are_not_mixed() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let mut frames = vec![pool.alloc_copy(&[1; 60]).unwrap()];
    socket.tx(&mut pool, &mut frames);
    let outgoing = kernel.tx.pop().unwrap();
    let incoming = kernel.fill.pop().unwrap() + 256;
    // A chunk in the fill ring was not sent, and one being sent was not received into.
    kernel.complete(incoming);
    assert_eq!(socket.complete(&mut pool), 0);
    kernel.deliver(outgoing);
    let mut out = Vec::with_capacity(4);
    assert_eq!(socket.rx(&mut pool, &mut out, 4), 0);
    assert_eq!(socket.bad_descriptors, 2);
    // Both are still there for what they were given for.
    kernel.complete(outgoing.addr);
    assert_eq!(socket.complete(&mut pool), 1);
    kernel.deliver(Descriptor {
        addr: incoming,
        len: 60,
        options: 0,
    });
    assert_eq!(socket.rx(&mut pool, &mut out, 4), 1);
    assert_eq!(socket.bad_descriptors, 2);
    assert_conserved(&umem, pool, socket, out);
}

#[test]
fn a_broken_ring_is_the_end_of_the_socket() {
    const WILD: u32 = 1 << 20;
    for ring in 0..4 {
        let (umem, mut pool, mut socket, mut kernel) = setup(false);
        match ring {
            0 => kernel_index(&socket.rings.rx),
            1 => socket.rings.tx.set_consumer(WILD),
            2 => socket.rings.fill.set_consumer(WILD),
            _ => kernel_index(&socket.rings.completion),
        }
        let mut out = Vec::with_capacity(4);
        if ring == 2 {
            // The fill ring is looked at when there is something to fill in.
            kernel.receive_unseen(60);
        }
        assert!(!socket.is_dead());
        socket.rx(&mut pool, &mut out, 4);
        let mut frames = vec![pool.alloc_copy(&[1; 60]).unwrap()];
        for _ in 0..9 {
            frames.push(pool.alloc_copy(&[1; 60]).unwrap());
        }
        socket.tx(&mut pool, &mut frames);
        assert!(socket.is_dead(), "ring {ring}");
        assert!(!socket.needs_kick() && !socket.probe());
        let waiting = frames.len();
        assert_eq!(socket.tx(&mut pool, &mut frames), Sent::default());
        assert_eq!(frames.len(), waiting);
        frames.append(&mut out);
        assert_conserved(&umem, pool, socket, frames);
    }
    fn kernel_index<T: ring::Entry>(ring: &Consumer<T>) {
        ring.set_producer(WILD);
    }
}

/// Sends `count` frames, then wakes a kernel that takes `step` descriptors a call and drops the
/// last of them. Returns the number of calls, what `kick` said and the descriptors left.
fn wake(count: usize, step: usize) -> (usize, bool, u32) {
    let (umem, mut pool, mut socket, mut kernel) = setup_sized(false, 128);
    let mut frames: Vec<Frame> = (0..count)
        .map(|_| pool.alloc_copy(&[1; 60]).unwrap())
        .collect();
    assert_eq!(socket.tx(&mut pool, &mut frames).packets, count);
    socket.rings.tx.want_wakeup();
    let (mut calls, mut tries) = (0, SLOW_WAKES);
    let done = socket.kick_within(&mut tries, |_| {
        calls += 1;
        for _ in 0..step {
            kernel.tx.pop();
        }
        kernel.tx.release();
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    });
    let left = socket.rings.tx.pending();
    assert_eq!(socket.needs_kick(), left > 0);
    assert_conserved(&umem, pool, socket, frames);
    (calls, done, left)
}

#[test]
fn a_receiver_that_drops_costs_few_system_calls() {
    // One dropped frame a call: three calls, the rest waits for the next turn.
    assert_eq!(wake(40, 1), (3, false, 37));
    // The kernel's own bound of 32 descriptors a call does not count.
    assert_eq!(wake(100, 32), (4, true, 0));
    assert_eq!(wake(3, 1), (3, true, 0));
    // No progress is not tried again.
    assert_eq!(wake(40, 0), (1, false, 40));
    assert_eq!(wake(0, 1), (0, true, 0));
}

#[test]
fn closing_waits_for_frames_the_kernel_still_reads() {
    let (umem, mut pool, mut socket, mut kernel) = setup(false);
    let mut frames = vec![pool.alloc_copy(&[1; 60]).unwrap()];
    socket.tx(&mut pool, &mut frames);
    let addr = kernel.tx.pop().unwrap().addr;
    kernel.tx.release();
    let device = thread::spawn(move || {
        // Longer than frames that were not taken get.
        thread::sleep(Duration::from_millis(15));
        kernel.complete(addr);
    });
    assert_eq!(socket.close(&mut pool).reclaimed, 16);
    device.join().unwrap();
    drop(pool);
    assert_eq!(umem.available(), CHUNKS as usize);
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
    assert_eq!(socket.tx(&mut wrong, &mut frames), Sent::default());
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
    assert!(good.check().is_ok());
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
        assert!(matches!(bad.check(), Err(Error::Config(_))), "{bad:?}");
    }
}
