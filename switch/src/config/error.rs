//! What is wrong with a configuration: every problem, each with its place and remedy.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "{path}: cannot read the configuration: {source}; name an existing, readable file with \
         --config (switch/shunt.example.toml is one to start from)",
        path = path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file has problems: all that were found, in the order of lines.
    #[error("{}", Listing { path, problems })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Every problem found; empty when the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } => &[],
            Self::Invalid { problems, .. } => problems,
        }
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; `None` when nothing in the file is at fault but its absence.
    pub line: Option<usize>,
    /// The key, as in `workers.cores` or `port[2].mac` (counted from 1); empty for bad syntax.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

/// How many, then one line per problem: `file:line: key: message`, which editors can follow.
struct Listing<'a> {
    path: &'a Path,
    problems: &'a [Problem],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(
            f,
            "the configuration has {count} problem{}",
            if count == 1 { "" } else { "s" }
        )?;
        for problem in self.problems {
            write!(f, "\n{}:", self.path.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {problem}")?;
        }
        Ok(())
    }
}

/// Collects problems, and knows the line of every key seen so far.
pub(super) struct Report {
    newlines: Vec<usize>,
    lines: HashMap<String, usize>,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(text: &str) -> Self {
        let newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(i, _)| i);
        Self {
            newlines: newlines.collect(),
            lines: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// Remembers where a key stands.
    pub(super) fn seen(&mut self, key: &str, offset: usize) {
        let line = self.line_of(offset);
        self.lines.insert(key.to_owned(), line);
    }

    /// Reports a problem with a key, at its line or that of the nearest table around it.
    pub(super) fn fault(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let key = key.into();
        let mut place = key.as_str();
        let line = loop {
            if let Some(&line) = self.lines.get(place) {
                break Some(line);
            }
            match place.rfind(['.', '[']) {
                Some(end) => place = &place[..end],
                None => break None,
            }
        };
        self.problems.push(Problem {
            line,
            key,
            message: message.into(),
        });
    }

    /// Reports bad TOML.
    pub(super) fn syntax(&mut self, error: &toml::de::Error) {
        let line = error.span().map(|span| self.line_of(span.start));
        let message = format!("not valid TOML: {}; see https://toml.io", error.message());
        self.problems.push(Problem {
            line,
            key: String::new(),
            message,
        });
    }

    /// True when nothing is known against this very key: only then is its value worth judging.
    pub(super) fn sound(&self, key: &str) -> bool {
        !self.problems.iter().any(|problem| problem.key == key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn into_error(mut self, path: &Path) -> ConfigError {
        self.problems
            .sort_by_key(|problem| problem.line.unwrap_or(0));
        ConfigError::Invalid {
            path: path.to_owned(),
            problems: self.problems,
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.newlines.partition_point(|&newline| newline < offset) + 1
    }
}
