//! A safe layer over AF_XDP: packet memory, rings, sockets, devices and XDP programs.
//!
//! ```text
//! custody of a chunk:  Pool -> Fill -> Rx -> Frame -> Tx -> Completion -> Pool
//! ```
//!
//! - [`Umem`] is the packet memory, shared by all sockets, so that forwarding copies nothing.
//! - [`Frame`] is unique ownership of a frame in it; [`Pool`] is where free chunks come from.
//! - [`Socket`] is one queue of a device, [`Device`] all its queues and its XDP program.
//!
//! Sockets work in copy mode, the only one of veth; zero-copy of NICs that support it is not asked
//! for yet. The kernel copies what it receives to the UMEM, and what it sends from there, except to
//! devices that take an skb without a linear part (`IFF_TX_SKB_NO_LINEAR`, such as virtio_net):
//! those read a frame in the UMEM until its completion.
#![warn(missing_docs)]

mod device;
mod error;
mod frame;
mod ledger;
mod pool;
pub mod program;
pub mod ring;
mod shared;
mod socket;
mod sys;
mod umem;
mod undertaker;

pub use device::{Device, DeviceConfig, ModeChoice, XdpMode};
pub use error::Error;
pub use frame::{Csum, Frame, MAX_SEGMENTS, Offload};
pub use pool::Pool;
pub use program::{MAX_DIRECT, Pinhole, ProgramKind};
pub use socket::{Closed, MAX_TX_SEGMENTS, Sent, Socket, SocketConfig, Statistics};
pub use umem::{Umem, UmemConfig, XDP_PACKET_HEADROOM};
