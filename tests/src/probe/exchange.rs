//! One request and one reply, marked so that a capture shows which way they took.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::accept;
use crate::family::Family;
use crate::netns::Netns;

/// How long each step may take: a SYN is repeated after one second.
const PATIENCE: Duration = Duration::from_millis(2500);

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// As nft(8) and iptables(8) write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A client that asks a server once, perhaps by an address that is not the server's own.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The protocol.
    pub transport: Transport,
    /// Where the client is.
    pub client: &'a Netns,
    /// Whom it asks.
    pub target: SocketAddr,
    /// Where the server is.
    pub server: &'a Netns,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What the client sends.
    pub request: &'a [u8],
    /// What the server answers.
    pub reply: &'a [u8],
}

/// What both ends saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The client, as the server saw it.
    pub peer: SocketAddr,
    /// The client, as it saw itself.
    pub client: SocketAddr,
}

impl Exchange<'_> {
    /// Asks, answers, and closes in order.
    ///
    /// # Errors
    /// When something stays out for two and a half seconds, other bytes arrive than were sent, or
    /// the reply comes from another address than was asked.
    pub fn run(&self) -> Result<Seen> {
        let seen = match self.transport {
            Transport::Tcp => self.tcp(),
            Transport::Udp => self.udp(),
        };
        seen.with_context(|| {
            format!(
                "{} {} -> {} (server at {})",
                self.transport,
                self.client.name(),
                self.target,
                self.listen
            )
        })
    }

    fn tcp(&self) -> Result<Seen> {
        let listener = self.server.within(|| TcpListener::bind(self.listen))??;
        let mut client = self
            .client
            .within(|| TcpStream::connect_timeout(&self.target, PATIENCE))?
            .context("connect")?;
        let (mut server, peer) = accept(&listener)?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
        }
        client.write_all(self.request).context("request")?;
        must_read(&mut server, self.request).context("request")?;
        server.write_all(self.reply).context("reply")?;
        must_read(&mut client, self.reply).context("reply")?;
        let seen = Seen {
            peer,
            client: client.local_addr()?,
        };
        client.shutdown(Shutdown::Write)?;
        must_end(&mut server).context("the client's end")?;
        drop(server);
        must_end(&mut client).context("the server's end")?;
        Ok(seen)
    }

    fn udp(&self) -> Result<Seen> {
        let server = self.server.within(|| UdpSocket::bind(self.listen))??;
        let any = Family::of(self.target.ip()).unspecified();
        // Connected: the kernel hands over what comes from the target's address and port alone.
        let client = self.client.within(|| -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(self.target)?;
            Ok(socket)
        })??;
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(PATIENCE))?;
        }
        let mut buffer = [0; 2048];
        client.send(self.request).context("request")?;
        let (n, peer) = server.recv_from(&mut buffer).context("request")?;
        ensure!(buffer.get(..n) == Some(self.request), "other bytes arrived");
        server.send_to(self.reply, peer).context("reply")?;
        let n = client.recv(&mut buffer).context("reply")?;
        ensure!(buffer.get(..n) == Some(self.reply), "other bytes arrived");
        Ok(Seen {
            peer,
            client: client.local_addr()?,
        })
    }
}

fn must_read(stream: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes)?;
    ensure!(bytes == expected, "other bytes arrived");
    Ok(())
}

fn must_end(stream: &mut TcpStream) -> Result<()> {
    let n = stream.read(&mut [0; 16])?;
    ensure!(n == 0, "{n} bytes nobody sent");
    Ok(())
}
