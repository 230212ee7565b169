//! What can go wrong.

use std::time::Duration;

/// Why a table refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FibError {
    /// The configuration asks for more of a part than an entry can name.
    #[error("`{pool}` is {asked}, but a table can name at most {limit}: configure fewer")]
    PoolTooLarge {
        /// What the configuration calls the part.
        pool: &'static str,
        /// The number configured.
        asked: u32,
        /// The most that is possible.
        limit: u32,
    },

    /// The system gave no address space for a part of the table.
    #[error("no memory for the {bytes} bytes of the {part}: raise the process's memory limit")]
    OutOfMemory {
        /// Which part of the table.
        part: &'static str,
        /// Its size in bytes.
        bytes: usize,
    },

    /// As many readers are registered as were configured.
    #[error("all {limit} readers are registered: drop one, or raise `readers`")]
    ReadersExhausted {
        /// The configured number of readers.
        limit: usize,
    },

    /// A part of the structure that a prefix needs is not to be had.
    #[error(
        "all {limit} `{pool}` are taken: {used} in use, {held} held up by {lagging} readers; \
         raise `{pool}`, or have the readers call quiescent() once a batch and offline() before \
         they sleep"
    )]
    PoolExhausted {
        /// What the configuration calls the limit.
        pool: &'static str,
        /// The configured number.
        limit: u32,
        /// In use, with those that this insertion had taken before it failed; they are given back.
        used: u32,
        /// Retired, but a reader may still be looking into them.
        held: u32,
        /// Readers that have not been quiescent since the oldest of those was retired.
        lagging: usize,
    },

    /// A flush ended before every reader had been quiescent.
    #[error(
        "{lagging} readers were not quiescent within {waited:?}: have them call quiescent() once \
         a batch and offline() before they sleep"
    )]
    ReadersLagging {
        /// Readers that have not been quiescent since the flush began.
        lagging: usize,
        /// How long the writer waited.
        waited: Duration,
    },
}
