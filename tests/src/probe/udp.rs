//! Datagrams and their echoes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::pattern;
use crate::family::Family;
use crate::netns::Netns;
use crate::pod::Pod;

/// [`udp`] between two pods; the server must see the client's own address.
///
/// # Errors
/// As [`udp`], and when the server sees another address.
pub fn must_udp(from: &Pod, to: &Pod, lengths: &[usize]) -> Result<()> {
    let seen = udp(&from.netns, (&to.netns, to.address), lengths)?;
    super::must_see(from, seen, &to.name)
}

/// Sends one UDP datagram of each of these payload lengths and demands its echo; returns the
/// client's address as the server saw it.
///
/// # Errors
/// When an echo is missing or differs, or the server sees the client's address or port change.
pub fn udp(from: &Netns, to: (&Netns, impl Into<IpAddr>), lengths: &[usize]) -> Result<IpAddr> {
    let address = to.1.into();
    let server = to.0.within(|| UdpSocket::bind((address, 0)))??;
    echo(from, server.local_addr()?, &server, lengths)
}

/// [`udp`] to a server at `server` that is asked by another address, a service's; the echo must
/// come from there.
///
/// # Errors
/// As [`udp`].
pub fn udp_by(
    from: &Netns,
    target: SocketAddr,
    server: (&Netns, SocketAddr),
    lengths: &[usize],
) -> Result<IpAddr> {
    let server = server.0.within(|| UdpSocket::bind(server.1))??;
    echo(from, target, &server, lengths)
}

fn echo(from: &Netns, target: SocketAddr, server: &UdpSocket, lengths: &[usize]) -> Result<IpAddr> {
    let any = Family::of(target.ip()).unspecified();
    // Connected: the kernel hands over what comes from the target's address and port alone.
    let client = from.within(|| -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(target)?;
        Ok(socket)
    })??;
    for socket in [server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    }
    let pattern = pattern();
    let mut buffer = vec![0; 65_536];
    let mut peer: Option<SocketAddr> = None;
    for &length in lengths {
        let what = || format!("UDP {} -> {target}, {length} bytes", from.name());
        let payload = pattern.get(..length).with_context(what)?;
        client.send(payload).with_context(what)?;
        let (n, seen) = server.recv_from(&mut buffer).with_context(what)?;
        ensure!(buffer[..n] == *payload, "{}: other bytes arrived", what());
        ensure!(
            *peer.get_or_insert(seen) == seen,
            "{}: now seen as {seen}, before as {peer:?}",
            what()
        );
        server.send_to(payload, seen)?;
        let n = client
            .recv(&mut buffer)
            .with_context(|| format!("{}: echo", what()))?;
        ensure!(buffer[..n] == *payload, "{}: the echo differs", what());
    }
    Ok(peer.context("no datagram was asked for")?.ip())
}
