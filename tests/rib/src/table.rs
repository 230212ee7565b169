//! The routes of a BGP router.

use std::path::Path;

use crate::{Address, RibError, Source, files, synthetic};

/// A prefix and the index of its next hop, 1 to 255.
pub type Route<A> = (<A as Address>::Net, u16);

/// A routing table without a default route, by address, then from the shorter to the longer.
#[derive(Debug, Clone)]
pub struct Table<A: Address> {
    /// The routes.
    pub routes: Vec<Route<A>>,
    /// Where they come from.
    pub source: Source,
}

/// The next hop of a prefix, 1 to 255: the CRC-32 of its text modulo 255, plus 1.
///
/// The data name no next hops. This one is the same in every run and easily made in any language.
pub fn hop_of(text: &str) -> u16 {
    (crc32fast::hash(text.as_bytes()) % 255 + 1) as u16
}

impl<A: Address> Table<A> {
    /// The real table if it is at hand, else the synthetic one. Says on standard error which.
    ///
    /// # Errors
    ///
    /// All of [`RibError`] but `Absent`: what is at hand must be whole.
    pub fn load() -> Result<Self, RibError> {
        let source = Source::any()?;
        let table = match &source {
            Source::Real(directory) => Self::from_directory(directory)?,
            Source::Synthetic => Self::synthetic(),
        };
        eprintln!(
            "{} table: {} routes, {source}",
            A::FAMILY,
            table.routes.len()
        );
        Ok(table)
    }

    /// The real table.
    ///
    /// # Errors
    ///
    /// [`RibError::Absent`] if it is not at hand; the others if it is not whole.
    pub fn load_real() -> Result<Self, RibError> {
        Self::insist(Source::any()?)
    }

    fn insist(source: Source) -> Result<Self, RibError> {
        match source {
            Source::Real(directory) => Self::from_directory(&directory),
            Source::Synthetic => Err(RibError::Absent {
                file: files::name(A::FAMILY, "ris"),
            }),
        }
    }

    /// The table in `directory`: one prefix a line.
    ///
    /// # Errors
    ///
    /// All of [`RibError`] but `Absent` and `NotDirectory`.
    pub fn from_directory(directory: &Path) -> Result<Self, RibError> {
        let path = directory.join(files::name(A::FAMILY, "ris"));
        let text = files::unpack(&path)?;
        let mut routes = Vec::with_capacity(text.len() / 16);
        for (index, line) in text.lines().enumerate() {
            let net = parse::<A>(line).ok_or_else(|| RibError::Line {
                path: path.clone(),
                line: index + 1,
                text: line.to_owned(),
                expected: "a prefix of this family without host bits",
            })?;
            routes.push((net, hop_of(line)));
        }
        routes.sort_unstable();
        Ok(Self {
            routes,
            source: Source::Real(directory.into()),
        })
    }

    /// A table of the same make-up as the real one: as many routes of each length, as many of them
    /// inside others and side by side. Always the same.
    pub fn synthetic() -> Self {
        Self {
            routes: synthetic::routes::<A>(),
            source: Source::Synthetic,
        }
    }
}

/// A prefix without host bits, or nothing.
pub(crate) fn parse<A: Address>(text: &str) -> Option<A::Net> {
    let net: A::Net = text.parse().ok()?;
    (A::first(net).net(A::prefix_len(net)) == net).then_some(net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Updates;
    use crate::files::tests::pack;

    #[test]
    fn a_table_is_read_and_sorted() {
        let root = tempfile::tempdir().unwrap();
        let text = "192.0.2.0/24\n10.0.0.0/8\n10.0.0.0/16\n";
        pack(root.path(), "ipv4-ris-20260511.txt.xz", text);
        let table = Table::<u32>::from_directory(root.path()).unwrap();
        let texts: Vec<_> = table
            .routes
            .iter()
            .map(|(net, _)| net.to_string())
            .collect();
        assert_eq!(texts, ["10.0.0.0/8", "10.0.0.0/16", "192.0.2.0/24"]);
        for (net, hop) in table.routes {
            assert_eq!(hop, hop_of(&net.to_string()));
        }
        assert_eq!(table.source, Source::Real(root.path().into()));

        pack(root.path(), "ipv6-ris-20260511.txt.xz", "2001:db8::/32\n");
        let table = Table::<u128>::from_directory(root.path()).unwrap();
        assert_eq!(
            table.routes,
            [("2001:db8::/32".parse().unwrap(), hop_of("2001:db8::/32"))]
        );
    }

    /// The value is that of `zlib.crc32` in Python.
    #[test]
    fn hops_are_those_of_any_crc32() {
        assert_eq!(hop_of("1.0.0.0/24"), 136);
        let hops: Vec<_> = (0..5000).map(|n| hop_of(&n.to_string())).collect();
        assert_eq!(
            (hops.iter().min(), hops.iter().max()),
            (Some(&1), Some(&255))
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "2001:db8::/32", "10.0.0.0", ""] {
            let root = tempfile::tempdir().unwrap();
            pack(
                root.path(),
                "ipv4-ris-20260511.txt.xz",
                &format!("10.0.0.0/8\n{bad}\n"),
            );
            let error = Table::<u32>::from_directory(root.path())
                .unwrap_err()
                .to_string();
            assert!(error.contains("line 2") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn who_insists_is_told_what_to_set() {
        let error = Table::<u128>::insist(Source::Synthetic)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("SHUNT_RIB") && error.contains("ipv6-ris"),
            "{error}"
        );
    }

    #[test]
    fn what_is_at_hand_loads() {
        let table = Table::<u128>::load().unwrap();
        assert_eq!(table.routes.len(), 246_175);
        assert!(table.routes.is_sorted());
        assert!(table.routes.iter().all(|(_, hop)| (1..=255).contains(hop)));
        let updates = Updates::load(&table).unwrap();
        assert_eq!(updates.updates.len(), 1_238_235);
        assert_eq!(updates.source, table.source);
    }
}
