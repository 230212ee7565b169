//! Where the real tables lie, and how their files are read.
//!
//! RIPE NCC RIS, peer AS3333, 2026-05-11, one text file for each family and kind, packed by xz.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::RibError;

/// The environment variable that names the directory of the real tables.
pub const VARIABLE: &str = "SHUNT_RIB";

/// Where the directory lies if the variable does not say: beside the workspace's own.
const NEARBY: &str = "../shared/data/rib";
/// The workspace, from this crate's directory.
const WORKSPACE: &str = "../..";

/// Which routes these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Those of a BGP router, from this directory.
    Real(PathBuf),
    /// Made up, of the same make-up.
    Synthetic,
}

impl Source {
    /// The real tables if they are at hand, else the synthetic ones.
    ///
    /// # Errors
    ///
    /// [`RibError::NotDirectory`] if the variable is set to something else.
    pub(crate) fn any() -> Result<Self, RibError> {
        locate(
            std::env::var_os(VARIABLE),
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(WORKSPACE),
        )
    }
}

/// For captions: says which, and whose the data are.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real(_) => write!(f, "real (RIPE NCC RIS, AS3333, 2026-05-11)"),
            Self::Synthetic => write!(f, "synthetic ({VARIABLE} would name the real one)"),
        }
    }
}

fn locate(variable: Option<OsString>, workspace: &Path) -> Result<Source, RibError> {
    let named = variable.filter(|name| !name.is_empty()).map(PathBuf::from);
    match named {
        Some(directory) if directory.is_dir() => Ok(Source::Real(directory)),
        Some(other) => Err(RibError::NotDirectory(other)),
        // Without the dots, as errors and captions show it.
        None => Ok(match workspace.join(NEARBY).canonicalize() {
            Ok(directory) if directory.is_dir() => Source::Real(directory),
            _ => Source::Synthetic,
        }),
    }
}

/// The name of the file of a family and kind (`ris` or `updates`); [`RibError::Absent`] lists all.
pub(crate) fn name(family: &str, kind: &str) -> String {
    format!("{family}-{kind}-20260511.txt.xz")
}

/// The text of a packed file.
pub(crate) fn unpack(path: &Path) -> Result<String, RibError> {
    let file = File::open(path).map_err(|error| RibError::File {
        path: path.into(),
        error,
    })?;
    unpack_with(OsStr::new("xz"), path, file)
}

fn unpack_with(xz: &OsStr, path: &Path, file: File) -> Result<String, RibError> {
    let output = Command::new(xz)
        .arg("-dc")
        .stdin(Stdio::from(file))
        .output()
        .map_err(|error| RibError::NoXz {
            path: path.into(),
            error,
        })?;
    let corrupt = |message: String| RibError::Corrupt {
        path: path.into(),
        message,
    };
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(corrupt(message.trim().to_owned()));
    }
    String::from_utf8(output.stdout).map_err(|error| corrupt(error.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use super::*;

    /// Packs `text` as the file `name` in `directory`.
    pub(crate) fn pack(directory: &Path, name: &str, text: &str) {
        let file = File::create(directory.join(name)).unwrap();
        let mut xz = Command::new("xz")
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .expect("cannot run xz: install the package xz-utils");
        xz.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(xz.wait().unwrap().success());
    }

    #[test]
    fn the_variable_goes_before_what_lies_nearby() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let workspace = root.join("a/workspace");
        let nearby = root.join("a/shared/data/rib");
        std::fs::create_dir_all(&workspace).unwrap();
        let named = |name: &Path| locate(Some(name.into()), &workspace);

        // Neither inside the workspace nor further out.
        for elsewhere in [&workspace, &root] {
            std::fs::create_dir_all(elsewhere.join("shared/data/rib")).unwrap();
        }
        assert_eq!(locate(None, &workspace).unwrap(), Source::Synthetic);
        std::fs::create_dir_all(&nearby).unwrap();
        let real = Source::Real(nearby);
        assert_eq!(locate(None, &workspace).unwrap(), real);
        assert_eq!(locate(Some("".into()), &workspace).unwrap(), real);
        assert_eq!(named(&workspace).unwrap(), Source::Real(workspace.clone()));

        let error = named(&root.join("none")).unwrap_err().to_string();
        assert!(
            error.contains("SHUNT_RIB") && error.contains("none"),
            "{error}"
        );
        assert!(error.contains("unset it"), "{error}");
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let root = tempfile::tempdir().unwrap();
        pack(root.path(), "x", "10.0.0.0/8\n");
        assert_eq!(unpack(&root.path().join("x")).unwrap(), "10.0.0.0/8\n");
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("plain");
        let missing = unpack(&path).unwrap_err().to_string();
        assert!(
            missing.contains("plain") && missing.contains("SHUNT_RIB"),
            "{missing}"
        );

        std::fs::write(&path, "10.0.0.0/8\n").unwrap();
        let corrupt = unpack(&path).unwrap_err().to_string();
        assert!(
            corrupt.contains("plain") && corrupt.contains("fetch"),
            "{corrupt}"
        );

        let file = File::open(&path).unwrap();
        let no_xz = unpack_with(OsStr::new("no-such-xz"), &path, file).unwrap_err();
        assert!(no_xz.to_string().contains("xz-utils"), "{no_xz}");
    }

    #[test]
    fn captions_say_which() {
        assert!(
            Source::Real("x".into())
                .to_string()
                .contains("RIPE NCC RIS")
        );
        assert!(Source::Synthetic.to_string().starts_with("synthetic"));
    }

    #[test]
    fn without_the_tables_the_error_says_what_they_are() {
        let file = name("ipv4", "ris");
        let error = RibError::Absent { file }.to_string();
        let names =
            ["ipv4", "ipv6"].map(|family| ["ris", "updates"].map(|kind| name(family, kind)));
        for name in names.as_flattened() {
            assert!(error.contains(name), "{error}");
        }
        for part in [VARIABLE, "A prefix", "xz", "RIPE NCC RIS"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
