//! Ctrl-C ends a measurement in order: its namespaces and processes go with their handles.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Tells whether the user wants an end. The default one is never told.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Notes SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Goes on.
    ///
    /// # Errors
    /// A signal came.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleeps.
    ///
    /// # Errors
    /// A signal came, before or meanwhile.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// A program whose `body` ends in order on Ctrl-C; an error is printed after all that it held
    /// has gone.
    pub fn main(body: impl FnOnce(&Self) -> Result<ExitCode>) -> ExitCode {
        match Self::catch() {
            Ok(interrupt) => interrupt.run(body),
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn run(self, body: impl FnOnce(&Self) -> Result<ExitCode>) -> ExitCode {
        match body(&self) {
            Ok(code) => code,
            Err(_) if self.0.load(Ordering::Relaxed) => {
                eprintln!("interrupted: everything is removed");
                ExitCode::from(130)
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}
