//! Network namespaces for the tests of this crate: nameless, so that they vanish with their
//! descriptor, however a test ends.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::netns::in_netns;

/// A network namespace of its own with `lo` up and IPv6 off (no traffic but the test's).
pub(crate) struct TestNetns(File);

impl TestNetns {
    pub(crate) fn new() -> Self {
        let namespace = std::thread::spawn(|| {
            // SAFETY: needed because there is no other way to make a namespace without a name.
            // CLONE_NEWNET alone changes nothing of this thread but its network namespace: the
            // descriptor table stays shared, which is what makes other flags unsafe.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                .expect("unshare(CLONE_NEWNET): these tests take root");
            for of in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6"), "1")
                    .expect("disable_ipv6");
            }
            File::open("/proc/thread-self/ns/net").expect("own namespace")
        })
        .join()
        .expect("the thread that makes the namespace");
        let netns = Self(namespace);
        netns.ip("link set lo up");
        netns
    }

    /// A path that `setns` and `ip link set netns` take, while this value lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        in_netns(&self.path(), f).expect("namespace")
    }

    /// Runs `ip WORDS` inside; panics with its message when it fails.
    pub(crate) fn ip(&self, words: &str) -> String {
        self.command("ip", &words.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> String {
        let output = self
            .run(|| Command::new(program).args(arguments).output())
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(
            output.status.success(),
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes the link `name` with these words for `ip link add`: one end of a veth whose other end,
    /// `name` with a `p` behind it, is in the same namespace. Both are down.
    pub(crate) fn link(&self, name: &str, words: &str) {
        self.ip(&format!(
            "link add {name} {words} type veth peer name {name}p"
        ));
    }

    /// Two namespaces joined by a veth: `v0` with 10.9.0.1/24 and 02:00:00:00:00:01 in the first,
    /// `v1` with 10.9.0.2/24 and 02:00:00:00:00:02 in the second, both up.
    pub(crate) fn veth_pair() -> (Self, Self) {
        let (a, b) = (Self::new(), Self::new());
        a.ip(&format!(
            "link add v0 address 02:00:00:00:00:01 type veth \
             peer name v1 address 02:00:00:00:00:02 netns {}",
            b.path().display()
        ));
        a.ip("addr add 10.9.0.1/24 dev v0");
        b.ip("addr add 10.9.0.2/24 dev v1");
        a.ip("link set v0 up");
        b.ip("link set v1 up");
        (a, b)
    }
}

/// Makes the kernel cut what is sent on `socket` into datagrams of `size` bytes each
/// (`UDP_SEGMENT`, udp(7)).
pub(crate) fn cut_into(socket: &std::net::UdpSocket, size: libc::c_int) {
    // SAFETY: the kernel reads the one number that `size` is; the socket is borrowed, so open.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            std::ptr::from_ref(&size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    assert_eq!(done, 0, "UDP_SEGMENT");
}
