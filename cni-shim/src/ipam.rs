//! Delegation to the IPAM plugin (CNI 1.1.0, section 4).

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::conf::Conf;
use crate::env::{Environment, Verb};
use crate::error::{CniError, code};
use crate::process::{self, Ended};
use crate::result::Outcome;

/// Characters of a plugin's rubbish that are shown.
const EXCERPT: usize = 200;

/// The IPAM plugin of a network.
#[derive(Debug)]
pub(crate) struct Ipam<'a> {
    kind: &'a str,
    conf: &'a Conf,
    environment: &'a Environment,
    patience: Duration,
}

impl<'a> Ipam<'a> {
    /// The plugin; `None` when the network names none.
    pub(crate) fn of(
        conf: &'a Conf,
        environment: &'a Environment,
        patience: Duration,
    ) -> Option<Self> {
        let kind = conf.ipam.as_deref()?;
        Some(Self {
            kind,
            conf,
            environment,
            patience,
        })
    }

    /// Takes addresses: at least one.
    ///
    /// # Errors
    /// The plugin's own, or code 4 or 103.
    pub(crate) fn add(&self) -> Result<Outcome, CniError> {
        let printed = self.run(&self.find()?, Verb::Add)?;
        let outcome: Outcome = serde_json::from_slice(&printed).map_err(|error| {
            self.failed(match printed.trim_ascii() {
                [] => "it printed nothing instead of a result".to_owned(),
                text => format!("its result makes no sense ({error}): {}", excerpt(text)),
            })
        })?;
        match outcome.ips.is_empty() {
            true => Err(self.failed("its result has no address".to_owned())),
            false => Ok(outcome),
        }
    }

    /// Gives the addresses back.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub(crate) fn del(&self) -> Result<(), CniError> {
        self.run(&self.find()?, Verb::Del).map(drop)
    }

    /// Checks that the addresses are still taken.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub(crate) fn check(&self) -> Result<(), CniError> {
        self.run(&self.find()?, Verb::Check).map(drop)
    }

    /// Asks whether addresses can be had. A plugin that does not know STATUS has nothing to say; one
    /// that does not speak the version (code 1) would refuse ADD as well.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub(crate) fn status(&self) -> Result<(), CniError> {
        self.if_known(Verb::Status, &[])
    }

    /// Lets it drop what is stale. A plugin that does not know GC has nothing to do.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub(crate) fn gc(&self) -> Result<(), CniError> {
        self.if_known(Verb::Gc, &[code::VERSION])
    }

    /// The verbs of 1.1.0. What is older answers that it does not know the command (code 4, or 100
    /// before that), or misses a container (code 3), which these verbs are not about; or with one of
    /// the codes `also`.
    fn if_known(&self, verb: Verb, also: &[u32]) -> Result<(), CniError> {
        const OLD: [u32; 2] = [code::UNKNOWN_CONTAINER, code::ENVIRONMENT];
        let program = self.find()?;
        let unknown = |error: &CniError| {
            OLD.contains(&error.code)
                || also.contains(&error.code)
                || error.msg.contains("unknown CNI_COMMAND")
        };
        match self.run(&program, verb) {
            Err(error) if !unknown(&error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn run(&self, program: &Path, verb: Verb) -> Result<Vec<u8>, CniError> {
        let Environment {
            verb: _,
            container_id,
            netns,
            ifname,
            args,
            path,
        } = self.environment;
        let variables = [
            ("CNI_COMMAND", verb.as_str()),
            ("CNI_CONTAINERID", container_id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", ifname),
            ("CNI_ARGS", args),
            ("CNI_PATH", path),
        ];
        // What the verb has no use for stays as the runtime has set it.
        let variables = variables
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, OsStr::new(value)));
        let ended = process::run(program, variables, self.conf.bytes(), self.patience);
        let Ended { status, stdout } = ended.map_err(|failure| self.failed(failure.to_string()))?;
        if status.success() {
            return Ok(stdout);
        }
        // Its own words, if it has any.
        let own = serde_json::from_slice::<CniError>(&stdout).ok();
        Err(own.filter(|error| error.code != 0).unwrap_or_else(|| {
            let printed = match stdout.trim_ascii() {
                [] => "nothing".to_owned(),
                text => excerpt(text),
            };
            self.failed(format!("it ended with {status} and printed {printed}"))
        }))
    }

    /// The first executable of that name in `CNI_PATH`.
    fn find(&self) -> Result<PathBuf, CniError> {
        let path = &self.environment.path;
        if path.is_empty() {
            let what = format!(
                "is missing: the IPAM plugin {} is looked for there",
                self.kind
            );
            return Err(CniError::environment("CNI_PATH", what));
        }
        let folders = path.split(':').map(Path::new).filter(|it| it.is_absolute());
        let mut candidates = folders.map(|folder| folder.join(self.kind));
        let found = candidates.find(|file| is_executable(file));
        found.ok_or_else(|| {
            self.failed(format!(
                "there is no such executable in CNI_PATH ({path}): install it there, or mend \
                 ipam.type"
            ))
        })
    }

    fn failed(&self, what: String) -> CniError {
        let msg = format!("the IPAM plugin {} failed", self.kind);
        CniError::new(code::IPAM, msg, what)
    }
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut start: String = text.chars().take(EXCERPT).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    format!("{start:?}")
}
