//! Devices over real veth pairs, in network namespaces made for each test. Needs root.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shunt_afxdp::{
    Device, DeviceConfig, Error, MAX_TX_SEGMENTS, ModeChoice, Pinhole, Pool, ProgramKind, Socket,
    SocketConfig, Statistics, XdpMode,
};
use support::*;

fn config(pod: &Pod) -> DeviceConfig {
    DeviceConfig {
        rx_frames: 256,
        ..DeviceConfig::new(pod.host_end(), ProgramKind::Pod)
    }
}

/// Sends a datagram from the pod through the switch and back.
fn echo(pod: &Pod, device: &mut Device, pool: &mut Pool, payload: &[u8]) -> usize {
    let umem = pool.umem().clone();
    let socket = pod.udp(7000);
    socket.send_to(payload, (pod.gateway(), 9)).unwrap();
    let mut frames = receive(device, pool, 1);
    let (pod_mac, host_mac) = pod.macs();
    let bytes = frames[0].copy_to_vec(&umem);
    assert_eq!(bytes[..6], host_mac);
    assert_eq!(bytes[6..12], pod_mac);
    assert_eq!(bytes[PAYLOAD..], *payload);
    let segments = frames[0].segments();
    turn_around(&mut frames[0], &umem);
    transmit(device, pool, frames);
    let mut buffer = vec![0; 70_000];
    let (len, from) = socket
        .recv_from(&mut buffer)
        .expect("the datagram comes back");
    assert_eq!(from, (pod.gateway(), 9).into());
    assert!(buffer[..len] == *payload, "{len} bytes, damaged");
    segments
}

/// Everything is back, nothing odd was counted.
fn assert_closed(device: Device, mut pool: Pool, chunks: usize) {
    let umem = pool.umem().clone();
    let statistics = device.statistics().unwrap();
    assert_eq!(statistics.bad_descriptors, 0);
    assert_eq!(statistics.tx_invalid_descs, 0);
    let _ = device.close(&mut pool);
    drop(pool);
    assert_eq!(umem.available(), chunks);
}

#[test]
fn frames_go_in_and_out() {
    for (choice, mode) in [
        (ModeChoice::Auto, XdpMode::Native),
        (ModeChoice::Skb, XdpMode::Skb),
    ] {
        for chunk_size in [2048, 4096] {
            in_netns(move || {
                let pod = Pod::new(1, 1500, 1);
                let (umem, mut pool) = umem(chunk_size, 1024);
                let config = DeviceConfig {
                    mode: choice,
                    ..config(&pod)
                };
                let mut device = Device::open(&umem, config, &mut pool).unwrap();
                assert_eq!((device.mode(), device.fallback_reason()), (mode, None));
                assert_eq!((device.queues(), device.fds().count()), (1, 1));
                assert_eq!(device.name(), "veth1");
                for len in [18, 100, 1472] {
                    assert_eq!(echo(&pod, &mut device, &mut pool, &pattern(len)), 1);
                }
                // Each wake-up finds the TX ring empty in the end; nothing else is counted.
                let statistics = device.statistics().unwrap();
                let Statistics {
                    tx_ring_empty_descs,
                    ..
                } = statistics;
                assert_eq!(
                    statistics,
                    Statistics {
                        tx_ring_empty_descs,
                        ..Statistics::default()
                    }
                );
                assert!(device.probe());
                assert_closed(device, pool, 1024);
            });
        }
    }
}

#[test]
fn many_frames_stay_in_order() {
    in_netns(|| {
        const FRAMES: u32 = 20_000;
        let pod = Pod::new(1, 1500, 1);
        let (umem, mut pool) = umem(2048, 4096);
        let config = DeviceConfig {
            tx_size: 64,
            ..config(&pod)
        };
        let mut device = Device::open(&umem, config, &mut pool).unwrap();
        let socket = pod.udp(7000);
        socket.send_to(&[0; 18], (pod.gateway(), 9)).unwrap();
        let mut first = receive(&mut device, &mut pool, 1);
        turn_around(&mut first[0], &umem);
        let template = first[0].copy_to_vec(&umem);
        pool.free(first.remove(0));
        let receiver = thread::spawn(move || {
            let mut buffer = [0; 100];
            let mut last = None;
            let mut count = 0;
            while last != Some(FRAMES - 1) {
                let Ok((18, _)) = socket.recv_from(&mut buffer) else {
                    break;
                };
                let number = u32::from_be_bytes(buffer[..4].try_into().unwrap());
                assert!(
                    last.is_none_or(|last| last < number),
                    "{last:?} before {number}"
                );
                last = Some(number);
                count += 1;
            }
            count
        });
        let mut batch = Vec::with_capacity(256);
        let mut sent = 0;
        let mut number = 0;
        while sent < FRAMES as usize {
            while batch.len() < 100 && number < FRAMES {
                let Some(mut frame) = pool.alloc_copy(&template) else {
                    break;
                };
                frame.data_mut(&umem)[PAYLOAD..PAYLOAD + 4].copy_from_slice(&number.to_be_bytes());
                batch.push(frame);
                number += 1;
            }
            sent += device.tx(&mut pool, &mut batch);
            // The pod's socket buffer is the bound: give the reader a turn.
            thread::sleep(Duration::from_micros(100));
        }
        let received = receiver.join().unwrap();
        assert!(received > FRAMES / 2, "{received} of {FRAMES}");
        assert_closed(device, pool, 4096);
    });
}

#[test]
fn jumbo_frames_pass_intact() {
    // Chunk size, MTU, and the segments of a received frame of full size.
    for (chunk_size, mtu, segments) in [(2048, 9000, 6), (4096, 9000, 3), (4096, 60_000, 16)] {
        for mode in [ModeChoice::Native, ModeChoice::Skb] {
            in_netns(move || {
                let pod = Pod::new(1, mtu, 1);
                let (umem, mut pool) = umem(chunk_size, 1024);
                let config = DeviceConfig {
                    multi_buffer: true,
                    mode,
                    ..config(&pod)
                };
                let mut device = Device::open(&umem, config, &mut pool).unwrap();
                assert_eq!(echo(&pod, &mut device, &mut pool, &pattern(100)), 1);
                let full = pattern(mtu as usize - 28);
                for _ in 0..3 {
                    assert_eq!(echo(&pod, &mut device, &mut pool, &full), segments);
                }
                assert_closed(device, pool, 1024);
            });
        }
    }
}

#[test]
fn frames_go_out_in_up_to_the_most_segments() {
    in_netns(|| {
        let pod = Pod::new(1, 60_000, 1);
        let (umem, mut pool) = umem(2048, 1024);
        let config = DeviceConfig {
            multi_buffer: true,
            ..config(&pod)
        };
        let mut device = Device::open(&umem, config, &mut pool).unwrap();
        let socket = pod.udp(7000);
        for segments in [2, 14, 15, 16, 17, MAX_TX_SEGMENTS, MAX_TX_SEGMENTS + 1] {
            // Received with headroom in each chunk; a copy fills all but the first.
            let payload = pattern(1792 + (segments - 1) * 2048 - PAYLOAD);
            socket.send_to(&payload, (pod.gateway(), 9)).unwrap();
            let received = receive(&mut device, &mut pool, 1).remove(0);
            let mut frame = pool.copy(&received).unwrap();
            pool.free(received);
            assert_eq!(frame.segments(), segments);
            turn_around(&mut frame, &umem);
            transmit(&mut device, &mut pool, vec![frame]);
            let rejected = device.statistics().unwrap().tx_rejected;
            if segments > MAX_TX_SEGMENTS {
                assert_eq!(rejected, 1);
                continue;
            }
            let mut buffer = vec![0; 70_000];
            let len = socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("{segments} segments: {error}, {:?}", device.statistics())
            });
            assert!(
                buffer[..len] == payload,
                "{segments} segments: {len} bytes, damaged"
            );
            assert_eq!(rejected, 0);
        }
        assert_closed(device, pool, 1024);
    });
}

#[test]
fn two_devices_share_the_memory() {
    in_netns(|| {
        let (left, right) = (Pod::new(1, 1500, 1), Pod::new(2, 1500, 1));
        let (umem, mut pool) = umem(2048, 2048);
        let mut a = Device::open(&umem, config(&left), &mut pool).unwrap();
        let mut b = Device::open(&umem, config(&right), &mut pool).unwrap();
        let (from, to) = (left.udp(7000), right.udp(7000));
        for n in 0..50 {
            let payload = pattern(20 + n * 28);
            from.send_to(&payload, (right.address(), 7000)).unwrap();
            let mut frames = receive(&mut a, &mut pool, 1);
            let place = frames[0].data(&umem).as_ptr();
            let data = frames[0].data_mut(&umem);
            let (right_mac, gateway_mac) = right.macs();
            data[..6].copy_from_slice(&right_mac);
            data[6..12].copy_from_slice(&gateway_mac);
            data[UDP + 6..UDP + 8].fill(0);
            // Moved from one device to the other, never copied.
            assert_eq!(frames[0].data(&umem).as_ptr(), place);
            transmit(&mut b, &mut pool, frames);
            let mut buffer = [0; 2000];
            let (len, sender) = to.recv_from(&mut buffer).unwrap();
            assert_eq!(
                (&buffer[..len], sender),
                (&payload[..], (left.address(), 7000).into())
            );
        }
        let closed = a.close(&mut pool);
        assert!(closed.reclaimed >= 255, "{closed:?}");
        assert_closed(b, pool, 2048);
    });
}

#[test]
fn every_active_queue_has_a_socket() {
    in_netns(|| {
        let pod = Pod::new(1, 1500, 4);
        let (umem, mut pool) = umem(2048, 2048);
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        assert_eq!((device.queues(), device.fds().count()), (4, 4));
        assert_eq!(umem.available() + pool.local(), 2048 - 4 * 256);
        // Many flows, so that the pod's kernel uses several queues.
        let sockets: Vec<_> = (0..32).map(|n| pod.udp(7000 + n)).collect();
        for socket in &sockets {
            socket.send_to(&pattern(30), (pod.gateway(), 9)).unwrap();
        }
        let frames = receive(&mut device, &mut pool, 32);
        assert_eq!(frames.len(), 32);
        for (queue, mut frame) in frames.into_iter().enumerate() {
            turn_around(&mut frame, &umem);
            device.tx_on(queue, &mut pool, &mut vec![frame]);
        }
        for socket in &sockets {
            assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 30);
        }
        assert_closed(device, pool, 2048);
    });
}

#[test]
fn a_program_already_there_is_refused_by_name() {
    in_netns(|| {
        let pod = Pod::new(1, 1500, 1);
        let (umem, mut pool) = umem(2048, 2048);
        for mode in [ModeChoice::Native, ModeChoice::Skb] {
            let config = DeviceConfig {
                mode,
                ..config(&pod)
            };
            let first = Device::open(&umem, config.clone(), &mut pool).unwrap();
            let before = umem.available() + pool.local();
            let error = Device::open(&umem, config.clone(), &mut pool).unwrap_err();
            assert!(
                matches!(&error, Error::ForeignProgram { device, name, id }
                    if device == "veth1" && name == "shunt_pod" && *id != 0),
                "{error:?}"
            );
            assert!(error.to_string().contains("shunt_pod"));
            assert_eq!(umem.available() + pool.local(), before);
            let _ = first.close(&mut pool);
            let again = Device::open(&umem, config, &mut pool).unwrap();
            let _ = again.close(&mut pool);
        }
        drop(pool);
        assert_eq!(umem.available(), 2048);
    });
}

#[test]
fn a_queue_is_bound_once() {
    in_netns(|| {
        let pod = Pod::new(1, 1500, 1);
        let (umem, mut pool) = umem(2048, 1024);
        let config = SocketConfig {
            rx_frames: 64,
            ..SocketConfig::default()
        };
        let first = Socket::open(&umem, &pod.host_end(), config, &mut pool).unwrap();
        let error = Socket::open(&umem, &pod.host_end(), config, &mut pool).unwrap_err();
        assert!(matches!(&error, Error::QueueBusy { device, queue: 0 } if device == "veth1"));
        let beyond = SocketConfig { queue: 1, ..config };
        let error = Socket::open(&umem, &pod.host_end(), beyond, &mut pool).unwrap_err();
        assert!(error.to_string().contains("queue 1 of `veth1`"), "{error}");
        assert_eq!(first.close(&mut pool).reclaimed, 64);
        // Free at once, although the kernel cleans up later.
        let second = Socket::open(&umem, &pod.host_end(), config, &mut pool).unwrap();
        drop((second, pool));
        assert_eq!(umem.available(), 1024);
    });
}

#[test]
fn one_anchor_per_namespace() {
    in_netns(|| {
        let (first, _pool) = umem(2048, 16);
        first.register().unwrap();
        first.register().unwrap();
        let (second, _pool) = umem(2048, 16);
        assert!(matches!(second.register(), Err(Error::AnchorBusy)));
        drop((first, _pool));
    });
}

#[test]
fn refusals_name_the_thing() {
    in_netns(|| {
        let pod = Pod::new(1, 1500, 1);
        let (umem, mut pool) = umem(2048, 100);
        let none = DeviceConfig::new("nothing0", ProgramKind::Pod);
        let error = Device::open(&umem, none, &mut pool).unwrap_err();
        assert!(matches!(&error, Error::NoSuchDevice { device } if device == "nothing0"));

        let error = Device::open(&umem, config(&pod), &mut pool).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::PoolTooSmall {
                    needed: 256,
                    available: 100,
                    ..
                }
            ),
            "{error:?}"
        );

        let small = DeviceConfig {
            rx_frames: 50,
            ..config(&pod)
        };
        ip("link set veth1 down");
        let error = Device::open(&umem, small.clone(), &mut pool).unwrap_err();
        assert!(
            matches!(&error, Error::DeviceDown { device } if device == "veth1"),
            "{error:?}"
        );
        assert!(error.to_string().contains("ip link set veth1 up"));
        ip("link set veth1 up");

        let mut device = Device::open(&umem, small, &mut pool).unwrap();
        let pinhole = Pinhole {
            node: pod.gateway(),
            vxlan_port: None,
            ipip: false,
            direct: vec![],
        };
        assert!(matches!(
            device.set_pinhole(pinhole),
            Err(Error::NotAnUplink { .. })
        ));
        assert_closed(device, pool, 100);
    });
}

#[test]
fn a_missing_capability_is_named() {
    in_netns(|| {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let pod = Pod::new(1, 1500, 1);
        let (umem, mut pool) = umem(2048, 512);
        let all = capabilities(None).unwrap();
        let open = |without: CapabilitySet, pool: &mut Pool| {
            let mut fewer = all;
            fewer.effective -= without;
            set_capabilities(None, fewer).unwrap();
            let result = Device::open(&umem, config(&pod), pool);
            set_capabilities(None, all).unwrap();
            result.unwrap_err()
        };
        // CAP_SYS_ADMIN stands for all of CAP_BPF.
        let bpf = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
        let error = open(bpf, &mut pool).to_string();
        assert!(error.contains("CAP_BPF"), "{error}");
        let error = open(CapabilitySet::NET_RAW, &mut pool).to_string();
        assert!(error.contains("CAP_NET_RAW"), "{error}");
        let network = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
        let error = open(network, &mut pool).to_string();
        assert!(error.contains("CAP_NET_ADMIN"), "{error}");
        let device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        assert_closed(device, pool, 512);
    });
}

#[test]
fn auto_mode_falls_back_and_says_why() {
    in_netns(|| {
        // Without multi-buffer veth refuses native programs at this MTU; SKB mode takes them.
        let pod = Pod::new(1, 9000, 1);
        let (umem, mut pool) = umem(4096, 1024);
        let native = DeviceConfig {
            mode: ModeChoice::Native,
            ..config(&pod)
        };
        let error = Device::open(&umem, native, &mut pool).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Attach {
                    mode: XdpMode::Native,
                    ..
                }
            ),
            "{error:?}"
        );
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        assert_eq!(device.mode(), XdpMode::Skb);
        assert!(
            device
                .fallback_reason()
                .is_some_and(|reason| !reason.is_empty())
        );
        echo(&pod, &mut device, &mut pool, &pattern(1000));
        assert_closed(device, pool, 1024);
    });
}

#[test]
fn after_closing_the_kernel_has_the_traffic() {
    for dropped in [false, true] {
        in_netns(move || {
            let pod = Pod::new(1, 1500, 1);
            let kernel = udp(pod.gateway(), 9);
            let (umem, mut pool) = umem(2048, 1024);
            let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
            echo(&pod, &mut device, &mut pool, b"to the switch");
            kernel.set_nonblocking(true).unwrap();
            assert!(
                kernel.recv(&mut [0; 100]).is_err(),
                "the kernel got nothing"
            );
            kernel.set_nonblocking(false).unwrap();
            if dropped {
                drop(device);
            } else {
                let _ = device.close(&mut pool);
            }
            pod.udp(7001)
                .send_to(b"to the kernel", (pod.gateway(), 9))
                .unwrap();
            let mut buffer = [0; 100];
            assert_eq!(kernel.recv(&mut buffer).unwrap(), 13);
            assert_eq!(&buffer[..13], b"to the kernel");
            drop(pool);
            assert_eq!(umem.available(), 1024);
        });
    }
}

/// Floods the gateway from the pod until told to stop.
fn flood(pod: &Pod, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (stop, gateway) = (stop.clone(), pod.gateway());
    let address = pod.address();
    pod.spawn(move || {
        let socket = udp(address, 7000);
        let datagram = pattern(1400);
        while !stop.load(Ordering::Relaxed) {
            // Fails once the device is gone.
            let _ = socket.send_to(&datagram, (gateway, 9));
        }
    })
}

#[test]
fn closing_under_load_loses_no_chunk() {
    for dropped in [false, true] {
        in_netns(move || {
            let pod = Pod::new(1, 1500, 2);
            let (umem, mut pool) = umem(2048, 2048);
            let stop = Arc::new(AtomicBool::new(false));
            let sender = flood(&pod, &stop);
            for _ in 0..5 {
                let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
                let mut frames = Vec::with_capacity(64);
                let mut echoed = 0;
                while echoed < 2000 {
                    device.rx(&mut pool, &mut frames, 64);
                    frames
                        .iter_mut()
                        .for_each(|frame| turn_around(frame, &umem));
                    echoed += device.tx(&mut pool, &mut frames);
                }
                // Frames in the rings on both sides, and some here.
                device.rx(&mut pool, &mut frames, 64);
                if dropped {
                    drop(device);
                } else {
                    assert!(device.close(&mut pool).reclaimed > 0);
                }
                frames.into_iter().for_each(|frame| pool.free(frame));
                assert_eq!(umem.available() + pool.local(), 2048);
            }
            stop.store(true, Ordering::Relaxed);
            sender.join().unwrap();
        });
    }
}

#[test]
fn a_device_deleted_under_load_is_dead_and_loses_no_chunk() {
    in_netns(|| {
        let (pod, other) = (Pod::new(1, 1500, 1), Pod::new(2, 1500, 1));
        let (umem, mut pool) = umem(2048, 2048);
        let stop = Arc::new(AtomicBool::new(false));
        let sender = flood(&pod, &stop);
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        let mut healthy = Device::open(&umem, config(&other), &mut pool).unwrap();
        let mut frames = Vec::with_capacity(64);
        let mut echoed = 0;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut deletion = None;
        while !device.is_dead() {
            device.rx(&mut pool, &mut frames, 64);
            frames
                .iter_mut()
                .for_each(|frame| turn_around(frame, &umem));
            echoed += device.tx(&mut pool, &mut frames);
            if echoed > 2000 && deletion.is_none() {
                deletion = Some(spawn_ip("link delete veth1"));
            }
            if deletion.is_some() {
                device.probe();
            }
            assert!(Instant::now() < deadline, "{echoed} frames, never dead");
        }
        // A dead device takes nothing and keeps quiet.
        frames.push(pool.alloc_copy(&[0; 60]).unwrap());
        let waiting = frames.len();
        assert_eq!(device.tx(&mut pool, &mut frames), 0);
        assert_eq!(frames.len(), waiting);
        assert!(!device.probe() && !device.needs_kick());
        device.rx(&mut pool, &mut frames, 64);
        device.complete(&mut pool);
        frames.into_iter().for_each(|frame| pool.free(frame));
        assert!(device.close(&mut pool).reclaimed > 0);
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        assert!(deletion.unwrap().join().unwrap());
        // The others are not concerned.
        echo(&other, &mut healthy, &mut pool, &pattern(500));
        assert_closed(healthy, pool, 2048);
    });
}

/// Runs `ip` beside this thread, in the same namespace (threads inherit it).
fn spawn_ip(arguments: &'static str) -> thread::JoinHandle<bool> {
    thread::spawn(move || try_ip(arguments))
}

#[test]
fn a_device_set_down_and_up_goes_on() {
    in_netns(|| {
        let pod = Pod::new(1, 1500, 1);
        let (umem, mut pool) = umem(2048, 1024);
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        echo(&pod, &mut device, &mut pool, &pattern(100));
        ip("link set veth1 down");
        let mut frames = vec![pool.alloc_copy(&[0; 60]).unwrap()];
        device.tx(&mut pool, &mut frames);
        assert!(device.probe() && !device.is_dead());
        ip("link set veth1 up");
        ip("neigh replace 10.0.1.2 lladdr 02:00:00:00:01:02 dev veth1");
        frames.into_iter().for_each(|frame| pool.free(frame));
        let deadline = Instant::now() + Duration::from_secs(5);
        while device.needs_kick() {
            device.kick();
            assert!(Instant::now() < deadline);
        }
        echo(&pod, &mut device, &mut pool, &pattern(100));
        assert_closed(device, pool, 1024);
    });
}

#[test]
fn the_pinhole_takes_ours_and_leaves_the_rest() {
    for mode in [ModeChoice::Native, ModeChoice::Skb] {
        in_netns(move || {
            let pod = Pod::new(1, 1500, 1);
            let (vxlan, other) = (udp(pod.gateway(), 4789), udp(pod.gateway(), 8472));
            let (umem, mut pool) = umem(2048, 1024);
            let mut pinhole = Pinhole {
                node: pod.gateway(),
                vxlan_port: Some(4789),
                ipip: true,
                direct: vec!["10.99.0.0/16".parse().unwrap()],
            };
            let program = ProgramKind::Uplink(pinhole.clone());
            let config = DeviceConfig {
                program,
                mode,
                ..config(&pod)
            };
            let mut device = Device::open(&umem, config, &mut pool).unwrap();
            let sender = pod.udp(7000);
            let mut buffer = [0; 100];
            let mut expect = |device: &mut Device, to: (&str, u16), payload: &[u8]| {
                sender.send_to(payload, to).unwrap();
                let frame = receive(device, &mut pool, 1).remove(0);
                assert_eq!(frame.copy_to_vec(&umem)[PAYLOAD..], *payload);
                pool.free(frame);
            };
            expect(&mut device, ("10.0.1.1", 4789), b"vxlan for the switch");
            expect(&mut device, ("10.99.3.4", 80), b"direct for the switch");
            sender
                .send_to(b"for the kernel", ("10.0.1.1", 8472))
                .unwrap();
            assert_eq!(other.recv(&mut buffer).unwrap(), 14);

            // The other way round, without a moment in between.
            pinhole.vxlan_port = Some(8472);
            device.set_pinhole(pinhole.clone()).unwrap();
            expect(&mut device, ("10.0.1.1", 8472), b"now for the switch");
            sender
                .send_to(b"now for the kernel", ("10.0.1.1", 4789))
                .unwrap();
            assert_eq!(vxlan.recv(&mut buffer).unwrap(), 18);

            // A refused pinhole leaves the old one.
            pinhole.direct = vec!["10.0.0.0/8".parse().unwrap(); 65];
            assert!(matches!(device.set_pinhole(pinhole), Err(Error::Config(_))));
            expect(&mut device, ("10.0.1.1", 8472), b"still for the switch");

            let _ = device.close(&mut pool);
            sender
                .send_to(b"all for the kernel", ("10.0.1.1", 8472))
                .unwrap();
            assert_eq!(other.recv(&mut buffer).unwrap(), 18);
            drop(pool);
            assert_eq!(umem.available(), 1024);
        });
    }
}
