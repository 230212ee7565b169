//! The environment of an operation (CNI 1.1.0, section 2, "Parameters").

use std::ffi::OsString;
use std::path::{Component, Path};

use crate::error::CniError;

/// Bytes in a path at most (`PATH_MAX` of linux/limits.h, its end included).
const PATH_MAX: usize = 4096;
/// Bytes in an interface's name at most (`IFNAMSIZ` of linux/if.h, without its end).
const IFNAME_MAX: usize = 15;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Compare an attachment with what it should be.
    Check,
    /// Drop what belongs to no attachment.
    Gc,
    /// Tell whether containers can be attached.
    Status,
    /// Tell the versions that are spoken.
    Version,
}

impl Verb {
    /// As in `CNI_COMMAND`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The verb in `CNI_COMMAND`.
    ///
    /// # Errors
    /// Code 4.
    pub(crate) fn read(get: Get<'_>) -> Result<Self, CniError> {
        let all = [
            Self::Add,
            Self::Del,
            Self::Check,
            Self::Gc,
            Self::Status,
            Self::Version,
        ];
        let name = "CNI_COMMAND";
        let text = text(get, name)?;
        if text.is_empty() {
            return Err(CniError::environment(
                name,
                "is missing: a container runtime sets it and calls this program",
            ));
        }
        let known = all.into_iter().find(|verb| verb.as_str() == text);
        known.ok_or_else(|| {
            let what = format!("is {text:?}, none of {}", all.map(Self::as_str).join(", "));
            CniError::environment(name, what)
        })
    }

    /// Whether it is about one container.
    const fn has_container(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// How a variable is asked for.
pub type Get<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The environment, checked. What the verb has no use for is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    /// `CNI_COMMAND`.
    pub(crate) verb: Verb,
    /// `CNI_CONTAINERID`.
    pub(crate) container_id: String,
    /// `CNI_NETNS`; DEL may go without.
    pub(crate) netns: String,
    /// `CNI_IFNAME`.
    pub(crate) ifname: String,
    /// `CNI_ARGS`.
    pub(crate) args: String,
    /// `CNI_PATH`.
    pub(crate) path: String,
}

impl Environment {
    /// Reads what `verb` needs. An empty variable is as good as none.
    ///
    /// # Errors
    /// Code 4 names the first variable that will not do.
    pub(crate) fn read(verb: Verb, get: Get<'_>) -> Result<Self, CniError> {
        let mut environment = Self {
            verb,
            container_id: String::new(),
            netns: String::new(),
            ifname: String::new(),
            args: String::new(),
            path: text(get, "CNI_PATH")?,
        };
        if verb.has_container() {
            environment.container_id = container_id(get)?;
            environment.ifname = ifname(get)?;
            environment.netns = match verb {
                // It has no use for the namespace, and must not fail for what an ADD has refused.
                Verb::Del => netns(get, false).unwrap_or_default(),
                _ => netns(get, true)?,
            };
            environment.args = text(get, "CNI_ARGS")?;
        }
        if verb == Verb::Add {
            pairs(&environment.args)?;
        }
        Ok(environment)
    }

    /// The value of a key in `CNI_ARGS`, if it has one that is not empty.
    pub(crate) fn arg(&self, key: &str) -> Option<&str> {
        let pairs = self.args.split(';').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(name, value)| *name == key && !value.is_empty());
        values.next().map(|(_, value)| value)
    }

    /// The pod's name for people, as Kubernetes tells it.
    pub(crate) fn pod(&self) -> Option<String> {
        let name = self.arg("K8S_POD_NAME")?;
        Some(match self.arg("K8S_POD_NAMESPACE") {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        })
    }
}

fn text(get: Get<'_>, name: &str) -> Result<String, CniError> {
    let value = get(name).unwrap_or_default();
    value
        .into_string()
        .map_err(|_| CniError::environment(name, "is no UTF-8 text"))
}

fn required(get: Get<'_>, name: &str) -> Result<String, CniError> {
    let value = text(get, name)?;
    match value.is_empty() {
        true => Err(CniError::environment(name, "is missing or empty")),
        false => Ok(value),
    }
}

/// Whether it is a letter or digit, and then those, `_`, `.` or `-`.
pub(crate) fn is_plain_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn container_id(get: Get<'_>) -> Result<String, CniError> {
    let name = "CNI_CONTAINERID";
    let id = required(get, name)?;
    match is_plain_name(&id) {
        true => Ok(id),
        false => Err(CniError::environment(
            name,
            format!("is {id:?}: it may have letters, digits, `_`, `.` and `-`, no other first"),
        )),
    }
}

fn ifname(get: Get<'_>) -> Result<String, CniError> {
    let name = "CNI_IFNAME";
    let ifname = required(get, name)?;
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if ifname.len() > IFNAME_MAX || ifname == "." || ifname == ".." || ifname.contains(bad) {
        let what = format!(
            "is {ifname:?}: an interface has a name of 1 to {IFNAME_MAX} bytes, not `.` or `..`, \
             without `/`, `:` and white space"
        );
        return Err(CniError::environment(name, what));
    }
    Ok(ifname)
}

fn netns(get: Get<'_>, needed: bool) -> Result<String, CniError> {
    let name = "CNI_NETNS";
    let netns = match needed {
        true => required(get, name)?,
        false => text(get, name)?,
    };
    let path = Path::new(&netns);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !netns.is_empty()
        && (!path.is_absolute() || climbs || netns.len() >= PATH_MAX || netns.contains('\0'))
    {
        let what = format!(
            "is {netns:?}: write an absolute path without `..`, such as /run/netns/NAME, of less \
             than {PATH_MAX} bytes"
        );
        return Err(CniError::environment(name, what));
    }
    Ok(netns)
}

fn pairs(args: &str) -> Result<(), CniError> {
    let mut pairs = args.split(';').filter(|pair| !pair.is_empty());
    match pairs.find(|pair| !pair.contains('=')) {
        None => Ok(()),
        Some(pair) => Err(CniError::environment(
            "CNI_ARGS",
            format!("has {pair:?}, which is no KEY=VALUE"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::os::unix::ffi::OsStringExt;

    /// A good environment, with these changes.
    fn read(verb: Verb, changes: &[(&str, &str)]) -> Result<Environment, CniError> {
        let mut variables = HashMap::from([
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_NETNS", "/run/netns/blue"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", ""),
            ("CNI_PATH", "/opt/cni/bin"),
        ]);
        variables.extend(changes.iter().copied());
        Environment::read(verb, &|name| variables.get(name).map(OsString::from))
    }

    #[track_caller]
    fn refused(verb: Verb, name: &str, value: &str) {
        let error = read(verb, &[(name, value)]).expect_err(value);
        assert_eq!(error.code, 4);
        assert!(error.msg.contains(name), "{error}");
    }

    #[test]
    fn the_command_is_one_of_six() {
        let verb = |value: Option<&str>| Verb::read(&|_| value.map(OsString::from));
        assert_eq!(verb(Some("GC")), Ok(Verb::Gc));
        for value in [None, Some(""), Some("add"), Some("ADD "), Some("UPDATE")] {
            let error = verb(value).expect_err("no command");
            assert_eq!(error.code, 4);
            assert!(error.msg.contains("CNI_COMMAND"));
        }
    }

    #[test]
    fn each_verb_needs_what_the_specification_says() {
        let needs = |verb, name: &str| read(verb, &[(name, "")]).is_err();
        for verb in [Verb::Add, Verb::Check, Verb::Del] {
            assert!(needs(verb, "CNI_CONTAINERID"));
            assert!(needs(verb, "CNI_IFNAME"));
            assert_eq!(needs(verb, "CNI_NETNS"), verb != Verb::Del);
            assert!(!needs(verb, "CNI_ARGS"));
        }
        for verb in [Verb::Gc, Verb::Status, Verb::Version] {
            let nothing = |_: &str| None;
            assert!(Environment::read(verb, &nothing).is_ok());
            assert!(read(verb, &[("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "/")]).is_ok());
        }
    }

    #[test]
    fn container_ids_are_plain() {
        for id in ["a", "0", "A-b_c.d", "k8s_pause.1"] {
            assert!(read(Verb::Del, &[("CNI_CONTAINERID", id)]).is_ok(), "{id}");
        }
        for id in [
            "-a",
            ".",
            "..",
            "_",
            "a/b",
            "../../etc",
            "a b",
            "ä",
            "a\n",
            "a;b",
        ] {
            refused(Verb::Del, "CNI_CONTAINERID", id);
        }
    }

    #[test]
    fn interface_names_are_the_kernels() {
        for name in ["e", "eth0.100", "net-1_a@b", "fifteen-bytes-x"] {
            assert!(read(Verb::Add, &[("CNI_IFNAME", name)]).is_ok(), "{name}");
        }
        for name in [
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\t",
            "a\u{a0}",
            "sixteen-bytes-xx",
            "a\u{1}",
        ] {
            refused(Verb::Add, "CNI_IFNAME", name);
        }
    }

    #[test]
    fn a_netns_is_an_absolute_path_that_does_not_climb() {
        let long = format!("/{}", "a".repeat(4096));
        for path in [
            "netns",
            "./netns",
            "/run/netns/../../etc/shadow",
            "/..",
            "..",
            &long,
        ] {
            refused(Verb::Add, "CNI_NETNS", path);
            refused(Verb::Check, "CNI_NETNS", path);
            let del = read(Verb::Del, &[("CNI_NETNS", path)]).expect("DEL does not need it");
            assert_eq!(del.netns, "");
        }
        for path in ["/proc/7/ns/net", "/var/run/netns/a..b"] {
            assert!(read(Verb::Add, &[("CNI_NETNS", path)]).is_ok(), "{path}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_ARGS", "CNI_PATH"] {
            let error = Environment::read(Verb::Add, &|asked| {
                let good = match asked {
                    "CNI_NETNS" => "/run/netns/a",
                    _ => "a=b".split('=').next().unwrap_or_default(),
                };
                Some(match asked == name {
                    true => OsString::from_vec(vec![b'/', 0xff]),
                    false => OsString::from(if asked == "CNI_ARGS" { "a=b" } else { good }),
                })
            })
            .expect_err(name);
            assert!(error.code == 4 && error.msg.contains(name), "{error}");
        }
    }

    #[test]
    fn args_are_pairs_in_any_order() {
        let args = "K8S_POD_NAME=web-0;IgnoreUnknown=1;;K8S_POD_NAMESPACE=default;MAC=";
        let environment = read(Verb::Add, &[("CNI_ARGS", args)]).expect("fine");
        assert_eq!(environment.pod().as_deref(), Some("default/web-0"));
        assert_eq!(environment.arg("MAC"), None);
        assert_eq!(environment.arg("NAME"), None);
        let podman = read(
            Verb::Add,
            &[("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=c1")],
        );
        assert_eq!(podman.expect("fine").pod().as_deref(), Some("c1"));
        refused(Verb::Add, "CNI_ARGS", "A=1;B");
        assert!(read(Verb::Del, &[("CNI_ARGS", "A=1;B")]).is_ok());
    }
}
