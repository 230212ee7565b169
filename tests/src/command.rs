//! Running the system's tools (`ip`, `ethtool`, `tshark`, ...) and reporting their failures.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command to its end and returns what it printed on standard output.
///
/// It has a process group of its own: Ctrl-C reaches only the caller, whose clean-up must not
/// lose its tools to a second Ctrl-C.
///
/// # Errors
/// When it cannot be started (the message names the missing program) or exits non-zero (the
/// message has the whole command line and its standard error).
pub fn run(argv: &[&str]) -> Result<String> {
    let (program, arguments) = argv.split_first().context("empty command line")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .process_group(0)
        .output()
        .with_context(|| {
            format!("cannot start `{program}`: scripts/install-deps.sh installs it")
        })?;
    if !output.status.success() {
        bail!(
            "`{}`: {}: {}{}",
            argv.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            String::from_utf8_lossy(&output.stdout).trim(),
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// [`run`] with the words of one line: for commands without blanks inside arguments.
///
/// # Errors
/// As [`run`].
pub fn sh(line: &str) -> Result<String> {
    run(&line.split_whitespace().collect::<Vec<_>>())
}
