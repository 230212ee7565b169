//! Another program, with bounds: on its time and on what it prints.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Bytes that a program may print.
pub(crate) const MAX_OUTPUT: usize = 1 << 20;
/// Bytes read at a time.
const CHUNK: usize = 16 << 10;

/// Why a program's answer cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It could not be run, or talked to.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It did not end in time.
    #[error("no end within {0:?}, so it was killed")]
    Timeout(Duration),
    /// It printed too much.
    #[error("it printed more than {MAX_OUTPUT} bytes, so it was killed")]
    TooMuch,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// What it printed.
    pub(crate) stdout: Vec<u8>,
}

/// Runs a program with these variables beside our own and this input; its errors go where ours go.
/// What it leaves running in the background is not waited for; when it does not end in time, it is
/// killed with its process group.
///
/// # Errors
/// See [`Failure`]; then nothing of it runs any more.
pub(crate) fn run<'a>(
    program: &Path,
    variables: impl IntoIterator<Item = (&'a str, &'a OsStr)>,
    input: &[u8],
    patience: Duration,
) -> Result<Ended, Failure> {
    let mut child = Command::new(program)
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let talked = talk(&mut child, input, patience);
    if talked.is_err() {
        // It has not been waited for, so the number is still its own.
        if let Some(pid) = pid(&child) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
    let status = child.wait()?;
    talked.map(|stdout| Ended { status, stdout })
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Gives it the input and takes its output until it ends.
fn talk(child: &mut Child, mut input: &[u8], patience: Duration) -> Result<Vec<u8>, Failure> {
    let deadline = Instant::now() + patience;
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    if let Some(stdin) = &stdin {
        unblock(stdin)?;
    }
    if let Some(stdout) = &stdout {
        unblock(stdout)?;
    }
    let end = pid(child)
        .ok_or(io::ErrorKind::NotFound)
        .map_err(io::Error::from)?;
    let end = pidfd_open(end, PidfdFlags::empty()).map_err(io::Error::from)?;
    let mut output = Vec::new();
    loop {
        give(&mut stdin, &mut input)?;
        let ended = wait(stdin.as_ref(), stdout.as_ref(), &end, deadline, patience)?;
        // After the look at its end: what it printed before that is all there.
        take(&mut stdout, &mut output)?;
        if ended {
            return Ok(output);
        }
    }
}

fn unblock(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    Ok(fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// Writes what can be written. A program need not read its input.
fn give(stdin: &mut Option<ChildStdin>, input: &mut &[u8]) -> io::Result<()> {
    while let Some(pipe) = stdin {
        if input.is_empty() {
            *stdin = None;
            break;
        }
        match pipe.write(input) {
            Ok(written) => *input = input.get(written..).unwrap_or_default(),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => break,
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::BrokenPipe => *stdin = None,
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

/// Reads what there is.
fn take(stdout: &mut Option<ChildStdout>, output: &mut Vec<u8>) -> Result<(), Failure> {
    let mut chunk = [0; CHUNK];
    while let Some(pipe) = stdout {
        match pipe.read(&mut chunk) {
            Ok(0) => *stdout = None,
            Ok(read) => output.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => break,
                io::ErrorKind::Interrupted => {}
                _ => return Err(error.into()),
            },
        }
        if output.len() > MAX_OUTPUT {
            return Err(Failure::TooMuch);
        }
    }
    Ok(())
}

/// Waits until something can be done; true when the program has ended.
fn wait(
    stdin: Option<&ChildStdin>,
    stdout: Option<&ChildStdout>,
    end: &OwnedFd,
    deadline: Instant,
    patience: Duration,
) -> Result<bool, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Failure::Timeout(patience));
    }
    let mut polled = vec![PollFd::new(end, PollFlags::IN)];
    polled.extend(stdin.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    polled.extend(stdout.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(io::Error::from(error).into()),
    }
    let ended = polled.first().map(|end| !end.revents().is_empty());
    Ok(ended.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line for the shell.
    fn shell(line: &str, input: &[u8], patience: Duration) -> Result<Ended, Failure> {
        // The line comes by a variable, as the programs that are run here take no arguments.
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        std::os::unix::fs::symlink(
            env!("CARGO_MANIFEST_DIR").to_owned() + "/tests/line.sh",
            &program,
        )
        .expect("a link");
        run(&program, [("LINE", OsStr::new(line))], input, patience)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn large_input_comes_back() {
        let input = vec![b'x'; 900_000];
        let ended = shell("cat", &input, LONG).expect("it ran");
        assert!(ended.status.success());
        assert!(ended.stdout == input);
    }

    #[test]
    fn input_need_not_be_read() {
        let ended = shell("echo fine; exit 3", &vec![b'x'; 900_000], LONG).expect("it ran");
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.stdout, b"fine\n");
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let folder = tempfile::tempdir().expect("a folder");
        let alive = folder.path().join("alive");
        let line = format!("(sleep 1; touch {}) & sleep 30", alive.display());
        let failure = shell(&line, b"", Duration::from_millis(200)).expect_err("it hangs");
        assert!(matches!(failure, Failure::Timeout(_)), "{failure}");
        assert!(start.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(1200));
        assert!(!alive.exists(), "a child went on");
    }

    #[test]
    fn what_it_leaves_in_the_background_is_not_waited_for() {
        let start = Instant::now();
        let ended = shell("sleep 3 & echo done", b"", LONG).expect("it ran");
        assert_eq!(ended.stdout, b"done\n");
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn output_that_is_closed_is_not_the_end() {
        let ended = shell("exec >&-; sleep 0.2; exit 4", b"", LONG).expect("it ran");
        assert_eq!(ended.status.code(), Some(4));
        let hangs = shell("exec >&- <&-; sleep 30", b"", Duration::from_millis(200));
        assert!(matches!(hangs, Err(Failure::Timeout(_))));
    }

    #[test]
    fn endless_output_is_cut_off() {
        let failure = shell(
            "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
            b"",
            LONG,
        );
        assert!(matches!(failure, Err(Failure::TooMuch)));
    }

    #[test]
    fn what_does_not_exist_is_an_error() {
        let none = run(Path::new("/nowhere/program"), [], b"", LONG);
        assert!(matches!(none, Err(Failure::Io(_))));
    }
}
