//! Pods as a container runtime makes them: the CNI plugin executed beside a running daemon.
//!
//! ```no_run
//! use shunt_tests::cni::{CniNode, CniPod, Options};
//! use shunt_tests::testbed::Testbed;
//!
//! fn main() -> anyhow::Result<()> {
//!     let _testbed = Testbed::acquire()?;
//!     let node = CniNode::lone(&Options::default())?;
//!     let runtime = node.runtime(node.network());
//!     let pod = CniPod::add(&runtime, "web")?;
//!     println!("{}", pod.address()?);
//!     runtime.del(&pod.container)?;
//!     node.must_be_clean()
//! }
//! ```

mod invocation;
mod leases;
mod network;
mod node;
mod plugins;
mod pod;
mod runtime;

pub use invocation::{CniError, Invocation, Outcome, Running};
pub use leases::{Lease, Leases};
pub use network::{Network, fixed, host_local};
pub use node::{CniNode, Options};
pub use plugins::{Plugins, STOCK};
pub use pod::CniPod;
pub use runtime::{Container, Runtime};
