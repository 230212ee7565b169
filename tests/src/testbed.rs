//! One test at a time on this machine.

use std::fs::{File, OpenOptions};

use anyhow::{Context, Result};

use crate::netns::sweep;

/// The right to run switches on this machine: they spin on pinned cores, so tests that measure
/// or wait must not run beside each other, in whatever process. Released on drop.
#[derive(Debug)]
pub struct Testbed {
    _lock: File,
}

impl Testbed {
    /// Waits for its turn, then removes what killed tests have left.
    ///
    /// # Errors
    /// When the lock file cannot be opened or left-overs cannot be removed.
    pub fn acquire() -> Result<Self> {
        let path = std::env::temp_dir().join("shunt-tests.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("lock file {}", path.display()))?;
        file.lock()
            .with_context(|| format!("lock {}", path.display()))?;
        sweep().context("remove what killed tests left")?;
        Ok(Self { _lock: file })
    }
}
