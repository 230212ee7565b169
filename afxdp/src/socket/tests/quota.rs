//! Chunks lent to busy sockets.

use super::*;

/// An adaptive socket with four chunks, and rings for 32.
fn adaptive(umem: &Arc<Umem>, pool: &mut Pool) -> (Socket, Kernel) {
    let config = SocketConfig {
        rx_frames: 4,
        rx_size: 32,
        fill_size: 32,
        adaptive: true,
        ..SocketConfig::default()
    };
    open(umem, pool, config, false)
}

/// The kernel receives `count` frames, and the socket takes them. Returns what it holds afterwards.
fn burst(socket: &mut Socket, kernel: &mut Kernel, pool: &mut Pool, count: usize) -> u32 {
    let mut out = Vec::with_capacity(64);
    for _ in 0..count {
        kernel.receive(60, false);
    }
    assert_eq!(socket.rx(pool, &mut out, 64), count);
    out.into_iter().for_each(|frame| pool.free(frame));
    let held = socket.filled();
    assert_eq!(kernel.fill.available(64), held);
    held
}

/// As after that many seconds.
fn pass(socket: &mut Socket, seconds: u64) {
    let ago = Instant::now().checked_sub(Duration::from_secs(seconds));
    socket.busy = Some(ago.unwrap());
}

#[test]
fn a_busy_socket_grows_to_its_ring_and_a_quiet_one_shrinks() {
    let umem = small();
    let mut pool = Pool::new(&umem);
    let (mut socket, mut kernel) = adaptive(&umem, &mut pool);
    let mut step = |socket: &mut Socket, count| burst(socket, &mut kernel, &mut pool, count);
    assert_eq!(step(&mut socket, 1), 4);
    // Half of 4, of 8, of 16.
    assert_eq!([2, 4, 8].map(|n| step(&mut socket, n)), [8, 16, 32]);
    assert_eq!(socket.holdings.borrowed, 28);
    // Nothing beyond the ring.
    assert_eq!(step(&mut socket, 32), 32);
    // A little traffic is a quiet time; a quarter of the chunks in use is not.
    pass(&mut socket, 1);
    assert_eq!(step(&mut socket, 8), 32);
    assert_eq!(step(&mut socket, 7), 32);
    pass(&mut socket, 1);
    assert_eq!(step(&mut socket, 7), 25);
    assert_eq!(step(&mut socket, 7), 18);
    assert_eq!(socket.holdings.borrowed, 25 - 4, "lent until received");
    assert_eq!([7, 3].map(|n| step(&mut socket, n)), [16, 16]);
    assert_eq!(socket.holdings.borrowed, 16 - 4);
    pass(&mut socket, 60);
    assert_eq!((step(&mut socket, 1), socket.target), (15, 4));
    // What it still has costs nothing to want again.
    assert_eq!((step(&mut socket, 2), socket.target), (13, 8));
    assert_eq!(socket.holdings.borrowed, 16 - 4);
    assert_conserved(&umem, pool, socket, vec![]);
    assert!(umem.borrow(0, LENDABLE), "all is paid back");
}

#[test]
fn sockets_share_what_is_lent() {
    let umem = small();
    let mut pool = Pool::new(&umem);
    let mut sockets: Vec<_> = (0..8).map(|_| adaptive(&umem, &mut pool)).collect();
    let mut held = Vec::new();
    for (socket, kernel) in &mut sockets {
        for _ in 0..6 {
            let all = socket.filled() as usize;
            burst(socket, kernel, &mut pool, all);
        }
        held.push(socket.filled());
    }
    let lent: usize = sockets.iter().map(|(s, _)| s.holdings.borrowed).sum();
    // Each leaves as much for others as it gets.
    assert_eq!(held, [32, 16, 16, 8, 8, 8, 4, 4]);
    assert_eq!(lent, LENDABLE);
    // The first is closed: what it had goes to others.
    drop(sockets.remove(0));
    let grown = sockets.iter_mut().map(|(socket, kernel)| {
        let all = socket.filled() as usize;
        burst(socket, kernel, &mut pool, all)
    });
    assert_eq!(grown.collect::<Vec<_>>(), [32, 16, 16, 8, 8, 8, 4]);
    drop((sockets, pool));
    assert_eq!(umem.available(), CHUNKS as usize);
    assert!(umem.borrow(0, LENDABLE));
}

#[test]
fn a_socket_that_is_not_adaptive_keeps_its_quota() {
    let umem = small();
    let mut pool = Pool::new(&umem);
    let config = SocketConfig {
        rx_frames: 4,
        rx_size: 32,
        fill_size: 32,
        ..SocketConfig::default()
    };
    let (mut socket, mut kernel) = open(&umem, &mut pool, config, false);
    for _ in 0..4 {
        assert_eq!(burst(&mut socket, &mut kernel, &mut pool, 4), 4);
    }
    assert_conserved(&umem, pool, socket, vec![]);
}

#[test]
fn an_adaptive_socket_without_free_chunks_goes_on() {
    let umem = small();
    let mut pool = Pool::new(&umem);
    let (mut socket, mut kernel) = adaptive(&umem, &mut pool);
    let mut all: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).collect();
    for _ in 0..4 {
        kernel.receive(60, false);
    }
    let mut out = Vec::with_capacity(8);
    assert_eq!(socket.rx(&mut pool, &mut out, 8), 4);
    assert_eq!(socket.filled(), 0);
    all.append(&mut out);
    all.into_iter().for_each(|frame| pool.free(frame));
    assert_eq!(burst(&mut socket, &mut kernel, &mut pool, 0), 8);
    assert_conserved(&umem, pool, socket, vec![]);
}
