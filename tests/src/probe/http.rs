//! HTTP by programs that know nothing of these tests.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{must_see, pattern};
use crate::netns::Netns;
use crate::pod::Pod;

/// `python3 -m http.server` for either family, without its look-up of its own name, which waits
/// for a name server.
const HTTP_SERVER: &str = "\
import functools, http.server, socket, socketserver, sys
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
    allow_reuse_address = True
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[2])
server = Server((sys.argv[1], 8000), handler)
print('serving')
server.serve_forever()
";

/// [`http`] between two pods; the server must see the client's own address.
///
/// # Errors
/// As [`http`], and when the server sees another address.
pub fn must_http(from: &Pod, to: &Pod) -> Result<()> {
    let seen = http(&from.netns, (&to.netns, to.address))?;
    must_see(from, seen, &to.name)
}

/// What curl(1) in a namespace prints of `url`, in `seconds` at most; `options` are further ones.
///
/// # Errors
/// When there is no answer in time, or one that is no success.
pub fn curl(from: &Netns, seconds: u32, options: &[&str], url: &str) -> Result<String> {
    let seconds = seconds.to_string();
    let always = [
        "curl",
        "--noproxy",
        "*",
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        &seconds,
    ];
    from.run(&[&always, options, &[url]].concat())
}

/// Fetches 1 MiB by curl(1) from Python's `http.server` and compares it; returns the client's
/// address that the server logged.
///
/// # Errors
/// When the server does not start, the fetch fails, or the bytes differ.
pub fn http(from: &Netns, to: (&Netns, impl Into<IpAddr>)) -> Result<IpAddr> {
    let address = to.1.into();
    let what = || format!("HTTP {} -> {address}", from.name());
    let folder = tempfile::tempdir()?;
    let body: Vec<u8> = pattern().into_iter().cycle().take(1 << 20).collect();
    std::fs::write(folder.path().join("blob"), &body)?;
    let root = folder.path().to_str().context("temporary folder")?;
    let text = address.to_string();
    let mut server =
        to.0.start(&["/usr/bin/python3", "-u", "-c", HTTP_SERVER, &text, root])?;
    server.wait_output(Duration::from_secs(10), |text| text.contains("serving"))?;
    let copy = folder.path().join("copy");
    let url = format!("http://{}/blob", SocketAddr::new(address, 8000));
    curl(
        from,
        20,
        &["--output", copy.to_str().context("temporary folder")?],
        &url,
    )
    .with_context(what)?;
    ensure!(std::fs::read(&copy)? == body, "{}: bytes differ", what());
    // A line of its log: `ADDRESS - - [DATE] "GET /blob HTTP/1.1" 200 -`.
    let log = server.output();
    let client = log
        .lines()
        .filter(|line| line.contains("GET /blob"))
        .find_map(|line| line.split_whitespace().next()?.parse().ok());
    match client {
        Some(client) => Ok(client),
        None => bail!("{}: the server logged {log}", what()),
    }
}
