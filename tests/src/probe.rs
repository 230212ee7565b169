//! What pods do to each other: ping, TCP, UDP, HTTP.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Netns;
use crate::pod::Pod;

/// How long a connection attempt or a silent read may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What ping(8) saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// Echo requests sent.
    pub sent: u32,
    /// Echo replies received, without duplicates.
    pub received: u32,
    /// Mean round trip in microseconds; zero without any reply.
    pub rtt_us: f64,
}

/// Sends `count` echo requests 10 ms apart, with the extra `options` of ping(8), for example
/// `-s 8900 -M do`.
///
/// # Errors
/// When ping prints no statistics, or the kernel delivered duplicates.
pub fn ping(from: &Netns, to: Ipv4Addr, count: u32, options: &str) -> Result<Ping> {
    // ping exits non-zero without replies, which is a finding and not an error.
    let line = format!("ping -n -q -i 0.01 -W 1 -c {count} {options} {to} || true");
    let text = from.run(&["sh", "-c", &line])?;
    parse_ping(&text)
}

fn parse_ping(text: &str) -> Result<Ping> {
    let unexpected = || format!("ping printed: {text}");
    let counts = text
        .lines()
        .find(|l| l.contains("packets transmitted"))
        .with_context(unexpected)?;
    ensure!(
        !counts.contains("duplicates"),
        "duplicate replies: {counts}"
    );
    let number = |what: &str| -> Result<u32> {
        counts
            .split(',')
            .find(|part| part.contains(what))
            .and_then(|part| part.split_whitespace().next())
            .and_then(|n| n.parse().ok())
            .with_context(unexpected)
    };
    let rtt_us = text
        .lines()
        .find_map(|l| l.strip_prefix("rtt min/avg/max/mdev = "))
        .and_then(|values| values.split('/').nth(1))
        .and_then(|ms| ms.parse::<f64>().ok())
        .map_or(0.0, |ms| ms * 1000.0);
    Ok(Ping {
        sent: number("transmitted")?,
        received: number("received")?,
        rtt_us,
    })
}

/// Demands that every one of `count` echo requests is answered; the first may take a while (ARP).
///
/// # Errors
/// When a reply is missing.
pub fn must_ping(from: &Netns, to: Ipv4Addr, count: u32, options: &str) -> Result<Ping> {
    let seen = ping(from, to, count, options)?;
    ensure!(
        seen.received == seen.sent,
        "ping {options} {} -> {to}: {} of {} answered",
        from.name(),
        seen.received,
        seen.sent
    );
    Ok(seen)
}

/// Demands that one of 20 echo requests is answered: beside a saturating load some meet a full
/// queue, which is no fault.
///
/// # Errors
/// When all stay unanswered.
pub fn must_reach(from: &Netns, to: Ipv4Addr) -> Result<()> {
    let seen = ping(from, to, 20, "")?;
    ensure!(seen.received > 0, "{} does not reach {to}", from.name());
    Ok(())
}

/// Demands that none of `count` echo requests is answered.
///
/// # Errors
/// When one is.
pub fn must_not_ping(from: &Netns, to: Ipv4Addr, count: u32, options: &str) -> Result<()> {
    let seen = ping(from, to, count, options)?;
    ensure!(
        seen.received == 0,
        "ping {options} {} -> {to} was answered",
        from.name()
    );
    Ok(())
}

/// What a TCP transfer showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tcp {
    /// Payload bytes that arrived, each one compared.
    pub bytes: u64,
    /// Goodput in Gbit/s.
    pub gbps: f64,
    /// The client's address as the server saw it.
    pub client: IpAddr,
}

/// The payload of every stream: octet N of the stream is octet N modulo the length of this.
fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..65_521)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

/// Sends a known pattern over one TCP connection for `duration`, one write at least, and compares
/// all that arrives.
///
/// # Errors
/// When the connection fails, stalls for five seconds, or delivers other bytes than were sent.
pub fn tcp(from: &Netns, to: (&Netns, Ipv4Addr), duration: Duration) -> Result<Tcp> {
    let what = format!("TCP {} -> {}", from.name(), to.1);
    let listener = to.0.within(|| TcpListener::bind((to.1, 0)))??;
    let address = listener.local_addr()?;
    let mut client = from
        .within(|| TcpStream::connect_timeout(&address, PATIENCE))?
        .with_context(|| format!("{what}: connect"))?;
    let (mut server, peer) = listener.accept()?;
    server.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let pattern = pattern();
    let begin = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let receiver = scope.spawn(|| -> Result<u64> {
            let mut buffer = vec![0; 256 * 1024];
            let mut total = 0usize;
            loop {
                let n = server.read(&mut buffer)?;
                if n == 0 {
                    return Ok(total as u64);
                }
                let mut rest = &buffer[..n];
                while !rest.is_empty() {
                    let expected = &pattern[total % pattern.len()..];
                    let len = rest.len().min(expected.len());
                    ensure!(
                        rest[..len] == expected[..len],
                        "bytes differ after octet {total}"
                    );
                    total += len;
                    rest = &rest[len..];
                }
            }
        });
        let mut sender = || -> Result<u64> {
            let mut total = 0usize;
            loop {
                total += client.write(&pattern[total % pattern.len()..])?;
                if begin.elapsed() >= duration {
                    break;
                }
            }
            client.shutdown(std::net::Shutdown::Write)?;
            Ok(total as u64)
        };
        let sent = sender();
        drop(client);
        let received = receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (sent, received)
    });
    let received = received.with_context(|| format!("{what}: receive"))?;
    let sent = sent.with_context(|| format!("{what}: send"))?;
    ensure!(
        sent == received,
        "{what}: {sent} bytes sent, {received} arrived"
    );
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Tcp {
        bytes: received,
        gbps: received as f64 * 8e-9 / seconds,
        client: peer.ip(),
    })
}

/// [`tcp`] between two pods for 100 ms; the server must see the client's own address.
///
/// # Errors
/// As [`tcp`], and when the server sees another address.
pub fn must_tcp(from: &Pod, to: &Pod) -> Result<Tcp> {
    let seen = tcp(
        &from.netns,
        (&to.netns, to.address),
        Duration::from_millis(100),
    )?;
    ensure!(
        seen.client == from.address,
        "{} sees {} as {}, not as {}",
        to.name,
        from.name,
        seen.client,
        from.address
    );
    Ok(seen)
}

/// Sends one UDP datagram of each of these payload lengths and demands its echo.
///
/// # Errors
/// When an echo is missing, differs, or the server sees another address than the client's.
pub fn must_udp(from: &Pod, to: &Pod, lengths: &[usize]) -> Result<()> {
    let server = to.netns.within(|| UdpSocket::bind((to.address, 0)))??;
    let client = from.netns.within(|| UdpSocket::bind((from.address, 0)))??;
    let addresses: [SocketAddr; 2] = [client.local_addr()?, server.local_addr()?];
    client.connect(addresses[1])?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    }
    let pattern = pattern();
    let mut buffer = vec![0; 65_536];
    for &length in lengths {
        let what = || format!("UDP {} -> {}, {length} bytes", from.name, to.name);
        let payload = &pattern[..length];
        client.send(payload).with_context(what)?;
        let (n, seen) = server.recv_from(&mut buffer).with_context(what)?;
        ensure!(buffer[..n] == *payload, "{}: other bytes arrived", what());
        ensure!(seen == addresses[0], "{}: seen as {seen}", what());
        server.send_to(payload, seen)?;
        let n = client
            .recv(&mut buffer)
            .with_context(|| format!("{}: echo", what()))?;
        ensure!(buffer[..n] == *payload, "{}: the echo differs", what());
    }
    Ok(())
}

/// `python3 -m http.server` without its look-up of its own name, which waits for a name server.
const HTTP_SERVER: &str = "\
import functools, http.server, socketserver, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[2])
server = socketserver.ThreadingTCPServer((sys.argv[1], 8000), handler)
print('serving')
server.serve_forever()
";

/// Fetches 1 MiB by curl(1) from Python's `http.server` and compares it.
///
/// # Errors
/// When the server does not start, the fetch fails, or the bytes differ.
pub fn must_http(from: &Pod, to: &Pod) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let body: Vec<u8> = pattern().into_iter().cycle().take(1 << 20).collect();
    std::fs::write(folder.path().join("blob"), &body)?;
    let root = folder.path().to_str().context("temporary folder")?;
    let address = to.address.to_string();
    let mut server =
        to.netns
            .start(&["/usr/bin/python3", "-u", "-c", HTTP_SERVER, &address, root])?;
    server.wait_output(Duration::from_secs(10), |text| text.contains("serving"))?;
    let copy = folder.path().join("copy");
    let url = format!("http://{address}:8000/blob");
    from.netns
        .run(&[
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "20",
            "--output",
            copy.to_str().context("temporary folder")?,
            &url,
        ])
        .with_context(|| format!("HTTP {} -> {}", from.name, to.name))?;
    ensure!(
        std::fs::read(&copy)? == body,
        "HTTP {} -> {}: bytes differ",
        from.name,
        to.name
    );
    let log = server.output();
    if !log.contains(&from.address.to_string()) {
        bail!(
            "{} does not see {} as {}: {log}",
            to.name,
            from.name,
            from.address
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_statistics_are_read() {
        let text = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\n--- 10.0.0.1 ping statistics ---\n\
                    5 packets transmitted, 4 received, +1 errors, 20% packet loss, time 40ms\n\
                    rtt min/avg/max/mdev = 0.040/0.050/0.061/0.007 ms\n";
        let seen = parse_ping(text).unwrap();
        assert_eq!((seen.sent, seen.received), (5, 4));
        assert!((seen.rtt_us - 50.0).abs() < 1e-6);
        assert!(parse_ping("ping: unknown host").is_err());
        assert!(parse_ping("2 packets transmitted, 2 received, +1 duplicates, 0% loss").is_err());
    }
}
