//! Work in other network namespaces.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags, fstat, fstatfs, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The magic number of nsfs (include/uapi/linux/magic.h).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
/// `_IO(0xb7, 0x3)`, include/uapi/linux/nsfs.h.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

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
    inside(|| enter(path).map_err(|error| explain(path, &error)), f)
}

/// A network namespace, held open: it stays alive as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: OwnedFd,
    device: u64,
    inode: u64,
}

impl Netns {
    /// Opens the network namespace at `path`. `None` when something else is there; that is looked
    /// at and not opened, whatever it is: FIFOs would wait for a writer, and devices act.
    ///
    /// # Errors
    /// As `open(2)`: `NotFound` when nothing is there.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let there = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if fstatfs(&there)?.f_type != NSFS_MAGIC {
            return Ok(None);
        }
        // `setns` takes no descriptor of the kind above.
        let again = format!("/proc/thread-self/fd/{}", there.as_raw_fd());
        let file = open(
            again,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        if kind(file.as_fd())? != libc::CLONE_NEWNET {
            return Ok(None);
        }
        let stat = fstat(&file)?;
        Ok(Some(Self {
            file,
            device: stat.st_dev,
            inode: stat.st_ino,
        }))
    }

    /// That of the calling thread.
    ///
    /// # Errors
    /// As `open(2)`, when /proc is missing.
    pub fn of_this_thread() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))?
            .ok_or_else(|| io::Error::other("/proc/thread-self/ns/net is no network namespace"))
    }

    /// Device and inode of its file: no other has the same while it lives.
    pub fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Calls `f` inside, as [`in_netns`] does.
    ///
    /// # Errors
    /// When it cannot be entered: `CAP_SYS_ADMIN` is needed.
    ///
    /// # Panics
    /// When `f` does.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        let enter = || {
            move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(io::Error::from)
        };
        inside(enter, f)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Which kind of namespace a file of nsfs is: a `CLONE_NEW*` (`NS_GET_NSTYPE`, ioctl_nsfs(2)).
fn kind(file: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: needed because no safe wrapper knows this request. It has no argument and answers
    // with a number; the descriptor is borrowed, so it is open.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(kind)
    }
}

fn inside<T: Send>(
    enter: impl FnOnce() -> io::Result<()> + Send,
    f: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                enter()?;
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

    #[test]
    fn a_namespace_is_known_by_its_file_and_nothing_else_is_opened() {
        let (one, other) = (TestNetns::new(), TestNetns::new());
        let netns = Netns::open(&one.path()).unwrap().unwrap();
        let inside = netns.run(|| Netns::of_this_thread().unwrap().id()).unwrap();
        assert_eq!(inside, netns.id());
        assert_eq!(netns.run(own_namespace).unwrap(), one.run(own_namespace));
        let second = Netns::open(&other.path()).unwrap().unwrap();
        assert_ne!(second.id(), netns.id());
        assert_ne!(Netns::of_this_thread().unwrap().id(), netns.id());
        // Found again after a detour.
        let detour = Path::new("/proc/self/fd/../ns/../ns/net");
        let own = Netns::open(detour).unwrap().unwrap().id();
        assert_eq!(
            own,
            in_netns(detour, || Netns::of_this_thread().unwrap().id()).unwrap()
        );
        for wrong in [
            "/etc/hostname",
            "/",
            "/dev/null",
            "/proc/self/ns/mnt",
            "/proc/self/stat",
        ] {
            assert!(Netns::open(Path::new(wrong)).unwrap().is_none(), "{wrong}");
        }
        let missing = Netns::open(Path::new("/run/netns/no-such-ns")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
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
