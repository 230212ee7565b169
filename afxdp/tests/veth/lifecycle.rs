//! Opening, refusals, closing, and devices that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shunt_afxdp::{
    Device, DeviceConfig, Error, ModeChoice, Pinhole, Pool, ProgramKind, Sent, Socket,
    SocketConfig, XdpMode,
};

use crate::support::*;

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
            let text = error.to_string();
            for word in [
                "shunt_pod",
                "stop its owner",
                "bpftool link detach",
                "dev veth1 xdp off",
            ] {
                assert!(text.contains(word), "{text}");
            }
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
        assert!(error.to_string().contains("try again"), "{error}");
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
            node: Some(pod.gateway()),
            ..Pinhole::default()
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
        // Before the program is there, which is loaded once.
        let network = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
        let error = open(network, &mut pool).to_string();
        assert!(error.contains("CAP_NET_ADMIN"), "{error}");
        let error = open(CapabilitySet::NET_RAW, &mut pool).to_string();
        assert!(error.contains("CAP_NET_RAW"), "{error}");
        let device = Device::open(&umem, config(&pod), &mut pool).unwrap();
        assert_closed(device, pool, 512);
    });
}

#[test]
fn a_umem_beyond_the_memory_limit_names_the_capability() {
    in_netns(|| {
        use rustix::process::{Resource, getrlimit, setrlimit};
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        // The other tests of this process have the capability and do not feel the limit.
        let mut limit = getrlimit(Resource::Memlock);
        limit.current = Some(limit.current.unwrap_or(u64::MAX).min(1 << 16));
        setrlimit(Resource::Memlock, limit).unwrap();
        let (umem, _pool) = umem(4096, 1024);
        let all = capabilities(None).unwrap();
        let mut fewer = all;
        fewer.effective -= CapabilitySet::IPC_LOCK;
        set_capabilities(None, fewer).unwrap();
        let error = umem.register().unwrap_err().to_string();
        assert!(error.contains("CAP_IPC_LOCK"), "{error}");
        set_capabilities(None, all).unwrap();
        umem.register().unwrap();
    });
}

#[test]
fn auto_mode_falls_back_and_says_why() {
    in_netns(|| {
        // veth refuses native programs when the peer has more TX queues than it has RX queues (see
        // `veth_xdp_set`); SKB mode takes them.
        let pod = Pod::with_queues(1, 1500, 1, 2);
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
                    echoed += device.tx(&mut pool, &mut frames).packets;
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
            echoed += device.tx(&mut pool, &mut frames).packets;
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
        assert_eq!(device.tx(&mut pool, &mut frames), Sent::default());
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
