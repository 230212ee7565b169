//! The command line: arguments ([`Cli`]), requests to a running daemon ([`ask`]), and tables.

mod args;
mod ask;
mod render;

pub use args::{Cli, Command, EncapArg, FdbCommand, KindArg, NeighCommand, PortAdd, PortCommand};
pub use args::{RouteAdd, RouteCommand};
pub use ask::{AskError, ask};
