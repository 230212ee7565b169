//! The control thread: one mio loop over the API's socket, the kernel's notices, the workers'
//! events, signals and a timer. It alone writes tables.

mod asking;
mod attach;
mod attachment;
mod attachments;
mod claims;
mod conflicts;
mod daemon;
mod error;
mod flaps;
mod groups;
mod guards;
mod hops;
mod host_port;
mod learn;
mod lookup;
mod nodes;
mod path_mtu;
mod pinhole;
mod pods;
mod ports;
mod report;
mod rib;
mod routes;
mod server;
mod too_big;
mod underlay;
mod uplink;
mod workers;

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use shunt_encap::IpFamily;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::config::{Config, check_capabilities};
use crate::netlink::Monitor;
use crate::sys::icmp::IcmpSocket;
use daemon::Daemon;
use server::Server;

pub use error::RunError;

const SIGNALS: Token = Token(0);
/// Of workers, and of the threads that attach pods.
const WORKERS: Token = Token(1);
const KERNEL: Token = Token(2);
const ERRORS_V4: Token = Token(3);
const ERRORS_V6: Token = Token(4);
/// The first of the server's own.
const SERVER: Token = Token(5);

/// Between two turns of ageing, retries and the clock.
const TICK: Duration = Duration::from_millis(200);

/// Runs the daemon until SIGINT or SIGTERM.
///
/// # Errors
/// Whatever keeps it from starting; nothing is left attached then.
pub fn run(config: Config) -> Result<(), RunError> {
    let kernel = |what| {
        move |error: std::io::Error| RunError::Kernel {
            what,
            why: error.to_string(),
        }
    };
    check_capabilities()?;
    config.check_devices()?;
    let mut poll = Poll::new().map_err(kernel("epoll"))?;
    let mut server = Server::bind(&config.socket, poll.registry(), SERVER)?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(kernel("signals"))?;
    poll.registry()
        .register(&mut signals, SIGNALS, Interest::READABLE)
        .map_err(kernel("signals"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WORKERS).map_err(kernel("eventfd"))?);
    // Subscribed before anything is read, so that no change falls between.
    let mut monitor = Monitor::open().map_err(|error| RunError::Kernel {
        what: "netlink",
        why: error.to_string(),
    })?;
    let fd = monitor.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), KERNEL, Interest::READABLE)
        .map_err(kernel("netlink"))?;

    let icmp = errors(&config, poll.registry())?;

    let mut daemon = Daemon::new(config, &waker)?;
    let outcome = match daemon.configure() {
        Ok(()) => {
            log::info!("running");
            serve(
                &mut daemon,
                &mut poll,
                &mut server,
                &mut signals,
                &mut monitor,
                &icmp,
            )
        }
        Err(error) => Err(error),
    };
    daemon.shut_down();
    outcome
}

/// The sockets that hear of packets that did not fit on their way: they matter where there is a way.
fn errors(config: &Config, registry: &Registry) -> Result<Vec<IcmpSocket>, RunError> {
    let mut sockets = Vec::new();
    if config.uplink.is_none() {
        return Ok(sockets);
    }
    let v6 = config.node.address.is_ipv6() || config.node.address6.is_some();
    let families = [
        (config.node.address.is_ipv4(), IpFamily::V4, ERRORS_V4),
        (v6, IpFamily::V6, ERRORS_V6),
    ];
    for (_, family, token) in families.into_iter().filter(|(wanted, ..)| *wanted) {
        let opened = IcmpSocket::open(family).and_then(|socket| {
            registry.register(
                &mut SourceFd(&socket.as_raw_fd()),
                token,
                Interest::READABLE,
            )?;
            Ok(socket)
        });
        sockets.push(opened.map_err(|error| RunError::Kernel {
            what: "raw ICMP socket",
            why: error.to_string(),
        })?);
    }
    Ok(sockets)
}

fn serve(
    daemon: &mut Daemon,
    poll: &mut Poll,
    server: &mut Server,
    signals: &mut Signals,
    monitor: &mut Monitor,
    icmp: &[IcmpSocket],
) -> Result<(), RunError> {
    let mut events = Events::with_capacity(256);
    let mut notices = Vec::new();
    let mut next_tick = Instant::now() + TICK;
    loop {
        let wait = next_tick.saturating_duration_since(Instant::now());
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(RunError::Kernel {
                    what: "epoll",
                    why: error.to_string(),
                });
            }
            Ok(()) => {}
        }
        for event in &events {
            match event.token() {
                SIGNALS => {
                    if let Some(signal) = signals.pending().next() {
                        log::info!("signal {signal}: ending");
                        return Ok(());
                    }
                }
                WORKERS => {
                    daemon.worker_events();
                    daemon.attachment_reports();
                }
                KERNEL => match monitor.read(&mut notices) {
                    Ok(overflowed) => {
                        daemon.kernel_events(std::mem::take(&mut notices), overflowed);
                    }
                    Err(error) => log::error!("kernel notices: {error}"),
                },
                ERRORS_V4 | ERRORS_V6 => {
                    for socket in icmp {
                        daemon.too_big(socket);
                    }
                }
                token => server.ready(token, poll.registry(), |asker, request| {
                    daemon.answer(asker, request)
                }),
            }
        }
        if Instant::now() >= next_tick {
            next_tick = Instant::now() + TICK;
            daemon.tick();
        }
        while let Some((asker, reply)) = daemon.next_reply() {
            server.reply(asker, &reply, poll.registry(), |asker, request| {
                daemon.answer(asker, request)
            });
        }
    }
}
