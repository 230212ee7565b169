//! The control thread: one mio loop over the API's socket, the kernel's notices, the workers'
//! events, signals and a timer. It alone writes tables.

mod attach;
mod daemon;
mod error;
mod learn;
mod lookup;
mod pods;
mod ports;
mod report;
mod rib;
mod routes;
mod server;
mod underlay;
mod workers;

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::config::{Config, check_capabilities};
use crate::netlink::Monitor;
use daemon::Daemon;
use server::Server;

pub use error::RunError;

const SIGNALS: Token = Token(0);
const WORKERS: Token = Token(1);
const KERNEL: Token = Token(2);
const SERVER: Token = Token(3);

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
            )
        }
        Err(error) => Err(error),
    };
    daemon.shut_down();
    outcome
}

fn serve(
    daemon: &mut Daemon,
    poll: &mut Poll,
    server: &mut Server,
    signals: &mut Signals,
    monitor: &mut Monitor,
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
                WORKERS => daemon.worker_events(),
                KERNEL => match monitor.read(&mut notices) {
                    Ok(overflowed) => {
                        daemon.kernel_events(std::mem::take(&mut notices), overflowed);
                    }
                    Err(error) => log::error!("kernel notices: {error}"),
                },
                token => server.ready(token, poll.registry(), |request| daemon.answer(request)),
            }
        }
        if Instant::now() >= next_tick {
            next_tick = Instant::now() + TICK;
            daemon.tick();
        }
    }
}
