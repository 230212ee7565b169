//! A real container runtime: containerd and runc, driven over the CRI as the kubelet does.
//!
//! ```no_run
//! use shunt_tests::cri::{Containerd, CriPod};
//! use shunt_tests::netns::Netns;
//!
//! fn main() -> anyhow::Result<()> {
//!     let node = Netns::new("node1")?;
//!     let containerd = Containerd::start(&node, "/usr/lib/cni".as_ref())?;
//!     std::fs::write(containerd.conf_dir().join("10-net.conflist"), "...")?;
//!     containerd.wait_network()?;
//!     let web = CriPod::run(&containerd, "web")?;
//!     let client = CriPod::run(&containerd, "client")?;
//!     client.must_fetch(&containerd, &web)?;
//!     web.remove(&containerd)?;
//!     client.remove(&containerd)
//! }
//! ```

mod client;
mod containerd;
mod image;
pub mod messages;
mod pod;
mod remains;

pub use client::{Cri, Exec, Sandbox};
pub use containerd::Containerd;
pub use image::{BUSYBOX, PAUSE};
pub use pod::{CriPod, PORT, sandbox_config};
