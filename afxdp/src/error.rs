//! What can go wrong, each with the device it concerns and the remedy.

use std::io;

use crate::device::XdpMode;

/// Errors of this crate. `Display` names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration is out of its range.
    #[error("invalid configuration: {0}")]
    Config(String),
    /// The memory of the UMEM could not be mapped.
    #[error("cannot map {bytes} bytes for the UMEM: {source}; use fewer or smaller chunks")]
    Memory {
        /// Size asked for, in bytes.
        bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No device of that name in the current network namespace.
    #[error("network device `{device}` does not exist in this network namespace")]
    NoSuchDevice {
        /// Device name.
        device: String,
    },
    /// The device is administratively down.
    #[error("network device `{device}` is down; set it up first (`ip link set {device} up`)")]
    DeviceDown {
        /// Device name.
        device: String,
    },
    /// Another AF_XDP socket is bound to the queue.
    #[error(
        "queue {queue} of `{device}` already has an AF_XDP socket; stop the process that owns it, \
         or try again when the port was closed a moment ago: the kernel frees the queue later"
    )]
    QueueBusy {
        /// Device name.
        device: String,
        /// Queue index.
        queue: u32,
    },
    /// Another UMEM of a Shunt daemon is anchored in this network namespace.
    #[error(
        "queue 0 of `lo`, where the UMEM is anchored, already has an AF_XDP socket: another Shunt \
         daemon runs in this network namespace; stop it first"
    )]
    AnchorBusy,
    /// The pool cannot fill the receive quota.
    #[error(
        "`{device}` queue {queue} needs {needed} UMEM chunks for receiving but only {available} \
         are free; raise the number of chunks or lower rx_frames"
    )]
    PoolTooSmall {
        /// Device name.
        device: String,
        /// Queue index.
        queue: u32,
        /// Chunks needed.
        needed: u32,
        /// Chunks obtained.
        available: u32,
    },
    /// A capability is missing.
    #[error("{operation} on `{device}` is not permitted; the process needs {capability}")]
    Permission {
        /// What was tried.
        operation: &'static str,
        /// Device name.
        device: String,
        /// The capability that allows it.
        capability: &'static str,
    },
    /// The device carries an XDP program that is not ours; it is never replaced.
    #[error(
        "`{device}` already carries the XDP program `{name}` (id {id}), which is not replaced; \
         stop its owner, detach it (`bpftool link detach` when a BPF link holds it, `ip link set \
         dev {device} xdp off` otherwise) or choose another device"
    )]
    ForeignProgram {
        /// Device name.
        device: String,
        /// The program's name; empty when the kernel does not tell.
        name: String,
        /// The program's id.
        id: u32,
    },
    /// The kernel refused to load the XDP program.
    #[error("the kernel refused the XDP program `{name}`: {source}\n{log}")]
    Program {
        /// Program name.
        name: &'static str,
        /// The verifier's log.
        log: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The XDP program could not be attached in the mode that was asked for.
    #[error(
        "cannot attach an XDP program to `{device}` in {mode} mode: {source}; try another XDP \
         mode or a smaller MTU"
    )]
    Attach {
        /// Device name.
        device: String,
        /// The mode tried.
        mode: XdpMode,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `set_pinhole` on a device that was not opened as an uplink.
    #[error("`{device}` was not opened as an uplink, it has no pinhole to set")]
    NotAnUplink {
        /// Device name.
        device: String,
    },
    /// Any other refusal of the kernel.
    #[error("{operation} failed on `{device}`: {source}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// Device name.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Maps the kernel's answer to an operation on a device to the error that names the remedy.
    pub(crate) fn from_kernel(
        operation: &'static str,
        device: &str,
        capability: &'static str,
        source: impl Into<io::Error>,
    ) -> Self {
        let source = source.into();
        let device = device.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission {
                operation,
                device,
                capability,
            },
            Some(libc::ENODEV | libc::ENXIO) => Self::NoSuchDevice { device },
            Some(libc::ENETDOWN) => Self::DeviceDown { device },
            _ => Self::Kernel {
                operation,
                device,
                source,
            },
        }
    }
}
