//! The attachments on disk, one file each, so that they outlive the daemon.
//!
//! What a file's name ends with tells how far its attachment is, and changes by one rename:
//! `.new` while the pod's interface is being made, `.json` once it stands (or its release is under
//! way), `.gone` while what is left of it is being removed.
//!
//! Nobody waits for the disk: a write and a rename take 20 µs, an fdatasync 4 ms on ext4, and a
//! pod outlives the daemon but never the machine. What a power failure may cost is the way to give
//! an address back, of a pod attached in the last second or so: new files are synchronised in the
//! background.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shunt_api::{ApiError, AttachmentKey, MacAddr, PodRoute, PodSpec, PortKind};

use crate::control::error::system;
use crate::podlink::{NetnsId, PodLinkPlan};

/// Of the format.
const VERSION: u32 = 1;
/// A record takes far less; whatever is larger is none.
const MAX_FILE: u64 = 4 << 20;

const MAKING: &str = "new";
const STANDING: &str = "json";
const GOING: &str = "gone";

/// An attachment as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    version: u32,
    pub(crate) state: State,
    /// The pod's network namespace; `None` where nobody could say.
    pub(crate) netns_id: Option<NetnsId>,
    /// The veth's host end, and the port's name.
    pub(crate) host_device: String,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u32,
    /// As the pod's interface has them.
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
    /// All of the pod's.
    pub(crate) routes: Vec<PodRoute>,
    /// What the runtime asked for.
    pub(crate) spec: PodSpec,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It stands.
    Attached,
    /// The pod is gone, and what the runtime holds for it is to be given back.
    Releasing,
}

impl Stored {
    /// An attachment of `spec` with nothing worked out yet.
    pub(crate) fn new(spec: PodSpec, mac: MacAddr, mtu: u32) -> Self {
        Self {
            version: VERSION,
            state: State::Attached,
            netns_id: None,
            host_device: spec.key.short_name(),
            mac,
            mtu,
            addresses: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            spec,
        }
    }

    pub(crate) fn key(&self) -> &AttachmentKey {
        &self.spec.key
    }

    pub(crate) fn is_tap(&self) -> bool {
        self.spec.kind == PortKind::Tap
    }

    /// What is to be made for it.
    pub(crate) fn plan(&self, gateway_mac: MacAddr) -> PodLinkPlan {
        PodLinkPlan {
            key: self.spec.key.clone(),
            netns: self.spec.netns.clone(),
            kind: self.spec.kind,
            host_device: self.host_device.clone(),
            host_mac: gateway_mac,
            mac: self.mac,
            mtu: self.mtu,
            addresses: self.addresses.clone(),
            gateways: self.gateways.clone(),
            gateway_mac,
            routes: self.routes.clone(),
        }
    }
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) records: Vec<Stored>,
    /// Half made, or not wholly removed: the short name, and the owner where the file tells.
    pub(crate) leftovers: Vec<(String, Option<AttachmentKey>)>,
    /// Where damaged files are now, and what was wrong.
    pub(crate) damaged: Vec<(PathBuf, String)>,
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    /// That of a state directory; nothing is made yet.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("attachments"),
        }
    }

    fn file(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ending}"))
    }

    /// Notes an attachment that is about to be made.
    ///
    /// # Errors
    /// Names the file; nothing is left of it.
    pub(crate) fn begin(&self, stored: &Stored) -> Result<(), ApiError> {
        let file = self.file(&stored.host_device, MAKING);
        self.write(&file, stored).map_err(|error| {
            // The first error is the one to tell.
            let _ = fs::remove_file(&file);
            named(&file, "cannot be written", &error)
        })
    }

    fn write(&self, file: &Path, stored: &Stored) -> io::Result<()> {
        let bytes = serde_json::to_vec(stored)?;
        let open = || {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(file)
        };
        let mut opened = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut builder = fs::DirBuilder::new();
                builder.recursive(true).mode(0o700).create(&self.folder)?;
                open()?
            }
            other => other?,
        };
        opened.write_all(&bytes)
    }

    /// What was begun stands.
    ///
    /// # Errors
    /// Names the file.
    pub(crate) fn commit(&self, name: &str) -> Result<(), ApiError> {
        let file = self.file(name, STANDING);
        fs::rename(self.file(name, MAKING), &file)
            .map_err(|error| named(&file, "cannot be put in place", &error))
    }

    /// Puts a record in the place of an earlier one.
    ///
    /// # Errors
    /// Names the file; an earlier one stays.
    pub(crate) fn save(&self, stored: &Stored) -> Result<(), ApiError> {
        self.begin(stored)?;
        self.commit(&stored.host_device)
    }

    /// An attachment no longer stands, and is to be removed wholly. Without a record there is
    /// nothing to do.
    ///
    /// # Errors
    /// Names the file: it would stand again at the next start.
    pub(crate) fn retire(&self, name: &str) -> Result<(), ApiError> {
        let file = self.file(name, STANDING);
        let renamed = fs::rename(&file, self.file(name, GOING));
        unless_absent(&file, renamed).map_err(|error| named(&file, "cannot be set aside", &error))
    }

    /// Nothing is left of what was begun or retired.
    ///
    /// # Errors
    /// Names a file that stays.
    pub(crate) fn forget(&self, name: &str) -> Result<(), ApiError> {
        for ending in [MAKING, GOING] {
            let file = self.file(name, ending);
            unless_absent(&file, fs::remove_file(&file))
                .map_err(|error| named(&file, "cannot be removed", &error))?;
        }
        Ok(())
    }

    /// Reads all; a damaged record is renamed, so that it is told of once and can be looked at.
    ///
    /// # Errors
    /// Names the folder when it cannot be read.
    pub(crate) fn load(&self) -> Result<Loaded, ApiError> {
        let mut loaded = Loaded::default();
        let unreadable = |error: &io::Error| named(&self.folder, "cannot be read", error);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(loaded),
            Err(error) => return Err(unreadable(&error)),
        };
        for entry in entries {
            let file = entry.map_err(|error| unreadable(&error))?.path();
            let ending = file.extension().and_then(|ending| ending.to_str());
            let name = file.file_stem().and_then(|name| name.to_str());
            let (Some(name), Some(ending)) = (name, ending) else {
                continue;
            };
            match ending {
                STANDING => match read(&file, name) {
                    Ok(stored) => loaded.records.push(stored),
                    Err(why) => loaded.damaged.push((set_aside(&file), why)),
                },
                MAKING | GOING => {
                    let key = read(&file, name).ok().map(|stored| stored.spec.key);
                    loaded.leftovers.push((name.to_owned(), key));
                }
                _ => {}
            }
        }
        let by_name = |stored: &Stored| stored.host_device.clone();
        loaded.records.sort_by_cached_key(by_name);
        loaded.leftovers.sort();
        loaded.leftovers.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same && kept.1.is_none() {
                kept.1 = next.1.take();
            }
            same
        });
        Ok(loaded)
    }

    /// Whether records can be written: tries it where there is a folder already, and asks the file
    /// system where there is none yet.
    ///
    /// # Errors
    /// What is wrong and what to do, in one line.
    pub(crate) fn probe(&self) -> Result<(), String> {
        if self.folder.is_dir() {
            let file = self.folder.join(".probe");
            let tried = fs::write(&file, [0; 4096]);
            // Whether it was made or not, it goes.
            let _ = fs::remove_file(&file);
            return tried.map_err(|error| {
                let folder = self.folder.display();
                format!("{folder} cannot be written: {error}: make room, or mend `state_dir`")
            });
        }
        let mut ancestors = self.folder.ancestors();
        let Some(nearest) = ancestors.find(|path| path.symlink_metadata().is_ok()) else {
            return Ok(());
        };
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let usable = match nearest.is_dir() {
            true => rustix::fs::access(nearest, access).map_err(io::Error::from),
            false => Err(ErrorKind::NotADirectory.into()),
        };
        usable.map_err(|error| {
            format!(
                "{} cannot be made: {}: {error}: correct `state_dir`",
                self.folder.display(),
                nearest.display()
            )
        })
    }

    /// Makes these records, as far as they still stand, survive a power failure.
    pub(crate) fn sync(&self, names: impl Iterator<Item = String>) {
        let mut any = false;
        for name in names {
            if let Ok(file) = fs::File::open(self.file(&name, STANDING)) {
                any = true;
                if let Err(error) = file.sync_data() {
                    log::warn!("the record {name} is not on disk yet: {error}");
                }
            }
        }
        if any && let Err(error) = fs::File::open(&self.folder).and_then(|dir| dir.sync_all()) {
            log::warn!("{} is not on disk yet: {error}", self.folder.display());
        }
    }
}

fn named(file: &Path, what: &str, error: &io::Error) -> ApiError {
    system(format!(
        "{} {what}: {error}: make room, or mend `state_dir`",
        file.display()
    ))
}

/// A file system that is read-only says so before it looks whether there is such a file.
fn unless_absent(file: &Path, done: io::Result<()>) -> io::Result<()> {
    let absent = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    done.or_else(|error| match file.symlink_metadata() {
        Err(missing) if absent(&missing) => Ok(()),
        _ => Err(error),
    })
}

fn read(file: &Path, name: &str) -> Result<Stored, String> {
    let length = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE {
        return Err(format!("{length} bytes are too many"));
    }
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } =
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!(
            "it is of version {version}, and this daemon knows {VERSION}"
        ));
    }
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if stored.spec.key.short_name() != name || stored.host_device != name {
        return Err(format!("it belongs to {}", stored.spec.key));
    }
    Ok(stored)
}

/// Renames a damaged file; where it is now.
fn set_aside(file: &Path) -> PathBuf {
    let mut number = 1_u32;
    loop {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        let aside = PathBuf::from(name);
        if number < u32::MAX && aside.symlink_metadata().is_ok() {
            number += 1;
            continue;
        }
        return match fs::rename(file, &aside) {
            Ok(()) => aside,
            Err(_) => file.to_owned(),
        };
    }
}

#[cfg(test)]
pub(super) mod tests;
