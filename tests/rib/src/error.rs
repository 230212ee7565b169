//! What can be wrong with the real tables.

use std::io;
use std::path::PathBuf;

use crate::VARIABLE;

/// Why a table or its updates could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RibError {
    /// Only the real table would do, and it is not at hand.
    #[error(
        "the real routing tables are not here ({file} first): set {VARIABLE} to a directory with \
         ipv4-ris-20260511.txt.xz and ipv6-ris-20260511.txt.xz (one prefix a line) and \
         ipv4-updates-20260511.txt.xz and ipv6-updates-20260511.txt.xz (one `A prefix` or \
         `W prefix` a line, in time order), each packed by xz. They are made of the dumps of \
         RIPE NCC RIS, peer AS3333, of 2026-05-11: the table, and the day's announcements and \
         withdrawals"
    )]
    Absent {
        /// The first file wanted.
        file: String,
    },

    /// The variable names no directory.
    #[error(
        "{VARIABLE} names {}, which is not a directory: correct it, or unset it for the synthetic \
         tables",
        .0.display()
    )]
    NotDirectory(PathBuf),

    /// The directory lacks a file, or it cannot be read.
    #[error("cannot read {}: {error}: complete the directory, or change {VARIABLE}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },

    /// No xz on this machine.
    #[error("cannot run xz to unpack {}: {error}: install the package xz-utils", path.display())]
    NoXz {
        /// The file to unpack.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },

    /// xz refused a file.
    #[error("xz cannot unpack {}: {message}: fetch the file again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What xz said.
        message: String,
    },

    /// A line that is none of its format.
    #[error("{} line {line}: {text:?} is not {expected}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
}
