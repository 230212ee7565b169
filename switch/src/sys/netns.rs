//! Work in other network namespaces.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Calls `f` on a thread of its own inside the network namespace `path` (such as
/// `/run/netns/pod1` or `/proc/PID/ns/net`) and returns what it returned. Sockets and devices that
/// `f` opens stay in that namespace. The calling thread never leaves its own, so that nothing has
/// to be undone.
///
/// # Errors
/// When the namespace cannot be opened or entered; the message names the path and the remedy.
///
/// # Panics
/// When `f` does.
pub fn in_netns<T: Send>(path: &Path, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                enter(path).map_err(|error| explain(path, &error))?;
                Ok(f())
            })?;
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(path: &Path) -> io::Result<()> {
    // A FIFO at this path would otherwise keep the thread until somebody writes to it.
    let namespace = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    Ok(move_into_link_name_space(
        namespace.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

fn explain(path: &Path, error: &io::Error) -> io::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT) => "; it does not exist (any more)",
        Some(libc::EPERM | libc::EACCES) => "; the process needs CAP_SYS_ADMIN",
        Some(libc::EINVAL | libc::ENOTTY) => {
            "; it is no network namespace: give a path such as /run/netns/NAME"
        }
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!(
            "cannot enter the network namespace `{}`: {error}{remedy}",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sys::testing::TestNetns;

    fn own_namespace() -> String {
        std::fs::read_link("/proc/thread-self/ns/net")
            .unwrap()
            .display()
            .to_string()
    }

    #[test]
    fn the_closure_runs_inside_and_the_caller_stays_outside() {
        let netns = TestNetns::new();
        let before = own_namespace();
        let inside = in_netns(&netns.path(), own_namespace).unwrap();
        assert_ne!(inside, before);
        assert_eq!(in_netns(&netns.path(), own_namespace).unwrap(), inside);
        assert_eq!(own_namespace(), before);
    }

    #[test]
    fn errors_name_the_path_and_the_remedy() {
        let missing = in_netns(Path::new("/run/netns/no-such-ns"), || ()).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(
            missing.to_string().contains("/run/netns/no-such-ns"),
            "{missing}"
        );

        let file = tempfile_descriptor();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let wrong = in_netns(Path::new(&path), || ()).unwrap_err();
        assert!(
            wrong.to_string().contains("no network namespace"),
            "{wrong}"
        );
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let directory = std::env::temp_dir().join(format!("shunt-fifo-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("fifo");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        let fifo = path.clone();
        thread::spawn(move || answer.send(in_netns(&fifo, || ())));
        let result = answered.recv_timeout(std::time::Duration::from_secs(5));
        std::fs::remove_dir_all(&directory).unwrap();
        let error = result.expect("an answer at once").unwrap_err();
        assert!(
            error.to_string().contains("no network namespace"),
            "{error}"
        );
    }

    fn tempfile_descriptor() -> std::os::fd::OwnedFd {
        rustix::fs::memfd_create("not-a-namespace", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    #[should_panic(expected = "passed on")]
    fn a_panic_inside_reaches_the_caller() {
        let netns = TestNetns::new();
        let _ = in_netns(&netns.path(), || panic!("passed on"));
    }
}
