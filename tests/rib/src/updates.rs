//! A day of updates.

use std::path::Path;

use rustc_hash::FxHashMap;

use crate::table::parse;
use crate::{Address, RibError, Route, Source, Table, files, hop_of, synthetic};

/// A change of one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update<A: Address> {
    /// The route is new, or has this next hop from now on.
    Announce(A::Net, u16),
    /// The route is gone. It may have been absent: that must do no harm.
    Withdraw(A::Net),
}

impl<A: Address> Update<A> {
    /// The prefix that changes.
    pub fn net(&self) -> A::Net {
        match *self {
            Self::Announce(net, _) | Self::Withdraw(net) => net,
        }
    }
}

/// A day of updates of a [`Table`], in time order.
#[derive(Debug, Clone)]
pub struct Updates<A: Address> {
    /// The updates.
    pub updates: Vec<Update<A>>,
    /// Where they come from: whence the table comes.
    pub source: Source,
}

impl<A: Address> Updates<A> {
    /// The updates that belong to `table`: real ones for a real table, else synthetic ones.
    ///
    /// # Errors
    ///
    /// All of [`RibError`] but `Absent` and `NotDirectory`.
    pub fn load(table: &Table<A>) -> Result<Self, RibError> {
        match &table.source {
            Source::Real(directory) => Self::from_directory(directory),
            Source::Synthetic => Ok(Self::synthetic(&table.routes)),
        }
    }

    /// The updates in `directory`: one a line, `A` (announce) or `W` (withdraw), a space, and the
    /// prefix. An announcement has the hop of [`hop_of`], that is, the one that the table has.
    ///
    /// # Errors
    ///
    /// All of [`RibError`] but `Absent` and `NotDirectory`.
    pub fn from_directory(directory: &Path) -> Result<Self, RibError> {
        let path = directory.join(files::name(A::FAMILY, "updates"));
        let text = files::unpack(&path)?;
        let mut updates = Vec::with_capacity(text.len() / 16);
        for (index, line) in text.lines().enumerate() {
            updates.push(parse_update::<A>(line).ok_or_else(|| RibError::Line {
                path: path.clone(),
                line: index + 1,
                text: line.to_owned(),
                expected: "A or W, a space, and a prefix of this family without host bits",
            })?);
        }
        Ok(Self {
            updates,
            source: Source::Real(directory.into()),
        })
    }

    /// Updates of `routes` of the same make-up as the real ones: as many, the same share of
    /// withdrawals, most of them for few prefixes, some for prefixes that `routes` lack.
    pub fn synthetic(routes: &[Route<A>]) -> Self {
        Self {
            updates: synthetic::updates::<A>(routes),
            source: Source::Synthetic,
        }
    }

    /// The same updates, but every announcement of a prefix moves it to another next hop (1 to
    /// 255) than the one before, as the change of a path does.
    ///
    /// With the hops of [`hop_of`], an announcement of a route that is there changes nothing.
    pub fn with_changing_hops(mut self) -> Self {
        let mut last: FxHashMap<A::Net, u16> = FxHashMap::default();
        for update in &mut self.updates {
            if let Update::Announce(net, hop) = update {
                let next = last.entry(*net).or_insert(*hop);
                *next = *next % 255 + 1;
                *hop = *next;
            }
        }
        self
    }
}

fn parse_update<A: Address>(line: &str) -> Option<Update<A>> {
    let (kind, text) = line.split_once(' ')?;
    let net = parse::<A>(text)?;
    match kind {
        "A" => Some(Update::Announce(net, hop_of(text))),
        "W" => Some(Update::Withdraw(net)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::pack;

    fn fixture(text: &str) -> Result<Updates<u32>, RibError> {
        let root = tempfile::tempdir().unwrap();
        pack(root.path(), "ipv4-updates-20260511.txt.xz", text);
        Updates::from_directory(root.path())
    }

    #[test]
    fn updates_are_read_in_order() {
        let updates = fixture("A 10.0.0.0/8\nW 192.0.2.0/24\nA 10.0.0.0/8\n")
            .unwrap()
            .updates;
        let announce = Update::Announce("10.0.0.0/8".parse().unwrap(), hop_of("10.0.0.0/8"));
        let withdraw = Update::Withdraw("192.0.2.0/24".parse().unwrap());
        assert_eq!(updates, [announce, withdraw, announce]);
        assert_eq!(updates[1].net().to_string(), "192.0.2.0/24");
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in [
            "10.0.0.0/8",
            "B 10.0.0.0/8",
            "A 10.0.0.1/8",
            "A",
            "W  10.0.0.0/8",
        ] {
            let error = fixture(&format!("A 10.0.0.0/8\n{bad}\n"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("line 2") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn changing_hops_change_at_every_announcement() {
        let text = "A 10.0.0.0/8\nW 10.0.0.0/8\n".repeat(300);
        let updates = fixture(&text).unwrap().with_changing_hops().updates;
        let mut before = hop_of("10.0.0.0/8");
        let mut seen = std::collections::BTreeSet::new();
        for update in updates {
            if let Update::Announce(_, hop) = update {
                assert!(hop != before && (1..=255).contains(&hop));
                before = hop;
                seen.insert(hop);
            }
        }
        assert_eq!(seen.len(), 255);
    }
}
