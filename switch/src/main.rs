//! `shunt`: the daemon and the commands that ask it.

#![forbid(unsafe_code)]

use std::io::{ErrorKind, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use shunt_api::DEFAULT_SOCKET;
use shunt_switch::cli::{AskError, Cli, Command, ask};
use shunt_switch::cni::{self, CniError};
use shunt_switch::config::Config;

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let ask_error = error.downcast_ref::<AskError>();
            // Whoever reads our output has had enough, as in `shunt port list | head -1`.
            if let Some(AskError::Output(error)) = ask_error
                && error.kind() == ErrorKind::BrokenPipe
            {
                return ExitCode::SUCCESS;
            }
            // Each error of ours has its cause in its own text.
            eprintln!("shunt: {error}");
            let cni_error = error.downcast_ref::<CniError>();
            ask_error
                .map(AskError::exit_code)
                .or(cni_error.map(CniError::exit_code))
                .map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    let Cli {
        socket,
        json,
        command,
    } = cli;
    match command {
        Command::Run { config } => run(&config, socket),
        Command::Check { config } => {
            Config::load(&config)?;
            println!("ok");
            Ok(())
        }
        Command::Cni(command) => {
            cni::run(&command, socket.as_deref(), &mut stdout(), &mut stderr())?;
            Ok(())
        }
        command => {
            let socket = socket.unwrap_or_else(|| DEFAULT_SOCKET.into());
            if let Some(request) = command.request() {
                ask(&request, &socket, json, &mut stdout())?;
            }
            Ok(())
        }
    }
}

/// The daemon, until a signal ends it.
fn run(config: &Path, socket: Option<PathBuf>) -> anyhow::Result<()> {
    let level = env_logger::Env::default().default_filter_or("info");
    env_logger::Builder::from_env(level).init();
    let mut config = Config::load(config)?;
    if let Some(socket) = socket {
        config.socket = socket;
    }
    shunt_switch::control::run(config)?;
    Ok(())
}
