//! The network configuration on the standard input (CNI 1.1.0, section 3, "Deriving request
//! configuration").
//!
//! All verbs read what [`Conf`] has fields for. The rest is asked for by those that need it, so
//! that damage elsewhere does not keep a container from being detached.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shunt_api::{DEFAULT_SOCKET, DEFAULT_STATE_DIR};

use crate::env::{Verb, is_plain_name};
use crate::error::{CniError, code};
use crate::result::Outcome;
use crate::version::Version;

/// Where earlier plugins' result is.
const PREV_RESULT: &str = "prevResult";
/// Where GC finds what is still there.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// A network configuration.
#[derive(Debug, Clone)]
pub(crate) struct Conf {
    /// The version it and the answer are of.
    pub(crate) version: Version,
    /// The network's name.
    pub(crate) network: String,
    /// The daemon's socket.
    pub(crate) socket: PathBuf,
    /// The daemon's state directory, with the queue of detachments.
    pub(crate) state_dir: PathBuf,
    /// The IPAM plugin, if there is one.
    pub(crate) ipam: Option<String>,
    keys: Map<String, Value>,
    bytes: Vec<u8>,
}

/// An attachment that GC is to leave alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ValidAttachment {
    /// The container's id.
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    /// The interface.
    pub(crate) ifname: String,
}

impl Conf {
    /// Reads what all verbs need.
    ///
    /// # Errors
    /// Code 1, 6 or 7.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, CniError> {
        let keys: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
            undecoded(match bytes.trim_ascii() {
                [] => "the standard input is empty: the network configuration belongs there".into(),
                _ => format!("not a JSON object: {error}"),
            })
        })?;
        let version = Version::of(&keys)?;
        let network: String = key(&keys, "name")?.unwrap_or_default();
        if !is_plain_name(&network) {
            return Err(CniError::config(match network.as_str() {
                "" => "name is missing: the network needs one".to_owned(),
                _ => format!(
                    "name is {network:?}: it may have letters, digits, `_`, `.` and `-`, no other \
                     first"
                ),
            }));
        }
        let ipam: Map<String, Value> = key(&keys, "ipam")?.unwrap_or_default();
        let ipam = key::<String>(&ipam, "type")?.filter(|kind| !kind.is_empty());
        if let Some(kind) = &ipam
            && (kind.contains(['/', '\\', '\0']) || kind == "." || kind == "..")
        {
            let what = format!("ipam.type is {kind:?}: name a plugin in CNI_PATH, without a path");
            return Err(CniError::config(what));
        }
        Ok(Self {
            version,
            network,
            socket: path(&keys, "socket", DEFAULT_SOCKET)?,
            state_dir: path(&keys, "stateDir", DEFAULT_STATE_DIR)?,
            ipam,
            keys,
            bytes,
        })
    }

    /// The version to answer in, if the input tells one that is spoken.
    pub(crate) fn version_of(bytes: &[u8]) -> Option<Version> {
        let keys: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
        Version::of(&keys).ok()
    }

    /// Checks that the version has the verb.
    ///
    /// # Errors
    /// Code 1.
    pub(crate) fn allows(&self, verb: Verb) -> Result<(), CniError> {
        let since = match verb {
            Verb::Add | Verb::Del | Verb::Version => return Ok(()),
            Verb::Check => Version::V0_4_0,
            Verb::Gc | Verb::Status => Version::V1_1_0,
        };
        if self.version >= since {
            return Ok(());
        }
        let (verb, since, own) = (verb.as_str(), since.as_str(), self.version.as_str());
        Err(CniError::new(
            code::VERSION,
            "incompatible CNI version",
            format!("{verb} came with {since}, and this network's cniVersion is {own}"),
        ))
    }

    /// The input as it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A key's value; `null` is none.
    ///
    /// # Errors
    /// Code 7 when it is of another type.
    pub(crate) fn key<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CniError> {
        key(&self.keys, name)
    }

    /// What plugins before us have made, or, for CHECK, all plugins.
    ///
    /// # Errors
    /// Code 6, or 1 when it is of a version that is not spoken.
    pub(crate) fn prev_result(&self) -> Result<Option<Outcome>, CniError> {
        let Some(value) = self.keys.get(PREV_RESULT).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let undecodable = |error: String| undecoded(format!("{PREV_RESULT}: {error}"));
        let object = value
            .as_object()
            .ok_or_else(|| undecodable("not a JSON object".into()))?;
        // The runtime has brought it to this configuration's version; libcni leaves none out.
        if object.contains_key("cniVersion") {
            Version::of(object)?;
        }
        let outcome = Outcome::deserialize(value);
        outcome
            .map(Some)
            .map_err(|error| undecodable(error.to_string()))
    }

    /// The configuration alone, as an operation later on needs it.
    pub(crate) fn without_prev_result(&self) -> String {
        let mut keys = self.keys.clone();
        keys.remove(PREV_RESULT);
        Value::Object(keys).to_string()
    }

    /// What GC is to leave alone. `null` is how Go writes an empty list.
    ///
    /// # Errors
    /// Code 7, also when the key is missing: that all is stale must be said.
    pub(crate) fn valid_attachments(&self) -> Result<Vec<ValidAttachment>, CniError> {
        if !self.keys.contains_key(VALID_ATTACHMENTS) {
            return Err(CniError::config(format!(
                "{VALID_ATTACHMENTS} is missing: GC needs the list of what is still there"
            )));
        }
        self.key(VALID_ATTACHMENTS).map(Option::unwrap_or_default)
    }
}

fn undecoded(details: String) -> CniError {
    CniError::new(
        code::DECODE,
        "cannot decode the network configuration",
        details,
    )
}

fn key<T: DeserializeOwned>(keys: &Map<String, Value>, name: &str) -> Result<Option<T>, CniError> {
    let value = keys.get(name).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|error| CniError::config(format!("{name}: {error}")))
}

fn path(keys: &Map<String, Value>, name: &str, default: &str) -> Result<PathBuf, CniError> {
    let text: String = key(keys, name)?.unwrap_or_default();
    match text.as_str() {
        "" => Ok(default.into()),
        _ if text.starts_with('/') && !text.contains('\0') => Ok(text.into()),
        _ => {
            let what = format!("{name} is {text:?}: write an absolute path such as {default}");
            Err(CniError::config(what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<Conf, CniError> {
        Conf::parse(value.to_string().into_bytes())
    }

    /// A good configuration, with this key changed.
    fn with(name: &str, value: Value) -> Result<Conf, CniError> {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "pods", "type": "shunt-cni"});
        conf[name] = value;
        parse(conf)
    }

    #[track_caller]
    fn fails<T: std::fmt::Debug>(result: Result<T, CniError>, code: u32, about: &str) {
        let error = result.expect_err(about);
        assert_eq!(error.code, code, "{error}");
        assert!(error.details.contains(about), "{error}");
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let conf = with("ipam", json!({"type": "host-local"})).expect("fine");
        assert_eq!(conf.socket, PathBuf::from("/run/shunt/shunt.sock"));
        assert_eq!(conf.state_dir, PathBuf::from("/var/lib/shunt"));
        assert_eq!(conf.ipam.as_deref(), Some("host-local"));
        assert_eq!(conf.network, "pods");
        assert_eq!(with("ipam", json!({})).expect("fine").ipam, None);
        assert_eq!(with("ipam", Value::Null).expect("fine").ipam, None);
    }

    #[test]
    fn unknown_keys_are_ignored() {
        for (name, value) in [
            ("capabilities", json!({"mac": true})),
            ("cni.dev/x", json!(1)),
            ("whatever", json!([{}])),
        ] {
            assert!(with(name, value).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_no_object_cannot_be_decoded() {
        for text in ["", " ", "null", "[]", "{", "{}x", "\u{1}", "[[[[[["] {
            assert_eq!(Conf::parse(text.into()).expect_err(text).code, 6, "{text}");
        }
        fails(Conf::parse(Vec::new()), 6, "empty");
        fails(Conf::parse(vec![0xff, 0xfe]), 6, "JSON");
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        fails(Conf::parse(deep.into_bytes()), 6, "JSON");
    }

    #[test]
    fn the_name_is_checked() {
        for name in ["", "../x", "a b", "-a", "a/b", "ü"] {
            fails(with("name", json!(name)), 7, "name");
        }
        fails(with("name", json!(7)), 7, "name");
        fails(parse(json!({"cniVersion": "1.1.0"})), 7, "name");
    }

    #[test]
    fn the_version_comes_first() {
        fails(parse(json!({"name": "pods"})), 1, "0.1.0");
        fails(with("cniVersion", json!("0.2.0")), 1, "0.2.0");
        fails(with("cniVersion", json!(2)), 6, "cniVersion");
    }

    #[test]
    fn each_verb_has_its_first_version() {
        let conf = |version: &str| with("cniVersion", json!(version)).expect("fine");
        for (version, verb, allowed) in [
            ("0.3.0", Verb::Add, true),
            ("0.3.1", Verb::Del, true),
            ("0.3.1", Verb::Check, false),
            ("0.4.0", Verb::Check, true),
            ("1.0.0", Verb::Gc, false),
            ("1.0.0", Verb::Status, false),
            ("1.1.0", Verb::Gc, true),
            ("1.1.0", Verb::Status, true),
        ] {
            let answer = conf(version).allows(verb).map_err(|error| error.code);
            assert_eq!(answer, if allowed { Ok(()) } else { Err(1) }, "{version}");
        }
    }

    #[test]
    fn paths_and_plugins_are_checked() {
        fails(with("socket", json!("shunt.sock")), 7, "socket");
        fails(with("stateDir", json!(["/x"])), 7, "stateDir");
        for kind in ["../host-local", "/bin/sh", "..", "a\\b"] {
            fails(with("ipam", json!({"type": kind})), 7, "ipam.type");
        }
        fails(with("ipam", json!("host-local")), 7, "ipam");
    }

    #[test]
    fn a_previous_result_is_only_read_when_asked_for() {
        for damaged in [json!("x"), json!({"ips": [{"address": "nonsense"}]})] {
            let conf = with("prevResult", damaged).expect("not read yet");
            fails(conf.prev_result(), 6, "prevResult");
            assert!(!conf.without_prev_result().contains("prevResult"));
        }
        let old = with("prevResult", json!({"cniVersion": "0.2.0", "ip4": {}})).expect("fine");
        fails(old.prev_result(), 1, "0.2.0");
        let none = with("prevResult", Value::Null).expect("fine");
        assert_eq!(none.prev_result(), Ok(None));
        let empty = with("prevResult", json!({})).expect("fine");
        assert_eq!(empty.prev_result(), Ok(Some(Outcome::default())));
    }

    #[test]
    fn gc_must_be_told_what_is_there() {
        let name = "cni.dev/valid-attachments";
        fails(with("x", json!(1)).unwrap().valid_attachments(), 7, name);
        fails(
            with(name, json!([{}])).unwrap().valid_attachments(),
            7,
            name,
        );
        let none = with(name, Value::Null).unwrap().valid_attachments();
        assert_eq!(none, Ok(Vec::new()));
        let one = json!([{"containerID": "a", "ifname": "eth0", "more": 1}]);
        let one = with(name, one).unwrap().valid_attachments().expect("fine");
        assert_eq!((one[0].container_id.as_str(), one.len()), ("a", 1));
    }
}
