//! Files for results, opened before the work so that it is not done for nothing.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file to write at the end. What it held stays until then; if the end never comes, a new file
/// goes again.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: File,
    /// New, and nothing is written yet.
    empty: bool,
}

impl Output {
    /// Opens it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let new = OpenOptions::new().write(true).create_new(true).open(path);
        let (file, empty) = match new {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (OpenOptions::new().write(true).open(path), false)
            }
            new => (new, true),
        };
        Ok(Self {
            path: path.to_owned(),
            file: file.with_context(|| format!("cannot write {}", path.display()))?,
            empty,
        })
    }

    /// Writes it, in place of what it held.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(mut self, text: &str) -> Result<()> {
        let written = self.replace(text);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn replace(&mut self, text: &str) -> std::io::Result<()> {
        // A terminal or a pipe has no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.empty = false;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.empty {
            // Whoever gave up has an error of their own to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{read_to_string, write};

    use super::*;

    #[test]
    fn a_file_is_replaced_at_the_end_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.json");
        write(&path, "a former, longer text").unwrap();
        drop(Output::open(&path).unwrap());
        let output = Output::open(&path).unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "a former, longer text");
        output.write("new").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_new_file_is_there_only_if_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.json");
        drop(Output::open(&path).unwrap());
        assert!(!path.exists());
        Output::open(&path).unwrap().write("new").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        for path in [
            directory.path().to_owned(),
            directory.path().join("no/file"),
        ] {
            let error = Output::open(&path).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
