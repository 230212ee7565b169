//! The addresses that host-local has given out.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The container's id.
    pub container: String,
    /// The interface in it.
    pub ifname: String,
}

/// Host-local's files: one an address, named after it, in a folder a network.
#[derive(Debug, Clone)]
pub struct Leases {
    data_dir: PathBuf,
}

impl Leases {
    /// Those below host-local's `dataDir`.
    pub fn new(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }

    /// All of a network. A network that host-local has never seen has none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(&self, network: &str) -> Result<BTreeMap<IpAddr, Lease>> {
        let folder = self.data_dir.join(network);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error).with_context(|| folder.display().to_string()),
        };
        let mut leases = BTreeMap::new();
        for entry in entries {
            let entry = entry?;
            // `lock` and `last_reserved_ip.N` are no addresses.
            let name = entry.file_name();
            let Some(address) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let text = match std::fs::read_to_string(entry.path()) {
                Ok(text) => text,
                // Given back just now.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context("read a lease"),
            };
            let mut lines = text.lines().map(str::trim);
            let mut line = || lines.next().unwrap_or_default().to_owned();
            let lease = Lease {
                container: line(),
                ifname: line(),
            };
            leases.insert(address, lease);
        }
        Ok(leases)
    }

    /// All of every network.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn all(&self) -> Result<BTreeMap<(String, IpAddr), Lease>> {
        let entries = match std::fs::read_dir(&self.data_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error).context("read the leases"),
        };
        let mut leases = BTreeMap::new();
        for entry in entries {
            let network = entry?.file_name().to_string_lossy().into_owned();
            for (address, lease) in self.of(&network)? {
                leases.insert((network.clone(), address), lease);
            }
        }
        Ok(leases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_addresses_are_leases() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let leases = Leases::new(folder.path().join("leases"));
        assert!(leases.all()?.is_empty() && leases.of("pods")?.is_empty());
        let network = folder.path().join("leases/pods");
        std::fs::create_dir_all(&network)?;
        std::fs::write(network.join("10.0.0.2"), "abc\r\neth0")?;
        std::fs::write(network.join("last_reserved_ip.0"), "10.0.0.2")?;
        std::fs::write(network.join("lock"), "")?;
        let seen = leases.all()?;
        let lease = Lease {
            container: "abc".to_owned(),
            ifname: "eth0".to_owned(),
        };
        let key = ("pods".to_owned(), "10.0.0.2".parse()?);
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(key, lease)]);
        Ok(())
    }
}
