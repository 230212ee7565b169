//! Network namespaces and veth pairs for tests that need root. Namespaces have no names and exist
//! as long as somebody is in them: nothing is left behind, however a test ends.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::panic;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use shunt_afxdp::{Device, DeviceConfig, Frame, Pool, ProgramKind, Umem, UmemConfig};

/// Runs `body` on a thread of its own in a network namespace of its own.
pub(crate) fn in_netns(body: impl FnOnce() + Send + 'static) {
    let result = thread::spawn(move || {
        enter_new_netns();
        body();
    })
    .join();
    if let Err(panic) = result {
        panic::resume_unwind(panic);
    }
}

fn enter_new_netns() {
    // SAFETY: the flag concerns the network namespace only; file descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .expect("a network namespace of its own (needs CAP_SYS_ADMIN)");
}

fn current_netns() -> File {
    File::open("/proc/thread-self/ns/net").expect("the network namespace of this thread")
}

/// Runs `ip` with space-separated arguments in the namespace of this thread.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("running ip");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
}

/// The id of the XDP program on a device, from the `prog/xdp id <n>` of `ip link`.
pub(crate) fn program_id(device: &str) -> Option<u32> {
    let output = Command::new("ip")
        .args(["-d", "link", "show", "dev", device])
        .output()
        .expect("running ip");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, after) = text.split_once("prog/xdp id ")?;
    after.split_whitespace().next()?.parse().ok()
}

/// Like [`ip`], for what may fail.
pub(crate) fn try_ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Sets a sysctl of the namespace of this thread.
fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// A pod: a network namespace with one end, `eth0`, of a veth pair whose other end is in the
/// namespace of the thread that made it. It has the address 10.0.`n`.2, the other end 10.0.`n`.1.
pub(crate) struct Pod {
    netns: File,
    n: u8,
}

impl Pod {
    /// Makes the pair; the host end is called `veth<n>`.
    pub(crate) fn new(n: u8, mtu: u32, queues: u32) -> Self {
        Self::with_queues(n, mtu, queues, queues)
    }

    /// Makes a pair with `queues` RX and TX queues at the host end and `peer_queues` at the pod's.
    pub(crate) fn with_queues(n: u8, mtu: u32, queues: u32, peer_queues: u32) -> Self {
        Self::make(n, mtu, queues, peer_queues, "")
    }

    /// Makes a pair whose host end has this index.
    pub(crate) fn with_index(n: u8, index: u32) -> Self {
        Self::make(n, 1500, 1, 1, &format!("index {index} "))
    }

    fn make(n: u8, mtu: u32, queues: u32, peer_queues: u32, index: &str) -> Self {
        let host = current_netns();
        let netns = thread::spawn(|| {
            enter_new_netns();
            current_netns()
        })
        .join()
        .expect("a namespace for the pod");
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        let shape = |queues: u32| format!("mtu {mtu} numrxqueues {queues} numtxqueues {queues}");
        let (here, there) = (shape(queues), shape(peer_queues));
        ip(&format!(
            "link add name veth{n} {index}{here} type veth peer name eth0 {there} netns {path}"
        ));
        // Neighbour and router discovery would mix with the frames of the tests.
        sysctl(&format!("net.ipv6.conf.veth{n}.disable_ipv6"), "1");
        ip(&format!(
            "link set veth{n} address 02:00:00:00:{n:02x}:01 up"
        ));
        ip(&format!("address add 10.0.{n}.1/24 dev veth{n}"));
        ip(&format!(
            "neigh add 10.0.{n}.2 lladdr 02:00:00:00:{n:02x}:02 dev veth{n}"
        ));
        let pod = Self { netns, n };
        pod.run(move || {
            sysctl("net.ipv6.conf.eth0.disable_ipv6", "1");
            ip(&format!("link set eth0 address 02:00:00:00:{n:02x}:02 up"));
            ip(&format!("address add 10.0.{n}.2/24 dev eth0"));
            ip(&format!(
                "neigh add 10.0.{n}.1 lladdr 02:00:00:00:{n:02x}:01 dev eth0"
            ));
            ip(&format!("route add default via 10.0.{n}.1"));
        });
        drop(host);
        pod
    }

    /// Runs `body` on a thread in the pod.
    pub(crate) fn run<R: Send + 'static>(&self, body: impl FnOnce() -> R + Send + 'static) -> R {
        self.spawn(body).join().expect("a thread in the pod")
    }

    /// Starts `body` on a thread in the pod.
    pub(crate) fn spawn<R: Send + 'static>(
        &self,
        body: impl FnOnce() -> R + Send + 'static,
    ) -> thread::JoinHandle<R> {
        let netns = self.netns.try_clone().expect("a descriptor");
        thread::spawn(move || {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entering the pod");
            body()
        })
    }

    /// A UDP socket in the pod, on its address and the port, with a timeout on receiving.
    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        let address = self.address();
        self.run(move || udp(address, port))
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.n, 2)
    }

    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.n, 1)
    }

    pub(crate) fn host_end(&self) -> String {
        format!("veth{}", self.n)
    }

    /// The Ethernet addresses of the pod and of the host end.
    pub(crate) fn macs(&self) -> ([u8; 6], [u8; 6]) {
        ([2, 0, 0, 0, self.n, 2], [2, 0, 0, 0, self.n, 1])
    }
}

pub(crate) fn udp(address: Ipv4Addr, port: u16) -> UdpSocket {
    // A process that another test is starting may hold the last socket on this port until it execs.
    let deadline = Instant::now() + Duration::from_secs(5);
    let socket = loop {
        match UdpSocket::bind((address, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            result => break result.expect("a UDP socket"),
        }
    };
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    socket
}

pub(crate) fn umem(chunk_size: u32, chunks: u32) -> (Arc<Umem>, Pool) {
    let umem = Umem::new(UmemConfig {
        chunk_size,
        chunks,
        headroom: 0,
    })
    .expect("a UMEM");
    let pool = Pool::new(&umem);
    (umem, pool)
}

/// Receives until `count` UDP frames are there; panics after five seconds.
pub(crate) fn receive(device: &mut Device, pool: &mut Pool, count: usize) -> Vec<Frame> {
    let mut frames = Vec::with_capacity(count);
    let deadline = Instant::now() + Duration::from_secs(5);
    while frames.len() < count {
        let left = count - frames.len();
        device.rx(pool, &mut frames, left);
        let statistics = device.statistics();
        assert!(
            Instant::now() < deadline,
            "{} of {count} frames, {statistics:?}",
            frames.len()
        );
        thread::yield_now();
    }
    frames
}

/// Transmits all of `frames`; panics after five seconds.
pub(crate) fn transmit(device: &mut Device, pool: &mut Pool, mut frames: Vec<Frame>) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !frames.is_empty() || device.needs_kick() {
        device.tx(pool, &mut frames);
        device.kick();
        assert!(Instant::now() < deadline, "{} frames left", frames.len());
    }
}

/// Bytes that tell their place.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Offsets in an Ethernet frame with IPv4 without options and UDP.
pub(crate) const IP: usize = 14;
pub(crate) const UDP: usize = 34;
pub(crate) const PAYLOAD: usize = 42;

/// Turns a UDP frame around: Ethernet and IPv4 addresses and ports swapped, no UDP checksum (RFC
/// 768 allows it over IPv4), because the pod's kernel leaves it partial.
pub(crate) fn turn_around(frame: &mut Frame, umem: &Umem) {
    let data = frame.data_mut(umem);
    for i in 0..6 {
        data.swap(i, 6 + i);
    }
    for i in 0..4 {
        data.swap(IP + 12 + i, IP + 16 + i);
    }
    data.swap(UDP, UDP + 2);
    data.swap(UDP + 1, UDP + 3);
    data[UDP + 6..UDP + 8].fill(0);
}

pub(crate) fn config(pod: &Pod) -> DeviceConfig {
    DeviceConfig {
        rx_frames: 256,
        ..DeviceConfig::new(pod.host_end(), ProgramKind::Pod)
    }
}

/// Sends a datagram from the pod through the switch and back.
pub(crate) fn echo(pod: &Pod, device: &mut Device, pool: &mut Pool, payload: &[u8]) -> usize {
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
pub(crate) fn assert_closed(device: Device, mut pool: Pool, chunks: usize) {
    let umem = pool.umem().clone();
    let statistics = device.statistics().unwrap();
    assert_eq!(statistics.bad_descriptors, 0);
    assert_eq!(statistics.tx_invalid_descs, 0);
    let _ = device.close(&mut pool);
    drop(pool);
    assert_eq!(umem.available(), chunks);
}

/// Floods the gateway from the pod until told to stop.
pub(crate) fn flood(pod: &Pod, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
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
