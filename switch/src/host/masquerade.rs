//! Pods talk to the outside with the node's address: a table of nftables (nft(8)) of our own, made,
//! replaced and removed whole, each in one transaction.
//!
//! It looks only at packets that came in by the host device from a pod. Those to other pods, to
//! nodes and to configured destinations keep the pod's address; the rest get the node's, and a
//! source port that cannot be guessed and on which two new connections seldom meet
//! (`fully-random`; a clash costs the packet, and for UDP that is a lookup of a name).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{HostError, HostSettings};

/// The table's family and name.
pub const TABLE: &str = "inet shunt";

/// How long `nft` may take: a table of 5,000 nodes takes it some tens of milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// The rule that does it, as `nft list` writes it.
const VERDICT: &str = "masquerade fully-random";

/// Makes nothing when there is one, so that deleting is no error when there is none.
const REMOVE: &str = "table inet shunt\ndelete table inet shunt\n";

/// The table as it should be and as it was loaded.
#[derive(Debug)]
pub(super) struct Masquerade {
    nft: Nft,
    device: String,
    own: Vec<IpAddr>,
    /// Whose packets take the node's address: the pods'.
    pods: Vec<IpNet>,
    /// The cluster's CIDRs, by family as far as they are given.
    cluster: Vec<IpNet>,
    direct: Vec<IpNet>,
    loaded: Option<String>,
}

impl Masquerade {
    pub(super) fn new(nft: Nft, settings: &HostSettings) -> Self {
        Self {
            nft,
            device: settings.device.clone(),
            own: settings
                .address
                .map(IpAddr::V4)
                .into_iter()
                .chain(settings.address6.map(IpAddr::V6))
                .collect(),
            pods: settings.pod_cidrs.clone(),
            cluster: settings.cluster_cidrs.clone(),
            direct: IpNet::aggregate(&settings.non_masquerade),
            loaded: None,
        }
    }

    /// The rules with these remote nodes, and these prefixes of pods.
    fn rules(&self, nodes: &[IpAddr], prefixes: &[IpNet]) -> String {
        let cluster: Vec<IpNet> = [&self.pods, &self.cluster, prefixes]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let cluster = IpNet::aggregate(&cluster);
        let nodes: BTreeSet<IpAddr> = self.own.iter().chain(nodes).copied().collect();
        let mut text = format!("{REMOVE}table inet shunt {{\n");
        for (version, word, multicast) in [(4, "ip", "224.0.0.0/4"), (6, "ip6", "ff00::/8")] {
            let of = |prefixes: &[IpNet]| {
                let mine = prefixes
                    .iter()
                    .filter(|p| p.addr().is_ipv6() == (version == 6));
                mine.map(ToString::to_string).collect::<Vec<_>>()
            };
            let mine = nodes.iter().filter(|n| n.is_ipv6() == (version == 6));
            set(
                &mut text,
                "cluster",
                version,
                "flags interval; ",
                &of(&cluster),
            );
            set(
                &mut text,
                "direct",
                version,
                "flags interval; ",
                &of(&self.direct),
            );
            let nodes: Vec<_> = mine.map(ToString::to_string).collect();
            set(&mut text, "nodes", version, "", &nodes);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "chain from_pod{version} {{\n\
                 {word} daddr @cluster{version} return\n\
                 {word} daddr @direct{version} return\n\
                 {word} daddr @nodes{version} return\n\
                 {word} daddr {multicast} return\n\
                 fib daddr type local return\n\
                 {VERDICT}\n}}\n"
            );
        }
        let device = &self.device;
        let _ = write!(
            text,
            "chain postrouting {{\n\
             type nat hook postrouting priority srcnat; policy accept;\n\
             iifname \"{device}\" ip saddr @cluster4 jump from_pod4\n\
             iifname \"{device}\" ip6 saddr @cluster6 jump from_pod6\n}}\n}}\n"
        );
        text
    }

    /// Loads the table with these remote nodes and prefixes of pods unless it is loaded so. True
    /// when it was loaded.
    pub(super) fn apply(
        &mut self,
        nodes: &[IpAddr],
        prefixes: &[IpNet],
    ) -> Result<bool, HostError> {
        let rules = self.rules(nodes, prefixes);
        if self.loaded.as_ref() == Some(&rules) {
            return Ok(false);
        }
        self.nft.load(&rules)?;
        self.loaded = Some(rules);
        Ok(true)
    }

    /// Whether the kernel has the table with its rules; the sets are not looked at. Someone who
    /// loads another ruleset often flushes all tables first.
    pub(super) fn is_there(&self) -> Result<bool, HostError> {
        let (status, listed, _) = self
            .nft
            .run(&["-t", "list", "table", "inet", "shunt"], "")?;
        let jumps = format!("iifname \"{}\" ip", self.device);
        Ok(status.success()
            && listed.matches(VERDICT).count() == 2
            && listed.matches(&jumps).count() == 2)
    }

    /// Forgets what was loaded: the next [`Self::apply`] loads.
    pub(super) fn forget(&mut self) {
        self.loaded = None;
    }

    /// Removes the table; no error when there is none.
    pub(super) fn remove(&self) -> Result<(), HostError> {
        remove(&self.nft)
    }
}

/// Removes an earlier run's table; no error when there is none.
pub(super) fn remove(nft: &Nft) -> Result<(), HostError> {
    nft.load(REMOVE)
}

fn set(text: &mut String, name: &str, version: u8, flags: &str, elements: &[String]) {
    let _ = write!(
        text,
        "set {name}{version} {{ type ipv{version}_addr; {flags}"
    );
    if !elements.is_empty() {
        let _ = write!(text, "elements = {{ {} }}; ", elements.join(", "));
    }
    text.push_str("}\n");
}

/// The program `nft`.
#[derive(Debug, Clone)]
pub(super) struct Nft {
    /// Where it may be, in this order.
    programs: Vec<PathBuf>,
    limit: Duration,
}

impl Default for Nft {
    fn default() -> Self {
        Self {
            // A service's PATH may lack the folders of the administrator's programs.
            programs: ["nft", "/usr/sbin/nft", "/sbin/nft"]
                .map(PathBuf::from)
                .to_vec(),
            limit: LIMIT,
        }
    }
}

impl Nft {
    /// Makes these changes, all or none.
    fn load(&self, rules: &str) -> Result<(), HostError> {
        let (status, _, said) = self.run(&["-f", "-"], rules)?;
        if status.success() {
            return Ok(());
        }
        let why = match said.trim() {
            "" => status.to_string(),
            // It quotes the lines that it complains of, however long.
            text => text.chars().take(500).collect(),
        };
        Err(HostError::NftRefused { why })
    }

    /// Runs `nft` and returns its outcome, what it printed and what it complained of.
    fn run(
        &self,
        arguments: &[&str],
        input: &str,
    ) -> Result<(ExitStatus, String, String), HostError> {
        let mut child = self.spawn(arguments)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // A pipe holds less than a large table, so all three move while the program runs.
        thread::scope(|scope| {
            scope.spawn(move || {
                // It may end without having read all; what it says then tells why.
                stdin.map(|mut pipe| pipe.write_all(input.as_bytes()))
            });
            let stdout = scope.spawn(move || text_of(stdout));
            let stderr = scope.spawn(move || text_of(stderr));
            let status = self.wait(&mut child)?;
            Ok((
                status,
                stdout.join().unwrap_or_default(),
                stderr.join().unwrap_or_default(),
            ))
        })
    }

    fn spawn(&self, arguments: &[&str]) -> Result<Child, HostError> {
        for program in &self.programs {
            let spawned = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            match spawned {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other.map_err(HostError::Nft),
            }
        }
        Err(HostError::NftMissing)
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus, HostError> {
        let end = Instant::now() + self.limit;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().map_err(HostError::Nft)? {
                return Ok(status);
            }
            if Instant::now() >= end {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(HostError::NftTimeout { limit: self.limit });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

fn text_of(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
