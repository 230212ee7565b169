//! What routers on the way say: traceroute(8), tracepath(8), and the errors that ping(8) prints.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;

/// An ICMP or ICMPv6 error as ping prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who sent it.
    pub by: IpAddr,
    /// In ping's words: `Destination Host Unreachable`.
    pub what: String,
}

/// What ping printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// Echo replies.
    pub replies: usize,
    /// Errors from the network, in order.
    pub errors: Vec<Told>,
    /// All that it printed.
    pub text: String,
}

/// Runs ping with these words, for example `-c 1 -t 1 10.244.2.11`. The destination is text, for
/// the sake of zones (`fe80::1%eth0`).
///
/// # Errors
/// When ping cannot be started.
pub fn ping_words(from: &Netns, words: &str) -> Result<Answers> {
    // ping exits non-zero without replies, and complains of packets that it could not even send
    // on standard error: both are findings.
    let line = format!("ping -n {words} 2>&1 || true");
    Ok(answers(from.run(&["sh", "-c", &line])?))
}

fn answers(text: String) -> Answers {
    let replies = text
        .lines()
        .filter(|line| line.contains(" bytes from "))
        .count();
    let errors = text.lines().filter_map(told).collect();
    Answers {
        replies,
        errors,
        text,
    }
}

/// `From 192.168.77.1 icmp_seq=1 Time to live exceeded`.
fn told(line: &str) -> Option<Told> {
    let (by, rest) = line.strip_prefix("From ")?.split_once(' ')?;
    let (_, what) = rest.strip_prefix("icmp_seq=")?.split_once(' ')?;
    Some(Told {
        by: address(by)?,
        what: what.trim().to_owned(),
    })
}

/// An address, its zone left out.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_end_matches(':');
    let (address, _zone) = text.split_once('%').unwrap_or((text, ""));
    address.parse().ok()
}

/// Demands that ping with these words gets exactly one answer, this error.
///
/// # Errors
/// When it gets another, none, or a reply.
pub fn must_be_told(from: &Netns, words: &str, by: impl Into<IpAddr>, what: &str) -> Result<()> {
    let expected = Told {
        by: by.into(),
        what: what.to_owned(),
    };
    let seen = ping_words(from, words)?;
    ensure!(
        seen.replies == 0 && seen.errors == [expected.clone()],
        "ping {words} in {} should have got {expected:?}:\n{}",
        from.name(),
        seen.text
    );
    Ok(())
}

/// Who is at each hop to a destination, by UDP packets with rising hop limits; `None` where nobody
/// answers. It ends at the destination, or with the first four hops. Before the destination there
/// may be options, for example `-s fd00::1`.
///
/// # Errors
/// When traceroute fails or prints something else.
pub fn traceroute(from: &Netns, to: &str) -> Result<Vec<Option<IpAddr>>> {
    let line = format!("traceroute -n -q 1 -N 1 -w 2 -m 4 {to}");
    let argv: Vec<&str> = line.split_whitespace().collect();
    hops(&from.run(&argv)?)
}

fn hops(text: &str) -> Result<Vec<Option<IpAddr>>> {
    text.lines()
        .skip(1)
        .map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let who = words
                .next()
                .with_context(|| format!("traceroute printed: {text}"))?;
            if who == "*" {
                return Ok(None);
            }
            address(who)
                .map(Some)
                .with_context(|| format!("traceroute printed: {text}"))
        })
        .collect()
}

/// Demands these hops on the way.
///
/// # Errors
/// When there are others; the message has both.
pub fn must_trace(from: &Netns, to: &str, expected: &[IpAddr]) -> Result<()> {
    let seen = traceroute(from, to)?;
    let wanted: Vec<_> = expected.iter().copied().map(Some).collect();
    ensure!(
        seen == wanted,
        "traceroute {} -> {to}: {seen:?} instead of {wanted:?}",
        from.name()
    );
    Ok(())
}

/// The path's MTU in bytes and the number of hops, as tracepath finds them.
///
/// # Errors
/// When it does not reach the destination.
pub fn tracepath(from: &Netns, to: IpAddr) -> Result<(u32, u32)> {
    let text = from.run(&["tracepath", "-n", "-m", "6", &to.to_string()])?;
    resume(&text).with_context(|| format!("tracepath {} -> {to} printed: {text}", from.name()))
}

fn resume(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().find(|line| line.contains("Resume:"))?;
    let after = |name: &str| -> Option<u32> {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1)?.parse().ok()
    };
    text.contains("reached").then_some(())?;
    Some((after("pmtu")?, after("hops")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn errors_are_read() {
        let text = "PING 10.0.0.1 (10.0.0.1) 1472(1500) bytes of data.\n\
                    From 192.168.77.1 icmp_seq=1 Frag needed and DF set (mtu = 1450)\n\
                    From fe80::1%eth0 icmp_seq=2 Destination unreachable: No route\n\
                    64 bytes from 10.0.0.1: icmp_seq=3 ttl=61 time=0.1 ms\n\
                    ping: local error: message too long, mtu=1450\n";
        let seen = answers(text.to_owned());
        assert_eq!(seen.replies, 1);
        let told: Vec<_> = seen.errors.into_iter().map(|e| (e.by, e.what)).collect();
        assert_eq!(
            told,
            [
                (
                    ip("192.168.77.1"),
                    "Frag needed and DF set (mtu = 1450)".to_owned()
                ),
                (
                    ip("fe80::1"),
                    "Destination unreachable: No route".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn hops_are_read() {
        let text = "traceroute to 10.0.0.9 (10.0.0.9), 4 hops max, 60 byte packets\n \
                    1  192.168.77.1  0.021 ms\n 2  *\n 3  fe80::1%shunt0  0.4 ms !N\n";
        assert_eq!(
            hops(text).unwrap(),
            [Some(ip("192.168.77.1")), None, Some(ip("fe80::1"))]
        );
        assert!(hops("x\n 1  nonsense\n").is_err());
    }

    #[test]
    fn tracepaths_are_read() {
        let text = " 1?: [LOCALHOST]                      pmtu 1500\n \
                    3:  10.244.2.11      0.1ms reached\n     Resume: pmtu 1450 hops 3 back 3 \n";
        assert_eq!(resume(text), Some((1450, 3)));
        assert_eq!(resume("     Resume: pmtu 1450 \n"), None);
    }
}
