//! Frames, chains and pools over plain memory, without privileges.

use std::sync::Arc;
use std::thread;

use crossbeam::queue::ArrayQueue;
use proptest::prelude::*;
use shunt_afxdp::{
    Csum, Device, Error, Frame, MAX_SEGMENTS, Offload, Pool, Socket, Umem, UmemConfig,
};

fn umem(chunk_size: u32, chunks: u32) -> Arc<Umem> {
    Umem::new(UmemConfig {
        chunk_size,
        chunks,
        headroom: 0,
    })
    .unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn what_crosses_threads_may() {
    fn shared<T: Send + Sync>() {}
    fn moved<T: Send>() {}
    shared::<Umem>();
    moved::<Frame>();
    moved::<Pool>();
    moved::<Socket>();
    moved::<Device>();
    assert_eq!(umem(2048, 1).available(), 1);
}

#[test]
fn a_frame_is_small() {
    assert!(size_of::<Frame>() <= 24);
    assert_eq!(size_of::<Option<Frame>>(), size_of::<Frame>());
}

#[test]
fn shapes_out_of_range_are_refused() {
    let good = UmemConfig {
        chunk_size: 2048,
        chunks: 8,
        headroom: 0,
    };
    for bad in [
        UmemConfig {
            chunk_size: 0,
            ..good
        },
        UmemConfig {
            chunk_size: 1024,
            ..good
        },
        UmemConfig {
            chunk_size: 8192,
            ..good
        },
        UmemConfig { chunks: 0, ..good },
        UmemConfig {
            chunks: u32::MAX,
            ..good
        },
        UmemConfig {
            headroom: 769,
            ..good
        },
        UmemConfig {
            headroom: u32::MAX,
            ..good
        },
    ] {
        assert!(matches!(Umem::new(bad), Err(Error::Config(_))), "{bad:?}");
    }
    let umem = Umem::new(UmemConfig {
        headroom: 768,
        ..good
    })
    .unwrap();
    assert_eq!(
        (umem.headroom(), umem.chunks(), umem.chunk_size()),
        (1024, 8, 2048)
    );
}

#[test]
fn allocated_frames_are_empty_with_headroom() {
    let umem = umem(2048, 8);
    let mut pool = Pool::new(&umem);
    let mut frame = pool.alloc().unwrap();
    assert!(frame.is_empty() && frame.data(&umem).is_empty());
    assert_eq!(
        (frame.headroom(), frame.tailroom(&umem), frame.segments()),
        (256, 1792, 1)
    );
    assert!(frame.push_tail(&umem, 1792));
    assert!(!frame.push_tail(&umem, 1));
    frame.data_mut(&umem).fill(9);
    assert_eq!(frame.copy_to_vec(&umem), vec![9; 1792]);
    pool.free(frame);
}

#[test]
fn long_frames_are_chained_and_copied() {
    for chunk_size in [2048, 4096] {
        let umem = umem(chunk_size, 256);
        let mut pool = Pool::new(&umem);
        for len in [1, 1792, 1793, 3840, 3841, 9014, 65535] {
            let bytes = pattern(len);
            let mut frame = pool.alloc_copy(&bytes).unwrap();
            let first = chunk_size as usize - 256;
            let extra = len.saturating_sub(first).div_ceil(chunk_size as usize);
            assert_eq!((frame.len(), frame.segments()), (len, 1 + extra));
            frame.set_offload(Offload {
                csum: (len > 60).then_some(Csum {
                    start: 34,
                    offset: 16,
                }),
            });
            let copy = pool.copy(&frame).unwrap();
            frame.for_each_segment_mut(&umem, |segment| segment.fill(0));
            assert_eq!(frame.copy_to_vec(&umem), vec![0; len]);
            assert_eq!(copy.copy_to_vec(&umem), bytes);
            assert_eq!(copy.offload(), frame.offload());
            let mut out = vec![0xff; len.min(5000)];
            assert_eq!(copy.copy_into(&umem, &mut out), len.min(5000));
            assert_eq!(out, bytes[..len.min(5000)]);
            let mut wide = vec![0xff; len + 3];
            assert_eq!(copy.copy_into(&umem, &mut wide), len);
            assert_eq!(wide[len..], [0xff; 3]);
            pool.free(frame);
            pool.free(copy);
        }
        drop(pool);
        assert_eq!(umem.available(), 256);
    }
}

#[test]
fn an_empty_pool_allocates_nothing_and_loses_nothing() {
    let umem = umem(2048, 4);
    let mut pool = Pool::new(&umem);
    assert!(pool.alloc_copy(&[1; 10_000]).is_none());
    let mut frame = pool.alloc_copy(&pattern(5000)).unwrap();
    assert_eq!(frame.segments(), 3);
    assert!(pool.copy(&frame).is_none());
    // The append that finds the pool empty midway leaves the frame as it was.
    assert!(!frame.append(&mut pool, &[2; 6000]));
    assert_eq!(frame.copy_to_vec(&umem), pattern(5000));
    assert!(frame.append(&mut pool, &[]));
    pool.free(frame);
    let all: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), 4);
    all.into_iter().for_each(|frame| pool.free(frame));
    drop(pool);
    assert_eq!(umem.available(), 4);
}

#[test]
fn chains_have_a_longest_length() {
    let umem = umem(2048, 300);
    let mut pool = Pool::new(&umem);
    let longest = 1792 + (MAX_SEGMENTS - 1) * 2048;
    assert!(pool.alloc_copy(&vec![0; longest + 1]).is_none());
    let frame = pool.alloc_copy(&vec![0; longest]).unwrap();
    assert_eq!(frame.segments(), MAX_SEGMENTS);
    pool.free(frame);
    drop(pool);
    assert_eq!(umem.available(), 300);
}

#[test]
fn head_moves_within_the_first_segment() {
    let umem = umem(2048, 8);
    let mut pool = Pool::new(&umem);
    let mut frame = pool.alloc_copy(&pattern(3000)).unwrap();
    assert!(!frame.push_head(257) && !frame.push_head(usize::MAX));
    assert!(frame.push_head(256));
    assert_eq!(
        (frame.headroom(), frame.len(), frame.first_len()),
        (0, 3256, 2048)
    );
    assert!(!frame.push_head(1) && frame.push_head(0));
    assert!(!frame.pull_head(2048) && !frame.pull_head(usize::MAX));
    assert!(frame.pull_head(2047));
    assert_eq!((frame.first_len(), frame.len()), (1, 1209));
    assert!(!frame.pull_head(1) && frame.pull_head(0));
    assert_eq!(frame.copy_to_vec(&umem), pattern(3000)[1791..]);
    pool.free(frame);
}

#[test]
fn the_offload_moves_with_the_head() {
    let umem = umem(2048, 8);
    let mut pool = Pool::new(&umem);
    let mut frame = pool.alloc_copy(&pattern(100)).unwrap();
    assert_eq!(frame.offload(), Offload::default());
    let at = |start| Offload {
        csum: Some(Csum { start, offset: 16 }),
    };
    frame.set_offload(at(34));
    assert!(frame.push_head(50));
    assert_eq!(frame.offload(), at(84));
    assert!(frame.pull_head(84));
    assert_eq!(frame.offload(), at(0));
    assert!(frame.pull_head(1));
    assert_eq!(frame.offload(), Offload::default());
    // The field must lie within the frame, also after truncating.
    assert_eq!(frame.len(), 65);
    frame.set_offload(at(48));
    assert_eq!(frame.offload(), Offload::default());
    frame.set_offload(at(47));
    assert_eq!(frame.offload(), at(47));
    frame.truncate(&mut pool, 64);
    assert_eq!(frame.offload(), Offload::default());
    frame.set_offload(Offload {
        csum: Some(Csum {
            start: u16::MAX,
            offset: u16::MAX,
        }),
    });
    assert_eq!(frame.offload(), Offload::default());
    pool.free(frame);
}

#[test]
fn a_frame_is_empty_through_another_umem() {
    let (ours, theirs) = (umem(2048, 8), umem(4096, 8));
    let mut pool = Pool::new(&ours);
    let mut foreign = Pool::new(&theirs);
    let mut frame = pool.alloc_copy(&pattern(3000)).unwrap();
    assert!(frame.data(&theirs).is_empty() && frame.data_mut(&theirs).is_empty());
    assert_eq!(
        (frame.iter(&theirs).count(), frame.tailroom(&theirs)),
        (0, 0)
    );
    assert!(frame.copy_to_vec(&theirs).is_empty());
    assert_eq!(frame.copy_into(&theirs, &mut [0; 10]), 0);
    frame.for_each_segment_mut(&theirs, |_| panic!("no segment here"));
    assert!(!frame.push_tail(&theirs, 1) && !frame.append(&mut foreign, &[1]));
    assert!(foreign.copy(&frame).is_none());
    frame.truncate(&mut foreign, 1);
    assert_eq!(frame.copy_to_vec(&ours), pattern(3000));
    pool.free(frame);
    let lost = pool.alloc().unwrap();
    foreign.free(lost);
    drop((pool, foreign));
    assert_eq!((ours.available(), theirs.available()), (7, 8));
}

#[test]
fn pools_balance_through_the_depot() {
    let umem = umem(2048, 1024);
    let mut receiver = Pool::new(&umem);
    let mut sender = Pool::new(&umem);
    // One only allocates, the other only frees: twenty times the UMEM passes through.
    for _ in 0..20 * 1024 {
        let frame = receiver.alloc().unwrap();
        sender.free(frame);
        assert!(sender.local() <= 4 * 64 && receiver.local() <= 64);
    }
    assert_eq!(umem.available() + sender.local() + receiver.local(), 1024);
    sender.flush();
    assert_eq!(sender.local(), 0);
    drop((sender, receiver));
    assert_eq!(umem.available(), 1024);
}

#[test]
fn threads_exchange_frames() {
    const FRAMES: usize = 30_000;
    let umem = umem(2048, 512);
    let link = ArrayQueue::new(64);
    let content = |n: usize| pattern(20 + n % 5000);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut pool = Pool::new(&umem);
            for n in 0..FRAMES {
                let mut frame = loop {
                    match pool.alloc_copy(&content(n)) {
                        Some(frame) => break frame,
                        None => thread::yield_now(),
                    }
                };
                while let Err(back) = link.push(frame) {
                    frame = back;
                    thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            let mut pool = Pool::new(&umem);
            for n in 0..FRAMES {
                let frame = loop {
                    match link.pop() {
                        Some(frame) => break frame,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(frame.copy_to_vec(&umem), content(n), "frame {n}");
                pool.free(frame);
            }
        });
    });
    assert_eq!(umem.available(), 512);
}

/// One step of a random walk over frames.
#[derive(Debug, Clone)]
enum Step {
    Alloc(usize),
    Free(usize),
    Push(usize, usize),
    Pull(usize, usize),
    Truncate(usize, usize),
    Append(usize, usize),
    Copy(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..8usize;
    prop_oneof![
        (0..9000usize).prop_map(Step::Alloc),
        which.clone().prop_map(Step::Free),
        (which.clone(), 0..400usize).prop_map(|(w, n)| Step::Push(w, n)),
        (which.clone(), 0..3000usize).prop_map(|(w, n)| Step::Pull(w, n)),
        (which.clone(), 0..9000usize).prop_map(|(w, n)| Step::Truncate(w, n)),
        (which.clone(), 0..5000usize).prop_map(|(w, n)| Step::Append(w, n)),
        which.prop_map(Step::Copy),
    ]
}

proptest! {
    /// Frames behave like vectors and no chunk is ever lost or held twice.
    #[test]
    fn frames_behave_like_vectors(
        big in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        const CHUNKS: u32 = 40;
        let umem = umem(if big { 4096 } else { 2048 }, CHUNKS);
        let mut pool = Pool::new(&umem);
        let mut frames: Vec<(Frame, Vec<u8>)> = Vec::new();
        for step in steps {
            match step {
                Step::Alloc(len) => {
                    if let Some(frame) = pool.alloc_copy(&pattern(len)) {
                        frames.push((frame, pattern(len)));
                    }
                }
                Step::Free(which) if which < frames.len() => {
                    let (frame, _) = frames.swap_remove(which);
                    pool.free(frame);
                }
                Step::Copy(which) if which < frames.len() => {
                    if let Some(copy) = pool.copy(&frames[which].0) {
                        let bytes = frames[which].1.clone();
                        frames.push((copy, bytes));
                    }
                }
                Step::Push(which, n) => {
                    if let Some((frame, model)) = frames.get_mut(which) {
                        let fits = n <= frame.headroom();
                        prop_assert_eq!(frame.push_head(n), fits);
                        if fits {
                            frame.data_mut(&umem)[..n].fill(0x5a);
                            model.splice(0..0, vec![0x5a; n]);
                        }
                    }
                }
                Step::Pull(which, n) => {
                    if let Some((frame, model)) = frames.get_mut(which) {
                        let fits = n == 0 || n < frame.first_len();
                        prop_assert_eq!(frame.pull_head(n), fits);
                        if fits {
                            model.drain(..n);
                        }
                    }
                }
                Step::Truncate(which, n) => {
                    if let Some((frame, model)) = frames.get_mut(which) {
                        frame.truncate(&mut pool, n);
                        model.truncate(n);
                    }
                }
                Step::Append(which, n) => {
                    if let Some((frame, model)) = frames.get_mut(which)
                        && frame.append(&mut pool, &pattern(n))
                    {
                        model.extend(pattern(n));
                    }
                }
                _ => {}
            }
            let mut held = 0;
            for (frame, model) in &frames {
                prop_assert_eq!(&frame.copy_to_vec(&umem), model);
                prop_assert_eq!(frame.len(), model.len());
                prop_assert_eq!(frame.iter(&umem).count(), frame.segments());
                held += frame.segments();
            }
            prop_assert_eq!(held + pool.local() + umem.available(), CHUNKS as usize);
        }
        for (frame, _) in frames {
            pool.free(frame);
        }
        drop(pool);
        prop_assert_eq!(umem.available(), CHUNKS as usize);
    }
}
