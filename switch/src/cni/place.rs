//! Whole files: written beside, under a name that runtimes pass over, then renamed into place.
//! Who looks meanwhile, or after a crash, sees the old file or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::CniError;

/// A folder that only we change while this value lives, among those who go by its lock.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    handle: File,
}

impl Folder {
    /// Makes it where it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn make(path: &Path) -> Result<Self, CniError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(CniError::file("make the folder", path))?;
        Self::open(path)
    }

    /// `None` when it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn existing(path: &Path) -> Result<Option<Self>, CniError> {
        if path.exists() {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    fn open(path: &Path) -> Result<Self, CniError> {
        let handle = File::open(path).map_err(CniError::file("open the folder", path))?;
        handle
            .lock()
            .map_err(CniError::file("lock the folder", path))?;
        Ok(Self {
            path: path.to_owned(),
            handle,
        })
    }

    /// Puts a file in place, or in place of one. False when it was there just so.
    ///
    /// # Errors
    /// What the file system says; then what was there is there.
    pub(super) fn put(&self, name: &str, bytes: &[u8], mode: u32) -> Result<bool, CniError> {
        let path = self.path.join(name);
        if stands(&path, bytes, mode) {
            return Ok(false);
        }
        let unfinished = self.unfinished(name);
        let written = write(&unfinished, bytes, mode)
            .and_then(|()| {
                fs::rename(&unfinished, &path).map_err(CniError::file("put in place", &path))
            })
            .and_then(|()| self.sync());
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&unfinished);
        }
        written.map(|()| true)
    }

    /// Removes a file, and what a crash may have left of it. False when there was none.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn remove(&self, name: &str) -> Result<bool, CniError> {
        let there = remove(&self.path.join(name))?;
        if remove(&self.unfinished(name))? || there {
            self.sync()?;
        }
        Ok(there)
    }

    /// Neither hidden files nor this ending count for a runtime.
    fn unfinished(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.tmp"))
    }

    fn sync(&self) -> Result<(), CniError> {
        self.handle
            .sync_all()
            .map_err(CniError::file("write the folder", &self.path))
    }
}

/// Whether just this file is there already.
fn stands(path: &Path, bytes: &[u8], mode: u32) -> bool {
    let same = |found: &fs::Metadata| {
        found.is_file()
            && found.permissions().mode() & 0o7777 == mode
            && usize::try_from(found.len()) == Ok(bytes.len())
    };
    fs::symlink_metadata(path).is_ok_and(|found| same(&found))
        && fs::read(path).is_ok_and(|found| found == bytes)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CniError> {
    // One that a crash has left is taken: the lock says that nobody is at it now.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(CniError::file("create", path))?;
    file.write_all(bytes)
        // Not by the mode above, from which the umask takes away.
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .map_err(CniError::file("write", path))
}

fn remove(path: &Path) -> Result<bool, CniError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CniError::file("remove", path)(error)),
    }
}

/// All of a file.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(CniError::file("read", path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_replaced_and_removed() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("a/b");
        let folder = Folder::make(&path).expect("made");
        assert!(folder.put("x", b"one", 0o755).expect("put"));
        assert!(!folder.put("x", b"one", 0o755).expect("there"));
        assert!(folder.put("x", b"one", 0o644).expect("another mode"));
        assert!(folder.put("x", b"two", 0o644).expect("other bytes"));
        let file = path.join("x");
        assert_eq!(read(&file).expect("read"), b"two");
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert!(folder.remove("x").expect("removed"));
        assert!(!folder.remove("x").expect("not there"));
        assert_eq!(fs::read_dir(&path).expect("read").count(), 0);
    }

    #[test]
    fn what_a_crash_has_left_goes() {
        let temp = tempfile::tempdir().expect("a folder");
        let left = temp.path().join(".x.tmp");
        fs::write(&left, "hal").expect("written");
        let folder = Folder::existing(temp.path())
            .expect("opened")
            .expect("there");
        assert!(folder.put("x", b"whole", 0o644).expect("put"));
        assert!(!left.exists());
        fs::write(&left, "hal").expect("written");
        assert!(folder.remove("x").expect("removed"));
        assert!(!left.exists());
    }

    #[test]
    fn a_link_is_replaced_and_what_it_leads_to_is_not() {
        let temp = tempfile::tempdir().expect("a folder");
        let other = temp.path().join("other");
        fs::write(&other, "one").expect("written");
        std::os::unix::fs::symlink(&other, temp.path().join("x")).expect("a link");
        let folder = Folder::make(temp.path()).expect("there");
        assert!(folder.put("x", b"one", 0o644).expect("put"));
        assert!(!temp.path().join("x").is_symlink());
        assert!(folder.put("x", b"two", 0o644).expect("put"));
        assert_eq!(read(&other).expect("read"), b"one");
    }

    #[test]
    fn one_works_in_a_folder_at_a_time() {
        let temp = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for byte in b"abcd" {
                let path = temp.path();
                scope.spawn(move || {
                    for _ in 0..50 {
                        let folder = Folder::make(path).expect("there");
                        folder.put("x", &[*byte; 5000], 0o644).expect("put");
                    }
                });
            }
        });
        let bytes = read(&temp.path().join("x")).expect("read");
        assert!(bytes.len() == 5000 && bytes.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(fs::read_dir(temp.path()).expect("read").count(), 1);
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = Folder::make(temp.path()).expect("there");
        fs::create_dir(temp.path().join("x")).expect("a folder in the way");
        let error = folder
            .put("x", b"one", 0o644)
            .expect_err("a folder is there");
        assert!(error.to_string().contains("put in place"), "{error}");
        assert!(temp.path().join("x").is_dir());
        assert_eq!(fs::read_dir(temp.path()).expect("read").count(), 1);
        let file = temp.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(Folder::make(&file).is_err());
        assert!(
            Folder::existing(&temp.path().join("none"))
                .expect("none")
                .is_none()
        );
    }
}
