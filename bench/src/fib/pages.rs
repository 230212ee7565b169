//! The memory pages that the competitors get.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Of the kernel: Documentation/admin-guide/mm/transhuge.rst.
const SETTING: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// The setting for transparent huge pages while a suite runs; puts back the former one at the end.
#[derive(Debug)]
pub(super) struct Pages {
    path: PathBuf,
    now: String,
    former: Option<String>,
}

impl Pages {
    /// Leaves the setting alone, or switches huge pages on for all processes.
    ///
    /// # Errors
    /// The kernel has no transparent huge pages, or this is not root.
    pub(super) fn set(huge: bool) -> Result<Self> {
        Self::at(PathBuf::from(SETTING), huge)
    }

    fn at(path: PathBuf, huge: bool) -> Result<Self> {
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !huge => {
                return Ok(Self {
                    path,
                    now: "none".to_owned(),
                    former: None,
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{}: this kernel has no transparent huge pages: use --pages default",
                path.display()
            ),
            text => text.with_context(|| path.display().to_string())?,
        };
        let former = chosen(&text)
            .with_context(|| format!("{}: nothing is chosen in {text:?}", path.display()))?;
        if !huge || former == "always" {
            return Ok(Self {
                path,
                now: former,
                former: None,
            });
        }
        fs::write(&path, "always")
            .with_context(|| format!("{}: huge pages take root", path.display()))?;
        Ok(Self {
            path,
            now: "always".to_owned(),
            former: Some(former),
        })
    }

    /// Whether an ordinary allocation gets huge ones.
    pub(super) fn huge(&self) -> bool {
        self.now == "always"
    }

    /// What an ordinary allocation gets.
    pub(super) fn kind(&self) -> &'static str {
        if self.huge() {
            "transparent huge pages"
        } else {
            "4 KiB pages"
        }
    }

    /// The kernel's setting; "none" if it has no such pages.
    pub(super) fn setting(&self) -> &str {
        &self.now
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(former) = &self.former
            && let Err(error) = fs::write(&self.path, former)
        {
            eprintln!("{}: cannot put back {former}: {error}", self.path.display());
        }
    }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Bytes of a process's memory that lie in transparent huge pages (proc_pid_smaps_rollup(5)).
///
/// # Errors
/// The process is gone.
pub(super) fn huge_bytes(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).context(path.clone())?;
    text.lines()
        .find_map(|line| line.strip_prefix("AnonHugePages:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .map(|kib: u64| kib << 10)
        .with_context(|| format!("{path} has no line AnonHugePages"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_former_setting_comes_back() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "always [madvise] never\n").unwrap();
        let read = || fs::read_to_string(file.path()).unwrap();

        let pages = Pages::at(file.path().into(), false).unwrap();
        assert_eq!((pages.kind(), pages.setting()), ("4 KiB pages", "madvise"));
        drop(pages);
        assert_eq!(read(), "always [madvise] never\n");

        let pages = Pages::at(file.path().into(), true).unwrap();
        assert_eq!(pages.kind(), "transparent huge pages");
        assert_eq!(read(), "always");
        drop(pages);
        assert_eq!(read(), "madvise");

        let error = Pages::at(file.path().into(), true).unwrap_err();
        assert!(error.to_string().contains("nothing is chosen"), "{error}");
    }

    #[test]
    fn a_kernel_without_huge_pages_has_small_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enabled");
        let pages = Pages::at(path.clone(), false).unwrap();
        assert_eq!((pages.kind(), pages.setting()), ("4 KiB pages", "none"));
        drop(pages);
        assert!(!path.exists());
        let error = Pages::at(path, true).unwrap_err().to_string();
        assert!(error.contains("--pages default"), "{error}");
    }

    #[test]
    fn this_process_has_a_count_of_huge_bytes() {
        assert_eq!(huge_bytes(std::process::id()).unwrap() % (2 << 20), 0);
    }
}
