//! What pods, nodes and the world do to each other: ping, TCP, UDP, HTTP.

mod exchange;
mod http;
mod tcp;
mod udp;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Netns;
use crate::pod::Pod;

pub use exchange::{Exchange, Seen, Transport};
pub use http::{curl, http, must_http};
pub use tcp::{Tcp, must_tcp, tcp, tcp_by};
pub use udp::{must_udp, udp, udp_by};

/// How long a connection attempt or a silent read may take.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// Takes the connection that a client has just made; accept(2) by itself would wait for ever when
/// the client is connected to another server.
fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(false)?;
                return Ok((stream, peer));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("accept"),
        }
        if Instant::now() > deadline {
            bail!("the client is connected, but not to this server");
        }
        sleep(Duration::from_millis(1));
    }
}

/// Demands that a far end saw a pod by one of its own addresses.
fn must_see(who: &Pod, seen: IpAddr, by: &str) -> Result<()> {
    ensure!(
        who.addresses().contains(&seen),
        "{by} sees {} as {seen}, not as {:?}",
        who.name,
        who.addresses()
    );
    Ok(())
}

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

/// Sends `count` echo requests, with the extra `options` of ping(8), for example
/// `-s 8900 -M do`.
///
/// # Errors
/// When ping prints no statistics, or the kernel delivered duplicates.
pub fn ping(from: &Netns, to: impl Into<IpAddr>, count: u32, options: &str) -> Result<Ping> {
    let to = to.into();
    // After the last request ping waits no longer than this or twice the longest round trip; on
    // a machine with more to do than cores a reply may take that long.
    let interval = if count > 5 { "0.01" } else { "0.1" };
    // ping exits non-zero without replies, which is a finding and not an error.
    let line = format!("ping -n -q -i {interval} -W 1 -c {count} {options} {to} || true");
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
pub fn must_ping(from: &Netns, to: impl Into<IpAddr>, count: u32, options: &str) -> Result<Ping> {
    let to = to.into();
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
pub fn must_reach(from: &Netns, to: impl Into<IpAddr>) -> Result<()> {
    let to = to.into();
    let seen = ping(from, to, 20, "")?;
    ensure!(seen.received > 0, "{} does not reach {to}", from.name());
    Ok(())
}

/// Demands that none of `count` echo requests is answered.
///
/// # Errors
/// When one is.
pub fn must_not_ping(from: &Netns, to: impl Into<IpAddr>, count: u32, options: &str) -> Result<()> {
    let to = to.into();
    let seen = ping(from, to, count, options)?;
    ensure!(
        seen.received == 0,
        "ping {options} {} -> {to} was answered",
        from.name()
    );
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
