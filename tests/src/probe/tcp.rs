//! A stream of known bytes.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{PATIENCE, accept, must_see, pattern};
use crate::netns::Netns;
use crate::pod::Pod;

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

/// Sends a known pattern over one TCP connection for `duration`, one write at least, and compares
/// all that arrives.
///
/// # Errors
/// When the connection fails, stalls for five seconds, or delivers other bytes than were sent.
pub fn tcp(from: &Netns, to: (&Netns, impl Into<IpAddr>), duration: Duration) -> Result<Tcp> {
    let address = to.1.into();
    let listener = to.0.within(|| TcpListener::bind((address, 0)))??;
    transfer(from, listener.local_addr()?, &listener, duration)
}

/// [`tcp`] to a server at `server` that is asked by another address, a service's.
///
/// # Errors
/// As [`tcp`], and when the connection does not lead to this server.
pub fn tcp_by(
    from: &Netns,
    target: SocketAddr,
    server: (&Netns, SocketAddr),
    duration: Duration,
) -> Result<Tcp> {
    let listener = server.0.within(|| TcpListener::bind(server.1))??;
    transfer(from, target, &listener, duration)
}

fn transfer(
    from: &Netns,
    target: SocketAddr,
    listener: &TcpListener,
    duration: Duration,
) -> Result<Tcp> {
    let what = format!("TCP {} -> {target}", from.name());
    let mut client = from
        .within(|| TcpStream::connect_timeout(&target, PATIENCE))?
        .with_context(|| format!("{what}: connect"))?;
    let (mut server, peer) = accept(listener).with_context(|| what.clone())?;
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
    must_see(from, seen.client, &to.name)?;
    Ok(seen)
}
