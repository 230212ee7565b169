//! Closing in the background, and opening again at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shunt_afxdp::{Device, DeviceConfig};

use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_retired_device_is_closed_soon_and_its_chunks_are_counted() {
    in_netns(|| {
        let pod = Pod::new(1, 1500, 1);
        let kernel = udp(pod.gateway(), 9);
        let (umem, mut pool) = umem(2048, 1024);
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        echo(&pod, &mut device, &mut pool, b"to the switch");
        device.complete(&mut pool);
        drop(pool);
        assert_eq!((umem.available(), umem.retiring()), (1024 - 256, 0));
        device.retire();
        // Frames pass at once, even though the program may still be attached.
        pod.udp(7001)
            .send_to(b"to the kernel", (pod.gateway(), 9))
            .unwrap();
        let mut buffer = [0; 100];
        assert_eq!(kernel.recv(&mut buffer).unwrap(), 13);
        // A chunk is in the depot or counted, at any time; both for a moment.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let retiring = umem.retiring();
            assert!(umem.available() + retiring >= 1024);
            if retiring == 0 {
                break;
            }
            assert!(Instant::now() < deadline);
        }
        assert!(umem.wait_retired(PATIENCE));
        assert_eq!(umem.available(), 1024);
        assert_eq!(program_id("veth1"), None);
    });
}

#[test]
fn closing_and_opening_at_once_works_each_time() {
    in_netns(|| {
        const ROUNDS: u32 = 200;
        let pod = Pod::new(1, 1500, 1);
        let (umem, mut pool) = umem(2048, 1024);
        let mut slowest = Duration::ZERO;
        for round in 0..ROUNDS {
            let start = Instant::now();
            let mut device = Device::open(&umem, config(&pod), &mut pool)
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
            slowest = slowest.max(start.elapsed());
            if round % 10 == 0 {
                echo(&pod, &mut device, &mut pool, &pattern(100));
            }
            if round % 2 == 0 {
                device.retire();
            } else {
                let _ = device.close(&mut pool);
            }
        }
        println!("slowest opening: {slowest:?}");
        assert!(umem.wait_retired(PATIENCE));
        drop(pool);
        assert_eq!(umem.available(), 1024);
    });
}

#[test]
fn many_devices_retire_under_load() {
    in_netns(|| {
        let pods: Vec<_> = (1..=8).map(|n| Pod::new(n, 1500, 1)).collect();
        let (umem, mut pool) = umem(2048, 4096);
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = pods.iter().take(3).map(|pod| flood(pod, &stop)).collect();
        for _ in 0..10 {
            let mut devices: Vec<_> = pods
                .iter()
                .map(|pod| {
                    let config = DeviceConfig {
                        rx_frames: 64,
                        adaptive: true,
                        ..config(pod)
                    };
                    Device::open(&umem, config, &mut pool).unwrap()
                })
                .collect();
            let mut frames = Vec::with_capacity(64);
            for _ in 0..200 {
                for device in &mut devices {
                    device.rx(&mut pool, &mut frames, 64);
                    frames
                        .iter_mut()
                        .for_each(|frame| turn_around(frame, &umem));
                    device.tx(&mut pool, &mut frames);
                    frames.drain(..).for_each(|frame| pool.free(frame));
                }
            }
            devices.into_iter().for_each(Device::retire);
        }
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().for_each(|s| s.join().unwrap());
        assert!(umem.wait_retired(PATIENCE));
        drop(pool);
        assert_eq!((umem.available(), umem.retiring()), (4096, 0));
    });
}

#[test]
fn a_device_that_is_gone_retires_too() {
    in_netns(|| {
        let (umem, mut pool) = umem(2048, 1024);
        for _ in 0..5 {
            let pod = Pod::new(1, 1500, 1);
            let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
            echo(&pod, &mut device, &mut pool, b"here");
            // Beside each other: the kernel takes the device away while its sockets are released.
            device.retire();
            ip("link delete veth1");
        }
        // The UMEM goes first.
        let pod = Pod::new(2, 1500, 1);
        let device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        assert!(umem.wait_retired(PATIENCE));
        drop((pool, umem));
        device.retire();
        let deadline = Instant::now() + PATIENCE;
        while program_id("veth2").is_some() {
            assert!(Instant::now() < deadline, "still attached");
        }
    });
}
