//! The command line: arguments ([`Cli`]), requests to a running daemon ([`ask`]), and tables.

mod args;
mod ask;
mod render;

pub use args::{Cli, Command, EncapArg, FdbCommand, FlowCommand, KindArg, NeighCommand, PortAdd};
pub use args::{PortCommand, RouteAdd, RouteCommand};
pub use ask::{AskError, ask};
