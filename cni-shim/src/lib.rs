//! The CNI plugin of Shunt: translates a container runtime's calls (CNI 1.1.0, and results back to
//! 0.3.0) into the daemon's.
//!
//! What the pod's interface is made of is the daemon's business. The plugin checks what it is
//! given, asks the IPAM plugin for addresses, and sees to it that an operation that fails leaves
//! nothing behind.

#![forbid(unsafe_code)]

mod add;
mod check;
mod conf;
mod daemon;
mod del;
mod env;
mod error;
mod gc;
mod ipam;
mod process;
mod result;
mod settings;
mod status;
mod version;

use std::io::{Read, Write};

use serde_json::Value;
use shunt_api::AttachmentKey;

pub use daemon::Patience;
pub use env::Get;

use conf::Conf;
use env::{Environment, Verb};
use error::{CniError, Versioned, code};
use version::Version;

/// Bytes of input at most.
const MAX_INPUT: u64 = 1 << 20;

impl Environment {
    /// The attachment that it is about.
    fn key(&self, conf: &Conf) -> AttachmentKey {
        AttachmentKey {
            network: conf.network.clone(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

/// Carries out one operation: the variables tell which, `stdin` has the network configuration, and
/// to `stdout` goes JSON and nothing else. Returns the exit code.
pub fn serve(
    get: Get<'_>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    patience: &Patience,
) -> u8 {
    let mut version = Version::LATEST;
    let mut operation = None;
    let done = (|| {
        let verb = Verb::read(get)?;
        let input = read(stdin)?;
        version = Conf::version_of(&input).unwrap_or(version);
        let environment = Environment::read(verb, get)?;
        if verb == Verb::Version {
            return version::report(&input).map(Some);
        }
        let conf = Conf::parse(input)?;
        conf.allows(verb)?;
        let (conf, environment) = operation.insert((conf, environment));
        carry_out(conf, environment, patience)
    })();
    let (answer, code) = match &done {
        Ok(answer) => (answer.clone(), 0),
        Err(error) => (Some(told(error, version)), 1),
    };
    let Some(answer) = answer else {
        return code;
    };
    match write(stdout, &answer) {
        Ok(()) => code,
        Err(error) => {
            eprintln!("cannot write to the standard output: {error}");
            // The runtime does not know that it has an attachment.
            if let (Ok(_), Some((conf, environment))) = (&done, &operation)
                && environment.verb == Verb::Add
            {
                add::undo(conf, environment, patience);
            }
            1
        }
    }
}

fn carry_out(
    conf: &Conf,
    environment: &Environment,
    patience: &Patience,
) -> Result<Option<Value>, CniError> {
    match environment.verb {
        Verb::Add => add::run(conf, environment, patience).map(Some),
        Verb::Del => del::run(conf, environment, patience).map(|()| None),
        Verb::Check => check::run(conf, environment, patience).map(|()| None),
        Verb::Gc => gc::run(conf, environment, patience).map(|()| None),
        Verb::Status => status::run(conf, environment, patience).map(|()| None),
        Verb::Version => version::report(conf.bytes()).map(Some),
    }
}

fn read(stdin: &mut dyn Read) -> Result<Vec<u8>, CniError> {
    let failed = |what: String| CniError::new(code::IO, "cannot read the standard input", what);
    let mut input = Vec::new();
    let read = stdin.take(MAX_INPUT + 1).read_to_end(&mut input);
    let read = read.map_err(|error| failed(error.to_string()))?;
    match u64::try_from(read).is_ok_and(|read| read <= MAX_INPUT) {
        true => Ok(input),
        false => Err(failed(format!("it is longer than {MAX_INPUT} bytes"))),
    }
}

fn write(stdout: &mut dyn Write, answer: &Value) -> std::io::Result<()> {
    writeln!(stdout, "{answer:#}")?;
    stdout.flush()
}

/// An error as the runtime reads it.
fn told(error: &CniError, version: Version) -> Value {
    let cni_version = version.as_str();
    let versioned = Versioned { cni_version, error };
    // It has no map whose keys could be no texts, so this cannot fail.
    serde_json::to_value(versioned).unwrap_or_default()
}

/// What is printed if the program itself is at fault.
pub fn fault() -> String {
    let what = "this program is at fault; its standard error tells more";
    let error = CniError::new(code::INTERNAL, "internal error", what);
    told(&error, Version::LATEST).to_string()
}
