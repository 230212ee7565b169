//! Frames in and out: modes, sizes, chains, queues, sharing, and the pinhole.

use std::thread;
use std::time::Duration;

use shunt_afxdp::{
    Device, DeviceConfig, Error, MAX_TX_SEGMENTS, ModeChoice, Pinhole, ProgramKind, Statistics,
    XdpMode,
};

use crate::support::*;

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
                assert_eq!((device.queues(), device.multi_buffer()), (1, true));
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
            sent += device.tx(&mut pool, &mut batch).packets;
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
        let mut device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        let socket = pod.udp(7000);
        for segments in [2, 14, 15, 16, MAX_TX_SEGMENTS, MAX_TX_SEGMENTS + 1] {
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
        assert_eq!(device.queues(), 4);
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
            let sent = device.tx_on(queue, &mut pool, &mut vec![frame]);
            assert_eq!(
                (sent.packets, sent.bytes, sent.rejected),
                (1, PAYLOAD + 30, 0)
            );
        }
        for socket in &sockets {
            assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 30);
        }
        assert_closed(device, pool, 2048);
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
                node: Some(pod.gateway()),
                vxlan_port: Some(4789),
                ipip: true,
                direct: vec!["10.99.0.0/16".parse().unwrap()],
                ..Pinhole::default()
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
