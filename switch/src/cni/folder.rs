//! What a runtime sees in a folder of network configurations.
//!
//! As libcni (`libcni/conf.go`) and containerd's go-cni (`opts.go`, `loadFromConfDir`) judge it:
//! every file that ends in `.conf`, `.conflist` or `.json` counts, in the order of the names' bytes.
//! containerd takes the first; one that cannot be loaded before it fails the whole.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{CniError, PLUGIN};

/// Endings that count.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// A file that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

/// What is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// It names our plugin.
    Ours,
    /// It does not.
    Foreign,
    /// No runtime can load it, and why.
    Broken(String),
}

/// All files that count, in order. A folder that is not there is empty.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn seen(folder: &Path) -> Result<Vec<Entry>, CniError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CniError::file("read", folder)(error)),
    };
    let mut seen = Vec::new();
    for entry in entries {
        let entry = entry.map_err(CniError::file("read", folder))?;
        let name = entry.file_name();
        // A symbolic link counts, wherever it leads.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder || ending(&name).is_none() {
            continue;
        }
        let path = entry.path();
        let kind = match fs::read(&path) {
            Ok(bytes) => judge(&bytes, ending(&name) == Some("conflist")),
            // It went away meanwhile, unless it is a link that leads nowhere.
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => continue,
            Err(error) => Kind::Broken(error.to_string()),
        };
        seen.push(Entry { name, path, kind });
    }
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(seen)
}

/// What follows the name's last dot, where that counts. Unlike `Path::extension`, as Go's: all of
/// `.conf` is an ending.
fn ending(name: &std::ffi::OsStr) -> Option<&'static str> {
    let (_, last) = name.to_str()?.rsplit_once('.')?;
    ENDINGS.into_iter().find(|ending| *ending == last)
}

fn judge(bytes: &[u8], list: bool) -> Kind {
    let types = match serde_json::from_slice(bytes) {
        Ok(config) => types(&config, list),
        Err(error) => Err(format!("it is not JSON: {error}")),
    };
    match types {
        Ok(types) if types.iter().any(|name| name == PLUGIN) => Kind::Ours,
        Ok(_) => Kind::Foreign,
        Err(why) => Kind::Broken(why),
    }
}

/// The plugins that a configuration names.
fn types(config: &Value, list: bool) -> Result<Vec<String>, String> {
    let plugins = if list {
        if !config.get("name").is_some_and(Value::is_string) {
            return Err("it has no \"name\"".to_owned());
        }
        let plugins = config.get("plugins").and_then(Value::as_array);
        match plugins {
            Some(plugins) if !plugins.is_empty() => plugins.as_slice(),
            _ => return Err("it has no \"plugins\"".to_owned()),
        }
    } else {
        std::slice::from_ref(config)
    };
    let name = |plugin: &Value| match plugin.get("type").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err("a plugin in it has no \"type\"".to_owned()),
    };
    plugins.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_runtime_loads_counts_in_its_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect(name);
        put("9.conf", r#"{"type": "bridge"}"#);
        put(
            "10-shunt.conflist",
            r#"{"name": "a", "plugins": [{"type": "x"}, {"type": "shunt-cni"}]}"#,
        );
        put("100-x.json", r#"{"type": "shunt-cni"}"#);
        put("20.conflist.bak", "{");
        put(".10-shunt.conflist.tmp", "{");
        put("README", "");
        fs::create_dir(folder.path().join("30.conf")).expect("a folder");
        let seen = seen(folder.path()).expect("read");
        let seen: Vec<_> = seen
            .into_iter()
            .map(|entry| (entry.name, entry.kind))
            .collect();
        assert_eq!(
            seen,
            [
                ("10-shunt.conflist".into(), Kind::Ours),
                ("100-x.json".into(), Kind::Ours),
                ("9.conf".into(), Kind::Foreign),
            ]
        );
    }

    #[test]
    fn what_fails_a_runtimes_load_is_broken() {
        let folder = tempfile::tempdir().expect("a folder");
        for (number, text) in [
            "",
            "{",
            "[]",
            r#"{"plugins": [{"type": "x"}]}"#,
            r#"{"name": 1, "plugins": [{"type": "x"}]}"#,
            r#"{"name": "a"}"#,
            r#"{"name": "a", "plugins": []}"#,
            r#"{"name": "a", "plugins": [{"type": "x"}, {}]}"#,
        ]
        .into_iter()
        .enumerate()
        {
            fs::write(folder.path().join(format!("{number}.conflist")), text).expect("written");
        }
        fs::write(folder.path().join("single.conf"), r#"{"name": "a"}"#).expect("written");
        std::os::unix::fs::symlink("nowhere", folder.path().join("link.conf")).expect("a link");
        let seen = seen(folder.path()).expect("read");
        assert_eq!(seen.len(), 10);
        for entry in seen {
            assert!(matches!(entry.kind, Kind::Broken(_)), "{entry:?}");
        }
    }

    #[test]
    fn no_folder_is_an_empty_one() {
        assert_eq!(seen(Path::new("/nonexistent/cni")).expect("empty"), []);
    }
}
