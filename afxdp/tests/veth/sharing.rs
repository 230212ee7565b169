//! One program for many devices, and chunks lent to busy ones.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shunt_afxdp::{Device, DeviceConfig, Pinhole, ProgramKind, Socket, SocketConfig};

use crate::support::*;

#[test]
fn many_devices_have_one_program() {
    in_netns(|| {
        const PODS: u8 = 12;
        let (umem, mut pool) = umem(2048, 4096);
        let mut pods: Vec<_> = (1..=PODS)
            .map(|n| {
                let pod = Pod::new(n, 1500, u32::from(n % 3) + 1);
                let config = DeviceConfig {
                    rx_frames: 32,
                    ..config(&pod)
                };
                let device = Device::open(&umem, config, &mut pool).unwrap();
                (pod, device)
            })
            .collect();
        let id = |n: usize| program_id(&format!("veth{n}"));
        let shared = id(1).unwrap();
        assert!((1..=usize::from(PODS)).all(|n| id(n) == Some(shared)));
        for (pod, device) in &mut pods {
            echo(pod, device, &mut pool, &pattern(200));
        }
        // The others are not concerned when one goes, nor by who takes its place.
        let (pod, device) = pods.remove(4);
        let _ = device.close(&mut pool);
        assert_eq!(id(5), None);
        for (pod, device) in &mut pods {
            echo(pod, device, &mut pool, &pattern(300));
        }
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        assert_eq!(id(5), Some(shared));
        echo(&pod, &mut device, &mut pool, &pattern(400));
        pods.push((pod, device));
        for (pod, device) in &mut pods {
            echo(pod, device, &mut pool, &pattern(500));
        }
        // An uplink's program is its own.
        let nic = Pod::new(100, 1500, 1);
        let uplink = DeviceConfig {
            program: ProgramKind::Uplink(Pinhole::default()),
            ..config(&nic)
        };
        let uplink = Device::open(&umem, uplink, &mut pool).unwrap();
        assert_ne!(id(100).unwrap(), shared);
        let _ = uplink.close(&mut pool);
        for (_, device) in pods {
            let _ = device.close(&mut pool);
        }
        drop(pool);
        assert_eq!(umem.available(), 4096);
    });
}

#[test]
fn an_index_can_be_used_again() {
    in_netns(|| {
        let (umem, mut pool) = umem(2048, 2048);
        let mut others = Vec::new();
        for round in 0..3 {
            let pod = Pod::with_index(1, 700);
            let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
            assert_eq!(device.ifindex(), 700);
            echo(&pod, &mut device, &mut pool, &pattern(100));
            ip("link delete veth1");
            match round {
                // Closed in the background, then before anything else, then not at all yet.
                0 => device.retire(),
                1 => drop(device.close(&mut pool)),
                _ => others.push(device),
            }
        }
        let pod = Pod::with_index(1, 700);
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        echo(&pod, &mut device, &mut pool, &pattern(100));
        // The late end of the old one takes nothing from the new one.
        for old in others {
            assert_eq!(old.ifindex(), 700);
            let _ = old.close(&mut pool);
        }
        echo(&pod, &mut device, &mut pool, &pattern(200));
        assert_closed(device, pool, 2048);
    });
}

#[test]
fn equal_indices_in_two_namespaces_do_not_mix() {
    in_netns(|| {
        let (umem, mut pool) = umem(2048, 2048);
        umem.register().unwrap();
        let pod = Pod::with_index(1, 700);
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        let shared = umem.clone();
        let elsewhere = thread::spawn(move || {
            in_netns(move || {
                let umem = shared;
                let mut pool = shunt_afxdp::Pool::new(&umem);
                let pod = Pod::with_index(2, 700);
                let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
                assert_eq!(device.ifindex(), 700);
                for _ in 0..20 {
                    echo(&pod, &mut device, &mut pool, b"elsewhere");
                }
                let _ = device.close(&mut pool);
            });
        });
        for _ in 0..20 {
            echo(&pod, &mut device, &mut pool, b"here");
        }
        elsewhere.join().unwrap();
        echo(&pod, &mut device, &mut pool, b"still here");
        assert_closed(device, pool, 2048);
    });
}

fn ethtool(arguments: &str) {
    let status = Command::new("ethtool")
        .args(arguments.split(' '))
        .status()
        .expect("running ethtool");
    assert!(status.success(), "ethtool {arguments}");
}

#[test]
fn a_queue_without_a_socket_passes() {
    in_netns(|| {
        let pod = Pod::new(1, 1500, 2);
        let (umem, mut pool) = umem(2048, 1024);
        pod.run(|| ethtool("-L eth0 rx 2 tx 1"));
        ethtool("-L veth1 rx 1 tx 2");
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        assert_eq!(device.queues(), 1);
        // A second queue comes into use, and the pod sends to it too.
        ethtool("-L veth1 rx 2 tx 2");
        pod.run(|| ethtool("-L eth0 rx 2 tx 2"));
        let kernel = udp(pod.gateway(), 9);
        kernel
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let senders: Vec<_> = (0..64).map(|n| pod.udp(7000 + n)).collect();
        for sender in &senders {
            sender.send_to(b"hello", (pod.gateway(), 9)).unwrap();
        }
        let mut passed = 0;
        while kernel.recv(&mut [0; 100]).is_ok() {
            passed += 1;
        }
        assert!((1..64).contains(&passed), "{passed} passed");
        let ours = receive(&mut device, &mut pool, senders.len() - passed);
        ours.into_iter().for_each(|frame| pool.free(frame));
        assert_closed(device, pool, 1024);
    });
}

#[test]
fn a_busy_device_gets_more_chunks_and_no_more_than_are_lent() {
    in_netns(|| {
        const CHUNKS: usize = 2048;
        let pods = [1, 2, 3].map(|n| Pod::new(n, 1500, 1));
        let (umem, mut pool) = umem(2048, CHUNKS as u32);
        let mut devices = [0, 1, 2].map(|n| {
            let config = DeviceConfig {
                rx_frames: 16,
                adaptive: n < 2,
                ..config(&pods[n])
            };
            Device::open(&umem, config, &mut pool).unwrap()
        });
        let held = |pool: &shunt_afxdp::Pool| CHUNKS - umem.available() - pool.local();
        assert_eq!(held(&pool), 3 * 16);
        let stop = Arc::new(AtomicBool::new(false));
        let senders = pods.each_ref().map(|pod| flood(pod, &stop));
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut frames = Vec::with_capacity(64);
        while held(&pool) < 3 * 16 + umem.lendable() / 2 {
            for device in &mut devices {
                device.rx(&mut pool, &mut frames, 64);
                frames.drain(..).for_each(|frame| pool.free(frame));
            }
            assert!(held(&pool) <= 3 * 16 + umem.lendable());
            assert!(Instant::now() < deadline, "{} held", held(&pool));
            // Lets the pods fill the rings.
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().for_each(|s| s.join().unwrap());
        let [a, b, fixed] = devices;
        assert_eq!(fixed.close(&mut pool).reclaimed, 16);
        let _ = (a.close(&mut pool), b.close(&mut pool));
        drop(pool);
        assert_eq!(umem.available(), CHUNKS);
    });
}

#[test]
fn an_adaptive_quota_never_exceeds_the_rings() {
    in_netns(|| {
        let pod = Pod::new(1, 1500, 1);
        let (umem, mut pool) = umem(2048, 2048);
        let config = SocketConfig {
            rx_frames: 64,
            rx_size: 128,
            fill_size: 256,
            adaptive: true,
            ..SocketConfig::default()
        };
        // No program: nothing comes in, and nothing is borrowed.
        let mut socket = Socket::open(&umem, &pod.host_end(), config, &mut pool).unwrap();
        assert_eq!(socket.rx(&mut pool, &mut Vec::with_capacity(64), 64), 0);
        assert_eq!(socket.close(&mut pool).reclaimed, 64);
        let config = DeviceConfig {
            rx_frames: 64,
            rx_size: 128,
            fill_size: 256,
            adaptive: true,
            ..DeviceConfig::new(pod.host_end(), ProgramKind::Pod)
        };
        let mut device = Device::open(&umem, config, &mut pool).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let sender = flood(&pod, &stop);
        let mut frames = Vec::with_capacity(64);
        for _ in 0..300 {
            device.rx(&mut pool, &mut frames, 64);
            frames.drain(..).for_each(|frame| pool.free(frame));
            thread::sleep(Duration::from_millis(1));
        }
        let held = 2048 - umem.available() - pool.local();
        assert_eq!(held, 128);
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        assert_closed(device, pool, 2048);
    });
}
