//! Raw IP sockets (raw(7)): any protocol, by the kernel's own hands.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, bind, recv, sendto, socket,
};

use crate::family::Family;
use crate::netns::Netns;

/// How long a packet may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A raw socket for one protocol, bound to an address.
#[derive(Debug)]
pub struct RawIp {
    socket: OwnedFd,
    family: Family,
}

impl RawIp {
    /// Opens one in a namespace.
    ///
    /// # Errors
    /// When the kernel refuses, for example an address that is not there.
    pub fn open(netns: &Netns, protocol: u8, address: IpAddr) -> Result<Self> {
        let family = Family::of(address);
        let domain = match family {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        };
        let number = NonZeroU32::new(protocol.into()).context("protocol 0")?;
        let protocol = Protocol::from_raw(number);
        let socket = netns.within(|| socket(domain, SocketType::RAW, Some(protocol)))??;
        bind(&socket, &SocketAddr::new(address, 0))
            .with_context(|| format!("bind a raw socket to {address}"))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, family })
    }

    /// Sends a payload; the kernel makes the IP header, and fragments where it must.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&self, to: IpAddr, payload: &[u8]) -> Result<()> {
        let sent = sendto(
            &self.socket,
            payload,
            SendFlags::empty(),
            &SocketAddr::new(to, 0),
        )
        .with_context(|| format!("send {} bytes to {to}", payload.len()))?;
        ensure!(
            sent == payload.len(),
            "{sent} of {} bytes sent",
            payload.len()
        );
        Ok(())
    }

    /// The next payload, without the IP header, which IPv4 hands over as well (raw(7)) and IPv6
    /// does not (RFC 3542, 3).
    ///
    /// # Errors
    /// When none comes in two seconds.
    pub fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let (_, length) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())
            .context("nothing arrives at the raw socket")?;
        let header = match self.family {
            Family::V4 => usize::from(buffer[0] & 0x0f) * 4,
            Family::V6 => 0,
        };
        buffer.truncate(length);
        buffer.drain(..header.min(length));
        Ok(buffer)
    }

    /// Demands that the next payload is this one.
    ///
    /// # Errors
    /// When none comes in two seconds, or another one; the message says how it differs.
    pub fn must_receive(&self, expected: &[u8]) -> Result<()> {
        let payload = self.receive()?;
        let differs = payload.iter().zip(expected).position(|(a, b)| a != b);
        ensure!(
            payload == expected,
            "{} bytes arrived instead of {}, the first different one is {differs:?}",
            payload.len(),
            expected.len()
        );
        Ok(())
    }
}
