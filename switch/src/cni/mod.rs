//! Putting Shunt under a container runtime: `shunt cni`.
//!
//! A runtime loads the network configurations of a folder (`/etc/cni/net.d`) whenever something
//! changes there, and runs the plugins of another (`/opt/cni/bin`). So a file is there whole or not
//! at all (`place`), the plugin before the configuration that names it, and away after it.
//!
//! - `args`: what the user says.
//! - `conflist`: the configuration list that is written.
//! - `folder`: what a runtime sees in the folder of configurations, by its own rules.
//! - `place`: whole files, also after a crash.
//! - `plugin`: which versions of the protocol a plugin speaks.
//! - `install`: all of it together.

mod args;
mod conflist;
mod folder;
mod install;
mod place;
mod plugin;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use shunt_api::{Client, ClientError, DEFAULT_SOCKET};

use self::conflist::{Conflist, Subnet};
use self::install::Report;

pub use self::args::{CniCommand, ConflistArgs, InstallArgs, PodPort, RemoveArgs};

/// The plugin's `type` in configurations, and the name of its binary.
pub const PLUGIN: &str = "shunt-cni";

/// Why nothing was put in place or removed, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// The daemon does not tell the subnets.
    #[error("{0}; or name the pods' subnets by --subnet")]
    Daemon(ClientError),
    /// The options do not go together.
    #[error("{0}")]
    Options(String),
    /// The folder's other configurations, or the plugin's binary, are in the way.
    #[error("{0}")]
    Refused(String),
    /// The file system refused.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The report cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl CniError {
    /// The program's exit code, as those of the other commands.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Options(_) => 2,
            Self::Daemon(error) if !matches!(error, ClientError::Refused(_)) => 3,
            _ => 1,
        }
    }

    fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::File {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// Carries a command out. What was done goes to `out`, a line each, warnings to `warnings`.
/// `socket` is the daemon's control socket where the user names one.
///
/// # Errors
/// See [`CniError`]. A configuration is never left half written, and none without its plugin.
pub fn run(
    command: &CniCommand,
    socket: Option<&Path>,
    out: &mut dyn Write,
    warnings: &mut dyn Write,
) -> Result<(), CniError> {
    let report = match command {
        CniCommand::Print(conflist) => {
            let conflist = self::conflist(conflist, socket)?;
            out.write_all(conflist.text()?.as_bytes())?;
            return Ok(());
        }
        CniCommand::Install(install) => {
            let conflist = self::conflist(&install.conflist, socket)?;
            install::install(install, &conflist)?
        }
        CniCommand::Remove(remove) => install::remove(remove)?,
    };
    let Report {
        done,
        warnings: warned,
    } = report;
    for line in done {
        writeln!(out, "{line}")?;
    }
    for line in warned {
        writeln!(warnings, "shunt: warning: {line}")?;
    }
    Ok(())
}

/// The configuration list that the user asks for; the daemon is asked for subnets if he names none.
fn conflist(args: &ConflistArgs, socket: Option<&Path>) -> Result<Conflist, CniError> {
    let subnets = if args.subnets.is_empty() {
        let socket = socket.unwrap_or(Path::new(DEFAULT_SOCKET));
        let status = Client::connect(socket)
            .and_then(|mut client| client.status())
            .map_err(CniError::Daemon)?;
        Subnet::of_node(&status)
    } else {
        args.subnets.iter().copied().map(Subnet::new).collect()
    };
    Conflist::new(args, subnets, socket)
}
